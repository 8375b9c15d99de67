"""New values on a real OpenBao: written without reading, over the version that was seen, with the shipped rights."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.devstack.openbao import OpenBao
from secretbinding.errors import Conflict, Denied, NotFound, Rejected, SecretBindingError, ServiceError, Unavailable
from tests.support.postgres import CONNECTION, DatabaseEngine, Postgres

from .misbehaving import Misbehaving, misbehaving, reply

RIGHTS = Path(__file__).parents[3] / "deploy" / "vault-policy-generate.hcl"
VALUE = "canary-value-8675"
POLICY = 'length = 20\nrule "charset" {\n  charset = "xyz"\n}\n'


def value(text: str = VALUE) -> dict[str, SecretStr]:
    return {"password": SecretStr(text)}


@pytest.fixture
def shipped(bao: OpenBao, unique: str) -> Iterator[VaultAdapter]:
    """An adapter with exactly the rights that are shipped, for the names of this test."""
    text = RIGHTS.read_text().replace("myapp", unique).replace("payments", unique).replace("strong", unique)
    bao.put_policy(f"generate-{unique}", text.replace('rotate-root/main"', f'rotate-root/{CONNECTION}"'))
    body = {"policies": [f"generate-{unique}"], "no_default_policy": True}
    token = str(bao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])
    adapter = VaultAdapter(VaultConnection(address=bao.address, token=token))
    yield adapter
    adapter.close()


def fields(bao: OpenBao, path: str) -> dict[str, Any]:
    found: dict[str, Any] = bao.api.get(f"/v1/secret/data/{path}").expect(200).json()["data"]["data"]
    return found


# --- KV ---------------------------------------------------------------------------------------------------------------


def test_a_patch_changes_the_fields_that_it_names_and_no_other(
    bao: OpenBao, shipped: VaultAdapter, unique: str
) -> None:
    bao.put_secret(unique, {"username": "amy", "password": "one", "nested": {"a": 1}, "none": None})
    assert shipped.patch_kv("secret", unique, value("two"), seen=1) == 2
    assert fields(bao, unique) == {"username": "amy", "password": "two", "nested": {"a": 1}, "none": None}


def test_a_secret_that_is_not_there_begins_with_the_fields_alone(
    bao: OpenBao, shipped: VaultAdapter, unique: str
) -> None:
    assert shipped.patch_kv("secret/", unique, value("first"), seen=0) == 1
    assert fields(bao, unique) == {"password": "first"}


@pytest.mark.parametrize("there", [0, 1, 3])
def test_whoever_was_not_the_first_to_write_is_told_and_changes_nothing(
    bao: OpenBao, vault: VaultAdapter, unique: str, there: int
) -> None:
    for number in range(there):
        bao.put_secret(unique, {"password": f"{number}"})
    for seen in {0, 1, 2, 4} - {there}:
        with pytest.raises(Conflict, match="was changed meanwhile"):
            vault.patch_kv("secret", unique, value(), seen=seen)
    metadata = vault.kv_metadata("secret", unique)
    assert (metadata.current if metadata is not None else 0) == there


@pytest.mark.parametrize("how", ["delete", "destroy", "forget"])
def test_a_version_that_went_while_nobody_looked_is_a_change(
    bao: OpenBao, shipped: VaultAdapter, unique: str, how: str
) -> None:
    bao.put_secret(unique, {"password": "one"})
    match how:
        case "delete":
            bao.api.delete(f"/v1/secret/data/{unique}").expect(204)
        case "destroy":
            bao.api.put(f"/v1/secret/destroy/{unique}", {"versions": [1]}).expect(204)
        case _:
            bao.api.delete(f"/v1/secret/metadata/{unique}").expect(204)
    with pytest.raises(Conflict):
        shipped.patch_kv("secret", unique, value(), seen=1)


def test_where_check_and_set_is_required_a_patch_has_it(bao: OpenBao, shipped: VaultAdapter, unique: str) -> None:
    bao.api.put(f"/v1/secret/metadata/{unique}", {"cas_required": True}).expect(204)
    bao.api.put(f"/v1/secret/data/{unique}", {"options": {"cas": 0}, "data": {"password": "one"}}).expect(200)
    assert shipped.patch_kv("secret", unique, value(), seen=1) == 2


def test_of_a_mount_that_is_not_there_nothing_was_changed_meanwhile(vault: VaultAdapter, unique: str) -> None:
    for seen in (0, 1):
        with pytest.raises(NotFound, match="no handler for route"):
            vault.patch_kv(f"no-{unique}", unique, value(), seen=seen)


def test_a_right_that_is_missing_is_named(bao: OpenBao, unique: str) -> None:
    bao.put_secret(unique, {"password": "one"})
    body = {"policies": ["nothing"], "no_default_policy": True}
    token = str(bao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])
    bare = VaultAdapter(VaultConnection(address=bao.address, token=token))
    with pytest.raises(Denied) as patch:
        bare.patch_kv("secret", unique, value(), seen=1)
    assert f'path "secret/data/{unique}" {{ capabilities = ["patch"] }}' in str(patch.value)
    with pytest.raises(Denied) as create:
        bare.patch_kv("secret", f"{unique}-new", value(), seen=0)
    assert f'path "secret/data/{unique}-new" {{ capabilities = ["create"] }}' in str(create.value)


def test_with_the_rights_that_are_shipped_no_value_can_be_read(
    bao: OpenBao, shipped: VaultAdapter, unique: str
) -> None:
    bao.put_secret(unique, {"password": "one"})
    token = str(shipped._transport._connection.token)
    paths = [f"secret/data/{unique}", f"secret/data/{unique}?version=1", f"database/static-creds/{unique}"]
    for path in (*paths, f"database/creds/{unique}", f"database/config/{unique}"):
        assert bao.api.request("GET", f"/v1/{path}", headers={"X-Vault-Token": token}).status == 403


# --- what Vault makes by itself ---------------------------------------------------------------------------------------


def test_a_password_policy_makes_a_value(bao: OpenBao, shipped: VaultAdapter, unique: str) -> None:
    bao.api.put(f"/v1/sys/policies/password/{unique}", {"policy": POLICY}).expect(204)
    made = shipped.generate_password(unique)
    assert len(made.get_secret_value()) == 20
    assert set(made.get_secret_value()) <= set("xyz")
    assert made.get_secret_value() not in repr(made)


def test_a_password_policy_that_is_not_there_is_named(vault: VaultAdapter, unique: str) -> None:
    with pytest.raises(NotFound, match=f"no password policy {unique}"):
        vault.generate_password(unique)


def approle(bao: OpenBao, name: str) -> None:
    if "approle/" not in bao.api.get("/v1/sys/auth").json()["data"]:
        bao.api.put("/v1/sys/auth/approle", {"type": "approle"}).expect(204)
    bao.api.put(f"/v1/auth/approle/role/{name}", {"token_policies": ["default"]}).expect(204)


def logs_in(bao: OpenBao, name: str, secret_id: SecretStr) -> bool:
    role_id = bao.api.get(f"/v1/auth/approle/role/{name}/role-id").json()["data"]["role_id"]
    body = {"role_id": role_id, "secret_id": secret_id.get_secret_value()}
    return bao.api.put("/v1/auth/approle/login", body).status == 200


def test_a_secret_id_opens_its_approle_until_it_is_destroyed(bao: OpenBao, shipped: VaultAdapter, unique: str) -> None:
    approle(bao, unique)
    first, second = (shipped.new_secret_id("approle", unique) for _ in range(2))
    assert logs_in(bao, unique, first.value)
    assert logs_in(bao, unique, second.value)
    shipped.drop_secret_id("approle", unique, first.accessor)
    assert not logs_in(bao, unique, first.value)
    assert logs_in(bao, unique, second.value)
    assert second.value.get_secret_value() not in repr(second)


def test_an_approle_that_is_not_there_is_named(bao: OpenBao, vault: VaultAdapter, unique: str) -> None:
    approle(bao, f"{unique}-other")
    with pytest.raises(NotFound, match=f"no AppRole {unique}"):
        vault.new_secret_id("approle", unique)
    with pytest.raises(NotFound, match="no AppRole"):
        vault.new_secret_id(f"no-{unique}", unique)


# --- databases --------------------------------------------------------------------------------------------------------


def test_a_static_roles_password_is_made_anew_and_its_time_tells(
    bao: OpenBao, postgres: Postgres, shipped: VaultAdapter, vault: VaultAdapter, unique: str
) -> None:
    engine = DatabaseEngine(bao, postgres)
    user = engine.static_role(unique)
    before, password = vault.static_role("database", unique), engine.password(unique)
    asked = datetime.now(UTC)
    shipped.rotate_static_role("database", unique)
    after = vault.static_role("database", unique)
    assert before is not None
    assert after is not None
    assert before.rotated < after.rotated
    told = datetime.fromisoformat(after.rotated)
    assert asked - timedelta(seconds=2) <= told <= datetime.now(UTC) + timedelta(seconds=2)
    assert not postgres.lets_in(user, password)
    assert postgres.lets_in(user, engine.password(unique))


def test_what_a_database_engine_does_not_have_is_refused_with_its_name(
    bao: OpenBao, postgres: Postgres, vault: VaultAdapter, unique: str
) -> None:
    DatabaseEngine(bao, postgres).static_role(f"{unique}-other")
    with pytest.raises(Rejected, match="no static role found"):
        vault.rotate_static_role("database", unique)
    with pytest.raises(Rejected, match=f'connection with name: "{unique}"'):
        vault.rotate_root("database", unique)


# --- what may not happen ----------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


WRITES: tuple[Callable[[VaultAdapter], object], ...] = (
    lambda vault: vault.patch_kv("secret", "app", value(), seen=1),
    lambda vault: vault.patch_kv("secret", "app", value(), seen=0),
    lambda vault: vault.rotate_static_role("database", "app"),
    lambda vault: vault.rotate_root("database", "main"),
    lambda vault: vault.new_secret_id("approle", "app"),
)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_whose_end_is_not_known_is_not_repeated(
    server: Misbehaving, write: Callable[[VaultAdapter], object]
) -> None:
    vault = VaultAdapter(VaultConnection(address=server.address, token="t", retry_attempts=3, retry_seconds=3.0))
    server.script = [reply(502, b"bad gateway")] * 3
    with pytest.raises(Unavailable):
        write(vault)
    assert len(server.requests) == 1


@pytest.mark.parametrize("label", ["password", "secret_id"])
def test_an_answer_without_a_value_is_an_error_and_never_an_empty_value(server: Misbehaving, label: str) -> None:
    vault = VaultAdapter(VaultConnection(address=server.address, token="t"))
    for body in ({"data": {}}, {"data": {label: ""}}, {"data": {label: 7}}):
        server.script = [reply(200, body)]
        with pytest.raises(ServiceError, match=f"no {label}"):
            vault.generate_password("strong") if label == "password" else vault.new_secret_id("approle", "app")


@pytest.mark.parametrize("write", WRITES[2:4])
def test_a_databases_own_words_are_not_repeated(server: Misbehaving, write: Callable[[VaultAdapter], object]) -> None:
    vault = VaultAdapter(VaultConnection(address=server.address, token="t"))
    server.script = [reply(500, {"errors": [f"near: ALTER USER app PASSWORD '{VALUE}'"]})]
    with pytest.raises(SecretBindingError) as caught:
        write(vault)
    assert VALUE not in str(caught.value)
