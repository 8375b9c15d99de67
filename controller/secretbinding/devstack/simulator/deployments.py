"""Deployments: health counts, progress deadlines, canary promotion, failing and reverting."""

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from secretbinding.devstack.simulator.changes import find, spec_changed
from secretbinding.devstack.simulator.reconcile import ACTIVE, Plan, current_deployment
from secretbinding.devstack.simulator.reschedule import eligible
from secretbinding.devstack.simulator.scheduler import publish_allocation
from secretbinding.devstack.simulator.state import JobKey, State, new_id, now_nanos, timestamp
from secretbinding.devstack.simulator.timers import Timer, Timers

if TYPE_CHECKING:
    from secretbinding.devstack.simulator.scheduler import Scheduler

Json = dict[str, Any]


class RefusedError(ValueError):
    """A request about a deployment that its state does not allow; the text is the answer's body."""


class Deployments:
    """All changes of deployments. Every method is called with the state's lock held or takes it."""

    def __init__(self, state: State, timers: Timers, scheduler: "Scheduler") -> None:
        self._state = state
        self._timers = timers
        self._scheduler = scheduler
        self._deadlines: dict[str, tuple[int, Timer]] = {}

    def latest(self, key: JobKey) -> Json | None:
        ids = self._state.deployments_by_job.get(key)
        return self._state.deployments[ids[-1]] if ids else None

    def prepare(self, job: Mapping[str, Any], latest: Json | None, plan: Plan, index: int) -> Json | None:
        """The deployment that the plan's allocations belong to: the running one, extended, or a new one."""
        deployment = self.latest_of(job, latest)
        if deployment is None and plan.new_groups:
            deployment = self._create(job, index)
        if deployment is None:
            return None
        deployment["TaskGroups"].update(plan.new_groups)
        for name, total in plan.desired_totals.items():
            if name in deployment["TaskGroups"]:
                deployment["TaskGroups"][name]["DesiredTotal"] = total
        for name, wanted in plan.desired_canaries.items():
            state = deployment["TaskGroups"].get(name)
            if state is not None:
                state["DesiredCanaries"] = wanted
        if deployment["Status"] == "running":
            waiting = [one for one in deployment["TaskGroups"].values() if _needs_promotion(one)]
            text = "Deployment is running"
            if waiting:
                text += (
                    " pending automatic promotion"
                    if all(one["AutoPromote"] for one in waiting)
                    else (" but requires manual promotion")
                )
            deployment["StatusDescription"] = text
        return deployment

    def latest_of(self, job: Mapping[str, Any], latest: Json | None) -> Json | None:
        return latest if latest is not None and current_deployment(job, latest) is not None else None

    def _create(self, job: Mapping[str, Any], index: int) -> Json:
        key = (job["Namespace"], job["ID"])
        now = now_nanos()
        deployment: Json = {
            "CreateIndex": index,
            "CreateTime": now,
            "EvalPriority": job["Priority"],
            "ID": new_id(),
            "IsMultiregion": False,
            "JobCreateIndex": job["CreateIndex"],
            "JobID": job["ID"],
            "JobModifyIndex": job["ModifyIndex"],
            "JobSpecModifyIndex": job["JobModifyIndex"],
            "JobVersion": job["Version"],
            "ModifyIndex": index,
            "ModifyTime": now,
            "Namespace": job["Namespace"],
            "Status": "running",
            "StatusDescription": "Deployment is running",
            "TaskGroups": {},
        }
        self._state.deployments[deployment["ID"]] = deployment
        self._state.deployments_by_job.setdefault(key, []).append(deployment["ID"])
        return deployment

    def placed(self, deployment: Json, row: Mapping[str, Any], index: int) -> None:
        """Count an allocation that became part of the deployment."""
        state = deployment["TaskGroups"][row["TaskGroup"]]
        state["PlacedAllocs"] += 1
        if (row["DeploymentStatus"] or {}).get("Canary"):
            state["PlacedCanaries"] = [*(state["PlacedCanaries"] or []), row["ID"]]
        if state["ProgressDeadline"] and state["RequireProgressBy"] is None:
            state["_require"] = now_nanos() + state["ProgressDeadline"]
            state["RequireProgressBy"] = timestamp(state["_require"])
        deployment["ModifyIndex"] = index

    def changed(self, deployment: Json, index: int, kind: str) -> None:
        """Publish, and plan the next deadline anew."""
        deployment["ModifyIndex"] = index
        deployment["ModifyTime"] = now_nanos()
        self._state.publish(
            index,
            "Deployment",
            kind,
            deployment["ID"],
            deployment["Namespace"],
            {"Deployment": public(deployment)},
            [deployment["JobID"]],
        )
        self._arm(deployment)

    def finish(self, deployment: Json, status: str, description: str, index: int) -> None:
        """Give the deployment its last status; a successful one makes its job version stable."""
        deployment.update(Status=status, StatusDescription=description)
        key = (deployment["Namespace"], deployment["JobID"])
        if status == "successful" and key in self._state.jobs:
            self._state.replace_version(key, deployment["JobVersion"], {"Stable": True, "ModifyIndex": index})
            self._state.touch(index, "jobs")
            self._state.publish(index, "Job", "DeploymentStatusUpdate", key[1], key[0], {"Job": self._state.jobs[key]})
        self.changed(deployment, index, "DeploymentStatusUpdate")

    def forget(self, deployment: Json) -> None:
        """The deployment is deleted: nothing is due any more."""
        deployment.update(Status="cancelled", StatusDescription="Cancelled because job is stopped")
        self._arm(deployment)

    # -- health ----------------------------------------------------------------------------------------------------

    def set_health(self, row: Json, healthy: bool) -> None:
        """The client found an allocation healthy or unhealthy."""
        state = self._state
        with state.write("allocs", "deployment", "evals") as index:
            before = row["DeploymentStatus"] or {"Canary": False}
            if before.get("Healthy") is healthy:
                return
            row["DeploymentStatus"] = {
                "Canary": before["Canary"],
                "Healthy": healthy,
                "ModifyIndex": index,
                "Timestamp": timestamp(now_nanos()),
            }
            row["ModifyIndex"] = index
            publish_allocation(state, row, index, "AllocationUpdated")
            deployment = state.deployments.get(row["DeploymentID"])
            if deployment is None or row["TaskGroup"] not in deployment["TaskGroups"]:
                return
            group = deployment["TaskGroups"][row["TaskGroup"]]
            if before.get("Healthy") is not None:
                group["HealthyAllocs" if before["Healthy"] else "UnhealthyAllocs"] -= 1
            group["HealthyAllocs" if healthy else "UnhealthyAllocs"] += 1
            if healthy and group["ProgressDeadline"]:
                group["_require"] = now_nanos() + group["ProgressDeadline"]
                group["RequireProgressBy"] = timestamp(group["_require"])
            if deployment["Status"] not in ACTIVE:
                return
            self._react(deployment, group, row, healthy, index)

    def _react(self, deployment: Json, group: Json, row: Json, healthy: bool, index: int) -> None:
        key = (deployment["Namespace"], deployment["JobID"])
        job = self._state.jobs.get(key)
        if not healthy and job is not None:
            spec = find(job["TaskGroups"], row["TaskGroup"])
            policy = spec["ReschedulePolicy"] if spec else None
            if not group["ProgressDeadline"] or not eligible(row, policy, now_nanos()):
                self._fail(deployment, "Failed due to unhealthy allocations", group["AutoRevert"], index)
                return
            row["DesiredTransition"]["Reschedule"] = True
        if healthy and self._all_canaries_healthy(deployment):
            self._promote(deployment["TaskGroups"].values(), index)
            deployment["StatusDescription"] = "Deployment is running"
        self.changed(deployment, index, "AllocationUpdated")
        self._scheduler.evaluate(key, "deployment-watcher", index, DeploymentID=deployment["ID"])

    def _all_canaries_healthy(self, deployment: Json) -> bool:
        groups = [one for one in deployment["TaskGroups"].values() if one["DesiredCanaries"] > 0]
        return any(not one["Promoted"] for one in groups) and all(
            one["AutoPromote"] and self._healthy_canaries(one) >= one["DesiredCanaries"] for one in groups
        )

    def _healthy_canaries(self, group: Mapping[str, Any]) -> int:
        rows = [self._state.allocations[one] for one in group["PlacedCanaries"] or () if one in self._state.allocations]
        return sum(1 for row in rows if (row["DeploymentStatus"] or {}).get("Healthy"))

    # -- deadlines -------------------------------------------------------------------------------------------------

    def _arm(self, deployment: Json) -> None:
        waiting = (
            []
            if deployment["Status"] not in ACTIVE
            else [
                one["_require"]
                for one in deployment["TaskGroups"].values()
                if one.get("_require") and not self._group_done(deployment, one)
            ]
        )
        planned = self._deadlines.get(deployment["ID"])
        due = min(waiting, default=0)
        if planned is not None and planned[0] == due:
            return
        if planned is not None:
            planned[1].cancel()
            del self._deadlines[deployment["ID"]]
        if due:
            timer = self._timers.after((due - now_nanos()) / 1e9, lambda: self._deadline(deployment))
            self._deadlines[deployment["ID"]] = (due, timer)

    def _group_done(self, deployment: Mapping[str, Any], group: Mapping[str, Any]) -> bool:
        if _needs_promotion(group):
            return self._healthy_canaries(group) >= int(group["DesiredCanaries"])
        return bool(group["HealthyAllocs"] >= group["DesiredTotal"])

    def _deadline(self, deployment: Json) -> None:
        with self._state.write("deployment", "evals", "jobs") as index:
            self._deadlines.pop(deployment["ID"], None)
            if deployment["Status"] not in ACTIVE or deployment["Status"] == "paused":
                return
            behind = [one for one in deployment["TaskGroups"].values() if not self._group_done(deployment, one)]
            if behind:
                revert = any(one["AutoRevert"] for one in behind)
                self._fail(deployment, "Failed due to progress deadline", revert, index)

    def _fail(self, deployment: Json, description: str, revert: bool, index: int) -> int | None:
        """Fail, and go back to the newest stable version where asked; returns that version."""
        key = (deployment["Namespace"], deployment["JobID"])
        job = self._state.jobs.get(key)
        target = None
        if revert and job is not None:
            target = next((one for one in self._state.versions[key] if one["Stable"]), None)
            if target is None:
                description += " - no stable job version to auto revert to"
            elif spec_changed(job, target):
                description += f" - rolling back to job version {target['Version']}"
            else:
                version = target["Version"]
                description += (
                    f" - not rolling back to stable job version {version} as current job has same specification"
                )
                target = None
        self.finish(deployment, "failed", description, index)
        if target is not None:
            submission = self._state.submissions.get((*key, target["Version"]))
            self._state.put_job(copy.deepcopy(target), index, submission, copied=True)
            self._state.publish(index, "Job", "DeploymentStatusUpdate", key[1], key[0], {"Job": self._state.jobs[key]})
        self._scheduler.evaluate(key, "deployment-watcher", index, DeploymentID=deployment["ID"])
        return target["Version"] if target is not None else None

    # -- requests --------------------------------------------------------------------------------------------------

    def promote(self, deployment: Json, groups: list[str] | None = None) -> int:
        """Promote the canaries of the named groups, of all with None; returns the index. Raises `RefusedError` when it
        is over or not all of them are healthy."""
        if deployment["Status"] not in ACTIVE:
            raise RefusedError("can't promote terminal deployment")
        chosen = {
            name: group
            for name, group in deployment["TaskGroups"].items()
            if _needs_promotion(group) and (groups is None or name in groups)
        }
        if not chosen:
            raise RefusedError("no canaries to promote")
        for name, group in chosen.items():
            healthy = self._healthy_canaries(group)
            if healthy < group["DesiredCanaries"]:
                raise RefusedError(
                    f'1 error occurred:\n\t* Task group "{name}" has {healthy}/{group["DesiredCanaries"]} healthy '
                    "allocations\n\n"
                )
        with self._state.write("deployment", "allocs", "evals") as index:
            self._promote(chosen.values(), index)
            if not any(_needs_promotion(group) for group in deployment["TaskGroups"].values()):
                deployment["StatusDescription"] = "Deployment is running"
            self.changed(deployment, index, "DeploymentPromotion")
            key = (deployment["Namespace"], deployment["JobID"])
            self._scheduler.evaluate(key, "deployment-watcher", index, DeploymentID=deployment["ID"])
            return index

    def pause(self, deployment: Json, *, paused: bool) -> int:
        """Hold a deployment, or let it go on; returns the index. Raises `RefusedError` when it is over."""
        if deployment["Status"] not in ACTIVE:
            raise RefusedError(f"can't {'pause' if paused else 'resume'} terminal deployment")
        with self._state.write("deployment", "evals") as index:
            deployment["Status"] = "paused" if paused else "running"
            deployment["StatusDescription"] = "Deployment is paused" if paused else "Deployment is running"
            self.changed(deployment, index, "DeploymentStatusUpdate")
            if not paused:
                key = (deployment["Namespace"], deployment["JobID"])
                self._scheduler.evaluate(key, "deployment-watcher", index, DeploymentID=deployment["ID"])
            return index

    def set_health_by_hand(self, deployment: Json, healthy: list[str], unhealthy: list[str]) -> tuple[int, int | None]:
        """Say which allocations are healthy and which are not; returns the index, and the version that the job went
        back to. Raises `RefusedError` when it is over or one of them is not part of it."""
        if deployment["Status"] not in ACTIVE:
            raise RefusedError("can't set health of allocations for a terminal deployment")
        rows = {one: self._state.allocations.get(one) for one in (*healthy, *unhealthy)}
        for one, row in rows.items():
            if row is None or row["DeploymentID"] != deployment["ID"]:
                raise RefusedError(f'allocation "{one}" is not part of deployment "{deployment["ID"]}"')
        version = self._version(deployment)
        with self._state.write("allocs", "deployment", "evals") as index:
            for one, row in rows.items():
                if row is not None:
                    self.set_health(row, one in healthy)
            after = self._version(deployment)
            return index, after if after != version else None

    def _version(self, deployment: Mapping[str, Any]) -> int:
        job = self._state.jobs.get((deployment["Namespace"], deployment["JobID"]))
        return int(job["Version"]) if job is not None else -1

    def _promote(self, groups: Iterable[Json], index: int) -> None:
        for group in groups:
            if group["DesiredCanaries"] > 0:
                group["Promoted"] = True
                for one in group["PlacedCanaries"] or ():
                    row = self._state.allocations[one]
                    row["DeploymentStatus"] = {**row["DeploymentStatus"], "Canary": False, "ModifyIndex": index}

    def fail_by_user(self, deployment: Json) -> tuple[int, int | None]:
        """Mark as failed on request. Raises `RefusedError` when it is over. Returns index and reverted version."""
        if deployment["Status"] not in ACTIVE:
            raise RefusedError("can't fail terminal deployment")
        revert = any(one["AutoRevert"] for one in deployment["TaskGroups"].values())
        with self._state.write("deployment", "evals", "jobs") as index:
            return index, self._fail(deployment, "Deployment marked as failed", revert, index)


def _needs_promotion(group: Mapping[str, Any]) -> bool:
    return bool(group["DesiredCanaries"] > 0 and not group["Promoted"])


def public(deployment: Mapping[str, Any]) -> Json:
    """A copy without the simulator's own fields."""
    result = dict(deployment)
    result["TaskGroups"] = {
        name: {field: value for field, value in group.items() if not field.startswith("_")}
        for name, group in deployment["TaskGroups"].items()
    }
    return result
