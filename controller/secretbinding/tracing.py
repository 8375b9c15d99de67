"""Spans of what is done, for whoever asked for traces. Without a tracer each costs a look at one variable."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType, TracebackType
from typing import Protocol

Value = str | int | float | bool


class Span(Protocol):
    """What is under way. Never given a secret, a path in Vault, a query or a body."""

    def set(self, **attributes: Value) -> None:
        """Attributes that are known only later; `__` in a name stands for a dot."""

    def failed(self, reason: str) -> None:
        """It came to no good end. `reason` is a word from a small fixed set, such as `Denied`."""


class Tracer(Protocol):
    """Makes spans, each a child of the one that the thread is in."""

    def span(self, name: str, attributes: Mapping[str, Value]) -> AbstractContextManager[Span]:
        """Something that this process does. An exception that leaves the block makes it a failure, and its text is not
        kept."""

    def call(self, name: str, attributes: Mapping[str, Value]) -> AbstractContextManager[Span]:
        """A request to a server; none outside a span, where it would be one of thousands of polls."""

    def ids(self) -> Mapping[str, str]:
        """`trace_id` and `span_id` of the span that the thread is in; empty outside, and where it is not recorded."""

    def headers(self) -> Sequence[tuple[str, str]]:
        """What a request carries so that a server can go on with the trace: `traceparent` (W3C)."""


class _Nothing:
    """A span of nobody's."""

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def set(self, **attributes: Value) -> None:
        return None

    def failed(self, reason: str) -> None:
        return None


_NOTHING = _Nothing()
_NO_IDS: Mapping[str, str] = MappingProxyType({})
_tracer: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """Have spans made by a tracer from now on; None for no more."""
    global _tracer
    _tracer = tracer


def span(name: str, **attributes: Value) -> AbstractContextManager[Span]:
    """Something that this process does; `__` in the name of an attribute stands for a dot."""
    return _tracer.span(name, _dotted(attributes)) if _tracer is not None else _NOTHING


def call(system: str, operation: str, method: str, authority: str = "") -> AbstractContextManager[Span]:
    """One attempt at a request. `operation` is from a small fixed set; `authority` is `host:port`, "" for a socket."""
    if _tracer is None:
        return _NOTHING
    host, _, port = authority.rpartition(":")
    given: dict[str, Value] = {
        "http.request.method": method,
        "secretbinding.system": system,
        "secretbinding.operation": operation,
        "server.address": (host if port.isdigit() else authority).strip("[]"),
        "server.port": int(port) if port.isdigit() else 0,
    }
    return _tracer.call(f"{system} {operation}", {name: value for name, value in given.items() if value})


def ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of what this thread is at, for logs and exemplars; empty where nothing is traced."""
    return _tracer.ids() if _tracer is not None else _NO_IDS


def headers() -> Sequence[tuple[str, str]]:
    """What a request is to carry."""
    return _tracer.headers() if _tracer is not None else ()


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}
