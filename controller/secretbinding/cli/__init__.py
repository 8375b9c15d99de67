"""The command line: `secretbinding`. One module for each group of commands."""

from secretbinding.cli.application import main

__all__ = ["main"]
