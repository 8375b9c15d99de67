"""Agents that log in by AppRole, with secret-ids that come wrapped: on the simulator and on a real Nomad."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.adapters.nomad.adapter import NomadAdapter
from secretbinding.devstack.api import Api
from secretbinding.devstack.processes import free_ports
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.webhooks.nacp import PATH
from tests.support.agents import AppRoleWorld, by_agent, by_app_role, reads_file
from tests.support.commandline import CommandLine, cli
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, wait_until

__all__ = ["cli"]


@pytest.fixture
def world(stack: Stack) -> AppRoleWorld:
    return AppRoleWorld(stack)


def logins(world: AppRoleWorld, allocation: dict[str, Any]) -> int:
    return world.agent_log(allocation).count("authentication successful")


def no_finding(world: AppRoleWorld, name: str) -> bool:
    return world.reason(name, ConditionType.VAULT_SYNCED) != Reason.WRAPPING_TOKEN_OPENED


@contextmanager
def serving(world: AppRoleWorld, job: str, **app_role: Any) -> Iterator[None]:
    """The controller while the block runs, with a job whose one agent has logged in and whose next token is sealed."""
    world.secret(job, username="app", password="one")
    world.register(reads_file(job))
    with world.running():
        world.bind(by_agent(job, job, job, auth={"method": "AppRole", **({"appRole": app_role} if app_role else {})}))
        world.await_reason(job, Reason.READY, timeout=60)
        wait_until("a fresh token is there", lambda: world.sealed(job, 1))
        yield


def restart_agent(world: AppRoleWorld, allocation: dict[str, Any]) -> None:
    world.api.put(f"/v1/client/allocation/{allocation['ID']}/restart", {"TaskName": AGENT_TASK}).expect(200)
    wait_until("the agent has logged in again", lambda: logins(world, allocation) == 2)


class Injected:
    """`inject` of a job with two agents, by the command line."""

    def __init__(self, world: AppRoleWorld, cli: CommandLine, folder: Path, name: str) -> None:
        world.secret(name, username="app", password="one")
        self._cli, self._folder, self._runs = cli, folder, 0
        self._binding, self._job = folder / "binding.yaml", folder / "job.json"
        self._binding.write_text(yaml.safe_dump(by_app_role(name)))
        self._job.write_text(json.dumps({"Job": {**reads_file(name, count=2), "Namespace": NAMESPACE}}))
        agent = {"SECRETBINDING_AGENT_DRIVER": "raw_exec", "SECRETBINDING_AGENT_COMMAND": world.settings.agent.command}
        cli.use(world.stack, **agent)

    def __call__(self, *more: str, job: str = "") -> str:
        """What is written; of another job text where one is given."""
        if job:
            (self._folder / "other.json").write_text(job)
        path = self._folder / "other.json" if job else self._job
        self._runs += 1
        written = self._folder / f"written-{self._runs}.json"
        ran = self._cli("inject", "-f", str(self._binding), str(path), "-o", str(written), *more)
        assert ran.code == 0, ran.err
        return written.read_text()


def test_each_allocation_logs_in_once_restarts_and_replacements_too_and_nothing_is_left_behind(
    world: AppRoleWorld, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(reads_file(unique, count=2))
    world.deployed(unique)
    with world.running():
        world.bind(by_app_role(unique))
        world.await_reason(unique, Reason.READY, timeout=60)
        assert world.seen(unique) == ["app one"] * 2
        wait_until("each index has a fresh token", lambda: world.sealed(unique, 2))
        first, second = world.running_allocations(unique)
        restart_agent(world, first)
        world.api.put(f"/v1/allocation/{second['ID']}/stop", {}).expect(200)
        wait_until(
            "another allocation has taken its place",
            lambda: (
                {item["ID"] for item in world.running_allocations(unique)}
                not in ({first["ID"]}, {first["ID"], second["ID"]})
            ),
        )
        wait_until("both read it", lambda: world.seen(unique) == ["app one"] * 2)
        wait_until("each index has a fresh token again", lambda: world.sealed(unique, 2))
        assert no_finding(world, unique)
        world.secret(unique, username="app", password="two")
        wait_until("both read the new one", lambda: world.seen(unique) == ["app two"] * 2, timeout=60)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert no_finding(world, unique)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None, timeout=60)
    assert world.items(unique) == {}
    assert world.app_roles(unique) == world.policies(having=unique) == []


def test_a_token_that_somebody_else_opens_is_told_and_its_secret_id_is_worth_nothing(
    world: AppRoleWorld, unique: str
) -> None:
    with serving(world, unique):
        (allocation,) = world.running_allocations(unique)
        restart_agent(world, allocation)
        wait_until("a fresh token is there again", lambda: world.sealed(unique, 1))
        assert no_finding(world, unique)
        kept = world.steal(unique, 0)
        world.await_reason(unique, Reason.WRAPPING_TOKEN_OPENED, ConditionType.VAULT_SYNCED)
        wait_until("a fresh token is there after the theft", lambda: world.sealed(unique, 1))
        assert world.log_in(unique, kept) == 400
        assert kept not in world.message(unique, ConditionType.VAULT_SYNCED)
        assert world.seen(unique) == ["app one"]


def test_a_login_with_what_was_stolen_is_told_and_a_request_takes_the_finding_back(
    world: AppRoleWorld, unique: str
) -> None:
    with serving(world, unique):
        assert world.log_in(unique, world.steal(unique, 0)) == 200
        world.await_reason(unique, Reason.WRAPPING_TOKEN_OPENED, ConditionType.VAULT_SYNCED)
        assert "logged in" in world.message(unique, ConditionType.VAULT_SYNCED)
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        world.await_reason(unique, Reason.SYNCED, ConditionType.VAULT_SYNCED)


def test_another_wrapping_token_in_place_of_one_that_was_opened_hides_nothing_nor_are_further_logins_possible(
    world: AppRoleWorld, unique: str
) -> None:
    with serving(world, unique, secretIdNumUses=5):
        kept = world.steal(unique, 0)
        own = {"X-Vault-Token": world.stack.openbao.root_token, "X-Vault-Wrap-TTL": "1h"}
        wrapping = Api(world.stack.openbao.address, own)
        other = wrapping.put("/v1/sys/wrapping/wrap", {"secret_id": "x"}).expect(200).json()["wrap_info"]["token"]
        world.replace_token(unique, 0, other)
        assert world.log_in(unique, kept) == 200
        world.await_reason(unique, Reason.WRAPPING_TOKEN_OPENED, ConditionType.VAULT_SYNCED)
        wait_until("it is worth nothing any more", lambda: world.log_in(unique, kept) == 400)


def test_an_injected_job_has_its_secret_ids_before_it_is_registered_and_is_the_same_when_injected_again(
    world: AppRoleWorld, unique: str, cli: CommandLine, tmp_path: Path
) -> None:
    inject = Injected(world, cli, tmp_path, unique)
    once = inject()
    wait_until("each index has a fresh token", lambda: world.sealed(unique, 2))
    before = world.items(unique)
    assert inject(job=once) == once
    assert world.items(unique) == before, "what nobody has opened stays"
    world.register(json.loads(once)["Job"])
    wait_until("both read it, with no controller", lambda: world.seen(unique) == ["app one"] * 2, timeout=60)


def test_of_two_that_bring_secret_ids_at_once_one_finds_the_others_and_none_is_left_over(
    world: AppRoleWorld, unique: str, cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject = Injected(world, cli, tmp_path, unique)
    write, others = NomadAdapter.write_variable, []

    def written_by_another_first(self: NomadAdapter, *arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(NomadAdapter, "write_variable", write)
        others.append(inject())
        return write(self, *arguments, **named)

    monkeypatch.setattr(NomadAdapter, "write_variable", written_by_another_first)
    assert [inject()] == others
    assert world.sealed(unique, 2)
    assert world.secret_ids(unique) == 2


def test_what_was_injected_stays_for_the_job_that_is_to_come_while_a_controller_runs(
    world: AppRoleWorld, unique: str, cli: CommandLine, tmp_path: Path
) -> None:
    inject = Injected(world, cli, tmp_path, unique)
    with world.running():
        world.bind(by_app_role(unique))
        world.await_reason(unique, Reason.JOB_NOT_FOUND)
        job = inject("--source", "nomad")
        before = world.items(unique)
        world.bind(by_agent(unique, unique, unique, auth={"method": "AppRole", "tokenPeriod": "20m"}))
        wait_until("the controller has looked", lambda: world.token_period(unique) == 1200)
        assert world.items(unique) == before
        world.register(json.loads(job)["Job"])
        world.await_reason(unique, Reason.READY, timeout=60)
        assert world.seen(unique) == ["app one"] * 2
        assert [one["Version"] for one in world.versions(unique)] == [0]
        assert no_finding(world, unique)


def test_a_job_that_comes_through_nacp_is_brought_its_secret_ids_by_the_controller(
    world: AppRoleWorld, unique: str
) -> None:
    world.settings.controller.nacp_listen = f"127.0.0.1:{free_ports(1)[0]}"
    webhook = Api(f"http://{world.settings.controller.nacp_listen}")

    def asked() -> dict[str, Any]:
        answer: dict[str, Any] = webhook.put(PATH, {"job": job, "context": {}}).expect().json()
        return answer

    job = reads_file(unique)
    world.secret(unique, username="app", password="one")
    world.bind(by_app_role(unique))
    with world.running():
        wait_until("the rights are there", lambda: bool(world.policies(having=unique)), timeout=90)
        wait_until("all bindings are known", lambda: not asked()["errors"], timeout=90)
        world.register({**job, "TaskGroups": asked()["patch"][0]["value"]})
        world.await_reason(unique, Reason.READY, timeout=90)
        assert world.seen(unique) == ["app one"]
        assert [one["Version"] for one in world.versions(unique)] == [0]
