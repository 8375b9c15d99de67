"""Hand-written stanzas that a binding has taken over: they stay as they are until there is a real change."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from secretbinding.desired.adopted import Adoption, TakenTask, read_adoption
from secretbinding.desired.compute import Scopes, parts_for
from secretbinding.desired.decisions import fields_read, state_of
from secretbinding.desired.handwritten import Wanted, difference, wanted_of
from secretbinding.desired.shares import Share, share_of
from secretbinding.desired.sidecars import by_agent
from secretbinding.desired.values import BindingInput, Observed
from secretbinding.job.inject import inject, is_our_vault, strip
from secretbinding.job.marks import placed_marks, share_states, template_digest
from secretbinding.job.targets import (
    TaskRef,
    destinations_of,
    find_task,
    normal_path,
    select_tasks,
    variables_in,
    variables_of,
)
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name, stable_digest
from secretbinding.ports import Json, copied
from secretbinding.rotation import SecretDecision

# Of a Vault block, what Nomad stores where nothing is written.
_VAULT_DEFAULTS = {"Cluster": "default", "Env": True, "ChangeMode": "restart"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a binding can take over, with words for each thing, or why it cannot."""

    adoption: Adoption | None = None
    taken: tuple[str, ...] = ()
    fault: Fault | None = None


def propose(item: BindingInput, binding: SecretBinding, observed: Observed, instance: str) -> Proposal:
    """What `adopt` would take over for a binding. Everything that the binding renders has to be there by hand, and a
    template by hand must read the same and set no other variable: otherwise taking over would take or lack something,
    or the next roll give the task another value."""
    job = observed.job
    if job is None:
        return Proposal(fault=Fault(Reason.JOB_NOT_FOUND, "there is no such job, and so nothing to adopt"))
    if by_agent(binding):
        message = "with delivery Agent the secrets come by a task of its own, and nothing by hand can stand for it"
        return Proposal(fault=Fault(Reason.UNSUPPORTED_DELIVERY, message))
    if any(mark.key == item.key for mark in placed_marks(job, instance)):
        message = "the binding is in the job already, and nothing by hand beside it"
        return Proposal(fault=Fault(Reason.SYNCED, message))
    tasks, missing = select_tasks(job, binding.spec.workload.groups)
    if missing is not None:
        return Proposal(fault=missing)
    pins: dict[str, Pin] = {}
    for entry in binding.spec.secrets:
        state = state_of(observed, item.key, entry)
        if state.fault is not None:
            return Proposal(fault=state.fault)
        version = state.versions.get(entry.kv.version if entry.kv and entry.kv.version else state.current)
        pin = Pin(version.number, version.created) if version is not None else state.revision
        if pin is not None and binding.spec.rotation.strategy != "Native":
            pins[entry.name] = pin
    fields = fields_read(item.key, binding, _decided(binding, pins), observed)
    wanted = wanted_of(item.key, binding, observed, _decided(binding, pins))
    taken: list[TakenTask] = []
    words: list[str] = []
    for ref in tasks:
        found = _taken_in(find_task(job, ref) or {}, ref, binding, variables_of(binding, fields), wanted, instance)
        if isinstance(found, Fault):
            return Proposal(fault=found)
        taken.append(found[0])
        words += found[1]
    adoption = Adoption(tuple(taken), pins)
    virtual = _virtual(observed, {item.key: (item, binding, adoption)}, instance)
    share = share_states(virtual, instance).get(item.key, "") if virtual is not None else ""
    return Proposal(replace(adoption, share=share), tuple(words))


def dressed(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> Observed:
    """The workload as the decisions are to see it: with what was taken over by hand as if it were ours.

    What somebody has altered is not taken over any more: it is in the way, as it was before. Where the binding would be
    another than at that time, what is there by hand counts as not being there, so that it is replaced.
    """
    adoptions: dict[BindingKey, Adoption] = {}
    for item in bindings:
        policy = observed.policies.get(policy_name(Owner(instance, item.key)))
        document = policy.document if policy is not None else None
        adoption = read_adoption(document.adopted) if document is not None else None
        if adoption is not None:
            adoptions[item.key] = adoption
    return with_adoptions(observed, bindings, adoptions, instance)


def with_adoptions(
    observed: Observed, bindings: Sequence[BindingInput], adoptions: Mapping[BindingKey, Adoption], instance: str
) -> Observed:
    """The same for given adoptions."""
    job = observed.job
    if job is None or not adoptions:
        return observed
    there = {mark.key for mark in placed_marks(job, instance)}
    active = {
        item.key: (item, item.binding, adoptions[item.key])
        for item in bindings
        if item.key in adoptions and not item.deleting and item.binding is not None and item.key not in there
        if _without(job, [adoptions[item.key]]) is not None
    }
    virtual = _virtual(observed, active, instance) if active else None
    if virtual is None:
        return observed
    shares = share_states(virtual, instance)
    changed = {key for key, (_, _, adoption) in active.items() if shares.get(key) != adoption.share}
    if changed:
        virtual = _virtual(observed, active, instance, without=changed) or virtual
    versions = [_dressed_version(row, job, virtual) for row in observed.versions]
    taken = {key: adoption for key, (_, _, adoption) in active.items()}
    return replace(observed, job=virtual, versions=versions, adoptions=taken, bare=job)


def _dressed_version(row: Json, job: Json, virtual: Json) -> Json:
    """The present version in the history, with what was taken over as if it were ours."""
    if row.get("Version") != job.get("Version"):
        return row
    return {**row, "TaskGroups": virtual.get("TaskGroups")}


def _virtual(
    observed: Observed,
    active: Mapping[BindingKey, tuple[BindingInput, SecretBinding, Adoption]],
    instance: str,
    without: Set[BindingKey] = frozenset(),
) -> Json | None:
    """The job without what was taken over, and with what the bindings had at that time instead; nothing for those that
    are to be left out."""
    job = observed.job
    bare = _without(job, [adoption for _, _, adoption in active.values()]) if job is not None else None
    if job is None or bare is None:
        return None
    stripped = strip(bare, instance)
    shares: list[Share] = []
    for key, (item, binding, adoption) in active.items():
        if key in without:
            continue
        tasks, missing = select_tasks(stripped.job, binding.spec.workload.groups)
        if missing is not None:
            return None
        shares.append(share_of(item, binding, tasks, observed, _decided(binding, adoption.pins)))
    kept = tuple(placed_marks(job, instance))
    scopes = Scopes(observed.workload, instance, shares, job)
    parts = parts_for(observed, shares, kept, scopes, stripped.job, instance)
    return inject(stripped, parts, instance)


def _decided(binding: SecretBinding, pins: Mapping[str, Pin]) -> list[SecretDecision]:
    return [SecretDecision(entry.name, pin=pins.get(entry.name)) for entry in binding.spec.secrets]


def _taken_in(
    task: Json, ref: TaskRef, binding: SecretBinding, variables: Iterable[str], wanted: Wanted, instance: str
) -> tuple[TakenTask, tuple[str, ...]] | Fault:
    place = f"task {ref.group}/{ref.task}"
    vault = task.get("Vault")
    if not vault or is_our_vault(vault, instance):
        message = f"{place} has no vault block by hand, and so nothing to adopt; use apply"
        return Fault(Reason.VAULT_BLOCK_CONFLICT, message)
    wanted_paths, wanted_names = set(destinations_of(binding)), set(variables)
    templates: list[Json] = []
    words = [f"{place}: vault block (role {vault.get('Role') or 'default'})"]
    for template in task.get("Templates") or []:
        path, names = normal_path(str(template.get("DestPath") or "")), set(variables_in(template))
        if path not in wanted_paths and not names & wanted_names:
            continue
        beyond = sorted(names - wanted_names)
        if beyond:
            message = (
                f"{place}: the template at {template.get('DestPath')} also sets {', '.join(beyond)}; bind it as well"
            )
            return Fault(Reason.ENV_CONFLICT, message)
        other = difference(template, wanted)
        if other:
            message = f"{place}: the template at {template.get('DestPath')} {other}; bring them together, or use apply"
            return Fault(Reason.ENV_CONFLICT if names else Reason.TEMPLATE_CONFLICT, message)
        templates.append(template)
        words.append(f"{place}: template at {template.get('DestPath')}")
    lacking = sorted(
        {*(wanted_paths - {normal_path(str(item.get("DestPath") or "")) for item in templates})}
        | {*(wanted_names - {name for item in templates for name in variables_in(item)})}
    )
    if lacking:
        message = f"{place} has nothing by hand for {', '.join(lacking)}, so that it cannot be left as it is; use apply"
        return Fault(Reason.TEMPLATE_CONFLICT, message)
    digests = tuple(template_digest(template) for template in templates)
    return TakenTask(ref.group, ref.task, _vault_digest(vault), digests), tuple(words)


def _without(job: Json, adoptions: Iterable[Adoption]) -> Json | None:
    """The job less all that was taken over; None when anything of it is not there as it was."""
    bare = copied(job)
    taken_vaults: set[TaskRef] = set()
    for adoption in adoptions:
        for item in adoption.tasks:
            ref = TaskRef(item.group, item.task)
            task = find_task(bare, ref)
            if task is None:
                return None
            if ref not in taken_vaults:
                if _vault_digest(task.get("Vault") or {}) != item.vault:
                    return None
                task["Vault"] = None
                taken_vaults.add(ref)
            left = list(task.get("Templates") or [])
            for digest in item.templates:
                position = next((n for n, one in enumerate(left) if template_digest(one) == digest), None)
                if position is None:
                    return None
                del left[position]
            task["Templates"] = left or None
    return bare


def _vault_digest(vault: Mapping[str, Any]) -> str:
    shown = {
        name: value
        for name, value in {
            **_VAULT_DEFAULTS,
            **{name: value for name, value in vault.items() if value is not None},
        }.items()
        if value not in (False, "", [], {})
    }
    return stable_digest(shown)
