"""What several checks need: versions, addresses, lists in words."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.product import Product, product_of

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_SHOWN = 5


def version_of(text: str) -> tuple[int, int, int] | None:
    """`1.10.2-dev` as numbers; None for what is no version."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown


def product(facts: Facts) -> Product:
    """What kind of server Vault is."""
    mounts = facts.vault.mounts
    return product_of(None if isinstance(mounts, Unknown) else mounts)
