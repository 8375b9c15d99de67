"""The servers of the demo, and what can be seen on them from outside."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from secretbinding.app import Clients, Controller, Tenancy
from secretbinding.devstack.api import Api, ApiError
from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.status import SecretBindingStatus
from secretbinding.settings import ControllerSettings, NomadSettings, Settings, VaultSettings
from secretbinding.sources.nomad import BINDINGS, MANIFEST_ITEM, STATUS, NomadSource, read_status
from secretbinding.sources.policies import POLICIES, NomadPolicies

JOB = "myapp"
NAMESPACE = "default"
_SEEN = "web/local/seen"
_REPORT = "seen:"
_FOREIGN = ("VAULT_", "BAO_", "NOMAD_", "SECRETBINDING_")


class DemoError(RuntimeError):
    """Something did not happen that should have."""


class NomadServer(Protocol):
    """A real agent or the simulator."""

    kind: str
    address: str
    api: Api

    def stop(self) -> None:
        """Stop it and every task of it."""


class Stage:
    """OpenBao, Nomad or the simulator, and the controller on top, all on loopback and all gone afterwards."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="secretbinding-demo-"))
        self.openbao = OpenBao(self.folder / "openbao")
        self.nomad: NomadServer | None = None
        self.controller: Controller | None = None
        self.settings: Settings | None = None
        self.clients: Clients | None = None

    def start_openbao(self) -> None:
        """Start OpenBao in dev mode."""
        self.openbao.start()

    def start_nomad(self) -> None:
        """Start a real Nomad agent when there is one on PATH, else the simulator; join it to OpenBao."""
        if find_nomad() is not None:
            agent = NomadAgent(self.folder / "nomad", vault_address=self.openbao.address)
            self.nomad = agent
            agent.start()
        else:
            simulator = Simulator(self.folder / "simulator", vault_address=self.openbao.address)
            self.nomad = simulator
            simulator.start()
        self.openbao.enable_jwt(self.nomad.address)

    def start_controller(self) -> None:
        """Start the controller with bindings and policies in Nomad variables, polling Vault every half second."""
        settings = Settings()
        settings.vault = VaultSettings(address=self.openbao.address, token=SecretStr(self.openbao.root_token))
        settings.nomad = NomadSettings(address=self.api.address)
        settings.controller = ControllerSettings(poll_seconds=0.5, progress_seconds=0.5)
        self.settings = settings
        self.clients = Clients(settings)
        tenancy = Tenancy(settings, [NomadPolicies(self.clients.nomad, NAMESPACE)])
        sources = [NomadSource(self.clients.nomad, (NAMESPACE,))]
        self.controller = Controller(settings, self.clients, sources, tenancy=tenancy)
        self.controller.start()

    def stop(self) -> None:
        """Stop everything that was started, and remove its files, even where one part does not stop as it should."""
        with ExitStack() as last_first:
            last_first.callback(shutil.rmtree, self.folder, ignore_errors=True)
            last_first.callback(self.openbao.stop)
            if self.nomad is not None:
                last_first.callback(self.nomad.stop)
            if self.clients is not None:
                last_first.callback(self.clients.close)
            if self.controller is not None:
                last_first.callback(self.controller.stop)

    @property
    def api(self) -> Api:
        """Nomad's API."""
        if self.nomad is None:
            raise DemoError("Nomad is not started")
        return self.nomad.api

    def register(self, hcl: str) -> None:
        """Register a job file, its text included, as `nomad job run` does."""
        job = self.api.put("/v1/jobs/parse", {"JobHCL": hcl, "Canonicalize": True}).expect().json()
        body = {"Job": job, "Submission": {"Source": hcl, "Format": "hcl2"}}
        self.api.put("/v1/jobs", body).expect()

    def job(self) -> dict[str, Any]:
        """The job as Nomad has it."""
        found: dict[str, Any] = self.api.get(f"/v1/job/{JOB}", namespace=NAMESPACE).expect().json()
        return found

    def put_policy(self, manifest: str) -> None:
        """Write the policy: a variable of the controller's own namespace, which is the only one here."""
        path = f"{POLICIES}first-rule"
        body = {"Namespace": NAMESPACE, "Path": path, "Items": {MANIFEST_ITEM: manifest}}
        self.api.put(f"/v1/var/{path}", body, namespace=NAMESPACE).expect()

    def put_binding(self, manifest: str) -> None:
        """Declare the binding: a Nomad variable that holds the manifest."""
        path = f"{BINDINGS}{JOB}"
        body = {"Namespace": NAMESPACE, "Path": path, "Items": {MANIFEST_ITEM: manifest}}
        self.api.put(f"/v1/var/{path}", body, namespace=NAMESPACE).expect()

    def delete_binding(self) -> None:
        """Delete the variable."""
        self.api.delete(f"/v1/var/{BINDINGS}{JOB}", namespace=NAMESPACE).expect(200, 204)

    def status(self) -> SecretBindingStatus | None:
        """The status as the controller wrote it; None when there is none."""
        if self.clients is None:
            return None
        variable = self.clients.nomad.read_variable(NAMESPACE, f"{STATUS}{JOB}")
        return read_status(variable) if variable is not None else None

    def seen(self) -> dict[str, str]:
        """What the task of each running allocation sees, by allocation ID: its own report of DB_USER and DB_PASS.

        An allocation that is to stop is left out, and so is one whose task has not reported yet: for a file that is
        not there Nomad answers 200 with the text of an error.
        """
        found: dict[str, str] = {}
        for allocation in self.api.get(f"/v1/job/{JOB}/allocations", namespace=NAMESPACE).expect().json():
            if (allocation["DesiredStatus"], allocation["ClientStatus"]) != ("run", "running"):
                continue
            answer = self.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path=_SEEN, namespace=NAMESPACE)
            if answer.status == 200 and answer.text.startswith(_REPORT) and answer.text.endswith("\n"):
                found[allocation["ID"]] = answer.text.removeprefix(_REPORT).strip()
        return found

    def deployment_states(self) -> set[str]:
        """The states that the job's deployments came to."""
        listed = self.api.get(f"/v1/job/{JOB}/deployments", namespace=NAMESPACE).expect().json() or []
        return {str(item["Status"]) for item in listed}

    def deployment(self) -> Mapping[str, Any]:
        """The newest deployment of the job; empty when there is none."""
        listed = self.api.get(f"/v1/job/{JOB}/deployments", namespace=NAMESPACE).expect().json() or []
        newest: Mapping[str, Any] = max(listed, key=lambda item: int(item["CreateIndex"]), default={})
        return newest


class Watcher:
    """Looks, as long as its block runs, again and again at what all allocations see at once.

    Attributes:
        moments: what was seen each time, one text for each allocation.
    """

    def __init__(self, stage: Stage) -> None:
        self.moments: list[tuple[str, ...]] = []
        self._stage = stage
        self._stop = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._look, name="demo-watcher", daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._fault is not None and error is None:
            raise self._fault

    def _look(self) -> None:
        try:
            while not self._stop.is_set():
                self.moments.append(tuple(self._stage.seen().values()))
                self._stop.wait(0.05)
        except (ApiError, HTTPError) as error:
            self._fault = DemoError(f"what the allocations see could not be watched: {error}")

    def fewest(self, *values: str) -> int:
        """How many allocations saw one of the values at the worst moment; 0 when nothing was looked at."""
        return min((sum(text in values for text in moment) for moment in self.moments), default=0)

    def together(self, *values: str) -> bool:
        """Whether there was a moment at which each value was seen by some allocation."""
        return any(set(values) <= set(moment) for moment in self.moments)


@contextmanager
def own_environment() -> Iterator[None]:
    """Inside the block the process has none of the user's settings for Vault, Nomad and the controller: the demo has
    servers of its own, and what leads to others (addresses, tokens, namespaces, certificates) would break it."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_FOREIGN)}
    try:
        yield
    finally:
        os.environ.update(kept)


def wait_for(what: str, condition: Callable[[], bool], *, timeout_seconds: float) -> float:
    """Wait until the condition holds; returns the seconds it took. Raises `DemoError` when it does not in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_seconds:
            raise DemoError(f"waited {timeout_seconds:.0f} s in vain until {what}")
        time.sleep(0.05)
    return time.monotonic() - started
