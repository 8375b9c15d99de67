"""What the chart installs, on a real Kubernetes API server: objects are taken, rights are just those that are needed, a
certificate outlives upgrades, and the hook frees what would hang."""

import copy
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Config

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.engine.policies import PolicyBoard
from secretbinding.errors import Denied
from secretbinding.models.crd import policy_crd
from secretbinding.sources.kubernetes.items import FINALIZER
from secretbinding.sources.kubernetes.source import KubernetesSource
from secretbinding.sources.policies import KubernetesPolicies
from tests.chart.rendering import BASE, POLICY, Json, chart, documents, merged
from tests.kubernetes.sink import QUICK, RecordingSink
from tests.support.commandline import CommandLine, cli
from tests.support.kcp import free_ports
from tests.support.kubeclient import KubernetesApi, eventually, path_of
from tests.support.kubernetes import Cluster, a_binding

__all__ = ["cli"]

pytestmark = pytest.mark.real_kubernetes

# kcp has no workloads. A Deployment is what it stores of one.
DEPLOYMENTS: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "deployments.apps"},
    "spec": {
        "group": "apps",
        "scope": "Namespaced",
        "names": {
            "plural": "deployments",
            "singular": "deployment",
            "kind": "Deployment",
            "listKind": "DeploymentList",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            key: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                            for key in ("spec", "status")
                        },
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
            }
        ],
    },
}


@dataclass
class Release:
    """A release of the chart on an API server, as far as that knows its kinds. Names are its own."""

    cluster: Cluster
    folder: Path
    name: str
    teams: tuple[str, str]

    @property
    def account(self) -> str:
        return f"{self.name}-secretbinding"

    def render(self, values: Json) -> list[Json]:
        """The objects, with `lookup` asking this server."""
        with Config(kubeconfig_path=self.cluster.kubeconfig, namespace=self.name) as config:
            return documents(config.render(chart(), merged(BASE, values), name=self.name, namespace=self.name))

    def apply(self, objects: list[Json], *more: str) -> list[Json]:
        """Apply those that the server knows; they are given back."""
        known = [each for each in objects if each["kind"] in self._kinds()]
        ran = self.cluster.kubectl(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", *more, "-f", "-",
            stdin=yaml.safe_dump_all(known),
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return known

    def stored(self, objects: list[Json]) -> list[Json]:
        """What the server has of them, without what it writes of its own."""
        ran = self.cluster.kubectl("get", "-o", "json", "-f", "-", stdin=yaml.safe_dump_all(objects))
        assert ran.returncode == 0, ran.stderr
        found: list[Json] = json.loads(ran.stdout)["items"]
        for each in found:
            each["metadata"].pop("resourceVersion")
            each.pop("status", None)
        return found

    def client(self, account: str) -> KubernetesClient:
        """A client with nothing but a token of the service account."""
        return KubernetesClient(KubernetesConnection(kubeconfig=str(self.kubeconfig(account)), retry_attempts=1))

    def kubeconfig(self, account: str) -> Path:
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{account}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        token = self.cluster.api.call("POST", path, asked)["status"]["token"]
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        for user in config["users"]:
            user["user"] = {"token": token}
        made = self.folder / f"{account}.kubeconfig"
        made.write_text(yaml.safe_dump(config))
        return made

    def rights(self, account: str, namespace: str) -> set[tuple[str, str]]:
        """What the account may do in a namespace, and one without any role may not: resource and verb."""
        anybody = self._told("default", namespace)
        assert not {right for right in anybody if right[0].startswith(("secret", "deployments"))}
        return self._told(account, namespace) - anybody

    def _told(self, account: str, namespace: str) -> set[tuple[str, str]]:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        told = KubernetesApi(self.kubeconfig(account)).call("POST", path, body)["status"]
        return {
            (resource, verb)
            for rule in told["resourceRules"]
            for resource in rule.get("resources", [])
            for verb in rule["verbs"]
        }

    def _kinds(self) -> set[str]:
        api = self.cluster.api
        groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.call("GET", "/apis")["groups"]]
        listed = [api.call("GET", path)["resources"] for path in ("/api/v1", *groups)]
        return {resource["kind"] for resources in listed for resource in resources}


@pytest.fixture
def release(real_kubernetes: Cluster, tmp_path: Path) -> Iterator[Release]:
    real_kubernetes.api.define(policy_crd())
    name = f"rel-{uuid.uuid4().hex[:8]}"
    teams = (f"{name}-payments", f"{name}-shop")
    for namespace in (name, *teams):
        real_kubernetes.api.create_namespace(namespace)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: real_kubernetes.api.request("GET", account).ok, "the namespace's own account")
    made = Release(real_kubernetes, tmp_path, name, teams)
    yield made
    configuration = f"{name}-{name}-secretbinding"
    base = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    real_kubernetes.api.request("DELETE", f"{base}/{configuration}")


@pytest.fixture
def deployments(real_kubernetes: Cluster) -> None:
    if "apps" not in {group["name"] for group in real_kubernetes.api.call("GET", "/apis")["groups"]}:
        real_kubernetes.api.define(DEPLOYMENTS)


BINDINGS = {
    *(("secretbindings", verb) for verb in ("get", "list", "watch", "patch")),
    ("secretbindings/finalizers", "update"),
    ("secretbindings/status", "patch"),
    ("events", "create"),
}
OF_CLUSTER = {("secretbindingpolicies", "list"), ("secretbindingpolicies", "watch"), ("namespaces", "list")}
LEASES = {("leases", verb) for verb in ("get", "list", "create", "update", "delete")}


def works(release: Release, client: KubernetesClient, namespace: str, watched: tuple[str, ...]) -> None:
    """Everything that the controller does with the API server."""
    sink, board = RecordingSink(), PolicyBoard(["kubernetes"], settle_seconds=0)
    source, policies = KubernetesSource(client, watched, pace=QUICK), KubernetesPolicies(client)
    source.start(sink)
    policies.start(board)
    try:
        eventually(lambda: source.healthy(time.monotonic()) == "", "bindings are listed and watched", 30)
        assert board.wait(30)
        release.cluster.api.create_binding(a_binding(namespace, "web"))
        eventually(lambda: any(item.key.name == "web" for item in sink.deliveries), "the binding is seen", 30)
    finally:
        source.stop()
        policies.stop()
        board.stop()
    assert client.namespace_labels()
    client.add_finalizer(namespace, "web", FINALIZER)
    client.annotate(namespace, "web", {"nomad-vault.io/rotate-requested-at": "now"})
    client.patch_status(namespace, "web", {"observedGeneration": 1})
    client.replace_status(namespace, "web", {"observedGeneration": 1})
    client.event(client.get(namespace, "web"), warning=False, reason="Ready", message="it serves")
    client.remove_finalizer(namespace, "web", FINALIZER)
    metadata: Json = {"namespace": release.name, "name": "leader", "labels": {"of": "us"}}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    made = client.write_lease(lease)
    client.write_lease(made)
    assert client.list_leases(release.name, {"of": "us"})
    assert client.read_lease(release.name, "leader") is not None
    client.delete_lease(release.name, "leader")


def test_the_controllers_account_can_do_all_that_it_needs_and_no_more(release: Release) -> None:
    release.apply(release.render({"replicaCount": 2, "webhook": {"enabled": False}}))
    client = release.client(release.account)
    works(release, client, release.teams[0], ())
    assert release.rights(release.account, release.teams[0]) == BINDINGS | OF_CLUSTER
    assert release.rights(release.account, release.name) == BINDINGS | OF_CLUSTER | LEASES
    with pytest.raises(Denied):
        client.scale_deployment(release.name, release.account, 0)
    client.close()


def test_with_namespaces_named_it_sees_no_others(release: Release) -> None:
    first, second = release.teams
    values = {"replicaCount": 2, "watchNamespaces": [first], "webhook": {"enabled": False}}
    release.apply(release.render(values))
    client = release.client(release.account)
    works(release, client, first, (first,))
    assert release.rights(release.account, first) == BINDINGS | OF_CLUSTER
    assert release.rights(release.account, second) == OF_CLUSTER
    for namespace in (second, ""):
        with pytest.raises(Denied):
            client.list(namespace)
    client.close()


def test_everything_that_the_server_knows_is_taken_and_an_upgrade_changes_nothing_of_it(release: Release) -> None:
    tenancy: Json = {"policies": {release.name: POLICY}}
    values: Json = {"tenancy": tenancy, "rbac": {"authDelegator": True}}
    first = release.apply(release.render(values))
    assert {
        *("CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"),
        *("ConfigMap", "Secret", "ValidatingWebhookConfiguration"),
    } <= {each["kind"] for each in first}
    stored = release.stored(first)
    again = release.apply(release.render(values))
    assert release.stored(again) == stored
    (mounted,) = [each for each in again if each["kind"] == "ConfigMap"]
    release.apply([yaml.safe_load(text) for text in mounted["data"].values()], "--dry-run=server")
    release.apply(release.render({"tenancy": {**tenancy, "policiesAs": "Objects"}}), "--dry-run=server")


def secret_of(objects: list[Json]) -> Json:
    (found,) = [each for each in objects if each["kind"] == "Secret"]
    return found


def test_the_webhooks_certificate_outlives_upgrades_until_most_of_its_time_is_over(release: Release) -> None:
    first = release.apply(release.render({}))
    kept = release.render({})
    assert secret_of(kept) == secret_of(first)
    (configuration,) = [each for each in kept if each["kind"] == "ValidatingWebhookConfiguration"]
    bundles = {hook["clientConfig"]["caBundle"] for hook in configuration["webhooks"]}
    assert bundles == {secret_of(first)["data"]["ca.crt"]}
    old = copy.deepcopy(secret_of(first))
    old["metadata"]["annotations"]["nomad-vault.io/certificate-made-at"] = str(int(time.time()) - 3650 * 86400 * 3 // 4)
    release.apply([old])
    assert secret_of(release.render({}))["data"] != old["data"]


def test_with_failure_policy_fail_only_a_change_of_the_spec_waits_for_a_controller(release: Release) -> None:
    team, api = release.teams[0], release.cluster.api
    values = {"webhook": {"failurePolicy": "Fail"}, "watchNamespaces": [team]}
    release.apply([each for each in release.render(values) if each["kind"] != "ValidatingWebhookConfiguration"])
    api.create_binding(a_binding(team, "web"))
    (configuration,) = [each for each in release.render(values) if each["kind"] == "ValidatingWebhookConfiguration"]
    (port,) = free_ports(1)
    for hook in configuration["webhooks"]:
        service = hook["clientConfig"].pop("service")
        hook["clientConfig"]["url"] = f"https://127.0.0.1:{port}{service['path']}"
    # The policies of other tests are not to wait for it.
    configuration["webhooks"] = [hook for hook in configuration["webhooks"] if hook["name"].startswith("bindings.")]
    release.apply([configuration])

    def refused() -> str:
        patch = {"spec": {"rotation": {"settle": f"{uuid.uuid4().int % 50 + 1}s"}}}
        answer = api.request("PATCH", path_of(team, "web"), patch, "application/merge-patch+json")
        return "" if answer.ok else str(answer.json()["message"])

    message = eventually(refused, "the server asks", 30)
    assert 'failed calling webhook "bindings.nomad-vault.io"' in message
    api.patch_binding(team, "web", {"metadata": {"finalizers": [FINALIZER], "annotations": {"a": "b"}}})
    api.patch_binding(team, "web", {"status": {"observedGeneration": 1}}, subresource="status")
    api.delete_binding(team, "web")
    api.patch_binding(team, "web", {"metadata": {"finalizers": None}})
    assert api.binding(team, "web") is None
    assert api.request("POST", path_of(team), a_binding(team, "other")).status_code == 500
    assert api.request("POST", path_of(release.teams[1]), a_binding(release.teams[1], "other")).ok


def strategy(objects: list[Json]) -> str:
    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    return str(deployment["spec"]["strategy"]["type"])


@pytest.mark.usefixtures("deployments")
def test_pods_that_elect_in_another_way_than_those_of_before_wait_for_their_end(release: Release) -> None:
    def values(shards: int) -> Json:
        return {"replicaCount": 0, "election": {"enabled": True}, "shards": shards, "webhook": {"enabled": False}}

    first = release.render(values(4))
    assert strategy(first) == "RollingUpdate"
    release.apply(first)
    assert strategy(release.render(values(4))) == "RollingUpdate"
    assert strategy(release.render(values(8))) == "Recreate"
    release.apply(release.render({"webhook": {"enabled": False}, "replicaCount": 0}))
    assert strategy(release.render(values(4))) == "Recreate"


@pytest.mark.usefixtures("deployments")
@pytest.mark.parametrize("named", [False, True])
def test_the_hook_ends_the_controller_and_frees_bindings_with_rights_of_its_own(
    release: Release, cli: CommandLine, named: bool
) -> None:
    team, api = release.teams[0], release.cluster.api
    values: Json = {
        "replicaCount": 0,
        "cleanup": {"enabled": True},
        "webhook": {"enabled": False},
        "watchNamespaces": [team] if named else [],
    }
    made = release.render(values)
    release.apply(made)
    place = f"/apis/apps/v1/namespaces/{release.name}/deployments/{release.account}"
    status = {"status": {"observedGeneration": 99, "replicas": 0}}
    api.call("PATCH", place, {"spec": {"replicas": 1}}, "application/merge-patch+json")
    api.call("PATCH", f"{place}/status", status, "application/merge-patch+json")
    api.create_binding(
        {**a_binding(team, "web"), "metadata": {**a_binding(team)["metadata"], "finalizers": [FINALIZER]}}
    )
    (job,) = [each for each in made if each["kind"] == "Job"]
    spec: Json = job["spec"]["template"]["spec"]
    given: dict[str, Any] = {row["name"]: row["value"] for row in spec["containers"][0].get("env", [])}
    cli.setenv(KUBECONFIG=str(release.kubeconfig(spec["serviceAccountName"])), **given)
    ran = cli(*spec["containers"][0]["args"])
    assert ran.code == 0, ran.err
    assert f"- finalizer of SecretBinding {team}/web" in ran.out
    binding = api.binding(team, "web")
    assert binding is not None
    assert "finalizers" not in binding["metadata"]
    assert api.call("GET", place)["spec"]["replicas"] == 0
    rights = release.rights(spec["serviceAccountName"], team)
    assert rights == {("secretbindings", verb) for verb in ("get", "list", "patch")} | {
        ("secretbindings/finalizers", "update")
    }
