"""Policies, with the whole controller: what is refused gets nothing, what is tightened goes, what is loosened comes."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, forget_bindings, wait_until

Json = dict[str, Any]


@pytest.fixture
def world(stack: Stack, unique: str) -> Iterator[World]:
    """A controller that asks policies, of which one is there that allows nothing here."""
    forget_bindings(stack)
    made = World(stack, tenancy="policies", instance=unique[-20:].strip("-").lower())
    made.allow(rule("somebody-else", ["elsewhere/*"]))
    yield made
    for row in made.api.get("/v1/vars", prefix="nomad-vault/policies/", namespace=NAMESPACE).expect().json():
        made.api.delete(f"/v1/var/{row['Path']}", namespace=NAMESPACE).expect(200, 204)
    for row in made.api.get("/v1/vars", prefix="nomad-vault/bindings/", namespace=NAMESPACE).expect().json():
        if unique in row["Path"]:
            made.api.delete(f"/v1/var/{row['Path']}", namespace=NAMESPACE).expect(200, 204)


def rule(name: str, paths: list[str], **spec: Any) -> Json:
    """A policy for the tenant of the tests' Nomad namespace."""
    body: Json = {
        "tenants": [{"sources": ["nomad"], "names": [NAMESPACE]}],
        "workloads": [{"namespaces": ["{{tenant}}"]}],
        "secrets": [{"kinds": ["kv"], "mounts": ["secret"], "paths": paths}],
        **spec,
    }
    return {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBindingPolicy",
        "metadata": {"name": name},
        "spec": body,
    }


def nothing_is_named(world: World, name: str) -> bool:
    status = world.status(name)
    return status is not None and (status.policies, status.roles, status.secrets) == ((), (), ())


def nothing_is_left(world: World, unique: str) -> bool:
    """Whether neither the job nor Vault has anything of a binding."""
    templates = [task.get("Templates") for group in world.job(unique)["TaskGroups"] for task in group["Tasks"]]
    instance = world.settings.controller.instance
    return not any(templates) and not world.policies(instance, unique) and not world.roles(instance, unique)


def test_a_refused_binding_shows_the_rule_and_comes_in_when_that_very_rule_is_written(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.REFUSED_BY_POLICY)
        world.await_reason(unique, Reason.REFUSED_BY_POLICY, ConditionType.STALLED)
        assert nothing_is_left(world, unique)
        head, _, shown = world.message(unique).partition("\n")
        assert f"no policy allows tenant {NAMESPACE} (nomad) secret app (kv secret/{unique})" in head
        world.allow(yaml.safe_load(shown))
        world.await_reason(unique, Reason.READY)
        wait_until("the task has them", lambda: world.seen(unique) == ["app one"])


def test_a_tightened_policy_takes_away_job_part_first_and_a_loosened_one_brings_it_back(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    world.allow(rule("own", [f"{unique}*"]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        world.allow(rule("own", ["other"]))
        # Whenever the rights are gone, the job's part is gone before.
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))
        world.await_reason(unique, Reason.REFUSED_BY_POLICY)
        wait_until("the status names nothing any more", lambda: nothing_is_named(world, unique))
        wait_until("the task runs without them", lambda: world.seen(unique) == [""])
        world.allow(rule("own", [unique]))
        world.await_reason(unique, Reason.READY)
        wait_until("the task has them again", lambda: world.seen(unique) == ["app one"])


def test_a_deny_takes_away_whatever_allows(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    world.allow(rule("own", ["*"]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        never = rule("never", [f"{unique}"], effect="Deny")
        never["spec"]["secrets"][0].pop("kinds")
        world.allow(never)
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))
        assert "policy never denies tenant" in world.message(unique)


def test_without_a_single_policy_nothing_comes_and_nothing_goes(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.register(a_job(f"{unique}-b"))
    world.allow(rule("own", [unique]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.disallow("somebody-else")
        world.disallow("own")
        world.await_reason(unique, Reason.REFUSED_WITHOUT_POLICIES, ConditionType.ROTATION_HEALTHY)
        world.bind(a_manifest(f"{unique}-b", f"{unique}-b", unique))
        world.await_reason(f"{unique}-b", Reason.REFUSED_WITHOUT_POLICIES)
        assert world.reason(unique) == Reason.READY
        wait_until("the task has them", lambda: world.seen(unique) == ["app one"])
        assert nothing_is_left(world, f"{unique}-b")


def test_a_policy_that_cannot_be_read_neither_opens_nor_takes_away(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.register(a_job(f"{unique}-b"))
    world.allow(rule("own", [unique, f"{unique}-b"]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        broken = rule("broken", ["x"])
        del broken["spec"]["tenants"]
        world.allow(broken)
        world.await_reason(unique, Reason.POLICIES_UNKNOWN, ConditionType.ROTATION_HEALTHY)
        world.bind(a_manifest(f"{unique}-b", f"{unique}-b", unique))
        world.await_reason(f"{unique}-b", Reason.POLICIES_UNKNOWN)
        assert world.reason(unique) == Reason.READY
        wait_until("the task has them", lambda: world.seen(unique) == ["app one"])
        world.disallow("broken")
        world.await_reason(f"{unique}-b", Reason.READY)


def test_a_broken_manifest_keeps_no_right_that_policies_have_taken_away(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.allow(rule("own", [unique]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.bind(a_manifest(unique, unique, unique, suspend="yes"))
        world.await_reason(unique, Reason.INVALID_MANIFEST)
        wait_until("the task has them", lambda: world.seen(unique) == ["app one"])
        world.allow(rule("own", ["other"]))
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))


def test_a_broken_manifest_keeps_nothing_of_a_script_that_policies_have_taken_away(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.allow(rule("own", [unique], choices=["script"]))
    with world.running():
        manifest = a_manifest(unique, unique, unique, rotation={"strategy": "Native"})
        manifest["spec"]["secrets"][0] |= {"changeMode": "Script", "changeScript": {"command": "/bin/true"}}
        world.bind(manifest)
        world.await_reason(unique, Reason.READY)
        world.bind({**manifest, "spec": {**manifest["spec"], "suspend": "yes"}})
        world.await_reason(unique, Reason.INVALID_MANIFEST)
        world.allow(rule("own", [unique]))
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))


def test_a_suspended_binding_is_not_spared(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.allow(rule("own", [unique]))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.bind(a_manifest(unique, unique, unique, suspend=True))
        world.await_reason(unique, Reason.SUSPENDED)
        world.allow(rule("own", ["other"]))
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))


def test_what_a_binding_would_leave_behind_goes_with_it_where_no_policy_lets_it_stay(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.allow(rule("own", [unique], retain=True))
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique, deletionPolicy="Retain"))
        world.await_reason(unique, Reason.READY)
        # In one moment: that it may not leave anything behind, and that it goes.
        world.allow(rule("own", [unique]))
        known = controller.tenancy.board.known
        wait_until("the change counts", lambda: not any(policy.spec.retain for policy in known().policies))
        world.unbind(unique)
        wait_until("nothing is left", lambda: nothing_is_left(world, unique))
        wait_until("the status is gone", lambda: world.status(unique) is None)


def test_what_a_binding_may_leave_behind_stays(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.allow(rule("own", [unique], retain=True))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, deletionPolicy="Retain"))
        world.await_reason(unique, Reason.READY)
        world.unbind(unique)
        wait_until("it is let go", lambda: world.status(unique) is None)
        assert world.policies(world.settings.controller.instance, unique)
        wait_until("the task has them", lambda: world.seen(unique) == ["app one"])


def test_the_driver_of_the_tasks_counts(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    docker = [{"namespaces": ["*"], "drivers": ["docker"]}]
    world.allow(rule("own", [unique], workloads=docker))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.REFUSED_BY_POLICY)
        assert "policy own does not allow tasks of driver raw_exec" in world.message(unique)
        assert nothing_is_left(world, unique)


def test_metadata_of_the_nomad_namespace_chooses_the_tenant(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.settings.controller = world.settings.controller.model_copy(update={"label_seconds": 0.2})
    world.allow(rule("own", [unique], tenants=[{"labels": {"team": unique}}]))
    described: Json = world.api.get(f"/v1/namespace/{NAMESPACE}").expect().json()
    try:
        with world.running():
            world.bind(a_manifest(unique, unique, unique))
            world.await_reason(unique, Reason.REFUSED_BY_POLICY)
            world.api.put(f"/v1/namespace/{NAMESPACE}", {**described, "Meta": {"team": unique}}).expect()
            world.await_reason(unique, Reason.READY)
    finally:
        world.api.put(f"/v1/namespace/{NAMESPACE}", described).expect()
