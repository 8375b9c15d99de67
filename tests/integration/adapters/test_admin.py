"""What only `bootstrap` and `doctor` ask, of a real OpenBao and of both Nomads."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.jwks import KeysAt
from secretbinding.adapters.nomad.admin import NomadAdminAdapter
from secretbinding.adapters.vault.admin import VaultAdminAdapter
from secretbinding.devstack.openbao import OpenBao
from secretbinding.errors import Denied, Rejected, ServiceError, Unreachable, UsageError
from secretbinding.ops.ports import AclPolicy, VaultLeader
from secretbinding.ops.product import Product, product_of
from secretbinding.ops.rights import Scope, nomad_policy, vault_policy
from tests.support.servers import Stack

AUDITED = 'audit "file" "log" {\n  options {\n    file_path = "discard"\n  }\n}\n'


@pytest.fixture
def vault(openbao: OpenBao) -> Iterator[VaultAdminAdapter]:
    adapter = VaultAdminAdapter(VaultConnection(address=openbao.address, token=openbao.root_token))
    yield adapter
    adapter.close()


@pytest.fixture
def nomad(open_stack: Stack) -> Iterator[NomadAdminAdapter]:
    adapter = NomadAdminAdapter(NomadConnection(address=open_stack.address))
    yield adapter
    adapter.close()


@pytest.fixture
def acl_nomad(stack: Stack) -> Iterator[NomadAdminAdapter]:
    adapter = NomadAdminAdapter(NomadConnection(address=stack.address, token=stack.token))
    yield adapter
    adapter.close()


def as_token(openbao: OpenBao, token: str) -> VaultAdminAdapter:
    return VaultAdminAdapter(VaultConnection(address=openbao.address, token=token))


def test_clocks_of_one_machine_agree(vault: VaultAdminAdapter, nomad: NomadAdminAdapter) -> None:
    for clock in (vault.measured_clock(), nomad.measured_clock()):
        assert clock.sent <= clock.received <= time.time()
        assert clock.sent - 1.1 <= clock.server <= clock.received


def test_a_dev_server_leads_itself(vault: VaultAdminAdapter, nomad: NomadAdminAdapter) -> None:
    assert vault.leader() == VaultLeader(ha_enabled=False)
    assert vault.leader().known
    assert nomad.leader()


def test_an_auth_mount_is_enabled_described_and_configured(vault: VaultAdminAdapter, unique: str) -> None:
    assert vault.read(f"auth/{unique}/config") is None
    vault.enable_auth(unique, "approle", "one")
    vault.describe_auth(unique, "two")
    mount = vault.auth_mounts()[unique]
    assert (mount.type, mount.description) == ("approle", "two")
    assert mount.accessor.startswith("auth_approle_")
    with pytest.raises(Rejected, match="path is already in use"):
        vault.enable_auth(unique, "approle", "again")
    assert vault.list(f"auth/{unique}/role") == ()
    vault.write(f"auth/{unique}/role/a", {"token_policies": ["x"]})
    assert vault.list(f"auth/{unique}/role") == ("a",)
    role = vault.read(f"auth/{unique}/role/a")
    assert role is not None
    assert role["token_policies"] == ["x"]
    with pytest.raises(ServiceError):
        vault.write("auth/no-such-mount/role/a", {})


def test_openbao_is_told_from_vault(vault: VaultAdminAdapter) -> None:
    assert product_of(vault.auth_mounts()) is Product.OPENBAO
    assert product_of(None) is Product.UNKNOWN


def test_audit_devices_come_with_where_they_write_to(tmp_path_factory: pytest.TempPathFactory) -> None:
    with OpenBao(tmp_path_factory.mktemp("audited"), configuration=AUDITED) as server:
        devices = as_token(server, server.root_token).audit_devices()
        assert {name: (one.type, one.target) for name, one in devices.items()} == {"log": ("file", "discard")}


def test_a_token_is_made_by_its_role_and_knows_itself(vault: VaultAdminAdapter, openbao: OpenBao, unique: str) -> None:
    vault.write_policy(unique, vault_policy(Scope()))
    role = {"allowed_policies": [unique], "orphan": True, "token_period": 3600, "token_no_default_policy": True}
    vault.write(f"auth/token/roles/{unique}", role)
    made = vault.create_token(unique, unique)
    assert (made.wrapped, made.ttl_seconds) == (False, 3600)
    own = as_token(openbao, made.value)
    token = own.own_token()
    assert (token.policies, token.creation_ttl_seconds, token.orphan, token.renewable) == ((unique,), 3600, True, True)
    assert 3590 < token.ttl_seconds <= 3600
    assert (token.expires, token.is_root) == (True, False)
    paths = ["sys/policies/acl/nsb.default.x", "secret/data/x"]
    found = own.own_capabilities(paths)
    assert found["secret/data/x"] == {"deny"}
    assert found["sys/policies/acl/nsb.default.x"] == {"create", "read", "update", "delete"}
    assert vault.own_token().is_root


def test_a_wrapped_token_is_opened_once(vault: VaultAdminAdapter, openbao: OpenBao, unique: str) -> None:
    vault.write(f"auth/token/roles/{unique}", {"allowed_policies": ["x"], "token_period": 60})
    made = vault.create_token(unique, unique, wrap_seconds=60)
    assert (made.wrapped, made.ttl_seconds) == (True, 60)
    unwrap = [openbao.api.request("PUT", "/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": made.value})]
    unwrap.append(openbao.api.request("PUT", "/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": made.value}))
    assert [one.status for one in unwrap] == [200, 400]


def test_an_approle_has_a_role_id_and_gives_out_secret_ids(vault: VaultAdminAdapter, unique: str) -> None:
    vault.enable_auth(unique, "approle", "")
    vault.write(f"auth/{unique}/role/a", {"token_policies": ["x"]})
    assert vault.role_id(unique, "a") == vault.role_id(unique, "a")
    plain, wrapped = vault.create_secret_id(unique, "a"), vault.create_secret_id(unique, "a", wrap_seconds=30)
    assert (plain.wrapped, wrapped.wrapped) == (False, True)
    assert plain.accessor


def test_a_login_that_cannot_succeed_tells_why(stack: Stack, unique: str) -> None:
    vault = as_token(stack.openbao, stack.openbao.root_token)
    assert "could not be found" in vault.probe_login("jwt-nomad", unique, "a.b.c")
    stack.openbao.put_jwt_role(unique, {"token_policies": ["x"]})
    assert "malformed jwt" in vault.probe_login("jwt-nomad", unique, "a.b.c")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda vault: vault.auth_mounts(), '"sys/auth"'),
        (lambda vault: vault.audit_devices(), '"sys/audit" { capabilities = ["read", "sudo"] }'),
        (lambda vault: vault.own_token(), '"auth/token/lookup-self"'),
        (lambda vault: vault.own_capabilities(["a"]), '"sys/capabilities-self"'),
        (lambda vault: vault.enable_auth("a", "jwt", ""), '"sys/auth/a"'),
        (lambda vault: vault.create_token("a", "a"), '"auth/token/create/a"'),
    ],
)
def test_a_right_that_is_missing_in_vault_is_named(openbao: OpenBao, unique: str, ask: Any, says: str) -> None:
    openbao.put_policy(unique, 'path "nothing" { capabilities = ["read"] }')
    body = {"policies": [unique], "no_default_policy": True}
    token = openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"]
    with pytest.raises(Denied) as denied:
        ask(as_token(openbao, token))
    assert says in denied.value.remedy


def test_an_agent_is_told_by_what_it_is_and_which_vault_it_uses(nomad: NomadAdminAdapter, open_stack: Stack) -> None:
    agent = nomad.agent()
    assert (agent.is_server, agent.is_client, agent.acl_enabled, agent.tls_http) == (True, True, False, False)
    assert agent.version.startswith("2.")
    (block,) = agent.vaults
    assert (block.name, block.enabled, block.address) == ("default", True, open_stack.openbao.address)
    assert (block.jwt_mount, block.has_token, block.identity_audiences) == ("jwt-nomad", False, None)


def test_nodes_are_told_with_what_they_lack(nomad: NomadAdminAdapter) -> None:
    (node,) = nomad.nodes()
    assert (node.status, node.eligible, node.drain) == ("ready", True, False)
    assert nomad.nodes_without("vault.accessible") == []
    assert nomad.nodes_without("no.such.thing") == [node]
    assert nomad.nodes_with_other("vault.cluster_name", "another") == [node]
    assert nomad.nodes_with_other("no.such.thing", "x") == []
    with pytest.raises(ValueError, match="cannot stand"):
        nomad.nodes_with_other("vault.cluster_name", 'a" or "b" != "')


def test_signing_keys_are_the_same_wherever_they_are_read(nomad: NomadAdminAdapter, open_stack: Stack) -> None:
    keys = nomad.signing_keys()
    assert keys
    read = KeysAt(NomadConnection(address="http://127.0.0.1:1"))
    assert read(f"{open_stack.address}/.well-known/jwks.json") == keys
    with pytest.raises(Unreachable):
        read("http://127.0.0.1:1/keys")
    with pytest.raises(UsageError):
        read("nonsense")
    with pytest.raises(ServiceError):
        read(f"{open_stack.address}/v1/regions")
    assert nomad.issuer() is None


def test_a_nomad_without_acls_says_so(nomad: NomadAdminAdapter) -> None:
    assert not nomad.acl_enabled()
    assert nomad.own_token() is None
    with pytest.raises(Rejected, match="ACL support disabled"):
        nomad.acl_policies()


def test_an_acl_policy_and_a_token_are_made_and_read(acl_nomad: NomadAdminAdapter, stack: Stack, unique: str) -> None:
    assert acl_nomad.acl_enabled()
    assert acl_nomad.acl_policy(unique) is None
    rules = nomad_policy(Scope())
    acl_nomad.write_acl_policy(AclPolicy(unique, rules, "about", job=("default", "x", "", "")))
    found = acl_nomad.acl_policy(unique)
    assert found is not None
    assert (found.rules, found.description, found.job) == (rules, "about", ("default", "x", "", ""))
    assert [one["Name"] for one in found.parsed["Namespaces"]] == ["*"]
    assert unique in acl_nomad.acl_policies()
    issued = acl_nomad.create_token(unique, [unique])
    own = NomadAdminAdapter(NomadConnection(address=stack.address, token=issued.value))
    token = own.own_token()
    assert token is not None
    assert (token.accessor, token.type, token.policies) == (issued.accessor, "client", (unique,))
    assert issued.accessor in {one.accessor for one in acl_nomad.acl_tokens()}
    management = acl_nomad.own_token()
    assert management is not None
    assert management.type == "management"


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda nomad: nomad.agent(), 'agent { policy = "read" }'),
        (lambda nomad: nomad.nodes(), 'node { policy = "read" }'),
        (lambda nomad: nomad.acl_tokens(), "management"),
        (lambda nomad: nomad.create_token("x", ["x"]), "management"),
        (lambda nomad: nomad.write_acl_policy(AclPolicy("x", "")), "management"),
    ],
)
def test_a_right_that_is_missing_in_nomad_is_named(
    acl_nomad: NomadAdminAdapter, stack: Stack, ask: Any, says: str
) -> None:
    issued = acl_nomad.create_token("powerless", ["nothing"])
    with pytest.raises(Denied) as denied:
        ask(NomadAdminAdapter(NomadConnection(address=stack.address, token=issued.value)))
    assert says in str(denied.value)


def test_a_token_that_nomad_does_not_know_is_refused(stack: Stack) -> None:
    stranger = NomadAdminAdapter(NomadConnection(address=stack.address, token="11111111-1111-1111-1111-111111111111"))
    with pytest.raises(Denied):
        stranger.own_token()
