"""What changed between two versions of a job: is it a new version, must its tasks be replaced, and a diff to read."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_NOT_SPEC = frozenset(
    ("Status", "StatusDescription", "Stable", "Version", "CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime")
)
_TASK_DESTRUCTIVE = (
    "Driver",
    "User",
    "Config",
    "Env",
    "Artifacts",
    "Vault",
    "Secrets",
    "Consul",
    "Templates",
    "CSIPluginConfig",
    "VolumeMounts",
    "Identity",
    "Identities",
)
_RESOURCES_DESTRUCTIVE = ("CPU", "Cores", "MemoryMB", "MemoryMaxMB", "Devices", "NUMA", "SecretsMB", "Networks")
_GROUP_DESTRUCTIVE = ("EphemeralDisk", "Networks", "Consul", "Volumes")


def spec_changed(old: Json | None, new: Json) -> bool:
    """Whether registering `new` over `old` makes a new version. A version tag counts, as it does in Nomad."""
    if old is None:
        return True
    names = (set(old) | set(new)) - _NOT_SPEC
    return any(_set(old.get(name)) != _set(new.get(name)) for name in names)


def _set(value: Any) -> Any:
    return None if value in ({}, []) else value


def find(items: list[Any] | None, name: str) -> Any:
    """The group or task of that name, None without."""
    return next((one for one in items or [] if one["Name"] == name), None)


def destructive(old: Json, new: Json, group_name: str) -> bool:
    """Whether the group's allocations must be replaced to go from one version of the job to the other."""
    before, after = find(old["TaskGroups"], group_name), find(new["TaskGroups"], group_name)
    if before is None or after is None or len(before["Tasks"]) != len(after["Tasks"]):
        return True
    if any(_set(before[name]) != _set(after[name]) for name in _GROUP_DESTRUCTIVE):
        return True
    if before["RestartPolicy"]["RenderTemplates"] != after["RestartPolicy"]["RenderTemplates"]:
        return True
    for task in after["Tasks"]:
        was = find(before["Tasks"], task["Name"])
        if was is None or _task_destructive(was, task):
            return True
        if combined_meta(old, before, was) != combined_meta(new, after, task):
            return True
    return bool(old["Datacenters"] != new["Datacenters"] and not _in_datacenter(new))


def _in_datacenter(job: Json) -> bool:
    return any(
        name in ("*", "dc1") or (name.rstrip("*") and "dc1".startswith(name.rstrip("*"))) for name in job["Datacenters"]
    )


def _task_destructive(old: Json, new: Json) -> bool:
    return (
        any(_set(old[name]) != _set(new[name]) for name in _TASK_DESTRUCTIVE)
        or any(_set(old["Resources"][name]) != _set(new["Resources"][name]) for name in _RESOURCES_DESTRUCTIVE)
        or old["LogConfig"]["Disabled"] != new["LogConfig"]["Disabled"]
        or old["RestartPolicy"]["RenderTemplates"] != new["RestartPolicy"]["RenderTemplates"]
    )


def combined_meta(job: Json, group: Json, task: Json) -> dict[str, str]:
    """The meta that a task sees: the job's, overlaid by the group's, overlaid by the task's own."""
    return {**(job["Meta"] or {}), **(group["Meta"] or {}), **(task["Meta"] or {})}


# -- the diff that `plan` shows --------------------------------------------------------------------------------------


def job_diff(old: Json | None, new: Json) -> dict[str, Any]:
    """A diff in the shape of Nomad's `JobDiff`: primitive fields and maps as fields, blocks as objects."""
    hidden = {"TaskGroups", "ID", "NomadTokenID", *_NOT_SPEC}
    diff: dict[str, Any] = {"ID": new["ID"], **_fields_and_objects(old, new, hidden)}
    names = [group["Name"] for group in new["TaskGroups"] or []]
    names += [group["Name"] for group in (old or {}).get("TaskGroups") or [] if group["Name"] not in names]
    groups = []
    for name in names:
        before = find(old["TaskGroups"], name) if old else None
        groups.append(_group_diff(before, find(new["TaskGroups"], name)))
    diff["TaskGroups"] = groups or None
    diff["Type"] = "Added" if old is None else _kind(diff, groups)
    return diff


def _kind(diff: Json, children: list[dict[str, Any]]) -> str:
    changed = diff["Fields"] or diff["Objects"] or any(child["Type"] != "None" for child in children)
    return "Edited" if changed else "None"


def _group_diff(old: Json | None, new: Json | None) -> dict[str, Any]:
    some = new or old or {}
    diff: dict[str, Any] = {"Name": some["Name"], **_fields_and_objects(old, new, {"Tasks", "Name"})}
    names = [task["Name"] for task in (new or {}).get("Tasks") or []]
    names += [task["Name"] for task in (old or {}).get("Tasks") or [] if task["Name"] not in names]
    tasks = []
    for name in names:
        before = find((old or {}).get("Tasks"), name)
        after = find((new or {}).get("Tasks"), name)
        task = {"Annotations": None, "Name": name, **_fields_and_objects(before, after, {"Name"})}
        task["Type"] = "Added" if before is None else "Deleted" if after is None else _kind(task, [])
        if before is not None and after is not None and task["Type"] == "Edited":
            force = _task_destructive(before, after) or (before["Meta"] or {}) != (after["Meta"] or {})
            task["Annotations"] = ["forces create/destroy update" if force else "forces in-place update"]
        elif task["Type"] != "None":
            task["Annotations"] = ["forces create" if before is None else "forces destroy"]
        tasks.append(task)
    diff["Tasks"] = tasks or None
    diff["Type"] = "Added" if old is None else "Deleted" if new is None else _kind(diff, tasks)
    diff["Updates"] = None
    return diff


def _fields_and_objects(old: Json | None, new: Json | None, skip: set[str]) -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for name in sorted((set(old or {}) | set(new or {})) - skip):
        before, after = _set((old or {}).get(name)), _set((new or {}).get(name))
        if before == after:
            continue
        if name in ("Env", "Meta") and not isinstance(before, bool) and not isinstance(after, bool):
            fields += _map_fields(name, before, after)
        elif isinstance(before, dict) or isinstance(after, dict):
            objects.append(_object(name, before, after))
        elif name == "Templates":
            objects += _template_diffs(before or [], after or [])
        elif _is_blocks(before) or _is_blocks(after):
            left = [one for one in before or [] if one not in (after or [])]
            right = [one for one in after or [] if one not in (before or [])]
            single = name[:-3] + "y" if name.endswith("ies") else name.removesuffix("s")
            objects += [_object(single, one, None) for one in left]
            objects += [_object(single, None, one) for one in right]
        else:
            fields.append(_field(name, before, after))
    return {"Fields": fields or None, "Objects": objects or None}


def _template_diffs(old: list[Any], new: list[Any]) -> list[dict[str, Any]]:
    """Templates are told apart by their destination."""
    before = {one["DestPath"]: one for one in old}
    after = {one["DestPath"]: one for one in new}
    return [
        _object("Template", before.get(path), after.get(path))
        for path in sorted(set(before) | set(after))
        if before.get(path) != after.get(path)
    ]


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def _object(name: str, old: Any, new: Any) -> dict[str, Any]:
    inner = _fields_and_objects(old or {}, new or {}, set())
    kind = "Added" if not old else "Deleted" if not new else "Edited"
    return {**inner, "Name": name, "Type": kind}


def _map_fields(name: str, old: Any, new: Any) -> list[dict[str, Any]]:
    before, after = old or {}, new or {}
    return [
        _field(f"{name}[{key}]", before.get(key), after.get(key))
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key)
    ]


def _field(name: str, old: Any, new: Any) -> dict[str, Any]:
    kind = "Added" if old is None else "Deleted" if new is None else "Edited"
    return {"Annotations": None, "Name": name, "New": _text(new), "Old": _text(old), "Type": kind}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def annotate(diff: Json, counts: Mapping[str, Json]) -> None:
    """What will happen to each group, in words, beside its diff."""
    words = {
        "Canary": "canary",
        "DestructiveUpdate": "create/destroy update",
        "Ignore": "ignore",
        "InPlaceUpdate": "in-place update",
        "Place": "create",
        "Stop": "destroy",
    }
    for group in diff["TaskGroups"] or []:
        found = {words[name]: count for name, count in counts.get(group["Name"], {}).items() if count and name in words}
        group["Updates"] = found or None
