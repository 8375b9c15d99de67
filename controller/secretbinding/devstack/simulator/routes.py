"""What the groups of routes share: rights, namespaces, answers of writes and reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secretbinding.devstack.simulator.acl import Acl, Rights
from secretbinding.devstack.simulator.client import Client
from secretbinding.devstack.simulator.deployments import Deployments
from secretbinding.devstack.simulator.identity import Identities
from secretbinding.devstack.simulator.nodes import Nodes
from secretbinding.devstack.simulator.scheduler import Scheduler
from secretbinding.devstack.simulator.state import REGION, State
from secretbinding.devstack.simulator.variables import Variables
from secretbinding.devstack.simulator.web import HttpError, Request, Response, denied

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The simulator's parts, as the routes need them."""

    state: State
    scheduler: Scheduler
    deployments: Deployments
    client: Client
    nodes: Nodes
    variables: Variables
    identities: Identities
    acl: Acl
    stopped: Callable[[], bool]

    def route(self, region: str) -> None:
        """Raises `HttpError` 500 for a region that is not here; without one the request stays here."""
        if region not in ("", REGION):
            raise HttpError(500, "No path to region")

    def rights(self, request: Request) -> Rights:
        """The rights of the request's token in the region that it is for.

        Raises `HttpError`: 500 for an unknown region, 403 for an unknown token.
        """
        self.route(request.region)
        return self.local_rights(request)

    def local_rights(self, request: Request) -> Rights:
        """The same for what an agent answers by itself, whatever the region. Raises `HttpError` 403."""
        rights = self.acl.rights(request.token)
        if rights is None:
            raise denied()
        return rights

    def require(self, request: Request, namespace: str, capability: str) -> Rights:
        """Raises `HttpError` 403 without the capability."""
        rights = self.rights(request)
        if not rights.namespace(namespace, capability):
            raise denied()
        return rights

    def read(self, request: Request, query: Callable[[], tuple[int, Any]]) -> Response:
        """A read that may block; the query runs under the state's lock."""
        index, wait = request.blocking()
        current, value = self.state.blocking(query, index=index, wait_seconds=wait, stopped=self.stopped)
        return Response(value, index=current, known_leader=True)


def written(index: int, **fields: Any) -> Response:
    """The answer of a write."""
    return Response({**fields, "Index": index, "KnownLeader": False, "LastContact": 0, "NextToken": ""}, index=index)


def public(row: Mapping[str, Any]) -> Json:
    """A copy without the simulator's own fields."""
    return {name: value for name, value in row.items() if not name.startswith("_")}
