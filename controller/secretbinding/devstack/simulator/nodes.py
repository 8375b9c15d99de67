"""Nodes: which of them take allocations, and what a drain moves away from one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from secretbinding.devstack.simulator.state import JobKey, State, is_client_terminal, is_terminal, now_nanos
from secretbinding.devstack.simulator.timers import Timers

if TYPE_CHECKING:
    from secretbinding.devstack.simulator.scheduler import Scheduler

Json = dict[str, Any]
Row = Mapping[str, Any]

_LOOK_SECONDS = 0.1


class Nodes:
    """All changes of nodes. The methods take the state's lock."""

    def __init__(self, state: State, timers: Timers, scheduler: "Scheduler") -> None:
        self._state = state
        self._timers = timers
        self._scheduler = scheduler

    def set_eligibility(self, node: Json, eligible: bool) -> tuple[int, list[str]]:
        """Let a node take allocations or not; returns index and evaluations."""
        with self._state.write("nodes", "evals") as index:
            node.update(SchedulingEligibility="eligible" if eligible else "ineligible", ModifyIndex=index)
            return index, self._evaluate_all(index) if eligible else []

    def drain(self, node: Json, spec: Row | None, *, eligible: bool) -> tuple[int, list[str]]:
        """Begin a drain, or end it with `spec` None; then the node takes allocations again if `eligible`."""
        with self._state.write("nodes", "evals") as index:
            if spec is None:
                node.update(Drain=False, DrainStrategy=None, ModifyIndex=index)
                if eligible:
                    node["SchedulingEligibility"] = "eligible"
                return index, self._evaluate_all(index) if eligible else []
            deadline = int(spec.get("Deadline") or 0)
            strategy = {
                "Deadline": deadline,
                "IgnoreSystemJobs": bool(spec.get("IgnoreSystemJobs")),
                "_force_at": now_nanos() + max(deadline, 0) if deadline else 0,
            }
            node.update(Drain=True, DrainStrategy=strategy, SchedulingEligibility="ineligible", ModifyIndex=index)
            self._timers.after(0, self._look)
            return index, []

    def _evaluate_all(self, index: int) -> list[str]:
        """Whatever has waited for a place, or wants one on every node."""
        evaluations = []
        for key, job in list(self._state.jobs.items()):
            if not job["Stop"] and job["Periodic"] is None and job["ParameterizedJob"] is None:
                evaluations.append(str(self._scheduler.evaluate(key, "node-update", index)["ID"]))
        return evaluations

    def _look(self) -> None:
        """Move away what may be moved now; again after a moment while a node is drained."""
        with self._state.lock:
            draining = [node for node in self._state.nodes.values() if node["DrainStrategy"] is not None]
            for node in draining:
                self._drain_further(node)
            if draining:
                self._timers.after(_LOOK_SECONDS, self._look)

    def _drain_further(self, node: Json) -> None:
        strategy = node["DrainStrategy"]
        here = [row for row in self._state.allocations.values() if row["NodeID"] == node["ID"]]
        late = bool(strategy["_force_at"]) and now_nanos() >= strategy["_force_at"]
        others = [row for row in here if row["Job"]["Type"] != "system" and not is_client_terminal(row)]
        system = [row for row in here if row["Job"]["Type"] == "system" and not is_terminal(row)]
        if strategy["IgnoreSystemJobs"]:
            system = []
        if others and not late:
            for key in {(row["Namespace"], row["JobID"]) for row in others}:
                self._move(self._movable(key, node))
            return
        self._move([*(row for row in others if not is_terminal(row)), *system])
        if not others:
            with self._state.write("nodes") as index:
                when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                node.update(Drain=False, DrainStrategy=None, ModifyIndex=index)
                node["LastDrain"] = {"Meta": None, "StartedAt": when, "Status": "complete", "UpdatedAt": when}

    def _movable(self, key: JobKey, node: Row) -> list[Json]:
        """Allocations of a job that may leave the node now: as many as its `migrate` block lets be missing."""
        job = self._state.jobs.get(key)
        found: list[Json] = []
        for group in (job or {}).get("TaskGroups") or []:
            rows = [
                row
                for one in self._state.allocations_by_job.get(key, [])
                if (row := self._state.allocations[one])["TaskGroup"] == group["Name"]
            ]
            migrate = group["Migrate"]
            if migrate is None or job is None or job["Type"] != "service":
                continue
            standing = [row for row in rows if not is_terminal(row) and not row["DesiredTransition"]["Migrate"]]
            healthy = sum(1 for row in standing if (row["DeploymentStatus"] or {}).get("Healthy") is not None)
            room = healthy - (group["Count"] - migrate["MaxParallel"])
            found += [row for row in standing if row["NodeID"] == node["ID"]][: max(room, 0)]
        return found

    def _move(self, rows: list[Json]) -> None:
        with self._state.write("allocs", "evals") as index:
            for row in rows:
                row["DesiredTransition"] = {**row["DesiredTransition"], "Migrate": True}
                row["ModifyIndex"] = index
            for key in {(row["Namespace"], row["JobID"]) for row in rows}:
                self._scheduler.evaluate(key, "node-drain", index)


def public_node(node: Row) -> Json:
    """A copy without the simulator's own fields."""
    strategy = node["DrainStrategy"]
    shown = None if strategy is None else {name: value for name, value in strategy.items() if not name.startswith("_")}
    return {**node, "DrainStrategy": shown}
