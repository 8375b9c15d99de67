"""Settling, windows, intervals and the number of rolls in flight, with the whole controller on both Nomads."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import SecretStatus
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, sampled, wait_until

NEVER_NOW = {"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def registrations(world: World, name: str) -> int:
    return int(world.job(name)["Version"])


def secret_status(world: World, name: str) -> SecretStatus:
    status = world.status(name)
    assert status is not None
    return status.secrets[0]


def test_five_secrets_that_change_within_the_settle_time_make_one_deployment(world: World, unique: str) -> None:
    secrets: list[dict[str, Any]] = []
    for number in range(5):
        world.secret(f"{unique}-{number}", value="one")
        kv = {"mount": "secret", "path": f"{unique}-{number}"}
        secrets.append({"name": f"s{number}", "kv": kv, "env": {f"DB_{number}": "value"}})
    manifest = a_manifest(unique, unique, unique, rotation={"settle": "3s"})
    manifest["spec"]["secrets"] = secrets
    world.register(a_job(unique, count=0))
    with world.running():
        world.bind(manifest)
        world.await_reason(unique, Reason.READY)
        before = registrations(world, unique)
        for number in range(5):
            world.secret(f"{unique}-{number}", value="two")
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        wait_until("all five are pinned", lambda: str(world.job(unique)).count("?version=2") == 5)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert registrations(world, unique) == before + 1


def test_a_closed_window_holds_a_new_version_and_a_request_opens_it(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"windows": [NEVER_NOW]}))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        assert "window" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        held = secret_status(world, unique)
        assert (held.serving_version, held.wanted_version) == ("1", "2")
        assert held.next_rotation_at is not None
        assert world.reason(unique) == Reason.READY
        assert world.seen(unique) == ["app one"]
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])


def test_a_job_is_not_rolled_again_before_its_interval_is_over(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"minInterval": "8s"}))
        world.await_reason(unique, Reason.READY)
        injected = datetime.fromtimestamp(world.job(unique)["SubmitTime"] / 1e9, UTC)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        wait_until("it is pinned in the end", lambda: "?version=2" in str(world.job(unique)))
        rolled = datetime.fromtimestamp(world.job(unique)["SubmitTime"] / 1e9, UTC)
        assert rolled - injected >= timedelta(seconds=7.9)


def test_a_shared_secret_rolls_no_more_jobs_at_once_than_may(stack: Stack, unique: str) -> None:
    world = World(stack, max_rolls=1)
    jobs = [f"{unique}-{number}" for number in range(3)]
    world.secret(unique, username="app", password="one")
    for name in jobs:
        world.register(a_job(name))

    def rolling() -> int:
        return sum(1 for name in jobs if world.deployment(name).get("Status") == "running")

    with world.running():
        for name in jobs:
            world.bind(a_manifest(name, name, unique))
        for name in jobs:
            world.await_reason(name, Reason.READY)
            world.deployed(name)
        with sampled(rolling, every=0.05) as samples:
            world.secret(unique, username="app", password="two")
            for name in jobs:
                wait_until(f"{name} has rolled", lambda name=name: world.seen(name) == ["app two"])
                world.deployed(name)
        assert max(samples) == 1


def test_what_rolled_before_a_restart_counts_among_those_that_may_roll(stack: Stack, unique: str) -> None:
    first, second = jobs = [f"{unique}-{name}" for name in "ab"]
    world = World(stack, max_rolls=1, workers=1)
    for name in jobs:
        world.secret(name, username="app", password="one")
        job = a_job(name, count=2)
        job["TaskGroups"][0]["Update"]["MinHealthyTime"] = 2_000_000_000
        world.register(job)
    with world.running():
        for name in jobs:
            world.bind(a_manifest(name, name, name))
        for name in jobs:
            world.await_reason(name, Reason.READY)
            world.deployed(name)
        world.secret(second, username="app", password="two")
        wait_until("it rolls", lambda: "?version=2" in str(world.job(second)))
    world.secret(first, username="app", password="two")

    def rolling() -> int:
        return sum(1 for name in jobs if world.deployment(name).get("Status") == "running")

    with sampled(rolling, every=0.05) as samples, world.running():
        for name in jobs:
            wait_until(f"{name} has rolled", lambda name=name: world.seen(name) == ["app two"] * 2)
            world.deployed(name)
    assert max(samples) == 1


def test_a_version_that_the_binding_names_is_rolled_in_a_closed_window(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.secret(unique, username="app", password="two")
    world.register(a_job(unique))
    manifest = a_manifest(unique, unique, unique, rotation={"windows": [NEVER_NOW]})
    with world.running():
        world.bind(manifest)
        world.await_reason(unique, Reason.READY)
        manifest["spec"]["secrets"][0]["kv"]["version"] = 1
        world.bind(manifest)
        wait_until("it rolls", lambda: world.seen(unique) == ["app one"])


def test_a_version_that_vault_is_about_to_prune_is_rolled_away_from_though_the_window_is_closed(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="1")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"windows": [NEVER_NOW]}))
        world.await_reason(unique, Reason.READY)
        for number in range(2, 10):
            world.secret(unique, username="app", password=str(number))
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        assert world.seen(unique) == ["app 1"]
        # With the tenth version the first is the oldest that Vault keeps: the eleventh prunes it.
        world.secret(unique, username="app", password="10")
        wait_until("it rolls", lambda: world.seen(unique) == ["app 10"])


@pytest.fixture
def three_kept(world: World) -> Iterator[None]:
    """The mount keeps three versions of a secret, though no secret says so."""
    config = "/v1/secret/config"
    world.vault.put(config, {"max_versions": 3}).expect(204)
    yield
    world.vault.put(config, {"max_versions": 0}).expect(204)


@pytest.mark.usefixtures("three_kept")
def test_a_version_that_its_mount_is_about_to_prune_is_rolled_away_from_before_that(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="1")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"windows": [NEVER_NOW]}))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="2")
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        assert world.seen(unique) == ["app 1"]
        world.secret(unique, username="app", password="3")
        wait_until("it rolls", lambda: world.seen(unique) == ["app 3"])
        kept = world.vault.get(f"/v1/secret/metadata/{unique}").json()["data"]["versions"]
        assert sorted(kept) == ["1", "2", "3"]


@pytest.mark.usefixtures("three_kept")
def test_a_job_that_is_rolled_on_request_only_is_warned_before_its_mount_prunes_what_it_has(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="1")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"strategy": "Manual"}))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="2")
        world.await_reason(unique, Reason.MANUAL_ROTATION_PENDING, ConditionType.ROTATION_HEALTHY)
        world.secret(unique, username="app", password="3")
        world.await_reason(unique, Reason.PINNED_VERSION_AT_RISK, ConditionType.ROTATION_HEALTHY)
        assert world.seen(unique) == ["app 1"]


def test_a_version_that_is_deleted_while_it_serves_is_rolled_away_from_at_once(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, rotation={"windows": [NEVER_NOW]}))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        world.vault.put(f"/v1/secret/destroy/{unique}", {"versions": [1]}).expect(200, 204)
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])


def test_the_next_child_of_a_parameterized_job_gets_the_new_version(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    job = a_job(unique, Type="batch", ParameterizedJob={})
    del job["TaskGroups"][0]["Update"]
    world.register(job)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)

        def dispatched() -> str:
            return str(world.api.put(f"/v1/job/{unique}/dispatch", {}).expect().json()["DispatchedJobID"])

        first = dispatched()
        wait_until("the first child sees version 1", lambda: world.seen(first) == ["app one"])
        world.secret(unique, username="app", password="two")
        wait_until("the parent pins version 2", lambda: "?version=2" in str(world.job(unique)))
        second = dispatched()
        wait_until("the second child sees version 2", lambda: world.seen(second) == ["app two"])
        assert world.seen(first) == ["app one"]
        for child in (first, second):
            world.api.delete(f"/v1/job/{child.replace('/', '%2F')}").expect()


def test_a_group_that_nomad_would_replace_all_at_once_is_rolled_on_request_only(world: World, unique: str) -> None:
    job = a_job(unique, count=2)
    job["TaskGroups"][0]["Update"]["MaxParallel"] = 0
    world.secret(unique, username="app", password="one")
    world.register(job)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        wait_until("both see version 1", lambda: world.seen(unique) == ["app one"] * 2)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.UNGATED_UPDATE, ConditionType.ROTATION_HEALTHY)
        assert "max_parallel" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        assert world.seen(unique) == ["app one"] * 2
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        wait_until("both see version 2", lambda: world.seen(unique) == ["app two"] * 2)
