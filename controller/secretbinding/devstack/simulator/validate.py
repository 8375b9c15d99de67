"""What Nomad's server refuses about a job, in its own words (HTTP 500 with a nested list of faults)."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

from secretbinding.devstack.simulator.durations import SECOND, format_duration

Json = Mapping[str, Any]

_IDENTITY_NAME = re.compile(r"^[a-zA-Z0-9-_]{1,128}$")
_TYPES = ("service", "batch", "system", "sysbatch")


class InvalidJobError(ValueError):
    """The job breaks rules; the text is the answer's body, `faults` the same one by one."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(listed(faults))
        self.faults = faults


def listed(faults: Iterable[str]) -> str:
    """Faults as Go's multierror prints them; empty without any."""
    found = list(faults)
    if not found:
        return ""
    head = "1 error occurred:" if len(found) == 1 else f"{len(found)} errors occurred:"
    return head + "".join(f"\n\t* {fault}" for fault in found) + "\n\n"


def validate(job: Json, namespaces: Iterable[str]) -> None:
    """Raise `InvalidJobError` when Nomad would refuse to store this canonical job."""
    tasks = [task for group in job["TaskGroups"] or [] for task in group["Tasks"] or [] if task["Vault"] is not None]
    faults = _vault_faults([task["Vault"] for task in tasks])
    if job["Namespace"] not in namespaces:
        faults.append(f'job "{job["ID"]}" is in nonexistent namespace "{job["Namespace"]}"')
    faults += _job_faults(job)
    faults += _cluster_faults(tasks)
    if faults:
        raise InvalidJobError(faults)


def _vault_faults(vaults: list[Json]) -> list[str]:
    """The first that Nomad's check of the Vault blocks comes upon; it looks no further."""
    for vault in vaults:
        if vault["Cluster"] != "default":
            return [f'Vault "{vault["Cluster"]}" not enabled but used in the job']
    foreign = sorted({vault["Namespace"] for vault in vaults} - {""})
    if foreign:
        return [f"multiple Vault namespaces requires Nomad Enterprise, Namespaces: {', '.join(foreign)}"]
    return []


def _cluster_faults(tasks: list[Json]) -> list[str]:
    """Tasks with a Vault cluster of another name need an identity for it, since the agent provides none."""
    faults = []
    for task in tasks:
        cluster = task["Vault"]["Cluster"]
        needed = f"vault_{cluster}"
        if cluster != "default" and needed not in [identity["Name"] for identity in task["Identities"] or []]:
            faults.append(
                f"Task {task['Name']} uses Vault cluster {cluster} but does not have an identity named {needed} and no "
                "default identity is provided in agent configuration"
            )
    return faults


def _job_faults(job: Json) -> list[str]:
    faults = []
    if not job["ID"]:
        faults.append("Missing job ID")
    elif " " in job["ID"]:
        faults.append("Job ID contains a space")
    elif "\0" in job["ID"]:
        faults.append("Job ID contains a null character")
    if not job["Name"]:
        faults.append("Missing job name")
    if job["Type"] not in _TYPES:
        faults.append(f'Invalid job type: "{job["Type"]}"')
    groups = job["TaskGroups"] or []
    if not groups:
        faults.append("Missing job task groups")
    seen: dict[str, int] = {}
    for place, group in enumerate(groups, 1):
        name = group["Name"]
        if not name:
            faults.append(f"Job task group {place} missing name")
        elif name in seen:
            faults.append(f"Job task group {place} redefines '{name}' from group {seen[name]}")
        seen[name] = place
        if job["Type"] == "system" and group["Count"] > 1:
            faults.append(
                f"Job task group {name} has count {group['Count']}. Count cannot exceed 1 with system scheduler"
            )
    for group in groups:
        inner = listed(_group_faults(job, group))
        if inner:
            faults.append(f"Task group {group['Name']} validation failed: {inner}")
    return faults


def _group_faults(job: Json, group: Json) -> list[str]:
    faults = []
    if group["Count"] < 0:
        faults.append("Task group count can't be negative")
    tasks = group["Tasks"] or []
    if not tasks:
        faults.append("Missing tasks for task group")
    if job["Type"] in ("system", "sysbatch") and group["ReschedulePolicy"] is not None:
        faults.append("System or sysbatch jobs should not have a reschedule policy")
    for place, constraint in enumerate(group["Constraints"] or [], 1):
        if not constraint["Operand"]:
            inner = listed(["Missing constraint operand", 'Unknown constraint type ""'])
            faults.append(f"Constraint {place} validation failed: {inner}")
    policy = group["ReschedulePolicy"]
    if policy is not None and policy["Unlimited"] and policy["Attempts"] > 0:
        interval = format_duration(policy["Interval"])
        faults.append(
            f"Reschedule Policy with Attempts = {policy['Attempts']}, Interval = {interval}, and Unlimited = true is "
            "ambiguous"
        )
        faults.append("If Attempts >0, Unlimited cannot also be set to true")
    inner = listed(_service_faults(group))
    if inner:
        faults.append(f"Task group service validation failed: {inner}")
    update = group["Update"]
    if update is not None:
        if job["Type"] not in ("service", "system"):
            faults.append(f'Job type "{job["Type"]}" does not allow update block')
        inner = listed(_update_faults(update))
        if inner:
            faults.append(inner)
    if tasks and all((task["Lifecycle"] or {}).get("Hook") for task in tasks):
        faults.append(f"Task group {group['Name']} must have at least one main task")
    seen: dict[str, int] = {}
    for place, task in enumerate(tasks, 1):
        name = task["Name"]
        if name in seen:
            faults.append(f"Task {place} redefines '{name}' from task {seen[name]}")
        seen[name] = place
    for task in tasks:
        inner = listed(_task_faults(task, group))
        if inner:
            faults.append(f"Task {task['Name']} validation failed: {inner}")
    return faults


def _service_faults(group: Json) -> list[str]:
    faults = []
    for place, service in enumerate(group["Services"] or []):
        inner = []
        for check in service["Checks"] or []:
            for name in ("interval", "timeout"):
                value = check[name.capitalize()]
                if value < SECOND:
                    inner.append(f"{name} ({format_duration(value)}) cannot be lower than 1s")
        if inner:
            faults.append(f"Service[{place}] {service['Name']} validation failed: {listed(inner)}")
    return faults


def _update_faults(update: Json) -> list[str]:
    faults = []
    minimum, healthy, progress = update["MinHealthyTime"], update["HealthyDeadline"], update["ProgressDeadline"]
    if update["HealthCheck"] not in ("checks", "task_states", "manual"):
        faults.append(f'Invalid health check given: "{update["HealthCheck"]}"')
    if update["MaxParallel"] < 0:
        faults.append(f"Max parallel can not be less than zero: {update['MaxParallel']} < 0")
    if update["Canary"] < 0:
        faults.append(f"Canary count can not be less than zero: {update['Canary']} < 0")
    if update["Canary"] == 0 and update["AutoPromote"]:
        faults.append("Auto Promote requires a Canary count greater than zero")
    if healthy <= 0:
        faults.append(f"Healthy deadline must be greater than zero: {format_duration(healthy)}")
    if minimum >= healthy:
        faults.append(
            "Minimum healthy time must be less than healthy deadline: "
            f"{format_duration(minimum)} > {format_duration(healthy)}"
        )
    if progress != 0 and healthy >= progress:
        faults.append(
            "Healthy deadline must be less than progress deadline: "
            f"{format_duration(healthy)} > {format_duration(progress)}"
        )
    return faults


def _task_faults(task: Json, group: Json) -> list[str]:
    faults = []
    name = task["Name"]
    if not name:
        faults.append("Missing task name")
    if name == "alloc":
        faults.append('Task cannot be named "alloc"')
    if "/" in name or "\\" in name:
        faults.append("Task name cannot include slashes")
    if not task["Driver"]:
        faults.append("Missing task driver")
    logs, disk = task["LogConfig"]["MaxFiles"] * task["LogConfig"]["MaxFileSizeMB"], group["EphemeralDisk"]["SizeMB"]
    if disk <= logs:
        fault = f"log storage ({logs} MB) must be less than requested disk capacity ({disk} MB)"
        faults.append(listed([fault]))
    if task["Vault"] is not None and task["Vault"]["ChangeMode"] not in ("noop", "restart", "signal"):
        inner = listed([f'Unknown change mode "{task["Vault"]["ChangeMode"]}"'])
        faults.append(f"Vault validation failed: {inner}")
    seen: dict[str, int] = {}
    for place, template in enumerate(task["Templates"] or [], 1):
        inner = listed(_template_faults(template))
        if inner:
            faults.append(f"Template {place} validation failed: {inner}")
        if template["DestPath"] in seen:
            faults.append(f"Template {place} has same destination as {seen[template['DestPath']]}")
        else:
            seen[template["DestPath"]] = place
    for identity in task["Identities"] or []:
        inner = listed(_identity_faults(identity))
        if inner:
            faults.append(f'Identity "{identity["Name"]}" is invalid: {inner}')
    return faults


def _template_faults(template: Json) -> list[str]:
    faults = []
    if not template["SourcePath"] and not template["EmbeddedTmpl"]:
        faults.append("Must specify a source path or have an embedded template")
    if not template["DestPath"]:
        faults.append("Must specify a destination for the template")
    # A leading slash is inside the task's directory; two steps up leave the allocation's.
    if posixpath.normpath(f"alloc/task/{template['DestPath']}").split("/")[0] != "alloc":
        faults.append("destination escapes allocation directory")
    mode = template["ChangeMode"]
    if mode == "signal":
        if not template["ChangeSignal"]:
            faults.append("Must specify signal value when change mode is signal")
        if template["Envvars"]:
            faults.append("cannot use signals with env var templates")
    elif mode == "script":
        if template["ChangeScript"] is None:
            faults.append("must specify change script configuration value when change mode is script")
    elif mode not in ("noop", "restart"):
        faults.append("Invalid change mode. Must be one of the following: noop, signal, script, restart")
    if template["Splay"] < 0:
        faults.append("Must specify positive splay value")
    perms = template["Perms"]
    if perms and (not re.fullmatch(r"[0-7]+", perms) or int(perms, 8) > 0o7777):
        fault = "value out of range" if re.fullmatch(r"[0-7]+", perms) else "invalid syntax"
        faults.append(f'Failed to parse "{perms}" as octal: strconv.ParseUint: parsing "{perms}": {fault}')
    return faults


def _identity_faults(identity: Json) -> list[str]:
    faults = []
    if not _IDENTITY_NAME.match(identity["Name"]):
        faults.append(f'invalid name "{identity["Name"]}". Must match regex {_IDENTITY_NAME.pattern}')
    if any(not audience for audience in identity["Audience"] or []):
        faults.append("an empty string is an invalid audience (1)")
    if identity["ChangeMode"] not in ("", "noop", "restart", "signal"):
        faults.append(f"invalid change_mode: {identity['ChangeMode']}")
    if identity["TTL"] < 0:
        faults.append("ttl must be >= 0")
    if identity["Filepath"] and not identity["File"]:
        faults.append("file parameter must be true in order to specify filepath")
    return faults
