"""A job is right in its first version: NACP asks the controller before Nomad gets the job."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from secretbinding.app import Controller
from secretbinding.devstack.api import Api
from secretbinding.devstack.processes import free_ports
from secretbinding.models.reasons import ConditionType
from secretbinding.sources.base import Sink
from secretbinding.sources.files import FilesSource
from secretbinding.webhooks.nacp import PATH
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack, nacp_listen=f"127.0.0.1:{free_ports(1)[0]}")


def asked(world: World, job: Mapping[str, Any]) -> dict[str, Any]:
    """What NACP would be answered for a job."""
    answer = Api(f"http://{world.settings.controller.nacp_listen}").put(PATH, {"job": dict(job), "context": {}})
    found: dict[str, Any] = answer.expect().json()
    return found


def registers(world: World, job: Mapping[str, Any]) -> None:
    """Register a job the way NACP does: patched by what the webhook answers."""
    answer = asked(world, job)
    assert answer["errors"] == []
    groups = answer["patch"][0]["value"] if answer["patch"] else job["TaskGroups"]
    world.register({**job, "TaskGroups": groups})


@contextmanager
def ready(world: World, name: str, **spec: Any) -> Iterator[Controller]:
    """A controller that knows a binding of the job, whose policy and role are made."""
    world.bind(a_manifest(name, name, name, **spec))
    with world.running() as controller:
        wait_until("the rights are there", lambda: bool(world.policies(having=name)), timeout=90)
        # They may be before the last of the other bindings is known.
        wait_until("all bindings are known", lambda: not asked(world, a_job(f"no-{name}"))["errors"], timeout=90)
        yield controller


def test_a_job_that_comes_through_nacp_has_its_secrets_in_its_first_version(world: World, unique: str) -> None:
    world.secret(unique, username="amy", password="one")
    with ready(world, unique):
        registers(world, a_job(unique, count=2))
        world.deployed(unique)
        world.await_reason(unique, "Ready")
        wait_until("both tasks have seen it", lambda: world.seen(unique) == ["amy one"] * 2)
        assert [job["Version"] for job in world.versions(unique)] == [0]


def test_registering_it_again_through_nacp_keeps_what_it_has_and_starts_nothing_anew(world: World, unique: str) -> None:
    world.secret(unique, username="amy", password="one")
    closed = {"windows": [{"kind": "Allow", "schedule": "0 0 1 1 *", "duration": "1m"}]}
    with ready(world, unique, rotation=closed):
        registers(world, a_job(unique))
        world.deployed(unique)
        before = {item["ID"] for item in world.running_allocations(unique)}
        world.secret(unique, username="amy", password="two")
        world.await_reason(unique, "NewVersionHeld", ConditionType.ROTATION_HEALTHY)
        registers(world, a_job(unique, count=2))
        wait_until("there are two", lambda: len(world.running_allocations(unique)) == 2)
        assert before <= {item["ID"] for item in world.running_allocations(unique)}
        assert len(world.versions(unique)) == 2
        wait_until("both have the version that serves", lambda: world.seen(unique) == ["amy one"] * 2)


def test_a_batch_job_gets_its_secrets_on_this_way(world: World, unique: str) -> None:
    world.secret(unique, username="amy", password="one")
    with ready(world, unique):
        job = a_job(unique, Type="batch")
        for group in job["TaskGroups"]:
            del group["Update"]
            group["ReschedulePolicy"] = {"Attempts": 0, "Interval": 3600 * 10**9}
        registers(world, job)
        wait_until("it has seen it", lambda: world.seen(unique) == ["amy one"])
        assert [job["Version"] for job in world.versions(unique)] == [0]


def test_a_job_whose_secret_is_missing_is_refused_with_the_reason(world: World, unique: str) -> None:
    with ready(world, unique):
        (told,) = asked(world, a_job(unique))["errors"]
        assert unique in told
        assert "SecretNotFound" in told


def test_a_job_that_no_binding_names_is_none_of_our_business(world: World, unique: str) -> None:
    with world.running():
        wait_until("the source is listed", lambda: not asked(world, a_job(unique))["errors"])
        assert asked(world, a_job(unique)) == {"patch": [], "warnings": [], "errors": []}


def test_before_the_bindings_are_known_nothing_passes_without_its_secrets(world: World, unique: str) -> None:
    with world.running(SilentSource(["."], nomad_namespace="default")):
        (told,) = asked(world, a_job(unique))["errors"]
        assert "not known yet" in told


class SilentSource(FilesSource):
    """A source that has not come to deliver anything."""

    def start(self, sink: Sink) -> None:
        """Deliver nothing."""


def test_a_job_with_a_vault_block_of_its_own_is_refused(world: World, unique: str) -> None:
    world.secret(unique, username="amy", password="one")
    with ready(world, unique):
        job = a_job(unique)
        job["TaskGroups"][0]["Tasks"][0]["Vault"] = {"Role": "own", "Cluster": "default"}
        (told,) = asked(world, job)["errors"]
        assert "VaultBlockConflict" in told


@pytest.mark.nacp
@pytest.mark.skipif(shutil.which("nacp") is None, reason="no `nacp` on PATH: what it sends and takes is not tried")
def test_nacp_itself_registers_the_job_with_its_secrets(world: World, unique: str, tmp_path: Path) -> None:
    world.secret(unique, username="amy", password="one")
    port = free_ports(1)[0]
    config = tmp_path / "nacp.hcl"
    config.write_text(
        f'bind = "127.0.0.1"\nport = {port}\n'
        f'nomad {{\n  address = "{world.stack.address}"\n}}\n'
        'mutator "json_patch_webhook" "secretbinding" {\n  webhook {\n'
        f'    endpoint = "http://{world.settings.controller.nacp_listen}{PATH}"\n    method = "POST"\n  }}\n}}\n'
    )
    with ready(world, unique):
        process = subprocess.Popen(
            [str(shutil.which("nacp")), "-config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            proxy = Api(f"http://127.0.0.1:{port}", {"X-Nomad-Token": world.stack.token})
            wait_until("NACP answers", lambda: answers(proxy))
            proxy.put("/v1/jobs", {"Job": a_job(unique)}).expect()
            world.deployed(unique)
            wait_until("the task has seen it", lambda: world.seen(unique) == ["amy one"])
            assert [job["Version"] for job in world.versions(unique)] == [0]
        finally:
            process.terminate()
            process.wait(10)


def answers(api: Api) -> bool:
    try:
        return api.get("/v1/jobs").status == 200
    except HTTPError:
        return False


def test_what_no_policy_allows_does_not_come_through_nacp_either(stack: Stack, unique: str) -> None:
    world = World(stack, nacp_listen=f"127.0.0.1:{free_ports(1)[0]}", tenancy="policies", instance=unique[-20:].lower())
    rule: dict[str, Any] = {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBindingPolicy",
        "metadata": {"name": unique},
        "spec": {
            "tenants": [{"names": ["*"]}],
            "workloads": [{"namespaces": ["*"]}],
            "secrets": [{"mounts": ["secret"], "paths": ["elsewhere"]}],
        },
    }
    world.secret(unique, username="amy", password="one")
    world.allow(rule)
    world.bind(a_manifest(unique, unique, unique))
    with world.running():
        world.await_reason(unique, "RefusedByPolicy")
        answer = asked(world, a_job(unique))
        # It is told, and is nobody's reason to refuse a job: else whoever may write a binding could stop any.
        assert (answer["patch"], answer["errors"]) == ([], [])
        (line,) = answer["warnings"]
        assert "no policy allows tenant default (nomad) secret app" in line
        assert line.endswith("(RefusedByPolicy)")
        rule["spec"]["secrets"][0]["paths"] = [unique]
        world.allow(rule)
        world.await_reason(unique, "JobNotFound")
        answer = asked(world, a_job(unique))
        assert answer["errors"] == []
        assert answer["patch"]
    world.disallow(unique)
    world.unbind(unique)
