"""The client to compare with: it knows everything, decides nothing, and makes only calls that nobody could leave out.

No checks, no retries, no plan, no conflict, no second look: what it does is the least that the servers have to do.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from tests.performance.bench.population import Population, bindings_of
from tests.performance.bench.servers import BARE, Servers
from tests.performance.bench.web import MERGE_PATCH, Web, spread
from tests.support.kubeclient import path_of

_MOUNT = "/v1/auth/jwt-nomad/role/"
_CONDITIONS = ("Ready", "Stalled", "VaultSynced", "JobSynced", "RotationHealthy")
Json = dict[str, Any]


class Bare:
    """The client at work on a population. Each method gives the seconds that it took."""

    def __init__(self, servers: Servers, population: Population) -> None:
        self._servers = servers
        self._population = population
        self.calls = 0

    async def cold_start(self) -> float:
        """List bindings and secrets; then for each: finalizer, policy, role, job read, job register, status."""

        async def adopt(vault: Web, nomad: Web, api: Web, binding: Json, version: int) -> None:
            name = binding["metadata"]["name"]
            object_path = path_of(self._population.name, name)
            mark = {"resourceVersion": binding["metadata"]["resourceVersion"], "finalizers": ["bench.local/bare"]}
            await api.call("PATCH", object_path, {"metadata": mark}, MERGE_PATCH)
            path = self._population.secret(name)
            rule = f'path "secret/data/{path}" {{\n  capabilities = ["read"]\n}}\n'
            await vault.call("PUT", f"/v1/sys/policies/acl/{_own(name)}", {"policy": rule})
            await vault.call("POST", _MOUNT + _own(name), _role(name))
            await self._register(nomad, name, version)
            await api.call("PATCH", f"{object_path}/status", _status(version), MERGE_PATCH)

        return await self._timed(adopt)

    async def restart(self) -> float:
        """With everything in place: list bindings and secrets; then for each read policy, role and job."""

        async def look(vault: Web, nomad: Web, api: Web, binding: Json, version: int) -> None:
            name = binding["metadata"]["name"]
            await vault.call("GET", f"/v1/sys/policies/acl/{_own(name)}")
            await vault.call("GET", _MOUNT + _own(name))
            await nomad.call("GET", f"/v1/job/{name}")

        return await self._timed(look)

    async def rotate(self) -> float:
        """After new versions of all secrets: list these; then for each job: read, register, status."""

        async def roll(vault: Web, nomad: Web, api: Web, binding: Json, version: int) -> None:
            name = binding["metadata"]["name"]
            await self._register(nomad, name, version)
            await api.call("PATCH", f"{path_of(self._population.name, name)}/status", _status(version), MERGE_PATCH)

        names = [{"metadata": {"name": name}} for name in self._population.names]
        return await self._timed(roll, names)

    async def _timed(
        self, work: Callable[[Web, Web, Web, Json, int], Awaitable[None]], bindings: Sequence[Json] | None = None
    ) -> float:
        vault_token, nomad_token = self._servers.tokens(BARE)
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            vault = await stack.enter_async_context(self._servers.vault(vault_token))
            nomad = await stack.enter_async_context(self._servers.nomad(nomad_token))
            api = await stack.enter_async_context(self._servers.api())
            known = bindings if bindings is not None else await bindings_of(api, self._population)
            versions = await self._versions(vault)

            async def one(binding: Json) -> None:
                await work(vault, nomad, api, binding, versions[binding["metadata"]["name"]])

            await spread(known, one)
            self.calls = vault.calls + nomad.calls + api.calls
        return time.monotonic() - began

    async def _versions(self, vault: Web) -> Mapping[str, int]:
        """The newest version of each binding's secret, by one list (OpenBao has it)."""
        answer = await vault.call("LIST", f"/v1/secret/detailed-metadata/{self._population.folder}/")
        known = {name: int(info["current_version"]) for name, info in answer["data"]["key_info"].items()}
        return {name: known[self._population.secret(name).rpartition("/")[2]] for name in self._population.names}

    async def _register(self, nomad: Web, name: str, version: int) -> None:
        job = await nomad.call("GET", f"/v1/job/{name}")
        for group in job["TaskGroups"]:
            for task in group["Tasks"]:
                task["Vault"] = {"Role": _own(name), "Env": False, "DisableFile": True, "ChangeMode": "noop"}
                task["Identities"] = [{"Name": "vault_default", "Audience": ["vault.io"], "TTL": 3600 * 10**9}]
                task["Templates"] = [_template(self._population.secret(name), version)]
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": job["JobModifyIndex"]}
        await nomad.call("PUT", "/v1/jobs", body)


def _own(name: str) -> str:
    return f"nsb.{BARE}.{name}"


def _role(name: str) -> Json:
    return {
        "role_type": "jwt",
        "bound_audiences": ["vault.io"],
        "user_claim": "sub",
        "bound_claims": {"nomad_namespace": "default", "nomad_job_id": name},
        "token_type": "service",
        "token_policies": [_own(name)],
        "token_period": 1800,
    }


def _template(path: str, version: int) -> Json:
    lines = [
        f'{{{{ with secret "secret/data/{path}?version={version}" }}}}',
        'DB_USER={{ index .Data.data "username" | toJSON }}',
        'DB_PASS={{ index .Data.data "password" | toJSON }}',
        "{{ end }}",
    ]
    return {
        "EmbeddedTmpl": "\n".join(lines),
        "DestPath": "secrets/bench.env",
        "Envvars": True,
        "ChangeMode": "noop",
        "Once": True,
        "ErrMissingKey": True,
    }


def _status(version: int) -> Json:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [
        {"type": kind, "status": "True", "reason": "Done", "message": "as it should be", "lastTransitionTime": moment}
        for kind in _CONDITIONS
    ]
    secret = {"name": "app", "servingVersion": str(version), "wantedVersion": str(version), "changedAt": moment}
    return {"status": {"conditions": conditions, "secrets": [secret], "policies": [], "roles": []}}
