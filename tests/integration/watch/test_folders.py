"""Lists with metadata: on the real OpenBao, and what is done where a server has none."""

from pathlib import Path

import pytest

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.devstack.openbao import OpenBao
from secretbinding.errors import Denied, Rejected, SecretBindingError, ServiceError, Unavailable
from tests.integration.adapters.misbehaving import Action, misbehaving, reply
from tests.integration.watch.watching import watching
from tests.support.world import wait_until
from tests.unit.watch.world import binding

POLICY = Path(__file__).parents[3] / "deploy" / "vault-policy.hcl"


@pytest.fixture
def token(openbao: OpenBao, unique: str) -> str:
    """A token with the shipped policy."""
    openbao.put_policy(unique, POLICY.read_text())
    body = {"policies": [unique], "no_default_policy": True}
    return str(openbao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])


def test_a_list_says_of_each_secret_just_what_its_own_metadata_says(openbao: OpenBao, unique: str, token: str) -> None:
    for name in ("plain", "deleted", "destroyed", "odd name"):
        for value in ("one", "two"):
            openbao.put_secret(f"{unique}/{name}", {"value": value})
    openbao.put_secret(f"{unique}/deeper/app", {"value": "x"})
    openbao.api.delete(f"/v1/secret/data/{unique}/deleted").expect(204)
    openbao.api.put(f"/v1/secret/destroy/{unique}/destroyed", {"versions": [1]}).expect(204)
    openbao.api.put(f"/v1/secret/metadata/{unique}/bare", {"max_versions": 3}).expect(204)
    vault = ListingVaultAdapter(VaultConnection(address=openbao.address, token=token))
    found = vault.kv_folder("secret", unique)
    assert found is not None
    assert sorted(found) == ["bare", "deleted", "destroyed", "odd name", "plain"]
    for name, metadata in found.items():
        assert metadata == vault.kv_metadata("secret", f"{unique}/{name}")
    assert vault.kv_folder("secret", f"{unique}/nothing") is None
    root = vault.kv_folder("secret/", "")
    assert root is not None
    assert unique not in root


def test_a_token_without_the_right_to_list_is_told_what_it_lacks(openbao: OpenBao, unique: str) -> None:
    openbao.put_policy(unique, 'path "secret/metadata/*" {\n  capabilities = ["read"]\n}\n')
    answer = openbao.api.put("/v1/auth/token/create", {"policies": [unique]}).expect(200).json()
    vault = ListingVaultAdapter(VaultConnection(address=openbao.address, token=str(answer["auth"]["client_token"])))
    with pytest.raises(Denied, match=r'path "secret/detailed-metadata/team" { capabilities = \["list"\] }'):
        vault.kv_folder("secret", "team")


def test_many_jobs_that_share_a_folder_make_one_list_an_interval(openbao: OpenBao, unique: str, token: str) -> None:
    for number in range(8):
        openbao.put_secret(f"{unique}/app{number}", {"value": "one"})
    items = [binding(f"job{number}", f"{unique}/app{number % 8}") for number in range(40)]
    with watching(openbao, items, interval=0.3, token=token) as watch:
        wait_until("ten intervals are over", lambda: len(watch.vault.lists) >= 10)
        assert watch.vault.reads == []
        assert watch.woken_so_far() == []
        openbao.put_secret(f"{unique}/app3", {"value": "two"})
        assert {watch.woken.get(timeout=10.0) for _ in range(5)} == {f"job{number}" for number in (3, 11, 19, 27, 35)}
        openbao.api.delete(f"/v1/secret/data/{unique}/app5").expect(204)
        assert {watch.woken.get(timeout=10.0) for _ in range(5)} == {f"job{number}" for number in (5, 13, 21, 29, 37)}
        openbao.api.put(f"/v1/secret/undelete/{unique}/app5", {"versions": [1]}).expect(204)
        assert {watch.woken.get(timeout=10.0) for _ in range(5)} == {f"job{number}" for number in (5, 13, 21, 29, 37)}
        openbao.api.delete(f"/v1/secret/metadata/{unique}/app7").expect(204)
        assert {watch.woken.get(timeout=10.0) for _ in range(5)} == {f"job{number}" for number in (7, 15, 23, 31, 39)}
        assert watch.vault.reads == []


def test_without_the_right_to_list_the_same_is_seen_by_reads(openbao: OpenBao, unique: str) -> None:
    openbao.put_policy(unique, 'path "secret/metadata/*" {\n  capabilities = ["read"]\n}\n')
    answer = openbao.api.put("/v1/auth/token/create", {"policies": [unique]}).expect(200).json()
    for number in range(5):
        openbao.put_secret(f"{unique}/app{number}", {"value": "one"})
    items = [binding(f"job{number}", f"{unique}/app{number}") for number in range(5)]
    token = str(answer["auth"]["client_token"])
    with watching(openbao, items, interval=0.3, token=token) as watch:
        watch.looked(5)
        openbao.put_secret(f"{unique}/app3", {"value": "two"})
        assert watch.woken.get(timeout=10.0) == "job3"
        assert watch.vault.lists == []


NO_SUCH_PATH = {"data": None, "warnings": ["Invalid path for a versioned K/V secrets engine."]}


@pytest.mark.parametrize("answer", [reply(404, NO_SUCH_PATH), reply(404, {"errors": []})])
def test_a_404_is_a_server_without_lists_or_an_empty_folder(answer: Action) -> None:
    with misbehaving() as server:
        server.script = [answer]
        assert ListingVaultAdapter(VaultConnection(address=server.address)).kv_folder("secret", "team") is None
        assert server.requests[0].target == "/v1/secret/detailed-metadata/team/?list=true"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(405, {"errors": ["unsupported operation"]}), Rejected),
        (reply(403, {"errors": ["permission denied"]}), Denied),
        (reply(429, {"errors": ["slow down"]}), Unavailable),
        (reply(503, {"errors": ["busy"]}), Unavailable),
        (reply(200, {"data": {"keys": ["a", "b"]}}), ServiceError),
        (reply(200, {"data": {"keys": ["a"], "key_info": {"a": {}}}}), ServiceError),
        (reply(200, {"data": {"keys": ["a"], "key_info": []}}), ServiceError),
        (reply(200, {"data": {}}), ServiceError),
    ],
)
def test_any_other_answer_is_an_error(answer: Action, error: type[SecretBindingError]) -> None:
    with misbehaving() as server:
        server.script = [answer]
        connection = VaultConnection(address=server.address, retry_attempts=1)
        with pytest.raises(error):
            ListingVaultAdapter(connection).kv_folder("secret", "team")
