"""Evaluations: carries out what `reconcile` plans, one evaluation after another in a thread of its own."""

import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from secretbinding.devstack.simulator.changes import find
from secretbinding.devstack.simulator.ports import PortsTaken, networks_of
from secretbinding.devstack.simulator.reconcile import ACTIVE, Placement, Plan, reconcile
from secretbinding.devstack.simulator.reconcile_nodes import reconcile_nodes
from secretbinding.devstack.simulator.reschedule import delay, past
from secretbinding.devstack.simulator.state import (
    JobKey,
    State,
    is_terminal,
    new_id,
    now_nanos,
    timestamp,
)
from secretbinding.devstack.simulator.timers import Timers

if TYPE_CHECKING:
    from secretbinding.devstack.simulator.client import Client
    from secretbinding.devstack.simulator.deployments import Deployments

Json = dict[str, Any]


class Scheduler:
    """Processes evaluations. `enqueue` may be called with the state's lock held."""

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self._timers = timers
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._taken = PortsTaken()
        self._client: Client
        self._deployments: Deployments

    def start(self, client: "Client", deployments: "Deployments") -> None:
        self._client = client
        self._deployments = deployments
        self._thread.start()

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join(5.0)

    def enqueue(self, evaluation: Mapping[str, Any]) -> None:
        self._queue.put(evaluation["ID"])

    def evaluate(self, key: JobKey, trigger: str, index: int, **more: Any) -> Json:
        """A new evaluation of the job, put into the queue. Call within a `State.write()`."""
        job = self._state.jobs.get(key)
        evaluation = self._state.new_evaluation(key, job["Type"] if job else "service", trigger, index, **more)
        self.enqueue(evaluation)
        return evaluation

    def plan(self, job: Mapping[str, Any]) -> Plan:
        """What registering this version would do; nothing is changed."""
        key = (job["Namespace"], job["ID"])
        with self._state.lock:
            return self._reconcile(job, key, "dry-run")

    def _reconcile(self, job: Mapping[str, Any], key: JobKey, evaluation: str) -> Plan:
        latest = self._deployments.latest(key)
        if job["Type"] in ("system", "sysbatch"):
            return reconcile_nodes(job, self._rows(key), latest, list(self._state.nodes.values()))
        return reconcile(job, self._rows(key), latest, now=now_nanos(), evaluation=evaluation)

    def _rows(self, key: JobKey) -> list[Json]:
        return [self._state.allocations[one] for one in self._state.allocations_by_job.get(key, [])]

    def _run(self) -> None:
        while True:
            wanted = self._queue.get()
            if wanted is None:
                return
            self._process(wanted)

    def _process(self, wanted: str) -> None:
        state = self._state
        with state.lock:
            evaluation = state.evaluations.get(wanted)
            if evaluation is None or evaluation["Status"] != "pending":
                return
            key = (evaluation["Namespace"], evaluation["JobID"])
            job = state.jobs.get(key)
            if job is not None and (job["Periodic"] is not None or job["ParameterizedJob"] is not None):
                self._complete(evaluation, key, None)
                return
            if job is None:
                self._complete(evaluation, key, None)
                return
            plan = self._reconcile(job, key, evaluation["ID"])
            with state.write("allocs", "deployment", "evals") as index:
                self._apply(plan, key, job, evaluation, index)
            self._complete(evaluation, key, plan)

    def _apply(self, plan: Plan, key: JobKey, job: Mapping[str, Any], evaluation: Json, index: int) -> None:
        deployments = self._deployments
        latest = deployments.latest(key)
        if latest is not None and plan.cancel_deployment:
            deployments.finish(latest, "cancelled", plan.cancel_deployment, index)
        deployment = deployments.prepare(job, latest, plan, index)
        for row, why in plan.stop:
            row.update(DesiredStatus="stop", DesiredDescription=why, EvalID=evaluation["ID"])
            self._touched(row, index, "PlanResult")
            self._client.stop(row)
        for row in plan.inplace:
            row.update(Job=job, EvalID=evaluation["ID"])
            if deployment is not None and row["TaskGroup"] in deployment["TaskGroups"]:
                row.update(DeploymentID=deployment["ID"], DeploymentStatus=None)
                deployments.placed(deployment, row, index)
            self._touched(row, index, "PlanResult")
            self._client.updated(row)
        self._state.unplaced.discard(key)
        for placement in plan.place:
            node = self._state.nodes.get(placement.node) or self._choose(key)
            if node is None:
                # It is placed when a node takes allocations again: that evaluates every job anew.
                self._state.unplaced.add(key)
                continue
            row = self._place(placement, node, key, evaluation, deployment, index)
            if deployment is not None and row["DeploymentID"]:
                deployments.placed(deployment, row, index)
            self._touched(row, index, "PlanResult")
            self._client.start(row)
        for row, when in plan.followups:
            self._follow_up(row, when, key, evaluation, index)
        if deployment is not None:
            evaluation["DeploymentID"] = deployment["ID"]
            if plan.complete:
                deployments.finish(deployment, "successful", "Deployment completed successfully", index)
            deployments.changed(deployment, index, "PlanResult")

    def _choose(self, key: JobKey) -> Json | None:
        """The node with the fewest allocations of the job, then of all; None when no node takes any."""

        def load(node: Json) -> tuple[int, int]:
            here = [
                row for row in self._state.allocations.values() if row["NodeID"] == node["ID"] and not is_terminal(row)
            ]
            return sum(1 for row in here if (row["Namespace"], row["JobID"]) == key), len(here)

        return min(self._state.eligible_nodes(), key=load, default=None)

    def _place(
        self, placement: Placement, node: Json, key: JobKey, evaluation: Json, deployment: Json | None, index: int
    ) -> Json:
        now = now_nanos()
        previous = placement.previous
        part_of = (
            deployment is not None
            and placement.group in deployment["TaskGroups"]
            and deployment["Status"] in ACTIVE
            and placement.job["Version"] == deployment["JobVersion"]
        )
        group = find(placement.job["TaskGroups"], placement.group)
        row: Json = {
            "AllocModifyIndex": index,
            "AllocatedResources": _resources(group, self._taken),
            "ClientDescription": "",
            "ClientStatus": "pending",
            "CreateIndex": index,
            "CreateTime": now,
            "DeploymentID": deployment["ID"] if deployment is not None and part_of else "",
            "DeploymentStatus": None,
            "DesiredDescription": "",
            "DesiredStatus": "run",
            "DesiredTransition": {
                "ForceReschedule": None,
                "Migrate": None,
                "MigrateDisablePlacement": None,
                "NoShutdownDelay": None,
                "Reschedule": None,
            },
            "EvalID": evaluation["ID"],
            "FollowupEvalID": "",
            "ID": new_id(),
            "Job": placement.job,
            "JobID": key[1],
            "ModifyIndex": index,
            "ModifyTime": now,
            "Name": placement.name,
            "Namespace": key[0],
            "NextAllocation": "",
            "NodeID": node["ID"],
            "NodeName": node["Name"],
            "PreemptedAllocations": None,
            "PreemptedByAllocation": "",
            "PreviousAllocation": previous["ID"] if previous else "",
            "RescheduleTracker": None,
            "TaskGroup": placement.group,
            "TaskStates": None,
        }
        if placement.canary:
            row["DeploymentStatus"] = {
                "Canary": True,
                "Healthy": None,
                "ModifyIndex": index,
                "Timestamp": timestamp(0),
            }
        if previous is not None:
            before = self._state.allocations[previous["ID"]]
            before["NextAllocation"] = row["ID"]
            if placement.rescheduled:
                policy = group["ReschedulePolicy"]
                row["RescheduleTracker"] = {
                    "Events": [
                        *past(before),
                        {
                            "Delay": delay(before, policy),
                            "PrevAllocID": before["ID"],
                            "PrevNodeID": before["NodeID"],
                            "RescheduleTime": now,
                        },
                    ],
                    "LastReschedule": "ok",
                }
        self._state.allocations[row["ID"]] = row
        self._state.allocations_by_job.setdefault(key, []).append(row["ID"])
        return row

    def _follow_up(self, row: Mapping[str, Any], when: int, key: JobKey, evaluation: Json, index: int) -> None:
        later = self._state.new_evaluation(
            key,
            evaluation["Type"],
            "alloc-reschedule",
            index,
            StatusDescription="created for delayed rescheduling",
            WaitUntil=timestamp(when),
            PreviousEval=evaluation["ID"],
        )
        self._state.allocations[row["ID"]]["FollowupEvalID"] = later["ID"]
        self._timers.after((when - now_nanos()) / 1e9, lambda: self.enqueue(later))

    def _touched(self, row: Json, index: int, kind: str) -> None:
        row["ModifyIndex"] = row["AllocModifyIndex"] = index
        row["ModifyTime"] = now_nanos()
        publish_allocation(self._state, row, index, kind)

    def _complete(self, evaluation: Json, key: JobKey, plan: Plan | None) -> None:
        with self._state.write("evals") as index:
            evaluation.update(Status="complete", ModifyIndex=index, ModifyTime=now_nanos())
            if plan is not None:
                evaluation["QueuedAllocations"] = dict.fromkeys(plan.counts, 0)
                evaluation["PlanAnnotations"] = {"DesiredTGUpdates": plan.counts, "PreemptedAllocs": None}
            self._state.publish(
                index, "Evaluation", "EvaluationUpdated", evaluation["ID"], key[0], {"Evaluation": evaluation}, [key[1]]
            )
            self._state.refresh_status(key, index)


def publish_allocation(state: State, row: Mapping[str, Any], index: int, kind: str) -> None:
    """An allocation event; like Nomad's, it comes without the job."""
    payload = {name: value for name, value in row.items() if name != "Job" and not name.startswith("_")}
    state.publish(
        index,
        "Allocation",
        kind,
        row["ID"],
        row["Namespace"],
        {"Allocation": payload},
        [row["JobID"], row["DeploymentID"]],
    )


def _resources(group: Any, taken: PortsTaken) -> Json:
    networks, ports = networks_of(group, taken)
    return {
        "Shared": {"DiskMB": group["EphemeralDisk"]["SizeMB"], "Networks": networks, "Ports": ports},
        "TaskLifecycles": {task["Name"]: task["Lifecycle"] for task in group["Tasks"]},
        "Tasks": {
            task["Name"]: {
                "Cpu": {"CpuShares": task["Resources"]["CPU"], "ReservedCores": None},
                "Devices": None,
                "Memory": {"MemoryMB": task["Resources"]["MemoryMB"], "MemoryMaxMB": 0},
                "Networks": None,
            }
            for task in group["Tasks"]
        },
    }
