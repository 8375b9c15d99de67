"""Routes that change jobs: registering, planning, versions and their tags, stopping, starting children."""

import copy
from collections.abc import Mapping
from typing import Any

from secretbinding.devstack.simulator.admission import admit
from secretbinding.devstack.simulator.canonical import JobDecodeError, canonical_job
from secretbinding.devstack.simulator.changes import annotate, job_diff, spec_changed
from secretbinding.devstack.simulator.hcl import HclError, parse_job
from secretbinding.devstack.simulator.routes import Json, Parts, written
from secretbinding.devstack.simulator.state import JobKey, new_id, now_nanos
from secretbinding.devstack.simulator.validate import InvalidJobError, validate
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router, denied


class RegistrationRoutes:
    """Handlers; each is named after what it does to a job."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("PUT POST", r"/v1/jobs", self.register)
        router.add("PUT POST", r"/v1/jobs/parse", self.parse)
        router.add("PUT POST", r"/v1/validate/job", self.validate)
        router.add("PUT POST DELETE", r"/v1/job/(.+)/versions/([^/]+)/tag", self.tag)
        router.add("PUT POST", r"/v1/job/(.+)/plan", self.plan)
        router.add("PUT POST", r"/v1/job/(.+)/revert", self.revert)
        router.add("PUT POST", r"/v1/job/(.+)/stable", self.stable)
        router.add("PUT POST", r"/v1/job/(.+)/evaluate", self.evaluate)
        router.add("PUT POST", r"/v1/job/(.+)/dispatch", self.dispatch)
        router.add("PUT POST", r"/v1/job/(.+)/periodic/force", self.force)
        router.add("PUT POST", r"/v1/job/(.+)", self.register)
        router.add("DELETE", r"/v1/job/(.+)", self.deregister)

    def _key(self, request: Request) -> JobKey:
        return request.namespace, request.parts[0]

    def _sent(self, request: Request) -> tuple[Json, Json]:
        """(request body, canonical job). Raises `HttpError`."""
        body = request.json()
        if not isinstance(body, dict) or not isinstance(body.get("Job"), dict):
            raise HttpError(400, "Job must be specified")
        sent = dict(body["Job"])
        if not sent.get("ID"):
            raise HttpError(400, "Job ID hasn't been provided")
        if request.parts and request.parts[0] != sent["ID"]:
            raise HttpError(400, "Job ID does not match name")
        if not sent.get("Namespace"):
            sent["Namespace"] = request.namespace
        try:
            return body, canonical_job(sent)
        except JobDecodeError as error:
            raise HttpError(400, str(error)) from None

    def _admitted(self, job: Json) -> None:
        if job["TaskGroups"]:
            admit(job)
        try:
            validate(job, self._state.namespaces)
        except InvalidJobError as error:
            raise HttpError(500, str(error)) from None

    def register(self, request: Request) -> Response:
        body, job = self._sent(request)
        self._parts.route(request.region or job["Region"])
        rights = self._parts.rights(request)
        key = (job["Namespace"], job["ID"])
        self._admitted(job)
        if not (rights.namespace(key[0], "submit-job") or rights.namespace(key[0], "register-job")):
            raise denied()
        if accessor := self._parts.acl.accessor(request.token):
            job["NomadTokenID"] = accessor
        with self._state.lock:
            old = self._state.jobs.get(key)
            if body.get("EnforceIndex"):
                _enforce(old, int(body.get("JobModifyIndex") or 0))
            _check_transition(old, job)
            if old is not None and body.get("PreserveCounts"):
                _preserve_counts(old, job)
            if not spec_changed(old, job):
                assert old is not None
                return self._unchanged(key, old)
            with self._state.write("jobs", "evals") as index:
                self._state.put_job(job, index, body.get("Submission"))
                self._state.publish(index, "Job", "JobRegistered", key[1], key[0], {"Job": self._state.jobs[key]})
                evaluation = self._evaluate(key, "job-register", index)
                return self._registered(index, index, evaluation, index, _warnings(job))

    def _unchanged(self, key: JobKey, old: Json) -> Response:
        with self._state.write("evals") as index:
            evaluation = self._evaluate(key, "job-register", index)
            return self._registered(index, old["ModifyIndex"], evaluation, index if evaluation else 0, _warnings(old))

    def _registered(
        self, index: int, modify_index: int, evaluation: Json | None, created: int, warnings: str
    ) -> Response:
        return written(
            index,
            EvalCreateIndex=created if evaluation else 0,
            EvalID=evaluation["ID"] if evaluation else "",
            JobModifyIndex=modify_index,
            Warnings=warnings,
        )

    def _evaluate(self, key: JobKey, trigger: str, index: int) -> Json | None:
        job = self._state.jobs[key]
        if job["Periodic"] is not None or job["ParameterizedJob"] is not None:
            return None
        return self._parts.scheduler.evaluate(key, trigger, index, JobModifyIndex=job["JobModifyIndex"])

    def plan(self, request: Request) -> Response:
        body, job = self._sent(request)
        self._parts.route(request.region or job["Region"])
        key = (job["Namespace"], job["ID"])
        self._parts.require(request, key[0], "submit-job")
        self._admitted(job)
        with self._state.lock:
            old = self._state.jobs.get(key)
            job["CreateIndex"] = old["CreateIndex"] if old else self._state.index + 1
            changed = spec_changed(old, job)
            if old is not None and not changed:
                job = old
            else:
                job["Version"] = old["Version"] + 1 if old else 0
                job["JobModifyIndex"] = self._state.index + 1
            planned = self._parts.scheduler.plan(job)
            diff = job_diff(old, job) if body.get("Diff") else None
            if diff is not None:
                annotate(diff, planned.counts)
            modify_index = old["JobModifyIndex"] if old else 0
            return Response(
                {
                    "Annotations": {"DesiredTGUpdates": planned.counts, "PreemptedAllocs": None},
                    "CreatedEvals": None,
                    "Diff": diff,
                    "FailedTGAllocs": None,
                    "Index": modify_index,
                    "JobModifyIndex": modify_index,
                    "NextPeriodicLaunch": None,
                    "Warnings": _warnings(job),
                },
                index=modify_index,
            )

    def validate(self, request: Request) -> Response:
        _, job = self._sent(request)
        self._parts.route(request.region)
        try:
            validate(job, self._state.namespaces)
        except InvalidJobError as error:
            return Response({"DriverConfigValidated": True, "Error": str(error), "ValidationErrors": error.faults})
        return Response({"DriverConfigValidated": True, "Error": "", "ValidationErrors": None, "Warnings": ""})

    def parse(self, request: Request) -> Response:
        rights = self._parts.local_rights(request)
        if not (rights.namespace(request.namespace, "parse-job") or rights.namespace(request.namespace, "submit-job")):
            raise denied()
        body = request.json()
        text = body.get("JobHCL") or ""
        if not text:
            raise HttpError(400, "Job spec is empty")
        try:
            job = parse_job(text, body.get("Variables") or "")
            return Response(canonical_job(job) if body.get("Canonicalize") else job)
        except (HclError, JobDecodeError) as error:
            raise HttpError(400, f"Failed to parse job: {error}") from None

    # -- versions --------------------------------------------------------------------------------------------------

    def _find_version(self, key: JobKey, version: int) -> Json | None:
        return next((one for one in self._state.versions.get(key, []) if one["Version"] == version), None)

    def _version(self, key: JobKey, version: int) -> Json:
        found = self._find_version(key, version)
        if found is None:
            raise HttpError(500, f'job "{key[1]}" in namespace "{key[0]}" at version {version} not found')
        return found

    def _about(self, request: Request) -> Json:
        """The body of a request about one version. Raises `HttpError` 400 unless it names the path's job."""
        body: Json = request.json()
        if not body.get("JobID"):
            raise HttpError(400, "JobID must be specified")
        if body["JobID"] != request.parts[0]:
            raise HttpError(400, "Job ID does not match")
        return body

    def tag(self, request: Request) -> Response:
        key, name = self._key(request), request.parts[1]
        self._parts.require(request, key[0], "submit-job")
        with self._state.lock:
            versions = self._state.versions.get(key, [])
            holder = next((one for one in versions if (one["VersionTag"] or {}).get("Name") == name), None)
            if request.method == "DELETE":
                if holder is None:
                    raise HttpError(500, f'tag "{name}" not found on job "{key[1]}"')
                with self._state.write("jobs") as index:
                    self._state.replace_version(key, holder["Version"], {"VersionTag": None})
                return written(index, Description="", Name="", TaggedTime=0)
            body = request.json()
            number = int(body.get("Version") or 0)
            version = self._find_version(key, number)
            if version is None:
                raise HttpError(500, f'job "{key[1]}" version {number} not found')
            if holder is not None and holder["Version"] != number:
                raise HttpError(500, f'tag "{name}" already exists on a different version of job "{key[1]}"')
            tag = {"Description": body.get("Description") or "", "Name": name, "TaggedTime": now_nanos()}
            with self._state.write("jobs") as index:
                self._state.replace_version(key, number, {"VersionTag": tag})
            return written(index, **tag)

    def revert(self, request: Request) -> Response:
        key = self._key(request)
        body = self._about(request)
        self._parts.require(request, key[0], "submit-job")
        with self._state.lock:
            current = self._state.jobs.get(key)
            if current is None:
                raise HttpError(500, f'job "{key[1]}" not found')
            wanted = int(body.get("JobVersion") or 0)
            if wanted == current["Version"]:
                raise HttpError(500, "can't revert to current version")
            prior = body.get("EnforcePriorVersion")
            if prior is not None and prior != current["Version"]:
                raise HttpError(500, f"Current job has version {current['Version']}; enforcing version {prior}")
            target = copy.deepcopy(self._version(key, wanted))
            target["VersionTag"] = None
            admit(target)
            with self._state.write("jobs", "evals") as index:
                self._state.put_job(target, index, self._state.submissions.get((*key, wanted)))
                self._state.publish(index, "Job", "JobRegistered", key[1], key[0], {"Job": self._state.jobs[key]})
                evaluation = self._evaluate(key, "job-register", index)
                return self._registered(index, index, evaluation, index, "")

    def stable(self, request: Request) -> Response:
        key = self._key(request)
        body = self._about(request)
        self._parts.require(request, key[0], "submit-job")
        with self._state.write("jobs") as index:
            version = self._version(key, int(body.get("JobVersion") or 0))
            changes = {"Stable": bool(body.get("Stable")), "ModifyIndex": index}
            self._state.replace_version(key, version["Version"], changes)
            return written(index)

    # -- the end, and children -------------------------------------------------------------------------------------

    def deregister(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "submit-job")
        purge = request.query.get("purge") == "true"
        with self._state.write("jobs", "evals") as index:
            job = self._state.jobs.get(key)
            if job is not None and purge:
                kind = job["Type"]
                del self._state.jobs[key]
                self._state.versions.pop(key, None)
                for one in [one for one in self._state.submissions if one[:2] == key]:
                    del self._state.submissions[one]
                self._forget(key, index)
                self._state.publish(index, "Job", "JobDeregistered", key[1], key[0], {"Deleted": True, "Job": job})
            elif job is not None:
                kind = job["Type"]
                stopped = {**job, "Stop": True, "VersionTag": None}
                self._state.put_job(stopped, index, self._state.submissions.get((*key, job["Version"])))
                self._state.publish(index, "Job", "JobDeregistered", key[1], key[0], {"Job": self._state.jobs[key]})
            else:
                kind = "service"
            evaluation = self._state.new_evaluation(key, kind, "job-deregister", index, JobModifyIndex=index)
            self._parts.scheduler.enqueue(evaluation)
            if job is not None and (job["Periodic"] is not None or job["ParameterizedJob"] is not None):
                evaluation["Status"] = "complete"
            return written(
                index,
                EvalCreateIndex=index,
                EvalID=evaluation["ID"],
                JobModifyIndex=index,
                VolumeEvalID="",
                VolumeEvalIndex=0,
            )

    def _forget(self, key: JobKey, index: int) -> None:
        """A purged job's allocations and deployments go at once, while its tasks are still being killed."""
        for one in self._state.allocations_by_job.pop(key, []):
            self._parts.client.stop(self._state.allocations.pop(one))
        for one in self._state.deployments_by_job.pop(key, []):
            self._parts.deployments.forget(self._state.deployments.pop(one))
        self._state.touch(index, "allocs", "deployment")

    def evaluate(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "submit-job")
        with self._state.write("evals") as index:
            if key not in self._state.jobs:
                raise HttpError(500, "job not found")
            evaluation = self._evaluate(key, "job-register", index)
            if evaluation is None:
                raise HttpError(500, "can't evaluate periodic job")
            return self._registered(index, self._state.jobs[key]["ModifyIndex"], evaluation, index, "")

    def dispatch(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "dispatch-job")
        body = request.json()
        with self._state.lock:
            parent = self._state.jobs.get(key)
            if parent is None:
                raise HttpError(500, "parameterized job not found")
            if parent["ParameterizedJob"] is None:
                raise HttpError(500, f'Specified job "{key[1]}" is not a parameterized job')
            if parent["Stop"]:
                raise HttpError(500, f'Specified job "{key[1]}" is stopped')
            given = body.get("Meta") or {}
            config = parent["ParameterizedJob"]
            required, optional = set(config["MetaRequired"] or ()), set(config["MetaOptional"] or ())
            if required - set(given):
                names = ", ".join(sorted(required - set(given)))
                raise HttpError(500, f"Dispatch did not provide required meta keys: [{names}]")
            if set(given) - required - optional:
                names = ", ".join(sorted(set(given) - required - optional))
                raise HttpError(500, f"Dispatch request included unpermitted metadata keys: [{names}]")
            child_id = f"{key[1]}/dispatch-{now_nanos() // 10**9}-{new_id()[:8]}"
            index, evaluation = self._child(parent, child_id, meta=given, payload=body.get("Payload"))
            return written(
                index, DispatchedJobID=child_id, EvalCreateIndex=index, EvalID=evaluation["ID"], JobCreateIndex=index
            )

    def force(self, request: Request) -> Response:
        key = self._key(request)
        self._parts.require(request, key[0], "submit-job")
        with self._state.lock:
            parent = self._state.jobs.get(key)
            if parent is None:
                raise HttpError(500, "job not found")
            if parent["Periodic"] is None:
                raise HttpError(500, "can't force launch non-periodic job")
            index, evaluation = self._child(parent, f"{key[1]}/periodic-{now_nanos() // 10**9}")
            return written(index, EvalCreateIndex=index, EvalID=evaluation["ID"])

    def _child(
        self, parent: Json, child_id: str, *, meta: Mapping[str, str] | None = None, payload: Any = None
    ) -> tuple[int, Json]:
        child = copy.deepcopy(parent)
        child.update(ID=child_id, Name=child_id, ParentID=parent["ID"], Periodic=None, VersionTag=None, Version=0)
        if meta is not None:
            child.update(
                Dispatched=True, ParameterizedJob=None, Meta={**(child["Meta"] or {}), **meta} or None, Payload=payload
            )
        key = (child["Namespace"], child_id)
        with self._state.write("jobs", "evals") as index:
            self._state.put_job(child, index, None)
            trigger = "job-register" if meta is not None else "periodic-job"
            return index, self._parts.scheduler.evaluate(key, trigger, index, JobModifyIndex=index)


def _enforce(old: Json | None, wanted: int) -> None:
    text = f"Enforcing job modify index {wanted}: "
    if old is None and wanted != 0:
        raise HttpError(500, text + "job does not exist")
    if old is not None and wanted == 0:
        raise HttpError(500, text + "job already exists")
    if old is not None and wanted != old["JobModifyIndex"]:
        raise HttpError(500, text + f"job exists with conflicting job modify index: {old['JobModifyIndex']}")


def _check_transition(old: Json | None, new: Json) -> None:
    """A job cannot change its type, nor begin or cease to be periodic or parameterized."""
    if old is None:
        return
    if old["Type"] != new["Type"]:
        raise HttpError(500, f'cannot update job from type "{old["Type"]}" to "{new["Type"]}"')
    for name, word in (("Periodic", "periodic"), ("ParameterizedJob", "parameterized")):
        before, after = old[name] is not None, new[name] is not None
        if before != after:
            text = (
                f"cannot update {word} job to being non-{word}"
                if before
                else f"cannot update non-{word} job to being {word}"
            )
            raise HttpError(500, text)


def _preserve_counts(old: Json, new: Json) -> None:
    counts = {group["Name"]: group["Count"] for group in old["TaskGroups"]}
    for group in new["TaskGroups"]:
        group["Count"] = counts.get(group["Name"], group["Count"])


def _warnings(job: Mapping[str, Any]) -> str:
    if (job["Periodic"] or {}).get("Spec"):
        return "1 warning:\n\n* cron is deprecated and may be removed in a future release. Use crons instead"
    return ""
