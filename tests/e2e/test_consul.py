"""Consul beside the controller: what a job says of it passes through untouched, and templates may ask for services."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from tests.support.discovery import Consul, consul_server
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

JOB_FILE = (Path(__file__).parents[1] / "support" / "consul.nomad.hcl").read_text()
VOLATILE = ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Version", "SubmitTime", "Stable", "Status")


@pytest.fixture(scope="module")
def consul() -> Iterator[Consul]:
    with consul_server() as running:
        yield running


@pytest.fixture(scope="module", params=["simulator", pytest.param("nomad", marks=pytest.mark.real_nomad)])
def beside(request: pytest.FixtureRequest, consul: Consul, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Nomad of each kind; the real one has a Consul, and gives its tasks and services identities for it."""
    if request.param == "nomad" and find_nomad() is None:
        pytest.skip("no `nomad` on PATH: what is tested on the simulator is not compared with a real Nomad")
    directory = tmp_path_factory.mktemp("beside-consul")
    with OpenBao(directory / "openbao") as vault:
        server = (
            NomadAgent(directory / "nomad", vault_address=vault.address, consul_address=consul.address)
            if request.param == "nomad"
            else Simulator(directory / "simulator", vault_address=vault.address)
        )
        with server:
            vault.enable_jwt(server.address)
            yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


def as_it_was(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in VOLATILE}


def with_services(name: str) -> dict[str, Any]:
    """A job with a service in Consul, and `consul` blocks of its group and its task."""
    job = a_job(name)
    group = job["TaskGroups"][0]
    group["Consul"] = {"Cluster": "default"}
    group["Networks"] = [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}]
    group["Services"] = [{"Name": name, "PortLabel": "http", "Tags": ["a"], "Provider": "consul"}]
    group["Tasks"][0]["Consul"] = {}
    return job


def test_services_and_consul_blocks_are_those_of_the_user_before_during_and_after(beside: Stack, unique: str) -> None:
    world = World(beside)
    world.secret(unique, username="app", password="first")
    world.register(with_services(unique))
    world.deployed(unique)
    before = world.job(unique)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        during = world.job(unique)
        assert during["Version"] == before["Version"] + 1
        ours, theirs = during["TaskGroups"][0], before["TaskGroups"][0]
        assert ours["Services"] == theirs["Services"]
        assert ours["Consul"] == theirs["Consul"]
        assert ours["Tasks"][0]["Consul"] == theirs["Tasks"][0]["Consul"]
        named = [one["Name"] for one in ours["Tasks"][0]["Identities"]]
        assert sorted(named) == (["consul_default", "vault_default"] if beside.kind == "nomad" else ["vault_default"])
        world.secret(unique, username="app", password="second")
        wait_until("the second value", lambda: any("second" in text for text in world.seen(unique)))
        assert world.job(unique)["TaskGroups"][0]["Constraints"] == ours["Constraints"], "none is added by each version"
        world.unbind(unique)
        wait_until("the job without us", lambda: as_it_was(world.job(unique)) == as_it_was(before))
        assert world.job(unique)["Version"] == before["Version"] + 3


def test_a_job_in_the_mesh_gets_its_secrets_beside_the_proxy_that_nomad_adds(beside: Stack, unique: str) -> None:
    """There is no bridge network here, so nothing runs: it is about what is registered."""
    world = World(beside)
    world.secret(unique, username="app", password="first")
    job = beside.api.put("/v1/jobs/parse", {"JobHCL": JOB_FILE}).expect(200).json()
    beside.api.put("/v1/jobs", {"Job": {**job, "ID": unique, "Name": unique}}).expect(200)
    before = world.job(unique)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        wait_until("the injection", lambda: world.job(unique)["Version"] == 1)
        during = world.job(unique)
        group = during["TaskGroups"][0]
        proxies = [task for task in group["Tasks"] if task["Kind"].startswith("connect-proxy:")]
        assert [task["Name"] for task in proxies] == (["connect-proxy-web"] if beside.kind == "nomad" else [])
        assert proxies == [task for task in before["TaskGroups"][0]["Tasks"] if task["Kind"]]
        assert [task["Name"] for task in group["Tasks"] if task["Vault"]] == ["web"]
        assert group["Services"] == before["TaskGroups"][0]["Services"]
        assert group["Networks"] == before["TaskGroups"][0]["Networks"]
        world.unbind(unique)
        wait_until("the job without us", lambda: as_it_was(world.job(unique)) == as_it_was(before))
        assert world.job(unique)["Version"] == 2


@pytest.mark.real_nomad
@pytest.mark.parametrize("beside", ["nomad"], indirect=True)
def test_a_template_of_the_user_may_ask_consul_for_a_service(beside: Stack, consul: Consul, unique: str) -> None:
    world = World(beside)
    world.secret(unique, username="app", password="first")
    consul.put(unique, ("10.1.2.3", 5432))
    consul.put(unique, ("10.1.2.4", 5432), passing=False)
    job = a_job(unique)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", "cp local/found local/seen; exec sleep 600"]
    job["TaskGroups"][0]["Tasks"][0]["Consul"] = {}
    world.register(job)
    manifest = a_manifest(unique, unique, unique)
    text = '{{ range service "NAME" }}at {{ .Address }}:{{ .Port }} {{ end }}user {{ .Data.data.username }}'.replace(
        "NAME", unique
    )
    manifest["spec"]["secrets"][0]["files"] = [{"destination": "local/found", "template": text}]
    with world.running():
        world.bind(manifest)
        world.await_reason(unique, Reason.READY)
        wait_until("the file", lambda: world.seen(unique) == ["at 10.1.2.3:5432 user app"])
        assert "nomad-workloads" in consul.logins, "the task's own identity, not the agent's"
