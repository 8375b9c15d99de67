"""A job as it was sent, brought into the form that Nomad stores and returns: every field there, every default set."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from secretbinding.devstack.simulator.durations import HOUR, MINUTE, SECOND, nanoseconds
from secretbinding.devstack.simulator.services import canonical_networks, canonical_services

Json = dict[str, Any]

UPDATE_DEFAULT: Json = {
    "AutoPromote": False,
    "AutoRevert": False,
    "Canary": 0,
    "HealthCheck": "checks",
    "HealthyDeadline": 5 * MINUTE,
    "MaxParallel": 1,
    "MinHealthyTime": 10 * SECOND,
    "ProgressDeadline": 10 * MINUTE,
    "Stagger": 30 * SECOND,
}
MIGRATE_DEFAULT: Json = {
    "HealthCheck": "checks",
    "HealthyDeadline": 5 * MINUTE,
    "MaxParallel": 1,
    "MinHealthyTime": 10 * SECOND,
}
_RESTART: Json = {
    "Attempts": 2,
    "Delay": 15 * SECOND,
    "Interval": 30 * MINUTE,
    "Mode": "fail",
    "RenderTemplates": False,
}
_RESTART_BATCH: Json = {**_RESTART, "Attempts": 3, "Interval": 24 * HOUR}
_RESCHEDULE: Mapping[str, Json] = {
    "service": {
        "Attempts": 0,
        "Delay": 30 * SECOND,
        "DelayFunction": "exponential",
        "Interval": 0,
        "MaxDelay": HOUR,
        "Unlimited": True,
    },
    "batch": {
        "Attempts": 1,
        "Delay": 5 * SECOND,
        "DelayFunction": "constant",
        "Interval": 24 * HOUR,
        "MaxDelay": 0,
        "Unlimited": False,
    },
}
_RESCHEDULE_OTHER: Json = {
    "Attempts": 0,
    "Delay": 0,
    "DelayFunction": "",
    "Interval": 0,
    "MaxDelay": 0,
    "Unlimited": False,
}
_DISK: Json = {"Migrate": False, "SizeMB": 300, "Sticky": False}
_RESOURCES: Json = {
    "CPU": 100,
    "Cores": 0,
    "Devices": None,
    "DiskMB": 0,
    "IOPS": 0,
    "MemoryMB": 300,
    "MemoryMaxMB": 0,
    "NUMA": None,
    "Networks": None,
    "SecretsMB": 0,
}
_LOGS: Json = {"Disabled": False, "MaxFileSizeMB": 10, "MaxFiles": 10}
_VAULT: Json = {
    "AllowTokenExpiration": False,
    "ChangeMode": "restart",
    "ChangeSignal": "SIGHUP",
    "Cluster": "default",
    "DisableFile": False,
    "Env": True,
    "Namespace": "",
    "Role": "",
}
_TEMPLATE: Json = {
    "ChangeMode": "restart",
    "ChangeScript": None,
    "ChangeSignal": "",
    "DestPath": "",
    "EmbeddedTmpl": "",
    "Envvars": False,
    "ErrMissingKey": False,
    "Gid": None,
    "LeftDelim": "{{",
    "Once": False,
    "Perms": "0644",
    "RightDelim": "}}",
    "SourcePath": "",
    "Splay": 5 * SECOND,
    "Uid": None,
    "VaultGrace": 0,
    "Wait": None,
}
_IDENTITY: Json = {
    "Audience": None,
    "ChangeMode": "",
    "ChangeSignal": "",
    "Env": False,
    "ExtraClaims": None,
    "File": False,
    "Filepath": "",
    "Name": "default",
    "ServiceName": "",
    "TTL": 0,
}
_PERIODIC: Json = {
    "Enabled": True,
    "ProhibitOverlap": False,
    "Spec": "",
    "SpecType": "cron",
    "Specs": [],
    "TimeZone": "UTC",
}
_DURATIONS = frozenset(
    [
        "Stagger",
        "MinHealthyTime",
        "HealthyDeadline",
        "ProgressDeadline",
        "Delay",
        "Interval",
        "MaxDelay",
        "Splay",
        "VaultGrace",
        "TTL",
        "KillTimeout",
        "ShutdownDelay",
        "MaxRunDuration",
        "StopAfterClientDisconnect",
        "MaxClientDisconnect",
        "Min",
        "Max",
        "Timeout",
    ]
)
_JOB_NULLS = "Affinities Constraints Meta Multiregion Spreads UI VersionTag"
_GROUP_NULLS = (
    "Affinities Constraints Disconnect MaxClientDisconnect MaxRunDuration Meta Scaling "
    "ShutdownDelay Spreads StopAfterClientDisconnect Volumes"
)
_TASK_NULLS = (
    "Actions Affinities Artifacts CSIPluginConfig Config Constraints DispatchPayload Env Lifecycle Meta "
    "ScalingPolicies Schedule Secrets VolumeMounts"
)


class JobDecodeError(ValueError):
    """A request body that Nomad could not even decode (HTTP 400)."""


def canonical_job(sent: Mapping[str, Any]) -> Json:
    """The stored form of a job. Unknown fields are dropped; null and missing are the same. Raises `JobDecodeError`."""
    try:
        return _job(sent)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise JobDecodeError(str(error)) from error


def _given(sent: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> Json:
    """Defaults overlaid by the fields of `sent` that the defaults know and that are not null."""
    result = copy.deepcopy(dict(defaults))
    for name, value in (sent or {}).items():
        if name in result and value is not None:
            result[name] = nanoseconds(value) if name in _DURATIONS else copy.deepcopy(value)
    return result


def _nulls(sent: Mapping[str, Any], names: str) -> Json:
    """Fields for which Nomad keeps null when nothing (or nothing in them) was given."""
    result: Json = {}
    for name in names.split():
        value = copy.deepcopy(sent.get(name))
        if name in _DURATIONS and value is not None:
            value = nanoseconds(value)
        result[name] = None if value in ({}, []) else value
        if name == "Constraints" and result[name]:
            result[name] = [_given(one, {"LTarget": "", "Operand": "", "RTarget": ""}) for one in result[name]]
    return result


def _list(sent: Mapping[str, Any], name: str, convert: Callable[[Mapping[str, Any]], Json]) -> list[Json] | None:
    return [convert(one) for one in sent.get(name) or [] if one is not None] or None


def _job(sent: Mapping[str, Any]) -> Json:
    kind = sent.get("Type") or "service"
    update = None
    if sent.get("Update") is not None:
        update = _given(sent["Update"], UPDATE_DEFAULT)
    elif kind in ("service", "system"):
        update = dict(UPDATE_DEFAULT)
    job: Json = {
        **_nulls(sent, _JOB_NULLS),
        "AllAtOnce": bool(sent.get("AllAtOnce")),
        "ConsulNamespace": "",
        "CreateIndex": 0,
        "Datacenters": list(sent.get("Datacenters") or ["*"]),
        "DispatchIdempotencyToken": "",
        "Dispatched": False,
        "ID": sent.get("ID") or "",
        "JobModifyIndex": 0,
        "ModifyIndex": 0,
        "Name": sent.get("Name") or sent.get("ID") or "",
        "Namespace": sent.get("Namespace") or "default",
        "NodePool": sent.get("NodePool") or "default",
        "NomadTokenID": "",
        "ParameterizedJob": None,
        "ParentID": "",
        "Payload": sent.get("Payload"),
        "Periodic": None,
        "Priority": int(sent.get("Priority") or 50),
        "Region": sent.get("Region") or "global",
        "Stable": False,
        "Status": "",
        "StatusDescription": "",
        "Stop": bool(sent.get("Stop")),
        "SubmitTime": 0,
        "Type": kind,
        "Update": {
            **{name: type(value)() for name, value in UPDATE_DEFAULT.items()},
            **_kept_for_the_job(update),
        },
        "VaultNamespace": sent.get("VaultNamespace") or "",
        "Version": int(sent.get("Version") or 0),
    }
    if sent.get("Periodic") is not None:
        job["Periodic"] = _given(sent["Periodic"], _PERIODIC)
    if sent.get("ParameterizedJob") is not None:
        job["ParameterizedJob"] = _given(
            sent["ParameterizedJob"], {"MetaOptional": None, "MetaRequired": None, "Payload": "optional"}
        )
        job["ParameterizedJob"]["Payload"] = job["ParameterizedJob"]["Payload"] or "optional"
    job["TaskGroups"] = _list(sent, "TaskGroups", lambda group: _group(group, sent, kind, update))
    return job


def _kept_for_the_job(update: Json | None) -> Json:
    """Of the job's own update block two fields stay at the job; the rest goes into the groups."""
    if update is None or update["MaxParallel"] <= 0:
        return {}
    return {"MaxParallel": update["MaxParallel"], "Stagger": update["Stagger"]}


def _group(sent: Mapping[str, Any], job: Mapping[str, Any], kind: str, update: Json | None) -> Json:
    restart = _given(sent.get("RestartPolicy"), _RESTART if kind in ("service", "system") else _RESTART_BATCH)
    count = sent.get("Count")
    group: Json = {
        **_nulls(sent, _GROUP_NULLS),
        "Count": 1 if count is None else int(count),
        "Consul": _consul(sent),
        "Networks": canonical_networks(sent),
        "Services": canonical_services(sent, str(job.get("Namespace") or "default")),
        "EphemeralDisk": _given(sent.get("EphemeralDisk"), _DISK),
        "Migrate": None,
        "Name": sent.get("Name") or "",
        "PreventRescheduleOnLost": bool(sent.get("PreventRescheduleOnLost")),
        "ReschedulePolicy": None,
        "RestartPolicy": restart,
        "Update": None,
    }
    reschedule = {**(job.get("Reschedule") or {}), **_set_fields(sent.get("ReschedulePolicy"))}
    if reschedule or kind not in ("system", "sysbatch"):
        group["ReschedulePolicy"] = _given(reschedule, _RESCHEDULE.get(kind, _RESCHEDULE_OTHER))
    if kind == "service" or sent.get("Migrate") or job.get("Migrate"):
        group["Migrate"] = _given({**(job.get("Migrate") or {}), **_set_fields(sent.get("Migrate"))}, MIGRATE_DEFAULT)
    own = sent.get("Update")
    if update is not None and own is not None:
        group["Update"] = _given(own, update)
    elif update is not None and any(update.values()):
        group["Update"] = dict(update)
    elif own is not None:
        group["Update"] = _given(own, UPDATE_DEFAULT)
    group["Tasks"] = _list(sent, "Tasks", lambda task: _task(task, restart, job))
    return group


def _consul(sent: Mapping[str, Any]) -> Json | None:
    """The `consul` block of a group or task, which may be empty."""
    if sent.get("Consul") is None:
        return None
    block = _given(sent["Consul"], {"Cluster": "", "Namespace": "", "Partition": ""})
    return {**block, "Cluster": block["Cluster"] or "default"}


def _set_fields(sent: Mapping[str, Any] | None) -> Json:
    return {name: value for name, value in (sent or {}).items() if value is not None}


def _task(sent: Mapping[str, Any], group_restart: Json, job: Mapping[str, Any]) -> Json:
    identities = [_identity(one) for one in sent.get("Identities") or [] if one is not None]
    identity = _identity(sent["Identity"]) if sent.get("Identity") is not None else None
    for one in identities:
        if one["Name"] == "default":
            identity = one
    named = [one for one in identities if one["Name"] != "default"]
    kill_timeout = sent.get("KillTimeout")
    task: Json = {
        **_nulls(sent, _TASK_NULLS),
        "Consul": _consul(sent),
        "Driver": sent.get("Driver") or "",
        # An empty list stays where the only identity sent was the default one, which Nomad moves out of the list.
        "Identities": named if named or identities else None,
        "Identity": identity or {**_IDENTITY, "Audience": ["nomadproject.io"]},
        "KillSignal": sent.get("KillSignal") or "",
        "KillTimeout": 5 * SECOND if kill_timeout is None else nanoseconds(kill_timeout) or 5 * SECOND,
        "Kind": sent.get("Kind") or "",
        "Leader": bool(sent.get("Leader")),
        "LogConfig": _given(sent.get("LogConfig"), _LOGS),
        "Name": sent.get("Name") or "",
        "Resources": _resources(sent.get("Resources")),
        "Services": canonical_services(sent, str(job.get("Namespace") or "default")),
        "RestartPolicy": _given(sent.get("RestartPolicy"), group_restart),
        "ShutdownDelay": nanoseconds(sent.get("ShutdownDelay") or 0),
        "Templates": _list(sent, "Templates", _template),
        "User": sent.get("User") or "",
        "Vault": None,
    }
    if sent.get("Vault") is not None:
        task["Vault"] = _given(sent["Vault"], _VAULT)
        task["Vault"]["Cluster"] = task["Vault"]["Cluster"] or "default"
        task["Vault"]["Namespace"] = task["Vault"]["Namespace"] or job.get("VaultNamespace") or ""
        task["Vault"]["ChangeSignal"] = task["Vault"]["ChangeSignal"].upper()
    if task["Lifecycle"] is not None:
        task["Lifecycle"] = _given(task["Lifecycle"], {"Hook": "", "Sidecar": False})
    return task


def _resources(sent: Mapping[str, Any] | None) -> Json:
    resources = _given(sent, _RESOURCES)
    if sent and sent.get("Cores") is not None and sent.get("CPU") is None:
        resources["CPU"] = 0
    return resources


def _identity(sent: Mapping[str, Any]) -> Json:
    identity = _given(sent, _IDENTITY)
    identity["Name"] = identity["Name"] or "default"
    if not identity["Audience"] and identity["Name"] == "default":
        identity["Audience"] = ["nomadproject.io"]
    identity["ChangeSignal"] = identity["ChangeSignal"].upper()
    return identity


def _template(sent: Mapping[str, Any]) -> Json:
    template = _given(sent, _TEMPLATE)
    signal = sent.get("ChangeSignal")
    if signal is None and template["ChangeMode"] == "signal":
        template["ChangeSignal"] = "SIGHUP"
    template["ChangeSignal"] = template["ChangeSignal"].upper()
    if template["ChangeScript"] is not None:
        template["ChangeScript"] = _given(
            template["ChangeScript"],
            {"Args": [], "Command": "", "FailOnError": False, "RunOnFirstRender": False, "Timeout": 5 * SECOND},
        )
    return template
