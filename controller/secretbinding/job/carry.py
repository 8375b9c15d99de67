"""What a job has from us, carried over to another version of it: a pure function of two jobs."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from secretbinding.job.inject import TaskPart, inject, keep_rendered, strip
from secretbinding.job.marks import placed_marks
from secretbinding.job.sidecar import bare, is_sidecar
from secretbinding.models.key import BindingKey
from secretbinding.ports import Json


def parts_of(job: Json, instance: str, keys: Collection[BindingKey] | None = None) -> dict[tuple[str, str], TaskPart]:
    """Our part of a job as it stands there, keyed by (group, task); with `keys`, that of these bindings only."""
    parts: dict[tuple[str, str], TaskPart] = {}
    for item in placed_marks(job, instance):
        if keys is not None and item.key not in keys:
            continue
        part = parts.get((item.group, item.task)) or kept_part(item.host)
        parts[item.group, item.task] = replace(part, templates=(*part.templates, (item.mark.owner, item.template)))
    return parts


def kept_part(task: Json) -> TaskPart:
    """The ways of a task's Vault block, for a part that stays as it is; of a task of ours the task itself."""
    if is_sidecar(task):
        return TaskPart(role="", templates=(), vault=False, task=bare(task))
    vault: Mapping[str, Any] = task.get("Vault") or {}
    return TaskPart(
        role=str(vault.get("Role") or ""),
        templates=(),
        polls=not vault.get("AllowTokenExpiration", False),
        leased=vault.get("ChangeMode") == "restart",
        vault_namespace=str(vault.get("Namespace") or ""),
        token_env=bool(vault.get("Env")),
        token_file=bool(vault) and not vault.get("DisableFile"),
        vault=bool(vault),
    )


def carried_over(there: Json | None, job: Json, instance: str, keys: Collection[BindingKey] | None = None) -> Json:
    """`job`, as its user has it, with what `there`, another version of it, has from us, in the tasks that both have;
    with `keys`, what it has for these bindings. A job that brings our part along (it was rendered before) keeps that.
    """
    if there is None or any(placed_marks(job, instance)):
        return job
    return keep_rendered(inject(strip(job, instance), parts_of(there, instance, keys), instance), there, instance)
