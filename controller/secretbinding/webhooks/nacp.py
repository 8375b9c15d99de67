"""The JSON-patch webhook of NACP, the admission proxy that people put before Nomad's API."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any

import structlog

from secretbinding.engine.admission import Admitted
from secretbinding.errors import UsageError
from secretbinding.ports import Json

_log = structlog.get_logger(__name__)

PATH = "/nacp/v1/mutate"
_MOST_BYTES = 16 * 1024 * 1024
_IDLE_SECONDS = 30.0
_STOP_SECONDS = 5.0


class OnRefusal(StrEnum):
    """What becomes of a job when a binding cannot be put into it."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. With certificate and key, TLS is spoken; with `client_ca`, who asks has to have a certificate of
    that authority."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


class BadRequest(ValueError):
    """What was sent is no question that NACP asks."""


def answer(body: bytes, admit: Callable[[Json], Admitted], on_refusal: OnRefusal) -> Json:
    """The answer to one question.

    NACP asks with `{"job": <a job of Nomad's API>, "context": {...}}` at registration, plan and validation, and takes
    `{"patch": <JSON patch>, "warnings": [...], "errors": [...]}`; errors end the request. Raises `BadRequest`.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    job = asked.get("job") if isinstance(asked, dict) else None
    if not isinstance(job, dict) or not isinstance(job.get("ID"), str) or not job["ID"]:
        raise BadRequest("the body holds no job with an ID")
    _check_groups(job)
    admitted = admit(job)
    refusals = [f"secretbinding: {line}" for line in admitted.refusals]
    warnings = [f"secretbinding: {line}" for line in admitted.warnings]
    if refusals and on_refusal is OnRefusal.REFUSE:
        return {"patch": [], "warnings": warnings, "errors": refusals}
    changed = admitted.job.get("TaskGroups") != job.get("TaskGroups")
    # RFC 6902 wants a member to be there for `replace`; `add` sets it in either case.
    patch = [{"op": "add", "path": "/TaskGroups", "value": admitted.job["TaskGroups"]}] if changed else []
    return {"patch": patch, "warnings": [*refusals, *warnings], "errors": []}


def _check_groups(job: Json) -> None:
    """Raises `BadRequest`, with the place, for what is no job of Nomad's API where it is read here."""
    for place, group in _objects(job, "", ("TaskGroups",), named=True):
        list(_objects(group, place, ("Services", "Constraints")))
        _check_maps(group, place, ("Update",))
        for inner, task in _objects(group, place, ("Tasks",), named=True):
            list(_objects(task, inner, ("Templates", "Identities", "Services", "Constraints")))
            _check_maps(task, inner, ("Vault", "Env", "Lifecycle"))


def _objects(holder: Json, place: str, names: tuple[str, ...], *, named: bool = False) -> Iterator[tuple[str, Json]]:
    for name in names:
        found = holder.get(name)
        if found is not None and not isinstance(found, list):
            raise BadRequest(f"{place}{name} of the job is no list")
        for index, one in enumerate(found or []):
            here = f"{place}{name}[{index}]"
            if not isinstance(one, dict):
                raise BadRequest(f"{here} of the job is no object")
            if named and not (isinstance(one.get("Name"), str) and one["Name"]):
                raise BadRequest(f"{here} of the job has no Name")
            yield f"{here}.", one


def _check_maps(holder: Json, place: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(holder.get(name) or {}, dict):
            raise BadRequest(f"{place}{name} of the job is no object")


class NacpWebhook:
    """Serves `PATH` in threads of its own."""

    def __init__(self, listen: Listen, admit: Callable[[Json], Admitted], on_refusal: OnRefusal) -> None:
        self._listen = listen
        self._admit = admit
        self._on_refusal = on_refusal
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; of use when it was given as 0. Raises `RuntimeError` before `start`."""
        if self._server is None:
            raise RuntimeError("not started")
        return int(self._server.server_address[1])

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,) if self._thread is not None else ()

    def start(self) -> None:
        """Begin to listen; raises `UsageError` when that cannot be."""
        listen = self._listen
        try:
            server = _Server((listen.host, listen.port), self._handler())
        except OSError as error:
            message = f"SECRETBINDING_NACP_LISTEN: {listen.host}:{listen.port} cannot be listened on: {error.strerror}"
            raise UsageError(message, remedy="give a free address of this machine") from None
        try:
            context = _tls(listen)
        except (OSError, ssl.SSLError) as error:
            server.server_close()
            message = f"SECRETBINDING_NACP_CERT and _KEY cannot be used: {error.strerror or type(error).__name__}"
            raise UsageError(message, remedy="give PEM files of a certificate and its key") from None
        if context is not None:
            # The handshake is made by the thread of each connection: one that never ends must not stop the others.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="nacp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; answers under way are finished."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(_STOP_SECONDS)

    def _handler(self) -> Callable[[Any, Any, BaseServer], BaseHTTPRequestHandler]:
        admit, on_refusal = self._admit, self._on_refusal

        class Handler(_Handler):
            def mutate(self, body: bytes) -> Json:
                return answer(body, admit, on_refusal)

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke, or spoke no TLS, is not worth a stack trace."""
        _log.debug("connection broke", webhook="nacp")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "secretbinding"
    sys_version = ""
    timeout = _IDLE_SECONDS

    def mutate(self, body: bytes) -> Json:
        raise NotImplementedError

    def do_POST(self) -> None:
        if self.path != PATH:
            self._reply(HTTPStatus.NOT_FOUND, {"errors": [f"there is only {PATH}"]})
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._reply(HTTPStatus.LENGTH_REQUIRED, {"errors": ["Content-Length is missing"]})
            return
        if int(length) > _MOST_BYTES:
            self._reply(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"errors": [f"a job has at most {_MOST_BYTES} bytes here"]}
            )
            return
        try:
            answered = self.mutate(self.rfile.read(int(length)))
        except BadRequest as error:
            self._reply(HTTPStatus.BAD_REQUEST, {"errors": [str(error)]})
        except Exception as error:  # noqa: BLE001 - whoever registers a job is to be told something in any case
            _log.error("job cannot be admitted", error=type(error).__name__)
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"errors": ["secretbinding failed; its log says more"]})
        else:
            self._reply(HTTPStatus.OK, answered)

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a line of a request can hold anything."""

    def _reply(self, status: HTTPStatus, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status is not HTTPStatus.OK:
            # What was not read would be taken for the next request.
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listen.certificate, listen.key)
    if listen.client_ca is not None:
        context.load_verify_locations(listen.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
