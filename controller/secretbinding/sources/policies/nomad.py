"""Policies in Nomad variables of the controller's own namespace: `nomad-vault/policies/<name>`."""

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from secretbinding.engine.policies import PolicySink
from secretbinding.errors import Denied, ManifestError, Problem, SecretBindingError
from secretbinding.loops import Loop
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policies
from secretbinding.ports import Nomad, VariableMeta
from secretbinding.sources.policies.kept import Kept

_log = structlog.get_logger(__name__)

NAME = "nomad"
POLICIES = "nomad-vault/policies/"
MANIFEST_ITEM = "manifest"
# A name that nobody gives a policy: only whoever may read there is told that there is none.
_PROBE = POLICIES + "-"
_RETRY_MAX_SECONDS = 30.0


class NomadPolicies:
    """Watches by blocking queries. Nomad answers a list without rights with `200 []`, so that an empty one, and a
    policy that is missing, count only when a read of just that place is not refused."""

    name = NAME

    def __init__(self, nomad: Nomad, namespace: str, *, wait_seconds: float = 60.0) -> None:
        self._nomad = nomad
        self._namespace = namespace
        self._wait_seconds = wait_seconds
        self._texts: dict[str, tuple[int, str]] = {}
        self._kept = Kept(NAME)
        self._stopping = threading.Event()
        self._sink: PolicySink | None = None
        self._loop = Loop("policies-nomad")
        self._thread = threading.Thread(target=self._run, name="policies-nomad", daemon=True)

    def start(self, sink: PolicySink) -> None:
        self._sink = sink
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            # A blocking query ends with the process; waiting for its answer would take up to its wait time.
            self._thread.join(timeout=0.5)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round in it."""
        return (self._loop,)

    def _run(self) -> None:
        index = failures = 0
        while self._sink is not None and not self._stopping.is_set():
            try:
                wait = self._wait_seconds if index else 0.0
                self._loop.turned(wait)
                found, rows = self._nomad.list_variables(self._namespace, POLICIES, index=index, wait_seconds=wait)
                self.take(self._sink, rows)
                failures = 0
                # An index that goes back means another server or a restored state: begin anew.
                index = found if found >= index else 0
            except SecretBindingError as error:
                if self._stopping.is_set():
                    # Whoever stops the controller may have stopped Nomad as well.
                    return
                failures += 1
                index = 0
                _log.error("policies cannot be read, and stay as they are", error=str(error))
                self._sink.failed(NAME, str(error))
                pause = min(_RETRY_MAX_SECONDS, 2.0 ** min(failures, 6) / 2)
                self._loop.turned(pause)
                self._stopping.wait(pause * random.uniform(0.5, 1.0))

    def take(self, sink: PolicySink, rows: Sequence[VariableMeta]) -> None:
        """Read what is new in a listing, and deliver all. Raises `errors.ServiceError` subclasses, and then nothing is
        concluded."""
        texts: dict[str, tuple[int, str]] = {}
        for row in rows:
            known = self._texts.get(row.path)
            if known is not None and known[0] == row.modify_index:
                texts[row.path] = known
            elif (variable := self._nomad.read_variable(self._namespace, row.path)) is not None:
                texts[row.path] = (variable.modify_index, str(variable.items.get(MANIFEST_ITEM, "")))
        for path in sorted(set(self._texts) - set(texts)) or ([] if texts else [_PROBE]):
            variable = self._nomad.read_variable(self._namespace, path)
            if variable is not None:
                raise Denied(
                    f"{path} is there and not listed",
                    system="nomad",
                    remedy=f"let the controller list and read {POLICIES}* in namespace {self._namespace}",
                )
        self._texts = texts
        held: dict[str, Callable[[], list[SecretBindingPolicy]]] = {
            path: partial(_parse, path, text) for path, (_, text) in texts.items()
        }
        self._kept.take(held)
        sink.deliver(NAME, self._kept.policies, self._kept.unreadable)


def _parse(path: str, text: str) -> list[SecretBindingPolicy]:
    place = f"variable {path}"
    if not text:
        message = f"the variable has no item `{MANIFEST_ITEM}`"
        raise ManifestError([Problem(message, f"put the whole manifest into `{MANIFEST_ITEM}`", file=place)])
    return parse_policies(text, file=place)
