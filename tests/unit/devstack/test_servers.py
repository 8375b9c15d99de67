"""The managed servers themselves, and what only the simulator is asked for."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretbinding.devstack.api import Api
from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import wait_until
from secretbinding.devstack.simulator import Simulator
from tests.conformance.nomad import MS, Nomad, env_template, events, file_template, job, task, vault_task
from tests.support.servers import Stack


def test_openbao_keeps_its_root_token_to_itself(tmp_path: Path) -> None:
    with OpenBao(tmp_path, root_token="a-token-to-look-for") as server:
        assert server.api.get("/v1/auth/token/lookup-self").expect(200).json()["data"]["policies"] == ["root"]
        assert server.put_secret("a", {"k": "v"}) == 1
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or "a-token-to-look-for" not in path.read_text(errors="replace")
    assert not (tmp_path / ".vault-token").exists()


@pytest.mark.real_nomad
def test_a_restarted_agent_finds_its_jobs_and_tasks_again(openbao: OpenBao, tmp_path: Path) -> None:
    if find_nomad() is None:
        pytest.skip("no `nomad` on PATH")
    marker = tmp_path / "pid"
    with NomadAgent(tmp_path / "nomad", vault_address=openbao.address) as agent:
        nomad = Nomad(Stack(agent.kind, agent.address, agent.api, "", openbao))
        nomad.register(job("restarted", task(f"echo $$ > {marker}; exec sleep 3000")))
        before = nomad.wait_allocation("restarted", "running")
        pid = nomad.wait("the process", lambda: marker.exists() and marker.read_text().strip())
        agent.restart()
        after = nomad.wait_allocation("restarted", "running")
        assert after["ID"] == before["ID"]
        assert Path(f"/proc/{pid}").exists()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_seconds=10, what="the end of the task")


# Reads that come faster than a template's wait would put it off for minutes.
SOON = {"Min": 100 * MS, "Max": 500 * MS}


def polling(openbao: OpenBao, name: str, change_mode: str) -> dict[str, Any]:
    """A job with a template that is read again and again."""
    openbao.put_secret(name, {"k": "one"})
    openbao.put_policy(name, f'path "secret/data/{name}" {{ capabilities = ["read"] }}')
    openbao.put_jwt_role(name, {"token_policies": [name]})
    text = f'{{{{ with secret "secret/data/{name}" }}}}K={{{{ .Data.data.k }}}}\n{{{{ end }}}}'
    template = env_template(text, Once=False, ChangeMode=change_mode, Splay=0, Wait=SOON)
    return job(name, vault_task(name, [template], "echo $K; exec sleep 3000"))


@pytest.fixture
def poller(tmp_path: Path) -> Iterator[Nomad]:
    with (
        OpenBao(tmp_path / "openbao") as vault,
        Simulator(vault_address=vault.address, template_poll_seconds=0.3) as one,
    ):
        vault.enable_jwt(one.address)
        yield Nomad(Stack(one.kind, one.address, one.api, "", vault))


def test_a_polled_template_restarts_its_task_when_the_secret_changes(poller: Nomad, unique: str) -> None:
    poller.register(polling(poller.stack.openbao, unique, "restart"))
    poller.wait_deployed(unique)
    poller.stack.openbao.put_secret(unique, {"k": "two"})
    poller.wait("both values", lambda: poller.logs(poller.allocations(unique)[0]) == "one\ntwo\n")
    assert ("Restart Signaled", "Template with change_mode restart re-rendered") in events(
        poller.allocations(unique)[0]
    )
    assert len(poller.allocations(unique)) == 1


def test_a_polled_template_with_noop_only_changes_the_file(poller: Nomad, unique: str) -> None:
    made = polling(poller.stack.openbao, unique, "noop")
    shown = file_template(f'{{{{ with secret "secret/data/{unique}" }}}}{{{{ .Data.data.k }}}}{{{{ end }}}}')
    made["TaskGroups"][0]["Tasks"][0]["Templates"] = [{**shown, "Once": False, "ChangeMode": "noop", "Wait": SOON}]
    poller.register(made)
    poller.wait_deployed(unique)
    (allocation,) = poller.allocations(unique)
    before = allocation["TaskStates"]["t"]["StartedAt"]
    poller.stack.openbao.put_secret(unique, {"k": "two"})
    poller.wait("the file has the new value", lambda: poller.file(allocation, "t/local/out") == "two")
    assert poller.allocations(unique)[0]["TaskStates"]["t"]["StartedAt"] == before


def test_a_thousand_jobs_without_tasks_are_taken_and_settle(openbao: OpenBao) -> None:
    with Simulator(vault_address=openbao.address) as simulator:
        nomad = Nomad(Stack(simulator.kind, simulator.address, simulator.api, "", openbao))
        for number in range(1000):
            nomad.register(job(f"many-{number:04}", count=0))
        assert len(simulator.api.get("/v1/jobs").expect(200).json()) == 1000
        nomad.wait("all evaluations", lambda: nomad.job("many-0999")["Status"] == "dead")


def test_stopping_the_simulator_kills_its_tasks_and_removes_their_files(openbao: OpenBao, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    simulator = Simulator(tmp_path / "simulator", vault_address=openbao.address).start()
    nomad = Nomad(Stack(simulator.kind, simulator.address, simulator.api, "", openbao))
    nomad.register(job("killed", task(f"trap '' INT TERM; echo $$ > {marker}; while true; do sleep 0.1; done")))
    pid = nomad.wait("the process", lambda: marker.exists() and marker.read_text().strip())
    simulator.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not (tmp_path / "simulator" / "alloc").exists()


def test_the_simulator_runs_as_a_process_and_leaves_no_task_when_it_is_killed(openbao: OpenBao, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    process = subprocess.Popen(
        [sys.executable, "-m", "secretbinding.devstack.simulator", "--openbao", openbao.address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    nomad = Nomad(Stack("simulator", address, Api(address), "", openbao))
    nomad.register(job("orphan", task(f"echo $$ > {marker}; exec sleep 3000")))
    pid = nomad.wait("the process", lambda: marker.exists() and marker.read_text().strip())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_seconds=5, what="the end of the task")


_STARTER = """
import sys, time
from pathlib import Path
from secretbinding.devstack.nomad_agent import NomadAgent

agent = NomadAgent(Path(sys.argv[1]), vault_address="http://127.0.0.1:1").start()
print(agent.address, flush=True)
time.sleep(3000)
"""


@pytest.mark.real_nomad
def test_a_killed_starter_leaves_neither_agent_nor_task(openbao: OpenBao, tmp_path: Path) -> None:
    if find_nomad() is None:
        pytest.skip("no `nomad` on PATH")
    marker = tmp_path / "pid"
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path / "nomad")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert starter.stdout is not None
    address = starter.stdout.readline().strip()
    nomad = Nomad(Stack("nomad", address, Api(address), "", openbao))
    nomad.register(job("orphan", task(f"echo $$ > {marker}; exec sleep 3000")))
    pid = nomad.wait("the process", lambda: marker.exists() and marker.read_text().strip())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_seconds=10, what="the end of the task")
    wait_until(lambda: not nomad.api.reachable("/v1/status/leader"), timeout_seconds=10, what="the end of the agent")
