"""A plan in words: one line for each action, and the diffs below it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from secretbinding.desired.approles import BringSecretIds, DropSecretIds
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole
from secretbinding.generation import ABSENT, KV, GenerateValue
from secretbinding.job.diff import changed_groups, job_diff, policy_diff, role_diff
from secretbinding.job.marks import read_mark
from secretbinding.plan import (
    Action,
    DeletePolicy,
    DeleteRole,
    EvaluateJob,
    Plan,
    RegisterJob,
    TagVersion,
    UntagVersion,
    WritePolicy,
    WriteRole,
)
from secretbinding.ports import Json


def describe(action: Action) -> str:
    """One action in one line: `+` makes, `~` changes, `-` deletes."""
    match action:
        case WritePolicy(name=name, before=before):
            return f"{'+' if before is None else '~'} policy {name}"
        case DeletePolicy(name=name):
            return f"- policy {name}"
        case WriteRole(name=name, before=body):
            return f"{'+' if body is None else '~'} role {name}"
        case DeleteRole(name=name):
            return f"- role {name}"
        case WriteEngineRole(role=role, before=there):
            return f"{'+' if there is None else '~'} engine role {role.path}"
        case DeleteEngineRole(path=path):
            return f"- engine role {path}"
        case RegisterJob(job=job, before=there):
            groups = {group for instance in _instances(there, job) for group in changed_groups(there, job, instance)}
            counted = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
            return f"~ job {job.get('ID')} (namespace {job.get('Namespace') or 'default'}): {counted}"
        case BringSecretIds(group=group, make=make):
            made = f"new for index {', '.join(map(str, make))}" if make else "accounts"
            return f"~ wrapped secret-ids of group {group}: {made}"
        case DropSecretIds(group=group):
            return f"- wrapped secret-ids of group {group}"
        case EvaluateJob(job_id=job_id, left=left):
            return f"~ job {job_id}: evaluated again, {left} allocation(s) before the end of its roll"
        case TagVersion(version=version, name=name):
            return f"+ tag {name} on job version {version}"
        case UntagVersion(name=name):
            return f"- tag {name}"
        case GenerateValue():
            return _generation(action)


def why(action: GenerateValue) -> str:
    """What a new value is made for, in words."""
    if action.requested:
        return f"asked for at {_text(action.due)}"
    return "it is not there" if action.seen == ABSENT else f"due at {_text(action.due)}"


def _generation(action: GenerateValue) -> str:
    if action.target.kind != KV:
        return f"~ password of {action.target}: {why(action)}"
    made = ", ".join(action.fields)
    sign, version = ("+", 1) if action.seen == ABSENT else ("~", int(action.seen) + 1)
    return f"{sign} version {version} of secret {action.target} with new {made}: {why(action)}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def details(action: Action) -> str:
    """What an action changes, as a unified diff; `""` where its line says everything."""
    match action:
        case WritePolicy(text=text, before=before):
            return policy_diff(before, text)
        case DeletePolicy(before=before):
            return policy_diff(before, None)
        case WriteRole(body=body, before=there):
            return role_diff(there, body)
        case WriteEngineRole(role=role, before=there):
            return role_diff(there, role.body)
        case RegisterJob(job=job, before=there):
            return "".join(job_diff(there, job, instance) for instance in _instances(there, job))
        case _:
            return ""


def show_plan(plan: Plan, *, diffs: bool = True) -> str:
    """The whole plan: its actions in their order, each with its diff, and what is waited for."""
    return "".join(f"{line}\n" for line in _lines(plan, diffs=diffs))


def _lines(plan: Plan, *, diffs: bool) -> Iterator[str]:
    if not plan.actions:
        yield "no changes"
    for action in plan.actions:
        yield describe(action)
        if diffs:
            yield from (f"    {line}".rstrip() for line in details(action).splitlines())
    if plan.waiting:
        yield f"rights that are no longer wanted are kept: {plan.waiting}"


def _instances(before: Json, after: Json) -> list[str]:
    """The instances that have a part in the job, before or after; a plan changes the part of one of them."""
    found = {
        mark[0].owner.instance
        for job in (before, after)
        for group in job.get("TaskGroups") or []
        for task in group.get("Tasks") or []
        for template in task.get("Templates") or []
        if (mark := read_mark(template)) is not None
    }
    changed = [instance for instance in sorted(found) if changed_groups(before, after, instance)]
    return changed or sorted(found)[:1]
