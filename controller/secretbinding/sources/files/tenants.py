"""Whose the manifests of a directory are: by configuration, not by what they say of themselves."""

import os
import re
from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?\Z", re.ASCII)
EACH = "*"
DEFAULT_TENANT = "default"


def is_tenant(text: str) -> bool:
    """Whether a text can be a tenant's name, or says that each directory is its own."""
    return text == EACH or _NAME.match(text) is not None


class Tenants:
    """Tenants by paths.

    Args:
        paths: tenant and path of each file or directory that is watched. The tenant is "" where none is named; `*`
            takes the name of each directory that is right in it.
        trusting: a manifest below a path without a tenant may name its own tenant as its namespace.
    """

    def __init__(self, paths: Sequence[tuple[str, str]], *, trusting: bool = False) -> None:
        self._paths = sorted(((os.path.abspath(path), tenant) for tenant, path in paths), key=lambda one: -len(one[0]))
        self._trusting = trusting

    def names(self, path: str) -> bool:
        """Whether the configuration names a tenant for just this path."""
        return self._configured(path) not in (None, "", EACH)

    def are_directories(self, path: str) -> bool:
        """Whether the directories right in this path are tenants."""
        return self._configured(path) == EACH

    def _configured(self, path: str) -> str | None:
        place = os.path.abspath(path)
        return next((tenant for one, tenant in self._paths if one == place), None)

    def of(self, file: str) -> str | None:
        """The tenant of a file that is named as the watch names it; None where the manifest may say so itself, "" for
        a file that is nobody's: right in a directory whose directories are tenants."""
        place = os.path.abspath(file)
        for path, tenant in self._paths:
            if place != path and not place.startswith(path.rstrip(os.sep) + os.sep):
                continue
            if tenant == EACH:
                first, _, rest = os.path.relpath(place, path).partition(os.sep)
                return first if rest and _NAME.match(first) else ""
            return tenant or (None if self._trusting else DEFAULT_TENANT)
        return None if self._trusting else DEFAULT_TENANT
