"""New values on a schedule and on request: made by Vault's means, written without reading, rolled like any other."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.devstack.api import quoted
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.nomad import GENERATE_ITEM, REQUESTS
from tests.support.postgres import DATABASE, DatabaseEngine, Postgres
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, wait_until

# Of the controller: to see versions and names of fields, to write a new version, and nothing of a value.
RIGHTS = """
path "sys/policies/acl/nsb.default.*" {{ capabilities = ["create", "read", "update", "delete"] }}
path "sys/policies/acl" {{ capabilities = ["list"] }}
path "auth/jwt-nomad/role/nsb.default.*" {{ capabilities = ["create", "read", "update", "delete"] }}
path "sys/internal/ui/mounts/*" {{ capabilities = ["read"] }}
path "secret/metadata/{name}" {{ capabilities = ["read"] }}
path "secret/subkeys/{name}" {{ capabilities = ["read"] }}
{more}
"""
NONE = SecretBindingStatus()
PATCH = 'path "secret/data/{name}" {{ capabilities = ["patch", "create"] }}'


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def limited(stack: Stack, name: str, more: str = PATCH) -> World:
    """A world whose controller has the least rights."""
    stack.openbao.put_policy(f"controller-{name}", RIGHTS.format(name=name, more=more.format(name=name)))
    body = {"policies": [f"controller-{name}"], "no_parent": True, "ttl": "1h"}
    answer = stack.openbao.api.put("/v1/auth/token/create", body).expect().json()
    return World(stack, vault_token=answer["auth"]["client_token"])


def a_generated(name: str, **generate: Any) -> dict[str, Any]:
    wanted = {"secret": "app", "fields": ["password"], **generate}
    rotation = {"settle": "0s", "generate": [wanted]}
    return a_manifest(name, name, name, rotation=rotation)


def yearly() -> str:
    """A schedule whose last tick is yesterday, and the next one far away."""
    day = datetime.now(UTC) - timedelta(days=1)
    return f"0 0 {day.day} {day.month} *"


def ask(world: World, name: str, at: datetime | None = None, *secrets: str) -> str:
    """Ask for new values as `rotate --generate` does."""
    moment = (at or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = " ".join([moment, *secrets])
    path = REQUESTS + name
    items = {"rotateRequestedAt": moment, GENERATE_ITEM: text}
    world.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()
    return text


def version(world: World, name: str) -> int:
    found = world.vault.get(f"/v1/secret/metadata/{name}")
    return int(found.json()["data"]["current_version"]) if found.status == 200 else 0


def values(world: World, name: str) -> dict[str, Any]:
    data: dict[str, Any] = world.vault.get(f"/v1/secret/data/{name}").expect().json()["data"]["data"]
    return data


@pytest.fixture
def running(stack: Stack, unique: str) -> Iterator[World]:
    """A job with a secret that is made anew on request, under the least rights."""
    world = limited(stack, unique)
    world.secret(unique, username="amy", password="one", host="db")
    world.register(a_job(unique))
    world.deployed(unique)
    world.bind(a_generated(unique, length=24))
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        yield world


def test_on_request_one_new_value_is_made_and_rolled_and_nothing_else_of_the_secret_changes(
    running: World, unique: str
) -> None:
    text = ask(running, unique)
    wait_until("there is a version 2", lambda: version(running, unique) == 2)
    made = values(running, unique)
    assert (made["username"], made["host"]) == ("amy", "db")
    assert len(made["password"]) == 24
    assert made["password"] != "one"
    wait_until("the task has it", lambda: running.seen(unique) == [f"amy {made['password']}"])
    wait_until("it is answered", lambda: (running.status(unique) or NONE).last_handled_generate_at == text)
    running.deployed(unique)
    assert version(running, unique) == 2


def test_an_answered_request_is_not_answered_again_after_a_restart(running: World, unique: str) -> None:
    ask(running, unique)
    wait_until("there is a version 2", lambda: version(running, unique) == 2)
    with running.running() as again:
        wait_until("it has looked", lambda: again.engine.sweeps > 0)
        running.await_reason(unique, "UpToDate", ConditionType.ROTATION_HEALTHY)
    assert version(running, unique) == 2


def test_the_controllers_token_may_write_and_never_read(running: World, unique: str) -> None:
    token = running.settings.vault.token.get_secret_value()
    path = f"/v1/secret/data/{quoted(unique)}"
    assert running.vault.request("GET", path, headers={"X-Vault-Token": token}).status == 403


def test_a_schedule_that_came_while_nobody_looked_makes_one_value(stack: Stack, unique: str) -> None:
    world = limited(stack, unique)
    world.register(a_job(unique))
    world.deployed(unique)
    world.bind(a_generated(unique, schedule=yearly(), fields=["username", "password"]))
    with world.running():
        wait_until("the first version is made", lambda: version(world, unique) == 1)
        world.await_reason(unique, "Ready")
        made = values(world, unique)
        assert len(made["password"]) == 32
        wait_until("the task has it", lambda: world.seen(unique) == [f"{made['username']} {made['password']}"])
        world.deployed(unique)
        status = world.status(unique) or NONE
        assert status.secrets[0].next_rotation_at is not None
    with world.running() as again:
        wait_until("it has looked", lambda: again.engine.sweeps > 0)
    assert version(world, unique) == 1


def test_a_password_policy_makes_the_value(world: World, unique: str) -> None:
    text = 'length = 20\nrule "charset" {\n  charset = "xyz"\n}\n'
    world.vault.put(f"/v1/sys/policies/password/{unique}", {"policy": text}).expect(200, 204)
    world.bind(a_generated(unique, schedule=yearly(), fields=["username", "password"], passwordPolicy=unique))
    world.register(a_job(unique))
    with world.running():
        wait_until("the first version is made", lambda: version(world, unique) == 1)
    made = values(world, unique)
    assert set(made["password"]) <= set("xyz")
    assert len(made["password"]) == 20


def test_an_approles_new_secret_id_goes_into_a_field(world: World, unique: str) -> None:
    if world.vault.get("/v1/sys/auth").json()["data"].get("approle/") is None:
        world.vault.put("/v1/sys/auth/approle", {"type": "approle"}).expect(200, 204)
    world.vault.put(f"/v1/auth/approle/role/{unique}", {"token_policies": ["default"]}).expect(200, 204)
    world.secret(unique, username="amy", password="one")
    world.register(a_job(unique))
    of = {"secretIdOf": {"mount": "approle", "role": unique}}
    world.bind(a_generated(unique, **of))
    with world.running():
        world.await_reason(unique, "Ready")
        ask(world, unique)
        wait_until("there is a version 2", lambda: version(world, unique) == 2)
    role_id = world.vault.get(f"/v1/auth/approle/role/{unique}/role-id").json()["data"]["role_id"]
    login = {"role_id": role_id, "secret_id": values(world, unique)["password"]}
    assert world.vault.put("/v1/auth/approle/login", login).status == 200


def test_a_right_that_is_missing_is_told_and_nothing_else_waits_for_it(stack: Stack, unique: str) -> None:
    world = limited(stack, unique, more="")
    world.secret(unique, username="amy", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    world.bind(a_generated(unique, schedule=yearly()))
    with world.running():
        world.await_reason(unique, "Ready")
        ask(world, unique)
        world.await_reason(unique, "PermissionDenied", ConditionType.ROTATION_HEALTHY)
        assert "patch" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        world.secret(unique, username="amy", password="two")
        wait_until("the task has it", lambda: world.seen(unique) == ["amy two"])
    assert version(world, unique) == 2


def test_two_bindings_that_want_one_secret_anew_get_one_value(world: World, unique: str) -> None:
    other = f"{unique}-b"
    world.secret(unique, username="amy", password="one")
    for name in (unique, other):
        world.register(a_job(name))
        world.bind(
            a_manifest(
                name,
                name,
                unique,
                rotation={"settle": "0s", "generate": [{"secret": "app", "fields": ["password"]}]},
            )
        )
    with world.running():
        for name in (unique, other):
            world.await_reason(name, "Ready")
            world.deployed(name)
        at = datetime.now(UTC)
        for name in (unique, other):
            ask(world, name, at)
        wait_until("there is a version 2", lambda: version(world, unique) == 2)
        for name in (unique, other):
            wait_until(
                "it is rolled", lambda name=name: world.seen(name) == [f"amy {values(world, unique)['password']}"]
            )
            world.deployed(name)
        assert version(world, unique) == 2


def test_no_value_is_in_status_or_log(running: World, unique: str, capfd: pytest.CaptureFixture[str]) -> None:
    ask(running, unique)
    wait_until("there is a version 2", lambda: version(running, unique) == 2)
    password = values(running, unique)["password"]
    running.await_reason(unique, "UpToDate", ConditionType.ROTATION_HEALTHY)
    status = running.status(unique)
    assert status is not None
    out, err = capfd.readouterr()
    assert password not in out + err + str(status.to_json())
    assert "new value" in out + err or "secret/" in out + err


# --- databases --------------------------------------------------------------------------------------------------------


def of_database(name: str, *, settle: str = "0s", generate: dict[str, Any], **database: Any) -> dict[str, Any]:
    made = a_manifest(name, name, "none", rotation={"settle": settle, "generate": [{"secret": "db", **generate}]})
    env = {"DB_USER": "username", "DB_PASS": "password"}
    made["spec"]["secrets"] = [{"name": "db", "database": {"mount": "database", **database}, "env": env}]
    return made


def test_a_static_roles_password_is_made_anew_on_request_once_and_rolled(
    world: World, postgres: Postgres, unique: str
) -> None:
    engine = DatabaseEngine(world.stack.openbao, postgres)
    user = engine.static_role(unique)
    world.register(a_job(unique))
    world.deployed(unique)
    world.bind(of_database(unique, generate={}, staticRole=unique))
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        before = engine.password(unique)
        text = ask(world, unique)
        wait_until("it is answered", lambda: (world.status(unique) or NONE).last_handled_generate_at == text)
        after = engine.password(unique)
        assert after != before
        assert postgres.lets_in(user, after)
        wait_until("the task has it", lambda: world.seen(unique) == [f"{user} {after}"])
        world.deployed(unique)
        assert engine.password(unique) == after


def test_a_root_password_is_made_anew_on_request_once_and_roles_go_on_working(
    world: World, postgres: Postgres, unique: str
) -> None:
    engine = DatabaseEngine(world.stack.openbao, postgres)
    engine.dynamic_role(unique)
    postgres.sql(f"CREATE ROLE \"root-{unique}\" WITH LOGIN SUPERUSER PASSWORD 'first'")
    config = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": [unique],
        "connection_url": (
            f"postgresql://{{{{username}}}}:{{{{password}}}}@{postgres.host}:{postgres.port}/{DATABASE}?sslmode=disable"
        ),
        "username": f"root-{unique}",
        "password": "first",
    }
    world.vault.put(f"/v1/database/config/{unique}", config).expect(200, 204)
    world.register(a_job(unique))
    world.deployed(unique)
    world.bind(of_database(unique, generate={"rotateRoot": unique}, role=unique))
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        assert postgres.lets_in(f"root-{unique}", "first")
        text = ask(world, unique)
        wait_until("it is answered", lambda: (world.status(unique) or NONE).last_handled_generate_at == text)
        assert not postgres.lets_in(f"root-{unique}", "first")
    with world.running() as again:
        wait_until("it has looked", lambda: again.engine.sweeps > 0)
        assert "answered" in world.policy(world.policies(having=unique)[0])
