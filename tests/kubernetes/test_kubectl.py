"""What people do with kubectl works alike on the small API server and on a real one."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster, a_binding

FINALIZER = "nomad-vault.io/finalizer"


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_apply_creates_then_changes_then_leaves_alone(kubernetes_api: Cluster, tenant: str) -> None:
    def apply(**spec: Any) -> str:
        return done(kubernetes_api.kubectl("apply", "-f", "-", stdin=json.dumps(a_binding(tenant, **spec))))

    assert "created" in apply()
    assert "unchanged" in apply()
    assert "configured" in apply(suspend=True)


def test_server_side_apply_is_taken(kubernetes_api: Cluster, tenant: str) -> None:
    manifest = json.dumps(a_binding(tenant))

    assert "applied" in done(kubernetes_api.kubectl("apply", "--server-side", "-f", "-", stdin=manifest))


def test_an_unknown_field_is_refused(kubernetes_api: Cluster, tenant: str) -> None:
    refused = kubernetes_api.kubectl("apply", "-f", "-", stdin=json.dumps(a_binding(tenant, typo=1)))

    assert refused.returncode == 1
    assert 'unknown field "spec.typo"' in refused.stderr


def test_a_rule_between_fields_is_enforced(kubernetes_api: Cluster, tenant: str) -> None:
    done(kubernetes_api.kubectl("apply", "-f", "-", stdin=json.dumps(a_binding(tenant))))
    moved = json.dumps(a_binding(tenant, workload={"job": "another", "namespace": "default"}))

    refused = kubernetes_api.kubectl("apply", "-f", "-", stdin=moved)

    assert refused.returncode == 1
    assert "immutable" in refused.stderr


def test_get_shows_the_columns_under_the_short_name(kubernetes_api: Cluster, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))

    head, row = done(kubernetes_api.kubectl("get", "nsb", "-n", tenant)).splitlines()

    assert head.split() == ["NAME", "JOB", "READY", "REASON", "ROTATION", "AGE"]
    assert row.split()[:4] == ["web", "web", "Unknown", "Pending"]


def test_delete_waits_for_the_finalizer(kubernetes_api: Cluster, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": [FINALIZER]}})

    held = kubernetes_api.kubectl("delete", "nsb", "web", "-n", tenant, "--timeout=1s")

    assert held.returncode == 1
    patch = '{"metadata":{"finalizers":null}}'
    done(kubernetes_api.kubectl("patch", "nsb", "web", "-n", tenant, "--type=merge", "-p", patch))
    eventually(lambda: kubernetes_api.api.binding(tenant, "web") is None, "the binding is gone")


def test_a_status_is_patched_by_its_subresource_and_waited_for(kubernetes_api: Cluster, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
    status = {"status": {"conditions": [ready | {"lastTransitionTime": "2030-01-01T00:00:00Z"}]}}
    place = ("nsb", "web", "-n", tenant)

    done(kubernetes_api.kubectl("patch", *place, "--subresource=status", "--type=merge", "-p", json.dumps(status)))

    done(kubernetes_api.kubectl("wait", "--for=condition=Ready", *place, "--timeout=10s"))


def test_a_namespace_and_the_definition_come_from_manifests(small_kubernetes: Cluster, tmp_path: Path) -> None:
    manifest = tmp_path / "namespace.yaml"
    manifest.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: team}}")

    done(small_kubernetes.kubectl("apply", "-f", str(manifest)))

    wait = ("wait", "--for=condition=Established", "crd/secretbindings.nomad-vault.io", "--timeout=5s")
    done(small_kubernetes.kubectl(*wait))
    assert "team" in done(small_kubernetes.kubectl("get", "namespaces"))
