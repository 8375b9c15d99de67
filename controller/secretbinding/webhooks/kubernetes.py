"""The validating webhook of the Kubernetes API: a kopf operator in a thread of its own, which watches nothing."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import structlog

from secretbinding.errors import UsageError
from secretbinding.models.binding import GROUP, VERSION
from secretbinding.sources.kubernetes.api import Credentials
from secretbinding.sources.kubernetes.watch import PLURAL, POLICY_PLURAL, quiet_kopf
from secretbinding.webhooks.admission import Admission, Answer
from secretbinding.webhooks.certificates import expires_soon, write_certificate

_log = structlog.get_logger(__name__)

BINDINGS_PATH, POLICIES_PATH = "bindings", "policies"
_REFUSED = 403
_THREADS = 4
_STOP_SECONDS = 10.0
_RENEWAL_LOOK_SECONDS = 3600.0
_FILE_LOOK_SECONDS = 30.0
_RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Serve:
    """Where the webhook listens, and how an API server reaches it.

    Attributes:
        host, port: where to listen.
        certificate, key: PEM files, read again when they change; the process makes a certificate itself without them.
        authority: PEM file of who signed the certificate, for the configuration; the certificate itself without it.
        managed: name of the ValidatingWebhookConfiguration that the controller writes and empties when it ends; ""
            where somebody else does that.
        name: the host that the API server is told to use; the one that is listened on when empty.
        service: Namespace, name and port of the Service that the API server is told to use instead.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    managed: str = ""
    name: str = ""
    service: tuple[str, str, int] | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that a certificate has to be good for."""
        of_service: tuple[str, ...] = ()
        if self.service is not None:
            namespace, name, _ = self.service
            of_service = (f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local")
        own = self.name or ("" if self.host in ("0.0.0.0", "::") else self.host)
        return tuple(filter(None, (*of_service, own))) or ("localhost",)


class AdmissionWebhook:
    """Serves `/bindings` and `/policies`. An error of kopf's or the server's ends the operator, and it is started anew:
    objects are taken unasked meanwhile (failure policy Ignore), since the reconciler asks again."""

    def __init__(self, serve: Serve, credentials: Callable[[], Credentials], admission: Admission) -> None:
        self._serve = serve
        self._credentials = credentials
        self._admission = admission
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admission-webhook", daemon=True)
        self.ready = threading.Event()

    def start(self) -> None:
        """Begin to serve. Raises `UsageError` when a certificate is asked for that cannot be made or read."""
        if self._serve.certificate is not None:
            for path in filter(None, (self._serve.certificate, self._serve.key, self._serve.authority)):
                if not path.is_file():
                    raise UsageError(f"{path} is no file", remedy="correct SECRETBINDING_ADMISSION_CERT and its kin")
        else:
            with tempfile.TemporaryDirectory() as folder:
                write_certificate(Path(folder), self._serve.hosts, datetime.now(UTC))
        self._thread.start()

    def stop(self) -> None:
        """End; a configuration that is the controller's own is emptied."""
        self._stopping.set()
        with self._lock:
            if self._loop is not None and self._stop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """Its own."""
        return (self._thread,)

    def _run(self) -> None:
        quiet_kopf()
        while not self._stopping.is_set():
            try:
                asyncio.run(self._operate())
            except Exception as error:  # noqa: BLE001 - whatever ends kopf, it is started anew
                told = f"{type(error).__name__}: {error.args[0] if error.args else ''}"[:300]
                _log.error("the admission webhook has ended, and is started anew", error=told)
            self.ready.clear()
            self._stopping.wait(_RETRY_SECONDS)

    async def _operate(self) -> None:
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping.is_set():
            return
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="admission") as executor:
            await kopf.operator(
                registry=self._registry(),
                settings=self._settings(executor),
                standalone=True,
                clusterwide=True,
                stop_flag=self._stop,
            )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
        async def log_in(**_: Any) -> kopf.AiohttpSession:
            credentials = await asyncio.to_thread(self._credentials)
            return kopf.AiohttpSession(server=credentials.server, aiohttp_session=_session(credentials))

        # Finalizers, annotations and statuses of bindings that are refused have to be written all the same, and so has
        # everything while the controller is away: hence `ignore_failures`, and only what changes a specification.
        @kopf.on.validate(
            GROUP,
            VERSION,
            PLURAL,
            id=BINDINGS_PATH,
            operations=["CREATE", "UPDATE"],
            ignore_failures=True,
            side_effects=False,
            registry=registry,
        )
        def binding(body: kopf.Body, warnings: list[str], **more: Any) -> None:
            old = more.get("old")
            _say(self._admission.binding(dict(body), dict(old) if old is not None else None), warnings)

        @kopf.on.validate(
            GROUP,
            VERSION,
            POLICY_PLURAL,
            id=POLICIES_PATH,
            operations=["CREATE", "UPDATE"],
            ignore_failures=True,
            side_effects=False,
            registry=registry,
        )
        def policy(body: kopf.Body, warnings: list[str], **_: Any) -> None:
            _say(self._admission.policy(dict(body)), warnings)

        return registry

    def _settings(self, executor: ThreadPoolExecutor) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.process.ultimate_exiting_timeout = None
        settings.execution.executor = executor
        settings.admission.server = self._server
        settings.admission.managed = self._serve.managed or None
        return settings

    async def _server(self, fn: Any) -> AsyncIterator[Any]:
        """kopf's own server, on the certificate that is there, with a client configuration of our own."""
        serve = self._serve
        with tempfile.TemporaryDirectory(prefix="secretbinding-admission-") as folder:
            certificate, key, renewing = serve.certificate, serve.key, None
            if certificate is None:
                certificate, key = write_certificate(Path(folder), serve.hosts, datetime.now(UTC))
                renewing = asyncio.create_task(_renew(Path(folder), serve.hosts))
            server = kopf.WebhookServer(
                addr=serve.host,
                port=serve.port,
                host=serve.name or None,
                certfile=str(certificate),
                pkeyfile=str(key),
                cafile=str(serve.authority) if serve.authority is not None else None,
                file_check_interval=_FILE_LOOK_SECONDS,
            )
            try:
                async for config in server(fn):
                    _log.info("the admission webhook listens", host=serve.host, port=serve.port)
                    self.ready.set()
                    yield _reached_by(config, serve)
            finally:
                if renewing is not None:
                    renewing.cancel()


def _reached_by(config: Mapping[str, Any], serve: Serve) -> dict[str, Any]:
    """The client configuration of ValidatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""
    made = dict(config)
    if serve.service is not None:
        namespace, name, port = serve.service
        made.pop("url", None)
        made["service"] = {"namespace": namespace, "name": name, "port": port}
    return made


async def _renew(folder: Path, hosts: tuple[str, ...]) -> None:
    """Make the certificate anew before it ends: kopf sees the new file, serves it, and tells it to the API server."""
    written = datetime.now(UTC)
    while True:
        await asyncio.sleep(_RENEWAL_LOOK_SECONDS)
        if expires_soon(written):
            written = datetime.now(UTC)
            write_certificate(folder, hosts, written)


def _say(answer: Answer, warnings: list[str]) -> None:
    if answer.warning:
        warnings.append(answer.warning)
    if answer.refusal:
        raise kopf.AdmissionError(answer.refusal, code=_REFUSED)


def _session(credentials: Credentials) -> aiohttp.ClientSession:
    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        authorization = credentials.authorization()
        if authorization:
            request.headers["Authorization"] = authorization
        return await send(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.ssl_context()),
        proxy=credentials.proxy() or None,
        middlewares=(authorize,),
    )
