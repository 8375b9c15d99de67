"""The source for `run`: files and directories, looked at every few seconds."""

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from secretbinding.errors import ManifestError
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
from secretbinding.sources.files.reading import (
    NAME,
    Signature,
    bindings_of,
    files_below,
    manifests_in,
    signature,
    unreadable,
)
from secretbinding.sources.files.tenants import Tenants
from secretbinding.status.transitions import Transition
from secretbinding.strictyaml import load as load_yaml

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
# A file written again within its time stamp's resolution looks unchanged: one this young is read again.
_YOUNG_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature
    digest: bytes
    state: FileState
    read_at: float


class FilesSource:
    """Bindings in the given files and directories. All of them together are one source.

    Absence is a deletion only when every path could be listed and every file in it could be read, and nothing changed
    meanwhile: a file that is replaced, or a directory behind a symbolic link that is swapped, is seen whole or not at
    all. See `deciding.decide` for what is held nonetheless. What was never seen by this process, as after a restart, is
    not taken for deleted either: other files of the same instance may have been applied by hand. A file
    `.secretbinding-confirm-removal` in a watched directory confirms: `tenant/name` in it, or `*`, is removed.

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
            if not self._complete or key in self._known:
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
        """All files as they are together at one time; None when they cannot be listed or do not keep still."""
        trouble = "the files keep changing"
        for _ in range(_ATTEMPTS):
            try:
                before = self._listing()
                states = {path: self._state(path, sign) for path, sign in before.items()}
                if self._listing() == before:
                    self._seen = {path: self._seen[path] for path in before}
                    self._once("listing", "")
                    return states
            except OSError as error:
                trouble = str(unreadable(error.filename or ", ".join(self._paths), error))
        self._once("listing", f"nothing is concluded from the files: {trouble}")
        return None

    def _listing(self) -> dict[str, Signature]:
        files: dict[str, Signature] = {}
        for path in self._paths:
            if os.path.isdir(path):
                files |= files_below(path)
            else:
                files[path] = signature(os.stat(path))
        return files

    def _state(self, path: str, sign: Signature) -> FileState:
        """What a file holds; read again only when it seems to have changed, parsed again only when it has."""
        seen = self._seen.get(path)
        if seen is not None and seen.signature == sign and seen.read_at - sign[0] / 1e9 > _YOUNG_SECONDS:
            return seen.state
        read_at = time.time()
        try:
            with open(path, "rb") as file:
                data = file.read()
        except PermissionError as error:
            state = FileState(problems=(unreadable(path, error),), opaque=True)
            self._seen[path] = _Seen(sign, b"", state, read_at)
            return state
        digest = hashlib.sha256(data).digest()
        same = seen is not None and seen.digest == digest
        tenant = self._tenants.of(path)
        state = seen.state if seen is not None and same else read_state(data, path, self._nomad_namespace, tenant)
        self._seen[path] = _Seen(sign, digest, state, read_at)
        return state

    def _confirmation(self) -> frozenset[str]:
        confirmed: frozenset[str] = frozenset()
        for path in self._paths:
            try:
                with open(os.path.join(path, CONFIRMATION), encoding="utf-8") as file:
                    confirmed |= read_confirmation(file.read())
            except (OSError, ValueError):
                continue
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
