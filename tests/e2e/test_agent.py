"""Secrets that a Vault Agent sidecar renders, with the real agent, on the simulator and on a real Nomad."""

import sys
from pathlib import Path
from typing import Any

import pytest

from secretbinding.devstack.openbao import find_openbao
from secretbinding.models.agent import AGENT_TASK, WAIT_TASK
from secretbinding.models.reasons import ConditionType, Reason
from tests.support.agents import FILE, AgentWorld, by_agent, reads_file
from tests.support.commandline import CommandLine, cli
from tests.support.servers import Stack
from tests.support.world import SECOND, wait_until

__all__ = ["cli"]

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
BOOKKEEPING = {
    "CreateIndex", "ModifyIndex", "JobModifyIndex", "Version", "SubmitTime", "Stable", "Status", "StatusDescription",
    "VersionTag", "NomadTokenID",
}  # fmt: skip


@pytest.fixture
def world(stack: Stack) -> AgentWorld:
    return AgentWorld(stack)


def own_part(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in BOOKKEEPING}


def ids(world: AgentWorld, name: str) -> set[str]:
    return {item["ID"] for item in world.running_allocations(name)}


def test_the_file_is_there_when_the_task_starts_rolls_with_a_new_version_and_goes_without_a_trace(
    world: AgentWorld, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(reads_file(unique, count=2))
    world.deployed(unique)
    before = own_part(world.job(unique))
    with world.running():
        world.bind(by_agent(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        names = [task["Name"] for task in world.job(unique)["TaskGroups"][0]["Tasks"]]
        assert names == ["web", AGENT_TASK, WAIT_TASK]
        assert world.seen(unique) == ["app one"] * 2
        first = ids(world, unique)
        world.secret(unique, username="app", password="two")
        wait_until("both read the new one", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert not first & ids(world, unique)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert own_part(world.job(unique)) == before
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_a_version_that_breaks_the_task_is_reverted_and_held(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    job = reads_file(unique)
    # The task looks into its file first, which may take a busy machine longer than it usually has to be healthy.
    job["TaskGroups"][0]["Update"]["MinHealthyTime"] = 3 * SECOND
    world.register(job)
    with world.running():
        world.bind(by_agent(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_FAILED, ConditionType.ROTATION_HEALTHY, timeout=60)
        wait_until("version 1 serves", lambda: world.seen(unique) == ["app one"])
        world.deployed(unique)
        held = world.job(unique)["Version"]
        world.secret(unique, username="app", password="three")
        wait_until("version 3 serves", lambda: world.seen(unique) == ["app three"])
        assert world.job(unique)["Version"] > held


def test_a_file_that_cannot_be_rendered_never_lets_the_task_start(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(reads_file(unique))
    world.deployed(unique)
    text = "{{ .Data.data.username }} {{ .Data.data.nothing_of_that_name }}"
    files = [{"destination": FILE, "template": text}]
    with world.running():
        world.bind(by_agent(unique, unique, unique, entry={"files": files}))
        world.await_reason(unique, Reason.DEPLOYMENT_FAILED, timeout=60)
        wait_until("the job is as before", lambda: len(world.job(unique)["TaskGroups"][0]["Tasks"]) == 1)
        wait_until("the task runs as before", lambda: len(ids(world, unique)) == 1)


def test_with_strategy_native_the_agent_writes_the_new_value_in_place_and_runs_the_command(
    stack: Stack, unique: str
) -> None:
    world = AgentWorld(stack, {"allow": "script"})
    world.secret(unique, username="app", password="one")
    world.register(reads_file(unique))
    command = {"command": "/bin/sh", "args": ["-c", 'echo "${NOMAD_TASK_NAME} $0" >> ../alloc/ran', "it's me"]}
    with world.running():
        world.bind(
            by_agent(
                unique,
                unique,
                unique,
                rotation={"strategy": "Native"},
                agent={"renderInterval": "1s"},
                entry={"changeMode": "Script", "changeScript": command},
            )
        )
        world.await_reason(unique, Reason.READY)
        before = (ids(world, unique), world.job(unique)["Version"])
        world.secret(unique, username="app", password="two")
        wait_until("the task reads the new one", lambda: world.seen(unique) == ["app two"])
        assert (ids(world, unique), world.job(unique)["Version"]) == before
        (allocation,) = world.running_allocations(unique)
        ran = world.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path="alloc/ran").text
        assert ran.splitlines() == ["vault-agent it's me"] * 2
        assert world.reason(unique, ConditionType.ROTATION_HEALTHY) == Reason.UP_TO_DATE


def test_two_bindings_of_a_group_share_its_sidecar_and_part_again(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.secret(f"{unique}-b", key="k1")
    world.register(reads_file(unique))
    first, second = f"{unique}-first", f"{unique}-second"
    other = {"name": "b", "kv": {"mount": "secret", "path": f"{unique}-b"}}
    with world.running():
        world.bind(by_agent(first, unique, unique))
        world.bind(by_agent(second, unique, "", entry={**other, "files": [{"destination": "../alloc/secrets/b.json"}]}))
        world.await_reason(first, Reason.READY)
        world.await_reason(second, Reason.READY)
        world.deployed(unique)
        (role,) = world.roles(having=unique)
        assert len(world.role(role)["token_policies"]) == 2
        (allocation,) = world.running_allocations(unique)
        found = world.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path="alloc/secrets/b.json").text
        assert found.strip() == '{"key":"k1"}'
        world.unbind(first)
        wait_until("the first is gone", lambda: world.status(first) is None)
        assert len(world.role(role)["token_policies"]) == 1
        world.deployed(unique)
        assert len(world.job(unique)["TaskGroups"][0]["Tasks"]) == 3
        world.unbind(second)
        wait_until("the second is gone", lambda: world.status(second) is None)
        assert len(world.job(unique)["TaskGroups"][0]["Tasks"]) == 1
    assert world.roles(having=unique) == []


def test_an_agent_that_is_restarted_logs_in_again_and_the_task_runs_on(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(reads_file(unique))
    with world.running():
        world.bind(by_agent(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        (allocation,) = world.running_allocations(unique)
        world.api.put(f"/v1/client/allocation/{allocation['ID']}/restart", {"TaskName": AGENT_TASK}).expect(200)
        wait_until("it was restarted", lambda: world.agent_of(allocation).get("Restarts") == 1)
        wait_until("it logged in twice", lambda: world.agent_log(allocation).count("authentication successful") == 2)
        assert world.seen(unique) == ["app one"]
        assert ids(world, unique) == {allocation["ID"]}


def test_a_task_of_the_users_that_has_the_sidecars_name_is_left_alone(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    job = reads_file(unique)
    job["TaskGroups"][0]["Tasks"].append({**job["TaskGroups"][0]["Tasks"][0], "Name": AGENT_TASK})
    world.register(job)
    world.deployed(unique)
    with world.running():
        world.bind(by_agent(unique, unique, unique))
        world.await_reason(unique, Reason.AGENT_CONFLICT)
        assert world.job(unique)["Version"] == 0


def test_a_file_in_the_agents_memory_is_not_shown_by_nomads_file_api(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    place = f"../{AGENT_TASK}/secrets/files/app"
    world.register(reads_file(unique, path=place))
    text = "{{ .Data.data.username }} {{ .Data.data.password }}"
    with world.running():
        world.bind(by_agent(unique, unique, unique, entry={"files": [{"destination": place, "template": text}]}))
        world.await_reason(unique, Reason.READY)
        assert world.seen(unique) == ["app one"]
        (allocation,) = world.running_allocations(unique)
        shown = world.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path=f"{AGENT_TASK}/secrets/files/app").text
        assert "prohibited" in shown


def test_tasks_use_vault_through_the_agents_socket_without_a_token(world: AgentWorld, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    ask = (
        "import http.client, json, os, socket\n"
        "link = http.client.HTTPConnection('agent')\n"
        "link.sock = socket.socket(socket.AF_UNIX)\n"
        "link.sock.connect('../alloc/vault.sock')\n"
        f"link.request('GET', '/v1/secret/data/{unique}')\n"
        "value = json.load(link.getresponse())['data']['data']['password']\n"
        "open('local/seen', 'w').write(value)\n"
    )
    job = reads_file(unique)
    script = 'until "$0" -c "$1"; do sleep 0.2; done; exec sleep 3600'
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", script, sys.executable, ask]
    world.register(job)
    with world.running():
        world.bind(by_agent(unique, unique, unique, agent={"listener": {"socket": "../alloc/vault.sock"}}))
        wait_until("the task has read it", lambda: world.seen(unique) == ["one"])


def test_the_example_is_applied_brings_its_files_and_leaves_nothing(stack: Stack, cli: CommandLine) -> None:
    world, name = AgentWorld(stack), "example-agent"
    file = str(EXAMPLES / "agent.yaml")
    stack.openbao.put_secret("shop/agent", {"username": "shop", "password": "it's"})
    world.register(reads_file(name, path="../alloc/secrets/app.env"))
    world.deployed(name)
    cli.use(stack, SECRETBINDING_AGENT_DRIVER="raw_exec", SECRETBINDING_AGENT_COMMAND=find_openbao() or "bao")
    try:
        applied = cli("apply", "-f", file, "--timeout", "60s")
        assert applied.code == 0, applied.err
        wait_until(
            "the task has read it", lambda: world.seen(name) == ["export DB_PASS='it'\\''s'\nexport DB_USER='shop'"]
        )
        assert cli("plan", "-f", file, "--detailed-exitcode").code == 0
        deleted = cli("delete", "-f", file, "--timeout", "60s")
        assert deleted.code == 0, deleted.err
        assert len(world.job(name)["TaskGroups"][0]["Tasks"]) == 1
        assert world.policies(having=name) == world.roles(having=name) == []
    finally:
        stack.api.delete(f"/v1/job/{name}", purge="true")
