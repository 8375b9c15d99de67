"""Put our part into a job, and take it out again: pure functions of a job in the shape of Nomad's API."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from secretbinding.job.constraints import own_counts, required_signals, without_growth, without_implied
from secretbinding.job.marks import Mark, read_mark, render_block
from secretbinding.naming import Owner, name_prefix, stable_digest
from secretbinding.ports import Json
from secretbinding.render.role import AUDIENCE, IDENTITY
from secretbinding.render.template import TemplateBlock

_IDENTITY_TTL = 3600 * 1_000_000_000
# What changes without the user's hand: bookkeeping of the server, and the count that an autoscaler moves.
_VOLATILE = (
    "CreateIndex", "ModifyIndex", "JobModifyIndex", "Version", "VersionTag", "SubmitTime", "Status",
    "StatusDescription", "Stable", "Stop", "Dispatched", "DispatchIdempotencyToken", "NomadTokenID",
    "ConsulToken", "VaultToken", "ConsulNamespace", "VaultNamespace", "UI",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskPart:
    """What one task gets: the role to log in with, and the templates of each binding.

    A template is either new (a `TemplateBlock`) or a marked one that stays exactly as it is (of a frozen binding).
    `leased` is true when losing the Vault token takes credentials away; `polls` when Nomad goes on reading.
    """

    role: str
    templates: tuple[tuple[Owner, TemplateBlock | Json], ...]
    polls: bool = False
    leased: bool = False
    vault_namespace: str = ""


@dataclass(frozen=True, slots=True)
class Stripped:
    """A job without our part. `job` is the user's; `keeps` remembers, for each group that was ours, how many of the
    constraints that the server adds are the user's own."""

    job: Json
    keeps: Mapping[str, tuple[int, int]]


def strip(job: Json, instance: str) -> Stripped:
    """The job as it would be without this instance. A job without our part comes back equal.

    Only what carries our mark is taken: marked templates; the Vault block whose role is ours; the identity that a
    mark says we added; constraints that Nomad's server added because of these.
    """
    user = deepcopy(job)
    keeps: dict[str, tuple[int, int]] = {}
    for group in user.get("TaskGroups") or []:
        signals = required_signals(group)
        marks = [mark for task in group.get("Tasks") or [] for mark in _strip_task(task, instance)]
        if not marks:
            group["Constraints"] = _same_emptiness(group.get("Constraints"), without_growth(group))
            continue
        keeps[group["Name"]] = marks[0].keeps
        constraints = without_implied(group, marks[0].keeps, signals)
        group["Constraints"] = constraints or None
    return Stripped(user, keeps)


def inject(stripped: Stripped, parts: Mapping[tuple[str, str], TaskPart], instance: str) -> Json:
    """The user's job with the given parts, keyed by (group, task).

    A template that is there already and means the same stays as it is, text included: see `keep_rendered`.
    """
    job = deepcopy(stripped.job)
    for group in job.get("TaskGroups") or []:
        name = group["Name"]
        wanted = [task for task in group.get("Tasks") or [] if (name, task["Name"]) in parts]
        if not wanted:
            continue
        keeps = stripped.keeps.get(name) or own_counts(group)
        for task in wanted:
            _inject_task(task, parts[name, task["Name"]], keeps)
    return job


def keep_rendered(wanted: Json, current: Json, instance: str) -> Json:
    """`wanted` with each template of ours that `current` holds with the same meaning, unaltered, in place of the newly
    rendered one: a release that would write it differently changes nothing until there is a real change."""
    rendered: dict[tuple[str, str, Owner, str], Json] = {}
    blocks: dict[tuple[str, str], Json] = {}
    for group, task in _tasks(current):
        if is_our_vault(task.get("Vault"), instance):
            blocks[group["Name"], task["Name"]] = task["Vault"]
        for template in task.get("Templates") or []:
            found = read_mark(template)
            if found is not None and found[1] and found[0].owner.instance == instance:
                rendered[group["Name"], task["Name"], found[0].owner, found[0].slot] = template
    result = deepcopy(wanted)
    for group, task in _tasks(result):
        block = blocks.get((group["Name"], task["Name"]))
        # An older Nomad does not keep every key; what it does not know cannot differ.
        if block is not None and task.get("Vault") and all(block.get(k, v) == v for k, v in task["Vault"].items()):
            task["Vault"] = block
        templates = task.get("Templates") or []
        for position, template in enumerate(templates):
            found = read_mark(template)
            if found is None:
                continue
            old = rendered.get((group["Name"], task["Name"], found[0].owner, found[0].slot))
            old_found = read_mark(old) if old is not None else None
            if old is None or old_found is None:
                continue
            same = (old_found[0].want, old_found[0].adds, old_found[0].keeps) == (
                found[0].want, found[0].adds, found[0].keeps,
            )  # fmt: skip
            if same and old.get("Once", template["Once"]) == template["Once"]:
                templates[position] = old
    return result


def same_job(left: Json, right: Json) -> bool:
    """True when registering one over the other would change nothing that we or the user can have meant."""
    return _normal(left, with_counts=True) == _normal(right, with_counts=True)


def user_state(job: Json, instance: str) -> str:
    """A digest of the user's own part of a job, counts left out: a failed state is held only for this."""
    return stable_digest(_normal(strip(job, instance).job, with_counts=False))


def to_register(job: Json) -> Json:
    """The job as it is sent to Nomad: without what only the server writes."""
    sent = deepcopy(job)
    for name in ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Status", "StatusDescription", "Stable", "VersionTag"):
        sent.pop(name, None)
    return sent


def vault_block(part: TaskPart) -> Json:
    """The task's Vault block. The token stays out of the environment and off the disk. A task that only has pinned
    templates needs no token once it runs: nothing happens to it when the token ends."""
    return {
        "Role": part.role,
        "Namespace": part.vault_namespace,
        "Cluster": "default",
        "Env": False,
        "DisableFile": True,
        "ChangeMode": "restart" if part.leased else "noop",
        "ChangeSignal": "",
        "AllowTokenExpiration": not part.polls,
    }


def is_our_vault(vault: Mapping[str, Any] | None, instance: str) -> bool:
    """True when a task's Vault block logs in with a role of this instance."""
    return bool(vault) and str((vault or {}).get("Role") or "").startswith(name_prefix(instance))


def _strip_task(task: Json, instance: str) -> list[Mark]:
    marks: list[Mark] = []
    kept: list[Json] = []
    for template in task.get("Templates") or []:
        found = read_mark(template)
        if found is not None and found[0].owner.instance == instance:
            marks.append(found[0])
        else:
            kept.append(template)
    if is_our_vault(task.get("Vault"), instance):
        task["Vault"] = None
    if not marks:
        return []
    task["Templates"] = kept or None
    if any("identity" in mark.adds for mark in marks):
        identities = [item for item in task.get("Identities") or [] if item.get("Name") != IDENTITY]
        task["Identities"] = identities or None
    return marks


def _inject_task(task: Json, part: TaskPart, keeps: tuple[int, int]) -> None:
    has_identity = any(item.get("Name") == IDENTITY for item in task.get("Identities") or [])
    adds = () if has_identity else ("identity",)
    # Sorted by owner (stable within one), so that freezing a binding does not change the order.
    ours = [
        render_block(template, owner, adds, keeps) if isinstance(template, TemplateBlock) else template
        for owner, template in sorted(part.templates, key=lambda item: item[0])
    ]
    task["Templates"] = [*(task.get("Templates") or []), *ours]
    task["Vault"] = vault_block(part)
    if not has_identity:
        task["Identities"] = [*(task.get("Identities") or []), _identity()]


def _identity() -> Json:
    """`vault_default`, on the task itself, so that Nomad's agents need no `default_identity` setting."""
    return {
        "Name": IDENTITY,
        "Audience": [AUDIENCE],
        "Env": False,
        "File": False,
        "Filepath": "",
        "ServiceName": "",
        "ChangeMode": "",
        "ChangeSignal": "",
        "TTL": _IDENTITY_TTL,
    }


def _normal(job: Json, *, with_counts: bool) -> Json:
    """A form in which what Nomad fills in, or writes in two ways, does not count: no nulls, no empty lists, no
    bookkeeping; our own templates by their mark."""
    normal: Json = _pruned({name: value for name, value in job.items() if name not in _VOLATILE})
    for group in normal.get("TaskGroups") or []:
        if not with_counts:
            group.pop("Count", None)
        # The server adds its constraints again on registration: sent and answered job may differ in them.
        group["Constraints"] = sorted(
            (stable_digest(item) for item in without_implied({**group, "Tasks": []}, (0, 0), required_signals(group)))
        )
    return normal


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        items = ((name, _pruned(item)) for name, item in value.items())
        return {name: item for name, item in items if item not in (None, [], {}, "", False, 0)}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value


def _tasks(job: Json) -> Sequence[tuple[Json, Json]]:
    return [(group, task) for group in job.get("TaskGroups") or [] for task in group.get("Tasks") or []]


def _same_emptiness(before: Any, after: list[Json]) -> Any:
    return before if not after and not before else (after or None)
