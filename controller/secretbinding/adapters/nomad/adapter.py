"""Jobs, variables and events of Nomad, as `ports.Nomad` asks for them."""

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nomad import api
from nomad.api.status import Leader

from secretbinding.adapters.connection import NomadConnection
from secretbinding.adapters.nomad.asking import Asker, quoted
from secretbinding.adapters.nomad.events import EventStream
from secretbinding.adapters.nomad.faults import judge
from secretbinding.adapters.nomad.shapes import (
    by_number,
    integer,
    list_of,
    mapping,
    moment,
    rows_of,
)
from secretbinding.adapters.nomad.variables import Variables
from secretbinding.adapters.transport import Call, OnCall, Transport, unexpected
from secretbinding.errors import NotFound, Rejected, UsageError
from secretbinding.ports import Json, Registered, Variable, VariableMeta

_DEFAULT_NAMESPACE = "default"
_ENDPOINTS = re.compile(
    r"/(evaluate|allocations|evaluations|periodic/force|plan|summary|dispatch|dispatch/payload|versions|revert"
    r"|deployments|deployment|stable|scale|services|submission|actions|action|tag)$"
)
"""Ends of `/v1/job/...` that are endpoints. Nomad looks at the decoded path: a job whose ID ends so has no address."""


class NomadAdapter:
    """Fulfils `ports.Nomad`. Thread-safe: one for all workers. Every method raises `errors.ServiceError` subclasses.

    Args:
        connection: where and how; `UsageError` when it can never work.
        on_call: told about each attempt, for metrics.
    """

    def __init__(self, connection: NomadConnection, *, on_call: OnCall | None = None) -> None:
        self._connection = connection
        self._transport = Transport(
            connection, system="nomad", token_header="X-Nomad-Token", headers={}, judge=judge, on_call=on_call
        )
        self.clock = self._transport.clock
        self._asker = Asker(self._transport, connection.region)
        self._variables = Variables(self._asker)
        self._region = connection.region
        self._region_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"NomadAdapter({self._transport!r})"

    def close(self) -> None:
        """Close idle connections. Open event streams are closed by themselves."""
        self._transport.close()

    def region(self) -> str:
        """See `ports.Nomad`; raises `UsageError` when there are several regions and none is configured."""
        with self._region_lock:
            if not self._region:
                call = Call("regions_list", "list regions")
                regions = list_of(self._asker.api(api.Regions, call).get_regions(), call)
                if not regions:
                    raise unexpected("nomad", call, "no region at all")
                if len(regions) > 1:
                    raise UsageError(
                        f"Nomad has the regions {', '.join(map(str, regions))}, and none is chosen",
                        remedy="set NOMAD_REGION to the one to work in",
                    )
                self._region = str(regions[0])
            return self._region

    def leader(self) -> str:
        """The address of the region's leader (`/v1/status/leader`, which needs no right), `""` when it has none."""
        call = Call("leader_read", "tell its leader")
        return str(self._asker.api(Leader, call).get_leader())

    def token_expiry(self) -> datetime | None:
        """When the own token ends (`ExpirationTime` of `/v1/acl/token/self`); None for one that never does, and without
        a token or access control. The answer holds the token itself, of which nothing is kept."""
        if self._connection.token == "":
            return None
        call = Call("token_lookup", "look up its own token", denied="Nomad does not know the token")
        try:
            expiry = mapping(self._asker.api(api.Acl, call).get_self_token(), call).get("ExpirationTime")
        except Rejected:
            return None
        return moment(expiry, call)

    def job(self, namespace: str, job_id: str) -> Json | None:
        call = self._job_call("job_read", f"read job {job_id}", namespace, "read-job", absent="job not found")
        try:
            return mapping(self._asker.api(api.Job, call).get_job(_address(job_id, call), namespace=namespace), call)
        except NotFound:
            return None

    def submission(self, namespace: str, job_id: str, version: int) -> Json | None:
        call = self._job_call(
            "submission_read",
            f"read the source of job {job_id} version {version}",
            namespace,
            "read-job",
            absent="job source not found",
        )
        params = {"namespace": namespace, "version": version}
        try:
            return mapping(self._job_get(call, job_id, "submission", params), call)
        except NotFound:
            return None

    def register(
        self, job: Json, *, modify_index: int, submission: Json | None = None, preserve_counts: bool = False
    ) -> Registered:
        """See `ports.Nomad`. Never sent twice when the answer was lost: `Unreachable` then means "read again"."""
        namespace = job.get("Namespace") or _DEFAULT_NAMESPACE
        call = self._job_call(
            "job_register", f"register job {job.get('ID')}", namespace, "submit-job", repeatable=False
        )
        request: Json = {"Job": job, "EnforceIndex": True, "JobModifyIndex": modify_index}
        if submission is not None:
            request["Submission"] = submission
        if preserve_counts:
            request["PreserveCounts"] = True
        # python-nomad's register_job takes no namespace.
        answer = self._asker.api(api.Jobs, call).request(method="post", json=request, params={"namespace": namespace})
        body = mapping(answer.json(), call)
        if not body.get("JobModifyIndex"):
            raise unexpected("nomad", call, "JSON of another shape")
        return Registered(
            evaluation=str(body.get("EvalID", "")),
            job_modify_index=integer(body["JobModifyIndex"], call),
            warnings=str(body.get("Warnings") or ""),
        )

    def plan(self, job: Json) -> Json:
        namespace = job.get("Namespace") or _DEFAULT_NAMESPACE
        job_id = str(job.get("ID", ""))
        call = self._job_call("job_plan", f"plan job {job_id}", namespace, "submit-job")
        request = {"Job": job, "Diff": True}
        answer = self._asker.api(api.Job, call).request(
            quoted(job_id), "plan", method="post", json=request, params={"namespace": namespace}
        )
        return mapping(answer.json(), call)

    def versions(self, namespace: str, job_id: str) -> Sequence[Json]:
        call = self._job_call(
            "versions_list", f"list versions of job {job_id}", namespace, "read-job", absent="job versions not found"
        )
        try:
            body = mapping(self._job_get(call, job_id, "versions", {"namespace": namespace}), call)
        except NotFound:
            return ()
        return sorted(rows_of(body.get("Versions"), call), key=by_number("Version", call), reverse=True)

    def tag_version(self, namespace: str, job_id: str, version: int, name: str, description: str) -> None:
        """See `ports.Nomad`. Nomad has no address for a tag when the job's ID or the tag has a slash: `Rejected`.

        Raises `NotFound` when the job has no such version, and `Rejected` when another version has the tag.
        """
        call = self._job_call("version_tag", f"tag version {version} of job {job_id}", namespace, "submit-job")
        if "/" in job_id or "/" in name:
            raise Rejected(
                f"Nomad cannot tag job {job_id} with {name}",
                system="nomad",
                operation=call.text,
                remedy="neither the ID of the job nor the tag may have a slash",
            )
        self._tag(call, "post", namespace, job_id, name, {"Version": version, "Description": description})

    def untag_version(self, namespace: str, job_id: str, name: str) -> None:
        if "/" in job_id or "/" in name:
            return
        call = self._job_call("version_untag", f"take tag {name} from job {job_id}", namespace, "submit-job")
        try:
            self._tag(call, "delete", namespace, job_id, name, None)
        except NotFound:
            return

    def evaluate(self, namespace: str, job_id: str) -> None:
        call = self._job_call("job_evaluate", f"evaluate job {job_id}", namespace, "submit-job")
        params = {"namespace": namespace}
        self._asker.api(api.Job, call).request(
            quoted(job_id), "evaluate", method="post", json={"JobID": job_id, "Namespace": namespace}, params=params
        )

    def deployments(self, namespace: str, job_id: str) -> Sequence[Json]:
        call = self._job_call("deployments_list", f"list deployments of job {job_id}", namespace, "read-job")
        rows = rows_of(self._job_get(call, job_id, "deployments", {"namespace": namespace, "all": True}), call)
        return sorted(rows, key=by_number("CreateIndex", call), reverse=True)

    def allocations(self, namespace: str, job_id: str) -> Sequence[Json]:
        call = self._job_call("allocations_list", f"list allocations of job {job_id}", namespace, "read-job")
        jobs = self._asker.api(api.Job, call)
        return rows_of(jobs.get_allocations(quoted(job_id), all_=True, namespace=namespace), call)

    def evaluations(self, namespace: str, job_id: str) -> Sequence[Json]:
        call = self._job_call("evaluations_list", f"list evaluations of job {job_id}", namespace, "read-job")
        jobs = self._asker.api(api.Job, call)
        return rows_of(jobs.get_evaluations(quoted(job_id), namespace=namespace), call)

    def parse_hcl(self, text: str, variables: str = "", *, namespace: str = _DEFAULT_NAMESPACE) -> Json:
        """See `ports.Nomad`. `namespace` is only where the right to parse (`parse-job` or `submit-job`) is checked."""
        call = self._job_call("job_parse", "parse a job file", namespace, "parse-job")
        request = {"JobHCL": text, "Variables": variables, "Canonicalize": True}
        # python-nomad's parse knows no variables.
        answer = self._asker.api(api.Jobs, call).request(
            "parse", method="post", json=request, params={"namespace": namespace}
        )
        return mapping(answer.json(), call)

    def namespace_labels(self) -> dict[str, dict[str, str]]:
        """The metadata of the namespaces that the token may see, by name (`GET /v1/namespaces`, `Meta`)."""
        call = Call("namespaces_list", "list namespaces")
        rows = rows_of(self._asker.api(api.Namespaces, call).get_namespaces(), call)
        return {str(row["Name"]): {str(k): str(v) for k, v in (row.get("Meta") or {}).items()} for row in rows}

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Sequence[VariableMeta]]:
        """See `ports.Nomad`. The index is at least 1, so that it can be given back to block."""
        return self._variables.list(namespace, prefix, index=index, wait_seconds=wait_seconds)

    def read_variable(self, namespace: str, path: str) -> Variable | None:
        return self._variables.read(namespace, path)

    def write_variable(
        self, namespace: str, path: str, items: Mapping[str, str], *, cas: int | None = None
    ) -> Variable:
        """See `ports.Nomad`. With `cas` never sent twice when the answer was lost."""
        return self._variables.write(namespace, path, items, cas=cas)

    def delete_variable(self, namespace: str, path: str) -> None:
        self._variables.delete(namespace, path)

    def acquire_lock(self, namespace: str, path: str, items: Mapping[str, str], ttl_seconds: float) -> str | None:
        """See `ports.Nomad`. Never sent twice when the answer was lost: the lock would be ours without its ID."""
        return self._variables.acquire_lock(namespace, path, items, ttl_seconds)

    def renew_lock(self, namespace: str, path: str, lock_id: str) -> bool:
        return self._variables.renew_lock(namespace, path, lock_id)

    def release_lock(self, namespace: str, path: str, lock_id: str) -> None:
        self._variables.release_lock(namespace, path, lock_id)

    def list_jobs(self, namespace: str, prefix: str = "") -> Sequence[Json]:
        """See `ports.Nomad`. An answer without rows says nothing about rights."""
        call = self._job_call("jobs_list", "list jobs", namespace, "list-jobs")
        return rows_of(self._asker.api(api.Jobs, call).get_jobs(prefix=prefix or None, namespace=namespace), call)

    def events(self, topics: Sequence[str], namespace: str, *, index: int = 0) -> EventStream:
        """See `ports.Nomad`. The subscription is open when this returns; close it from any thread by `close()`."""
        call = self._job_call("events", "stream events", namespace, "read-job", repeatable=False)
        params: dict[str, Any] = {"namespace": namespace, "index": index, "topic": list(topics)}
        if self._connection.region:
            params["region"] = self._connection.region
        response = self._transport.open(
            call, "/v1/event/stream", params=params, quiet_seconds=2 * self._connection.heartbeat_seconds
        )
        return EventStream(self._transport, call, response, max_line_bytes=self._connection.max_answer_bytes)

    def _job_get(self, call: Call, job_id: str, what: str, params: Mapping[str, Any]) -> Any:
        return self._asker.api(api.Job, call).request(quoted(job_id), what, method="get", params=dict(params)).json()

    def _tag(self, call: Call, method: str, namespace: str, job_id: str, name: str, body: Json | None) -> None:
        self._asker.api(api.Job, call).request(
            quoted(job_id),
            "versions",
            quoted(name),
            "tag",
            method=method,
            json=body,
            params={"namespace": namespace},
        )

    def _job_call(
        self, label: str, text: str, namespace: str, capability: str, *, repeatable: bool = True, absent: str = ""
    ) -> Call:
        return Call(
            label,
            text,
            denied=f"the Nomad token may not {text} in namespace {namespace}, which needs capability `{capability}`",
            grant=f'add `namespace "{namespace}" {{ capabilities = ["{capability}"] }}` to its policy',
            repeatable=repeatable,
            absent=absent,
        )


def _address(job_id: str, call: Call) -> str:
    """The job ID as a URL segment. Raises `Rejected` for an ID that Nomad would take for an endpoint of another job."""
    if _ENDPOINTS.search(job_id):
        raise Rejected(
            f"the ID of job {job_id} ends like an endpoint of Nomad's API, which cannot address it",
            system="nomad",
            operation=call.text,
            remedy="give the job another ID",
        )
    return quoted(job_id)
