"""`status`, `rotate` and `run` with custom resources, on a small API server and on a real one where there is one."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from secretbinding.kinds.base import Right
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, policy_name
from secretbinding.render.policy import PolicyDocument, policy_text
from tests.integration.cli.test_run import controller
from tests.support.commandline import CommandLine
from tests.support.kubernetes import Cluster, a_binding, kubernetes_api, real_kubernetes, small_kubernetes, tenant
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest

__all__ = ["kubernetes_api", "real_kubernetes", "small_kubernetes", "tenant"]

# A real API server takes half a minute to start: one worker is enough for all that need it.
pytestmark = pytest.mark.xdist_group("kubernetes")


@pytest.fixture(autouse=True)
def _kubeconfig(cli: CommandLine, kubernetes_api: Cluster) -> None:
    cli.setenv(KUBECONFIG=str(kubernetes_api.kubeconfig))


def create(kubernetes_api: Cluster, manifest: dict[str, Any]) -> None:
    kubernetes_api.api.create_binding(manifest)


def test_status_shows_the_custom_resources_of_a_namespace(
    cli: CommandLine, kubernetes_api: Cluster, tenant: str
) -> None:
    create(kubernetes_api, a_binding(tenant, "one"))
    create(kubernetes_api, a_binding(tenant, "two"))
    ran = cli("status", "--source", "kubernetes", "-n", tenant)
    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines()]
    assert [row[:5] for row in rows[1:]] == [[tenant, name, "web", "Unknown", "Pending"] for name in ("one", "two")]
    assert rows[1][-1].endswith("s")
    everywhere = cli("status", "--source", "kubernetes", "-n", "*", "-o", "json")
    assert {"one", "two"} <= {item["metadata"]["name"] for item in json.loads(everywhere.out)["items"]}
    one = cli("status", "two", "--source", "kubernetes", "-n", tenant, "-o", "json")
    assert [item["metadata"]["name"] for item in json.loads(one.out)["items"]] == ["two"]
    assert cli("status", "three", "--source", "kubernetes", "-n", tenant).code == 1


def test_rotate_sets_the_annotation(cli: CommandLine, kubernetes_api: Cluster, tenant: str) -> None:
    create(kubernetes_api, a_binding(tenant, "one"))
    ran = cli("rotate", "one", "--source", "kubernetes", "-n", tenant)
    assert ran.code == 0, ran.err
    found = kubernetes_api.api.binding(tenant, "one")
    assert found is not None
    annotations = found["metadata"]["annotations"]
    assert ran.out == f"{tenant}/one: asked at {annotations['nomad-vault.io/rotate-requested-at']}\n"
    assert cli("rotate", "two", "--source", "kubernetes", "-n", tenant).code == 1


def test_asking_for_new_values_sets_an_annotation_of_its_own(
    cli: CommandLine, kubernetes_api: Cluster, tenant: str
) -> None:
    made = a_binding(tenant, "one")
    secret = made["spec"]["secrets"][0]
    made["spec"]["rotation"] = {"generate": [{"secret": secret["name"], "fields": ["password"]}]}
    create(kubernetes_api, made)
    ran = cli("rotate", "one", "--source", "kubernetes", "-n", tenant, "--generate", "--secret", secret["name"])
    assert ran.code == 0, ran.err
    found = kubernetes_api.api.binding(tenant, "one")
    assert found is not None
    moment = ran.out.strip().rpartition(" ")[2]
    asked = {
        name: text for name, text in found["metadata"]["annotations"].items() if name.startswith("nomad-vault.io/")
    }
    assert asked == {"nomad-vault.io/generate-requested-at": f"{moment} {secret['name']}"}
    again = cli("rotate", "one", "--source", "kubernetes", "-n", tenant, "--generate")
    assert again.code == 0, again.err
    found = kubernetes_api.api.binding(tenant, "one")
    assert found is not None
    everything = again.out.strip().rpartition(" ")[2]
    assert found["metadata"]["annotations"]["nomad-vault.io/generate-requested-at"] == everything
    named = cli("rotate", "one", "--source", "kubernetes", "-n", tenant, "--generate", "--secret", secret["name"])
    found = kubernetes_api.api.binding(tenant, "one")
    assert found is not None
    still = named.out.strip().rpartition(" ")[2]
    assert found["metadata"]["annotations"]["nomad-vault.io/generate-requested-at"] == still, "all that waited"
    create(kubernetes_api, a_binding(tenant, "two"))
    refused = cli("rotate", "two", "--source", "kubernetes", "-n", tenant, "--generate")
    assert (refused.code, "no new value of any secret can be made" in refused.err) == (1, True)


def test_without_a_kubeconfig_the_error_says_what_to_set(cli: CommandLine, tmp_path: Path) -> None:
    cli.setenv(KUBECONFIG=str(tmp_path / "none"))
    ran = cli("status", "--source", "kubernetes")
    assert ran.code == 1
    assert "correct KUBECONFIG" in ran.err


def test_run_makes_a_custom_resource_true(
    simulator: Stack, cli: CommandLine, kubernetes_api: Cluster, tenant: str, tmp_path: Path, unique: str
) -> None:
    world = World(simulator)
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    world.deployed(unique)
    manifest = a_manifest(unique, unique, unique)
    create(kubernetes_api, {**manifest, "metadata": {"name": unique, "namespace": tenant}})
    config = str(kubernetes_api.kubeconfig)
    with controller(simulator, tmp_path / "log", "kubernetes", KUBECONFIG=config) as process:
        ran = cli("status", unique, "--source", "kubernetes", "-n", tenant, "--wait", "--timeout", "30s")
        assert ran.code == 0, ran.err + (tmp_path / "log").read_text()
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(timeout=20) == 0
    assert world.seen(unique) == ["app first"]


def test_doctor_looks_at_custom_resources_and_asks_for_those_that_policies_name(
    cli: CommandLine, kubernetes_api: Cluster, tenant: str, simulator: Stack, unique: str
) -> None:
    instance = unique[:20].rstrip("-")
    cli.use(simulator, SECRETBINDING_INSTANCE=instance)
    create(kubernetes_api, a_binding(tenant, "there"))
    names = {}
    for name in ("there", "gone"):
        owner = Owner(instance, BindingKey("kubernetes", tenant, name))
        workload = WorkloadKey("default", "", "default", "web")
        names[name] = policy_name(owner)
        simulator.openbao.put_policy(
            names[name], policy_text(PolicyDocument(owner, workload, (Right("secret/data/x", ("read",)),)))
        )
    report = json.loads(cli("doctor", "--source", "kubernetes", "-n", tenant, "-o", "json").out)
    found = {check["name"]: check["findings"] for check in report["checks"]}
    assert [one["subject"] for one in found["orphaned-policy"]] == [f"policy {names['gone']}"]
    assert [one["subject"] for one in found["binding-job"]] == [f"binding {tenant}/there"]
