"""The Vault adapter against a real OpenBao."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.devstack.api import quoted
from secretbinding.devstack.openbao import OpenBao
from secretbinding.errors import Denied, NotFound, Rejected, VaultSealed
from tests.support.world import wait_until

ROLE = {
    "role_type": "jwt",
    "bound_audiences": ["vault.io"],
    "user_claim": "sub",
    "bound_claims": {"nomad_job_id": "a/b"},
    "token_policies": ["p"],
    "token_period": 1800,
}


def token_with(bao: OpenBao, *policies: str) -> str:
    answer = bao.api.put("/v1/auth/token/create", {"policies": list(policies)}).expect(200).json()
    return str(answer["auth"]["client_token"])


@pytest.fixture
def bare(bao: OpenBao) -> VaultAdapter:
    """An adapter whose token may do nothing."""
    return VaultAdapter(VaultConnection(address=bao.address, token=token_with(bao, "default")))


def test_health_needs_no_token(bao: OpenBao) -> None:
    health = VaultAdapter(VaultConnection(address=bao.address)).health()
    assert (health.initialized, health.sealed, health.standby) == (True, False, False)
    assert health.version
    assert health.cluster


@pytest.mark.parametrize("name", ["app", "nsb-a.b_c-0123", "team/app", 'odd name %{x}"?#é'])
def test_a_policy_is_written_read_listed_and_deleted_under_any_name(vault: VaultAdapter, name: str) -> None:
    text = '# comment\npath "secret/data/a" {\n  capabilities = ["read"]\n}\n'
    assert vault.read_policy(name) is None
    vault.write_policy(name, text)
    assert vault.read_policy(name) == text
    assert name in vault.list_policies()
    vault.write_policy(name, "# nothing")
    assert vault.read_policy(name) == "# nothing"
    vault.delete_policy(name)
    assert vault.read_policy(name) is None
    assert name not in vault.list_policies()


def test_a_policy_that_does_not_parse_is_rejected_with_vaults_words(vault: VaultAdapter) -> None:
    with pytest.raises(Rejected, match=r"Vault says: .*[Ff]ailed to parse"):
        vault.write_policy("app", "path {")


def test_deleting_what_is_not_there_is_success(vault: VaultAdapter) -> None:
    vault.delete_policy("never-there")
    vault.delete_jwt_role("jwt-nomad", "never-there")
    vault.delete_jwt_role("no-such-mount", "never-there")


def test_a_role_is_written_with_exactly_the_given_body(vault: VaultAdapter) -> None:
    assert vault.list_jwt_roles("jwt-nomad") == ()
    assert vault.read_jwt_role("jwt-nomad", "app") is None
    vault.write_jwt_role("jwt-nomad/", "app", ROLE)
    role = vault.read_jwt_role("jwt-nomad", "app")
    assert role is not None
    assert {key: role[key] for key in ROLE} == ROLE
    assert not role["allowed_redirect_uris"]
    assert vault.list_jwt_roles("jwt-nomad") == ("app",)
    vault.delete_jwt_role("jwt-nomad", "app")
    assert vault.read_jwt_role("jwt-nomad", "app") is None


def test_a_role_that_vault_refuses_is_rejected_with_vaults_words(vault: VaultAdapter) -> None:
    with pytest.raises(Rejected, match="user claim must be defined"):
        vault.write_jwt_role("jwt-nomad", "app", {"role_type": "jwt"})


def test_a_mount_that_is_not_there_has_no_roles_and_takes_none(vault: VaultAdapter) -> None:
    assert vault.list_jwt_roles("no-such-mount") == ()
    assert vault.read_jwt_role("no-such-mount", "app") is None
    with pytest.raises(NotFound, match="no auth method is enabled at no-such-mount"):
        vault.write_jwt_role("no-such-mount", "app", ROLE)


def test_the_kind_of_a_kv_mount_is_told_and_remembered(bao: OpenBao, vault: VaultAdapter) -> None:
    bao.api.put("/v1/sys/mounts/old/kv", {"type": "kv", "options": {"version": "1"}}).expect(204)
    try:
        assert vault.kv_engine("secret") == "v2"
        assert vault.kv_engine("old/kv/") == "v1"
    finally:
        bao.api.delete("/v1/sys/mounts/old/kv")
    assert vault.kv_engine("old/kv") == "v1"
    assert VaultAdapter(VaultConnection(address=bao.address, token=bao.root_token)).kv_engine("old/kv") is None


def test_a_remembered_kind_is_asked_for_again_after_its_time(bao: OpenBao) -> None:
    calls: list[str] = []
    vault = VaultAdapter(
        VaultConnection(address=bao.address, token=bao.root_token),
        engine_seconds=0.0,
        on_call=lambda system, operation, seconds, outcome: calls.append(operation),
    )
    assert [vault.kv_engine("secret") for _ in range(3)] == ["v2"] * 3
    assert calls == ["mount_read"] * 3


def test_a_mount_that_is_no_kv_has_no_kind(vault: VaultAdapter) -> None:
    assert vault.kv_engine("sys") is None
    assert vault.kv_engine("cubbyhole") is None


def kv_mount(bao: OpenBao, name: str, max_versions: int = 0) -> str:
    bao.api.put(f"/v1/sys/mounts/{name}", {"type": "kv", "options": {"version": "2"}}).expect(204)
    # A new mount of version 2 answers only when it has come to be one.
    wait_until("the mount is of version 2", lambda: bao.api.get(f"/v1/{name}/config").status == 200)
    if max_versions:
        bao.api.put(f"/v1/{name}/config", {"max_versions": max_versions}).expect(204)
    return name


def test_how_many_versions_a_mount_keeps_is_told_to_who_may_read_it_and_remembered(bao: OpenBao, unique: str) -> None:
    mount = kv_mount(bao, f"{unique}/kv", max_versions=3)
    bao.put_policy(unique, f'path "{mount}/config" {{ capabilities = ["read"] }}')
    calls: list[str] = []
    vault = VaultAdapter(
        VaultConnection(address=bao.address, token=token_with(bao, unique)),
        on_call=lambda system, operation, seconds, outcome: calls.append(operation),
    )
    assert [vault.kv_max_versions(mount), vault.kv_max_versions(f"{mount}/")] == [3, 3]
    assert calls == ["kv_config_read"]


def test_a_mount_that_sets_nothing_says_so(vault: VaultAdapter) -> None:
    assert vault.kv_max_versions("secret") == 0


def test_how_many_versions_a_mount_keeps_is_unknown_without_the_right_and_where_there_is_none(
    bare: VaultAdapter, vault: VaultAdapter
) -> None:
    assert bare.kv_max_versions("secret") is None
    assert vault.kv_max_versions("no-mount") is None


@pytest.mark.parametrize(("of_mount", "own"), [(3, 0), (5, 3), (3, 5), (0, 3), (0, 0)])
def test_of_a_secrets_number_and_its_mounts_the_larger_counts_and_what_is_pruned_is_told_no_more(
    bao: OpenBao, vault: VaultAdapter, unique: str, of_mount: int, own: int
) -> None:
    mount = kv_mount(bao, unique, of_mount)
    bao.api.put(f"/v1/{mount}/metadata/app", {"max_versions": own}).expect(204)
    for number in range(12):
        bao.api.put(f"/v1/{mount}/data/app", {"data": {"k": str(number)}}).expect(200)
    metadata = vault.kv_metadata(mount, "app")
    assert metadata is not None
    assert (vault.kv_max_versions(mount), metadata.max_versions) == (of_mount, own)
    assert sorted(metadata.versions) == list(range(13 - (max(of_mount, own) or 10), 13))


@pytest.mark.parametrize("path", ["app", "team/odd name %é", "a?b#c"])
def test_metadata_tells_the_versions_and_their_fate(bao: OpenBao, vault: VaultAdapter, path: str) -> None:
    at = "/".join(quoted(part) for part in path.split("/"))
    assert vault.kv_metadata("secret", path) is None
    for number in (1, 2, 3):
        bao.put_secret(at, {"user": "u", "nested": {"deep": number}})
    bao.api.put(f"/v1/secret/destroy/{at}", {"versions": [1]}).expect(204)
    bao.api.put(f"/v1/secret/delete/{at}", {"versions": [2]}).expect(204)
    metadata = vault.kv_metadata("secret", path)
    assert metadata is not None
    assert metadata.current == 3
    assert [metadata.versions[number].readable for number in (1, 2, 3)] == [False, False, True]
    assert metadata.versions[1].destroyed
    assert metadata.versions[2].deleted
    created = bao.api.get(f"/v1/secret/metadata/{at}").json()["data"]["versions"]["3"]["created_time"]
    assert metadata.versions[3].created == created
    assert vault.kv_fields("secret", path, 3) == {"user": None, "nested": {"deep": None}}
    assert [vault.kv_fields("secret", path, number) for number in (1, 2, 9)] == [None, None, None]


def test_metadata_of_a_secret_whose_newest_version_is_deleted_still_comes(bao: OpenBao, vault: VaultAdapter) -> None:
    bao.put_secret("gone", {"k": "v"})
    bao.api.delete("/v1/secret/data/gone").expect(204)
    metadata = vault.kv_metadata("secret", "gone")
    assert metadata is not None
    assert metadata.versions[1].deleted


def test_a_deletion_in_the_future_has_not_happened(bao: OpenBao) -> None:
    bao.api.put("/v1/secret/metadata/later", {"delete_version_after": "1h", "max_versions": 3}).expect(204)
    bao.put_secret("later", {"k": "v"})
    connection = VaultConnection(address=bao.address, token=bao.root_token)
    metadata = VaultAdapter(connection).kv_metadata("secret", "later")
    assert metadata is not None
    assert not metadata.versions[1].deleted
    assert metadata.max_versions == 3


def test_a_deletion_whose_time_has_come_has_happened(bao: OpenBao, vault: VaultAdapter) -> None:
    bao.api.put("/v1/secret/metadata/soon", {"delete_version_after": "4s"}).expect(204)
    bao.put_secret("soon", {"k": "v"})

    def deleted() -> bool:
        metadata = vault.kv_metadata("secret", "soon")
        return metadata is not None and metadata.versions[1].deleted

    assert not deleted()
    wait_until("it is deleted", deleted, timeout=10.0)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=-2)])
def test_whether_it_has_come_is_told_by_vaults_clock_and_not_by_ours(bao: OpenBao, ahead: timedelta) -> None:
    bao.api.put("/v1/secret/metadata/hour", {"delete_version_after": "1h"}).expect(204)
    bao.put_secret("hour", {"k": "v"})
    bao.put_secret("gone", {"k": "v"})
    bao.api.delete("/v1/secret/data/gone").expect(204)
    connection = VaultConnection(address=bao.address, token=bao.root_token)
    vault = ListingVaultAdapter(connection, now=lambda: datetime.now(UTC) + ahead)
    hour, gone = vault.kv_metadata("secret", "hour"), vault.kv_metadata("secret", "gone")
    listed = vault.kv_folder("secret", "")
    assert hour is not None
    assert gone is not None
    assert listed is not None
    assert (hour.versions[1].deleted, gone.versions[1].deleted) == (False, True)
    assert not listed["hour"].versions[1].deleted
    assert abs(vault.clock.ahead + ahead) <= timedelta(seconds=2)


def test_a_kv_mount_that_is_not_there_is_not_found_and_named(vault: VaultAdapter) -> None:
    for ask in (lambda: vault.kv_metadata("no-mount", "app"), lambda: vault.kv_fields("no-mount", "app", 1)):
        with pytest.raises(NotFound, match="no secrets engine is mounted at no-mount"):
            ask()


@pytest.mark.parametrize(
    ("method", "arguments", "path", "capabilities"),
    [
        ("read_policy", ("app",), "sys/policies/acl/app", ["read"]),
        ("write_policy", ("app", "# nothing"), "sys/policies/acl/app", ["update"]),
        ("delete_policy", ("app",), "sys/policies/acl/app", ["delete"]),
        ("list_policies", (), "sys/policies/acl", ["list"]),
        ("read_jwt_role", ("jwt-nomad", "app"), "auth/jwt-nomad/role/app", ["read"]),
        ("write_jwt_role", ("jwt-nomad", "app", ROLE), "auth/jwt-nomad/role/app", ["create", "update"]),
        ("delete_jwt_role", ("jwt-nomad", "app"), "auth/jwt-nomad/role/app", ["delete"]),
        ("list_jwt_roles", ("jwt-nomad",), "auth/jwt-nomad/role", ["list"]),
        ("kv_metadata", ("secret", "app"), "secret/metadata/app", ["read"]),
        ("kv_fields", ("secret", "app", 1), "secret/subkeys/app", ["read"]),
    ],
)
def test_a_denial_says_which_path_and_capability_and_adding_them_is_enough(
    bao: OpenBao, bare: VaultAdapter, method: str, arguments: tuple[Any, ...], path: str, capabilities: list[str]
) -> None:
    with pytest.raises(Denied) as caught:
        getattr(bare, method)(*arguments)
    rule = f'path "{path}" {{ capabilities = {json.dumps(capabilities)} }}'
    assert path in caught.value.message
    assert all(f"`{capability}`" in caught.value.message for capability in capabilities)
    assert rule in caught.value.remedy
    bao.put_policy("just-that", rule)
    granted = VaultAdapter(VaultConnection(address=bao.address, token=token_with(bao, "just-that")))
    getattr(granted, method)(*arguments)


def test_the_kind_of_a_mount_that_the_token_may_not_see_is_unknown(bare: VaultAdapter) -> None:
    assert bare.kv_engine("secret") is None


def test_a_wrong_token_and_no_token_are_denied(bao: OpenBao) -> None:
    for token in ("", "wrong"):
        with pytest.raises(Denied, match="token has not expired"):
            VaultAdapter(VaultConnection(address=bao.address, token=token)).read_policy("app")


def test_a_namespace_that_is_not_there_is_not_an_absence(bao: OpenBao) -> None:
    vault = VaultAdapter(VaultConnection(address=bao.address, token=bao.root_token, namespace="nowhere"))
    with pytest.raises(Rejected, match="check VAULT_NAMESPACE"):
        vault.read_policy("app")


def test_policies_live_in_the_namespace_of_the_connection(bao: OpenBao, vault: VaultAdapter) -> None:
    bao.api.put("/v1/sys/namespaces/team", {}).expect(200)
    inside = VaultAdapter(VaultConnection(address=bao.address, token=bao.root_token, namespace="team"))
    inside.write_policy("only-in-team", "# nothing")
    assert inside.read_policy("only-in-team") == "# nothing"
    assert vault.read_policy("only-in-team") is None


def test_sixteen_threads_write_and_read_through_one_adapter(vault: VaultAdapter) -> None:
    def round_trip(number: int) -> bool:
        text = f'path "secret/data/{number}" {{ capabilities = ["read"] }}'
        vault.write_policy(f"thread-{number}", text)
        same = vault.read_policy(f"thread-{number}") == text
        vault.delete_policy(f"thread-{number}")
        return same

    with ThreadPoolExecutor(16) as workers:
        assert all(workers.map(round_trip, range(200)))


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[OpenBao]:
    with OpenBao(tmp_path / "sealed") as server:
        server.api.put("/v1/sys/seal").expect(204)
        yield server


def test_a_sealed_vault_says_so_in_errors_and_in_its_health(sealed: OpenBao) -> None:
    vault = VaultAdapter(VaultConnection(address=sealed.address, token=sealed.root_token))
    assert vault.health().sealed
    with pytest.raises(VaultSealed, match="unseal it"):
        vault.write_policy("app", "")


def test_the_own_token_tells_when_it_ends(bao: OpenBao, vault: VaultAdapter) -> None:
    assert vault.token_expiry() is None, "a root token lives for ever"
    made = bao.api.put("/v1/auth/token/create", {"policies": ["default"], "ttl": "1h"}).expect(200).json()
    token = str(made["auth"]["client_token"])
    expiry = VaultAdapter(VaultConnection(address=bao.address, token=token)).token_expiry()
    assert expiry is not None
    assert timedelta(minutes=59) < expiry - datetime.now(UTC) <= timedelta(hours=1)


def test_a_token_that_may_not_look_itself_up_is_told_which_right_it_lacks(bao: OpenBao) -> None:
    body = {"policies": ["nothing-at-all"], "no_default_policy": True}
    token = str(bao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])
    with pytest.raises(Denied, match="auth/token/lookup-self") as denied:
        VaultAdapter(VaultConnection(address=bao.address, token=token)).token_expiry()
    assert token not in str(denied.value)
