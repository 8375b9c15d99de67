"""A version that waits goes on waiting when the user registers the job from its file, without our part."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.ports import Json
from tests.support.builders import binding, job, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import MemoryNomad, Process, Servers

CLOSED = {"windows": [{"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}]}
WORKLOAD = WorkloadKey("default", "", "default", "web")


class Scene:
    """A job that is served version 1 under a controller, its binding made with `rotation`; the job's file is without
    secrets."""

    def __init__(self, rotation: dict[str, Any], *, settle_seconds: float = 0.0) -> None:
        self.file: Json = {**job(), "ID": "web", "Name": "web"}
        self.servers = Servers()
        self.rotation = rotation
        self.servers.vault.put("app")
        self.servers.nomad.add(self.file)
        self.servers.nomad.finish()
        self.bind()
        self.process = Process(self.servers, settle_seconds=settle_seconds).start()
        self.process.run(12.0)
        assert self.pins == {1}

    def bind(self) -> None:
        self.servers.bind(binding(kv(path="app"), with_spec(rotation=self.rotation), name="b", job="web"))

    def write(self, *fields: str) -> None:
        """Somebody writes a version, and the controller has seen it."""
        self.servers.vault.put("app", *fields)
        self.process.run(40.0)

    def deploy(self, command: str = "/bin/new", *, seconds: float = 3.0) -> None:
        """The user runs the job file with a change of theirs."""
        changed = copy.deepcopy(self.file)
        changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = command
        self.servers.nomad.add(changed)
        self.look(seconds)

    def look(self, seconds: float = 3.0, *, finish: bool = True) -> None:
        self.process.engine.wake([WORKLOAD])
        self.process.run(seconds, finish=finish)

    @property
    def pins(self) -> set[int]:
        return self.servers.nomad.pins("web")

    @property
    def rotation_reason(self) -> str:
        return self.servers.reason("b", ConditionType.ROTATION_HEALTHY.value)

    @property
    def command(self) -> str:
        there = self.servers.nomad.jobs["web"].job or {}
        return str(there["TaskGroups"][0]["Tasks"][0]["Config"]["command"])


@pytest.mark.parametrize(
    ("rotation", "reason"),
    [({"strategy": "Manual"}, Reason.MANUAL_ROTATION_PENDING), (CLOSED, Reason.NEW_VERSION_HELD)],
    ids=["Manual", "a closed window"],
)
def test_what_waits_goes_on_waiting_when_the_job_comes_from_its_file(rotation: dict[str, Any], reason: Reason) -> None:
    scene = Scene(rotation)
    scene.write()
    scene.deploy()
    assert (scene.command, scene.pins, scene.rotation_reason) == ("/bin/new", {1}, reason)
    status = scene.servers.status("b").secrets[0]
    assert (status.serving_version, status.wanted_version) == ("1", "2")


def test_a_request_rolls_what_went_on_waiting() -> None:
    scene = Scene({"strategy": "Manual"})
    scene.write()
    scene.deploy()
    scene.process.run(70.0)
    scene.servers.ask("b")
    for key in scene.servers.items:
        scene.process.source.deliver(key)
    scene.process.run(12.0)
    assert scene.pins == {2}


def test_deployments_of_the_user_do_not_put_off_the_end_of_an_interval() -> None:
    scene = Scene({"minInterval": "10m"})
    scene.write()
    for number in range(5):
        scene.deploy(f"/bin/v{number}", seconds=120.0)
        if number < 3:
            assert scene.pins == {1}
    assert scene.pins == {2}


def test_a_version_that_lacks_a_field_is_not_taken_for_want_of_another() -> None:
    scene = Scene({})
    scene.write("other")
    assert scene.rotation_reason == Reason.SECRET_FIELD_MISSING
    scene.deploy()
    assert (scene.pins, scene.rotation_reason) == ({1}, Reason.SECRET_FIELD_MISSING)


def test_a_version_that_failed_is_not_tried_again_and_the_job_gets_back_what_worked() -> None:
    scene = Scene({})
    scene.servers.vault.put("app")
    scene.process.run(40.0, finish=False)
    scene.servers.nomad.finish(success=False)
    scene.look()
    assert (scene.pins, scene.rotation_reason) == ({1}, Reason.DEPLOYMENT_REVERTED)
    scene.servers.nomad.add(scene.file)
    scene.look()
    assert (scene.pins, scene.rotation_reason) == ({1}, Reason.DEPLOYMENT_REVERTED)


def test_what_need_not_wait_comes_with_the_users_change_in_one_registration() -> None:
    scene = Scene({}, settle_seconds=60.0)
    scene.servers.vault.put("app")
    scene.process.run(40.0)
    assert scene.pins == {1}
    scene.servers.writes.forget()
    scene.deploy()
    assert scene.pins == {2}
    assert scene.servers.writes.external()["registration"] == 1


def test_a_version_that_is_gone_is_not_put_back() -> None:
    scene = Scene({"strategy": "Manual"})
    scene.write()
    scene.servers.vault.delete("app", 1)
    scene.deploy()
    assert scene.pins == {2}


def test_a_first_injection_takes_the_newest_though_an_earlier_binding_of_that_name_had_another() -> None:
    scene = Scene({"strategy": "Manual"})
    scene.write()
    (key,) = scene.servers.items
    item = scene.servers.items[key]
    scene.servers.items[key] = replace(item, deleting=True)
    scene.process.source.deliver(key)
    scene.process.run(12.0)
    assert scene.pins == set()
    assert key not in scene.servers.items
    scene.servers.items[key] = item
    scene.process.source.deliver(key)
    scene.process.run(12.0)
    assert scene.pins == {2}


def test_a_job_that_is_purged_comes_again_with_the_newest() -> None:
    scene = Scene({"strategy": "Manual"})
    scene.write()
    scene.servers.nomad.jobs.clear()
    scene.look()
    scene.deploy()
    assert scene.pins == {2}


@pytest.mark.parametrize("lacking", [False, True], ids=["all is well", "the job lacks a secret that has one version"])
def test_the_history_is_asked_for_only_when_it_can_tell_of_an_older_version(
    monkeypatch: pytest.MonkeyPatch, lacking: bool
) -> None:
    scene = Scene({"strategy": "Manual"})
    if lacking:
        scene.servers.vault.delete("app", 1)
        scene.deploy()
        assert scene.rotation_reason == Reason.SECRET_VERSION_DELETED
    asked: Counter[str] = Counter()
    versions = MemoryNomad.versions

    def counted(self: MemoryNomad, namespace: str, job_id: str) -> Sequence[Json]:
        asked["versions"] += 1
        return versions(self, namespace, job_id)

    monkeypatch.setattr(MemoryNomad, "versions", counted)
    for _ in range(5):
        scene.look()
    assert asked["versions"] == 0
    scene.servers.vault.put("app")
    scene.deploy("/bin/other")
    assert asked["versions"] > 0


def test_a_newest_version_that_is_deleted_lets_the_job_have_the_one_before() -> None:
    scene = Scene({})
    scene.servers.vault.put("app")
    scene.servers.vault.delete("app", 2)
    scene.process.run(40.0)
    scene.deploy()
    assert (scene.pins, scene.rotation_reason) == ({1}, Reason.SECRET_VERSION_DELETED)
