"""The trail of changes: each write that Vault's own audit log knows is one line of ours, and says who asked for it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from secretbinding.trail import CORRELATION_HEADER
from tests.support.journal import Journal, journal
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

_HEADER = CORRELATION_HEADER.lower()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """Servers of which Vault writes an audit log, correlation IDs included."""
    directory = tmp_path_factory.mktemp("audited")
    log = directory / "audit.log"
    device = f'audit "file" "log" {{\n  options {{\n    file_path = "{log}"\n  }}\n}}\n'
    with (
        OpenBao(directory / "openbao", configuration=device) as vault,
        Simulator(directory / "nomad", vault_address=vault.address) as server,
    ):
        vault.enable_jwt(server.address)
        vault.api.put(f"/v1/sys/config/auditing/request-headers/{_HEADER}", {"hmac": False}).expect(204)
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region), log


@pytest.fixture
def told() -> Iterator[Journal]:
    with journal("INFO") as found:
        yield found


def vaults_own(log: Path) -> dict[str, dict[str, Any]]:
    """The writes that carried a correlation ID, by it, as Vault's audit log has them."""
    found: dict[str, dict[str, Any]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        request = entry["request"]
        ids = (request.get("headers") or {}).get(_HEADER) or []
        if entry["type"] == "response" and ids:
            found[ids[0]] = request
    return found


def controllers_writes(log: Path) -> list[str]:
    """The paths that the controller wrote, by what only it writes."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        f"{entry['request']['operation']} {entry['request']['path']}"
        for entry in entries
        if entry["type"] == "response"
        and entry["request"]["operation"] in ("create", "update", "delete")
        and "/nsb." in entry["request"]["path"]
    ]


def test_every_write_in_vaults_audit_log_is_one_line_that_says_who_asked_and_what_changed(
    audited: tuple[Stack, Path], told: Journal, unique: str
) -> None:
    stack, log = audited
    world = World(stack)
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    key = f"nomad/default/{unique}"
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="two")
        wait_until("it is rolled", lambda: world.seen(unique) == ["app two"])
        world.request_rotation(unique, "2026-01-01T00:00:00Z")
        wait_until("the request is told", lambda: bool(told.lines("request")))
        world.unbind(unique)
        wait_until("its status is gone", lambda: world.status(unique) is None)
        wait_until("its rights are gone", lambda: any("delete sys/pol" in one for one in controllers_writes(log)))
    lines = told.changes(system="vault")
    theirs = vaults_own(log)
    assert sorted(line["correlation_id"] for line in lines) == sorted(theirs), "one line for each write, and none more"
    assert len(controllers_writes(log)) == len(lines), "no write goes without an ID"
    assert all(line["bindings"] == [key] and line["outcome"] == "Success" for line in told.changes(system="vault"))
    (first,) = [line for line in lines if line["what"].startswith("write policy") and line["action"][0] == "+"]
    assert first["changed"] == [f"+path secret/data/{unique}", "+roles"]
    assert theirs[first["correlation_id"]]["path"] in f"sys/policies/acl/{first['what'].removeprefix('write policy ')}"
    registered = told.changes(operation="job_register")
    assert [line["changed"] for line in registered] == [["~group app"]] * 3
    assert {line["workload"] for line in registered} == {f"default/{unique}"}
    assert all(line["reconcile_id"] for line in registered)
    statuses = told.changes(operation="variable_write")
    assert any("~Ready=True (Ready)" in line["changed"] for line in statuses)
    assert {line["namespace"] for line in statuses} == {"default"}
    (request,) = told.lines("request")
    assert (request["binding"], bool(request["rotate"])) == (key, True)
    assert "one" not in {word for line in told.lines() for word in json.dumps(line).split('"')}


def test_a_change_that_was_refused_is_told_with_its_outcome(
    audited: tuple[Stack, Path], told: Journal, unique: str
) -> None:
    stack, _ = audited
    stack.openbao.put_policy(unique, 'path "*" { capabilities = ["read", "list"] }')
    token = (
        stack.openbao.api.put("/v1/auth/token/create", {"policies": [unique]}).expect().json()["auth"]["client_token"]
    )
    world = World(stack, instance="denied", vault_token=token)
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.bind(a_manifest(unique, unique, unique))
    with world.running():
        wait_until("it is refused", lambda: bool(told.changes(outcome="PermissionDenied")))
    (line, *_) = told.changes(outcome="PermissionDenied")
    assert line["what"].startswith("write policy nsb.denied.")
    assert line["bindings"] == [f"nomad/default/{unique}"]
    world.unbind(unique)
