"""Every kind of job: which the controller registers for a new version, which it leaves alone, and what it says."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.devstack.api import quoted
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from tests.support.commandline import CommandLine, cli
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

__all__ = ["cli"]

ROTATION = ConditionType.ROTATION_HEALTHY
Json = dict[str, Any]


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def of_kind(name: str, kind: str, **changes: Any) -> Json:
    """A job of another kind whose task does the same as that of a service."""
    job = a_job(name, Type=kind, **changes)
    group = job["TaskGroups"][0]
    del group["Update"]
    if kind == "sysbatch":
        del group["ReschedulePolicy"]
    return job


def injected(world: World, cli: CommandLine, tmp_path: Path, manifest: Json, job: Json) -> Json:
    """The job as `secretbinding inject` makes it for a binding that the controller has already."""
    binding, job_file = tmp_path / "binding.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(manifest))
    job_file.write_text(json.dumps({"Job": {**job, "Namespace": "default"}}))
    cli.use(world.stack)
    ran = cli("inject", "-f", str(binding), str(job_file), "--source", "nomad", "--no-rights")
    assert ran.code == 0, ran.err
    found: Json = json.loads(ran.out)["Job"]
    return found


def with_secrets(world: World, unique: str, paths: Sequence[str]) -> Json:
    """A binding of a secret at each path: DB_USER and DB_PASS from the first, K1, K2, ... from the others."""
    manifest = a_manifest(unique, unique, paths[0])
    for number, path in enumerate(paths[1:], 1):
        entry = {"name": f"s{number}", "kv": {"mount": "secret", "path": path}, "env": {f"K{number}": "key"}}
        manifest["spec"]["secrets"].append(entry)
    return manifest


def told(world: World, unique: str) -> SecretBindingStatus:
    found = world.status(unique)
    assert found is not None
    return found


def allocations(world: World, name: str) -> set[str]:
    return {item["ID"] for item in world.running_allocations(name)}


@pytest.mark.parametrize("kind", ["batch", "sysbatch"])
def test_work_that_would_run_again_is_never_registered_for_whatever_reason_and_the_status_says_so(
    world: World, cli: CommandLine, tmp_path: Path, unique: str, kind: str
) -> None:
    manifest = a_manifest(unique, unique, unique)
    world.secret(unique, username="app", password="one")
    world.secret(f"{unique}-b", key="k1")
    with world.running():
        world.bind(manifest)
        world.await_reason(unique, Reason.JOB_NOT_FOUND)
        world.register(injected(world, cli, tmp_path, manifest, of_kind(unique, kind)))
        wait_until("it runs with the secret", lambda: world.seen(unique) == ["app one"])
        world.await_reason(unique, Reason.READY)
        index, running = world.job(unique)["JobModifyIndex"], allocations(world, unique)

        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.UNSUPPORTED_JOB_TYPE, ROTATION)
        assert "app version 2 is taken when the job is registered again" in world.message(unique, ROTATION)
        status = told(world, unique)
        assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
        stalled = status.condition(ConditionType.STALLED)
        assert stalled is not None
        assert stalled.status is ConditionStatus.FALSE

        # A wider binding: its rights are there at once, for whoever registers the job anew.
        world.bind(with_secrets(world, unique, (unique, f"{unique}-b")))
        world.await_reason(unique, Reason.UNSUPPORTED_JOB_TYPE, ConditionType.JOB_SYNCED)
        assert "without s1" in world.message(unique, ConditionType.JOB_SYNCED)
        (policy,) = world.policies(having=unique)
        assert f"secret/data/{unique}-b" in world.policy(policy)

        # A narrower one: what the job was registered with stays readable while it runs.
        narrow = with_secrets(world, unique, (unique, f"{unique}-b"))
        del narrow["spec"]["secrets"][0]
        world.bind(narrow)
        wait_until("it is looked at", lambda: [one.name for one in told(world, unique).secrets] == ["s1"])
        assert f'secret/data/{unique}"' in world.policy(policy)

        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
        assert world.policies(having=unique) == [policy]
        assert (world.job(unique)["JobModifyIndex"], allocations(world, unique)) == (index, running)
        world.api.delete(f"/v1/job/{unique}").expect(200)
        wait_until("the rights go with the job", lambda: not world.policies(having=unique))
        wait_until("the role too", lambda: not world.roles(having=unique))


def launch(world: World, unique: str, parent: str) -> str:
    """Start a child of a periodic or parameterized job; its ID."""
    before = {row["ID"] for row in world.children(unique)}
    if parent == "Periodic":
        # Children of one second have one name: a second launch would take the place of the first.
        wait_until("another second", lambda: f"{unique}/periodic-{int(time.time())}" not in before)
        world.api.put(f"/v1/job/{unique}/periodic/force").expect(200)
        wait_until("another child", lambda: {row["ID"] for row in world.children(unique)} > before)
    else:
        world.api.put(f"/v1/job/{unique}/dispatch", {}).expect(200)
    (made,) = {row["ID"] for row in world.children(unique)} - before
    return str(made)


PARENTS: dict[str, Json] = {"Periodic": {"Specs": ["0 0 1 1 *"]}, "ParameterizedJob": {}}


@pytest.mark.parametrize("parent", list(PARENTS))
def test_only_later_children_get_a_new_version_and_rights_stay_as_long_as_an_older_one_runs(
    world: World, unique: str, parent: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(of_kind(unique, "batch", **{parent: PARENTS[parent]}))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        assert "children" in world.message(unique, ROTATION)
        first = launch(world, unique, parent)
        wait_until("the first child has version 1", lambda: world.seen(first) == ["app one"])
        running = allocations(world, first)
        world.secret(unique, username="app", password="two")
        wait_until("the parent pins version 2", lambda: "?version=2" in str(world.job(unique)))
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        second = launch(world, unique, parent)
        wait_until("the second child has version 2", lambda: world.seen(second) == ["app two"])
        assert allocations(world, first) == running
        assert world.seen(first) == ["app one"]

        world.unbind(unique)
        wait_until("the parent is given back", lambda: "secretbinding" not in str(world.job(unique)["TaskGroups"]))
        assert len(world.policies(having=unique)) == 1
        third = launch(world, unique, parent)
        wait_until("the third child has nothing", lambda: world.seen(third) == [""])
        for child in (first, second):
            assert len(world.policies(having=unique)) == 1
            world.api.delete(f"/v1/job/{quoted(child)}").expect(200)
        wait_until("the rights are gone", lambda: not world.policies(having=unique) and not world.roles(having=unique))
        world.api.delete(f"/v1/job/{quoted(third)}").expect(200)


def test_a_stopped_job_gets_its_secrets_when_it_is_started(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    world.api.delete(f"/v1/job/{unique}").expect(200)
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.JOB_STOPPED)
        assert world.job(unique)["JobModifyIndex"] == index
        world.register({**world.job(unique), "Stop": False})
        wait_until("it has them", lambda: world.seen(unique) == ["app one"])
        world.await_reason(unique, Reason.READY)


def test_a_job_that_is_scaled_to_zero_is_kept_up_to_date_and_comes_back_with_the_newest(
    world: World, unique: str
) -> None:
    def scale(count: int) -> None:
        body = {"Count": count, "Target": {"Group": "app"}}
        wait_until("it is scaled", lambda: world.api.put(f"/v1/job/{unique}/scale", body).status == 200)

    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=2))
    world.deployed(unique)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.deployed(unique)
        scale(0)
        wait_until("nothing runs", lambda: world.running_allocations(unique) == [])
        world.secret(unique, username="app", password="two")
        wait_until("it is pinned", lambda: "?version=2" in str(world.job(unique)))
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.reason(unique) == Reason.READY
        scale(2)
        wait_until("both have it", lambda: world.seen(unique) == ["app two"] * 2)


def test_five_secrets_that_change_together_make_one_deployment(world: World, unique: str) -> None:
    paths = [unique, *(f"{unique}-{number}" for number in range(1, 5))]
    world.secret(unique, username="app", password="one")
    for path in paths[1:]:
        world.secret(path, key="one")
    world.register(a_job(unique, count=2))
    world.deployed(unique)
    manifest = with_secrets(world, unique, paths)
    manifest["spec"]["rotation"] = {"settle": "2s"}
    with world.running():
        world.bind(manifest)
        world.await_reason(unique, Reason.READY)
        world.deployed(unique)
        before = len(world.deployments(unique))
        world.secret(unique, username="app", password="two")
        for path in paths[1:]:
            world.secret(path, key="two")
        wait_until("both have the new one", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert str(world.job(unique)).count("?version=2") == 5
        assert len(world.deployments(unique)) == before + 1
