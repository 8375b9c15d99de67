"""What must happen so that a system or sysbatch job runs on every node that takes it: pure, one job at a time.

The rules are those of Nomad 2.0's scheduler for such jobs, peculiar ones included: a deployment that has failed is not
followed by another one as long as it is remembered, and does not keep its version from being rolled further.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secretbinding.devstack.simulator.changes import destructive
from secretbinding.devstack.simulator.reconcile import (
    ACTIVE,
    NOT_NEEDED,
    UPDATING,
    Placement,
    Plan,
    new_group_state,
    no_counts,
)
from secretbinding.devstack.simulator.state import is_terminal

Json = dict[str, Any]
Row = Mapping[str, Any]

TAINTED = "alloc not needed as node is tainted"
_HELD = ("paused", "pending", "initializing")


def reconcile_nodes(job: Row, allocations: Iterable[Json], latest: Row | None, nodes: Sequence[Row]) -> Plan:
    """Compute the plan. `latest` is the job's latest deployment, `nodes` are all of the cluster."""
    plan = Plan()
    current = latest
    if latest is not None and latest["Status"] in ACTIVE:
        if job["Stop"]:
            plan.cancel_deployment = "Cancelled because job is stopped"
        elif latest["JobVersion"] != job["Version"] or latest["JobCreateIndex"] != job["CreateIndex"]:
            plan.cancel_deployment = "Cancelled due to newer version of job"
        current = None if plan.cancel_deployment else latest
    if current is not None and current["Status"] == "successful":
        current = None
    rows = [row for row in allocations if row["DesiredStatus"] in ("run", "stop")]
    groups = {} if job["Stop"] else {group["Name"]: group for group in job["TaskGroups"] if group["Count"] > 0}
    complete = True
    for name in dict.fromkeys([*groups, *(row["TaskGroup"] for row in rows)]):
        own = [row for row in rows if row["TaskGroup"] == name]
        done = _Group(plan, job, name, groups.get(name), own, latest, current, nodes).run()
        complete = done and complete
    ours = current is not None and current["JobVersion"] == job["Version"]
    plan.complete = bool(ours and current is not None and current["Status"] in ACTIVE and complete)
    return plan


class _Group:
    """The computation for one group."""

    def __init__(
        self,
        plan: Plan,
        job: Row,
        name: str,
        group: Row | None,
        rows: list[Json],
        latest: Row | None,
        current: Row | None,
        nodes: Sequence[Row],
    ) -> None:
        self.plan, self.job, self.name, self.group = plan, job, name, group
        self.latest, self.current = latest, current
        self.ready = {node["ID"] for node in nodes if node["SchedulingEligibility"] == "eligible"}
        self.live = [row for row in rows if not is_terminal(row)]
        self.ended = [row for row in rows if is_terminal(row)]
        self.counts = plan.counts.setdefault(name, no_counts())
        self.kept: list[Json] = []
        self.changed: list[Json] = []
        self.empty: list[tuple[str, Json | None]] = []

    def run(self) -> bool:
        """Fill the plan; True when a deployment has nothing more to do here."""
        if self.group is None:
            for row in self.live:
                self._stop(row, NOT_NEEDED)
            return True
        self._sort()
        state = self.current["TaskGroups"].get(self.name) if self.current is not None else None
        replace = [row for row in self.changed if destructive(row["Job"], self.job, self.name)]
        inplace = [row for row in self.changed if row not in replace]
        inplace = [row for row in inplace if not is_terminal(row)]
        self.plan.inplace += inplace
        self.counts["InPlaceUpdate"] += len(inplace)
        candidates = len(self.kept) + len(self.changed) + len(self.empty)
        if state is None:
            state = self._begin(candidates)
        promoted = bool(state is not None and state["Promoted"])
        update = self.group["Update"]
        canarying = bool(
            state is not None and update and update["Canary"] > 0 and not promoted and self.job["Version"] and replace
        )
        canaries = [row for row in self.kept if (row["DeploymentStatus"] or {}).get("Canary")]
        wanted = len(canaries)
        if canarying:
            share = math.ceil(update["Canary"] * (len(replace) + len(canaries)) / 100)
            wanted = min(share, update["MaxParallel"])
            self.plan.desired_canaries[self.name] = wanted
        now = replace[: max(wanted - len(canaries), 0) if canarying else self._room(len(self.changed))]
        for row in now:
            self._stop(row, UPDATING, count="DestructiveUpdate")
            self._place(row["NodeID"], row, canary=canarying)
        self.counts["Canary"] += len(now) if canarying else 0
        self.counts["Ignore"] += len(replace) - len(now)
        for node, previous in self.empty:
            self._place(node, previous)
        self.counts["Place"] += len(self.empty)
        if state is None:
            return True
        self.plan.desired_totals[self.name] = candidates
        waits = state["DesiredCanaries"] > 0 and not promoted
        return bool(not canarying and not waits and not self.changed and state["HealthyAllocs"] >= candidates)

    def _sort(self) -> None:
        """Which allocations stay, which are to be replaced, and which nodes have none."""
        changed = self.job["JobModifyIndex"]
        taken = set()
        for row in self.live:
            node = row["NodeID"]
            taken.add(node)
            if row["DesiredTransition"]["Migrate"]:
                self._stop(row, TAINTED, count="Migrate")
            elif row["Job"]["JobModifyIndex"] == changed:
                self._keep(row)
            elif node not in self.ready:
                self._stop(row, NOT_NEEDED)
            else:
                self.changed.append(row)
        for node in self.ready - taken:
            before = [row for row in self.ended if row["NodeID"] == node]
            previous = max(before, key=lambda row: int(row["CreateIndex"]), default=None)
            if self.job["Type"] == "sysbatch" and previous is not None:
                if previous["Job"]["JobModifyIndex"] != changed:
                    self.changed.append(previous)
                else:
                    self._keep(previous)
                continue
            self.empty.append((node, previous))

    def _keep(self, row: Json) -> None:
        self.kept.append(row)
        self.counts["Ignore"] += 1

    def _begin(self, total: int) -> Json | None:
        """The group's part of a new deployment, or of the one that another group has begun; None when there is none."""
        assert self.group is not None
        update = self.group["Update"]
        if self.current is not None and self.current["Status"] in (*_HELD, "failed"):
            return None
        if not update or update["MaxParallel"] == 0 or self.job["Type"] == "sysbatch":
            return None
        if self.latest is not None and self.latest["Status"] == "successful" and self._is_ours(self.latest):
            return None
        had = any(row["Job"]["Version"] == self.job["Version"] for row in [*self.live, *self.ended])
        if had and not self.changed:
            return None
        state = new_group_state(update, total, 0)
        self.plan.new_groups[self.name] = state
        return state

    def _is_ours(self, deployment: Row) -> bool:
        same = deployment["JobVersion"] == self.job["Version"]
        return bool(same and deployment["JobCreateIndex"] == self.job["CreateIndex"])

    def _room(self, changed: int) -> int:
        """How many may be replaced now."""
        assert self.group is not None
        update = self.group["Update"]
        of_job = int(self.job["Update"]["MaxParallel"]) or changed
        room = int(update["MaxParallel"]) if update and update["MaxParallel"] > 0 else of_job
        if self.current is not None:
            starting = [
                row
                for row in self.kept
                if row["DeploymentID"] == self.current["ID"] and (row["DeploymentStatus"] or {}).get("Healthy") is None
            ]
            room -= len(starting)
        return max(room, 0)

    def _stop(self, row: Json, why: str, *, count: str = "Stop") -> None:
        self.plan.stop.append((row, why))
        self.counts[count] += 1

    def _place(self, node: str, previous: Json | None, *, canary: bool = False) -> None:
        name = f"{self.job['ID']}.{self.name}[0]"
        self.plan.place.append(Placement(name, self.name, self.job, previous=previous, canary=canary, node=node))
