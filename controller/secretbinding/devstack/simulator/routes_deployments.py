"""Routes about deployments: reading, promoting, failing, pausing, and health that is set by hand."""

from typing import Any

from secretbinding.devstack.simulator.deployments import RefusedError
from secretbinding.devstack.simulator.deployments import public as public_deployment
from secretbinding.devstack.simulator.routes import Json, Parts, written
from secretbinding.devstack.simulator.routes_runtime import check_uuid
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router


class DeploymentRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/deployments", self.deployments)
        router.add("PUT POST", r"/v1/deployment/(promote|fail|pause|allocation-health)/([^/]+)", self.change_deployment)
        router.add("GET", r"/v1/deployment/([^/]+)", self.deployment)

    def deployments(self, request: Request) -> Response:
        namespace = request.namespace
        rights = self._parts.require(request, namespace, "read-job")

        def query() -> tuple[int, list[Json]]:
            rows = [
                public_deployment(one)
                for one in self._state.deployments.values()
                if namespace in ("*", one["Namespace"]) and rights.namespace(one["Namespace"], "read-job")
            ]
            return self._state.table_index("deployment"), rows

        return self._parts.read(request, query)

    def _deployment(self, request: Request, identifier: str, capability: str) -> Json:
        self._parts.route(request.region)
        check_uuid(identifier, "deployment lookup failed")
        found = self._state.deployments.get(identifier)
        if found is None:
            raise HttpError(404, "deployment not found", index=self._state.table_index("deployment"))
        self._parts.require(request, found["Namespace"], capability)
        return found

    def deployment(self, request: Request) -> Response:
        found = self._deployment(request, request.parts[0], "read-job")
        return self._parts.read(request, lambda: (found["ModifyIndex"], public_deployment(found)))

    def change_deployment(self, request: Request) -> Response:
        what, identifier = request.parts
        with self._state.lock:
            found = self._deployment(request, identifier, "submit-job")
            try:
                index, reverted = self._change(what, found, request.json() if request.body else {})
            except RefusedError as error:
                raise HttpError(500, str(error)) from None
            evaluation = self._state.evaluations_by_job[(found["Namespace"], found["JobID"])][-1]
        return written(
            index, DeploymentModifyIndex=index, EvalCreateIndex=index, EvalID=evaluation, RevertedJobVersion=reverted
        )

    def _change(self, what: str, found: Json, body: Any) -> tuple[int, int | None]:
        """Carry out a request: its index, and the version that the job went back to."""
        deployments = self._parts.deployments
        if what == "promote":
            groups = None if body.get("All") else list(body.get("Groups") or [])
            return deployments.promote(found, groups), None
        if what == "pause":
            return deployments.pause(found, paused=bool(body.get("Pause"))), None
        if what == "fail":
            return deployments.fail_by_user(found)
        healthy, unhealthy = body.get("HealthyAllocationIDs") or [], body.get("UnhealthyAllocationIDs") or []
        if not healthy and not unhealthy:
            raise RefusedError("must specify at least one healthy/unhealthy allocation ID")
        return deployments.set_health_by_hand(found, healthy, unhealthy)
