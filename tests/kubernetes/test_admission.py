"""The validating webhook: asked directly beside the small API server, and by a real one."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
import yaml

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.errors import UsageError
from secretbinding.models.crd import POLICY_PLURAL, policy_crd
from secretbinding.tenancy.verdict import Known
from secretbinding.webhooks.admission import Admission
from secretbinding.webhooks.certificates import VALID, expires_soon, write_certificate
from secretbinding.webhooks.kubernetes import AdmissionWebhook, Serve
from tests.support.kcp import free_ports
from tests.support.kubeclient import eventually, path_of
from tests.support.kubernetes import Cluster, a_binding
from tests.unit.tenancy.builders import policy

Json = dict[str, Any]

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SHARED = policy(workloads=[{"namespaces": ["*"]}], secrets=[{"mounts": ["secret"], "paths": ["shared/*"]}])


@contextmanager
def serving(cluster: Cluster, serve: Serve) -> Iterator[AdmissionWebhook]:
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(cluster.kubeconfig)))
    admission = Admission(lambda: Known((SHARED,)), lambda source, tenant: {}, lambda connection: "global")
    webhook = AdmissionWebhook(serve, client.credentials, admission)
    webhook.start()
    try:
        assert webhook.ready.wait(30)
        yield webhook
    finally:
        webhook.stop()
        client.close()


def bound(tenant: str, path: str) -> Json:
    secret = {"name": "app", "kv": {"mount": "secret", "path": path}, "env": {"A": "a"}}
    return a_binding(tenant, f"web-{uuid.uuid4().hex[:8]}", secrets=[secret])


def review(obj: Json, plural: str, old: Json | None = None) -> Json:
    """An AdmissionReview as an API server sends it."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": {"group": "nomad-vault.io", "version": "v1alpha1", "kind": obj["kind"]},
            "resource": {"group": "nomad-vault.io", "version": "v1alpha1", "resource": plural},
            "operation": "UPDATE" if old is not None else "CREATE",
            "userInfo": {"username": "somebody"},
            "object": obj,
            "oldObject": old,
        },
    }


def mounted(folder: Path, port: int) -> tuple[Serve, Path]:
    """A certificate as cert-manager mounts it, and who signed it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return Serve("127.0.0.1", port, folder / "tls.crt", folder / "tls.key", folder / "ca.crt"), folder / "ca.crt"


def test_a_review_is_answered_over_a_mounted_certificate(small_kubernetes: Cluster, tmp_path: Path) -> None:
    small_kubernetes.api.define(policy_crd())
    (port,) = free_ports(1)
    serve, authority = mounted(tmp_path / "tls", port)
    with serving(small_kubernetes, serve):

        def ask(obj: Json, plural: str, kind: str, old: Json | None = None) -> Json:
            answer = requests.post(
                f"https://127.0.0.1:{port}/{kind}", json=review(obj, plural, old), verify=str(authority), timeout=10
            )
            answer.raise_for_status()
            found: Json = answer.json()["response"]
            return found

        assert ask(bound("team", "shared/a"), "secretbindings", "bindings")["allowed"]
        refused = bound("team", "other/a")
        answer = ask(refused, "secretbindings", "bindings")
        assert not answer["allowed"]
        assert answer["status"]["code"] == 403
        assert "no policy allows tenant team (kubernetes)" in answer["status"]["message"]
        marked = {**refused, "metadata": {**refused["metadata"], "finalizers": ["nomad-vault.io/finalizer"]}}
        assert ask(marked, "secretbindings", "bindings", refused)["allowed"]
        assert ask(SHARED.to_manifest(), POLICY_PLURAL, "policies")["allowed"]
        broken = SHARED.to_manifest()
        broken["spec"]["templates"] = {"functions": ["frobnicate"]}
        assert "frobnicate" in ask(broken, POLICY_PLURAL, "policies")["status"]["message"]


@pytest.mark.real_kubernetes
def test_a_real_api_server_asks_by_a_configuration_that_the_controller_writes(real_kubernetes: Cluster) -> None:
    cluster = real_kubernetes
    cluster.api.define(policy_crd())
    tenant = f"tenant-{uuid.uuid4().hex[:8]}"
    cluster.api.create_namespace(tenant)
    (port,) = free_ports(1)
    name = f"admission-{uuid.uuid4().hex[:8]}.nomad-vault.io"
    with serving(cluster, Serve("127.0.0.1", port, managed=name)):

        def told(path: str) -> str:
            answer = cluster.api.request("POST", path_of(tenant), bound(tenant, path))
            return "" if answer.ok else str(answer.json()["message"])

        eventually(lambda: told("other/a"), "the API server asks", 30)
        message = told("other/a")
        assert 'admission webhook "bindings.' in message
        assert "no policy allows tenant" in message
        assert "kind: SecretBindingPolicy" in message
        assert told("shared/a") == ""
        (configuration,) = [
            item for item in cluster.api.call("GET", CONFIGURATIONS)["items"] if item["metadata"]["name"] == name
        ]
        hooks = {hook["name"].partition(".")[0]: hook for hook in configuration["webhooks"]}
        assert {hook["failurePolicy"] for hook in hooks.values()} == {"Ignore"}
        assert {hook["sideEffects"] for hook in hooks.values()} == {"None"}
        assert all(hook["clientConfig"]["caBundle"] for hook in hooks.values())
        broken = SHARED.to_manifest()
        broken["spec"]["templates"] = {"functions": ["frobnicate"]}
        place = f"/apis/nomad-vault.io/v1alpha1/{POLICY_PLURAL}?dryRun=All"
        answer = cluster.api.request("POST", place, broken)
        assert "there is no function `frobnicate`" in answer.json()["message"]
        made = cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(bound(tenant, "other/b")))
        assert made.returncode != 0
        assert "no policy allows tenant" in made.stderr
    assert cluster.api.call("GET", f"{CONFIGURATIONS}/{name}").get("webhooks", []) == []
    assert cluster.api.request("POST", path_of(tenant), bound(tenant, "other/c")).ok
    cluster.api.call("DELETE", f"{CONFIGURATIONS}/{name}")


def test_a_certificate_of_the_processs_own_is_good_for_its_names_and_made_anew_in_time(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate, key = write_certificate(tmp_path, ("webhook.nomad.svc", "127.0.0.1"), now)
    assert (certificate.stat().st_mode & 0o777, key.stat().st_mode & 0o777) == (0o600, 0o600)
    first = certificate.read_bytes()
    write_certificate(tmp_path, ("webhook.nomad.svc",), now)
    assert certificate.read_bytes() != first
    assert not expires_soon(now, now)
    assert expires_soon(now, now + VALID)


def test_the_names_are_those_by_which_the_api_server_comes() -> None:
    assert Serve("0.0.0.0", 9443, service=("nomad", "hook", 443)).hosts == (
        "hook.nomad.svc",
        "hook.nomad.svc.cluster.local",
    )
    assert Serve("0.0.0.0", 9443, name="hook.example.com").hosts == ("hook.example.com",)
    assert Serve("127.0.0.1", 9443).hosts == ("127.0.0.1",)


def test_a_certificate_that_is_not_there_is_told_at_once(small_kubernetes: Cluster, tmp_path: Path) -> None:
    serve, _ = mounted(tmp_path / "tls", 0)
    shutil.rmtree(tmp_path / "tls")
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(small_kubernetes.kubeconfig)))
    admission = Admission(None, lambda source, tenant: {}, lambda connection: "")
    with pytest.raises(UsageError, match="is no file"):
        AdmissionWebhook(serve, client.credentials, admission).start()
    client.close()
