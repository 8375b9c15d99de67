"""New values on a schedule and on request: made by Vault's means, written without reading, rolled like any other."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.app import Controller
from secretbinding.devstack.api import quoted
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import SecretBindingStatus, SecretStatus
from secretbinding.sources.nomad import GENERATE_ITEM, REQUESTS
from tests.support.postgres import DATABASE, DatabaseEngine, Postgres
from tests.support.rights import name_of, shipped
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, wait_until, wary

NONE = SecretBindingStatus()


@pytest.fixture
def world(stack: Stack, unique: str) -> World:
    return limited(stack, unique)


def limited(stack: Stack, name: str, *, more: bool = True, **own: Any) -> World:
    """A world whose controller has the shipped rights: with `more` those to make new values of `name`, too."""
    return World(stack, vault_rights=rights_to_generate(name) if more else "", **own)


def rights_to_generate(name: str) -> str:
    names = dict.fromkeys(("myapp", "strong", "payments", "main"), name)
    return shipped("vault-policy-generate.hcl", **names)


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
    items = {GENERATE_ITEM: text}
    world.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()
    return text


def version(world: World, name: str) -> int:
    found = world.vault.get(f"/v1/secret/metadata/{name}")
    return int(found.json()["data"]["current_version"]) if found.status == 200 else 0


def values(world: World, name: str) -> dict[str, Any]:
    data: dict[str, Any] = world.vault.get(f"/v1/secret/data/{name}").expect().json()["data"]["data"]
    return data


def looked(controller: Controller) -> None:
    """Wait until a controller that has just started has done all that there is to do."""
    wait_until("it has swept", lambda: controller.engine.sweeps > 0)
    wait_until("it is idle", lambda: controller.engine.queue.idle(within=3))


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
        looked(again)
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
        looked(again)
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
    world = limited(stack, unique, more=False)
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


def test_a_right_that_comes_later_is_used_without_anybody_asking_again(stack: Stack, unique: str) -> None:
    rights = f'path "nothing/{unique}" {{ capabilities = ["read"] }}'
    world = World(stack, vault_rights=rights)
    world.secret(unique, username="amy", password="one")
    world.register(a_job(unique))
    world.bind(a_generated(unique))
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        ask(world, unique)
        world.await_reason(unique, "PermissionDenied", ConditionType.ROTATION_HEALTHY)
        stack.openbao.put_policy(name_of(rights), rights_to_generate(unique))
        wait_until("there is a version 2", lambda: version(world, unique) == 2)
        world.await_reason(unique, "UpToDate", ConditionType.ROTATION_HEALTHY)


def test_a_scheduled_value_waits_for_its_window_and_a_request_does_not(world: World, unique: str) -> None:
    world.secret(unique, username="amy", password="one")
    world.register(a_job(unique))
    made = a_generated(unique, schedule="* * * * *")
    made["spec"]["rotation"]["windows"] = [{"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}]
    with world.running() as controller:
        world.bind(made)
        world.await_reason(unique, "Ready")
        world.deployed(unique)

        def told() -> str:
            return ((world.status(unique) or NONE).secrets or (SecretStatus(name="app"),))[0].message or ""

        wait_until("it waits", lambda: told().startswith("a new value of app waits: no window is open"), timeout=75)
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=1))
        assert version(world, unique) == 1
        ask(world, unique)
        wait_until("there is a version 2", lambda: version(world, unique) == 2)
        wait_until("the task has it", lambda: world.seen(unique) == [f"amy {values(world, unique)['password']}"])


def password_policy(world: World, name: str, charset: str) -> None:
    text = f'length = 6\nrule "charset" {{\n  charset = "{charset}"\n}}\n'
    world.vault.put(f"/v1/sys/policies/password/{name}", {"policy": text}).expect(200, 204)


def test_a_value_with_which_the_job_does_not_work_is_held_and_another_one_is_made_on_request_only(
    world: World, unique: str
) -> None:
    password_policy(world, unique, "z")
    world.secret(unique, username="amy", password="one")
    job = wary(a_job(unique))
    task = job["TaskGroups"][0]["Tasks"][0]
    script = 'echo "$DB_USER $DB_PASS" > local/seen; case "$DB_PASS" in z*) exit 1;; esac; exec sleep 3600'
    task["Config"]["args"] = ["-c", script]
    world.register(job)
    world.deployed(unique)
    world.bind(a_generated(unique, passwordPolicy=unique))
    with world.running() as controller:
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        first = ask(world, unique)
        world.await_reason(unique, "DeploymentReverted", ConditionType.ROTATION_HEALTHY)
        wait_until("it is answered", lambda: (world.status(unique) or NONE).last_handled_generate_at == first)
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=2))
        assert version(world, unique) == 2
        assert world.seen(unique) == ["amy one"]
        registered = world.job(unique)["Version"]
        password_policy(world, unique, "x")
        ask(world, unique)
        wait_until("the task has another one", lambda: world.seen(unique) == ["amy xxxxxx"])
        world.deployed(unique)
        assert version(world, unique) == 3
        assert world.job(unique)["Version"] == registered + 1, "the failed state was not tried again"


def test_a_controller_that_ends_between_value_and_roll_leaves_nothing_undone(stack: Stack, unique: str) -> None:
    world = limited(stack, unique, settle_seconds=3600.0)
    world.secret(unique, username="amy", password="one")
    world.register(a_job(unique))
    made = a_generated(unique, schedule="* * * * *")
    del made["spec"]["rotation"]["settle"]
    with world.running():
        world.bind(made)
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        wait_until("there is a version 2", lambda: version(world, unique) == 2, timeout=75)
        world.await_reason(unique, "NewVersionHeld", ConditionType.ROTATION_HEALTHY)
    made["spec"]["rotation"]["generate"][0].pop("schedule")
    world.bind(made)
    after = limited(stack, unique)
    with after.running() as again:
        wait_until("it is rolled", lambda: "?version=2" in str(world.job(unique)))
        world.deployed(unique)
        looked(again)
    assert version(world, unique) == 2
    assert len(world.versions(unique)) == 3


def test_with_manual_strategy_a_scheduled_value_waits_for_a_person_and_a_requested_one_does_not(
    world: World, unique: str
) -> None:
    world.register(a_job(unique))
    made = a_generated(unique, schedule="* * * * *", fields=["username", "password"])
    made["spec"]["rotation"]["strategy"] = "Manual"
    with world.running():
        world.bind(made)
        wait_until("the first version is made", lambda: version(world, unique) == 1)
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        pending = "ManualRotationPending"
        world.await_reason(unique, pending, ConditionType.ROTATION_HEALTHY, timeout=75)
        before = world.seen(unique)
        assert before == [" ".join(values_of(world, unique, 1))]
        # From here on the request alone decides.
        made["spec"]["rotation"]["generate"][0].pop("schedule")
        world.bind(made)
        ask(world, unique)
        wait_until("the task has it", lambda: world.seen(unique) == [" ".join(values_of(world, unique))])
        assert world.seen(unique) != before


def values_of(world: World, name: str, number: int = 0) -> list[str]:
    data = world.vault.get(f"/v1/secret/data/{name}", version=number).expect().json()["data"]["data"]
    return [data["username"], data["password"]]


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


def test_two_entries_of_one_secret_are_made_in_one_version_and_the_request_is_answered_then(
    simulator: Stack, unique: str
) -> None:
    world = limited(simulator, unique)
    world.secret(unique, username="amy", password="one", token="t1")
    world.register(a_job(unique))
    world.deployed(unique)
    made = a_generated(unique, length=24)
    made["spec"]["rotation"]["generate"].append({"secret": "tok", "fields": ["token"], "length": 16})
    kv = made["spec"]["secrets"][0]["kv"]
    made["spec"]["secrets"].append({"name": "tok", "kv": kv, "env": {"TOKEN": "token"}})
    world.bind(made)
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        before = len(world.versions(unique))
        text = ask(world, unique)
        wait_until("it is answered", lambda: (world.status(unique) or NONE).last_handled_generate_at == text)
        found = values(world, unique)
        assert (found["username"], len(found["password"]), len(found["token"])) == ("amy", 24, 16)
        wait_until("the task has it", lambda: world.seen(unique) == [f"amy {found['password']}"])
        world.deployed(unique)
        world.await_reason(unique, "UpToDate", ConditionType.ROTATION_HEALTHY)
    assert (version(world, unique), len(world.versions(unique))) == (2, before + 1)


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
        looked(again)
        assert "answered" in world.policy(world.policies(having=unique)[0])
