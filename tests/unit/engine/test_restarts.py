"""Starting, upgrading and failing over the controller rolls nothing by itself; what it was doing is done once."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.desired import compute
from secretbinding.job.inject import user_state
from secretbinding.job.marks import placed_marks
from secretbinding.models.binding import SecretBinding
from secretbinding.render import policy, template
from tests.support.builders import binding, job, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import INSTANCE, Process, Servers, Stopped

SETTLED = 40.0
"""Longer than a poll interval with its jitter: everything that there is to see has been seen."""
BROKEN = 99


def adopted(count: int) -> Servers:
    """Servers with so many bindings, each of a job and a secret of its own, and a controller's work on them done."""
    servers = Servers()
    for number in range(count):
        servers.vault.put(f"s{number}")
        name = f"j{number}"
        servers.nomad.add({**job(), "ID": name, "Name": name})
        servers.bind(bound(number))
    servers.nomad.finish()
    Process(servers).start().run(12.0)
    once = dict.fromkeys(["finalizer", "policy", "role", "registration"], count)
    assert servers.writes.external() == {**once, "status": 2 * count}
    assert {servers.reason(key.name, "Ready") for key in servers.items} == {"Ready"}
    servers.writes.forget()
    return servers


def bound(number: int, *modifiers: Any) -> SecretBinding:
    return binding(kv(path=f"s{number}"), *modifiers, name=f"b{number}", job=f"j{number}")


@pytest.fixture(scope="module")
def a_thousand() -> Servers:
    return adopted(1000)


@pytest.fixture(scope="module")
def some() -> Servers:
    return adopted(10)


@pytest.fixture
def servers(some: Servers) -> Servers:
    return copy.deepcopy(some)


# --- starts -----------------------------------------------------------------------------------------------------------


def test_a_restart_with_a_thousand_bindings_writes_nothing_at_all(a_thousand: Servers) -> None:
    servers = copy.deepcopy(a_thousand)
    process = Process(servers).start()
    process.run(SETTLED)
    assert len(process.passes) == 1000
    assert servers.writes.external() == {}


def test_a_version_that_was_written_meanwhile_rolls_each_of_a_thousand_jobs_once(a_thousand: Servers) -> None:
    servers = copy.deepcopy(a_thousand)
    for number in range(1000):
        servers.vault.put(f"s{number}")
    Process(servers).start().run(12.0)
    assert servers.writes.external() == {"registration": 1000, "status": 2000}
    assert {tuple(servers.nomad.pins(name)) for name in servers.nomad.jobs} == {(2,)}
    servers.writes.forget()
    Process(servers).start().run(12.0)
    assert servers.writes.external() == {}


def test_two_versions_that_were_written_meanwhile_make_one_roll(servers: Servers) -> None:
    for _ in range(2):
        servers.vault.put("s3")
        servers.clocks.passed += 60.0
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {"registration": 1, "status": 2}
    assert servers.nomad.pins("j3") == {3}


def test_a_version_and_a_changed_binding_meanwhile_make_one_registration(servers: Servers) -> None:
    servers.vault.put("s3")
    servers.bind(bound(3, kv("more", path="s4")))
    Process(servers).start().run(SETTLED)
    assert servers.writes.done["registration"] == 1
    assert servers.nomad.registrations()["j3"] == 2
    assert servers.nomad.pins("j3") == {1, 2}


def test_a_shared_secret_that_changed_meanwhile_rolls_each_job_that_uses_it_once(servers: Servers) -> None:
    for number in range(10):
        servers.bind(binding(kv(path="s0"), name=f"b{number}", job=f"j{number}"))
    Process(servers).start().run(SETTLED)
    servers.writes.forget()
    servers.vault.put("s0")
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {"registration": 10, "status": 20}


def test_a_restart_while_a_roll_is_running_registers_nothing(servers: Servers) -> None:
    servers.vault.put("s3")
    process = Process(servers).start()
    process.run(SETTLED, finish=False)
    assert servers.nomad.jobs["j3"].deployments[0]["Status"] == "running"
    servers.writes.forget()
    Process(servers).start().run(SETTLED, finish=False)
    assert servers.writes.external() == {}
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {"status": 1}
    assert servers.reason("b3", "RotationHealthy") == "UpToDate"


def test_a_failed_version_is_not_tried_again_by_a_new_process(servers: Servers) -> None:
    fail(servers)
    servers.writes.forget()
    for _ in range(3):
        servers.nomad.jobs["j3"].forget_deployments()
        Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {}
    assert servers.reason("b3", "RotationHealthy") == "DeploymentReverted"


def fail(servers: Servers) -> None:
    """A version of the secret of `j3` whose deployment fails and is reverted."""
    servers.vault.put("s3")
    process = Process(servers).start()
    process.run(5.0, finish=False)
    servers.nomad.finish(success=False)
    process.run(SETTLED)
    assert servers.nomad.pins("j3") == {1}


# --- upgrades ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def newer_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that writes the same things in other words: templates, policies and roles."""
    env_body, format_text = template._env_body, template._format_text
    quoted, role_body = policy._quoted, compute.role_body

    def roles(*arguments: Any) -> dict[str, Any]:
        body = role_body(*arguments)
        return {name: body[name] for name in sorted(body, reverse=True)}

    monkeypatch.setattr(template, "_env_body", lambda *given: f"\n{{{{/* newer */}}}}{env_body(*given)}\n\n")
    monkeypatch.setattr(template, "_format_text", lambda *given: f" {format_text(*given)}")
    monkeypatch.setattr(policy, "_quoted", lambda given: [f" {word} " for word in quoted(given)])
    monkeypatch.setattr(compute, "role_body", roles)


def test_a_release_that_writes_everything_in_other_words_changes_nothing(servers: Servers, newer_release: None) -> None:
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {}


def test_its_words_come_with_the_next_real_change(servers: Servers, newer_release: None) -> None:
    servers.vault.put("s3")
    servers.bind(bound(4, kv("more", path="s5")))
    Process(servers).start().run(SETTLED)
    assert servers.writes.done["registration"] == 2
    assert "newer" in str(servers.nomad.jobs["j3"].job)
    assert [name for kind, name in servers.writes.names if kind == "policy"] == [
        name for name in servers.vault.policies if ".b4." in name
    ]
    servers.writes.forget()
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {}


def test_going_back_to_the_older_release_changes_nothing_either(
    servers: Servers, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context():
        request.getfixturevalue("newer_release")
        servers.vault.put("s3")
        servers.bind(bound(4, kv("more", path="s5")))
        Process(servers).start().run(SETTLED)
    monkeypatch.undo()
    servers.writes.forget()
    Process(servers).start().run(SETTLED)
    assert servers.writes.external() == {}


# --- stopped between two writes ---------------------------------------------------------------------------------------

Step = Callable[[Servers], None]


def _version(servers: Servers) -> None:
    servers.vault.put("s3")


def _bad_version(servers: Servers) -> None:
    for _ in range(BROKEN):
        servers.vault.put("s3", max_versions=BROKEN)


def _changed(servers: Servers) -> None:
    servers.vault.put("s3")
    servers.bind(bound(3, kv("more", path="s4")))


def _without_more(servers: Servers) -> None:
    servers.bind(bound(3, with_spec(rotation={"settle": "0s"})))


def _removed(servers: Servers) -> None:
    for key, item in servers.items.items():
        if key.name == "b3":
            servers.items[key] = type(item)(key, item.binding, item.nomad_namespace, deleting=True)


@dataclass(frozen=True, slots=True)
class Life:
    """What people do, one after the other, and whether Nomad reverts what fails."""

    steps: Sequence[Step]
    auto_revert: bool = True


LIVES = {
    "from injection to removal": Life((_version, _changed, _without_more, _removed)),
    "with a version that fails and is reverted": Life((_version, _bad_version)),
    "with a version that fails and is taken back": Life((_version, _bad_version), auto_revert=False),
}
all_lives = pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())


def live(life: "Life", stops: Callable[[int, str], bool]) -> tuple[Servers, int, int]:
    """A binding's life, from its first injection on. `stops` says whether the controller is killed at a write (by its
    number), before or after it took effect; another one is started then. Returns also how many writes there were and
    how many times it was killed."""
    servers = Servers()
    servers.vault.put("s3")
    servers.vault.put("s4")
    servers.nomad.add({**job(), "ID": "j3", "Name": "j3"})
    servers.nomad.jobs["j3"].auto_revert = life.auto_revert
    servers.nomad.finish()
    servers.bind(bound(3))
    count = kills = 0

    def hook(when: str) -> Callable[[str, str], None]:
        def at_write(kind: str, name: str) -> None:
            nonlocal count, kills
            count += when == "before"
            if stops(count, when):
                kills += 1
                raise Stopped

        return at_write

    servers.writes.before, servers.writes.after = hook("before"), hook("after")

    def finish(*, success: bool = True) -> None:
        del success
        for name, each in servers.nomad.jobs.items():
            each.finish_deployment(success=BROKEN not in servers.nomad.pins(name))

    servers.nomad.finish = finish  # type: ignore[method-assign]
    for step in (lambda servers: None, *life.steps):
        step(servers)
        for _ in range(20):
            try:
                Process(servers).start().run(SETTLED)
                break
            except Stopped:
                continue
        else:
            raise AssertionError("it was killed again and again")
    return servers, count, kills


def outcome(servers: Servers) -> dict[str, Any]:
    """All that is left of a life, times aside."""
    statuses = {
        key.name: [(c.type, c.status, c.reason) for c in status.conditions]
        + [(one.serving_version, one.wanted_version) for one in status.secrets]
        for key, status in servers.statuses.items()
    }
    there = servers.nomad.jobs["j3"].job
    placed = placed_marks(there, INSTANCE)
    tags = [(v["Version"], (v.get("VersionTag") or {}).get("Name")) for v in servers.nomad.jobs["j3"].versions]
    return {
        "registrations": servers.nomad.registrations(),
        "share": [(item.group, item.task, item.mark.slot, item.mark.pin and item.mark.pin.version) for item in placed],
        "user": user_state(there, INSTANCE),
        "tags": tags,
        "policies": servers.vault.policies,
        "roles": servers.vault.roles,
        "statuses": statuses,
    }


def undisturbed(life: Life) -> tuple[dict[str, Any], int]:
    servers, count, kills = live(life, lambda number, when: False)
    assert kills == 0
    return outcome(servers), count


@pytest.mark.parametrize("when", ["before", "after"])
@all_lives
def test_a_controller_that_is_killed_at_any_write_leaves_what_another_one_finishes_without_a_further_job_version(
    life: Life, when: str
) -> None:
    wanted, writes = undisturbed(life)
    assert writes >= 10
    for at in range(1, writes + 1):
        servers, _, kills = live(life, lambda number, moment, at=at: (number, moment) == (at, when))
        assert kills == 1
        assert outcome(servers) == wanted, f"killed {when} write {at}"


@given(st.sets(st.tuples(st.integers(1, 40), st.sampled_from(["before", "after"])), min_size=2, max_size=12))
@settings(max_examples=25, deadline=None, derandomize=True)
@all_lives
def test_so_does_one_that_is_killed_again_and_again(life: Life, stops: set[tuple[int, str]]) -> None:
    wanted, _ = undisturbed(life)
    servers, _, _ = live(life, lambda number, when: (number, when) in stops)
    assert outcome(servers) == wanted


# --- failing over -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["registration", "status"])
def test_a_second_controller_that_takes_over_in_the_middle_of_a_pass_makes_no_second_registration(
    servers: Servers, kind: str, when: str
) -> None:
    """The first one does not know, and goes on where it was."""
    taken_over: list[Process] = []

    def take_over(written: str, name: str) -> None:
        if written == kind and not taken_over:
            taken_over.append(Process(servers))
            taken_over[0].start().run(5.0)

    setattr(servers.writes, when, take_over)
    servers.vault.put("s3")
    first = Process(servers).start()
    first.run(SETTLED)
    taken_over[0].run(SETTLED)
    first.run(SETTLED)
    assert servers.nomad.registrations()["j3"] == 2
    assert servers.writes.done["registration"] == 1
    assert servers.nomad.pins("j3") == {2}
    assert servers.reason("b3", "RotationHealthy") == "UpToDate"
