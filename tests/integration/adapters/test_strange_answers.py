"""Answers that no Vault and no Nomad gives: of another shape, from a proxy, from elsewhere, too long."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.errors import ServiceError

from .misbehaving import Misbehaving, lines, misbehaving, reply

POLICY = {"data": {"name": "app", "policy": "text"}}
JOB = {"ID": "app", "Namespace": "default"}
QUICK: dict[str, Any] = {"timeout_seconds": 2.0, "connect_timeout_seconds": 2.0, "retry_seconds": 5.0}


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


@pytest.fixture
def vault(server: Misbehaving) -> VaultAdapter:
    return VaultAdapter(VaultConnection(address=server.address, token="t", **QUICK))


@pytest.fixture
def nomad(server: Misbehaving) -> NomadAdapter:
    return NomadAdapter(NomadConnection(address=server.address, token="t", **QUICK))


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", b'{"data": []}', b'{"data": {"keys": 1}}'])
def test_an_answer_of_another_shape_is_a_service_error(
    server: Misbehaving, vault: VaultAdapter, nomad: NomadAdapter, body: bytes
) -> None:
    server.script = [reply(200, body)]
    with pytest.raises(ServiceError, match="VAULT_ADDR"):
        vault.list_policies()
    with pytest.raises(ServiceError, match="NOMAD_ADDR"):
        nomad.versions("default", "app") if body != b"[]" else nomad.region()


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", b'{"data": [1]}', b'{"auth": "x"}'])
def test_whatever_says_yes_to_a_write_and_is_not_vault_has_written_nothing(
    server: Misbehaving, vault: VaultAdapter, body: bytes
) -> None:
    server.script = [reply(200, body)]
    writes: list[Callable[[], object]] = [
        lambda: vault.write_policy("app", ""),
        lambda: vault.delete_policy("app"),
        lambda: vault.write_jwt_role("jwt-nomad", "app", {}),
        lambda: vault.delete_jwt_role("jwt-nomad", "app"),
        lambda: vault.write_app_role("approle", "app", {}),
        lambda: vault.write_engine_role("database/roles/app", {}),
        lambda: vault.rotate_static_role("database", "app"),
    ]
    for write in writes:
        with pytest.raises(ServiceError, match="VAULT_ADDR"):
            write()


@pytest.mark.parametrize("body", [b"<html>404 Not Found</html>", b"404 page not found\n", b""])
def test_a_proxys_404_never_looks_like_an_absence(
    server: Misbehaving, vault: VaultAdapter, nomad: NomadAdapter, body: bytes
) -> None:
    server.script = [reply(404, body)]
    asks: list[Callable[[], object]] = [
        lambda: vault.read_policy("app"),
        lambda: vault.delete_policy("app"),
        lambda: vault.list_policies(),
        lambda: vault.static_role("database", "app"),
        lambda: vault.database_role("database", "app"),
        lambda: vault.pki_role("pki", "app"),
        lambda: vault.pki_issuer("pki", "default"),
        lambda: nomad.job("default", "app"),
        lambda: nomad.submission("default", "app", 0),
        lambda: nomad.versions("default", "app"),
        lambda: nomad.tag_version("default", "app", 0, "x", ""),
        lambda: nomad.untag_version("default", "app", "x"),
        lambda: nomad.evaluate("default", "app"),
        lambda: nomad.deployments("default", "app"),
        lambda: nomad.allocations("default", "app"),
        lambda: nomad.evaluations("default", "app"),
        lambda: nomad.list_jobs("default"),
        lambda: nomad.read_variable("default", "a"),
        lambda: nomad.list_variables("default", "a"),
        lambda: nomad.delete_variable("default", "a"),
        lambda: nomad.register(JOB, modify_index=0),
    ]
    for ask in asks:
        with pytest.raises(ServiceError, match="that is not") as caught:
            ask()
        assert type(caught.value) is ServiceError


DEEP = b"[" * 100_000 + b"]" * 100_000


def test_json_of_any_depth_is_a_service_error(server: Misbehaving, vault: VaultAdapter, nomad: NomadAdapter) -> None:
    asks: list[Callable[[], object]] = [
        lambda: vault.read_policy("app"),
        lambda: nomad.versions("default", "app"),
        lambda: next(nomad.events(["Job:*"], "default")),
    ]
    for ask in asks:
        server.script = [reply(200, DEEP + b"\n")]
        with pytest.raises(ServiceError, match="not"):
            ask()
    for status in (400, 404):
        server.script = [reply(status, b"[" * 5000)]
        with pytest.raises(ServiceError):
            vault.read_policy("app")


@pytest.mark.parametrize(
    "data",
    [
        {"versions": {"x": {}}},
        {"versions": {"1": 7}},
        {"versions": [1]},
        {"versions": {"1": {"deletion_time": "soon"}}},
        {"versions": {"1": {"deletion_time": "2030-01-01T00:00:00"}}},
        {"current_version": "x"},
        {"current_version": None},
        {"max_versions": {}},
    ],
)
def test_metadata_of_another_shape_is_a_service_error(server: Misbehaving, vault: VaultAdapter, data: Any) -> None:
    server.script = [reply(200, {"data": data})]
    with pytest.raises(ServiceError, match="JSON of another shape"):
        vault.kv_metadata("secret", "app")


@pytest.mark.parametrize("data", [{"max_versions": {"a": 1}}, {"max_versions": "x"}, {"max_versions": [1]}])
def test_a_mounts_configuration_of_another_shape_is_a_service_error(
    server: Misbehaving, vault: VaultAdapter, data: Any
) -> None:
    server.script = [reply(200, {"data": data})]
    with pytest.raises(ServiceError, match="JSON of another shape"):
        vault.kv_max_versions("secret")


@pytest.mark.parametrize("rows", [[1], [{"Namespace": 1}], [{"Namespace": "default", "Path": "a", "ModifyIndex": "x"}]])
def test_rows_of_another_shape_are_a_service_error(server: Misbehaving, nomad: NomadAdapter, rows: Any) -> None:
    server.script = [reply(200, rows)]
    with pytest.raises(ServiceError, match="JSON of another shape"):
        nomad.list_variables("default", "a")


@pytest.mark.parametrize("line", [{"Index": "x"}, {"Events": [1]}, {"Events": {"a": 1}}, {"Events": [{"Payload": 1}]}])
def test_an_event_of_another_shape_is_a_service_error(server: Misbehaving, nomad: NomadAdapter, line: Any) -> None:
    server.script = [lines(json.dumps(line))]
    with nomad.events(["Job:*"], "default") as stream, pytest.raises(ServiceError, match="JSON of another shape"):
        list(stream)


def test_a_redirect_is_not_followed_and_the_token_stays_here(server: Misbehaving, vault: VaultAdapter) -> None:
    with misbehaving() as elsewhere:
        elsewhere.script = [reply(200, POLICY)]
        for status in (301, 302, 307, 308):
            server.script = [reply(status, Location=f"{elsewhere.address}/v1/sys/policies/acl/app?secret=1")]
            with pytest.raises(ServiceError, match=f"redirects to {elsewhere.address}, which is not followed"):
                vault.read_policy("app")
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_server_is_not_followed_either(
    server: Misbehaving, vault: VaultAdapter, nomad: NomadAdapter, status: int
) -> None:
    asks: list[Callable[[], object]] = [
        lambda: vault.read_policy("app"),
        lambda: vault.write_policy("app", "text"),
        lambda: vault.delete_policy("app"),
        lambda: nomad.job("default", "app"),
        lambda: nomad.register(JOB, modify_index=0),
        lambda: nomad.events(["Job:*"], "default"),
    ]
    for ask in asks:
        server.script = [reply(status, Location="/v1/another"), reply(200, POLICY)]
        server.requests.clear()
        with pytest.raises(ServiceError, match="which is not followed"):
            ask()
        assert len(server.requests) == 1


def test_an_answer_over_the_limit_is_an_error_and_costs_no_connection(server: Misbehaving) -> None:
    small = VaultConnection(address=server.address, max_answer_bytes=1000, pool_size=1, timeout_seconds=2.0)
    adapter = VaultAdapter(small)
    server.script = [reply(200, b"x" * 5_000_000)]
    for _ in range(3):
        with pytest.raises(ServiceError, match="more than 1000 bytes"):
            adapter.read_policy("app")
    server.script = [reply(200, POLICY)]
    assert adapter.read_policy("app") == "text"
