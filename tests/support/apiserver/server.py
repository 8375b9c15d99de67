"""The small API server itself: HTTPS on a free loopback port, in a thread of its own."""

import asyncio
import base64
import functools
import secrets
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import trustme
import yaml
from aiohttp import web

from tests.support.apiserver import schema
from tests.support.apiserver.api import Api
from tests.support.apiserver.faults import Fault, Faults, Request, describe
from tests.support.apiserver.store import Store

Json = dict[str, Any]
T = TypeVar("T")

TEST_AGENT = "secretbinding-tests"


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


def _no_rules(_schema: Json, _new: Json, _old: Json | None) -> Sequence[schema.Fault]:
    return ()


class ApiServer:
    """A Kubernetes API server for tests: discovery, CRDs, objects, watches, and faults on demand.

    `rules` judges CEL rules: called with the CRD's schema, the new object and the old one (None at creation).
    Every public method may be called from any thread. Requests whose User-Agent holds `secretbinding-tests` are served
    but not counted.
    """

    def __init__(
        self,
        rules: Callable[[Json, Json, Json | None], Sequence[schema.Fault]] = _no_rules,
        bookmark_seconds: float = 5.0,
    ) -> None:
        self._store = Store(rules)
        self._faults = Faults()
        self._api = Api(self._store, self._faults, secrets.token_urlsafe(24), bookmark_seconds)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._port = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="api-server", daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the API server did not start within 10 s")

    # -- for tests ---------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return self._api.token

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def write_kubeconfig(self, path: Path, namespace: str = "default") -> Path:
        """Write a kubeconfig for this server and give its path."""
        authority = base64.b64encode(_authority().cert_pem.bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self.token}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def close(self) -> None:
        """Stop; a second time does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def deny(self, verb: str, resource: str) -> None:
        """Answer 403 from now on, as if RBAC did not allow it. `resource` may name a subresource: `x/status`."""
        self.fail(verb, resource, 403)

    def allow(self, verb: str, resource: str) -> None:
        """Take back every `deny` and `fail` of the same verb and resource."""
        self._call(lambda: self._faults.clear(verb, resource))

    def fail(
        self, verb: str, resource: str, status: int, *, times: int | None = None, retry_after: int | None = None
    ) -> None:
        """Answer `status`, `times` times or for good; verb and resource may be `*`, verb `write` is any write."""
        self._call(lambda: self._faults.add(Fault(verb, resource, status, times, retry_after)))

    def cut_watches(self) -> None:
        """Cut every watch connection, as a network that fails."""

        def cut() -> None:
            for request in list(self._api.watches):
                if request.transport is not None:
                    request.transport.abort()

        self._call(cut)

    def deafen(self, deaf: bool = True) -> None:
        """Keep watches open but silent: no event, no bookmark. What was missed is not sent later."""

        def switch() -> None:
            self._faults.deaf = deaf

        self._call(switch)

    def expire_history(self) -> None:
        """Forget all changes so far: a watch from an older resourceVersion gets 410 Gone."""
        self._call(self._store.expire)

    def change_token(self) -> str:
        """Make the token invalid and give the new one."""
        self._api.token = secrets.token_urlsafe(24)
        return self._api.token

    @property
    def watches(self) -> int:
        return len(self._api.watches)

    def requests(self) -> list[Request]:
        return self._call(lambda: list(self._faults.requests))

    def counts(self) -> dict[str, int]:
        """Requests since the last `reset_counts`, as `{"patch secretbindings/status": 2}`."""
        return self._call(lambda: describe(self._faults.count(TEST_AGENT, writes_only=False)))

    def writes(self) -> dict[str, int]:
        """Like `counts`, writes only."""
        return self._call(lambda: describe(self._faults.count(TEST_AGENT, writes_only=True)))

    def reset_counts(self) -> None:
        self._call(self._faults.requests.clear)

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start_up())
        started.set()
        self._loop.run_forever()
        self._loop.close()

    async def _start_up(self) -> None:
        application = web.Application(client_max_size=8 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._api.answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _authority().issue_cert("127.0.0.1").configure_cert(context)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _shut_down(self) -> None:
        for queue in list(self._store.subscribers):
            queue.put_nowait(None)
        if self._runner is not None:
            await self._runner.cleanup()
