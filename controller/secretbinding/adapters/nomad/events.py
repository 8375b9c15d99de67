"""Nomad's event stream: lines of JSON that never end, heartbeats included."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from secretbinding.adapters.nomad.shapes import integer, mapping, rows_of
from secretbinding.adapters.transport import Call, Transport, unexpected
from secretbinding.errors import ServiceError, Unreachable
from secretbinding.ports import Event

_CHUNK_BYTES = 64 * 1024


class EventStream(Iterator[Event]):
    """The events of one subscription, in order. For one reading thread; `close` may be called from any other.

    A heartbeat is an `Event` with an empty topic and the index of the last event before it. Reading raises
    `Unreachable` when the connection is cut or was silent for too long, and ends without an error after `close`.
    Nomad keeps no place in the stream: after a cut, subscribe again and then list what you watch.
    """

    def __init__(
        self, transport: Transport, call: Call, response: urllib3.BaseHTTPResponse, *, max_line_bytes: int
    ) -> None:
        self._transport = transport
        self._call = call
        self._response = response
        self._max_line_bytes = max_line_bytes
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._index = 0
        self._events = self._read()

    def __repr__(self) -> str:
        return f"EventStream({self._call.text!r})"

    def __next__(self) -> Event:
        try:
            with self._reading:
                if self._closed.is_set():
                    raise StopIteration
                return next(self._events)
        finally:
            if self._closed.is_set():
                self._dispose()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream. A thread that waits for the next event gets the end at once."""
        self._closed.set()
        with contextlib.suppress(ValueError, RuntimeError, OSError):  # What urllib3 raises when it is over already.
            self._response.shutdown()
        self._dispose()

    def _dispose(self) -> None:
        """Give the connection's place back to the pool, unless a thread is reading, which then does it."""
        if self._reading.acquire(blocking=False):
            try:
                self._give_back()
            finally:
                self._reading.release()

    def _give_back(self) -> None:
        self._response.close()
        self._response.release_conn()

    def _read(self) -> Iterator[Event]:
        try:
            for line in self._lines():
                yield from self._parse(line)
        finally:
            self._give_back()

    def _lines(self) -> Iterator[bytes]:
        pending = bytearray()
        while True:
            chunk = self._chunk()
            if self._closed.is_set():
                return
            if isinstance(chunk, Unreachable):
                raise chunk
            searched = len(pending)
            pending += chunk
            end = pending.find(b"\n", searched)
            while end >= 0:
                yield bytes(pending[:end])
                del pending[: end + 1]
                end = pending.find(b"\n")
            if len(pending) > self._max_line_bytes:
                raise self._strange(f"an event of more than {self._max_line_bytes} bytes")

    def _chunk(self) -> bytes | Unreachable:
        try:
            chunk = self._response.read1(_CHUNK_BYTES)
        except (HTTPError, OSError, ValueError, AttributeError) as problem:
            # ValueError, AttributeError: what urllib3 and ssl raise when `close` came between two of their steps.
            return self._transport.lost(self._call, problem)
        return chunk or self._transport.lost(self._call)

    def _parse(self, line: bytes) -> Iterator[Event]:
        if not line.strip():
            return
        body = self._json(line)
        if not body:
            yield Event(topic="", type="", key="", namespace="", index=self._index, payload={})
            return
        self._index = integer(body.get("Index"), self._call) or self._index
        for event in rows_of(body.get("Events") or [], self._call):
            yield Event(
                topic=str(event.get("Topic", "")),
                type=str(event.get("Type", "")),
                key=str(event.get("Key", "")),
                namespace=str(event.get("Namespace", "")),
                index=integer(event.get("Index"), self._call) or self._index,
                payload=mapping(event.get("Payload") or {}, self._call),
            )

    def _json(self, line: bytes) -> dict[str, Any]:
        try:
            body = json.loads(line)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            return body
        raise self._strange("a line that is not a JSON object")

    def _strange(self, what: str) -> ServiceError:
        return unexpected("nomad", self._call, what)
