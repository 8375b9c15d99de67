"""The simulator as a whole: puts its parts together, starts and stops them."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from secretbinding.devstack.api import Api
from secretbinding.devstack.openbao import JWT_MOUNT
from secretbinding.devstack.simulator.acl import Acl
from secretbinding.devstack.simulator.client import Client
from secretbinding.devstack.simulator.deployments import Deployments
from secretbinding.devstack.simulator.identity import Identities
from secretbinding.devstack.simulator.nodes import Nodes
from secretbinding.devstack.simulator.routes import Parts
from secretbinding.devstack.simulator.routes_acl import AclRoutes
from secretbinding.devstack.simulator.routes_deployments import DeploymentRoutes
from secretbinding.devstack.simulator.routes_jobs import JobRoutes
from secretbinding.devstack.simulator.routes_nodes import NodeRoutes
from secretbinding.devstack.simulator.routes_registration import RegistrationRoutes
from secretbinding.devstack.simulator.routes_runtime import RuntimeRoutes
from secretbinding.devstack.simulator.routes_scaling import ScalingRoutes
from secretbinding.devstack.simulator.routes_system import SystemRoutes
from secretbinding.devstack.simulator.scheduler import Scheduler
from secretbinding.devstack.simulator.state import REGION, State
from secretbinding.devstack.simulator.timers import Timers
from secretbinding.devstack.simulator.variables import Variables
from secretbinding.devstack.simulator.vault import VaultClient
from secretbinding.devstack.simulator.web import Router, WebServer

TEMPLATE_POLL_SECONDS = 300.0
"""How often an allocation reads the secrets of templates that are not `Once`, as consul-template does for KV."""


class Simulator:
    """Runs in threads of this process, on loopback.

    Attributes:
        address: `http://127.0.0.1:<port>`.
        token: a management token when ACLs are enabled, else empty.
        api: requests with that token.
    """

    kind = "simulator"
    region = REGION

    def __init__(
        self,
        directory: Path | None = None,
        *,
        vault_address: str,
        acl: bool = False,
        jwt_mount: str = JWT_MOUNT,
        template_poll_seconds: float = TEMPLATE_POLL_SECONDS,
        port: int = 0,
    ) -> None:
        """`vault_address` is OpenBao's or Vault's.

        `directory` is where allocations live; with None a temporary one, removed at the end.
        """
        self._own_directory = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="nomad-simulator-"))
        self._stopped = False
        self._timers = Timers()
        self._state = State()
        self._scheduler = Scheduler(self._state, self._timers)
        self._deployments = Deployments(self._state, self._timers, self._scheduler)
        identities = Identities()
        self._client = Client(
            self._state,
            self._timers,
            self._scheduler,
            self._deployments,
            directory=self._directory,
            vault=VaultClient(vault_address, jwt_mount),
            identities=identities,
            poll_seconds=template_poll_seconds,
            acl_enabled=acl,
        )
        access = Acl(enabled=acl)
        parts = Parts(
            self._state,
            self._scheduler,
            self._deployments,
            self._client,
            Nodes(self._state, self._timers, self._scheduler),
            Variables(self._state, self._timers),
            identities,
            access,
            lambda: self._stopped,
        )
        router = Router()
        for routes in (
            ScalingRoutes(parts),
            RegistrationRoutes(parts),
            JobRoutes(parts),
            RuntimeRoutes(parts),
            DeploymentRoutes(parts),
            NodeRoutes(parts),
            SystemRoutes(parts),
            AclRoutes(parts),
        ):
            routes.add_to(router)
        self._web = WebServer(router, port)
        self.address = self._web.address
        self.token = access.management_token if acl else ""
        self.api = Api(self.address, {"X-Nomad-Token": self.token} if acl else None)

    def start(self) -> "Simulator":
        """Serve. Returns itself."""
        self._scheduler.start(self._client, self._deployments)
        self._web.start()
        return self

    def add_nodes(self, names: Sequence[str]) -> None:
        """Further nodes, beside the one that is there."""
        for name in names:
            self._state.add_node(name)

    def stop(self) -> None:
        """End all connections, kill all tasks, remove their directories. Stopping twice is allowed."""
        if self._stopped:
            return
        self._stopped = True
        self._state.events.close()
        self._state.wake()
        self._web.stop()
        self._scheduler.stop()
        self._client.close()
        self._timers.stop()
        if self._own_directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> "Simulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
