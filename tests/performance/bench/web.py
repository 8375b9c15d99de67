"""A bare asyncio client for the three servers: one pooled session, JSON in and out, no retries."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

T = TypeVar("T")
Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"


class Web:
    """Requests to one server; an async context manager."""

    def __init__(
        self, address: str, headers: Mapping[str, str], *, connections: int = 32, tls: ssl.SSLContext | None = None
    ) -> None:
        self._address = address.rstrip("/")
        self._headers = dict(headers)
        self._connections = connections
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.calls = 0

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._tls if self._tls is not None else True)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """The decoded answer, None for an empty one. Raises `RuntimeError` for a status of 400 or more."""
        assert self._session is not None
        self.calls += 1
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        headers = {"Content-Type": content} if data is not None else {}
        async with self._session.request(method, self._address + path, data=data, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text) if text else None


async def spread(items: Iterable[T], work: Callable[[T], Awaitable[Any]], *, at_once: int = 32) -> None:
    """Work on all items, so many at once."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
