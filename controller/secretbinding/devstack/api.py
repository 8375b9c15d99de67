"""A small JSON-over-HTTP client for the development stack's servers."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3


class ApiError(RuntimeError):
    """A server answered with a status that the caller did not expect; names method, path, status and text."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: HTTP {status}: {text.strip()[:500]}")
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `index` is the `X-Nomad-Index` header, 0 without one."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def index(self) -> int:
        return int(self.headers.get("X-Nomad-Index", "0"))

    def json(self) -> Any:
        """The decoded body; None when it is empty."""
        return json.loads(self.text) if self.text.strip() else None

    def expect(self, *statuses: int) -> "Answer":
        """This answer when its status is one of the given ones (200 when none is given). Raises `ApiError`."""
        if self.status not in (statuses or (200,)):
            raise ApiError(self.method, self.path, self.status, self.text)
        return self


class Api:
    """Requests to one server. Thread-safe. `headers` go with every request (tokens, namespaces)."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self.address = address.rstrip("/")
        self._headers = dict(headers or {})
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
    ) -> Answer:
        """One request; `body` is sent as JSON (a str as it is). Raises urllib3's HTTPError without an answer."""
        url = f"{self.address}{path}" + (f"?{urlencode(params)}" if params else "")
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        response = self._pool.request(
            method, url, body=data, headers={**self._headers, **(headers or {})}, timeout=timeout_seconds
        )
        return Answer(method, path, response.status, response.headers, response.data.decode("utf-8", "replace"))

    def get(self, path: str, /, **params: str | int) -> Answer:
        return self.request("GET", path, params=params)

    def put(self, path: str, body: Any = None, /, **params: str | int) -> Answer:
        return self.request("PUT", path, body=body, params=params)

    def delete(self, path: str, /, **params: str | int) -> Answer:
        return self.request("DELETE", path, params=params)

    def reachable(self, path: str) -> bool:
        """Whether a GET of the path is answered with 200."""
        try:
            return self.request("GET", path, timeout_seconds=2.0).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def stream(
        self, path: str, *, params: Mapping[str, str | int] | None = None, timeout_seconds: float = 30.0
    ) -> Generator[Any, None, None]:
        """Decoded lines of a newline-delimited JSON stream. Raises urllib3's HTTPError after a silence of
        `timeout_seconds`; closing the generator closes the connection."""
        url = f"{self.address}{path}" + (f"?{urlencode(params)}" if params else "")
        response = self._pool.request("GET", url, headers=self._headers, timeout=timeout_seconds, preload_content=False)
        if response.status != 200:
            raise ApiError("GET", path, response.status, response.data.decode("utf-8", "replace"))
        try:
            rest = b""
            # Nomad does not frame its stream: take what is there, never wait for a full buffer.
            while chunk := response.read1(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        finally:
            response.close()


def quoted(part: str) -> str:
    """One path segment, with slashes and everything else quoted."""
    return quote(part, safe="")
