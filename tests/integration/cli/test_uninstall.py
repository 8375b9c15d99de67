"""`uninstall` takes away all that is ours and nothing else; `revoke` ends tokens of roles, with rights of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretbinding.sources.kubernetes.items import FINALIZER
from tests.support.commandline import CommandLine
from tests.support.kubernetes import Cluster, a_binding, small_kubernetes
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, forget_bindings, wait_until

__all__ = ["small_kubernetes"]

SAME = ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Version", "SubmitTime", "Stable")
DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture
def instance(unique: str) -> str:
    return f"u{unique}"[:20].rstrip("-")


@pytest.fixture
def world(stack: Stack, cli: CommandLine, instance: str, unique: str) -> Iterator[World]:
    cli.use(stack, SECRETBINDING_PURGE_GRACE_SECONDS="1", SECRETBINDING_INSTANCE=instance, HOME="/nonexistent")
    made = World(stack, instance=instance)
    forget_bindings(stack)
    yield made
    for kind in ("bindings", "status"):
        made.api.delete(f"/v1/var/nomad-vault/{kind}/{unique}")


def own(world: World, instance: str) -> list[str]:
    """Policies and roles of the instance."""
    found = []
    for path in ("sys/policies/acl", "auth/jwt-nomad/role"):
        answer = world.vault.get(f"/v1/{path}", list="true")
        keys = answer.json()["data"]["keys"] if answer.status == 200 else []
        found += [name for name in keys if name.startswith(f"nsb.{instance}.")]
    return found


def without_indexes(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in SAME}


def bound(world: World, name: str, **spec: Any) -> dict[str, Any]:
    """A job with a binding in a Nomad variable; the job as its user registered it."""
    world.secret(name, username="app", password="first")
    world.register(a_job(name))
    world.deployed(name)
    before = world.job(name)
    world.bind(a_manifest(name, name, name, **spec))
    return before


def test_after_uninstall_all_the_jobs_are_as_they_were_and_nothing_of_ours_is_left(
    world: World, cli: CommandLine, unique: str, instance: str
) -> None:
    before = bound(world, unique)
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
    assert len(own(world, instance)) == 2
    lease = f"nomad-vault/leases/{instance}/leader"
    world.api.put(f"/v1/var/{lease}", {"Namespace": "default", "Path": lease, "Items": {"holder": "x"}}).expect()
    shown = cli("uninstall", "--all", "--dry-run")
    assert shown.code == 0, shown.err
    assert f"job {unique} (namespace default), for nomad/default/{unique}:\n~ job {unique}" in shown.out
    assert f"- variable: nomad-vault/status/{unique} (namespace default)\n" in shown.out
    assert len(own(world, instance)) == 2
    refused = cli("uninstall", "--all")
    assert refused.code == 1
    assert "nobody is there to agree" in refused.err
    ran = cli("uninstall", "--all", "--yes", "--timeout", "60s")
    assert ran.code == 0, ran.err
    assert own(world, instance) == []
    assert without_indexes(world.job(unique)) == without_indexes(before)
    assert world.status(unique) is None
    assert world.api.get(f"/v1/var/{lease}").status == 404
    assert world.api.get(f"/v1/var/nomad-vault/bindings/{unique}").status == 200, "the binding is its owner's"
    again = cli("uninstall", "--all", "--yes")
    assert (again.code, again.out) == (0, "nothing of ours is there\n")


def test_beside_a_controller_that_takes_part_nothing_is_done(world: World, cli: CommandLine, instance: str) -> None:
    cli.setenv(SECRETBINDING_ELECTION="nomad")
    path = f"nomad-vault/members/{instance}/first"
    world.api.put(f"/v1/var/{path}", {"Namespace": "default", "Path": path, "Items": {"beat": "1"}}).expect()
    ran = cli("uninstall", "--all", "--yes")
    assert ran.code == 1
    assert f"controllers of instance {instance} take part: first; stop them first" in ran.err
    assert cli("uninstall", "--all", "--yes", "--even-if-running").code == 0
    assert world.api.get(f"/v1/var/{path}").status == 404


def test_what_was_left_behind_on_purpose_stays_unless_it_is_asked_for(
    world: World, cli: CommandLine, unique: str, instance: str
) -> None:
    bound(world, unique, deletionPolicy="Retain")
    with world.running():
        world.await_reason(unique, "Ready")
        world.unbind(unique)
        wait_until("it is let go", lambda: world.status(unique) is None)
    kept = own(world, instance)
    assert len(kept) == 2
    ran = cli("uninstall", "--all", "--yes")
    assert ran.code == 0, ran.err
    assert "was left behind on purpose (Retain) and stays" in ran.out
    assert own(world, instance) == kept
    assert cli("uninstall", "--all", "--retained", "--yes", "--timeout", "60s").code == 0
    assert own(world, instance) == []


def test_what_is_not_ours_stays(world: World, cli: CommandLine, unique: str, instance: str) -> None:
    world.stack.openbao.put_policy(f"nsb.{instance}.by-hand", 'path "a" { capabilities = ["read"] }')
    ran = cli("uninstall", "--all", "--yes")
    assert ran.code == 0, ran.err
    assert f"= policy nsb.{instance}.by-hand has a name of ours and is not ours; it stays" in ran.out
    assert own(world, instance) == [f"nsb.{instance}.by-hand"]


def test_finalizers_go_so_that_a_binding_without_a_controller_can_be_deleted(
    cli: CommandLine, small_kubernetes: Cluster
) -> None:
    cli.setenv(KUBECONFIG=str(small_kubernetes.kubeconfig))
    for name in ("one", "two"):
        small_kubernetes.api.create_binding(a_binding("default", name))
        finalizers = [FINALIZER, "example.com/other"] if name == "two" else [FINALIZER]
        small_kubernetes.api.patch_binding("default", name, {"metadata": {"finalizers": finalizers}})
    small_kubernetes.api.delete_binding("default", "one")
    assert small_kubernetes.api.binding("default", "one") is not None, "it hangs"
    shown = cli("uninstall", "--dry-run")
    assert shown.out == "- finalizer of SecretBinding default/one\n- finalizer of SecretBinding default/two\n"
    ran = cli("uninstall", "--yes")
    assert ran.code == 0, ran.err
    assert small_kubernetes.api.binding("default", "one") is None
    two = small_kubernetes.api.binding("default", "two")
    assert two is not None
    assert two["metadata"]["finalizers"] == ["example.com/other"]
    assert cli("uninstall", "--yes").out == "nothing of ours is there\n"


def test_with_namespaces_named_finalizers_go_from_bindings_there_alone(
    cli: CommandLine, small_kubernetes: Cluster
) -> None:
    cli.setenv(KUBECONFIG=str(small_kubernetes.kubeconfig), SECRETBINDING_WATCH_NAMESPACES="ours, empty")
    for namespace in ("ours", "theirs", "empty"):
        small_kubernetes.api.create_namespace(namespace)
    for namespace in ("ours", "theirs"):
        small_kubernetes.api.create_binding(a_binding(namespace, "web"))
        small_kubernetes.api.patch_binding(namespace, "web", {"metadata": {"finalizers": [FINALIZER]}})
    ran = cli("uninstall", "--yes")
    assert ran.code == 0, ran.err
    held = [small_kubernetes.api.binding(namespace, "web") for namespace in ("ours", "theirs")]
    assert [found is not None and found["metadata"].get("finalizers") for found in held] in (
        [None, [FINALIZER]],
        [[], [FINALIZER]],
    )


@pytest.fixture
def revoker(stack: Stack, cli: CommandLine, world: World, unique: str) -> str:
    """A token with just the rights of the shipped policy, in the environment."""
    stack.openbao.put_policy(f"revoke-{unique}", (DEPLOY / "vault-policy-revoke.hcl").read_text())
    body = {"policies": [f"revoke-{unique}"], "no_default_policy": True}
    token = str(world.vault.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"])
    cli.setenv(VAULT_TOKEN=token)
    return token


def tokens_of(world: World, role: str) -> list[str]:
    found = []
    for accessor in world.vault.get("/v1/auth/token/accessors", list="true").expect().json()["data"]["keys"]:
        answer = world.vault.put("/v1/auth/token/lookup-accessor", {"accessor": accessor})
        if answer.status == 200 and (answer.json()["data"].get("meta") or {}).get("role") == role:
            found.append(accessor)
    return found


def test_tokens_of_a_role_that_is_gone_are_revoked_and_no_others(
    world: World, cli: CommandLine, unique: str, instance: str, revoker: str
) -> None:
    bound(world, unique)
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
    (role,) = [
        name for name in own(world, instance) if world.vault.get(f"/v1/auth/jwt-nomad/role/{name}").status == 200
    ]
    assert len(tokens_of(world, role)) >= 1
    assert cli("revoke", "--deleted", "--yes").out == "no token is there\n", "tokens in use stay"
    world.vault.delete(f"/v1/auth/jwt-nomad/role/{role}").expect(204)
    shown = cli("revoke", "--deleted", "--dry-run")
    assert shown.code == 0, shown.err
    assert f"of role {role}, " in shown.out
    before = tokens_of(world, role)
    ran = cli("revoke", "--deleted", "--yes")
    assert ran.code == 0, ran.err
    assert ran.out.endswith(f"{len(before)} token(s) revoked\n")
    assert not set(before) & set(tokens_of(world, role))
    world.api.delete(f"/v1/job/{unique}", purge="true")


def test_tokens_of_agents_that_logged_in_by_approle_are_revoked_by_role_and_when_the_role_is_gone(
    world: World, cli: CommandLine, instance: str, revoker: str
) -> None:
    if world.vault.get("/v1/sys/auth").json()["data"].get("approle-nomad/") is None:
        world.vault.put("/v1/sys/auth/approle-nomad", {"type": "approle"}).expect(200, 204)
    named, gone, kept = (f"nsb.{instance}.{name}" for name in ("named", "gone", "kept"))
    for role in (named, gone, kept):
        place = f"/v1/auth/approle-nomad/role/{role}"
        world.vault.put(place, {"token_policies": ["default"]}).expect(200, 204)
        role_id = world.vault.get(f"{place}/role-id").json()["data"]["role_id"]
        secret_id = world.vault.put(f"{place}/secret-id", {}).expect().json()["data"]["secret_id"]
        world.vault.put("/v1/auth/approle-nomad/login", {"role_id": role_id, "secret_id": secret_id}).expect()

    def left() -> list[str]:
        tokens = world.vault.get("/v1/auth/token/accessors", list="true").expect().json()["data"]["keys"]
        shown = [world.vault.put("/v1/auth/token/lookup-accessor", {"accessor": each}) for each in tokens]
        metas = [answer.json()["data"].get("meta") or {} for answer in shown if answer.status == 200]
        return sorted(meta["role_name"] for meta in metas if f".{instance}." in meta.get("role_name", ""))

    assert left() == sorted([gone, kept, named])
    ran = cli("revoke", "--role", named, "--yes")
    assert ran.code == 0, ran.err
    assert left() == sorted([gone, kept])
    world.vault.delete(f"/v1/auth/approle-nomad/role/{gone}").expect(204)
    ran = cli("revoke", "--deleted", "--yes")
    assert ran.code == 0, ran.err
    assert left() == [kept]
    world.vault.delete(f"/v1/auth/approle-nomad/role/{kept}").expect(204)


def test_the_controllers_own_token_may_not_revoke(world: World, cli: CommandLine, unique: str, instance: str) -> None:
    cli.setenv(VAULT_TOKEN=world.settings.vault.token.get_secret_value())
    ran = cli("revoke", "--role", f"nsb.{instance}.x", "--yes")
    assert ran.code == 1
    assert "auth/token/accessors" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke"], "whose tokens is not said"),
        (["revoke", "--role", "root"], "is no role of instance"),
        (["uninstall", "--retained"], "--retained goes with --all"),
        (["uninstall", "--no-kubernetes"], "there is nothing to do"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(cli: CommandLine, arguments: list[str], said: str) -> None:
    ran = cli(*arguments)
    assert ran.code == 1
    assert said in ran.err
