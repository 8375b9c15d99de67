"""The controller under the policies that are shipped in deploy/, and what happens when rights are taken away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.errors import Denied
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.sources.nomad import NomadSource
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, forget_bindings, wait_until, wary

DEPLOY = Path(__file__).parents[2] / "deploy"
_KINDS = (pytest.param("simulator"), pytest.param("nomad", marks=pytest.mark.real_nomad))


@pytest.fixture(scope="module", params=_KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Nomad with ACLs, joined to an OpenBao of its own."""
    if request.param == "nomad" and find_nomad() is None:
        pytest.skip("no `nomad` on PATH: what is tested on the simulator is not compared with a real Nomad")
    kind = NomadAgent if request.param == "nomad" else Simulator
    with (
        OpenBao(tmp_path_factory.mktemp("openbao")) as vault,
        kind(tmp_path_factory.mktemp("guarded"), vault_address=vault.address, acl=True) as server,
    ):
        vault.enable_jwt(server.address)
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


def nomad_token(stack: Stack, name: str, rules: str) -> str:
    stack.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules}).expect()
    body = {"Name": name, "Type": "client", "Policies": [name]}
    return str(stack.api.put("/v1/acl/token", body).expect().json()["SecretID"])


def vault_token(stack: Stack, name: str, text: str) -> str:
    stack.openbao.put_policy(name, text)
    body = {"policies": [name], "no_default_policy": True, "ttl": "1h"}
    return str(stack.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"])


@pytest.fixture
def world(guarded: Stack, unique: str) -> World:
    """What an earlier test has left would be seen, and held, by this one's controller as well."""
    forget_bindings(guarded)
    return World(
        guarded,
        vault_token=vault_token(guarded, f"controller-{unique}", (DEPLOY / "vault-policy.hcl").read_text()),
        nomad_token=nomad_token(guarded, f"controller-{unique}", (DEPLOY / "nomad-policy.hcl").read_text()),
    )


def test_the_whole_life_of_a_binding_needs_no_more_than_the_shipped_policies(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(wary(a_job(unique)))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="two")
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        world.deployed(unique)
        wait_until("the failure is tagged", lambda: any(job.get("VersionTag") for job in world.versions(unique)))
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_policies_are_read_with_the_shipped_rights_and_without_them_all_stays_as_it_is(
    world: World, unique: str
) -> None:
    world.settings.controller = world.settings.controller.model_copy(update={"tenancy": "policies"})
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    rule = {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBindingPolicy",
        "metadata": {"name": unique},
        "spec": {
            "tenants": [{"names": ["*"]}],
            "workloads": [{"namespaces": ["*"]}],
            "secrets": [{"mounts": ["secret"], "paths": [unique]}],
        },
    }
    world.allow(rule)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
    index = world.job(unique)["JobModifyIndex"]
    policy = f"controller-{unique}"
    rules = (DEPLOY / "nomad-policy.hcl").read_text()
    blind = rules.replace('path "nomad-vault/policies/*"', 'path "somewhere/else/*"')
    world.api.put(f"/v1/acl/policy/{policy}", {"Name": policy, "Rules": blind}).expect()
    with world.running():
        world.await_reason(unique, Reason.POLICIES_UNKNOWN, ConditionType.ROTATION_HEALTHY)
        world.api.put(f"/v1/acl/policy/{policy}", {"Name": policy, "Rules": rules}).expect()
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
    assert world.job(unique)["JobModifyIndex"] == index
    world.disallow(unique)


def test_the_controllers_token_cannot_read_a_value(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    token = world.settings.vault.token.get_secret_value()
    for path in (f"secret/data/{unique}", f"secret/data/{unique}?version=1"):
        answer = world.vault.request("GET", f"/v1/{path}", headers={"X-Vault-Token": token})
        assert answer.status == 403
    subkeys = world.vault.request("GET", f"/v1/secret/subkeys/{unique}", headers={"X-Vault-Token": token}).expect()
    assert subkeys.json()["data"]["subkeys"] == {"username": None, "password": None}


def test_a_list_that_comes_back_empty_for_lack_of_rights_deletes_nothing(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    policy = f"controller-{unique}"
    rules = (DEPLOY / "nomad-policy.hcl").read_text()
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        index = world.job(unique)["JobModifyIndex"]
        blind = rules.replace('path "nomad-vault/bindings/*"', 'path "somewhere/else/*"')
        world.api.put(f"/v1/acl/policy/{policy}", {"Name": policy, "Rules": blind}).expect()
        # A change that wakes the blocking query, whose answer is now an empty list.
        world.bind(a_manifest(f"{unique}-other", f"{unique}-none", unique))
        assert controller.engine.store.entries()
        rows = controller.engine.sources["nomad"]
        wait_until("the source cannot prove absence any more", lambda: not _proves(rows, unique))
        controller.engine.wake(controller.engine.store.workloads())
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=0.1))
        # The first answer may still have been given with the rights that there were when it was asked for.
        world.bind(a_manifest(f"{unique}-other", f"{unique}-none", unique))
        wait_until("it is told as held", lambda: rows.pulse().held == 1)
        assert [entry.item.key.name for entry in controller.engine.store.entries()] == [unique]
    # A controller that starts blind, with a policy in Vault whose binding it cannot see.
    with world.running() as controller:
        wait_until("it has listed", lambda: controller.engine.store.is_listed("nomad"))
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=0.1))
        assert world.job(unique)["JobModifyIndex"] == index
        assert len(world.policies(having=f".{unique}.")) == 1
        # With its rights back it goes on as if nothing had been.
        world.api.put(f"/v1/acl/policy/{policy}", {"Name": policy, "Rules": rules}).expect()
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        assert world.job(unique)["JobModifyIndex"] == index


def _proves(source: object, name: str) -> bool:
    assert isinstance(source, NomadSource)
    try:
        source.proves_absent(BindingKey("nomad", "default", name))
    except Denied:
        return False
    return True


@pytest.mark.parametrize(
    ("without", "says"),
    [
        ('path "sys/policies/acl/nsb.default.*"', "sys/policies/acl/nsb.default."),
        ('path "auth/jwt-nomad/role/nsb.default.*"', "auth/jwt-nomad/role/nsb.default."),
        ('path "secret/metadata/*"', "secret/metadata/"),
        ('path "secret/subkeys/*"', "secret/subkeys/"),
    ],
)
def test_a_right_that_is_missing_in_vault_is_named_and_the_job_is_left_alone(
    guarded: Stack, unique: str, without: str, says: str
) -> None:
    text = (DEPLOY / "vault-policy.hcl").read_text()
    assert without in text
    world = World(
        guarded,
        vault_token=vault_token(guarded, f"poor-{unique}", text.replace(without, f'path "nothing/{unique}"')),
        nomad_token=nomad_token(guarded, f"poor-{unique}", (DEPLOY / "nomad-policy.hcl").read_text()),
    )
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.PERMISSION_DENIED)
        assert says in world.message(unique)
        assert "capability" in world.message(unique)
        assert world.job(unique)["JobModifyIndex"] == index


def test_a_right_that_is_missing_in_nomad_is_named(guarded: Stack, unique: str) -> None:
    rules = (DEPLOY / "nomad-policy.hcl").read_text().replace('"submit-job",', "")
    world = World(
        guarded,
        vault_token=vault_token(guarded, f"poor-{unique}", (DEPLOY / "vault-policy.hcl").read_text()),
        nomad_token=nomad_token(guarded, f"poor-{unique}", rules),
    )
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.PERMISSION_DENIED)
        assert "submit-job" in world.message(unique)
