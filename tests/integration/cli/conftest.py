"""The command line as a fixture."""

from tests.support.commandline import cli

__all__ = ["cli"]
