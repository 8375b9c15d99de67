"""A proxy before a server that, when told to, spoils every third request: refusals, errors that repeat what was sent,
cut connections, nonsense. It keeps every token and every value that went through it."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.support.proxies import listening

Fault = Callable[[str], tuple[int, str]]
"""From what the request said, headers and body, the status and the text of the answer."""


def _errors(status: int, text: str) -> Fault:
    return lambda echo: (status, json.dumps({"errors": [text, echo]}))


VAULT: dict[str, Fault] = {
    "denied": _errors(403, "permission denied"),
    "lacking": _errors(403, "1 error occurred:\n\t* permission denied\n\n"),
    "refused": _errors(400, "bad request"),
    "broken": _errors(500, "internal error"),
    "sealed": _errors(503, "Vault is sealed"),
    "nonsense": lambda echo: (200, f'{{"data": "{echo}'),
    "other shape": lambda echo: (200, json.dumps({"data": [echo], "auth": echo})),
    "proxy": lambda echo: (404, f"<html>{echo}</html>"),
}
NOMAD: dict[str, Fault] = {
    "denied": lambda echo: (403, f"Permission denied {echo}"),
    "unknown token": lambda echo: (403, f"ACL token not found {echo}"),
    "broken": lambda echo: (500, f"rpc error: {echo}"),
    "no leader": lambda echo: (500, f"No cluster leader {echo}"),
    "nonsense": lambda echo: (200, f'{{"ID": "{echo}'),
    "other shape": lambda echo: (200, json.dumps([echo])),
    "proxy": lambda echo: (502, f"<html>{echo}</html>"),
}
_CUT = "cut"


class Faulty:
    """The running proxy. `faulty` switches faults on and off; `injected` counts them by name."""

    def __init__(self, target: str, faults: dict[str, Fault]) -> None:
        self.faulty = False
        self.injected: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.values: set[str] = set()
        self.address = ""
        self._target = urlsplit(target)
        self._faults = faults
        self._lock = threading.Lock()
        self._count = 0

    def next_fault(self) -> str:
        """The name of the fault for this request, "" for none."""
        with self._lock:
            self._count += 1
            if not self.faulty or self._count % 3:
                return ""
            names = [*self._faults, _CUT]
            name = names[(self._count // 3) % len(names)]
            self.injected[name] += 1
            return name

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        for name in ("X-Vault-Token", "X-Nomad-Token"):
            if handler.headers.get(name):
                self.tokens.add(handler.headers[name])
        self._keep(body)
        fault = self.next_fault()
        handler.close_connection = True
        if fault == _CUT:
            return
        if fault:
            echo = " ".join([handler.path, *(f"{key}: {value}" for key, value in handler.headers.items())])
            status, text = self._faults[fault](f"{echo} {body.decode('utf-8', 'replace')}")
            handler.send_response(status)
            handler.end_headers()
            handler.wfile.write(text.encode())
            return
        self._forward(handler, body)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        upstream = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=90)
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in ("host", "connection")}
        with suppress(OSError):
            upstream.request(handler.command, handler.path, body or None, headers)
            found = upstream.getresponse()
            handler.send_response(found.status)
            for key, value in found.getheaders():
                if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                    handler.send_header(key, value)
            handler.end_headers()
            whole = b""
            while chunk := found.read1(65536):
                whole += chunk if len(whole) < 1_000_000 else b""
                handler.wfile.write(chunk)
                handler.wfile.flush()
            self._keep(whole)
        upstream.close()

    def _keep(self, body: bytes) -> None:
        """Tokens of logins, and values that are written."""
        try:
            content: Any = json.loads(body)
        except ValueError:
            return
        if not isinstance(content, dict):
            return
        auth, data = content.get("auth"), content.get("data")
        if isinstance(auth, dict) and isinstance(auth.get("client_token"), str):
            self.tokens.add(auth["client_token"])
        wrap = content.get("wrap_info")
        if isinstance(wrap, dict) and isinstance(wrap.get("token"), str):
            self.tokens.add(wrap["token"])
        if isinstance(data, dict) and isinstance(data.get("secret_id"), str):
            self.values.add(data["secret_id"])
        if isinstance(data, dict) and "options" in content:
            self.values.update(value for value in data.values() if isinstance(value, str))


@contextmanager
def faulty(target: str, faults: dict[str, Fault]) -> Iterator[Faulty]:
    """Run the proxy on a free loopback port."""
    made = Faulty(target, faults)
    with listening(made.answer) as made.address:
        yield made
