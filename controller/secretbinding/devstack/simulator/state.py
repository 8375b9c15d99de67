"""The simulator's state: tables, one growing index, and the wake-up of blocking queries."""

import copy
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from secretbinding.devstack.simulator.events import EventBuffer

Json = dict[str, Any]
JobKey = tuple[str, str]
T = TypeVar("T")

KEPT_VERSIONS = 6
MAX_WAIT_SECONDS = 300.0
REGION = "global"
DATACENTER = "dc1"
NODE_NAME = "simulator"


def new_id() -> str:
    return str(uuid.uuid4())


def now_nanos() -> int:
    return time.time_ns()


def timestamp(nanos: int) -> str:
    """RFC 3339 with nanoseconds, as Go writes a time; the zero time for 0."""
    if nanos == 0:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(nanos, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0").rstrip(".") + "Z"


class State:
    """All tables. Rows are JSON objects in the shape of Nomad's API.

    A row of `jobs` or of the versions is never changed in place in what defines the job, so an allocation may hold it.
    Everything here is read and written under `lock`; `write()` takes it, gives the next index, and wakes the waiters.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self.index = 1
        self._table_index: dict[str, int] = {}
        self.nodes: dict[str, Json] = {}
        self.jobs: dict[JobKey, Json] = {}
        self.versions: dict[JobKey, list[Json]] = {}
        self.submissions: dict[tuple[str, str, int], Json] = {}
        self.allocations: dict[str, Json] = {}
        self.allocations_by_job: dict[JobKey, list[str]] = {}
        self.evaluations: dict[str, Json] = {}
        self.evaluations_by_job: dict[JobKey, list[str]] = {}
        self.unplaced: set[JobKey] = set()  # an allocation waits for a node (a blocked evaluation, in Nomad)
        self.deployments: dict[str, Json] = {}
        self.deployments_by_job: dict[JobKey, list[str]] = {}
        self.variables: dict[tuple[str, str], Json] = {}
        self.namespaces: dict[str, Json] = {}
        self.events = EventBuffer()
        self._depth = 0
        self._unpublished: list[Json] = []
        self.put_namespace("default", "Default shared namespace")
        self.add_node(NODE_NAME)

    @contextmanager
    def write(self, *tables: str) -> Iterator[int]:
        """A change of these tables: yields its index, wakes blocking queries afterwards."""
        with self.lock:
            self.index += 1
            index = self.index
            for table in tables:
                self._table_index[table] = index
            self._depth += 1
            try:
                yield index
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._flush()
                    self._changed.notify_all()

    def _flush(self) -> None:
        events, self._unpublished = self._unpublished, []
        events.sort(key=lambda one: int(one["Index"]))
        for index, batch in itertools.groupby(events, key=lambda one: int(one["Index"])):
            self.events.publish(index, list(batch))

    def touch(self, index: int, *tables: str) -> None:
        """Tables that the running change turned out to concern as well."""
        for table in tables:
            self._table_index[table] = index

    def table_index(self, *tables: str) -> int:
        """The index of the last change of any of the tables; at least 1, so that a waiter can begin there."""
        return max((self._table_index.get(table, 1) for table in tables), default=1)

    def blocking(
        self,
        query: Callable[[], tuple[int, T]],
        *,
        index: int,
        wait_seconds: float,
        stopped: Callable[[], bool],
        watch: Callable[[T], object] | None = None,
    ) -> tuple[int, T]:
        """Run the query under the lock until its index is above `index` or the time is over.

        With index 0 it answers at once, as Nomad does. With `watch`, a query that waits is woken only when that part
        of its result changes: the index may be a whole table's, while only some rows are watched.
        """
        deadline = time.monotonic() + min(wait_seconds or MAX_WAIT_SECONDS, MAX_WAIT_SECONDS)
        with self.lock:
            current, result = query()
            if index <= 0 or current > index:
                return current, result
            seen = watch(result) if watch is not None else None
            while not stopped() and (remaining := deadline - time.monotonic()) > 0:
                self._changed.wait(remaining)
                fresh, found = query()
                if fresh > index and (watch is None or watch(found) != seen):
                    return fresh, found
            return current, result

    def wake(self) -> None:
        with self.lock:
            self._changed.notify_all()

    def put_namespace(self, name: str, description: str = "", meta: dict[str, str] | None = None) -> None:
        with self.write("namespaces") as index:
            old = self.namespaces.get(name)
            self.namespaces[name] = {
                "Capabilities": None,
                "CreateIndex": old["CreateIndex"] if old else index,
                "Description": description,
                "Meta": meta,
                "ModifyIndex": index,
                "Name": name,
                "Quota": "",
            }

    def add_node(self, name: str) -> None:
        """A node that takes allocations."""
        with self.write("nodes") as index:
            identifier = new_id()
            self.nodes[identifier] = {
                "CreateIndex": index,
                "Drain": False,
                "DrainStrategy": None,
                "ID": identifier,
                "LastDrain": None,
                "ModifyIndex": index,
                "Name": name,
                "SchedulingEligibility": "eligible",
            }

    def eligible_nodes(self) -> list[Json]:
        """Nodes that take new allocations, in the order in which they came."""
        return [node for node in self.nodes.values() if node["SchedulingEligibility"] == "eligible"]

    def publish(
        self,
        index: int,
        topic: str,
        kind: str,
        key: str,
        namespace: str,
        payload: Mapping[str, Any],
        filter_keys: Sequence[str] = (),
    ) -> None:
        """Put an event into the stream when the running `write()` ends; the payload is copied."""
        self._unpublished.append(
            {
                "FilterKeys": list(filter_keys) or None,
                "Index": index,
                "Key": key,
                "Namespace": namespace,
                "Payload": copy.deepcopy(dict(payload)),
                "Topic": topic,
                "Type": kind,
            }
        )

    # -- jobs ------------------------------------------------------------------------------------------------------

    def put_job(self, job: Json, index: int, submission: Mapping[str, Any] | None, *, copied: bool = False) -> None:
        """Store a job as its next version; the caller has decided that it changed.

        A version that Nomad itself makes as a copy of another one (`copied`: a revert after a failed deployment, a new
        count) keeps that one's `Stable` and, for a revert, its `SubmitTime`.
        """
        key = (job["Namespace"], job["ID"])
        old = self.jobs.get(key)
        job["CreateIndex"] = old["CreateIndex"] if old else index
        if submission is None and old is not None and job["Version"] <= old["Version"]:
            # Without a source the one of the version that the sent job names is carried along, as in Nomad.
            submission = self.submissions.get((*key, job["Version"]))
        # A version that was sent along counts where it is higher than the one there, as in Nomad.
        if old is not None and job["Version"] <= old["Version"]:
            job["Version"] = old["Version"] + 1
        job["ModifyIndex"] = job["JobModifyIndex"] = index
        if not copied:
            job["SubmitTime"] = now_nanos()
            job["Stable"] = False
        self.jobs[key] = job
        versions = self.versions.setdefault(key, [])
        versions.insert(0, job)
        untagged = [one for one in versions if one["VersionTag"] is None]
        if len(untagged) > KEPT_VERSIONS:
            # The newest stable version is not the one to go, so that there is something to revert to.
            last, newest_stable = untagged[-1], next((one for one in untagged if one["Stable"]), None)
            versions.remove(untagged[-2] if newest_stable is last else last)
        if submission is not None and submission.get("Source"):
            self.submissions[(*key, job["Version"])] = {
                "Format": submission.get("Format") or "",
                "JobID": job["ID"],
                "JobModifyIndex": index,
                "Namespace": job["Namespace"],
                "Source": submission.get("Source") or "",
                "VariableFlags": submission.get("VariableFlags"),
                "Variables": submission.get("Variables") or "",
                "Version": job["Version"],
            }
        job["Status"] = self._status(key, job)

    def replace_version(self, key: JobKey, version: int, changes: Mapping[str, Any]) -> None:
        """Change fields beside the specification (Stable, VersionTag, Status) of one version, the current one too."""
        versions = self.versions.get(key, [])
        for place, one in enumerate(versions):
            if one["Version"] == version:
                versions[place] = {**one, **changes}
                if self.jobs[key]["Version"] == version:
                    self.jobs[key] = versions[place]

    def refresh_status(self, key: JobKey, index: int) -> None:
        """Bring `Status` of the job in line with its allocations and evaluations."""
        job = self.jobs.get(key)
        if job is None:
            return
        status = self._status(key, job)
        if status != job["Status"]:
            changes: Json = {"Status": status, "ModifyIndex": index}
            self.replace_version(key, job["Version"], changes)
            self._table_index["jobs"] = index
            self.publish(index, "Job", "EvaluationUpdated", key[1], key[0], {"Job": self.jobs[key]})

    def _status(self, key: JobKey, job: Json) -> str:
        if job["Periodic"] is not None or job["ParameterizedJob"] is not None:
            return "dead" if job["Stop"] else "running"
        if job["Type"] == "system":
            return "dead" if job["Stop"] else "running"
        allocations = [self.allocations[one] for one in self.allocations_by_job.get(key, [])]
        if any(not is_terminal(one) for one in allocations):
            return "running"
        evaluations = [self.evaluations[one] for one in self.evaluations_by_job.get(key, [])]
        waits = key in self.unplaced and not job["Stop"]
        if waits or any(one["Status"] in ("pending", "blocked") for one in evaluations):
            return "pending"
        if job["Stop"] or allocations or evaluations:
            return "dead"
        return "pending"

    def summary(self, key: JobKey) -> Json:
        """`JobSummary`: allocations counted by group and client status."""
        job = self.jobs[key]
        names = {"pending": "Starting", "running": "Running", "complete": "Complete", "failed": "Failed"}
        groups: Json = {
            group["Name"]: dict.fromkeys(("Complete", "Failed", "Lost", "Queued", "Running", "Starting", "Unknown"), 0)
            for group in job["TaskGroups"]
        }
        for one in self.allocations_by_job.get(key, []):
            allocation = self.allocations[one]
            counts = groups.get(allocation["TaskGroup"])
            if counts is not None:
                counts[names.get(allocation["ClientStatus"], "Unknown")] += 1
        return {
            "Children": {"Dead": 0, "Pending": 0, "Running": 0},
            "CreateIndex": job["CreateIndex"],
            "JobID": job["ID"],
            "ModifyIndex": job["ModifyIndex"],
            "Namespace": job["Namespace"],
            "Summary": groups,
        }

    # -- evaluations -----------------------------------------------------------------------------------------------

    def new_evaluation(self, key: JobKey, kind: str, trigger: str, index: int, **more: Any) -> Json:
        """A pending evaluation of a job."""
        now = now_nanos()
        evaluation: Json = {
            "CreateIndex": index,
            "CreateTime": now,
            "ID": new_id(),
            "JobID": key[1],
            "ModifyIndex": index,
            "ModifyTime": now,
            "Namespace": key[0],
            "Priority": self.jobs[key]["Priority"] if key in self.jobs else 50,
            "Status": "pending",
            "TriggeredBy": trigger,
            "Type": kind,
            **more,
        }
        self.evaluations[evaluation["ID"]] = evaluation
        self.evaluations_by_job.setdefault(key, []).append(evaluation["ID"])
        self._table_index["evals"] = index
        self.publish(
            index, "Evaluation", "EvaluationUpdated", evaluation["ID"], key[0], {"Evaluation": evaluation}, [key[1]]
        )
        return evaluation


def is_terminal(allocation: Mapping[str, Any]) -> bool:
    """Whether the server wants it gone, or the client is done with it."""
    return allocation["DesiredStatus"] in ("stop", "evict") or is_client_terminal(allocation)


def is_client_terminal(allocation: Mapping[str, Any]) -> bool:
    return allocation["ClientStatus"] in ("complete", "failed", "lost")
