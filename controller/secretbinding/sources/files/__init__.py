"""Bindings that are kept in files: read once for a command, or watched for `run`."""

from secretbinding.sources.files.examining import examine
from secretbinding.sources.files.reading import Loaded, load
from secretbinding.sources.files.tenants import Tenants
from secretbinding.sources.files.watching import FilesSource

__all__ = ["FilesSource", "Loaded", "Tenants", "examine", "load"]
