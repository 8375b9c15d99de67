"""The watch on a resource of ours: a kopf operator in a thread and an event loop of its own, which writes nothing."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
import structlog

from secretbinding.models.binding import GROUP, VERSION
from secretbinding.sources.kubernetes.api import Credentials

_log = structlog.get_logger(__name__)

PLURAL = "secretbindings"
POLICY_PLURAL = "secretbindingpolicies"
Deliver = Callable[[str | None, Mapping[str, Any]], None]

# With bookmarks allowed, an API server says something at least once a minute.
_INACTIVITY_SECONDS = 70.0
_SERVER_TIMEOUT_SECONDS = 300  # kopf writes it into the URL as it is, and the server takes only whole numbers.
_ERROR_BACKOFFS_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
_REQUEST_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_PAGE_SIZE = 500
_HANDLER_THREADS = 4
# kopf keeps a task and a queue for each object this long: with thousands listed at once, that is what costs memory.
_IDLE_SECONDS = 0.05
_STOP_SECONDS = 10.0
_SILENCE_SECONDS = _SERVER_TIMEOUT_SECONDS + 2 * _INACTIVITY_SECONDS


class Watch:
    """One run of the operator, from `start` to `stop` or to an error that kopf does not mend.

    `deliver` is called with the type of each event (None for what the initial listing shows) and the object, from
    kopf's own threads, in order for each object. `relisted` is called when kopf has listed everything anew, as it does
    when it was away for too long: deletions in between bring no event.
    """

    def __init__(
        self,
        credentials: Callable[[], Credentials],
        namespaces: Sequence[str],
        deliver: Deliver,
        relisted: Callable[[], None],
        *,
        plural: str = PLURAL,
    ) -> None:
        self._credentials = credentials
        self._plural = plural
        self._namespaces = tuple(namespaces)
        self._deliver = deliver
        self._relisted = relisted
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="kubernetes-watch", daemon=True)
        self._listings = 0
        self._lock = threading.Lock()
        self._opened: dict[str, float] = {}
        self._heard = time.monotonic()
        self._error = ""
        self.ended = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the operator; returns when its thread has ended."""
        with self._lock:
            loop, stop = self._loop, self._stop
            if loop is not None and stop is not None and not self.ended.is_set():
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(_STOP_SECONDS)

    @property
    def open(self) -> bool:
        """True once every namespace is watched."""
        return len(self._opened) >= max(1, len(self._namespaces))

    def silent(self, now: float) -> bool:
        """Whether nothing at all has been heard for longer than an open watch lives, however calm it is."""
        return now - self._heard > _SILENCE_SECONDS

    @property
    def heard(self) -> float:
        """When the server was last heard: an event, or a watch that was opened (`time.monotonic`)."""
        return self._heard

    @property
    def error(self) -> str:
        """What the server last refused, or why the operator ended; "" when all is well."""
        return self._error

    def _run(self) -> None:
        quiet_kopf()
        try:
            asyncio.run(self._operate())
        except Exception as error:  # noqa: BLE001 - whatever ends kopf is reported by the owner of the watch
            self._error = self._error or f"{type(error).__name__}: {error.args[0] if error.args else ''}"[:300]
        finally:
            self.ended.set()
            self._relisted()

    async def _operate(self) -> None:
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # The stop flag belongs to the loop: kopf waits for one of threading in a thread that nothing can interrupt.
        with ThreadPoolExecutor(_HANDLER_THREADS, thread_name_prefix="kubernetes-event") as executor:
            await kopf.operator(
                registry=self._registry(),
                settings=_settings(executor),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
            )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
        async def log_in(**_: Any) -> kopf.AiohttpSession:
            credentials = await asyncio.to_thread(self._credentials)
            return kopf.AiohttpSession(server=credentials.server, aiohttp_session=self._session(credentials))

        @kopf.on.event(GROUP, VERSION, self._plural, registry=registry)
        def hear(event: kopf.RawEvent, **_: Any) -> None:
            self._heard = time.monotonic()
            self._deliver(event["type"], event["object"])

        return registry

    def _session(self, credentials: Credentials) -> aiohttp.ClientSession:
        async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            authorization = credentials.authorization()
            if authorization:
                request.headers["Authorization"] = authorization
            return await send(request)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._answered)
        trace.on_request_exception.append(self._unanswered)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=credentials.ssl_context()),
            proxy=credentials.proxy() or None,
            middlewares=(authorize,),
            trace_configs=[trace],
        )

    async def _answered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, answer: aiohttp.TraceRequestEndParams
    ) -> None:
        """Learn from each answer whether the watch is open: kopf tells of events only, and a watch may have none."""
        if not answer.url.path.endswith(f"/{self._plural}"):
            return
        watching = answer.url.query.get("watch") == "true"
        status = answer.response.status
        if status >= 400:
            self._error = f"the server answers {status} to {'watch' if watching else 'list'} {self._plural}"
        elif watching:
            self._error = ""
            self._heard = self._opened[answer.url.path] = time.monotonic()
        elif "continue" not in answer.url.query:
            self._listings += 1
            if self._listings > max(1, len(self._namespaces)):
                self._relisted()

    async def _unanswered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, lost: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if lost.url.path.endswith(f"/{self._plural}") and not isinstance(lost.exception, asyncio.CancelledError):
            name = type(lost.exception).__name__
            self._error = f"the server does not answer to a request for {self._plural} ({name})"


def _settings(executor: ThreadPoolExecutor) -> kopf.OperatorSettings:
    """No right but to discover, list and watch is needed, and nothing is ever written: no peering, no events of
    kopf's own, no scanning of definitions and namespaces."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.execution.executor = executor
    settings.queueing.idle_timeout = _IDLE_SECONDS
    settings.networking.request_timeout = _REQUEST_SECONDS
    settings.networking.connect_timeout = _CONNECT_SECONDS
    settings.networking.error_backoffs = _ERROR_BACKOFFS_SECONDS
    settings.watching.server_timeout = _SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = _SERVER_TIMEOUT_SECONDS + _REQUEST_SECONDS
    settings.watching.connect_timeout = _CONNECT_SECONDS
    settings.watching.inactivity_timeout = _INACTIVITY_SECONDS
    settings.watching.reconnect_backoff = 0.5
    settings.watching.chunk_size = _PAGE_SIZE
    return settings


class _KopfLog(logging.Handler):
    """kopf's warnings as one line of ours each, without tracebacks: their errors carry whole answers."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "OS signals are ignored" not in message:
            _log.warning("kopf", message=message.partition("\n")[0][:300], logger=record.name)


def quiet_kopf() -> None:
    """Keep kopf's own loggers to warnings, whatever level the program logs at: at debug they print whole objects."""
    kopf_logger = logging.getLogger("kopf")
    kopf_logger.setLevel(logging.WARNING)
    kopf_logger.propagate = False
    if not any(isinstance(handler, _KopfLog) for handler in kopf_logger.handlers):
        kopf_logger.addHandler(_KopfLog())
