"""A running controller on a stack of servers, and what a person would do and see there."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from pydantic import SecretStr

from secretbinding.app import Clients, Controller, Tenancy
from secretbinding.devstack.api import quoted
from secretbinding.engine.policies import PolicySource
from secretbinding.metrics import Monitoring
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import SecretBindingStatus
from secretbinding.naming import role_name
from secretbinding.settings import ControllerSettings, NomadSettings, Settings, VaultSettings
from secretbinding.sources.base import Source
from secretbinding.sources.nomad import (
    BINDINGS,
    MANIFEST_ITEM,
    REQUEST_ITEM,
    REQUESTS,
    STATUS,
    NomadSource,
)
from secretbinding.sources.policies import POLICIES, NomadPolicies
from secretbinding.sources.policies.labels import Lister
from tests.support.leftovers import at_end
from tests.support.rights import controller_tokens
from tests.support.servers import Stack

SECOND = 1_000_000_000
NAMESPACE = "default"
PATIENCE_SECONDS = 90.0
"""How long things may take that take a second on a machine with nothing else to do."""


def wait_until(what: str, condition: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition; fails with what was waited for. A test for which it matters how soon says so itself."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain until {what}")
        time.sleep(0.05)


def forget_bindings(stack: Stack) -> None:
    """Take away what other tests have left in Nomad's variables: an instance of its own would make it true as well."""
    for row in stack.api.get("/v1/vars", prefix=BINDINGS).expect().json():
        stack.api.delete(f"/v1/var/{row['Path']}").expect(200, 204)


def a_job(name: str, *, count: int = 1, groups: Sequence[str] = ("app",), **changes: Any) -> dict[str, Any]:
    """A service job in the API's shape, quick to deploy: each task reports DB_USER and DB_PASS into `local/seen`, and
    fails when DB_PASS is `broken`."""
    script = 'echo "$DB_USER $DB_PASS" > local/seen; if [ "$DB_PASS" = broken ]; then exit 1; fi; exec sleep 3600'
    job = {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Datacenters": ["*"],
        "TaskGroups": [
            {
                "Name": group,
                "Count": count,
                "Update": {
                    "MaxParallel": 1,
                    "HealthCheck": "task_states",
                    "MinHealthyTime": SECOND // 5,
                    "HealthyDeadline": 20 * SECOND,
                    "ProgressDeadline": 30 * SECOND,
                    "AutoRevert": True,
                },
                "RestartPolicy": {"Attempts": 0, "Interval": 60 * SECOND, "Delay": SECOND, "Mode": "fail"},
                "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
                "Tasks": [
                    {
                        "Name": "web",
                        "Driver": "raw_exec",
                        "Config": {"command": "/bin/sh", "args": ["-c", script]},
                        "Resources": {"CPU": 20, "MemoryMB": 16},
                        "KillTimeout": SECOND,
                    }
                ],
            }
            for group in groups
        ],
    }
    return {**job, **changes}


def wary(job: dict[str, Any]) -> dict[str, Any]:
    """The job, of which an allocation counts as healthy after two seconds only: on a busy machine a task that fails at
    once takes longer for it than the fifth of a second of `a_job`, and its version would come through."""
    for group in job["TaskGroups"]:
        group["Update"]["MinHealthyTime"] = 2 * SECOND
    return job


def a_manifest(name: str, job: str, path: str, *, env: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A binding of one KV secret as DB_USER and DB_PASS."""
    variables = dict(env) if env is not None else {"DB_USER": "username", "DB_PASS": "password"}
    workload = {"job": job, **spec.pop("workload", {})}
    secrets = [{"name": "app", "kv": {"mount": "secret", "path": path}, "env": variables}]
    return {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBinding",
        "metadata": {"name": name},
        "spec": {"workload": workload, "secrets": secrets, **spec},
    }


class World:
    """What a person does and sees on the servers of a stack; `settings` are those that the controller runs with.

    The person has every right; the controller has those of the tokens given, by default those that `deploy/` gives it
    and those of the further policies given.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        instance: str = "default",
        vault_token: str = "",
        nomad_token: str = "",
        vault_rights: str = "",
        nomad_rights: str = "",
        **own: Any,
    ) -> None:
        self.stack = stack
        self.api = stack.api
        self.vault = stack.openbao.api
        self.settings = Settings()
        shipped_vault, shipped_nomad = controller_tokens(stack, instance, vault_rights, nomad_rights)
        self.settings.vault = VaultSettings(
            address=stack.openbao.address, token=SecretStr(vault_token or shipped_vault)
        )
        self.settings.nomad = NomadSettings(address=stack.address, token=SecretStr(nomad_token or shipped_nomad))
        pace = {
            "poll_seconds": 0.2,
            "progress_seconds": 0.2,
            "resync_seconds": 3600.0,
            "purge_grace_seconds": 1.0,
            "settle_seconds": 0.0,
            # Most tests are about other things than who may do them.
            "tenancy": "open",
            "policy_settle_seconds": 0.0,
        }
        self.settings.controller = ControllerSettings(instance=instance, **{**pace, **own})
        self._jobs: dict[str, str] = {}
        self._bound: set[str] = set()
        self._allowed: set[str] = set()
        at_end(self._sweep)

    def _sweep(self) -> None:
        """Take away what was made here, so that no later controller finds anything to do or to mend."""
        for name in self._bound:
            for prefix in (BINDINGS, REQUESTS, STATUS):
                self.api.delete(f"/v1/var/{prefix}{name}")
        for name in self._allowed:
            self.api.delete(f"/v1/var/{POLICIES}{name}")
        for name, namespace in self._jobs.items():
            self.api.delete(f"/v1/job/{quoted(name)}", purge="true", namespace=namespace)
        names = self._bound | self._jobs.keys()
        if not names:
            return
        instance = self.settings.controller.instance
        roots = [role_name(instance, WorkloadKey("", "", "", name), None, None).rpartition(".")[0] for name in names]
        ours = tuple(f"{root}{end}" for root in roots for end in ".-")
        for kind, found in (
            ("sys/policies/acl", self.policies(instance)),
            ("auth/jwt-nomad/role", self.roles(instance)),
        ):
            for name in found:
                if name.startswith(ours):
                    self.vault.delete(f"/v1/{kind}/{name}")

    @contextmanager
    def running(
        self,
        *sources: Source,
        monitoring: Monitoring | None = None,
        policies: Sequence[PolicySource] = (),
        listers: Mapping[str, Lister] | None = None,
    ) -> Iterator[Controller]:
        """The controller while the block runs; with the nomad source when none is given, and where policies count, with
        those in variables."""
        clients = Clients(self.settings, on_call=monitoring.called if monitoring is not None else None)
        given = sources or (NomadSource(clients.nomad, (NAMESPACE,)),)
        kept = policies or (NomadPolicies(clients.nomad, NAMESPACE),)
        tenancy = Tenancy(self.settings, kept, listers or {"nomad": clients.nomad.namespace_labels})
        further = {
            name: Clients(
                self.settings.of(name), on_call=monitoring.called_by(name) if monitoring is not None else None
            )
            for name in self.settings.connections
        }
        controller = Controller(self.settings, clients, given, monitoring=monitoring, tenancy=tenancy, further=further)
        controller.start()
        try:
            yield controller
        finally:
            controller.stop()
            for each in (clients, *further.values()):
                each.close()

    def secret(self, path: str, **fields: Any) -> int:
        """Write a version of `secret/<path>`; returns its number."""
        return self.stack.openbao.put_secret(path, fields)

    def register(self, job: Mapping[str, Any], **body: Any) -> None:
        """Register a job as its user would."""
        self._jobs[str(job["ID"])] = str(job.get("Namespace") or NAMESPACE)
        self.api.put("/v1/jobs", {"Job": dict(job), **body}).expect()

    def deployed(self, name: str) -> None:
        """Wait until the job's newest deployment has succeeded."""
        wait_until(f"{name} is deployed", lambda: self.deployment(name).get("Status") == "successful")

    def promote(self, name: str) -> None:
        """Promote the canaries of the job's newest deployment, as `nomad deployment promote` does."""
        newest = self.deployment(name)["ID"]
        self.api.put(f"/v1/deployment/promote/{newest}", {"DeploymentID": newest, "All": True}).expect(200)

    def set_health(self, name: str, *, healthy: bool = True) -> None:
        """Say of each allocation of the job's newest deployment whether it is healthy, until that is over."""
        number = int(self.job(name)["Version"])
        field = "HealthyAllocationIDs" if healthy else "UnhealthyAllocationIDs"

        def over() -> bool:
            deployment = self.deployment(name)
            if deployment.get("JobVersion") != number or deployment["Status"] != "running":
                return deployment.get("JobVersion", -1) >= number
            rows = [one["ID"] for one in self.running_allocations(name) if one["JobVersion"] == number]
            if rows:
                body = {"DeploymentID": deployment["ID"], field: rows}
                self.api.put(f"/v1/deployment/allocation-health/{deployment['ID']}", body)
            return False

        wait_until(f"the deployment of {name} is over", over)

    def pause(self, seconds: float) -> float:
        """Let time pass where the moment itself is what is tested; returns how long it was."""
        started = time.monotonic()
        time.sleep(seconds)
        return time.monotonic() - started

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/v1/job/{quoted(name)}", namespace=NAMESPACE).expect().json()
        return found

    def nodes(self) -> list[str]:
        """The IDs of the cluster's nodes."""
        return sorted(node["ID"] for node in self.api.get("/v1/nodes").expect(200).json())

    def children(self, name: str) -> list[dict[str, Any]]:
        """The rows of the children of a periodic or parameterized job."""
        found: list[dict[str, Any]] = self.api.get("/v1/jobs", prefix=f"{name}/").expect().json()
        return found

    def versions(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/v1/job/{quoted(name)}/versions").expect().json()["Versions"]
        return found

    def deployment(self, name: str) -> dict[str, Any]:
        """The newest deployment, empty when there is none."""
        return max(self.deployments(name), key=lambda item: int(item["CreateIndex"]), default={})

    def deployments(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/v1/job/{quoted(name)}/deployments").expect().json() or []
        return found

    def running_allocations(self, name: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.api.get(f"/v1/job/{quoted(name)}/allocations").expect().json()
        # One that was told to stop is being killed still.
        return [item for item in listed if item["ClientStatus"] == "running" and item["DesiredStatus"] == "run"]

    def seen(self, name: str, task: str = "web") -> list[str]:
        """What each running allocation's task reports."""
        found = []
        for allocation in self.running_allocations(name):
            answer = self.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path=f"{task}/local/seen")
            if answer.status == 200:
                found.append(answer.text.strip())
        return found

    def bind(self, manifest: Mapping[str, Any]) -> None:
        """Declare a binding as a Nomad variable."""
        self._bound.add(str(manifest["metadata"]["name"]))
        path = BINDINGS + str(manifest["metadata"]["name"])
        items = {MANIFEST_ITEM: yaml.safe_dump(dict(manifest))}
        self.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()

    def allow(self, policy: Mapping[str, Any]) -> None:
        """Write a SecretBindingPolicy as a Nomad variable of the controller's namespace."""
        self._allowed.add(str(policy["metadata"]["name"]))
        path = POLICIES + str(policy["metadata"]["name"])
        items = {MANIFEST_ITEM: yaml.safe_dump(dict(policy))}
        self.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()

    def disallow(self, name: str) -> None:
        """Delete a policy's variable."""
        self.api.delete(f"/v1/var/{POLICIES}{name}").expect(200, 204)

    def unbind(self, name: str) -> None:
        """Delete the variable."""
        self.api.delete(f"/v1/var/{BINDINGS}{name}").expect(200, 204)

    def request_rotation(self, name: str, at: str) -> None:
        """Ask for a roll, as `secretbinding rotate` does."""
        path = REQUESTS + name
        self.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": {REQUEST_ITEM: at}}).expect()

    def status(self, name: str) -> SecretBindingStatus | None:
        """The status variable, None when there is none."""
        answer = self.api.get(f"/v1/var/{STATUS}{name}")
        if answer.status == 404:
            return None
        body = answer.expect().json()
        return SecretBindingStatus.read(json.loads(body["Items"]["status"]))

    def reason(self, name: str, kind: ConditionType = ConditionType.READY) -> str:
        """The reason of a condition, empty when there is none."""
        status = self.status(name)
        condition = status.condition(kind) if status is not None else None
        return condition.reason if condition is not None else ""

    def message(self, name: str, kind: ConditionType = ConditionType.READY) -> str:
        """The message of a condition, empty when there is none."""
        status = self.status(name)
        condition = status.condition(kind) if status is not None else None
        return condition.message if condition is not None else ""

    def await_reason(
        self, name: str, reason: str, kind: ConditionType = ConditionType.READY, timeout: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until a condition has the reason."""
        try:
            wait_until(f"{kind} of {name} is {reason}", lambda: self.reason(name, kind) == reason, timeout)
        except AssertionError as error:
            status = self.status(name)
            told = [(c.type, c.status.value, c.reason, c.message) for c in status.conditions] if status else None
            raise AssertionError(f"{error}; the status is {told}") from None

    def policies(self, instance: str = "default", having: str = "") -> list[str]:
        """Our policies whose name holds a text."""
        answer = self.vault.request("LIST", "/v1/sys/policies/acl").expect().json()
        return [name for name in answer["data"]["keys"] if name.startswith(f"nsb.{instance}.") and having in name]

    def roles(self, instance: str = "default", having: str = "") -> list[str]:
        """Our roles whose name holds a text."""
        answer = self.vault.request("LIST", "/v1/auth/jwt-nomad/role")
        keys = answer.json()["data"]["keys"] if answer.status == 200 else []
        return [name for name in keys if name.startswith(f"nsb.{instance}.") and having in name]

    def role(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.vault.get(f"/v1/auth/jwt-nomad/role/{name}").expect().json()["data"]
        return found

    def policy(self, name: str) -> str:
        return str(self.vault.get(f"/v1/sys/policies/acl/{name}").expect().json()["data"]["policy"])


@contextmanager
def sampled(look: Callable[[], Any], every: float = 0.1) -> Iterator[list[Any]]:
    """What `look` answers, again and again while the block runs."""
    samples: list[Any] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.is_set():
            samples.append(look())
            stop.wait(every)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
