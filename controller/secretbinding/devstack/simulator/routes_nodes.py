"""Routes about nodes: reading them, keeping allocations from them, draining them."""

from secretbinding.devstack.simulator.node_filter import passes
from secretbinding.devstack.simulator.nodes import public_node
from secretbinding.devstack.simulator.routes import Json, Parts
from secretbinding.devstack.simulator.routes_runtime import check_uuid
from secretbinding.devstack.simulator.state import DATACENTER
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router, denied

_STUB = ("CreateIndex", "Drain", "ID", "LastDrain", "ModifyIndex", "Name", "SchedulingEligibility")


class NodeRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/nodes", self.list)
        router.add("GET", r"/v1/node/([^/]+)", self.read)
        router.add("PUT POST", r"/v1/node/([^/]+)/eligibility", self.eligibility)
        router.add("PUT POST", r"/v1/node/([^/]+)/drain", self.drain)

    def list(self, request: Request) -> Response:
        if not self._parts.rights(request).coarse("node"):
            raise denied()

        expression = request.query.get("filter", "")

        def query() -> tuple[int, list[Json]]:
            nodes = self._state.nodes.values() if passes(expression, self._parts.client.vault.attributes()) else ()
            stubs = [{**_seen(), **{name: node[name] for name in _STUB}} for node in nodes]
            return self._state.table_index("nodes"), sorted(stubs, key=lambda one: str(one["ID"]))

        return self._parts.read(request, query)

    def read(self, request: Request) -> Response:
        if not self._parts.rights(request).coarse("node"):
            raise denied()
        node = self._node(request.parts[0], missing=404)
        return Response({**_seen(), **public_node(node)}, index=node["ModifyIndex"], known_leader=True)

    def eligibility(self, request: Request) -> Response:
        if not self._parts.rights(request).coarse("node", write=True):
            raise denied()
        wanted = str(request.json().get("Eligibility") or "")
        with self._state.lock:
            node = self._node(request.parts[0], missing=500)
            if wanted not in ("eligible", "ineligible"):
                raise HttpError(500, f'invalid scheduling eligibility "{wanted}"')
            if node["Drain"] and wanted == "eligible":
                raise HttpError(500, "can not set node's scheduling eligibility to eligible while it is draining")
            return _answer(*self._parts.nodes.set_eligibility(node, wanted == "eligible"), changed=0)

    def drain(self, request: Request) -> Response:
        if not self._parts.rights(request).coarse("node", write=True):
            raise denied()
        body = request.json()
        with self._state.lock:
            node = self._node(request.parts[0], missing=500)
            eligible = bool(body.get("MarkEligible"))
            index, evaluations = self._parts.nodes.drain(node, body.get("DrainSpec"), eligible=eligible)
            return _answer(index, evaluations, changed=index)

    def _node(self, identifier: str, *, missing: int) -> Json:
        check_uuid(identifier, "node lookup failed")
        node = self._state.nodes.get(identifier)
        if node is None:
            raise HttpError(missing, "node not found")
        return node


def _seen() -> Json:
    """What all nodes have alike."""
    drivers = {name: {"Attributes": None, "Detected": True, "Healthy": True} for name in ("exec", "raw_exec")}
    return {
        "Address": "127.0.0.1",
        "Datacenter": DATACENTER,
        "Drivers": drivers,
        "NodePool": "default",
        "Status": "ready",
        "StatusDescription": "",
        "Version": "2.0.0-simulator",
    }


def _answer(index: int, evaluations: list[str], *, changed: int) -> Response:
    created = index if evaluations else 0
    body = {
        "EvalCreateIndex": created,
        "EvalIDs": evaluations or None,
        "Index": index,
        "NodeModifyIndex": changed,
    }
    return Response(body, index=index)
