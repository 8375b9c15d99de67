"""Routes about what runs: allocations and their files, evaluations."""

import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secretbinding.devstack.simulator.routes import Json, Parts, public, written
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router, denied

_ALLOCATION_STUB = [
    "ClientDescription",
    "ClientStatus",
    "CreateIndex",
    "CreateTime",
    "DeploymentStatus",
    "DesiredDescription",
    "DesiredStatus",
    "DesiredTransition",
    "EvalID",
    "FollowupEvalID",
    "ID",
    "JobID",
    "ModifyIndex",
    "ModifyTime",
    "Name",
    "Namespace",
    "NextAllocation",
    "NodeID",
    "NodeName",
    "PreemptedAllocations",
    "PreemptedByAllocation",
    "RescheduleTracker",
    "TaskGroup",
]


def allocation_stub(row: Mapping[str, Any]) -> Json:
    """An allocation as listings show it."""
    stub = {name: row[name] for name in _ALLOCATION_STUB}
    stub["JobType"] = row["Job"]["Type"]
    stub["JobVersion"] = row["Job"]["Version"]
    stub["TaskStates"] = row["TaskStates"]
    return stub


class RuntimeRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/allocations", self.allocations)
        router.add("GET", r"/v1/allocation/([^/]+)", self.allocation)
        router.add("PUT POST", r"/v1/allocation/([^/]+)/stop", self.stop)
        router.add("PUT POST", r"/v1/client/allocation/([^/]+)/restart", self.restart)
        router.add("GET", r"/v1/client/fs/(cat|ls|stat)/([^/]+)", self.files)
        router.add("GET", r"/v1/client/fs/logs/([^/]+)", self.logs)
        router.add("GET", r"/v1/evaluation/([^/]+)", self.evaluation)
        router.add("GET", r"/v1/evaluations", self.evaluations)

    def _row(self, request: Request, identifier: str, capability: str) -> Json:
        self._parts.route(request.region)
        check_uuid(identifier, "alloc lookup failed")
        row = self._state.allocations.get(identifier)
        if row is None:
            raise HttpError(404, "alloc not found", index=self._state.table_index("allocs"))
        self._parts.require(request, row["Namespace"], capability)
        return row

    def allocations(self, request: Request) -> Response:
        rights = self._parts.rights(request)
        namespace, prefix = request.namespace, request.query.get("prefix", "")
        if not rights.namespace(namespace, "read-job"):
            raise denied()

        def query() -> tuple[int, list[Json]]:
            rows = [
                allocation_stub(row)
                for row in self._state.allocations.values()
                if namespace in ("*", row["Namespace"])
                and row["ID"].startswith(prefix)
                and rights.namespace(row["Namespace"], "read-job")
            ]
            return self._state.table_index("allocs"), rows

        return self._parts.read(request, query)

    def allocation(self, request: Request) -> Response:
        identifier = request.parts[0]
        self._row(request, identifier, "read-job")

        def query() -> tuple[int, Json]:
            row = self._state.allocations[identifier]
            # Empty fields are left out of this answer, as Nomad does.
            return row["ModifyIndex"], {name: value for name, value in public(row).items() if value}

        return self._parts.read(request, query)

    def stop(self, request: Request) -> Response:
        row = self._row(request, request.parts[0], "alloc-lifecycle")
        with self._state.write("allocs", "evals") as index:
            row["DesiredTransition"] = {**row["DesiredTransition"], "Migrate": True}
            row["ModifyIndex"] = index
            key = (row["Namespace"], row["JobID"])
            evaluation = self._parts.scheduler.evaluate(key, "alloc-stop", index)
            return written(index, EvalID=evaluation["ID"])

    def restart(self, request: Request) -> Response:
        row = self._row(request, request.parts[0], "alloc-lifecycle")
        body = request.json() if request.body else {}
        if not self._parts.client.restart(row, body.get("TaskName") or ""):
            raise HttpError(500, "Task not running")
        return written(row["ModifyIndex"])

    # -- files -----------------------------------------------------------------------------------------------------

    def files(self, request: Request) -> Response:
        what, identifier = request.parts
        row = self._row(request, identifier, "read-fs")
        asked = request.query.get("path", "/")
        root = self._parts.client.root(row).resolve()
        path = (root / asked.lstrip("/")).resolve()
        try:
            if path != root and root not in path.parents:
                raise OSError(f"Path escapes the alloc directory: {asked}")
            if what == "ls":
                return Response([_entry(one) for one in sorted(path.iterdir())])
            if what == "stat":
                return Response(_entry(path))
            if _is_secret(root, path):
                raise OSError(f"Reading secret file prohibited: {asked}")
            return _plain(path.read_bytes().decode(errors="replace"))
        except OSError as error:
            # Nomad sends the error as content, with status 200.
            why = f"stat {path}: no such file or directory" if isinstance(error, FileNotFoundError) else str(error)
            if what == "cat":
                return _plain(why)
            raise HttpError(500, why) from None

    def logs(self, request: Request) -> Response:
        row = self._row(request, request.parts[0], "read-logs")
        task, kind = request.query.get("task", ""), request.query.get("type", "")
        if not task:
            raise HttpError(400, "must provide task name")
        if kind not in ("stdout", "stderr"):
            raise HttpError(400, "log type must be stdout or stderr")
        if task not in (row["TaskStates"] or {}):
            raise HttpError(400, f'unknown task name "{task}"')
        path = self._parts.client.root(row) / "alloc" / "logs" / f"{task}.{kind}.0"
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        if request.query.get("plain") == "true":
            return Response(text=text, content_type="text/plain")
        raise HttpError(400, "the simulator serves logs with plain=true only")

    # -- evaluations -----------------------------------------------------------------------------------------------

    def evaluation(self, request: Request) -> Response:
        self._parts.route(request.region)
        check_uuid(request.parts[0], "failed to lookup eval: eval lookup failed")
        found = self._state.evaluations.get(request.parts[0])
        if found is None:
            raise HttpError(404, "eval not found", index=self._state.table_index("evals"))
        self._parts.require(request, found["Namespace"], "read-job")
        return self._parts.read(request, lambda: (found["ModifyIndex"], public(found)))

    def evaluations(self, request: Request) -> Response:
        namespace = request.namespace
        rights = self._parts.require(request, namespace, "read-job")
        rows = [
            public(one)
            for one in self._state.evaluations.values()
            if namespace in ("*", one["Namespace"]) and rights.namespace(one["Namespace"], "read-job")
        ]
        return self._parts.read(request, lambda: (self._state.table_index("evals"), rows))


def check_uuid(identifier: str, what: str) -> None:
    """Raises `HttpError` 500 for what can be no ID."""
    odd = next((one for one in identifier if one not in "0123456789abcdefABCDEF-"), None)
    if len(identifier) != 36:
        raise HttpError(500, f"{what}: index error: UUID must be 36 characters")
    if odd is not None:
        raise HttpError(500, f"{what}: index error: Invalid UUID: encoding/hex: invalid byte: U+{ord(odd):04X} {odd!r}")


def _plain(text: str) -> Response:
    return Response(text=text, content_type="text/plain; charset=utf-8")


def _is_secret(root: Path, path: Path) -> bool:
    """True for a file of a task's own directories of that name; what the tasks share is shown."""
    parts = path.relative_to(root).parts
    return len(parts) > 1 and parts[0] != "alloc" and parts[1] in ("secrets", "private")


def _entry(path: Path) -> Json:
    info = path.stat()
    when = datetime.fromtimestamp(info.st_mtime, UTC).isoformat().replace("+00:00", "Z")
    return {
        "FileMode": stat.filemode(info.st_mode),
        "IsDir": path.is_dir(),
        "ModTime": when,
        "Name": path.name,
        "Size": info.st_size,
    }
