"""`rotate --generate`, and what `plan` and `apply` make of spec.rotation.generate, on both Nomads and real OpenBao."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.nomad import GENERATE_ITEM, REQUEST_ITEM, REQUESTS, STATUS, status_items
from tests.support.commandline import CommandLine
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

PASSWORD = {"secret": "app", "fields": ["password"]}


@pytest.fixture
def world(stack: Stack, cli: CommandLine, unique: str) -> World:
    cli.use(stack, SECRETBINDING_PURGE_GRACE_SECONDS="1")
    return World(stack, vault_rights=shipped("vault-policy-generate.hcl", myapp=unique))


def manifest(name: str, *generate: dict[str, Any], **rotation: Any) -> dict[str, Any]:
    return a_manifest(name, name, name, rotation={"generate": list(generate), **rotation})


def file(directory: Path, made: dict[str, Any]) -> str:
    path = directory / "binding.yaml"
    path.write_text(yaml.safe_dump(made))
    return str(path)


def values(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.vault.get(f"/v1/secret/data/{name}").expect().json()["data"]
    return {"version": found["metadata"]["version"], **found["data"]}


@pytest.mark.parametrize("strategy", ["Rolling", "Manual"])
def test_with_files_the_value_is_made_and_the_roll_is_waited_for(
    world: World, cli: CommandLine, tmp_path: Path, unique: str, strategy: str
) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    world.deployed(unique)
    path = file(tmp_path, manifest(unique, PASSWORD, strategy=strategy))
    assert cli("apply", "-f", path).code == 0

    ran = cli("rotate", "-f", path, "--generate", "--timeout", "40s")
    assert ran.code == 0, ran.err
    made = values(world, unique)
    assert (made["version"], made["username"]) == (2, "app")
    assert world.seen(unique) == [f"app {made['password']}"]
    assert made["password"] not in ran.out + ran.err
    assert f"version 2 of secret secret/{unique} with new password: asked for at" in ran.err
    again = cli("apply", "-f", path)
    assert again.code == 0
    assert values(world, unique)["version"] == 2, "applying makes nothing new"


def test_apply_makes_a_secret_that_is_not_there_and_plan_says_so(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.register(a_job(unique))
    world.deployed(unique)
    entry = {**PASSWORD, "fields": ["username", "password"], "schedule": "0 3 1 1 *"}
    path = file(tmp_path, manifest(unique, entry))
    planned = cli("plan", "-f", path, "--detailed-exitcode")
    assert f"+ version 1 of secret secret/{unique} with new username, password: it is not there" in planned.out
    ran = cli("apply", "-f", path, "--timeout", "40s")
    assert ran.code == 0, ran.err
    made = values(world, unique)
    assert world.seen(unique) == [f"{made['username']} {made['password']}"]
    assert cli("plan", "-f", path, "--detailed-exitcode").code == 0


def test_what_cannot_be_made_ends_the_command_with_the_reason(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    world.deployed(unique)
    path = file(tmp_path, manifest(unique, {**PASSWORD, "passwordPolicy": unique}))
    assert cli("apply", "-f", path).code == 0
    ran = cli("rotate", "-f", path, "--generate")
    assert ran.code == 1
    assert f"no new value of app: Vault has no password policy {unique}" in ran.err
    assert values(world, unique)["version"] == 1
    assert world.seen(unique) == ["app first"]


def test_the_request_goes_to_the_controller_by_a_variable_and_names_what_is_meant(
    world: World, cli: CommandLine, unique: str
) -> None:
    world.bind(manifest(unique, PASSWORD))
    ran = cli("rotate", unique, "--source", "nomad", "--generate", "--secret", "app")
    assert ran.code == 0, ran.err
    items = world.api.get(f"/v1/var/{REQUESTS}{unique}").expect().json()["Items"]
    moment = ran.out.strip().rpartition(" ")[2]
    assert items == {GENERATE_ITEM: f"{moment} app"}


def requested(world: World, name: str) -> dict[str, str]:
    items: dict[str, str] = world.api.get(f"/v1/var/{REQUESTS}{name}").expect().json()["Items"]
    return items


def asked(cli: CommandLine, name: str, *more: str) -> str:
    """Ask the controller; the moment that the request bears."""
    ran = cli("rotate", name, "--source", "nomad", *more)
    assert ran.code == 0, ran.err
    return ran.out.strip().rpartition(" ")[2]


def two_secrets(name: str) -> dict[str, Any]:
    made = manifest(name, PASSWORD, {**PASSWORD, "secret": "other"})
    other = {"name": "other", "kv": {"mount": "secret", "path": f"{name}/other"}, "env": {"OTHER_PASS": "password"}}
    made["spec"]["secrets"].append(other)
    return made


def test_a_roll_that_is_asked_for_later_leaves_a_waiting_request_for_new_values(
    world: World, cli: CommandLine, unique: str
) -> None:
    world.bind(manifest(unique, PASSWORD))
    values_at = asked(cli, unique, "--generate", "--secret", "app")
    roll_at = asked(cli, unique)
    assert requested(world, unique) == {GENERATE_ITEM: f"{values_at} app", REQUEST_ITEM: roll_at}


def test_a_later_request_for_new_values_takes_along_what_the_waiting_one_is_for(
    world: World, cli: CommandLine, unique: str
) -> None:
    world.bind(two_secrets(unique))
    asked(cli, unique, "--generate", "--secret", "app")
    second = asked(cli, unique, "--generate", "--secret", "other")
    assert requested(world, unique) == {GENERATE_ITEM: f"{second} app other"}
    third = asked(cli, unique, "--generate")
    assert requested(world, unique) == {GENERATE_ITEM: third}, "all of them"
    fourth = asked(cli, unique, "--generate", "--secret", "app")
    assert requested(world, unique) == {GENERATE_ITEM: fourth}, "all of them still"


def test_a_request_that_is_answered_is_not_made_anew_by_a_later_one(
    world: World, cli: CommandLine, unique: str
) -> None:
    world.bind(two_secrets(unique))
    asked(cli, unique, "--generate", "--secret", "app")
    status = SecretBindingStatus(last_handled_generate_at=requested(world, unique)[GENERATE_ITEM])
    path = f"{STATUS}{unique}"
    world.api.put(f"/v1/var/{path}", {"Path": path, "Items": status_items(status)}).expect()
    second = asked(cli, unique, "--generate", "--secret", "other")
    assert requested(world, unique) == {GENERATE_ITEM: f"{second} other"}


def test_requests_of_several_people_at_once_lose_none(
    world: World, cli: CommandLine, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bind(two_secrets(unique))
    path = f"{REQUESTS}{unique}"
    others = [{GENERATE_ITEM: "2026-01-31T02:00:00Z app"}]
    write = NomadAdapter.write_variable

    def later(*arguments: Any, **more: Any) -> Any:
        if others:
            world.api.put(f"/v1/var/{path}", {"Path": path, "Items": others.pop()}).expect()
        return write(*arguments, **more)

    monkeypatch.setattr(NomadAdapter, "write_variable", later)
    moment = asked(cli, unique, "--generate", "--secret", "other")
    assert requested(world, unique) == {GENERATE_ITEM: f"{moment} app other"}


@pytest.mark.parametrize("kept", ["files", "nomad"])
def test_new_values_that_the_binding_says_nothing_of_are_refused(
    world: World, cli: CommandLine, tmp_path: Path, unique: str, kept: str
) -> None:
    def rotate(made: dict[str, Any], *more: str) -> str:
        if kept == "files":
            ran = cli("rotate", "-f", file(tmp_path, made), "--generate", *more)
        else:
            world.bind(made)
            ran = cli("rotate", unique, "--source", "nomad", "--generate", *more)
        assert ran.code == 1
        return ran.err

    assert "no new value of any secret can be made; name it in spec.rotation.generate" in rotate(manifest(unique))
    told = rotate(manifest(unique, PASSWORD), "--secret", "db", "--secret", "app")
    assert "no new value of db can be made; name it in spec.rotation.generate (it has: app)" in told
    assert world.api.get(f"/v1/var/{REQUESTS}{unique}").status == 404


def test_a_request_to_a_running_controller_is_answered_once(world: World, cli: CommandLine, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    with world.running():
        world.bind(manifest(unique, PASSWORD))
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        ran = cli("rotate", unique, "--source", "nomad", "--generate")
        moment = ran.out.strip().rpartition(" ")[2]

        def answer() -> str:
            status = world.status(unique)
            return (status.last_handled_generate_at or "") if status is not None else ""

        wait_until("it is answered", lambda: answer() == moment)
        wait_until("it is rolled", lambda: world.seen(unique) == [f"app {values(world, unique)['password']}"])
        world.deployed(unique)
        before = world.job(unique)
        assert values(world, unique)["version"] == 2
        assert world.job(unique) == before
        assert len(world.versions(unique)) == 3, "as registered, with the secret, with its new value"
