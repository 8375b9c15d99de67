"""Secrets, jobs and bindings to measure with, and changes to them. Nothing here is timed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.performance.bench.servers import Servers
from tests.performance.bench.web import Web, spread
from tests.support.kubeclient import path_of
from tests.support.world import a_job, a_manifest

_EVALUATIONS_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Population:
    """Bindings of a Kubernetes namespace, each of a job of its own in the Nomad namespace `default`.

    The jobs have count 0: they are registered, evaluated and versioned as any other, without tasks that would need more
    processors than there are. With `shared` all bindings name one secret, else each names one of its own.
    """

    name: str
    size: int
    shared: bool = False

    @property
    def names(self) -> Sequence[str]:
        """Of the bindings, and of their jobs."""
        return [f"{self.name}-{number:05d}" for number in range(self.size)]

    @property
    def folder(self) -> str:
        """Where the secrets are, below the mount."""
        return f"bench/{self.name}"

    def secret(self, name: str) -> str:
        """The path of a binding's secret, below the mount."""
        return f"{self.folder}/{'all' if self.shared else name}"

    @property
    def secrets(self) -> Sequence[str]:
        """The paths of all secrets."""
        return sorted({self.secret(name) for name in self.names})


async def populate(servers: Servers, population: Population) -> None:
    """Write the secrets, register the jobs, and create the bindings; returns when Nomad has evaluated all of it."""
    servers.kubernetes.create_namespace(population.name)
    async with servers.vault() as vault, servers.nomad() as nomad, servers.api() as api:

        async def job(name: str) -> None:
            await nomad.call("PUT", "/v1/jobs", {"Job": a_job(name, count=0)})

        async def binding(name: str) -> None:
            manifest = a_manifest(name, name, population.secret(name), workload={"namespace": "default"})
            manifest["metadata"]["namespace"] = population.name
            await api.call("POST", path_of(population.name), manifest)

        await spread(population.secrets, lambda path: write(vault, path, "one"))
        await spread(population.names, job, at_once=16)
        await spread(population.names, binding, at_once=16)
        await evaluated(nomad)


async def write(vault: Web, path: str, password: str) -> None:
    """A new version of a secret."""
    await vault.call("POST", f"/v1/secret/data/{path}", {"data": {"username": "app", "password": password}})


async def evaluated(nomad: Web) -> None:
    """Wait until Nomad has nothing left to evaluate. Raises `RuntimeError` when it does not come to that."""
    deadline = time.monotonic() + _EVALUATIONS_SECONDS
    while await nomad.call("GET", "/v1/evaluations?status=pending&per_page=1&namespace=*"):
        if time.monotonic() > deadline:
            raise RuntimeError("Nomad does not come to the end of its evaluations")
        await asyncio.sleep(0.2)


async def bindings_of(api: Web, population: Population) -> list[dict[str, Any]]:
    """All bindings, page by page."""
    found: list[dict[str, Any]] = []
    more = ""
    while True:
        page = await api.call("GET", f"{path_of(population.name)}?limit=500{more}")
        found += page["items"]
        more = page["metadata"].get("continue", "")
        if not more:
            return found
        more = f"&continue={more}"


def ready_since(binding: dict[str, Any]) -> float | None:
    """When a binding became Ready, as its status says, in seconds since the epoch; None when it is not."""
    for one in (binding.get("status") or {}).get("conditions") or []:
        if one["type"] == "Ready" and one["status"] == "True":
            return datetime.fromisoformat(one["lastTransitionTime"]).timestamp()
    return None
