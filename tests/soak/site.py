"""A real Nomad and an OpenBao that keeps its data, with two controllers, and the jobs of some cases."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from secretbinding.app import Clients, Controller
from secretbinding.devstack.nomad_agent import NomadAgent
from secretbinding.devstack.openbao_stored import StoredOpenBao
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.files import FilesSource
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

RUNNING = "running"
STOPPED = "stopped"
SHORT_TOKENS: Mapping[str, Any] = {"auth": {"tokenTTL": "20s", "tokenMaxTTL": "60s"}}
SHORT_PERIOD: Mapping[str, Any] = {"auth": {"tokenPeriod": "60s"}}


@dataclass(frozen=True, slots=True)
class Case:
    """One job with one binding, and what is done to it.

    Attributes:
        name: of the job, the binding and the secret alike.
        what: what is done, for the table.
        controller: `running` or `stopped`: whether the controller that injected it runs on.
        spec: fields of the binding's spec.
        secrets: the binding's entries; one KV secret as variables and as a file where none are given.
        fault: does it.
    """

    name: str
    what: str
    controller: str = STOPPED
    spec: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[Mapping[str, Any], ...] = ()
    fault: Callable[["Site", "Case"], None] | None = None

    def manifest(self) -> dict[str, Any]:
        made = a_manifest(self.name, self.name, self.name, **self.spec)
        made["spec"]["secrets"][0]["files"] = [{"destination": "local/app.json"}]
        if self.secrets:
            made["spec"]["secrets"] = [dict(entry) for entry in self.secrets]
        return made


class Site:
    """The servers and controllers of one trial. Everything is stopped and forgotten at the end.

    `vault_attempts` is how often Nomad's clients try to read a secret (0: without end), Nomad's own 12 with None.
    """

    def __init__(self, directory: Path, *, vault_attempts: int | None = None) -> None:
        self._directory = directory
        self._vault_attempts = vault_attempts
        self.vault = StoredOpenBao(directory / "vault")
        self._exits = contextlib.ExitStack()
        self._controllers: dict[str, tuple[Controller, contextlib.ExitStack]] = {}

    def __enter__(self) -> "Site":
        with contextlib.ExitStack() as starting:
            starting.enter_context(self.vault)
            self.nomad = NomadAgent(
                self._directory / "nomad", vault_address=self.vault.address, vault_attempts=self._vault_attempts
            )
            starting.enter_context(self.nomad)
            self.vault.enable_jwt(self.nomad.address)
            stack = Stack("nomad", self.nomad.address, self.nomad.api, "", self.vault)
            self.worlds = {
                name: World(stack, instance=name, poll_seconds=2.0, progress_seconds=1.0, resync_seconds=60.0)
                for name in (RUNNING, STOPPED)
            }
            self.world = self.worlds[RUNNING]
            self._exits = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._controllers):
            self.stop_controller(name)
        self._exits.close()

    def start_controller(self, name: str) -> None:
        """The controller of an instance, which reads the manifests of a folder of its own."""
        folder = self._directory / name
        folder.mkdir(exist_ok=True)
        settings = self.worlds[name].settings
        exits = contextlib.ExitStack()
        clients = Clients(settings)
        exits.callback(clients.close)
        controller = Controller(settings, clients, (FilesSource([str(folder)], interval_seconds=1.0),))
        controller.start()
        exits.callback(controller.stop)
        self._controllers[name] = (controller, exits)

    def stop_controller(self, name: str) -> None:
        """Stop it; what it made stays."""
        _, exits = self._controllers.pop(name)
        exits.close()

    def bind(self, case: Case, manifest: Mapping[str, Any] | None = None) -> None:
        """Write the case's manifest, or another one, where its controller reads it."""
        folder = self._directory / case.controller
        folder.mkdir(exist_ok=True)
        (folder / f"{case.name}.yaml").write_text(yaml.safe_dump(dict(manifest or case.manifest())))

    def deploy(self, *cases: Case) -> None:
        """Secrets, jobs and bindings of the cases; returns when all of them are ready and deployed."""
        for case in cases:
            self.world.secret(case.name, username="app", password=f"{case.name}-1")
            job = a_job(case.name)
            for group in job["TaskGroups"]:
                # As Nomad has it by default: two restarts, then another allocation.
                del group["RestartPolicy"], group["ReschedulePolicy"]
            self.world.register(job)
            self.bind(case)
        for case in cases:
            what = f"{case.name} is ready"
            wait_until(what, lambda case=case: self.reason(case, ConditionType.READY) == Reason.READY, 120.0)
            self.world.deployed(case.name)

    def status(self, case: Case) -> SecretBindingStatus | None:
        """What the case's controller says of its binding; None when it does not run."""
        running = self._controllers.get(case.controller)
        if running is None:
            return None
        entries = running[0].engine.store.entries()
        return next((entry.status for entry in entries if entry.item.key.name == case.name), None)

    def reason(self, case: Case, kind: ConditionType) -> str:
        """The reason of a condition of the case's binding, empty when there is none."""
        status = self.status(case)
        condition = status.condition(kind) if status is not None else None
        return condition.reason if condition is not None else ""

    def policy_of(self, case: Case) -> str:
        """The name of the binding's policy."""
        (name,) = [name for name in self.world.policies(case.controller) if self._is_of(name, case)]
        return name

    def roles_of(self, case: Case) -> list[str]:
        """The names of the roles that let the case's job in."""
        listed = self.world.roles(case.controller)
        return [name for name in listed if self.world.role(name)["bound_claims"].get("nomad_job_id") == case.name]

    def _is_of(self, name: str, case: Case) -> bool:
        return f'"job":"{case.name}"' in self.world.policy(name)
