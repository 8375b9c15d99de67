"""Put our part into a job, and take it out again: pure functions of a job in the shape of Nomad's API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secretbinding.job.constraints import Keeps, own_keeps, required_signals, without_growth, without_implied
from secretbinding.job.marks import Mark, read_mark, render_block
from secretbinding.job.sidecar import is_sidecar, same_task
from secretbinding.naming import Owner, name_prefix, stable_digest
from secretbinding.ports import Json, copied
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
    `leased` is true when losing the Vault token takes credentials away; `polls` when Nomad goes on reading. The task
    sees its token in the environment with `token_env`, in `secrets/vault_token` with `token_file`. Without `vault` it
    needs no token: nothing of it comes from Vault. `task` is the task itself where all of it is ours, without
    templates.
    """

    role: str
    templates: tuple[tuple[Owner, TemplateBlock | Json], ...]
    polls: bool = False
    leased: bool = False
    vault_namespace: str = ""
    token_env: bool = False
    token_file: bool = False
    vault: bool = True
    task: Json | None = None


@dataclass(frozen=True, slots=True)
class Stripped:
    """A job without our part. `job` is the user's; `keeps` remembers, for each group that was ours, which of the
    constraints that look like the server's are the user's own."""

    job: Json
    keeps: Mapping[str, Keeps]


def strip(job: Json, instance: str) -> Stripped:
    """The job as it would be without this instance, ready to be registered.

    Only what carries our mark is taken: marked templates; the tasks of a sidecar; the Vault block whose role is ours;
    the identity that a mark says we added; constraints that Nomad's server added because of these, and the one copy
    that it appends to each group with an identity when the job is registered.
    """
    user = copied(job)
    keeps: dict[str, Keeps] = {}
    for group in user.get("TaskGroups") or []:
        signals = required_signals(group)
        marks: list[Mark] = []
        ours = False
        whole = {task["Name"] for task in group.get("Tasks") or [] if is_sidecar(task, instance)}
        for task in group.get("Tasks") or []:
            found, had_vault = _strip_task(task, instance)
            marks.extend(found)
            ours = ours or had_vault or bool(found)
        if whole:
            group["Tasks"] = [task for task in group["Tasks"] if task["Name"] not in whole]
        if ours:
            kept = _least(marks)
            keeps[group["Name"]] = kept
            constraints = without_implied(group, kept, signals)
        else:
            constraints = without_growth(group)
        if constraints != (group.get("Constraints") or []):
            group["Constraints"] = constraints or None
    return Stripped(user, keeps)


def inject(stripped: Stripped, parts: Mapping[tuple[str, str], TaskPart], instance: str) -> Json:
    """The user's job with the given parts, keyed by (group, task).

    A template that is there already and means the same stays as it is, text included: see `keep_rendered`.
    """
    job = copied(stripped.job)
    for group in job.get("TaskGroups") or []:
        name = group["Name"]
        tasks = [(task, parts.get((name, task["Name"]))) for task in group.get("Tasks") or []]
        wanted = [(task, part) for task, part in tasks if part is not None and part.task is None]
        wanted += _whole_tasks(group, parts)
        if not wanted:
            continue
        signals = required_signals(group).union(*(_signals_of(part) for _, part in wanted))
        keeps = own_keeps(group, signals)
        before = stripped.keeps.get(name)
        if before is not None:
            keeps = replace(keeps, vault=min(keeps.vault, before.vault), nomad=min(keeps.nomad, before.nomad))
        for task, part in wanted:
            _inject_task(task, part, keeps)
        group["Tasks"] = [*(group.get("Tasks") or []), *(task for task, part in wanted if part.task is not None)]
    return job


def _whole_tasks(group: Json, parts: Mapping[tuple[str, str], TaskPart]) -> list[tuple[Json, TaskPart]]:
    """The tasks that are ours as a whole, to be put into a group; not beside one of the user's of the same name."""
    names = {task["Name"] for task in group.get("Tasks") or []}
    return [
        (copied(part.task), part)
        for (name, task_name), part in sorted(parts.items(), key=lambda item: item[0])
        if name == group["Name"] and part.task is not None and task_name not in names
    ]


def keep_rendered(wanted: Json, current: Json, instance: str) -> Json:
    """`wanted` with what `current` holds with the same meaning, unaltered, in place of what was newly made: a release
    that would write it differently, or in another order, changes nothing until there is a real change."""
    before = {(group["Name"], task["Name"]): task for group, task in _tasks(current)}
    result = copied(wanted)
    for group, task in _tasks(result):
        old = before.get((group["Name"], task["Name"]))
        if old is None:
            continue
        if is_sidecar(task, instance) and same_task(task, old):
            apart = {name: task[name] for name in ("Templates", "Identities") if name in task}
            left = {"Templates", "Identities"} - set(apart)
            task.clear()
            task.update({name: value for name, value in copied(old).items() if name not in left}, **apart)
        if is_our_vault(task.get("Vault"), instance) and _says(old.get("Vault"), task["Vault"]):
            task["Vault"] = old["Vault"]
        if task.get("Identities"):
            task["Identities"] = _kept_list(
                task["Identities"],
                old.get("Identities") or [],
                lambda new, there: new.get("Name") == there.get("Name") and _says(there, new),
            )
        if task.get("Templates"):
            task["Templates"] = _kept_list(task["Templates"], old.get("Templates") or [], _same_template)
    _keep_order(result, current)
    return result


def _keep_order(wanted: Json, current: Json) -> None:
    """Put the tasks of each group in the order in which `current` has them, where it has the same ones."""
    before = {group["Name"]: [task["Name"] for task in group.get("Tasks") or []] for group in _groups(current)}
    for group in _groups(wanted):
        order = before.get(group["Name"], [])
        if sorted(order) == sorted(task["Name"] for task in group.get("Tasks") or []):
            group["Tasks"] = sorted(group.get("Tasks") or [], key=lambda task: order.index(task["Name"]))


def same_job(left: Json, right: Json) -> bool:
    """True when registering one over the other would change nothing that we or the user can have meant."""
    return _normal(left) == _normal(right)


def user_state(job: Json, instance: str) -> str:
    """A digest of the user's own part of a job, counts left out: a failed state is held only for this.

    Zero and false count as not given, so that a newer Nomad's further fields make no difference.
    """
    state: Json = _pruned(_normal(strip(job, instance).job), (None, [], {}, "", False, 0))
    for group in state.get("TaskGroups") or []:
        group.pop("Count", None)
    return stable_digest(state)


def to_register(job: Json) -> Json:
    """The job as it is sent to Nomad: without what only the server writes."""
    sent = copied(job)
    for name in ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Status", "StatusDescription", "Stable", "VersionTag"):
        sent.pop(name, None)
    return sent


def vault_block(part: TaskPart) -> Json:
    """The task's Vault block. The token stays out of the environment and off the disk, unless the task has a right that
    it uses by itself. A task that only has pinned templates needs no token once it runs: nothing happens to it when the
    token ends."""
    return {
        "Role": part.role,
        "Namespace": part.vault_namespace,
        "Cluster": "default",
        "Env": part.token_env,
        "DisableFile": not part.token_file,
        "ChangeMode": "restart" if part.leased or part.token_env else "noop",
        "ChangeSignal": "",
        "AllowTokenExpiration": not (part.polls or part.token_env or part.token_file),
    }


def is_our_vault(vault: Mapping[str, Any] | None, instance: str) -> bool:
    """True when a task's Vault block logs in with a role of this instance."""
    return bool(vault) and str((vault or {}).get("Role") or "").startswith(name_prefix(instance))


def _strip_task(task: Json, instance: str) -> tuple[list[Mark], bool]:
    """Take our part out of a task: its marks, and whether the Vault block was ours."""
    marks: list[Mark] = []
    kept: list[Json] = []
    for template in task.get("Templates") or []:
        found = read_mark(template)
        if found is not None and found[0].owner.instance == instance:
            marks.append(found[0])
        else:
            kept.append(template)
    had_vault = is_our_vault(task.get("Vault"), instance)
    if had_vault:
        task["Vault"] = None
    if marks:
        task["Templates"] = kept or None
    if any("identity" in mark.adds for mark in marks):
        identities = [item for item in task.get("Identities") or [] if item.get("Name") != IDENTITY]
        task["Identities"] = identities or None
    return marks, had_vault


def _inject_task(task: Json, part: TaskPart, keeps: Keeps) -> None:
    has_identity = not part.vault or any(item.get("Name") == IDENTITY for item in task.get("Identities") or [])
    adds = () if has_identity else ("identity",)
    ours = [
        (owner, *_slotted(render_block(item, owner, adds, keeps) if isinstance(item, TemplateBlock) else item))
        for owner, item in part.templates
    ]
    # Sorted, so that freezing a binding or writing its secrets in another order changes nothing.
    ours.sort(key=lambda row: row[:2])
    task["Templates"] = [*(task.get("Templates") or []), *(template for _, _, template in ours)]
    if not has_identity:
        task["Identities"] = [*(task.get("Identities") or []), _identity()]
    # A Vault block that is still there is the user's own, put in beside templates of a binding that is held.
    if part.vault and not task.get("Vault"):
        task["Vault"] = vault_block(part)


def _slotted(template: Json) -> tuple[str, Json]:
    found = read_mark(template)
    return (found[0].slot if found is not None else ""), template


def _signals_of(part: TaskPart) -> frozenset[str]:
    """The signals that our templates send."""
    signals: set[str] = set()
    for _, item in part.templates:
        if isinstance(item, TemplateBlock):
            mode, signal = item.change.mode, item.change.signal
        else:
            mode, signal = str(item.get("ChangeMode") or ""), str(item.get("ChangeSignal") or "")
        if mode == "signal":
            signals.add(signal)
    return frozenset(signals)


def _least(marks: Iterable[Mark]) -> Keeps:
    """What all marks of a group say the user has; a constraint on signals when any of them says so, since each names
    the value that it is about."""
    keeps = [mark.keeps for mark in marks]
    return Keeps(
        vault=min((keep.vault for keep in keeps), default=0),
        nomad=min((keep.nomad for keep in keeps), default=0),
        signals=next((keep.signals for keep in keeps if keep.signals), ""),
    )


def _same_template(new: Json, there: Json) -> bool:
    """True when a template of ours is in the job already, unaltered and with the same meaning."""
    found, old = read_mark(new), read_mark(there)
    if found is None or old is None or not old[1]:
        return new == there
    mark, before = found[0], old[0]
    same = (mark.owner, mark.slot, mark.want, mark.adds, mark.keeps) == (
        before.owner, before.slot, before.want, before.adds, before.keeps,
    )  # fmt: skip
    # Nomad before 1.10.2 does not keep `Once`.
    return same and there.get("Once", new.get("Once")) == new.get("Once")


def _kept_list(wanted: list[Json], current: list[Json], same: Callable[[Json, Json], bool]) -> list[Json]:
    """`wanted` with each item that `current` has in the same sense taken from there; in `current`'s order when both are
    the same but for that."""
    left = list(range(len(current)))
    taken: list[int | None] = []
    for item in wanted:
        position = next((position for position in left if same(item, current[position])), None)
        if position is not None:
            left.remove(position)
        taken.append(position)
    if not left and None not in taken:
        return list(current)
    return [item if position is None else current[position] for item, position in zip(wanted, taken, strict=True)]


def _says(current: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """True when a block has every value that we set. A key that an older Nomad does not keep cannot differ."""
    if not current:
        return False
    return all(_pruned(current.get(name, value)) == _pruned(value) for name, value in wanted.items())


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


def without_volatile(job: Json) -> Json:
    """A job without bookkeeping, and without what Nomad writes in two ways (null, nothing, an empty list or map)."""
    plain: Json = _pruned({name: value for name, value in job.items() if name not in _VOLATILE})
    return plain


def _normal(job: Json) -> Json:
    """A form in which what Nomad writes in two ways does not count (null, nothing, an empty list or map), nor its
    bookkeeping, nor the constraints that its server adds."""
    normal = without_volatile(job)
    for group in normal.get("TaskGroups") or []:
        # The server adds its constraints again on registration: sent and answered job may differ in them.
        constraints = without_implied({**group, "Tasks": []}, Keeps(), required_signals(group))
        group["Constraints"] = sorted(stable_digest(item) for item in constraints)
    return normal


def _pruned(value: Any, empty: tuple[Any, ...] = (None, [], {})) -> Any:
    if isinstance(value, dict):
        items = ((name, _pruned(item, empty)) for name, item in value.items())
        return {name: item for name, item in items if not _among(item, empty)}
    if isinstance(value, list):
        return [_pruned(item, empty) for item in value]
    return value


def _among(item: Any, empty: tuple[Any, ...]) -> bool:
    """Like `in`, but 0 is not False."""
    return any(type(item) is type(other) and item == other for other in empty)


def _groups(job: Json) -> Sequence[Json]:
    groups: Sequence[Json] = job.get("TaskGroups") or []
    return groups


def _tasks(job: Json) -> Sequence[tuple[Json, Json]]:
    return [(group, task) for group in _groups(job) for task in group.get("Tasks") or []]
