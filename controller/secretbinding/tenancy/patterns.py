"""The patterns of policies: plain text, `*`, and the tenant's name."""

import re
from collections.abc import Iterable
from functools import lru_cache

from secretbinding.models.policy import TENANT

# What Vault's KV engine of version 2 has below its mount beside the secrets (its own API, not paths of people).
KV_API = frozenset({"config", "data", "delete", "destroy", "detailed-metadata", "metadata", "subkeys", "undelete"})


def matches(pattern: str, text: str, tenant: str) -> bool:
    """Whether a text is what a pattern says, from its first to its last character.

    A `*` at the end stands for any characters, as in Vault's own policies; one before that for any but `/`.
    `{{tenant}}` is the tenant's name, and nothing in that name is a wildcard.
    """
    return _compiled(pattern, tenant).fullmatch(text) is not None


def matches_any(patterns: Iterable[str], text: str, tenant: str) -> bool:
    """Whether a text is what one of the patterns says."""
    return any(matches(pattern, text, tenant) for pattern in patterns)


def matches_bare_path(pattern: str, path: str, tenant: str) -> bool:
    """The same for a path that is joined with its mount as it is. Where it begins as the KV engine's own API does
    (`data/other/app`), it may lead to another path's secret: then the pattern has to begin with that very word, or to
    be `*`. No wildcard and no tenant's name stands for it."""
    first = path.partition("/")[0]
    if first in KV_API and pattern != "*" and pattern.partition("/")[0] != first:
        return False
    return matches(pattern, path, tenant)


def matches_mount(patterns: Iterable[str], mount: str, tenant: str) -> bool:
    """Whether a mount is what one of the patterns says. A mount that holds a word of the KV engine's own API below its
    first segment (`secret/data/other`) may lead into another mount: then the pattern has to write that very word as a
    segment. No wildcard and no tenant's name stands for it."""
    words = KV_API.intersection(mount.split("/")[1:])
    return any(words <= set(pattern.split("/")) and matches(pattern, mount, tenant) for pattern in patterns)


@lru_cache(maxsize=4096)
def _compiled(pattern: str, tenant: str) -> re.Pattern[str]:
    written: list[str] = []
    for index, part in enumerate(pattern.split(TENANT)):
        written.append(re.escape(tenant) if index else "")
        written += [".*" if char == "*" else re.escape(char) for char in part]
    if pattern.endswith("*"):
        written.pop()
    inner = "".join("[^/]*" if piece == ".*" else piece for piece in written)
    return re.compile(inner + (".*" if pattern.endswith("*") else ""), re.DOTALL)
