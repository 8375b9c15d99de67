"""A request for a roll is answered once, by whoever has the job, and not before it can be."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from secretbinding.engine.store import Store
from secretbinding.errors import Denied
from secretbinding.models.key import BindingKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.ports import KvMetadata, StaticRole
from secretbinding.sources.base import SourceItem
from tests.support.builders import Modifier, binding, database, generic, job, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import MemorySource, MemoryVault, Process, Servers

LOOKS = 40.0
"""What a change may take to be seen."""
KEY = BindingKey(MemorySource.name, "team", "b")
HOUR = 3600.0


class Vault(MemoryVault):
    """With a static role whose password people rotate, and looks at secrets that may be refused."""

    rotated = "2026-03-02T11:00:00Z"
    refuses = False

    def rotate(self) -> None:
        self.rotated = self._clocks.vault_now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        return StaticRole(self.rotated)

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        if self.refuses:
            raise Denied(f"reading {path} is refused", system="vault")
        return super().kv_metadata(mount, path)


class Scene:
    """A job with a binding, and controllers that come and go."""

    def __init__(self, *secrets: Modifier, **rotation: Any) -> None:
        self.servers = Servers()
        self.vault = Vault(self.servers.clocks, self.servers.writes)
        self.servers.vault = self.vault
        self.secrets = secrets or (kv("s", path="s"),)
        self.rotation = {"settle": "0s", **rotation}
        self.vault.put("s")
        self.servers.nomad.add({**job(), "ID": "j", "Name": "j"})
        self.servers.nomad.finish()
        self.bind()
        self.process = Process(self.servers).start()
        self.process.run(LOOKS)
        assert self.servers.reason("b", "Ready") == "Ready"

    def bind(self, **fields: Any) -> None:
        asked = self.servers.items[KEY].rotate_requested_at if KEY in self.servers.items else ""
        self.servers.bind(binding(*self.secrets, with_spec(rotation=self.rotation, **fields), name="b", job="j"))
        self.servers.items[KEY] = replace(self.servers.items[KEY], rotate_requested_at=asked)

    def ask(self, *, ahead: float = 0.0, deliver: bool = True) -> None:
        """Somebody asks whose clock is so many seconds ahead of ours."""
        at = self.servers.clocks.now() + timedelta(seconds=ahead)
        self.servers.items[KEY] = replace(self.servers.items[KEY], rotate_requested_at=at.isoformat())
        if deliver:
            self.process.source.deliver(KEY)

    def run(self, seconds: float = LOOKS, **how: Any) -> None:
        self.process.run(seconds, **how)

    def restart(self, *, stored: bool) -> None:
        """Another process; where nothing is `stored`, as with files, it knows of no status."""
        if not stored:
            self.servers.statuses.clear()
        self.process = Process(self.servers).start()

    @property
    def rolls(self) -> int:
        """How often the job was registered since the secrets were put in."""
        return self.servers.nomad.registrations()["j"] - 1

    @property
    def handled(self) -> bool:
        told = self.servers.status("b").last_handled_rotate_at
        return told == self.servers.items[KEY].rotate_requested_at


# --- dated ahead of the clock -----------------------------------------------------------------------------------------


def leased() -> Modifier:
    def add(made: dict[str, Any]) -> None:
        generic("app", mount="gen", path="x")(made)
        made["spec"]["secrets"][-1]["generic"]["maxTTL"] = "1h"

    return add


def test_a_request_from_the_future_stops_no_replacement_of_leases() -> None:
    scene = Scene(leased())
    scene.ask(ahead=70 * 365 * 24 * HOUR)
    scene.run(3 * HOUR)
    assert scene.rolls >= 3
    assert not scene.handled


def test_a_request_with_the_right_clock_after_one_from_the_future_rolls_at_once() -> None:
    scene = Scene(leased())
    scene.ask(ahead=24 * HOUR)
    scene.run()
    assert scene.rolls == 0
    scene.ask()
    scene.run(5.0)
    assert (scene.rolls, scene.handled) == (1, True)


def test_a_request_that_is_dated_ahead_is_answered_when_its_time_comes() -> None:
    scene = Scene(strategy="Manual")
    scene.vault.put("s")
    scene.run()
    scene.ask(ahead=100.0)
    scene.run(95.0)
    assert (scene.rolls, scene.handled) == (0, False)
    scene.run(10.0)
    assert (scene.rolls, scene.handled) == (1, True)


# --- answered by another process --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False], ids=["a status is stored", "none is"])
@pytest.mark.parametrize("kind", ["static role", "kv"])
def test_a_restart_does_not_roll_for_a_request_that_was_answered(kind: str, stored: bool) -> None:
    scene = Scene(database(staticRole="sr") if kind == "static role" else kv("s", path="s"), strategy="Manual")

    def change() -> None:
        scene.vault.rotate()
        scene.vault.put("s")

    change()
    scene.run()
    scene.ask()
    scene.run(5.0)
    assert (scene.rolls, scene.handled) == (1, True)
    change()
    scene.run()
    scene.restart(stored=stored)
    scene.run(2 * HOUR)
    assert scene.rolls == 1
    assert scene.servers.reason("b", "RotationHealthy") == "ManualRotationPending"


@pytest.mark.parametrize("stored", [True, False], ids=["a status is stored", "none is"])
@pytest.mark.parametrize("kind", ["static role", "kv"])
def test_a_request_that_was_made_while_no_controller_ran_is_answered_by_the_next_one(kind: str, stored: bool) -> None:
    scene = Scene(database(staticRole="sr") if kind == "static role" else kv("s", path="s"), strategy="Manual")
    scene.vault.rotate()
    scene.vault.put("s")
    scene.run()
    scene.servers.clocks.passed += 60.0
    scene.ask(deliver=False)
    scene.servers.clocks.passed += HOUR
    scene.restart(stored=stored)
    scene.run()
    assert (scene.rolls, scene.handled) == (1, True)


@pytest.mark.parametrize("ahead", [0.0, 30.0])
def test_a_held_failure_is_not_tried_again_by_a_restart_for_a_request_that_was_answered(ahead: float) -> None:
    scene = Scene()
    scene.vault.put("s")
    scene.run(finish=False)
    scene.servers.nomad.finish(success=False)
    scene.run(20.0, finish=False)
    before = scene.rolls
    scene.ask(ahead=ahead)
    scene.run(ahead + 5.0, finish=False)
    scene.servers.nomad.finish(success=False)
    scene.run(20.0, finish=False)
    after = scene.rolls
    assert after > before
    for _ in range(2):
        scene.servers.clocks.passed += HOUR
        scene.restart(stored=False)
        scene.run(20.0, finish=False)
    assert scene.rolls == after


def standing_by(*, kind: str) -> tuple[Scene, Process, set[str]]:
    """A scene, and a controller that was there from the beginning and has no job until the set names it."""
    scene = Scene(database(staticRole="sr") if kind == "static role" else kv("s", path="s"), strategy="Manual")
    standby, mine = Process(scene.servers), set[str]()
    standby.engine._owns = lambda workload: workload.job in mine
    standby.engine.store._owns = standby.engine._owns
    return scene, standby.start(), mine


@pytest.mark.parametrize("kind", ["static role", "kv"])
def test_a_standby_that_takes_over_does_not_answer_again_though_it_was_told_of_no_status(kind: str) -> None:
    scene, standby, mine = standing_by(kind=kind)
    scene.vault.rotate()
    scene.vault.put("s")
    scene.run()
    scene.ask()
    # It hears of the request, and not of the status that the other one writes.
    standby.source.deliver(KEY)
    scene.run(5.0)
    assert (scene.rolls, scene.handled) == (1, True)
    scene.servers.clocks.passed += 10.0
    scene.vault.rotate()
    scene.vault.put("s")
    scene.run()
    mine.add("j")
    standby.engine.gained(lambda workload: True)
    standby.run(HOUR)
    assert scene.rolls == 1
    assert scene.servers.reason("b", "RotationHealthy") == "ManualRotationPending"


def test_a_standby_that_takes_over_answers_what_the_other_one_did_not() -> None:
    scene, standby, mine = standing_by(kind="static role")
    scene.vault.rotate()
    scene.run()
    scene.ask(deliver=False)
    standby.source.deliver(KEY)
    mine.add("j")
    standby.engine.gained(lambda workload: True)
    standby.run(LOOKS)
    assert (scene.rolls, scene.handled) == (1, True)


def told(at: str, **fields: Any) -> SecretBindingStatus:
    return SecretBindingStatus(last_handled_rotate_at=at, **fields)


@pytest.mark.parametrize("owns", [True, False])
def test_what_another_controller_has_answered_is_no_request(owns: bool) -> None:
    store, at = Store(owns=lambda workload: owns), "2026-01-01T00:00:00Z"
    item = SourceItem(KEY, binding(kv(path="s"), name="b", job="j"), "default", rotate_requested_at=at)
    store.upsert(item)
    assert store.upsert(replace(item, status=told(at))) == set()
    entry = store.get(KEY)
    assert entry is not None
    assert entry.input.rotate_requested_at is None


def test_a_standby_goes_on_from_the_status_that_the_other_one_wrote_last() -> None:
    mine = False
    store = Store(owns=lambda workload: mine)
    item = SourceItem(KEY, binding(kv(path="s"), name="b", job="j"), "default", status=told("1"))
    store.upsert(item)
    store.upsert(replace(item, status=told("2")))
    entry = store.get(KEY)
    assert entry is not None
    assert entry.status == told("2")
    mine = True
    store.set_status(KEY, told("3"))
    store.upsert(replace(item, status=told("2")))
    store.upsert(replace(item, status=told("1")))
    entry = store.get(KEY)
    assert entry is not None
    assert entry.status == told("3")


def test_a_request_by_a_clock_that_is_behind_is_as_new_as_its_arrival() -> None:
    now = datetime.fromisoformat("2026-01-01T00:00:30+00:00")
    store = Store(now=lambda: now)
    item = SourceItem(KEY, binding(kv(path="s"), name="b", job="j"), "default")
    store.upsert(item)
    store.upsert(replace(item, rotate_requested_at="2026-01-01T00:00:00Z"))
    entry = store.get(KEY)
    assert entry is not None
    assert entry.input.rotate_requested_at == now


# --- not answered yet -------------------------------------------------------------------------------------------------


def test_a_request_is_kept_until_its_secret_can_be_looked_at() -> None:
    scene = Scene(strategy="Manual")
    scene.vault.put("s")
    scene.run()
    scene.vault.refuses = True
    scene.run()
    scene.ask()
    scene.run()
    assert (scene.rolls, scene.handled) == (0, False)
    scene.vault.refuses = False
    scene.run(2 * HOUR)
    assert (scene.rolls, scene.handled) == (1, True)


def test_what_is_written_after_a_request_that_is_kept_is_not_rolled_for_it() -> None:
    scene = Scene(strategy="Manual")
    scene.vault.refuses = True
    scene.run()
    scene.ask()
    scene.run(HOUR)
    assert not scene.handled
    scene.vault.put("s")
    scene.vault.refuses = False
    scene.run(2 * HOUR)
    assert (scene.rolls, scene.handled) == (0, True)
    assert scene.servers.reason("b", "RotationHealthy") == "ManualRotationPending"


def test_a_request_for_a_suspended_binding_is_answered_when_it_is_resumed() -> None:
    scene = Scene(strategy="Manual")
    scene.vault.put("s")
    scene.bind(suspend=True)
    scene.process.source.deliver(KEY)
    scene.run()
    scene.ask()
    scene.run()
    assert (scene.rolls, scene.handled) == (0, False)
    scene.bind()
    scene.process.source.deliver(KEY)
    scene.run()
    assert (scene.rolls, scene.handled) == (1, True)
