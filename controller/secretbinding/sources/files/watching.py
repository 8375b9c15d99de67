"""The source for `run`: files and directories, looked at every few seconds."""

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from secretbinding.errors import ManifestError, Problem
from secretbinding.loops import Loop
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import identify
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.base import Pulse, Sink
from secretbinding.sources.files.deciding import (
    CONFIRMATION,
    Decision,
    FileState,
    Known,
    decide,
    is_confirmed,
    read_confirmation,
)
from secretbinding.sources.files.listing import Place, listing, printable, read_inside, unreadable
from secretbinding.sources.files.reading import NAME, bindings_of, manifests_in
from secretbinding.sources.files.tenants import Tenants
from secretbinding.status.transitions import Transition
from secretbinding.strictyaml import DEFAULT_LIMITS
from secretbinding.strictyaml import load as load_yaml

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
_MOVING = "the files keep changing"
# A file written again within its time stamp's resolution looks unchanged: one this young is read again.
_YOUNG_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Seen:
    place: Place
    digest: bytes
    state: FileState
    read_at: float


class FilesSource:
    """Bindings in the given files and directories. All of them together are one source.

    Absence is a deletion only when every path of the tenant could be listed and every file in it could be read, and
    nothing changed meanwhile: a file that is replaced, or a directory behind a symbolic link that is swapped, is seen
    whole or not at all. See `deciding.decide` for what is held nonetheless. What was never seen by this process, as
    after a restart, is not taken for deleted either: other files of the same instance may have been applied by hand. A
    file `.secretbinding-confirm-removal` in a watched directory confirms: `tenant/name` in it, or `*`, is removed; in
    a directory with a tenant, what is of that tenant.

    Statuses go to the log, a line for each transition.
    """

    name = NAME

    def __init__(
        self,
        paths: Sequence[str],
        *,
        nomad_namespace: str = "default",
        interval_seconds: float = 2.0,
        tenants: Tenants | None = None,
    ) -> None:
        """Without `tenants`, each manifest names its own as its namespace."""
        self._paths = tuple(paths)
        self._tenants = tenants or Tenants((), trusting=True)
        self._nomad_namespace = nomad_namespace
        self._interval_seconds = interval_seconds
        self._seen: dict[str, _Seen] = {}
        self._known: Mapping[BindingKey, Known] = {}
        self._removed: set[BindingKey] = set()
        self._confirmed: frozenset[str] = frozenset()
        self._complete = False
        self._unsure: frozenset[str] = frozenset()
        self._announced = False
        self._told: dict[str, str] = {}
        self._strangers: set[BindingKey] = set()
        self._held = 0
        self._heard = time.monotonic()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._loop = Loop("files-source")
        self._thread = threading.Thread(target=self._run, name="files-source", daemon=True)
        self._sink: Sink | None = None

    def start(self, sink: Sink) -> None:
        self._sink = sink
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def prepare(self, key: BindingKey) -> None:
        """A file takes no finalizer: what is left of a binding is found by its mark."""

    def report(self, key: BindingKey, status: SecretBindingStatus, transitions: Sequence[Transition]) -> None:
        for transition in transitions:
            log = _log.warning if transition.kind == "Warning" else _log.info
            more = {"message": transition.message} if transition.message else {}
            log(transition.reason.value, binding=f"{key.tenant}/{key.name}", **more)

    def gone(self, key: BindingKey) -> None:
        _log.info("Removed", binding=f"{key.tenant}/{key.name}")

    def proves_absent(self, key: BindingKey) -> bool:
        with self._lock:
            if not self._complete or key.tenant in self._unsure or key in self._known:
                return False
            if key in self._removed or is_confirmed(key, self._confirmed):
                return True
            new = key not in self._strangers
            self._strangers.add(key)
        if new:
            _log.warning(
                "a binding that is in no file has left its rights in Vault, and nothing is removed: "
                f"delete it with `secretbinding delete`, or name it in {CONFIRMATION}",
                binding=f"{key.tenant}/{key.name}",
            )
        return False

    def healthy(self, now: float) -> str:
        silent = now - self._heard
        limit = 5 * self._interval_seconds + 30
        return f"the files could not be listed for {silent:.0f} s" if silent > limit else ""

    def pulse(self) -> Pulse:
        return Pulse(self._heard, self._held, (self._thread,), (self._loop,))

    def scan(self, sink: Sink) -> None:
        """Look at all files once and tell `sink` what changed."""
        found = self._settled()
        if found is None:
            with self._lock:
                self._complete = False
            return
        self._tell_problems(found)
        with self._lock:
            confirmed = self._confirmation()
            decision = decide(self._known, found, confirmed, self._nomad_namespace)
            self._known, self._confirmed, self._complete = decision.known, confirmed, decision.complete
            self._unsure = decision.unsure
            self._held = len(decision.held)
            self._removed = (self._removed | set(decision.vanished)) - set(decision.known)
            announce = decision.complete and not self._announced
            self._announced = self._announced or announce
        self._heard = time.monotonic()
        self._tell_held(decision)
        for item in decision.changed:
            sink.upsert(item)
        for key in decision.vanished:
            sink.vanished(key)
        if announce:
            sink.listed(NAME)

    def _run(self) -> None:
        sink = self._sink
        self._loop.turned()
        while sink is not None and not self._stopping.is_set():
            self.scan(sink)
            self._loop.turned(self._interval_seconds)
            self._stopping.wait(self._interval_seconds)

    def _settled(self) -> dict[str, FileState] | None:
        """All files as they are together at one time; None when they cannot be listed or do not keep still. A tenant
        whose files alone do not is one of whom nothing is known now."""
        trouble = _MOVING
        for attempt in range(_ATTEMPTS):
            try:
                before = listing(self._paths, self._tenants)
                states = {printable(path): self._state(path, place) for path, place in before.items()}
                after = listing(self._paths, self._tenants)
            except OSError as error:
                trouble = str(unreadable(error.filename or ", ".join(self._paths), error))
                continue
            moving = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            tenants = {place.tenant for found in (before, after) for path, place in found.items() if path in moving}
            others = {state.tenant for state in states.values() if state.tenant} - tenants
            if moving and (attempt + 1 < _ATTEMPTS or None in tenants or not others):
                trouble = _MOVING
                continue
            self._seen = {path: self._seen[path] for path in before if path in self._seen}
            self._once("listing", "")
            for path in sorted(moving):
                tenant = (before.get(path) or after[path]).tenant
                name = printable(path)
                states[name] = FileState(problems=(Problem(_MOVING, file=name),), opaque=True, tenant=tenant)
            return states
        self._once("listing", f"nothing is concluded from the files: {trouble}")
        return None

    def _state(self, path: str, place: Place) -> FileState:
        """What a file holds; read again only when it seems to have changed, parsed again only when it has."""
        if place.problem is not None:
            return FileState(problems=(place.problem,), opaque=True, tenant=place.tenant)
        seen = self._seen.get(path)
        young = seen is None or seen.read_at - place.signature[0] / 1e9 <= _YOUNG_SECONDS
        if seen is not None and seen.place == place and not young:
            return seen.state
        read_at = time.time()
        try:
            data = read_inside(place, limit=DEFAULT_LIMITS.max_bytes + 1)
        except OSError as error:
            # Where it is gone, the second listing tells.
            self._seen.pop(path, None)
            return FileState(problems=(unreadable(path, error),), opaque=True, tenant=place.tenant)
        digest = hashlib.sha256(data).digest()
        same = seen is not None and seen.digest == digest and seen.place.tenant == place.tenant
        name = printable(path)
        state = seen.state if seen is not None and same else read_state(data, name, self._nomad_namespace, place.tenant)
        self._seen[path] = _Seen(place, digest, state, read_at)
        return state

    def _confirmation(self) -> frozenset[str]:
        confirmed: frozenset[str] = frozenset()
        for path in self._paths:
            tenant = None if self._tenants.are_directories(path) else self._tenants.of(path)
            try:
                where = Place(real=os.path.join(path, CONFIRMATION))
                text = read_inside(where, limit=DEFAULT_LIMITS.max_bytes).decode()
            except (OSError, ValueError):
                continue
            confirmed |= read_confirmation(text, tenant)
        return confirmed

    def _tell_problems(self, files: Mapping[str, FileState]) -> None:
        for path, state in files.items():
            text = "\n".join(str(problem) for problem in state.problems)
            if self._once(path, text, log=False):
                for problem in state.problems:
                    _log.error("a manifest cannot be used, and what was made from it stays", problem=str(problem))

    def _tell_held(self, decision: Decision) -> None:
        names = ", ".join(f"{key.tenant}/{key.name}" for key in decision.held[:10])
        text = f"{decision.why}; nothing is deleted ({names})" if decision.held else ""
        if text:
            text += f": put them back, or name them in {CONFIRMATION} to confirm"
        self._once("held", text)

    def _once(self, topic: str, text: str, *, log: bool = True) -> bool:
        """Log an error when it is new; True then."""
        if self._told.get(topic, "") == text:
            return False
        self._told[topic] = text
        if text and log:
            _log.error(text)
        return bool(text)


def read_state(data: bytes, path: str, nomad_namespace: str, tenant: str | None = None) -> FileState:
    """What a file's text holds; of `tenant`, or where that is None, of the one that each manifest names."""
    try:
        loaded = tuple(bindings_of(data, path, nomad_namespace=nomad_namespace, tenant=tenant))
        return FileState(loaded=loaded, tenant=tenant)
    except ManifestError as error:
        problems = error.problems
    if tenant == "":
        return FileState(problems=problems, tenant=tenant)
    try:
        manifests = [value for _, _, value in manifests_in(load_yaml(data, file=path))]
    except ManifestError:
        return FileState(problems=problems, opaque=True, tenant=tenant)
    identities = tuple(identify(value) for value in manifests)
    opaque = any(identity.name is None for identity in identities) or not identities
    return FileState(problems=problems, identities=identities, opaque=opaque, tenant=tenant)
