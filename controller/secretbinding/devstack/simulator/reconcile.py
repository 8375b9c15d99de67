"""What must happen so that a job's allocations become what the job says: pure, one job at a time.

The rules are those of Nomad's scheduler for service and batch jobs: rolling updates within `MaxParallel`, canaries,
deployments, rescheduling of what failed, moving what a drain sends away. Jobs that run on every node have a module of
their own (`reconcile_nodes`). A `plan` and a real evaluation ask the same function.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.devstack.simulator.changes import destructive, find
from secretbinding.devstack.simulator.durations import SECOND
from secretbinding.devstack.simulator.reschedule import next_reschedule
from secretbinding.devstack.simulator.state import is_client_terminal, is_terminal

Json = dict[str, Any]
Row = Mapping[str, Any]

NOT_NEEDED = "alloc not needed due to job update"
UPDATING = "alloc is being updated due to job update"
MIGRATING = "alloc is being migrated"
ACTIVE = ("running", "paused", "pending", "blocked", "unblocking", "initializing")
_WINDOW = SECOND


@dataclass(slots=True)
class Placement:
    """An allocation to make. `job` is an older version where a canary deployment must keep what was there; `node` is
    the node's ID where only that one will do."""

    name: str
    group: str
    job: Row
    previous: Json | None = None
    canary: bool = False
    rescheduled: bool = False
    node: str = ""


@dataclass(slots=True)
class Plan:
    """The outcome. Allocations are rows of the state; counts by group are what `plan` shows.

    `desired_canaries` and `desired_totals` are new figures for groups of the deployment that is there.
    """

    place: list[Placement] = field(default_factory=list)
    stop: list[tuple[Json, str]] = field(default_factory=list)
    inplace: list[Json] = field(default_factory=list)
    followups: list[tuple[Json, int]] = field(default_factory=list)
    cancel_deployment: str = ""
    new_groups: dict[str, Json] = field(default_factory=dict)
    desired_canaries: dict[str, int] = field(default_factory=dict)
    desired_totals: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    counts: dict[str, Json] = field(default_factory=dict)


def no_counts() -> Json:
    names = (
        "Canary DestructiveUpdate Disconnect Ignore InPlaceUpdate Migrate Place Preemptions Reconnect RescheduleLater "
        "RescheduleNow Stop"
    )
    return dict.fromkeys(names.split(), 0)


def current_deployment(job: Row, latest: Row | None) -> Row | None:
    """The latest deployment when it is about this version of the job and not yet done."""
    if latest is None or job["Stop"] or latest["Status"] == "successful":
        return None
    same = latest["JobVersion"] == job["Version"] and latest["JobCreateIndex"] == job["CreateIndex"]
    return latest if same else None


def reconcile(job: Row, allocations: Iterable[Json], latest: Row | None, *, now: int, evaluation: str) -> Plan:
    """Compute the plan. `latest` is the job's latest deployment, `evaluation` the ID of the asking evaluation."""
    plan = Plan()
    current = current_deployment(job, latest)
    if latest is not None and current is None and latest["Status"] in ACTIVE:
        plan.cancel_deployment = (
            "Cancelled because job is stopped" if job["Stop"] else "Cancelled due to newer version of job"
        )
    by_group: dict[str, list[Json]] = {group["Name"]: [] for group in job["TaskGroups"]}
    for allocation in allocations:
        by_group.setdefault(allocation["TaskGroup"], []).append(allocation)
    complete = True
    for name, rows in by_group.items():
        group = None if job["Stop"] else find(job["TaskGroups"], name)
        complete = _Group(plan, job, name, group, rows, latest, current, now, evaluation).run() and complete
    plan.complete = current is not None and complete
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
        now: int,
        evaluation: str,
    ) -> None:
        self.plan, self.job, self.name, self.group = plan, job, name, group
        self.latest, self.current, self.now, self.evaluation = latest, current, now, evaluation
        self.batch = job["Type"] in ("batch", "sysbatch")
        self.counts = plan.counts.setdefault(name, no_counts())
        self.rows = [row for row in rows if row["DesiredStatus"] == "run"]

    def run(self) -> bool:
        """Fill the plan; True when a deployment has nothing more to do here."""
        if self.group is None or self.group["Count"] == 0:
            self._stop([row for row in self.rows if not is_client_terminal(row)], NOT_NEEDED)
            return True
        group = self.group
        if self.batch:
            old = [row for row in self.rows if is_terminal(row) and row["Job"]["Version"] != self.job["Version"]]
            self._drop(old)
            self.counts["Ignore"] += len(old)
        state = self.current["TaskGroups"].get(self.name) if self.current else None
        canaries = self._canaries()
        migrate = [row for row in self.rows if row["DesiredTransition"]["Migrate"] and not is_client_terminal(row)]
        self._drop(migrate)
        untainted, again, later = self._reschedulable()
        self.plan.followups += later
        canarying = bool(state and state["DesiredCanaries"] and not state["Promoted"])
        untainted = self._stop_extra(untainted, migrate, canaries, canarying)
        replace, inplace = self._updates(untainted)
        if canarying:
            untainted = [row for row in untainted if row not in canaries]
        promoted = bool(state and state["Promoted"])
        update = group["Update"]
        want_canaries = bool(update and replace and len(canaries) < update["Canary"] and not promoted)
        if want_canaries:
            self._place_canaries(replace, canaries)
            canarying = True
        failed = self.current is not None and self.current["Status"] == "failed"
        paused = self.current is not None and self.current["Status"] in ("paused", "pending", "initializing")
        room = self._room(untainted, [*replace, *migrate], paused or failed or canarying)
        place = self._placements(untainted, again, migrate, canarying)
        total = len(replace) + len(inplace) + len(place)
        self._apply(place, again, replace, room, ready=not (paused or failed or canarying), failed=failed)
        self._migrations(migrate, canarying)
        self._deployment(state, total, replace, inplace, want_canaries)
        busy = replace or inplace or again or later or migrate or want_canaries or self.plan_places()
        if busy:
            return False
        if state is None:
            return True
        enough = state["HealthyAllocs"] >= max(state["DesiredTotal"], state["DesiredCanaries"])
        return bool(enough and not (state["DesiredCanaries"] and not state["Promoted"]))

    def plan_places(self) -> bool:
        return any(one.group == self.name for one in self.plan.place)

    def _stop(self, rows: list[Json], why: str) -> None:
        self.plan.stop += [(row, why) for row in rows]
        self.counts["Stop"] += len(rows)
        self._drop(rows)

    def _drop(self, rows: list[Json]) -> None:
        gone = {row["ID"] for row in rows}
        self.rows = [row for row in self.rows if row["ID"] not in gone]

    def _canaries(self) -> list[Json]:
        """Stop canaries of a deployment that is over; the running deployment's canaries come back."""
        over = self.latest if self.current is None or self.current["Status"] == "failed" else None
        unwanted: set[str] = set()
        if over is not None:
            for state in over["TaskGroups"].values():
                if not state["Promoted"]:
                    unwanted.update(state["PlacedCanaries"] or ())
        self._stop([row for row in self.rows if row["ID"] in unwanted], NOT_NEEDED)
        if self.current is None:
            return []
        placed = {one for state in self.current["TaskGroups"].values() for one in state["PlacedCanaries"] or ()}
        leaving = [row for row in self.rows if row["ID"] in placed and row["DesiredTransition"]["Migrate"]]
        # Another canary is made in its place.
        self.plan.stop += [(row, MIGRATING) for row in leaving]
        self._drop(leaving)
        return [row for row in self.rows if row["ID"] in placed]

    def _reschedulable(self) -> tuple[list[Json], list[Json], list[tuple[Json, int]]]:
        """(those that hold their place, those to reschedule now, those to reschedule later with the time)."""
        untainted, again, later = [], [], []
        for row in self.rows:
            status = row["ClientStatus"]
            if status not in ("failed", "lost") and (self.batch or status != "complete"):
                untainted.append(row)
            elif status == "failed" and not row["NextAllocation"]:
                when = self._when(row)
                if when is not None and (row["FollowupEvalID"] == self.evaluation or when - self.now <= _WINDOW):
                    again.append(row)
                else:
                    untainted.append(row)
                    if when is not None and not row["FollowupEvalID"]:
                        later.append((row, when))
        self.counts["RescheduleLater"] += len(later)
        return untainted, again, later

    def _when(self, row: Row) -> int | None:
        assert self.group is not None
        current = self.current
        held = current is not None and row["DeploymentID"] == current["ID"] and current["Status"] in ACTIVE
        if held and not row["DesiredTransition"]["Reschedule"]:
            return None
        return next_reschedule(row, self.group["ReschedulePolicy"], self.now)

    def _stop_extra(
        self, untainted: list[Json], migrate: list[Json], canaries: list[Json], canarying: bool
    ) -> list[Json]:
        assert self.group is not None
        working = [row for row in untainted if row not in canaries] if canarying else list(untainted)
        remove = len(working) + len(migrate) - self.group["Count"]
        for row in sorted(migrate, key=lambda one: index_of(one["Name"]), reverse=True):
            if remove > 0:
                self._stop([row], NOT_NEEDED)
                migrate.remove(row)
                remove -= 1
        if remove <= 0:
            return untainted
        taken = {row["Name"] for row in canaries}
        replaced = [] if canarying else [row for row in working if row not in canaries and row["Name"] in taken]
        rest = [row for row in working if row not in replaced]
        rest.sort(key=lambda row: (index_of(row["Name"]), row["CreateIndex"]), reverse=True)
        extra = (replaced + rest)[:remove]
        self._stop(extra, NOT_NEEDED)
        return [row for row in untainted if row not in extra]

    def _updates(self, untainted: list[Json]) -> tuple[list[Json], list[Json]]:
        replace, inplace = [], []
        for row in sorted(untainted, key=lambda one: index_of(one["Name"])):
            if row["Job"]["JobModifyIndex"] == self.job["JobModifyIndex"]:
                self.counts["Ignore"] += 1
            elif destructive(row["Job"], self.job, self.name):
                replace.append(row)
            elif is_client_terminal(row):
                self.counts["Ignore"] += 1
            else:
                inplace.append(row)
        self.plan.inplace += inplace
        self.counts["InPlaceUpdate"] += len(inplace)
        return replace, inplace

    def _place_canaries(self, replace: list[Json], canaries: list[Json]) -> None:
        assert self.group is not None
        wanted = self.group["Update"]["Canary"]
        self.plan.desired_canaries[self.name] = wanted
        if self.current is not None and self.current["Status"] in ("paused", "failed"):
            return
        missing = wanted - len(canaries)
        used = {row["Name"] for row in canaries}
        names = [row["Name"] for row in replace if row["Name"] not in used]
        names += [name for name in self._names(wanted + len(replace)) if name not in used and name not in names]
        self.counts["Canary"] += missing
        self.plan.place += [Placement(name, self.name, self.job, canary=True) for name in names[:missing]]

    def _room(self, untainted: list[Json], replace: list[Json], held: bool) -> int:
        """How many may be replaced now."""
        assert self.group is not None
        update = self.group["Update"]
        if not update or not any(update.values()) or update["MaxParallel"] == 0 or not replace:
            return int(self.group["Count"])
        if held:
            return 0
        room = int(update["MaxParallel"])
        if self.current is None:
            return room
        for row in untainted:
            if row["DeploymentID"] == self.current["ID"]:
                healthy = (row["DeploymentStatus"] or {}).get("Healthy")
                if healthy is False:
                    return 0
                room -= 0 if healthy else 1
        return max(room, 0)

    def _names(self, count: int) -> list[str]:
        return [f"{self.job['ID']}.{self.name}[{place}]" for place in range(count)]

    def _migrations(self, migrate: list[Json], canarying: bool) -> None:
        """What is sent away comes back elsewhere, as the newest version unless canaries hold that back."""
        self.counts["Migrate"] += len(migrate)
        for row in sorted(migrate, key=lambda one: index_of(one["Name"])):
            self.plan.stop.append((row, MIGRATING))
            job = row["Job"] if canarying else self.job
            self.plan.place.append(Placement(row["Name"], self.name, job, previous=row))

    def _placements(
        self, untainted: list[Json], again: list[Json], migrate: list[Json], canarying: bool
    ) -> list[Placement]:
        assert self.group is not None
        place = [
            Placement(
                row["Name"],
                self.name,
                row["Job"] if canarying and not _is_canary(row) else self.job,
                previous=row,
                canary=_is_canary(row),
                rescheduled=True,
            )
            for row in again
        ]
        missing = self.group["Count"] - len(untainted) - len(again) - len(migrate)
        used = {row["Name"] for row in [*untainted, *again, *migrate]}
        free = [name for name in self._names(self.group["Count"] + len(used)) if name not in used]
        return place + [Placement(name, self.name, self.job) for name in free[: max(missing, 0)]]

    def _apply(
        self, place: list[Placement], again: list[Json], replace: list[Json], room: int, *, ready: bool, failed: bool
    ) -> None:
        if not ready:
            for one in place:
                part = failed and one.previous is not None and one.previous["DeploymentID"] == self.current_id()
                if one.previous is not None and not part:
                    self.plan.place.append(one)
                    self.counts["Place"] += 1
                    self._stop([one.previous], "")
            self.counts["Ignore"] += len(replace)
            return
        self.plan.place += place
        self.counts["Place"] += len(place)
        self._stop(again, "")
        room -= min(len(place), room)
        now = replace[:room]
        for row in now:
            self.plan.stop.append((row, UPDATING))
            self.plan.place.append(Placement(row["Name"], self.name, self.job, previous=row))
        self.counts["DestructiveUpdate"] += len(now)
        self.counts["Ignore"] += len(replace) - len(now)

    def current_id(self) -> str:
        return str(self.current["ID"]) if self.current else ""

    def _deployment(
        self, state: Row | None, total: int, replace: list[Json], inplace: list[Json], canaries: bool
    ) -> None:
        """Ask for a deployment (or for this group's part of one) where the change is one that is deployed."""
        assert self.group is not None
        update = self.group["Update"]
        if state is not None or not update or update["MaxParallel"] == 0 or total == 0 or self.batch:
            return
        had_running = any(
            row["Job"]["Version"] == self.job["Version"] and row["Job"]["CreateIndex"] == self.job["CreateIndex"]
            for row in self.rows
        )
        if had_running and not replace and not inplace:
            return
        self.plan.new_groups[self.name] = new_group_state(update, total, update["Canary"] if canaries else 0)


def new_group_state(update: Row, total: int, canaries: int) -> Json:
    """A group's part of a deployment at its beginning."""
    return {
        "AutoPromote": update["AutoPromote"],
        "AutoRevert": update["AutoRevert"],
        "DesiredCanaries": canaries,
        "DesiredTotal": total,
        "HealthyAllocs": 0,
        "PlacedAllocs": 0,
        "PlacedCanaries": None,
        "ProgressDeadline": update["ProgressDeadline"],
        "Promoted": False,
        "RequireProgressBy": None,
        "UnhealthyAllocs": 0,
    }


def _is_canary(row: Row) -> bool:
    return bool((row["DeploymentStatus"] or {}).get("Canary"))


def index_of(name: str) -> int:
    """The index in an allocation's name, `job.group[3]`."""
    match = re.search(r"\[(\d+)\]$", name)
    return int(match[1]) if match else 0
