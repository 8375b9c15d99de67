"""The source itself: listings prove what is there, the watch tells at once what changes, and reports are written back.

Every delivery goes through one place that knows the version of each object, so that listing and watch may overlap.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from secretbinding.errors import NotFound, SecretBindingError, ServiceError
from secretbinding.loops import Loop
from secretbinding.models.key import BindingKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.base import Pulse, Sink
from secretbinding.sources.kubernetes.api import BindingsApi
from secretbinding.sources.kubernetes.items import FINALIZER, NAME, Sight, is_newer, item_of, key_of, sight_of
from secretbinding.sources.kubernetes.watch import Watch
from secretbinding.status.transitions import Transition

_log = structlog.get_logger(__name__)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of the source, in seconds.

    Attributes:
        resync_seconds: between two complete listings, which find what the watch may have missed.
        suspect_seconds: how long the watch may take to bring what a listing has found before it counts as deaf.
        relist_seconds: at least between two listings, whatever asks for the second.
        open_seconds: how long a new watch may take until it is open (a new definition is not discovered at once).
        retry_max_seconds: the longest pause between attempts while the server does not answer.
    """

    resync_seconds: float = 600.0
    suspect_seconds: float = 10.0
    relist_seconds: float = 10.0
    open_seconds: float = 20.0
    retry_max_seconds: float = 30.0


class KubernetesSource:
    """SecretBindings of one API server, in the given Kubernetes namespaces (all without any).

    A binding that names no Nomad namespace gets `nomad_namespace`. A binding gets its finalizer before anything is made
    for it, and loses it when nothing is left; a binding that is gone without a deletion is only taken for gone when the
    server says so of that very object, or ends its watch events with its deletion.
    """

    name = NAME

    def __init__(
        self,
        api: BindingsApi,
        namespaces: Sequence[str] = (),
        *,
        nomad_namespace: str = "default",
        pace: Pace | None = None,
    ) -> None:
        self._api = api
        self._namespaces = tuple(namespaces)
        self._nomad_namespace = nomad_namespace
        self._pace = pace or Pace()
        self._sink: Sink | None = None
        self._lock = threading.Lock()
        self._delivering = threading.RLock()
        self._sights: dict[BindingKey, Sight] = {}
        self._releasing: set[BindingKey] = set()
        self._suspects: dict[BindingKey, str] = {}
        self._announced = False
        self._listed_at = 0.0
        self._started_at = time.monotonic()
        self._error = ""
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._watch: Watch | None = None
        self._loop = Loop("kubernetes-source")
        self._thread = threading.Thread(target=self._supervise, name="kubernetes-source", daemon=True)

    def start(self, sink: Sink) -> None:
        self._sink, self._started_at = sink, time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def prepare(self, key: BindingKey) -> None:
        sight = self._sight(key)
        if sight is not None and sight.adopted:
            return
        observed = (sight.version, sight.finalizers) if sight is not None else None
        written = self._api.add_finalizer(key.tenant, key.name, FINALIZER, observed)
        if written is not None:
            self._deliver(written)

    def report(self, key: BindingKey, status: SecretBindingStatus, transitions: Sequence[Transition]) -> None:
        try:
            written = self._api.replace_status(key.tenant, key.name, status.to_json())
        except NotFound:
            return  # Its deletion is on its way to us.
        for transition in transitions:
            self._post(written, transition)

    def gone(self, key: BindingKey) -> None:
        sight = self._sight(key)
        if sight is None or not sight.deleting:
            return  # It is gone already, or another one has its name by now.
        with self._lock:
            self._releasing.add(key)
        try:
            self._api.remove_finalizer(key.tenant, key.name, FINALIZER, (sight.version, sight.finalizers))
            with self._lock:
                if self._sights.get(key, sight).uid == sight.uid:
                    self._sights.pop(key, None)
        finally:
            with self._lock:
                self._releasing.discard(key)

    def proves_absent(self, key: BindingKey) -> bool:
        try:
            self._api.get(key.tenant, key.name)
        except NotFound:
            return True
        return False

    def healthy(self, now: float) -> str:
        watch, listed_at = self._watch, self._listed_at
        told = f": {self._error}" if self._error else ""
        if not listed_at:
            return f"SecretBindings have not been listed yet{told}"
        if now - listed_at > 2 * self._pace.resync_seconds + self._pace.retry_max_seconds:
            return f"SecretBindings have not been listed for {now - listed_at:.0f} s{told}"
        if watch is not None and watch.silent(now):
            return f"nothing has been heard of SecretBindings for {now - watch.heard:.0f} s"
        if watch is None or not watch.open or watch.error:
            reason = f": {watch.error}" if watch is not None and watch.error else told
            return f"SecretBindings are not watched{reason}"
        return ""

    def heard(self) -> float:
        """When the API server was last heard (`time.monotonic`), 0 for never: the age of the last event."""
        watch = self._watch
        return max(self._listed_at, watch.heard if watch is not None and watch.open else 0.0)

    def pulse(self) -> Pulse:
        return Pulse(max(self._started_at, self.heard()), 0, (self._thread,), (self._loop,))

    def _supervise(self) -> None:
        failures = 0
        self._loop.turned()
        while not self._stopping.is_set():
            foreseen = True
            try:
                self._resync()
                self._keep_watching()
                self._error, failures = "", 0
                self._check_hearing()
                pause = self._pace.resync_seconds
            except SecretBindingError as error:
                self._error = str(error)
                failures += 1
                _log.warning("bindings are not listed or watched", error=str(error))
                pause = min(self._pace.retry_max_seconds, 2.0 ** min(failures, 10) / 2)
            except Exception:  # noqa: BLE001 - a surprise must not end the thread that everything else waits for
                _log.exception("listing or watching failed")
                pause, foreseen = self._pace.retry_max_seconds, False
            if foreseen:
                self._loop.turned(max(pause, self._pace.relist_seconds))
            self._wake.wait(pause * random.uniform(0.8, 1.0))
            self._wake.clear()
            self._stopping.wait(max(0.0, self._listed_at + self._pace.relist_seconds - time.monotonic()))
        if self._watch is not None:
            self._watch.stop()

    def _check_hearing(self) -> None:
        """Give the watch time to bring what the listing found, then start it anew if it has not."""
        if self._suspects and not self._wake.wait(self._pace.suspect_seconds):
            self._keep_watching()
        self._suspects = {}

    def _keep_watching(self) -> None:
        """Start the watch, and start it anew when it ended, did not open, or has not brought what a listing found."""
        watch = self._watch
        if watch is not None and watch.open and not watch.ended.is_set():
            if not self._deaf() and not watch.silent(time.monotonic()):
                return
            _log.warning("the watch has gone deaf")
        if watch is not None:
            _log.warning("the watch is started anew", error=watch.error)
            watch.stop()
        self._watch = watch = Watch(self._api.credentials, self._namespaces, self._hear, self._wake.set)
        watch.start()
        deadline = time.monotonic() + self._pace.open_seconds
        while not (watch.open or watch.ended.is_set() or self._stopping.is_set()) and time.monotonic() < deadline:
            self._stopping.wait(0.05)
        if not watch.open and not self._stopping.is_set():
            raise ServiceError(
                f"SecretBindings are not watched: {watch.error or 'the watch does not open'}", system=NAME
            )

    def _deaf(self) -> bool:
        """Whether what a listing found `suspect_seconds` ago has still not come by the watch."""
        if time.monotonic() < self._listed_at + self._pace.suspect_seconds:
            return False
        with self._lock:
            return any(
                key in self._sights and is_newer(version, self._sights[key].watched)
                for key, version in self._suspects.items()
            )

    def _resync(self) -> None:
        began = time.monotonic()
        suspects: dict[BindingKey, str] = {}
        present: set[BindingKey] = set()
        for namespace in self._namespaces or ("",):
            for obj in self._api.each(namespace):
                key = key_of(obj)
                present.add(key)
                known = self._sight(key) is not None
                if self._deliver(obj) and (known or self._announced):
                    suspects[key] = str(obj["metadata"]["resourceVersion"])
        with self._lock:
            missing = [key for key, sight in self._sights.items() if key not in present and sight.seen_at < began]
        for key in missing:
            if self.proves_absent(key):
                self._vanish(key)
        self._suspects = suspects
        self._listed_at = time.monotonic()
        if not self._announced and self._sink is not None:
            self._announced = True
            self._sink.listed(NAME)

    def _hear(self, kind: str | None, obj: Json) -> None:
        key = key_of(obj)
        if kind == "DELETED":
            self._vanish(key, str(obj["metadata"].get("uid", "")))
            return
        self._deliver(obj)
        version = str(obj["metadata"]["resourceVersion"])
        with self._lock:
            sight = self._sights.get(key)
            if sight is not None and is_newer(version, sight.watched):
                self._sights[key] = replace(sight, watched=version)

    def _deliver(self, obj: Json) -> bool:
        """Give an object to the engine, unless it is no news; True when it was."""
        key = key_of(obj)
        with self._delivering:
            with self._lock:
                old = self._sights.get(key)
                now = time.monotonic()
                if old is not None and not is_newer(str(obj["metadata"].get("resourceVersion", "")), old.version):
                    self._sights[key] = replace(old, seen_at=now)
                    return False
                item = item_of(obj, self._nomad_namespace, old)
                sight = sight_of(obj, now, item, old.watched if old is not None else "")
                if sight.deleting and not sight.adopted:
                    # Never ours, or let go by us or by force: nothing to wait for any more.
                    self._sights.pop(key, None)
                else:
                    self._sights[key] = sight
            if sight.deleting and not sight.adopted:
                if old is not None:
                    self._tell_vanished(key)
            elif self._sink is not None:
                self._sink.upsert(item)
            return True

    def _vanish(self, key: BindingKey, uid: str = "") -> None:
        with self._delivering:
            with self._lock:
                sight = self._sights.get(key)
                if sight is None or (uid and sight.uid != uid):
                    return
                del self._sights[key]
            self._tell_vanished(key)

    def _tell_vanished(self, key: BindingKey) -> None:
        with self._lock:
            releasing = key in self._releasing
        if not releasing and self._sink is not None:
            self._sink.vanished(key)

    def _sight(self, key: BindingKey) -> Sight | None:
        with self._lock:
            return self._sights.get(key)

    def _post(self, obj: Json, transition: Transition) -> None:
        try:
            self._api.event(
                obj, warning=transition.kind == "Warning", reason=transition.reason, message=transition.message
            )
        except ServiceError as error:
            # The status says the same and is written: an event that is lost is no reason to do it all again.
            _log.warning("event cannot be posted", binding=str(key_of(obj)), error=str(error))
