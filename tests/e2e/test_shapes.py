"""What tasks see of a secret, on both Nomads: every shape, with the permissions and owners that were asked for."""

import os
from typing import Any

import pytest

from secretbinding.models.files import FileFormat
from secretbinding.models.reasons import Reason
from tests.support.readers import read
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

FIELDS = {"username": "app", "password": 'it\'s $HOME "quoted" \\ ünï'}
OWNERS = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def applied(stack: Stack, name: str, script: str, secret: dict[str, Any]) -> World:
    """A world in which the job runs the script with what the binding brings."""
    world = World(stack)
    world.secret(name, **FIELDS)
    job = a_job(name)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", script]
    world.register(job)
    manifest = a_manifest(name, name, name)
    manifest["spec"]["secrets"] = [{"name": "app", "kv": {"mount": "secret", "path": name}, **secret}]
    with world.running():
        world.bind(manifest)
        world.await_reason(name, Reason.READY)
        wait_until("the task reports", lambda: bool(world.seen(name)))
    return world


@OWNERS
def test_files_have_the_permissions_and_owners_that_were_asked_for(stack: Stack, unique: str) -> None:
    files = [
        {"destination": "plain.json"},
        {"destination": "secrets/strict.json", "perms": "0400"},
        {"destination": "local/owned.env", "format": "Dotenv", "perms": "0440", "uid": 12345, "gid": 23456},
        {"destination": "secrets/shared.yaml", "format": "Yaml", "perms": "0600", "gid": 0},
    ]
    names = "secrets/plain.json secrets/strict.json local/owned.env secrets/shared.yaml"
    script = f"stat -c '%a %u %g' {names} > local/new; mv local/new local/seen; exec sleep 600"
    world = applied(stack, unique, script, {"files": files})
    ours = f"{os.getuid()} {os.getgid()}"
    assert world.seen(unique)[0].splitlines() == [
        f"644 {ours}",
        f"400 {ours}",
        "440 12345 23456",
        f"600 {os.getuid()} 0",
    ]


def test_variables_a_prefix_and_every_format_come_from_one_entry(stack: Stack, unique: str) -> None:
    files = [{"destination": f"local/{name}", "format": name.value} for name in FileFormat]
    wish = {
        "env": {"DB_USER": "username"},
        "envFrom": {"prefix": "APP_", "upperCase": True},
        "files": files,
    }
    script = 'echo "$DB_USER|$APP_PASSWORD|$APP_USERNAME" > local/new; mv local/new local/seen; exec sleep 600'
    world = applied(stack, unique, script, wish)
    assert world.seen(unique) == [f"app|{FIELDS['password']}|app"]
    (allocation,) = world.running_allocations(unique)
    for name in FileFormat:
        text = stack.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path=f"web/local/{name}").text
        assert read(name, text, FIELDS) == FIELDS, name
