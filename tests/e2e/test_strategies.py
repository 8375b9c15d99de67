"""The strategies Native and Manual: who acts on a new version, on what, and what the status says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import SecretBindingStatus
from tests.support.commandline import CommandLine, cli
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until, wary

__all__ = ["cli"]

ROTATION = ConditionType.ROTATION_HEALTHY
Json = dict[str, Any]

# A line for each start, and one for each signal.
RECORD = (
    "trap 'echo signal $(cat local/value) >> local/seen' HUP; echo start $(cat local/value) >> local/seen; "
    "while true; do sleep 0.05; done"
)
SCRIPT = 'echo script $(cat local/value) >> "$NOMAD_TASK_DIR/seen"'


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


@pytest.fixture
def cluster_world(cluster: Stack) -> World:
    """Its templates poll every two seconds; Nomad's own do every five minutes."""
    return World(cluster)


def told(world: World, unique: str) -> SecretBindingStatus:
    found = world.status(unique)
    assert found is not None
    return found


def versions(world: World, unique: str) -> tuple[str | None, str | None]:
    """(serving, wanted) of the first secret."""
    return told(world, unique).secrets[0].serving_version, told(world, unique).secrets[0].wanted_version


def native(unique: str, *entries: Json) -> Json:
    """A binding with strategy Native whose first secret is rendered into `local/value`."""
    manifest = a_manifest(unique, unique, unique, rotation={"strategy": "Native"})
    template = "{{ .Data.data.password }}"
    first = {
        "name": "app",
        "kv": {"mount": "secret", "path": unique},
        "files": [{"destination": "local/value", "template": template}],
        "splay": "0s",
    }
    manifest["spec"]["secrets"] = [{**first, **entries[0]}, *entries[1:]]
    return manifest


def lines(world: World, unique: str) -> list[str]:
    (text,) = world.seen(unique) or [""]
    return text.splitlines()


def rendered(world: World, unique: str) -> str:
    """What stands in `local/value`."""
    rows = world.running_allocations(unique)
    return world.api.get(f"/v1/client/fs/cat/{rows[0]['ID']}", path="web/local/value").text if rows else ""


MODES: dict[str, tuple[Json, Sequence[str]]] = {
    "default": ({}, ["start one", "start two"]),
    "Restart": ({"changeMode": "Restart"}, ["start one", "start two"]),
    "Signal": ({"changeMode": "Signal", "changeSignal": "SIGHUP"}, ["start one", "signal two"]),
    "Script": (
        {"changeMode": "Script", "changeScript": {"command": "/bin/sh", "args": ["-c", SCRIPT], "timeout": "5s"}},
        ["start one", "script two"],
    ),
    "Noop": ({"changeMode": "Noop"}, ["start one"]),
}


@pytest.mark.parametrize("mode", list(MODES))
def test_nomad_itself_acts_on_a_new_version_as_the_change_mode_says_and_the_controller_registers_nothing(
    cluster_world: World, unique: str, mode: str
) -> None:
    world = cluster_world
    entry, expected = MODES[mode]
    job = a_job(unique)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", RECORD]
    world.secret(unique, password="one")
    world.register(job)
    world.deployed(unique)
    with world.running() as controller:
        world.bind(native(unique, entry))
        world.await_reason(unique, Reason.READY)
        wait_until("it has started with version 1", lambda: lines(world, unique) == ["start one"])
        assert "?version" not in str(world.job(unique))
        assert "strategy Native" in world.message(unique, ROTATION)
        index = world.job(unique)["JobModifyIndex"]
        (before,) = (item["ID"] for item in world.running_allocations(unique))
        world.secret(unique, password="two")
        wait_until("the status knows of it", lambda: versions(world, unique) == (None, "2"))
        wait_until("the file has it", lambda: rendered(world, unique) == "two")
        wait_until("the task was told", lambda: lines(world, unique) == list(expected))
        assert world.reason(unique, ROTATION) == Reason.UP_TO_DATE
        assert world.reason(unique) == Reason.READY
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=1))
        assert world.job(unique)["JobModifyIndex"] == index
        assert [item["ID"] for item in world.running_allocations(unique)] == [before]


def test_each_secret_has_a_change_mode_of_its_own(cluster_world: World, unique: str) -> None:
    world = cluster_world
    job = a_job(unique)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", RECORD]
    world.secret(unique, password="one")
    world.secret(f"{unique}-b", key="k1")
    world.register(job)
    world.deployed(unique)
    quiet = {
        "name": "quiet",
        "kv": {"mount": "secret", "path": f"{unique}-b"},
        "files": [{"destination": "local/quiet", "template": "{{ .Data.data.key }}"}],
        "changeMode": "Noop",
    }
    with world.running():
        world.bind(native(unique, {"changeMode": "Signal", "changeSignal": "SIGHUP"}, quiet))
        world.await_reason(unique, Reason.READY)
        wait_until("it has started", lambda: lines(world, unique) == ["start one"])
        (row,) = world.running_allocations(unique)
        world.secret(f"{unique}-b", key="k2")
        path = f"/v1/client/fs/cat/{row['ID']}"
        wait_until("the quiet one is there", lambda: world.api.get(path, path="web/local/quiet").text == "k2")
        world.secret(unique, password="two")
        wait_until("the other one is told of", lambda: lines(world, unique) == ["start one", "signal two"])


def manual(world: World, unique: str) -> None:
    """Version 2 of a binding with strategy Manual waits; inside `world.running()`."""
    world.secret(unique, username="app", password="one")
    world.register(wary(a_job(unique, count=2)))
    world.deployed(unique)
    world.bind(a_manifest(unique, unique, unique, rotation={"strategy": "Manual"}))
    world.await_reason(unique, Reason.READY)
    world.deployed(unique)
    world.secret(unique, username="app", password="two")
    world.await_reason(unique, Reason.MANUAL_ROTATION_PENDING, ROTATION)
    assert "version 2 of app waits for `rotate`; version 1 serves" in world.message(unique, ROTATION)
    assert versions(world, unique) == ("1", "2")


def test_a_manual_roll_is_made_on_the_command_and_the_request_is_answered(
    world: World, cli: CommandLine, unique: str
) -> None:
    with world.running():
        manual(world, unique)
        index = world.job(unique)["JobModifyIndex"]
        assert world.seen(unique) == ["app one"] * 2
        cli.use(world.stack)
        asked = cli("rotate", unique, "--source", "nomad")
        assert asked.code == 0, asked.err
        moment = asked.out.split(" asked at ")[1].strip()
        wait_until("both see version 2", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert told(world, unique).last_handled_rotate_at == moment
        assert world.job(unique)["JobModifyIndex"] > index
        # The request was for that version; the next one waits for the next request.
        world.secret(unique, username="app", password="three")
        world.await_reason(unique, Reason.MANUAL_ROTATION_PENDING, ROTATION)
        assert world.seen(unique) == ["app two"] * 2


def test_a_version_that_waits_goes_on_waiting_when_the_job_is_registered_from_its_file(
    simulator: Stack, unique: str
) -> None:
    world = World(simulator)
    with world.running():
        manual(world, unique)
        world.register({**a_job(unique, count=2), "Meta": {"build": "2"}})
        wait_until("it has its secret again", lambda: "?version=1" in str(world.job(unique)))
        world.deployed(unique)
        wait_until("both see version 1", lambda: world.seen(unique) == ["app one"] * 2)
        world.await_reason(unique, Reason.MANUAL_ROTATION_PENDING, ROTATION)
        assert world.job(unique)["Meta"] == {"build": "2"}
        assert versions(world, unique) == ("1", "2")


def test_a_request_variable_is_answered_though_there_is_nothing_to_roll(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique, rotation={"strategy": "Manual"}))
        world.await_reason(unique, Reason.READY)
        index = world.job(unique)["JobModifyIndex"]
        asked = datetime.now(UTC).isoformat()
        world.request_rotation(unique, asked)
        wait_until("it is answered", lambda: told(world, unique).last_handled_rotate_at == asked)
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=0.5))
        assert world.job(unique)["JobModifyIndex"] == index


def test_a_manual_roll_that_fails_goes_back_and_waits_for_another_request(world: World, unique: str) -> None:
    with world.running():
        manual(world, unique)
        world.secret(unique, username="app", password="broken")
        wait_until("it is known", lambda: versions(world, unique) == ("1", "3"))
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        assert world.seen(unique) == ["app one"] * 2
        world.secret(unique, username="app", password="four")
        world.await_reason(unique, Reason.MANUAL_ROTATION_PENDING, ROTATION)
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        wait_until("both see version 4", lambda: world.seen(unique) == ["app four"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
