"""Which secret an audit entry of Vault says was changed: takes any bytes, and gives nothing of them but a path."""

import json
from collections.abc import Iterator
from typing import Any

from secretbinding.kinds import KINDS

LINE_LIMIT = 1 << 20
"""Bytes of the longest line that is looked into; a longer one is skipped."""
_PATH_LIMIT = 2048
_PREFIX_LIMIT = 256
_CHANGES = frozenset({"create", "update", "patch", "delete"})
# Most entries are about something else: these texts are looked for before a line is parsed.
_HINTS = tuple(hint.encode() for kind in KINDS.values() if kind.changes is not None for hint in kind.changes.hints)


class Lines:
    """Cuts a stream of bytes into lines, however it arrives. Holds at most `limit` bytes of an unfinished line."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that the chunk finishes, without line feeds; those that are too long are left out."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            line, skipped = bytes(self._begun), self._skipping
            self._begun.clear()
            self._skipping = False
            if not skipped:
                yield line
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if self._skipping or len(self._begun) + len(part) > self._limit:
            self._skipping = True
            self._begun.clear()
        else:
            self._begun += part


def changed_path(line: bytes) -> str | None:
    """The path, namespace included, that a successful request has changed, if the line is the audit entry of its
    response (`type` `response`, no `error`) and the path may be about a secret. None for anything else, whatever it is.

    The device's `prefix` may precede the JSON object.
    """
    if len(line) > LINE_LIMIT or b'"response"' not in line or not any(hint in line for hint in _HINTS):
        return None
    start = line.find(b"{", 0, _PREFIX_LIMIT)
    if start < 0:
        return None
    try:
        entry = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return _changed(entry)


def _changed(entry: Any) -> str | None:
    if not isinstance(entry, dict) or entry.get("type") != "response" or entry.get("error"):
        return None
    request = entry.get("request")
    if not isinstance(request, dict):
        return None
    operation, path = request.get("operation"), request.get("path")
    if not isinstance(operation, str) or operation not in _CHANGES or not isinstance(path, str):
        return None
    namespace = request.get("namespace")
    inside = namespace.get("path") if isinstance(namespace, dict) else None
    whole = f"{inside.strip('/')}/{path}" if isinstance(inside, str) and inside.strip("/") else path
    return whole if len(whole) <= _PATH_LIMIT else None
