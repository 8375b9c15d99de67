"""New values for the secrets of one workload: which are due, and what each has to wait for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from secretbinding.desired.decisions import last_roll, state_of, ungated_groups
from secretbinding.desired.past import rolling
from secretbinding.desired.values import BindingInput, BindingResult, Observed
from secretbinding.gate import Gate, Obstacle, Wait, waits, waits_for_place
from secretbinding.generation import (
    KV,
    ROOT,
    STATIC_ROLE,
    GenerateValue,
    Generation,
    Target,
    changed_of,
    decide_generation,
    held,
    target_of,
    together,
)
from secretbinding.job.marks import Placed, placed_marks
from secretbinding.models.binding import Generate, SecretBinding, SecretEntry, Strategy
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.rotation import Rotation
from secretbinding.naming import Owner, policy_name
from secretbinding.render.policy import policy_text
from secretbinding.windows import opening

Generations = dict[tuple[BindingKey, str], Generation]


def generations(
    observed: Observed,
    bindings: Sequence[BindingInput],
    results: Mapping[BindingKey, BindingResult],
    instance: str,
) -> Generations:
    """What is decided for each entry of `rotation.generate`, by binding and secret.

    Bindings that are frozen, going or refused make no values. One whose secret is missing or lacks a field does: that
    may be what mends it. A secret of which nothing could be learned is left out.
    """
    found: Generations = {}
    placed: tuple[Placed, ...] | None = None
    for item in bindings:
        binding = item.binding
        if binding is None or item.frozen is not None or item.deleting or not binding.spec.rotation.generate:
            continue
        if not _may_generate(results.get(item.key)):
            continue
        if placed is None:
            placed = tuple(placed_marks(observed.job, instance))
        secrets = {entry.name: entry for entry in binding.spec.secrets}
        for entry in binding.spec.rotation.generate:
            decided = _decide(observed, item, entry, secrets[entry.secret], instance)
            if decided is not None:
                rolls = _rolls(binding, decided, placed, item.key)
                wait = _wait(observed, item.key, binding, decided, placed, instance) if decided.now else None
                found[item.key, entry.secret] = held(replace(decided, rolls=rolls), wait)
    return {place: together(one, found.values(), observed.gate.now) for place, one in found.items()}


def _may_generate(result: BindingResult | None) -> bool:
    if result is None:
        return False
    fault = result.fault
    of_a_secret = any(decision.fault == fault for decision in result.secrets)
    return fault is None or of_a_secret or fault.reason is Reason.NEW_VERSION_HELD


def _decide(
    observed: Observed, item: BindingInput, entry: Generate, secret: SecretEntry, instance: str
) -> Generation | None:
    target = target_of(entry, secret)
    policy = observed.policies.get(policy_name(Owner(instance, item.key)))
    answered = dict(policy.document.answered) if policy is not None and policy.document is not None else {}
    changed = changed_of(
        target, state_of(observed, item.key, secret), answered.get(entry.secret, ""), observed.gate.vault_ahead
    )
    if changed is None:
        return None
    request = item.generate_request
    return decide_generation(
        entry,
        target,
        changed,
        now=observed.gate.now,
        vault_ahead=observed.gate.vault_ahead,
        request=request if request is not None and request.covers(entry.secret) else None,
        tried=observed.attempts.tried.get((item.key, entry.secret)),
        served=observed.attempts.served.get(target),
        answered=observed.attempts.answered.get(target),
    )


def _wait(
    observed: Observed,
    key: BindingKey,
    binding: SecretBinding,
    decided: Generation,
    placed: Sequence[Placed],
    instance: str,
) -> Wait | None:
    """What a new value has to wait for: for a deployment to end, and, on schedule, for all that the roll that follows
    would wait for, so that value and roll come together.

    The old password of a static role is worth nothing from then on and its roll waits for nothing, so that it waits for
    leave to replace a whole group at once, too.
    """
    if _unsettled(observed):
        return Wait("a deployment of the job is running", Obstacle.DEPLOYMENT)
    rotation = binding.spec.rotation
    if not _rolls(binding, decided, placed, key):
        return None
    ungated = ungated_groups(observed.job, placed).get(key, "") if decided.target.kind == STATIC_ROLE else ""
    gate = observed.gate
    last = last_roll(observed, instance)
    wait = waits(rotation, gate, since=None, last_roll=last, ungated=ungated) or waits_for_place(gate)
    return wait or _window_too_short(rotation, gate)


def _rolls(binding: SecretBinding, decided: Generation, placed: Sequence[Placed], key: BindingKey) -> bool:
    """True for a value that the schedule wants and that the job is then rolled for."""
    if decided.requested or binding.spec.rotation.strategy is Strategy.NATIVE or decided.target.kind == ROOT:
        return False
    return any(item.key == key and item.mark.secret == decided.entry.secret for item in placed)


def _window_too_short(rotation: Rotation, gate: Gate) -> Wait | None:
    """The wait of a value whose roll, which settles first, would come after its window has closed."""
    if gate.now is None:
        return None
    settle = rotation.settle.seconds if rotation.settle is not None else gate.settle_seconds
    if opening(rotation.windows, gate.now + timedelta(seconds=settle)).allowed:
        return None
    why = f"the window closes before the change has settled ({settle:g} s)"
    return Wait(why, Obstacle.WINDOW, opening(rotation.windows, gate.now).changes_at)


def _unsettled(observed: Observed) -> bool:
    """True while the job's newest version is on its way to its allocations: a deployment is running, or Nomad has not
    come to begin one."""
    job = observed.job
    if job is None:
        return False
    if rolling(observed.deployments):
        return True
    version = job.get("Version")
    if job.get("Type") not in ("service", "system") or job.get("Periodic") or job.get("ParameterizedJob"):
        return False
    if any(item.get("JobVersion") == version for item in observed.deployments):
        return False
    return any(
        item.get("JobVersion") != version and item.get("ClientStatus") in ("pending", "running")
        for item in observed.allocations
    )


def values_to_make(
    observed: Observed, decided: Mapping[tuple[BindingKey, str], Generation], written: set[str], instance: str
) -> list[GenerateValue]:
    """The actions for what is to be made now: one for each target, however many bindings want it.

    Of a KV secret every entry that is due goes into that one, those as well that would wait longer by themselves (for a
    window, or after a failure): once there is a newer version, they would be due no more.

    What is to be remembered in a binding's policy waits until that is there, and is not `written` anyway.
    """
    actions: dict[Target, GenerateValue] = {}
    written = set(written)
    for (key, name), found in sorted(decided.items()):
        if not found.now or found.due is None or found.target in actions:
            continue
        answer = None
        if found.target.kind == ROOT:
            policy = policy_name(Owner(instance, key))
            there = observed.policies.get(policy)
            if there is None or there.document is None or policy in written:
                continue
            written.add(policy)
            answered = {**dict(there.document.answered), name: found.due.isoformat()}
            answer = (policy, policy_text(replace(there.document, answered=tuple(sorted(answered.items())))))
        actions[found.target] = GenerateValue(
            key, found.entry, found.target, found.changed.seen, found.due, found.requested, answer
        )
    return [_merged(action, decided) if target.kind == KV else action for target, action in actions.items()]


def _merged(action: GenerateValue, decided: Mapping[tuple[BindingKey, str], Generation]) -> GenerateValue:
    """The action with all that is due of its target; what is asked for comes first, and tells what it is made for."""
    parts = [
        GenerateValue(key, found.entry, found.target, action.seen, found.due, found.requested)
        for (key, _), found in sorted(decided.items(), key=lambda item: (not item[1].requested, item[0]))
        if found.target == action.target and found.due is not None and found.changed.fault is None
    ]
    return replace(parts[0], also=tuple(parts[1:]))
