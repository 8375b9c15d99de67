"""What the Vault adapter reads of database and PKI engines of a real OpenBao, with the rights that are shipped."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.devstack.openbao import OpenBao
from secretbinding.errors import Denied, NotFound, Rejected, ServiceError, Unavailable
from secretbinding.ports import LeaseLimits, PkiRole
from tests.support.pki import PkiEngine
from tests.support.postgres import DatabaseEngine, Postgres

from .misbehaving import Misbehaving, misbehaving, reply

SHIPPED = Path(__file__).parents[3] / "deploy" / "vault-policy.hcl"
DAY = 86400.0
_DEFAULT_SECONDS = 768 * 3600.0
"""OpenBao's own lifetime of a lease, where nobody says another."""


def token_for(bao: OpenBao, name: str, text: str) -> str:
    bao.put_policy(name, text)
    body = {"policies": [name], "no_default_policy": True}
    return str(bao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])


@pytest.fixture
def shipped(bao: OpenBao) -> Iterator[VaultAdapter]:
    """An adapter with exactly the rights that are shipped."""
    token = token_for(bao, "shipped", SHIPPED.read_text())
    adapter = VaultAdapter(VaultConnection(address=bao.address, token=token))
    yield adapter
    adapter.close()


@pytest.fixture
def bare(bao: OpenBao) -> VaultAdapter:
    """An adapter whose token may do nothing."""
    return VaultAdapter(VaultConnection(address=bao.address, token=token_for(bao, "nothing", "# nothing")))


@pytest.fixture
def database(bao: OpenBao, postgres: Postgres) -> DatabaseEngine:
    return DatabaseEngine(bao, postgres)


@pytest.fixture
def pki(bao: OpenBao) -> PkiEngine:
    return PkiEngine(bao)


def test_a_static_role_tells_when_it_was_rotated_and_when_it_will_be(
    database: DatabaseEngine, shipped: VaultAdapter, unique: str
) -> None:
    database.static_role(unique, period="24h")
    before = shipped.static_role("database", unique)
    database.rotate(unique)
    after = shipped.static_role("database/", unique)
    assert before is not None
    assert after is not None
    assert (before.period_seconds, after.period_seconds) == (DAY, DAY)
    first, second = (datetime.fromisoformat(f"{role.rotated[:19]}+00:00") for role in (before, after))
    assert before.rotated < after.rotated
    assert timedelta(0) <= second - first < timedelta(minutes=1)
    assert abs(datetime.now(UTC) - second) < timedelta(minutes=1)


def test_a_dynamic_role_tells_the_lifetimes_that_it_sets(
    database: DatabaseEngine, shipped: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(f"{unique}-both", ttl="1h", max_ttl="24h")
    database.dynamic_role(f"{unique}-none", ttl="0", max_ttl="0")
    assert shipped.database_role("database", f"{unique}-both") == LeaseLimits(3600.0, DAY)
    assert shipped.database_role("database", f"{unique}-none") == LeaseLimits()


def test_a_pki_role_tells_its_lifetimes_and_its_issuer(pki: PkiEngine, shipped: VaultAdapter, unique: str) -> None:
    pki.role(unique, ttl="72h")
    pki.role(f"{unique}-other", ttl="0", max_ttl="240h", issuer="first")
    assert shipped.pki_role("pki", unique) == PkiRole(LeaseLimits(3 * DAY, 0.0), "default")
    assert shipped.pki_role("pki", f"{unique}-other") == PkiRole(LeaseLimits(0.0, 10 * DAY), "first")


def test_another_default_issuer_has_another_digest_and_the_same_one_the_same(
    pki: PkiEngine, shipped: VaultAdapter, unique: str
) -> None:
    pki.new_root(unique)
    before = shipped.pki_issuer("pki", "default")
    assert before is not None
    assert len(before) == 16
    assert shipped.pki_issuer("pki", "first") == before
    pki.use(unique)
    try:
        assert shipped.pki_issuer("pki", "default") == shipped.pki_issuer("pki", unique) != before
    finally:
        pki.use("first")
    assert shipped.pki_issuer("pki", "default") == before


def test_an_issuer_is_read_without_any_right(pki: PkiEngine, bare: VaultAdapter, unique: str) -> None:
    pki.role(unique)
    with pytest.raises(Denied):
        bare.pki_role("pki", unique)
    assert bare.pki_issuer("pki", "default") is not None


def test_a_mount_tells_the_lifetimes_that_stand_for_it_the_servers_own_included(
    bao: OpenBao, database: DatabaseEngine, pki: PkiEngine, shipped: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(unique)
    pki.role(unique)
    assert shipped.mount_limits("database") == LeaseLimits(_DEFAULT_SECONDS, _DEFAULT_SECONDS)
    assert shipped.mount_limits("pki/") == LeaseLimits(_DEFAULT_SECONDS, 87600 * 3600.0)


def test_without_a_right_to_the_tuning_a_mount_tells_what_it_sets_itself(
    bao: OpenBao, pki: PkiEngine, bare: VaultAdapter, unique: str
) -> None:
    pki.role(unique)
    token = token_for(bao, f"roles-{unique}", 'path "pki/roles/*" { capabilities = ["read"] }')
    vault = VaultAdapter(VaultConnection(address=bao.address, token=token))
    assert vault.mount_limits("pki") == LeaseLimits(0.0, 87600 * 3600.0)
    assert bare.mount_limits("pki") is None


def test_what_a_mount_sets_is_remembered_and_asked_for_again_after_its_time(bao: OpenBao) -> None:
    calls: list[str] = []

    def adapter(seconds: float) -> VaultAdapter:
        return VaultAdapter(
            VaultConnection(address=bao.address, token=bao.root_token),
            engine_seconds=seconds,
            on_call=lambda system, operation, seconds, outcome: calls.append(operation),
        )

    remembering, forgetting = adapter(300.0), adapter(0.0)
    assert [remembering.mount_limits("secret") for _ in range(3)] == [
        LeaseLimits(_DEFAULT_SECONDS, _DEFAULT_SECONDS)
    ] * 3
    assert calls == ["mount_tune_read"]
    assert forgetting.mount_limits("secret") == forgetting.mount_limits("secret")
    assert calls == ["mount_tune_read"] * 3


def test_what_is_not_there_is_nothing(
    database: DatabaseEngine, pki: PkiEngine, shipped: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(unique)
    pki.role(unique)
    assert shipped.static_role("database", "never-there") is None
    assert shipped.database_role("database", "never-there") is None
    assert shipped.pki_role("pki", "never-there") is None
    assert shipped.pki_issuer("pki", "never-there") is None
    assert shipped.mount_limits("never-there") is None


def test_an_engine_without_any_issuer_has_no_default_one(bao: OpenBao, vault: VaultAdapter) -> None:
    bao.api.put("/v1/sys/mounts/empty", {"type": "pki"}).expect(204)
    assert vault.pki_issuer("empty", "default") is None


@pytest.mark.parametrize("mount", ["never-there", "never/there", "transit"])
def test_a_mount_without_such_an_engine_is_not_found_and_named(bao: OpenBao, vault: VaultAdapter, mount: str) -> None:
    bao.api.put("/v1/sys/mounts/transit", {"type": "transit"}).expect(204, 400)
    asks: list[tuple[str, Callable[[], object]]] = [
        ("database", lambda: vault.static_role(mount, "app")),
        ("database", lambda: vault.database_role(mount, "app")),
        ("pki", lambda: vault.pki_role(mount, "app")),
        ("pki", lambda: vault.pki_issuer(mount, "default")),
    ]
    for engine, ask in asks:
        with pytest.raises(NotFound, match=f"no {engine} engine is mounted at {mount}"):
            ask()


def test_a_mount_may_have_slashes(bao: OpenBao, postgres: Postgres, vault: VaultAdapter, unique: str) -> None:
    database, pki = DatabaseEngine(bao, postgres, f"group/{unique}/db"), PkiEngine(bao, f"group/{unique}/pki")
    database.static_role(f"{unique}-static")
    database.dynamic_role(unique)
    pki.role(unique)
    assert vault.static_role(database.mount, f"{unique}-static") is not None
    assert vault.database_role(database.mount, unique) is not None
    assert vault.pki_role(pki.mount, unique) is not None
    assert vault.pki_issuer(pki.mount, "default") is not None
    assert vault.mount_limits(pki.mount) is not None


@pytest.mark.parametrize(
    ("method", "arguments", "path"),
    [
        ("static_role", ("database", "app"), "database/static-roles/app"),
        ("database_role", ("database", "app"), "database/roles/app"),
        ("pki_role", ("pki", "app"), "pki/roles/app"),
    ],
)
def test_a_denial_says_which_path_and_adding_it_is_enough(
    bao: OpenBao, database: DatabaseEngine, pki: PkiEngine, method: str, arguments: tuple[Any, ...], path: str
) -> None:
    database.dynamic_role("any")
    pki.role("any")
    bare = VaultAdapter(VaultConnection(address=bao.address, token=token_for(bao, "nothing", "# nothing")))
    with pytest.raises(Denied, match=path) as caught:
        getattr(bare, method)(*arguments)
    rule = f'path "{path}" {{ capabilities = ["read"] }}'
    assert rule in caught.value.remedy
    granted = VaultAdapter(VaultConnection(address=bao.address, token=token_for(bao, "just-that", rule)))
    getattr(granted, method)(*arguments)


@pytest.mark.parametrize("name", ["", "..", "a//b", "a/../b", "a\nb"])
def test_a_name_that_would_lead_elsewhere_is_not_asked_for(vault: VaultAdapter, name: str) -> None:
    asks: list[Callable[[], object]] = [
        lambda: vault.static_role("database", name),
        lambda: vault.pki_issuer("pki", name),
        lambda: vault.mount_limits(name),
    ]
    for ask in asks:
        with pytest.raises(Rejected, match="is not a path in Vault"):
            ask()


def test_no_shipped_right_gives_a_password_or_a_certificate(
    bao: OpenBao, database: DatabaseEngine, pki: PkiEngine, unique: str
) -> None:
    database.static_role(f"{unique}-static")
    database.dynamic_role(unique)
    pki.role(unique)
    token = token_for(bao, "shipped", SHIPPED.read_text())
    for method, path in (
        ("GET", f"database/static-creds/{unique}-static"),
        ("GET", f"database/creds/{unique}"),
        ("PUT", f"database/rotate-role/{unique}-static"),
        ("GET", "database/config/postgres"),
        ("PUT", f"pki/issue/{unique}"),
        ("PUT", f"pki/sign/{unique}"),
        ("PUT", "sys/mounts/database/tune"),
    ):
        body = {"common_name": "x.example"} if method == "PUT" else None
        answer = bao.api.request(method, f"/v1/{path}", body=body, headers={"X-Vault-Token": token})
        assert answer.status == 403, path


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


@pytest.fixture
def misled(server: Misbehaving) -> VaultAdapter:
    quick: dict[str, Any] = {"timeout_seconds": 2.0, "connect_timeout_seconds": 2.0, "retry_seconds": 5.0}
    return VaultAdapter(VaultConnection(address=server.address, token="t", **quick))


def test_an_issuer_is_asked_for_without_the_token(server: Misbehaving, misled: VaultAdapter) -> None:
    server.script = [reply(200, {"data": {"certificate": "x", "ca_chain": ["y", "x"]}})]
    misled.pki_issuer("pki", "default")
    assert "X-Vault-Token" not in server.requests[0].headers


def test_an_issuer_that_is_not_there_is_asked_for_once_though_vault_calls_it_a_fault_of_its_own(
    server: Misbehaving, misled: VaultAdapter
) -> None:
    server.script = [reply(500, {"errors": ["unable to find PKI issuer for reference: x"]})]
    assert misled.pki_issuer("pki", "x") is None
    assert len(server.requests) == 1
    server.script = [reply(500, {"errors": ["internal error"]})]
    with pytest.raises(Unavailable):
        misled.pki_issuer("pki", "x")


def test_the_order_of_a_chain_does_not_matter_but_what_is_in_it_does(server: Misbehaving, misled: VaultAdapter) -> None:
    def digest(*chain: str) -> str | None:
        server.script = [reply(200, {"data": {"certificate": "a\n", "ca_chain": list(chain)}})]
        return misled.pki_issuer("pki", "default")

    assert digest("a\n", "b\n", "c\n") == digest("a", "c", "b") != digest("a", "b")


def test_a_role_that_was_never_rotated_says_so(server: Misbehaving, misled: VaultAdapter) -> None:
    for never in ("0001-01-01T00:00:00Z", None, ""):
        server.script = [reply(200, {"data": {"last_vault_rotation": never, "rotation_schedule": "0 * * * *"}})]
        role = misled.static_role("database", "app")
        assert role is not None
        assert (role.rotated, role.period_seconds) == ("", 0.0)


@pytest.mark.parametrize("found", [{"ttl": "soon", "default_ttl": "soon", "rotation_period": ["a"]}, [], None, "x"])
def test_a_role_of_another_shape_is_a_service_error(server: Misbehaving, misled: VaultAdapter, found: Any) -> None:
    asks: list[Callable[[], object]] = [
        lambda: misled.static_role("database", "app"),
        lambda: misled.database_role("database", "app"),
        lambda: misled.pki_role("pki", "app"),
    ]
    for ask in asks:
        server.script = [reply(200, {"data": found})]
        with pytest.raises(ServiceError, match="JSON of another shape"):
            ask()


# --- any engine's configuration, and roles that are made --------------------------------------------------------------

FURTHER = Path(__file__).parents[3] / "deploy" / "vault-policy-engines.hcl"


@pytest.fixture
def further(bao: OpenBao) -> Iterator[VaultAdapter]:
    """An adapter with the rights for further engines and for roles that bindings make, and with those alone."""
    adapter = VaultAdapter(VaultConnection(address=bao.address, token=token_for(bao, "further", FURTHER.read_text())))
    yield adapter
    adapter.close()


@pytest.fixture
def engines(bao: OpenBao) -> OpenBao:
    """Transit and SSH engines at their usual mounts, and KV version 1 at `kv`."""
    mounted = bao.api.get("/v1/sys/mounts").expect(200).json()["data"]
    for kind, options in (("transit", {}), ("ssh", {}), ("kv", {"options": {"version": "1"}})):
        if f"{kind}/" not in mounted:
            bao.api.put(f"/v1/sys/mounts/{kind}", {"type": kind, **options}).expect(200, 204)
    return bao


def test_the_configuration_of_engines_is_read_and_what_is_not_there_is_none(
    engines: OpenBao, further: VaultAdapter, unique: str
) -> None:
    engines.api.put(f"/v1/transit/keys/{unique}", {"type": "ed25519"}).expect(200)
    engines.api.put(f"/v1/ssh/roles/{unique}", {"key_type": "otp", "default_user": "u"}).expect(204)
    key = further.read_engine_config(f"transit/keys/{unique}")
    assert key is not None
    assert (key["supports_signing"], key["supports_encryption"]) == (True, False)
    role = further.read_engine_config(f"ssh/roles/{unique}")
    assert role is not None
    assert role["key_type"] == "otp"
    assert further.read_engine_config(f"transit/keys/no-{unique}") is None
    assert further.read_engine_config(f"ssh/roles/no-{unique}") is None


def test_a_mount_that_is_not_there_is_named(bao: OpenBao, unique: str) -> None:
    adapter = VaultAdapter(VaultConnection(address=bao.address, token=bao.root_token))
    for ask in (
        lambda: adapter.read_engine_config(f"nothing-{unique}/keys/a"),
        lambda: adapter.write_engine_role(f"nothing-{unique}/roles/a", {}),
    ):
        with pytest.raises(NotFound, match=f"nothing-{unique}"):
            ask()
    adapter.delete_engine_role(f"nothing-{unique}/roles/a")


def test_a_role_of_ours_is_written_read_and_deleted_and_no_other(
    database: DatabaseEngine, further: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(unique)
    ours = f"database/roles/nsb.default.{unique}.x"
    further.write_engine_role(ours, {"db_name": "postgres", "creation_statements": ["SELECT 1"], "max_ttl": 3600})
    found = further.read_engine_config(ours)
    assert found is not None
    assert (found["max_ttl"], found["creation_statements"]) == (3600, ["SELECT 1"])
    further.delete_engine_role(ours)
    further.delete_engine_role(ours)
    assert further.read_engine_config(ours) is None
    for attempt in (
        lambda: further.write_engine_role(f"database/roles/{unique}", {"db_name": "postgres"}),
        lambda: further.delete_engine_role(f"database/roles/{unique}"),
        lambda: further.write_engine_role("database/config/postgres", {}),
    ):
        with pytest.raises(Denied):
            attempt()


def test_a_role_that_the_engine_refuses_is_the_bindings_fault_and_the_database_does_not_speak(
    database: DatabaseEngine, further: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(unique)
    role = f"database/static-roles/nsb.default.{unique}.x"
    with pytest.raises(Rejected, match="nowhere"):
        further.write_engine_role(role, {"db_name": "nowhere", "username": unique, "rotation_period": 3600})
    with pytest.raises(Rejected) as caught:
        further.write_engine_role(role, {"db_name": "postgres", "username": f"no-{unique}", "rotation_period": 3600})
    assert f"no-{unique}" not in str(caught.value)


def test_that_a_kv_mount_is_of_version_1_is_told_to_who_may_do_nothing_in_it(
    engines: OpenBao, further: VaultAdapter, bare: VaultAdapter
) -> None:
    assert further.kv_engine("kv") == "v1"
    assert bare.kv_engine("kv") is None


def test_no_right_for_further_engines_gives_a_value_out(
    engines: OpenBao, database: DatabaseEngine, pki: PkiEngine, further: VaultAdapter, unique: str
) -> None:
    database.dynamic_role(unique)
    database.static_role(f"{unique}-static")
    pki.role(unique)
    engines.api.put("/v1/kv/app", {"password": "x"}).expect(204)
    engines.api.put(f"/v1/transit/keys/{unique}", {"exportable": True}).expect(200)
    values = ["kv/app", f"database/creds/{unique}", f"database/static-creds/{unique}-static"]
    values += [f"transit/export/encryption-key/{unique}", f"transit/backup/{unique}", f"ssh/creds/{unique}"]
    values += ["gcp/roleset/x/token", "gcp/static-account/x/key", "aws/creds/x", "aws/config/root", "azure/config"]
    for path in values:
        with pytest.raises(Denied):
            further.read_engine_config(path)
    for path in (f"pki/issue/{unique}", f"ssh/issue/{unique}", f"transit/decrypt/{unique}"):
        with pytest.raises(Denied):
            further.write_engine_role(path, {"common_name": "a"})
