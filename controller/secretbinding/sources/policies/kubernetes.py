"""Policies that are custom resources of a Kubernetes API server: listed as a whole, and again whenever one changes."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from secretbinding.engine.policies import PolicySink
from secretbinding.errors import SecretBindingError
from secretbinding.loops import Loop
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policy_object
from secretbinding.sources.kubernetes.api import Credentials
from secretbinding.sources.kubernetes.watch import POLICY_PLURAL, Watch
from secretbinding.sources.policies.kept import Kept

_log = structlog.get_logger(__name__)

NAME = "kubernetes"
_RETRY_MAX_SECONDS = 30.0


class PoliciesApi(Protocol):
    """What the source needs of a Kubernetes client."""

    def credentials(self) -> Credentials:
        """Fresh credentials; raises `UsageError` when there are none."""

    def policies(self) -> Sequence[Mapping[str, Any]]:
        """All SecretBindingPolicies; that it returns at all proves the right to list. Raises `errors.ServiceError`
        subclasses."""


class KubernetesPolicies:
    """Policies are few: each change, and each start of the watch, has all of them listed, so that what is delivered is
    always complete."""

    name = NAME

    def __init__(self, api: PoliciesApi, *, resync_seconds: float = 300.0) -> None:
        self._api = api
        self._resync_seconds = resync_seconds
        self._kept = Kept(NAME)
        self._stopping = threading.Event()
        self._changed = threading.Event()
        self._sink: PolicySink | None = None
        self._watch: Watch | None = None
        self._loop = Loop("policies-kubernetes")
        self._thread = threading.Thread(target=self._run, name="policies-kubernetes", daemon=True)

    def start(self, sink: PolicySink) -> None:
        self._sink = sink
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round in it."""
        return (self._loop,)

    def _run(self) -> None:
        failures = 0
        self._loop.turned()
        while self._sink is not None and not self._stopping.is_set():
            self._changed.clear()
            try:
                self._keep_watching()
                self.take(self._sink, self._api.policies())
                failures, pause = 0, self._resync_seconds
            except SecretBindingError as error:
                failures += 1
                _log.error("policies cannot be read, and stay as they are", error=str(error))
                self._sink.failed(NAME, str(error))
                pause = min(_RETRY_MAX_SECONDS, 2.0 ** min(failures, 6) / 2)
            self._loop.turned(pause)
            self._changed.wait(pause * random.uniform(0.5, 1.0))
        if self._watch is not None:
            self._watch.stop()

    def _keep_watching(self) -> None:
        """Start the watch, and start it anew when it has ended or gone silent: what it misses, the next listing has."""
        watch = self._watch
        if watch is not None and not watch.ended.is_set() and not watch.silent(time.monotonic()):
            return
        if watch is not None:
            watch.stop()
        self._watch = Watch(
            self._api.credentials, (), lambda event, obj: self._changed.set(), self._changed.set, plural=POLICY_PLURAL
        )
        self._watch.start()

    def take(self, sink: PolicySink, objects: Sequence[Mapping[str, Any]]) -> None:
        """Deliver a complete listing."""

        def one(obj: Mapping[str, Any]) -> list[SecretBindingPolicy]:
            return [parse_policy_object(obj, source=f"secretbindingpolicy {obj['metadata']['name']}")]

        held = {str(obj["metadata"]["name"]): partial(one, obj) for obj in objects}
        self._kept.take(held)
        sink.deliver(NAME, self._kept.policies, self._kept.unreadable)
