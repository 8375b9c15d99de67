"""What is gone after a start is taken out only when it is proven gone, and not too much of it at once."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from secretbinding.desired.values import BindingInput, Observed
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.reconciler import Reconciler
from secretbinding.kinds.base import Fault, Right
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Vault
from secretbinding.render.policy import PolicyDocument, policy_text
from secretbinding.sources.base import Source
from secretbinding.status import Pass
from tests.support.world import wait_until

INSTANCE = "default"


def workload(name: str) -> WorkloadKey:
    return WorkloadKey("default", "", "default", name)


def key(name: str) -> BindingKey:
    return BindingKey("nomad", "default", name)


class Policies:
    """A Vault that has the policies of the given bindings."""

    def __init__(self, names: Sequence[str], *, retain: bool = False) -> None:
        self.texts: dict[str, str] = {}
        for name in names:
            owner = Owner(INSTANCE, key(name))
            document = PolicyDocument(owner, workload(name), (Right("secret/data/a", ("read",)),), retain=retain)
            self.texts[policy_name(owner)] = policy_text(document)

    def list_policies(self) -> Sequence[str]:
        return tuple(self.texts)

    def read_policy(self, name: str) -> str | None:
        return self.texts.get(name)

    def read_jwt_role(self, mount: str, name: str) -> None:
        return None


class Blank:
    """A source without bindings, which proves any binding absent, or none."""

    name = "nomad"

    def __init__(self, *, proves: bool) -> None:
        self._proves = proves
        self.asked: set[str] = set()

    def start(self, sink: Any) -> None:
        sink.listed(self.name)

    def stop(self) -> None:
        pass

    def proves_absent(self, key: BindingKey) -> bool:
        self.asked.add(key.name)
        return self._proves


class Recorder:
    """Notes which jobs would be worked on, and for which bindings that are going."""

    def __init__(self) -> None:
        self.going: set[str] = set()
        self.lock = threading.Lock()

    def run(self, workload: WorkloadKey, bindings: Sequence[BindingInput]) -> Pass:
        with self.lock:
            self.going.update(item.key.name for item in bindings if item.deleting)
        return Pass(INSTANCE, Observed(workload), error=Fault(Reason.NOMAD_UNREACHABLE, "not now"))


def taken_out(names: Sequence[str], *, proves: bool = True, retain: bool = False, confirmed: str = "") -> set[str]:
    return swept(names, proves=proves, retain=retain, confirmed=confirmed)[0]


def swept(
    names: Sequence[str], *, proves: bool = True, retain: bool = False, confirmed: str = ""
) -> tuple[set[str], Mapping[str, int]]:
    """What is taken out after a start, and what the engine tells of what it holds, by source."""
    vault, source, recorder = Policies(names, retain=retain), Blank(proves=proves), Recorder()
    settings = EngineSettings(confirmed_removals=frozenset({confirmed} - {""}))
    engine = Engine(cast(Reconciler, recorder), cast(Vault, vault), settings)
    engine.add_source(cast(Source, source))
    engine.start()
    try:
        if not retain:
            wait_until("every policy was looked at", lambda: source.asked == set(names), timeout=5)
        wait_until("the sweep is over", lambda: engine.sweeps > 0, timeout=5)
        wait_until("nothing is due", lambda: engine.queue.idle(within=0.1), timeout=5)
    finally:
        engine.stop()
    return recorder.going, engine.held


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_one_or_two_that_are_gone_are_taken_out(names: list[str]) -> None:
    assert taken_out(names) == set(names)


def test_three_of_a_source_that_shows_none_are_held() -> None:
    assert swept(["a", "b", "c"]) == (set(), {"nomad": 3})


@pytest.mark.parametrize("confirmed", ["nomad", "*"])
def test_what_is_confirmed_is_taken_out(confirmed: str) -> None:
    assert swept(["a", "b", "c"], confirmed=confirmed) == ({"a", "b", "c"}, {})


def test_a_confirmation_for_another_source_confirms_nothing() -> None:
    assert taken_out(["a", "b", "c"], confirmed="kubernetes") == set()


def test_what_the_source_cannot_prove_gone_stays() -> None:
    assert taken_out(["a"], proves=False) == set()


def test_what_was_retained_stays() -> None:
    assert taken_out(["a"], retain=True) == set()
