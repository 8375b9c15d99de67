"""Fixtures: a Kubernetes API for tests, the small one and a real one, and a plain client for either."""

import functools
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.support.apiserver import ApiServer, Fault
from tests.support.crdcheck import Judge
from tests.support.kcp import Kcp
from tests.support.kubeclient import GROUP, KIND, VERSION, KubernetesApi

Json = dict[str, Any]

KUBECONFIG_VARIABLE = "SECRETBINDING_TEST_KUBECONFIG"
WITHOUT_REAL = f"no `kcp` on PATH and no {KUBECONFIG_VARIABLE}"
_CRD = Path(__file__).parents[2] / "crds" / "nomad-vault.io_secretbindings.yaml"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One Kubernetes API to test against. `small` is the small server with its faults, None for a real one."""

    kind: str
    kubeconfig: Path
    api: KubernetesApi
    small: ApiServer | None

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this API; skips the test, with the reason, when there is no kubectl."""
        beside = str(Path(sys.executable).parent)
        binary = shutil.which("kubectl", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
        if binary is None:
            pytest.skip("no `kubectl` on PATH")
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}
        return subprocess.run(
            [binary, *arguments], input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


def a_binding(namespace: str, name: str = "web", **spec: Any) -> Json:
    """A SecretBinding manifest that every check passes; keywords replace top-level fields of its spec."""
    base: Json = {
        "workload": {"job": "web", "namespace": "default"},
        "secrets": [{"name": "app", "kv": {"mount": "secret", "path": "myapp"}, "env": {"DB_USER": "username"}}],
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": base | spec,
    }


@functools.cache
def binding_definition() -> Json:
    """The project's own CustomResourceDefinition."""
    return cast(Json, yaml.safe_load(_CRD.read_text()))


def cel_rules(_schema: Json, new: Json, old: Json | None) -> list[Fault]:
    """The faults that the CEL rules of the SecretBinding definition find, for the small server."""
    if new["kind"] != KIND or (old is not None and old["spec"] == new["spec"]):
        return []
    found = []
    for sentence in _judge().faults(new, old):
        field, _, message = sentence.partition(": ")
        found.append(Fault(field.lstrip("."), "FieldValueInvalid", f'Invalid value: "object": {message}'))
    return found


@functools.cache
def _judge() -> Judge:
    return Judge(binding_definition())


@pytest.fixture
def small_kubernetes(tmp_path: Path) -> Iterator[Cluster]:
    """A small API server of this test's own, with the CRD, whose faults the test may use."""
    server = ApiServer(cel_rules, bookmark_seconds=0.5)
    try:
        kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
        api = KubernetesApi(kubeconfig)
        api.define(binding_definition())
        yield Cluster("small", kubeconfig, api, server)
    finally:
        server.close()


@pytest.fixture(scope="session")
def real_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real API server with the CRD: the one of SECRETBINDING_TEST_KUBECONFIG, else kcp, else a visible skip."""
    given = os.environ.get(KUBECONFIG_VARIABLE)
    if given:
        api = KubernetesApi(Path(given))
        api.define(binding_definition())
        yield Cluster("real", Path(given), api, None)
        return
    if shutil.which("kcp") is None:
        pytest.skip(WITHOUT_REAL)
    with Kcp(tmp_path_factory.mktemp("kcp")) as kcp:
        api = KubernetesApi(kcp.kubeconfig)
        api.define(binding_definition())
        yield Cluster("real", kcp.kubeconfig, api, None)


@pytest.fixture(params=["small", pytest.param("real", marks=pytest.mark.real_kubernetes)])
def kubernetes_api(request: pytest.FixtureRequest) -> Cluster:
    """The small API server and a real one in turn."""
    return cast(Cluster, request.getfixturevalue(f"{request.param}_kubernetes"))


@pytest.fixture
def tenant(kubernetes_api: Cluster) -> str:
    """A fresh namespace of that API."""
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    kubernetes_api.api.create_namespace(name)
    return name
