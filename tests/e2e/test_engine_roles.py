"""Roles of secrets engines that a binding has made for itself, with a real database and the rights that are shipped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.pki import PkiEngine
from tests.support.postgres import CONNECTION, DATABASE, DatabaseEngine, Postgres
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
CREATE = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
COMMENT = "COMMENT ON ROLE \"{{name}}\" IS 'by secretbinding';"
VARIABLES = {"DB_USER": "username", "DB_PASS": "password"}


def controlled(stack: Stack, name: str, *files: str, **own: Any) -> World:
    """A controller with the rights of these files in Vault."""
    shipped = files or ("vault-policy.hcl", "vault-policy-engines.hcl")
    stack.openbao.put_policy(f"controller-{name}", "\n".join((DEPLOY / file).read_text() for file in shipped))
    body = {"policies": [f"controller-{name}"], "no_default_policy": True}
    token = stack.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"]
    return World(stack, vault_token=str(token), **own)


@pytest.fixture
def database(stack: Stack, postgres: Postgres, unique: str) -> DatabaseEngine:
    engine = DatabaseEngine(stack.openbao, postgres)
    engine.dynamic_role(unique)
    return engine


@pytest.fixture(autouse=True)
def cleared(stack: Stack, unique: str) -> Iterator[None]:
    """The job is gone afterwards: it would keep its leases alive."""
    yield
    stack.api.delete(f"/v1/job/{unique}", purge="true")


def client_job(name: str, postgres: Postgres) -> dict[str, Any]:
    """A job that logs in to the database again and again, and reports as whom and how."""
    login = f"{postgres.psql} -h {postgres.host} -p {postgres.port} -U $DB_USER -d {DATABASE} -XAtc 'SELECT 1'"
    tried = f"if PGPASSWORD=$DB_PASS {login} > /dev/null 2>&1; then said=ok; else said=refused; fi"
    script = f"while true; do {tried}; echo $DB_USER $said > local/new; mv local/new local/seen; sleep 0.3; done"
    job = a_job(name)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", script]
    return job


def manifest(name: str, secret: dict[str, Any]) -> dict[str, Any]:
    made = a_manifest(name, name, "none")
    made["spec"]["secrets"] = [{"name": "db", **secret}]
    return made


def made_roles(stack: Stack, where: str, having: str) -> list[str]:
    """The engine's roles that are ours and hold a text in their names."""
    answer = stack.openbao.api.request("LIST", f"/v1/{where}")
    keys = answer.json()["data"]["keys"] if answer.status == 200 else []
    return [key for key in keys if key.startswith("nsb.default.") and having in key]


def role(stack: Stack, path: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.openbao.api.get(f"/v1/{path}").expect().json()["data"]
    return found


def logged_in_as(world: World, name: str) -> str:
    """The user with whom the one allocation that runs can log in, "" while it cannot."""
    seen = world.seen(name)
    words = seen[0].split() if len(seen) == 1 else []
    return words[0] if words[1:] == ["ok"] else ""


def test_a_database_role_comes_with_the_binding_is_mended_changed_and_goes_with_it(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique, resync_seconds=1.0)
    own = {"db_name": CONNECTION, "creation_statements": [CREATE]}
    stack.openbao.api.put(f"/v1/database/roles/nsb-{unique}", own).expect(204)
    world.register(client_job(unique, postgres))
    create = {"connection": CONNECTION, "creationStatements": [CREATE], "defaultTTL": "1h", "maxTTL": "24h"}
    secret = {"database": {"mount": "database", "create": create}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.READY)
        wait_until("it logs in", lambda: bool(logged_in_as(world, unique)))
        (name,) = made_roles(stack, "database/roles", unique)
        assert role(stack, f"database/roles/{name}")["max_ttl"] == 86400
        assert f'"database/creds/{name}"' in world.policy(world.policies(having=unique)[0])
        before, first = world.job(unique)["Version"], logged_in_as(world, unique)

        stack.openbao.api.put(f"/v1/database/roles/{name}", {"max_ttl": "72h"}).expect(204)
        wait_until("it is mended", lambda: role(stack, f"database/roles/{name}")["max_ttl"] == 86400)
        assert world.job(unique)["Version"] == before, "what runs has what the binding says"

        changed = {**create, "creationStatements": [CREATE, COMMENT]}
        world.bind(manifest(unique, {**secret, "database": {"mount": "database", "create": changed}}))
        wait_until("a new user", lambda: logged_in_as(world, unique) not in ("", first))
        assert made_roles(stack, "database/roles", unique) == [name]
        wait_until("nothing more", lambda: world.job(unique)["Version"] == before + 1)

        world.unbind(unique)
        wait_until("the role is gone", lambda: made_roles(stack, "database/roles", unique) == [])
        wait_until("nothing is left", lambda: world.policies(having=unique) == world.roles(having=unique) == [])
    assert role(stack, f"database/roles/nsb-{unique}")["db_name"] == CONNECTION


def test_a_static_role_is_there_before_the_job_is_registered_once(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique)
    postgres.sql(f"CREATE ROLE \"{unique}\" WITH LOGIN PASSWORD 'nobody-knows'")
    world.register(client_job(unique, postgres))
    world.deployed(unique)
    create = {"connection": CONNECTION, "username": unique, "rotationPeriod": "24h"}
    secret = {"database": {"mount": "database", "create": create}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret))
        wait_until("it logs in", lambda: logged_in_as(world, unique) == unique)
        world.await_reason(unique, Reason.READY)
        (name,) = made_roles(stack, "database/static-roles", unique)
        assert world.job(unique)["Version"] == 1, "one registration has the password of the new role"
        status = world.status(unique)
        assert status is not None
        told = role(stack, f"database/static-roles/{name}")["last_vault_rotation"]
        assert status.secrets[0].serving_version == told

        rival = manifest(f"{unique}-b", {**secret, "env": {"OTHER_USER": "username"}})
        rival["spec"]["workload"]["job"] = unique
        world.bind(rival)
        world.await_reason(f"{unique}-b", Reason.ROLE_CONFLICT)
        assert made_roles(stack, "database/static-roles", unique) == [name]
        assert role(stack, f"database/static-roles/{name}")["last_vault_rotation"] == told
        assert logged_in_as(world, unique) == unique
        world.unbind(f"{unique}-b")
        world.unbind(unique)
        wait_until("the role is gone", lambda: made_roles(stack, "database/static-roles", unique) == [])
    assert postgres.sql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{unique}'") == "1", "the user is not ours"


def test_an_entry_that_names_a_role_again_gives_up_the_one_that_was_made(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique)
    world.register(client_job(unique, postgres))
    create = {"connection": CONNECTION, "creationStatements": [CREATE]}
    with world.running():
        world.bind(manifest(unique, {"database": {"mount": "database", "create": create}, "env": VARIABLES}))
        wait_until("it logs in", lambda: bool(logged_in_as(world, unique)))
        world.await_reason(unique, Reason.READY)
        assert len(made_roles(stack, "database/roles", unique)) == 1
        world.bind(manifest(unique, {"database": {"mount": "database", "role": unique}, "env": VARIABLES}))
        wait_until("the role is gone", lambda: made_roles(stack, "database/roles", unique) == [])
        wait_until("it logs in by the other", lambda: bool(logged_in_as(world, unique)))
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)


def test_a_controller_that_was_away_removes_the_role_of_a_binding_that_is_gone(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique)
    world.register(client_job(unique, postgres))
    create = {"connection": CONNECTION, "creationStatements": [CREATE]}
    with world.running():
        world.bind(manifest(unique, {"database": {"mount": "database", "create": create}, "env": VARIABLES}))
        world.await_reason(unique, Reason.READY)
    world.unbind(unique)
    assert len(made_roles(stack, "database/roles", unique)) == 1
    with world.running():
        wait_until("the role is gone", lambda: made_roles(stack, "database/roles", unique) == [])
        wait_until("nothing is left", lambda: world.policies(having=unique) == world.roles(having=unique) == [])


@pytest.mark.parametrize("mount", ["database", "none"], ids=["may only read roles", "may not even read roles"])
def test_without_the_right_to_make_roles_the_binding_says_so_and_others_of_the_job_go_on(
    stack: Stack, database: DatabaseEngine, unique: str, mount: str
) -> None:
    world = controlled(stack, unique, "vault-policy.hcl")
    world.secret(unique, password="app")
    job = a_job(unique)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", "echo $APP > local/seen; exec sleep 3600"]
    world.register(job)
    create = {"connection": CONNECTION, "creationStatements": [CREATE]}
    refused = manifest(unique, {"database": {"mount": mount, "create": create}, "env": VARIABLES})
    refused["metadata"]["name"] = f"{unique}-refused"
    with world.running():
        world.bind(refused)
        world.bind(a_manifest(unique, unique, unique, env={"APP": "password"}))
        world.await_reason(unique, Reason.READY)
        world.await_reason(f"{unique}-refused", Reason.PERMISSION_DENIED)
        assert f"{mount}/roles/nsb.default." in world.message(f"{unique}-refused")
        assert world.seen(unique) == ["app"]


def test_a_certificate_role_issues_what_the_binding_allows_and_nothing_else(stack: Stack, unique: str) -> None:
    PkiEngine(stack.openbao).role(unique)
    world = controlled(stack, unique, resync_seconds=1.0)
    job = a_job(unique)
    show = "cat secrets/tls.pem > local/seen; exec sleep 3600"
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", show]
    world.register(job)
    create = {"allowedDomains": ["example.test"], "allowSubdomains": True, "maxTTL": "48h", "keyType": "ec"}
    pki = {"mount": "pki", "commonName": f"{unique}.example.test", "ttl": "24h", "create": create}
    files = [{"destination": "tls.pem", "perms": "0600"}]
    with world.running():
        world.bind(manifest(unique, {"pki": pki, "files": files}))
        world.await_reason(unique, Reason.READY)
        wait_until("it has a certificate", lambda: "PRIVATE KEY" in "".join(world.seen(unique)))
        found = x509.load_pem_x509_certificate(world.seen(unique)[0].encode())
        assert f"{unique}.example.test" in found.subject.rfc4514_string()
        (name,) = made_roles(stack, "pki/roles", unique)
        api = stack.openbao.api
        assert api.put(f"/v1/pki/issue/{name}", {"common_name": "example.org"}).status == 400
        before = world.job(unique)["Version"]
        api.put(f"/v1/pki/roles/{name}", {"allow_any_name": True}).expect(200)
        wait_until("it is mended", lambda: role(stack, f"pki/roles/{name}")["allow_any_name"] is False)
        assert role(stack, f"pki/roles/{name}")["key_type"] == "ec"
        as_made = role(stack, f"pki/roles/{name}")
        altered = {
            "ext_key_usage": ["CodeSigning"],
            "ext_key_usage_oids": ["1.3.6.1.5.5.7.3.3"],
            "key_usage": ["CertSign"],
            "cn_validations": ["disabled"],
            "not_after": "2029-01-01T00:00:00Z",
            "organization": ["admins"],
        }
        api.put(f"/v1/pki/roles/{name}", {**as_made, **altered}).expect(200)
        wait_until("it is as it was made", lambda: role(stack, f"pki/roles/{name}") == as_made)
        assert world.job(unique)["Version"] == before
        world.unbind(unique)
        wait_until("the role is gone", lambda: made_roles(stack, "pki/roles", unique) == [])
    assert role(stack, f"pki/roles/{unique}")["allow_any_name"] is True


def test_a_role_that_the_engine_refuses_is_its_bindings_fault_and_no_one_elses(
    stack: Stack, database: DatabaseEngine, unique: str
) -> None:
    world = controlled(stack, unique)
    world.secret(unique, password="app")
    world.register(a_job(unique))
    create = {"connection": "nowhere", "username": unique, "rotationPeriod": "24h"}
    refused = manifest(unique, {"database": {"mount": "database", "create": create}, "env": VARIABLES})
    refused["metadata"]["name"] = f"{unique}-refused"
    with world.running():
        world.bind(refused)
        world.bind(a_manifest(unique, unique, unique, env={"APP": "password"}))
        world.await_reason(unique, Reason.READY)
        world.await_reason(f"{unique}-refused", Reason.REJECTED)
        assert "nowhere" in world.message(f"{unique}-refused")
