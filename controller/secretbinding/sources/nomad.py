"""Bindings that are kept in Nomad variables: `nomad-vault/bindings/<name>` in the tenant's own Nomad namespace."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from secretbinding.errors import Denied, ManifestError, Problem, SecretBindingError
from secretbinding.loops import Loop
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import identify, parse_manifests
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import MESSAGE_LENGTH, SecretBindingStatus
from secretbinding.models.text import cut
from secretbinding.ports import Nomad, Variable, VariableMeta
from secretbinding.sources.base import Pulse, Sink, SourceItem
from secretbinding.status.transitions import Transition
from secretbinding.strictyaml import load

_log = structlog.get_logger(__name__)

NAME = "nomad"
BINDINGS = "nomad-vault/bindings/"
REQUESTS = "nomad-vault/requests/"
STATUS = "nomad-vault/status/"
MANIFEST_ITEM = "manifest"
REQUEST_ITEM = "rotateRequestedAt"
GENERATE_ITEM = "generateRequestedAt"
_NO_REQUEST = (0, "", "")
_RETRY_MAX_SECONDS = 30.0
# Names and values of a variable together, in bytes (Nomad: nomad/structs/variables.go).
_MOST_BYTES = 64 * 1024
_MESSAGE_BYTES = (MESSAGE_LENGTH, 1024, 256, 64)

_Take = Callable[[Iterable[VariableMeta]], bool]
"""Takes what is listed; whether it is known of all of it, and of what is missing, what it is."""


@dataclass(frozen=True, slots=True)
class _Known:
    index: int
    item: SourceItem


class NomadSource:
    """Watches variables by blocking queries, one for bindings and one for requests in each namespace given (`*` for
    all that the token may see).

    Nomad answers a list without rights with `200 []`, so that a variable that is missing from a list proves nothing:
    each is asked for by itself, where 404 and 403 differ. Status variables are written and never read as input, but
    for the times of transitions.
    """

    name = NAME

    def __init__(self, nomad: Nomad, namespaces: Sequence[str] = ("*",), *, wait_seconds: float = 60.0) -> None:
        self._nomad = nomad
        self._namespaces = tuple(namespaces)
        self._wait_seconds = wait_seconds
        self._known: dict[BindingKey, _Known] = {}
        self._requests: dict[BindingKey, tuple[int, str, str]] = {}
        # Held until what was taken in has been delivered: bindings and their requests come from threads of their own.
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._listed: set[str] = set()
        self._held: dict[str, frozenset[BindingKey]] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loops: list[Loop] = []

    def start(self, sink: Sink) -> None:
        for namespace in self._namespaces:
            self._watch(namespace, BINDINGS, partial(self._take_bindings, namespace, sink))
            self._watch(namespace, REQUESTS, partial(self._take_requests, sink))

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            # A blocking query ends with the process; waiting for its answer would take up to its wait time.
            thread.join(timeout=0.5)

    def prepare(self, key: BindingKey) -> None:
        """A variable takes no finalizer: what is left of one that was deleted is found by its mark in Vault."""

    def report(self, key: BindingKey, status: SecretBindingStatus, transitions: Sequence[Transition]) -> None:
        self._nomad.write_variable(key.tenant, STATUS + key.name, status_items(status))

    def gone(self, key: BindingKey) -> None:
        self._nomad.delete_variable(key.tenant, STATUS + key.name)

    def proves_absent(self, key: BindingKey) -> bool:
        return self._nomad.read_variable(key.tenant, BINDINGS + key.name) is None

    def healthy(self, now: float) -> str:
        with self._lock:
            heard = dict(self._heard)
        silent = [
            place for place, moment in heard.items() if now - moment > 2 * self._wait_seconds + _RETRY_MAX_SECONDS
        ]
        return f"Nomad's variables have not been listed for {len(silent)} watch(es)" if silent else ""

    def pulse(self) -> Pulse:
        with self._lock:
            heard = min(self._heard.values(), default=time.monotonic())
            return Pulse(heard, sum(map(len, self._held.values())), tuple(self._threads), tuple(self._loops))

    def _watch(self, namespace: str, prefix: str, take: _Take) -> None:
        loop = Loop(f"variables-{namespace}")
        thread = threading.Thread(
            target=self._listen, args=(namespace, prefix, take, loop), name=loop.name, daemon=True
        )
        loop.turned()
        with self._lock:
            self._threads.append(thread)
            self._loops.append(loop)
            self._heard[f"{namespace}/{prefix}"] = time.monotonic()
        thread.start()

    def _listen(self, namespace: str, prefix: str, take: _Take, loop: Loop) -> None:
        index = failures = unread = 0
        while not self._stopping.is_set():
            try:
                # What could not be read, listed or missing, is tried again before anything changes.
                wait = min(self._wait_seconds, _pause(unread)) if unread else self._wait_seconds
                wait = wait if index else 0.0
                loop.turned(wait)
                found, rows = self._nomad.list_variables(namespace, prefix, index=index, wait_seconds=wait)
                unread = 0 if take(_each(rows, loop)) else unread + 1
                failures = 0
                # An index that goes back means another server or a restored state: begin anew.
                index = found if found >= index else 0
                with self._lock:
                    self._heard[f"{namespace}/{prefix}"] = time.monotonic()
            except SecretBindingError as error:
                if self._stopping.is_set():
                    # Whoever stops the controller may have stopped Nomad as well.
                    return
                failures += 1
                index = 0
                _log.warning("variables cannot be listed", namespace=namespace, prefix=prefix, error=str(error))
                pause = _pause(failures)
                loop.turned(pause)
                self._stopping.wait(pause)

    def _take_bindings(self, namespace: str, sink: Sink, rows: Iterable[VariableMeta]) -> bool:
        seen: set[BindingKey] = set()
        complete = True
        for row in rows:
            key = _key(row, BINDINGS)
            seen.add(key)
            known = self._known.get(key)
            if known is None or known.index != row.modify_index:
                complete &= self._look(key, sink)
        missing = [key for key in self._known if namespace in ("*", key.tenant) and key not in seen]
        held = frozenset(key for key in missing if not self._missing(namespace, key, sink))
        with self._lock:
            self._held[namespace] = held
        if namespace not in self._listed:
            self._listed.add(namespace)
            if self._listed == set(self._namespaces):
                sink.listed(NAME)
        return complete and not held

    def _look(self, key: BindingKey, sink: Sink) -> bool:
        """Read one binding. One that may be listed and not read keeps what it had, and does not stop the others."""
        try:
            self._read(key, sink)
        except Denied as error:
            _log.error("binding cannot be read", binding=str(key), error=str(error))
            return False
        return True

    def _read(self, key: BindingKey, sink: Sink) -> None:
        variable = self._nomad.read_variable(key.tenant, BINDINGS + key.name)
        if variable is None:
            return
        status = self._known[key].item.status if key in self._known else self._stored_status(key)
        item = replace(read_binding(key, variable), status=status)
        with self._lock:
            _, rotate, generate = self._requests.get(key, _NO_REQUEST)
            item = replace(item, rotate_requested_at=rotate, generate_requested_at=generate)
            self._known[key] = _Known(variable.modify_index, item)
            sink.upsert(item)

    def _missing(self, namespace: str, key: BindingKey, sink: Sink) -> bool:
        """Whether what became of a binding that is not listed any more could be found out."""
        try:
            there = self._nomad.read_variable(key.tenant, BINDINGS + key.name) is not None
        except Denied as error:
            if key not in self._held.get(namespace, ()):
                _log.error("binding is out of sight, nothing is deleted", binding=str(key), error=str(error))
            return False
        if not there:
            with self._lock:
                self._known.pop(key, None)
                sink.vanished(key)
        return True

    def _take_requests(self, sink: Sink, rows: Iterable[VariableMeta]) -> bool:
        complete = True
        for row in rows:
            key = _key(row, REQUESTS)
            if self._requests.get(key, _NO_REQUEST)[0] == row.modify_index:
                continue
            try:
                variable = self._nomad.read_variable(row.namespace, row.path)
            except Denied as error:
                _log.error("request cannot be read", binding=str(key), error=str(error))
                complete = False
                continue
            if variable is None:
                continue
            rotate, generate = (str(variable.items.get(name, "")) for name in (REQUEST_ITEM, GENERATE_ITEM))
            with self._lock:
                self._requests[key] = (row.modify_index, rotate, generate)
                known = self._known.get(key)
                if known is None:
                    continue
                item = replace(known.item, rotate_requested_at=rotate, generate_requested_at=generate)
                self._known[key] = _Known(known.index, item)
                sink.upsert(item)
        return complete

    def _stored_status(self, key: BindingKey) -> SecretBindingStatus:
        variable = self._nomad.read_variable(key.tenant, STATUS + key.name)
        return read_status(variable) if variable is not None else SecretBindingStatus()


def list_bindings(nomad: Nomad, namespace: str) -> list[SourceItem]:
    """The bindings of a Nomad namespace (`*` for all that the token may see), as they are now. None at all may mean
    that the token may not list: Nomad says the same then. Raises `errors.ServiceError` subclasses."""
    found: list[SourceItem] = []
    for row in nomad.list_variables(namespace, BINDINGS)[1]:
        key = _key(row, BINDINGS)
        variable = nomad.read_variable(key.tenant, row.path)
        if variable is not None:
            found.append(read_binding(key, variable))
    return found


def read_binding(key: BindingKey, variable: Variable) -> SourceItem:
    """The item that a variable amounts to; one that does not validate comes with its problems."""
    text = str(variable.items.get(MANIFEST_ITEM, ""))
    place = f"variable {variable.path}"
    try:
        if not text:
            message = f"the variable has no item `{MANIFEST_ITEM}`"
            raise ManifestError([Problem(message, f"put the whole manifest into `{MANIFEST_ITEM}`", file=place)])
        bindings = parse_manifests(text, file=place, source=NAME)
        if len(bindings) != 1:
            message = f"the variable holds {len(bindings)} manifests"
            raise ManifestError([Problem(message, "keep one binding in each variable", file=place)])
        binding = bindings[0]
        _check_identity(key, binding.metadata.name, binding.metadata.namespace, place)
    except ManifestError as error:
        return SourceItem(
            key, None, key.tenant, problems=error.problems, job=_named_job(text), generation=variable.modify_index
        )
    named = binding.spec.workload.namespace
    if named not in (None, key.tenant):
        problem = Problem(
            f"the binding is kept in Nomad namespace {key.tenant} and names a job of namespace {named}",
            f"keep it in a variable of namespace {named}, or leave spec.workload.namespace out",
            "spec.workload.namespace",
            place,
        )
        return SourceItem(
            key,
            None,
            key.tenant,
            problems=(problem,),
            refused=Reason.NAMESPACE_MISMATCH,
            job=binding.spec.workload.job,
            generation=variable.modify_index,
        )
    return SourceItem(key, binding, key.tenant, generation=variable.modify_index)


def status_items(status: SecretBindingStatus) -> dict[str, str]:
    """A status as a variable's items: the whole as JSON, and what people look for first by itself. Where Nomad would
    not take so much, the messages are cut, and at last the whole is left out: what people look for always arrives."""
    for most in _MESSAGE_BYTES:
        items = _items(_with_messages(status, most))
        if sum(len(name.encode()) + len(text.encode()) for name, text in items.items()) <= _MOST_BYTES:
            return items
    return {name: text for name, text in items.items() if name != "status"}


def _items(status: SecretBindingStatus) -> dict[str, str]:
    whole = json.dumps(status.to_json(), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    items = {"status": whole}
    ready = status.condition(ConditionType.READY)
    if ready is not None:
        items |= {"ready": ready.status.value, "reason": ready.reason}
        if ready.message:
            items["message"] = ready.message
    rotation = status.condition(ConditionType.ROTATION_HEALTHY)
    if rotation is not None:
        items["rotation"] = rotation.reason
    return items


def _with_messages(status: SecretBindingStatus, most: int) -> SecretBindingStatus:
    """The status with messages of at most so many bytes each."""
    conditions = tuple(one.model_copy(update={"message": cut(one.message, most)}) for one in status.conditions)
    secrets = tuple(
        one.model_copy(update={"message": cut(one.message, most)}) if one.message is not None else one
        for one in status.secrets
    )
    return status.model_copy(update={"conditions": conditions, "secrets": secrets})


def read_status(variable: Variable) -> SecretBindingStatus:
    """The status that a variable holds; an empty one when it holds none that can be read."""
    try:
        return SecretBindingStatus.read(json.loads(variable.items.get("status", "")))
    except (ValueError, RecursionError):
        return SecretBindingStatus()


def _named_job(text: str) -> str:
    """The job that a manifest which does not validate names, as far as that can be read."""
    try:
        documents = load(text)
    except ManifestError:
        return ""
    return (identify(documents[0].value).job or "") if len(documents) == 1 else ""


def _check_identity(key: BindingKey, name: str, namespace: str | None, place: str) -> None:
    if name != key.name:
        message = f"the variable is named {key.name} and the binding {name}"
        raise ManifestError([Problem(message, f"keep it in {BINDINGS}{name}", "metadata.name", place)])
    if namespace not in (None, key.tenant):
        message = f"the variable is in Nomad namespace {key.tenant} and the binding names {namespace}"
        raise ManifestError([Problem(message, "leave metadata.namespace out", "metadata.namespace", place)])


def _pause(failures: int) -> float:
    """Seconds to the next try after so many in vain."""
    return min(_RETRY_MAX_SECONDS, 2.0 ** min(failures, 6)) * random.uniform(0.5, 1.0)


def _key(row: VariableMeta, prefix: str) -> BindingKey:
    return BindingKey(NAME, row.namespace, row.path.removeprefix(prefix))


def _each(rows: Iterable[VariableMeta], loop: Loop) -> Iterator[VariableMeta]:
    """Thousands that are read one after the other are no hanging loop."""
    for row in rows:
        loop.turned()
        yield row
