"""Routes that read jobs: `/v1/jobs`, `/v1/job/:id` and what hangs on it."""

from collections.abc import Mapping
from typing import Any

from secretbinding.devstack.simulator.deployments import public as public_deployment
from secretbinding.devstack.simulator.routes import Json, Parts, public
from secretbinding.devstack.simulator.routes_runtime import allocation_stub
from secretbinding.devstack.simulator.state import JobKey
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router

_STUB = [
    "CreateIndex",
    "Datacenters",
    "ID",
    "JobModifyIndex",
    "ModifyIndex",
    "Multiregion",
    "Name",
    "Namespace",
    "NodePool",
    "ParentID",
    "Priority",
    "Status",
    "StatusDescription",
    "Stop",
    "SubmitTime",
    "Type",
]


class JobRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/jobs", self.list)
        router.add("GET", r"/v1/job/(.+)/versions", self.versions)
        router.add("GET", r"/v1/job/(.+)/submission", self.submission)
        router.add("GET", r"/v1/job/(.+)/deployments", self.deployments)
        router.add("GET", r"/v1/job/(.+)/deployment", self.latest_deployment)
        router.add("GET", r"/v1/job/(.+)/allocations", self.allocations)
        router.add("GET", r"/v1/job/(.+)/evaluations", self.evaluations)
        router.add("GET", r"/v1/job/(.+)/summary", self.summary)
        router.add("GET", r"/v1/job/(.+)", self.read)

    def _key(self, request: Request) -> JobKey:
        return request.namespace, request.parts[0]

    def list(self, request: Request) -> Response:
        prefix, namespace = request.query.get("prefix", ""), request.namespace
        rights = self._parts.require(request, namespace, "list-jobs")
        with_meta = request.query.get("meta") == "true"

        def query() -> tuple[int, list[Json]]:
            stubs = []
            for key in sorted(self._state.jobs):
                if namespace not in ("*", key[0]) or not key[1].startswith(prefix):
                    continue
                if rights.namespace(key[0], "list-jobs"):
                    stubs.append(self._stub(key, with_meta))
            return self._state.table_index("jobs"), stubs

        return self._parts.read(request, query)

    def _stub(self, key: JobKey, with_meta: bool) -> Json:
        job = self._state.jobs[key]
        stub = {name: job[name] for name in _STUB}
        stub["JobSummary"] = self._state.summary(key)
        stub["ParameterizedJob"] = job["ParameterizedJob"] is not None
        stub["Periodic"] = job["Periodic"] is not None
        if with_meta:
            stub["Meta"] = job["Meta"]
        return stub

    def read(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")

        def query() -> tuple[int, Json | None]:
            job = self._state.jobs.get(key)
            return (job["ModifyIndex"] if job else self._state.table_index("jobs")), job

        response = self._parts.read(request, query)
        if response.value is None:
            raise HttpError(404, "job not found", index=response.index)
        return response

    def versions(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")

        def query() -> tuple[int, list[Json]]:
            versions = list(self._state.versions.get(key, []))
            return (versions[0]["ModifyIndex"] if versions else self._state.table_index("jobs")), versions

        response = self._parts.read(request, query)
        if not response.value:
            raise HttpError(404, "job versions not found", index=response.index)
        response.value = {
            "Diffs": None,
            "Index": response.index,
            "KnownLeader": True,
            "LastContact": 0,
            "NextToken": "",
            "Versions": response.value,
        }
        return response

    def submission(self, request: Request) -> Response:
        key = self._key(request)
        try:
            version = int(request.query.get("version", ""))
        except ValueError:
            raise HttpError(400, "Unable to parse job submission version parameter") from None
        self._parts.require(request, key[0], "read-job")
        found = self._state.submissions.get((*key, version))
        if found is None:
            raise HttpError(404, "job source not found", index=0)
        return Response(found, index=found["JobModifyIndex"], known_leader=True)

    def deployments(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")

        def query() -> tuple[int, list[Json]]:
            rows = [self._state.deployments[one] for one in self._state.deployments_by_job.get(key, [])]
            return self._state.table_index("deployment"), [public_deployment(one) for one in sorted(rows, key=_by_id)]

        return self._parts.read(request, query)

    def latest_deployment(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")

        def query() -> tuple[int, Json | None]:
            latest = self._parts.deployments.latest(key)
            return self._state.table_index("deployment"), public_deployment(latest) if latest else None

        return self._parts.read(request, query)

    def allocations(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")
        everything = request.query.get("all") == "true"

        def query() -> tuple[int, list[Json]]:
            rows = [self._state.allocations[one] for one in self._state.allocations_by_job.get(key, [])]
            job = self._state.jobs.get(key)
            if not everything and job is not None:
                rows = [row for row in rows if row["Job"]["CreateIndex"] == job["CreateIndex"]]
            return self._state.table_index("allocs"), [allocation_stub(row) for row in rows]

        return self._parts.read(request, query)

    def evaluations(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")

        def query() -> tuple[int, list[Json]]:
            rows = [public(self._state.evaluations[one]) for one in self._state.evaluations_by_job.get(key, [])]
            return self._state.table_index("evals"), sorted(rows, key=_by_id)

        return self._parts.read(request, query)

    def summary(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "read-job")
        with self._state.lock:
            if key not in self._state.jobs:
                raise HttpError(404, "job not found")
            return Response(self._state.summary(key), index=self._state.jobs[key]["ModifyIndex"], known_leader=True)


def _by_id(row: Mapping[str, Any]) -> str:
    return str(row["ID"])
