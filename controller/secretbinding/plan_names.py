"""What an action changes, by names: paths, fields, groups and conditions, never values. For the trail of changes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole
from secretbinding.generation import GenerateValue
from secretbinding.job.diff import changed_groups
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import BindingKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan import Action, DeletePolicy, DeleteRole, RegisterJob, WritePolicy, WriteRole
from secretbinding.ports import Json
from secretbinding.render.policy import read_policy


def changed_names(action: Action, instance: str) -> tuple[str, ...]:
    """The names of what changes: `+` it comes, `-` it goes, `~` it is another one; sorted by name."""
    match action:
        case WritePolicy(text=text, before=before):
            return _difference(_rights(before), _rights(text))
        case DeletePolicy(before=before):
            return _difference(_rights(before), {})
        case WriteRole(body=body, before=there):
            return _difference(_set_by(there, body), body)
        case WriteEngineRole(role=role, before=there):
            return _difference(_set_by(there, role.body), role.body)
        case DeleteRole(before=there) | DeleteEngineRole(before=there):
            return _difference(there, {})
        case RegisterJob(job=job, before=there):
            return tuple(f"~group {group}" for group in changed_groups(there, job, instance))
        case GenerateValue():
            return tuple(f"~{name}" for name in action.fields)
        case _:
            return ()


def askers(action: Action, instance: str, bindings: Iterable[BindingKey]) -> tuple[str, ...]:
    """The bindings that an action is for: of a policy its own, of a job those that have a part in it, before or after,
    of all others every binding of the workload."""
    keys = set(bindings)
    match action:
        case WritePolicy(text=text) | DeletePolicy(before=text):
            parsed = read_policy(text)
            keys = {parsed[0].owner.key} if parsed is not None else keys
        case GenerateValue(parts=parts):
            keys = {part.key for part in parts}
        case RegisterJob(job=job, before=there):
            keys |= {mark.key for side in (job, there) for mark in placed_marks(side, instance)}
    return tuple(str(key) for key in sorted(keys))


def changed_conditions(before: SecretBindingStatus, after: SecretBindingStatus) -> tuple[str, ...]:
    """What changes in a status: conditions with their new status and reason, other fields by name."""
    return tuple(_status_names(before.to_json(), after.to_json()))


def _status_names(before: Json, after: Json) -> Iterator[str]:
    old = {one["type"]: one for one in before.get("conditions") or ()}
    for one in after.get("conditions") or ():
        was = old.get(one["type"], {})
        if (was.get("status"), was.get("reason")) != (one["status"], one.get("reason")):
            yield f"~{one['type']}={one['status']} ({one.get('reason')})"
    for name in sorted({*before, *after} - {"conditions"}):
        if before.get(name) != after.get(name):
            yield f"~{name}"


def _rights(text: str | None) -> Mapping[str, Any]:
    """The capabilities by path, and the fields of the mark: also of a policy that was edited by hand."""
    parsed = read_policy(text) if text is not None else None
    if parsed is None:
        return {}
    document = parsed[0]
    return {
        **{f"path {right.path}": right.capabilities for right in document.rights},
        **({"roles": document.roles} if document.roles else {}),
        **({"engine roles": document.engine_roles} if document.engine_roles else {}),
        **({"retain": True} if document.retain else {}),
    }


def _set_by(there: Json | None, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a role that is there, what we set: the server answers with values of its own."""
    return {name: there[name] for name in body if name in there} if there is not None else {}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    signs = {
        name: "+" if name not in before else "-" if name not in after else "~"
        for name in {*before, *after}
        if name not in before or name not in after or before[name] != after[name]
    }
    return tuple(f"{signs[name]}{name}" for name in sorted(signs))
