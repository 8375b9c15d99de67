"""The simulated client: runs allocations, watches their health, reports their states."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secretbinding.devstack.simulator.canonical import MIGRATE_DEFAULT
from secretbinding.devstack.simulator.changes import find
from secretbinding.devstack.simulator.checks import Checks
from secretbinding.devstack.simulator.durations import format_duration
from secretbinding.devstack.simulator.identity import Identities
from secretbinding.devstack.simulator.reschedule import eligible
from secretbinding.devstack.simulator.scheduler import publish_allocation
from secretbinding.devstack.simulator.state import State, is_client_terminal, now_nanos
from secretbinding.devstack.simulator.task import TaskRunner
from secretbinding.devstack.simulator.taskstate import add_event, client_status, event
from secretbinding.devstack.simulator.timers import Timer, Timers
from secretbinding.devstack.simulator.vault import VaultClient

if TYPE_CHECKING:
    from secretbinding.devstack.simulator.deployments import Deployments
    from secretbinding.devstack.simulator.scheduler import Scheduler

Json = dict[str, Any]
Row = Mapping[str, Any]


class Client:
    """All allocations, of whatever node. `start`, `stop` and `updated` are called with the state's lock held."""

    def __init__(
        self,
        state: State,
        timers: Timers,
        scheduler: "Scheduler",
        deployments: "Deployments",
        *,
        directory: Path,
        vault: VaultClient,
        identities: Identities,
        poll_seconds: float,
        acl_enabled: bool = False,
    ) -> None:
        self.state, self.timers, self.scheduler, self.deployments = state, timers, scheduler, deployments
        self.directory, self.vault, self.identities, self.poll_seconds = directory, vault, identities, poll_seconds
        self._acl_enabled = acl_enabled
        self._runners: dict[str, AllocRunner] = {}

    def start(self, row: Json) -> None:
        runner = AllocRunner(self, row)
        self._runners[row["ID"]] = runner
        runner.start()

    def stop(self, row: Row) -> None:
        runner = self._runners.get(row["ID"])
        if runner is not None:
            runner.stop()

    def updated(self, row: Json) -> None:
        runner = self._runners.get(row["ID"])
        if runner is not None:
            runner.updated()

    def restart(self, row: Row, task: str) -> bool:
        """Restart one task (all with an empty name) in place; False when the allocation does not run."""
        runner = self._runners.get(row["ID"])
        if runner is None or is_client_terminal(row):
            return False
        runner.restart(task)
        return True

    def root(self, row: Row) -> Path:
        """The allocation's directory."""
        return self.directory / "alloc" / str(row["ID"])

    def variable(self, row: Row, task: Row, namespace: str, path: str) -> Mapping[str, str] | None:
        """The items of a variable that a task may read by its own identity; None for one that is not there, and, with
        ACLs, for one that it may not read."""
        job = row["Job"]["ParentID"] or row["JobID"]
        names = ("nomad/jobs", job, row["TaskGroup"], task["Name"])
        readable = {"/".join(names[:length]) for length in range(1, len(names) + 1)}
        if self._acl_enabled and (namespace != row["Namespace"] or path not in readable):
            return None
        with self.state.lock:
            found = self.state.variables.get((namespace, path))
            return dict(found["Items"]) if found is not None else None

    def close(self) -> None:
        """Kill everything at once and remove all directories."""
        for runner in list(self._runners.values()):
            runner.close()
        shutil.rmtree(self.directory / "alloc", ignore_errors=True)


class AllocRunner:
    """One allocation: its tasks in the order of their lifecycle, its health."""

    def __init__(self, client: Client, row: Json) -> None:
        self._client = client
        self._row = row
        self._group = find(row["Job"]["TaskGroups"], row["TaskGroup"])
        self._root = client.root(row)
        self._stopping = False
        self._started: set[str] = set()
        self._health: _Health | None = None
        self._checks = Checks(row, self._group, self._look_at_health)
        self.tasks = [
            TaskRunner(
                row,
                self._group,
                task,
                self._root,
                vault=client.vault,
                identities=client.identities,
                timers=client.timers,
                poll_seconds=client.poll_seconds,
                variable=client.variable,
                changed=self._changed,
            )
            for task in self._group["Tasks"]
        ]

    def start(self) -> None:
        for name in ("data", "logs", "tmp"):
            (self._root / "alloc" / name).mkdir(parents=True, exist_ok=True)
        self._watch_health()
        self._checks.start()
        threading.Thread(target=self._begin, name="allocation", daemon=True).start()

    def _begin(self) -> None:
        for task in self.tasks:
            task.received()
        self._changed()

    def stop(self) -> None:
        self._stopping = True
        self._checks.stop()
        if self._health is not None:
            self._health.close()
        threading.Thread(target=self._kill_all, name="stop", daemon=True).start()

    def _kill_all(self) -> None:
        for task in self.tasks:
            if task.name in self._started:
                task.kill()
            elif task.state["State"] == "pending":
                task.state["State"] = "dead"
        self._changed()

    def updated(self) -> None:
        """An in-place update: a new job version, perhaps a deployment that asks for health anew."""
        self._group = find(self._row["Job"]["TaskGroups"], self._row["TaskGroup"])
        for task in self.tasks:
            task.updated(self._row, self._group, find(self._group["Tasks"], task.name))
        self._watch_health()
        self._changed()

    def restart(self, name: str) -> None:
        for task in self.tasks:
            if name in ("", task.name):
                task.restart(event("Restart Signaled", "User requested running task to restart"))

    def close(self) -> None:
        self._stopping = True
        self._checks.stop()
        if self._health is not None:
            self._health.close()
        for task in self.tasks:
            task.kill_now()
        for task in self.tasks:
            task.join(5.0)

    def _watch_health(self) -> None:
        if self._health is not None:
            self._health.close()
            self._health = None
        if self._row["Job"]["Type"] not in ("service", "system"):
            return
        if (self._row["DeploymentStatus"] or {}).get("Healthy") is not None:
            return
        deployed = bool(self._row["DeploymentID"])
        limits = self._group["Update"] if deployed else self._group["Migrate"] or MIGRATE_DEFAULT
        if limits and limits["HealthCheck"] != "manual":
            self._health = _Health(self._client, self._row, limits, self.tasks, self._checks, told=deployed)

    def _look_at_health(self) -> None:
        health = self._health
        if health is not None:
            health.look()

    def _changed(self) -> None:
        """A task changed: report, start what may start now, stop what has to."""
        with self._client.state.write("allocs") as index:
            row = self._row
            row["TaskStates"] = {task.name: dict(task.state) for task in self.tasks}
            was_over = is_client_terminal(row)
            status, description = client_status([task.state for task in self.tasks])
            if status != row["ClientStatus"]:
                row["ClientStatus"], row["ClientDescription"] = status, description
            row["ModifyIndex"], row["ModifyTime"] = index, now_nanos()
            publish_allocation(self._client.state, row, index, "AllocationUpdated")
            key = (row["Namespace"], row["JobID"])
            if is_client_terminal(row) and not was_over:
                row["_finished_at"] = now_nanos()
                # A system job has no reschedule policy: Nomad does not look at it because an allocation has failed.
                if status == "failed" and eligible(row, self._group["ReschedulePolicy"], now_nanos()):
                    self._client.scheduler.evaluate(key, "alloc-failure", index)
            self._client.state.refresh_status(key, index)
        self._look_at_health()
        self._advance()

    def _advance(self) -> None:
        """Start tasks whose turn it is; end the others when a task failed or the main ones are done."""
        begin: list[TaskRunner] = []
        end: list[tuple[TaskRunner, Json | None]] = []
        with self._client.state.lock:
            if not self._stopping:
                begin, end = self._next_steps()
                self._started.update(task.name for task in begin)
        for task in begin:
            task.start()
        for task, why in end:
            task.kill(why)

    def _next_steps(self) -> tuple[list[TaskRunner], list[tuple[TaskRunner, Json | None]]]:
        def idle(task: TaskRunner) -> bool:
            return task.name not in self._started and task.state["State"] == "pending"

        failed = next((task for task in self.tasks if task.state["Failed"]), None)
        main = [task for task in self.tasks if not task.hook]
        if failed is not None:
            end: list[tuple[TaskRunner, Json | None]] = []
            for task in self.tasks:
                if idle(task):
                    task.state["State"] = "dead"
                elif task.state["State"] != "dead":
                    text = f'Task\'s sibling "{failed.name}" failed'
                    end.append((task, event("Sibling Task Failed", text, FailedSibling=failed.name)))
            return [], end
        prestart = [task for task in self.tasks if task.hook == "prestart"]
        begin = [task for task in prestart if idle(task)]
        gate = all(
            task.state["State"] == "running" if task.sidecar else task.state["State"] == "dead" for task in prestart
        )
        if gate:
            begin += [task for task in main if idle(task)]
        if gate and all(task.state["State"] != "pending" or task.state["Restarts"] for task in main):
            begin += [task for task in self.tasks if task.hook == "poststart" and idle(task)]
        over = all(task.state["State"] == "dead" for task in main)
        leader = any(task.task["Leader"] and task.state["State"] == "dead" for task in main)
        if not (over or leader):
            return begin, []
        rest = [task for task in self.tasks if task.state["State"] != "dead" and task.hook != "poststop"]
        if over and not rest:
            begin += [task for task in self.tasks if task.hook == "poststop" and idle(task)]
        return begin, [(task, None) for task in rest]


class _Health:
    """Decides once whether an allocation is healthy: all tasks up, and all checks passing where they count, for the
    minimum time in time. With `told` the tasks' events say why it is not."""

    def __init__(
        self, client: Client, row: Json, limits: Row, tasks: list[TaskRunner], checks: Checks, *, told: bool
    ) -> None:
        self._client, self._row, self._tasks, self._told = client, row, tasks, told
        self._checks = checks if limits["HealthCheck"] == "checks" else None
        self._minimum = limits["MinHealthyTime"] / 1e9
        self._limits = limits
        self._lock = threading.Lock()
        self._closed = False
        self._since: Timer | None = None
        self._deadline = client.timers.after(limits["HealthyDeadline"] / 1e9, self._late)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._deadline.cancel()
            if self._since is not None:
                self._since.cancel()

    def look(self) -> None:
        """Task states changed."""
        with self._lock:
            if self._closed:
                return
            failed = any(task.state["Failed"] for task in self._tasks)
            if not failed:
                up = all(self._up(task) for task in self._tasks)
                up = up and (self._checks is None or self._checks.pass_all)
                if up and self._since is None:
                    self._since = self._client.timers.after(self._minimum, self._healthy)
                elif not up and self._since is not None:
                    self._since.cancel()
                    self._since = None
        if failed:
            self._unhealthy("Unhealthy because of failed task")

    def _up(self, task: TaskRunner) -> bool:
        if task.hook == "poststop":
            return True
        if task.hook and not task.sidecar:
            return bool(task.state["State"] == "dead" and not task.state["Failed"])
        return bool(task.state["State"] == "running")

    def _healthy(self) -> None:
        if self._decide():
            self._client.deployments.set_health(self._row, True)

    def _late(self) -> None:
        late = f"by healthy_deadline of {format_duration(self._limits['HealthyDeadline'])}"
        if all(task.state["State"] == "running" for task in self._tasks):
            late = f"for min_healthy_time of {format_duration(self._limits['MinHealthyTime'])} {late}"
        self._unhealthy(f"Task not running {late}")

    def _unhealthy(self, why: str) -> None:
        if self._decide():
            with self._client.state.lock:
                for task in self._tasks if self._told else ():
                    add_event(task.state, event("Alloc Unhealthy", why, Message=why))
                self._row["TaskStates"] = {task.name: dict(task.state) for task in self._tasks}
            self._client.deployments.set_health(self._row, False)

    def _decide(self) -> bool:
        """Close; False when it was closed before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._deadline.cancel()
            if self._since is not None:
                self._since.cancel()
            return True
