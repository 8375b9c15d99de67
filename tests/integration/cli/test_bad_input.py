"""What only the servers can tell to be wrong: each with the line of the manifest or the server, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from secretbinding.devstack.openbao import OpenBao
from tests.support.commandline import CommandLine
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest


@pytest.fixture
def world(stack: Stack, cli: CommandLine) -> World:
    cli.use(stack, SECRETBINDING_PURGE_GRACE_SECONDS="1")
    return World(stack)


def write(directory: Path, manifest: dict[str, Any]) -> str:
    path = directory / "b.yaml"
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return str(path)


def line_of(path: str, word: str) -> int:
    """The line on which a word stands first."""
    lines = Path(path).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if word in line)


def refused(cli: CommandLine, path: str, *, alike: bool = True) -> str:
    """What `apply` says; `plan` says the same where both are `alike`, and both end with 1."""
    planned, applied = cli("plan", "-f", path), cli("apply", "-f", path, "--timeout", "5s")
    assert (planned.code, applied.code) == (1, 1)
    errors = [line for line in applied.err.splitlines() if line.startswith("error: ")]
    assert not alike or errors == [line for line in planned.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in applied.err
    return "\n".join(errors)


def test_a_job_that_does_not_exist(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    path = write(tmp_path, a_manifest(unique, unique, unique))
    place = (
        f"error: {path}:{line_of(path, 'job:')}:5: spec.workload.job: Nomad has no job {unique} in namespace default;"
    )
    planned = cli("plan", "-f", path)
    assert planned.code == 1
    assert planned.err.startswith(f"{place} apply would only make what is shown; register the job")
    assert "+ policy" in planned.out
    assert world.policies(having=unique) == []
    told = refused(cli, path, alike=False)
    assert told.startswith(f"{place} policy and role are ready for it; register the job")
    assert cli("plan", "-f", path).err.startswith(f"{place} policy and role are ready for it")
    assert len(world.policies(having=unique)) == 1, "rights are ready for it"
    assert cli("delete", "-f", path).code == 0
    assert world.policies(having=unique) == []


def test_a_task_and_a_group_that_the_job_lacks(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    for groups, told in (
        ([{"name": "app", "tasks": ["wob"]}], "no task app/wob (it has: web)"),
        ([{"name": "axx"}], "no group axx (it has: app)"),
    ):
        path = write(tmp_path, a_manifest(unique, unique, unique, workload={"groups": groups}))
        error = refused(cli, path)
        assert f"{path}:{line_of(path, 'groups:')}:5: spec.workload.groups: job {unique} has {told}" in error
    assert len(world.versions(unique)) == 1


def test_a_field_and_a_secret_that_are_not_there(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.register(a_job(unique))
    path = write(tmp_path, a_manifest(unique, unique, unique))
    told = refused(cli, path)
    assert f"{path}:{line_of(path, 'kv:')}:5: spec.secrets[0].kv: " in told
    assert "write the secret, or correct mount and path" in told
    world.secret(unique, username="app")
    told = refused(cli, path)
    assert f"{path}:{line_of(path, 'DB_USER') - 1}:5: spec.secrets[0].env: " in told
    assert "no field password, which DB_PASS needs (it has: username)" in told
    assert len(world.versions(unique)) == 1


def test_a_job_with_a_vault_block_of_its_own(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    job = a_job(unique)
    job["TaskGroups"][0]["Count"] = 0
    job["TaskGroups"][0]["Tasks"][0]["Vault"] = {"Role": "mine"}
    world.register(job)
    path = write(tmp_path, a_manifest(unique, unique, unique))
    told = refused(cli, path)
    assert f"{path}:{line_of(path, 'workload:')}:3: spec.workload: task app/web has a vault block of its own" in told
    assert "take it out of the job" in told
    assert len(world.versions(unique)) == 1


def test_a_batch_job_is_pointed_to_inject(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    job = a_job(unique, Type="batch")
    job["TaskGroups"][0].pop("Update")
    world.register(job)
    path = write(tmp_path, a_manifest(unique, unique, unique))
    told = refused(cli, path)
    assert f"{path}:{line_of(path, 'job:')}:5: spec.workload.job: " in told
    assert "`secretbinding inject`" in told
    assert len(world.versions(unique)) == 1


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            'path "auth/jwt-nomad/role/*" { capabilities = ["read", "create", "update"] }',
            "sys/policies/acl/nsb.default.",
        ),
        (
            'path "sys/policies/acl/nsb.*" { capabilities = ["read", "create", "update"] }\n'
            'path "auth/jwt-nomad/role/nsb.*" { capabilities = ["read"] }\n'
            'path "secret/metadata/*" { capabilities = ["read"] }\n'
            'path "secret/subkeys/*" { capabilities = ["read"] }',
            "auth/jwt-nomad/role/nsb.default.",
        ),
        (
            'path "sys/policies/acl/nsb.*" { capabilities = ["read", "create", "update"] }\n'
            'path "auth/jwt-nomad/role/nsb.*" { capabilities = ["read", "create", "update"] }',
            "secret/metadata/",
        ),
    ],
    ids=["policies", "roles", "secrets"],
)
def test_a_token_without_rights_is_told_path_and_capability_and_the_job_is_left_alone(
    world: World, cli: CommandLine, tmp_path: Path, unique: str, rules: str, told: str
) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    world.stack.openbao.put_policy(unique, rules)
    answer = world.vault.put("/v1/auth/token/create", {"policies": [unique]}).expect().json()
    token = answer["auth"]["client_token"]
    cli.setenv(VAULT_TOKEN=token)
    path = write(tmp_path, a_manifest(unique, unique, unique))
    ran = cli("apply", "-f", path)
    assert ran.code == 1
    assert told in ran.err
    assert re.search(r"capabilit(y|ies)", ran.err)
    assert token not in ran.err + ran.out
    assert len(world.versions(unique)) == 1


def test_a_wrong_token_is_refused_and_not_shown(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    cli.setenv(VAULT_TOKEN="hvs.WRONG")
    ran = cli("plan", "-f", write(tmp_path, a_manifest(unique, unique, unique)))
    assert ran.code == 1
    assert "may not" in ran.err
    assert "hvs.WRONG" not in ran.err


def test_vault_that_is_not_there(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    cli.setenv(VAULT_ADDR="http://127.0.0.1:9")
    ran = cli("plan", "-f", write(tmp_path, a_manifest(unique, unique, unique)))
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "127.0.0.1:9" in ran.err


def test_a_sealed_vault_is_said_to_be_sealed(simulator: Stack, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    with OpenBao(tmp_path / "sealed") as server:
        cli.use(simulator)
        cli.setenv(VAULT_ADDR=server.address, VAULT_TOKEN=server.root_token)
        world = World(simulator)
        world.register(a_job(unique))
        server.api.put("/v1/sys/seal").expect(204)
        told = refused(cli, write(tmp_path, a_manifest(unique, unique, unique)))
        assert "Vault is sealed" in told
        assert "unseal it" in told
        assert len(world.versions(unique)) == 1


@contextmanager
def leaderless() -> Iterator[str]:
    """A Nomad server that answers everything as one without a leader does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"No cluster leader"
            self.send_response(500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nomad_without_a_leader_is_said_to_have_none(
    openbao: OpenBao, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    with leaderless() as address:
        cli.setenv(VAULT_ADDR=openbao.address, VAULT_TOKEN=openbao.root_token, NOMAD_ADDR=address)
        ran = cli("plan", "-f", write(tmp_path, a_manifest(unique, unique, unique)))
    assert ran.code == 1
    assert "Nomad has no leader" in ran.err
    assert "nomad server members" in ran.err


def test_rights_that_are_missing_on_the_nomad_side(stack: Stack, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world = World(stack)
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    rules = 'namespace "default" { capabilities = ["list-jobs", "read-job"] }'
    stack.api.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": rules}).expect()
    made = stack.api.put("/v1/acl/token", {"Name": unique, "Type": "client", "Policies": [unique]}).expect().json()
    cli.use(stack)
    cli.setenv(NOMAD_TOKEN=made["SecretID"])
    path = write(tmp_path, a_manifest(unique, unique, unique))
    assert cli("plan", "-f", path).code == 0
    ran = cli("apply", "-f", path)
    assert ran.code == 1
    assert "needs capability `submit-job`" in ran.err
    assert 'add `namespace "default" { capabilities = ["submit-job"] }` to its policy' in ran.err
    assert made["SecretID"] not in ran.err
    cli.setenv(NOMAD_TOKEN="11111111-2222-3333-4444-555555555555")
    assert "NOMAD_TOKEN" in cli("plan", "-f", path).err
    cli.setenv(NOMAD_TOKEN=stack.token)
    assert cli("delete", "-f", path).code == 0


def test_two_bindings_that_want_one_variable(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    first = write(tmp_path, a_manifest(f"{unique}-a", unique, unique))
    assert cli("apply", "-f", first).code == 0
    second = tmp_path / "c.yaml"
    second.write_text(yaml.safe_dump(a_manifest(f"{unique}-b", unique, unique)))
    told = refused(cli, str(second))
    assert f"{second}:" in told
    assert "is set by files/default/" in told
    assert cli("apply", "-f", first).code == 0


def test_a_policy_of_the_same_name_that_is_not_ours_is_left_alone(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    path = write(tmp_path, a_manifest(unique, unique, unique))
    name = re.findall(r"^\+ policy (\S+)", cli("plan", "-f", path).out, re.MULTILINE)[0]
    world.stack.openbao.put_policy(name, "# somebody else's\n")
    told = refused(cli, path)
    assert f"policy {name} exists and does not carry this binding's mark" in told
    assert world.policy(name) == "# somebody else's\n"
    assert len(world.versions(unique)) == 1


def test_a_job_file_that_nomad_does_not_take(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    binding = write(tmp_path, a_manifest(unique, unique, unique))
    job_file = tmp_path / "job.hcl"
    job_file.write_text('job "x" {\n  group "g" {\n')
    ran = cli("inject", "-f", binding, str(job_file))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {job_file}: Nomad refused to parse")
