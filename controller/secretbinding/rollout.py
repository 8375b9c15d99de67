"""How far the newest version of a job has come, as its deployments, allocations and children tell. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.desired.values import Observed
from secretbinding.job.marks import part_state
from secretbinding.job.targets import REGISTERED_TYPES
from secretbinding.ports import Json

_LIVE = ("pending", "running", "unknown")
_OVER = ("successful", "failed", "cancelled")


def is_live(allocation: Json) -> bool:
    """True when tasks of an allocation may be running; a client that is away (`unknown`) counts as running."""
    return allocation.get("ClientStatus") in _LIVE


def is_parent(job: Json) -> bool:
    """True for a periodic or parameterized job: it runs nothing itself, its children do."""
    return bool(job.get("Periodic") or job.get("ParameterizedJob"))


def deployment_of(observed: Observed) -> Json | None:
    """The deployment of the job's current version, None when it has none."""
    if observed.job is None:
        return None
    version = observed.job.get("Version")
    return next((item for item in observed.deployments if item.get("JobVersion") == version), None)


def is_active(deployment: Json | None) -> bool:
    """True while a deployment has not come to its end."""
    return deployment is not None and deployment.get("Status") not in _OVER


def waits_for_promotion(deployment: Json | None) -> bool:
    """True for a deployment that goes on only when somebody promotes it: each group with canaries has as many healthy
    ones as it wants. Nomad promotes by itself only where all groups with canaries ask for it."""
    if deployment is None or not is_active(deployment):
        return False
    groups: Mapping[str, Any] = deployment.get("TaskGroups") or {}
    waiting = [
        state for state in groups.values() if state and state.get("DesiredCanaries") and not state.get("Promoted")
    ]
    healthy = all(int(state.get("HealthyAllocs") or 0) >= int(state["DesiredCanaries"]) for state in waiting)
    return bool(waiting) and healthy and not all(state.get("AutoPromote") for state in waiting)


def superseded(observed: Observed) -> int | None:
    """The job version whose deployment was cancelled, before it had come through, for the one that is under way now;
    None when there is none."""
    current = deployment_of(observed)
    if not is_active(current):
        return None
    newest_first = sorted(observed.deployments, key=lambda item: int(item.get("CreateIndex") or 0), reverse=True)
    before = next((item for item in newest_first if item is not current), None)
    if before is None or before.get("Status") != "cancelled":
        return None
    return int(before.get("JobVersion") or 0)


def older_allocations(observed: Observed) -> Sequence[Json]:
    """The allocations that may be running and were made for an older version of the job."""
    if observed.job is None:
        return ()
    version = observed.job.get("Version")
    return [item for item in observed.allocations if is_live(item) and item.get("JobVersion") != version]


def older_children(observed: Observed) -> Sequence[Json]:
    """The children that have not ended and were made from what their parent said before it was registered last. Nomad's
    indexes tell: a child may be placed long after it was dispatched."""
    if observed.job is None:
        return ()
    registered = int(observed.job.get("JobModifyIndex") or 0)
    return [child for child in observed.children.values() if int(child.get("CreateIndex") or 0) <= registered]


def behind(observed: Observed) -> Sequence[Json]:
    """Of a job version for which Nomad makes no deployment (`max_parallel` 0, a system job that was reverted): the
    allocations of older versions that run and are meant to; empty where a deployment tells."""
    job = observed.job
    if job is None or deployment_of(observed) is not None or not _is_deployed(job):
        return ()
    return [
        item
        for item in older_allocations(observed)
        if item.get("DesiredStatus") == "run" and item.get("ClientStatus") in ("pending", "running")
    ]


def stuck(observed: Observed, instance: str) -> Sequence[Json]:
    """Of a system job that Nomad has stopped rolling half way: the allocations with another part of ours that have to
    make room for the newest version, and those of which nothing is left on their node.

    Once a deployment of a system job has failed, Nomad makes none for any later version until it forgets the failed one
    (after an hour); with `max_parallel` 0 it never does. It replaces as many allocations as one evaluation may then,
    and goes on only at the next one: nothing that runs is stuck until each allocation of the newest version is known
    to be healthy. And it looks at no system job because an allocation has failed, so that one of a version that was
    taken back while it started leaves its node empty.
    """
    job = observed.job
    if job is None or job.get("Type") != "system" or is_active(deployment_of(observed)):
        return ()
    late = behind(observed)
    newest = [
        item
        for item in observed.allocations
        if item.get("JobVersion") == job.get("Version") and item.get("DesiredStatus") == "run"
    ]
    if not newest or not all((item.get("DeploymentStatus") or {}).get("Healthy") for item in newest):
        late = ()
    parts = {version.get("Version"): part_state(version, instance) for version in observed.versions}
    ours = part_state(job, instance)
    return [item for item in [*late, *deserted(observed)] if parts.get(item.get("JobVersion")) != ours]


def deserted(observed: Observed) -> Sequence[Json]:
    """Of a system job: the newest allocation of each node on which none of any version runs any more, where it failed
    with an older version."""
    job = observed.job
    if job is None or job.get("Type") != "system" or job.get("Stop"):
        return ()
    meant = [item for item in observed.allocations if item.get("DesiredStatus") == "run"]
    busy = {item.get("NodeID") for item in meant if is_live(item) or item.get("JobVersion") == job.get("Version")}
    by_age = sorted(meant, key=lambda item: int(item.get("CreateIndex") or 0))
    last = {item.get("NodeID"): item for item in by_age}
    return [item for node, item in last.items() if node not in busy and item.get("ClientStatus") == "failed"]


def all_run(observed: Observed) -> bool:
    """True when every allocation that is meant to run does, with the newest version, and at least one does."""
    if observed.job is None or behind(observed) or deserted(observed):
        return False
    version = observed.job.get("Version")
    newest = [
        item
        for item in observed.allocations
        if item.get("JobVersion") == version and item.get("DesiredStatus") == "run"
    ]
    return bool(newest) and all(item.get("ClientStatus") == "running" for item in newest)


def broken(observed: Observed) -> Sequence[Json]:
    """Of such a job version: its allocations that failed, and that nothing took the place of."""
    job = observed.job
    if job is None or deployment_of(observed) is not None or not _is_deployed(job) or job.get("Stable"):
        return ()
    return [
        item
        for item in observed.allocations
        if item.get("JobVersion") == job.get("Version")
        and item.get("ClientStatus") == "failed"
        and item.get("DesiredStatus") == "run"
        and not item.get("NextAllocation")
    ]


def _is_deployed(job: Json) -> bool:
    return str(job.get("Type") or "service") in REGISTERED_TYPES and not job.get("Stop") and not is_parent(job)


def starting(observed: Observed, job: Json) -> Sequence[Json]:
    """The allocations of groups that `job` does not replace, as far as Nomad does not say yet that they run.

    Nomad updates such an allocation in place, and loses sight of one that comes up in that moment: it is never found
    healthy then, and the deployment fails at its deadline. Once it is said to run nothing is lost.
    """
    there = {group["Name"]: group for group in (observed.job or {}).get("TaskGroups") or []}
    unchanged = {
        group["Name"]
        for group in job.get("TaskGroups") or []
        if group["Name"] in there and _replacing(group) == _replacing(there[group["Name"]])
    }
    return [
        item
        for item in observed.allocations
        if item.get("TaskGroup") in unchanged
        and item.get("ClientStatus") == "pending"
        and item.get("DesiredStatus") == "run"
    ]


def _replacing(group: Json) -> list[Any]:
    """What of a group we may change, and by which its allocations are replaced."""
    return [
        [task.get("Name"), task.get("Templates") or [], task.get("Vault"), task.get("Identities") or []]
        for task in group.get("Tasks") or []
    ]
