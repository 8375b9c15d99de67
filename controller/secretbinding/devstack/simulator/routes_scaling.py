"""Routes about a job's count: reading and changing it without sending the job."""

import copy
from typing import Any

from secretbinding.devstack.simulator.changes import find
from secretbinding.devstack.simulator.reconcile import ACTIVE
from secretbinding.devstack.simulator.routes import Json, Parts, written
from secretbinding.devstack.simulator.state import JobKey, now_nanos
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router


class ScalingRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/job/(.+)/scale", self.read)
        router.add("PUT POST", r"/v1/job/(.+)/scale", self.scale)

    def read(self, request: Request) -> Response:
        key = (request.namespace, request.parts[0])
        self._parts.require(request, key[0], "read-job-scaling")
        with self._state.lock:
            job = self._job(key)
            body = {
                "JobCreateIndex": job["CreateIndex"],
                "JobID": job["ID"],
                "JobModifyIndex": job["JobModifyIndex"],
                "JobStopped": job["Stop"],
                "Namespace": job["Namespace"],
                "TaskGroups": {group["Name"]: self._counted(key, group) for group in job["TaskGroups"]},
            }
            return Response(body, index=job["ModifyIndex"], known_leader=True)

    def _counted(self, key: JobKey, group: Json) -> Json:
        rows = [
            row
            for one in self._state.allocations_by_job.get(key, [])
            if (row := self._state.allocations[one])["TaskGroup"] == group["Name"] and row["DesiredStatus"] == "run"
        ]
        health = [(row["DeploymentStatus"] or {}).get("Healthy") for row in rows]
        return {
            "Desired": group["Count"],
            "Events": None,
            "Healthy": health.count(True),
            "Placed": len(rows),
            "Running": sum(1 for row in rows if row["ClientStatus"] == "running"),
            "Unhealthy": health.count(False),
        }

    def scale(self, request: Request) -> Response:
        key = (request.namespace, request.parts[0])
        rights = self._parts.rights(request)
        if not (rights.namespace(key[0], "scale-job") or rights.namespace(key[0], "submit-job")):
            raise HttpError(403, "Permission denied")
        body: Any = request.json()
        name, count = (body.get("Target") or {}).get("Group"), body.get("Count")
        if not name:
            raise HttpError(400, "missing task group name for scaling action")
        if count is not None and int(count) < 0:
            raise HttpError(400, "scaling action count can't be negative")
        with self._state.lock:
            job = self._job(key)
            if find(job["TaskGroups"], name) is None:
                raise HttpError(400, f'task group "{name}" specified for scaling does not exist in job')
            if count is None:
                return self._answer(self._state.index, job, "", 0)
            latest = self._parts.deployments.latest(key)
            if latest is not None and latest["Status"] in ACTIVE and latest["JobVersion"] == job["Version"]:
                raise HttpError(400, "job scaling blocked due to active deployment")
            return self._register(key, job, name, int(count))

    def _register(self, key: JobKey, job: Json, name: str, count: int) -> Response:
        changed = {**copy.deepcopy(job), "VersionTag": None, "SubmitTime": now_nanos()}
        find(changed["TaskGroups"], name)["Count"] = count
        with self._state.write("jobs", "evals") as index:
            self._state.put_job(changed, index, self._state.submissions.get((*key, job["Version"])), copied=True)
            self._state.publish(index, "Job", "JobRegistered", key[1], key[0], {"Job": self._state.jobs[key]})
            evaluation = self._parts.scheduler.evaluate(key, "job-scaling", index, JobModifyIndex=index)
            return self._answer(index, self._state.jobs[key], evaluation["ID"], index)

    def _answer(self, index: int, job: Json, evaluation: str, created: int) -> Response:
        return written(
            index, EvalCreateIndex=created, EvalID=evaluation, JobModifyIndex=job["JobModifyIndex"], Warnings=""
        )

    def _job(self, key: JobKey) -> Json:
        job = self._state.jobs.get(key)
        if job is None:
            raise HttpError(404, f'job "{key[1]}" not found')
        return job
