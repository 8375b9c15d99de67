"""A plain Kubernetes client for tests, and waiting for a condition."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import yaml

from tests.support.apiserver import TEST_AGENT

Json = dict[str, Any]

GROUP = "nomad-vault.io"
VERSION = "v1alpha1"
KIND = "SecretBinding"
PLURAL = "secretbindings"
_CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class KubernetesApi:
    """A plain client for tests, by kubeconfig. The small server does not count its requests."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        self.url: str = cluster["server"]
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["User-Agent"] = TEST_AGENT
        if "token" in user:
            self._session.headers["Authorization"] = f"Bearer {user['token']}"
        self._session.verify = self._file(kubeconfig, cluster, "certificate-authority") or True
        certificate = self._file(kubeconfig, user, "client-certificate")
        if certificate:
            self._session.cert = (certificate, self._file(kubeconfig, user, "client-key") or "")

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> requests.Response:
        headers = {"Content-Type": content} if body is not None else {}
        return self._session.request(method, self.url + path, json=body, headers=headers, timeout=30)

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Json:
        """Like `request`, but the parsed answer; raises AssertionError with the server's message if it is an error."""
        response = self.request(method, path, body, content)
        assert response.ok, f"{method} {path}: {response.status_code} {response.json().get('message')}"
        return cast(Json, response.json())

    def binding(self, namespace: str, name: str) -> Json | None:
        """The SecretBinding, or None when there is none."""
        response = self.request("GET", path_of(namespace, name))
        return None if response.status_code == 404 else cast(Json, response.json())

    def create_binding(self, manifest: Json) -> Json:
        return self.call("POST", path_of(manifest["metadata"]["namespace"]), manifest)

    def patch_binding(self, namespace: str, name: str, patch: Json, *, subresource: str = "") -> Json:
        suffix = f"/{subresource}" if subresource else ""
        return self.call("PATCH", path_of(namespace, name) + suffix, patch, "application/merge-patch+json")

    def delete_binding(self, namespace: str, name: str) -> None:
        self.call("DELETE", path_of(namespace, name))

    def events_of(self, namespace: str, name: str) -> list[Json]:
        """All events regarding the SecretBinding of that name, oldest first, as `events.k8s.io/v1`."""
        items = self.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        return [item for item in items if item.get("regarding", {}).get("name") == name]

    def create_namespace(self, name: str) -> None:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def define(self, definition: Json) -> None:
        """Create the CustomResourceDefinition, or replace its spec, and wait until it is served."""
        name = definition["metadata"]["name"]
        response = self.request("POST", _CRD_PATH, definition)
        if response.status_code == 409:
            patch = {"spec": definition["spec"]}
            self.call("PATCH", f"{_CRD_PATH}/{name}", patch, "application/merge-patch+json")
        else:
            assert response.ok, response.json().get("message")
        spec = definition["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        eventually(lambda: self.request("GET", served).ok, f"{name} is served")
        eventually(lambda: spec["group"] in self._groups(), f"discovery names {spec['group']}", 30)
        group, plural = served.rpartition("/")[0], spec["names"]["plural"]
        eventually(lambda: plural in self._resources(group), f"discovery names {plural}", 30)

    def _groups(self) -> set[str]:
        return {group["name"] for group in self.call("GET", "/apis")["groups"]}

    def _resources(self, group: str) -> set[str]:
        return {resource["name"] for resource in self.call("GET", group)["resources"]}

    @staticmethod
    def _file(kubeconfig: Path, holder: Json, key: str) -> str | None:
        """The path of a file that the kubeconfig names, or holds as base64 data."""
        if key in holder:
            return str(kubeconfig.parent / holder[key])
        data = holder.get(f"{key}-data")
        if data is None:
            return None
        target = kubeconfig.parent / f"{kubeconfig.name}.{key}.pem"
        target.touch(mode=0o600)
        target.write_bytes(base64.b64decode(data))
        return str(target)


def path_of(namespace: str, name: str = "") -> str:
    base = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
    return f"{base}/{name}" if name else base


def eventually(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """The first true value of the condition; fails naming `what` when it does not come in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    return pytest.fail(f"not within {seconds:g} s: {what}")


def _named(entries: list[Json], name: str) -> Json:
    return next(entry for entry in entries if entry["name"] == name)
