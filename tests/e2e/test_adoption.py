"""What a job has by hand is taken over by the command, without a roll, and replaced by the next new version."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.models.reasons import ConditionType
from secretbinding.sources.files import FilesSource
from tests.support.commandline import CommandLine, cli
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

__all__ = ["cli"]


MORE = {"DB_USER": "username", "DB_PASS": "password", "MORE": "password"}


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def by_hand(world: World, name: str) -> dict[str, Any]:
    """A job that somebody has joined to its secret by hand: policy, role, vault block, template."""
    world.secret(name, username="amy", password="one")
    world.stack.openbao.put_policy(f"hand-{name}", f'path "secret/data/{name}" {{\n  capabilities = ["read"]\n}}\n')
    world.stack.openbao.put_jwt_role(f"hand-{name}", {"token_policies": [f"hand-{name}"], "token_period": "30m"})
    text = (
        f'{{{{ with secret "secret/data/{name}" }}}}\n'
        "DB_USER={{ .Data.data.username }}\nDB_PASS={{ .Data.data.password }}\n{{ end }}\n"
    )
    job = a_job(name, count=2)
    (task,) = job["TaskGroups"][0]["Tasks"]
    task["Vault"] = {"Role": f"hand-{name}"}
    task["Identities"] = [{"Name": "vault_default", "Audience": ["vault.io"], "TTL": 3600 * 10**9}]
    task["Templates"] = [{"DestPath": "secrets/db.env", "EmbeddedTmpl": text, "Envvars": True}]
    world.register(job)
    world.deployed(name)
    wait_until("both tasks have seen it", lambda: world.seen(name) == ["amy one"] * 2)
    return job


def test_a_job_by_hand_is_adopted_without_a_roll_and_rotated_like_any_other(
    world: World, unique: str, cli: CommandLine, tmp_path: Path
) -> None:
    by_hand(world, unique)
    path = tmp_path / "binding.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    cli.use(world.stack)
    assert cli("plan", "-f", str(path)).code == 1
    shown = cli("adopt", "-f", str(path), "--dry-run")
    assert shown.code == 0, shown.err
    assert world.policies(having=unique) == []
    done = cli("adopt", "-f", str(path))
    assert done.code == 0, done.err
    assert done.out == shown.out
    assert f"vault block (role hand-{unique})" in done.out
    assert f"role hand-{unique} with policies hand-{unique}" in done.out
    planned = cli("plan", "-f", str(path), "--detailed-exitcode")
    assert (planned.code, "no changes" in planned.out) == (0, True)
    before = {item["ID"] for item in world.running_allocations(unique)}
    with world.running(FilesSource([str(tmp_path)], nomad_namespace="default", interval_seconds=0.2)):
        wait_until("it is ready", lambda: ready(cli, path))
        assert {item["ID"] for item in world.running_allocations(unique)} == before
        assert len(world.versions(unique)) == 1
        world.secret(unique, username="amy", password="two")
        wait_until("both have the new version", lambda: world.seen(unique) == ["amy two"] * 2, 60)
        world.deployed(unique)
    (task,) = world.job(unique)["TaskGroups"][0]["Tasks"]
    assert task["Vault"]["Role"].startswith("nsb.")
    assert [template["DestPath"] for template in task["Templates"]] != ["secrets/db.env"]
    assert len(task["Templates"]) == 1


def ready(cli: CommandLine, path: Path) -> bool:
    return "Ready" in cli("status", "-f", str(path)).out


def test_what_is_not_all_there_by_hand_is_refused_and_nothing_is_made(
    world: World, unique: str, cli: CommandLine, tmp_path: Path
) -> None:
    by_hand(world, unique)
    path = tmp_path / "binding.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique, env=MORE)))
    cli.use(world.stack)
    ran = cli("adopt", "-f", str(path))
    assert ran.code == 1
    assert "MORE" in ran.err
    assert "binding.yaml" in ran.err
    assert world.policies(having=unique) == []
    assert ConditionType.READY not in ran.out
