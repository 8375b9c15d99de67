"""Bindings that are kept in files: read once for a command, or watched for `run`."""

from secretbinding.sources.files.reading import Loaded, load

__all__ = ["Loaded", "load"]
