"""What is decided for each secret of all bindings of one job: the version or revision that it should read now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from secretbinding.desired.gating import gated
from secretbinding.desired.past import rolling
from secretbinding.desired.requests import CLOCK_SKEW, asks_for
from secretbinding.desired.values import BindingInput, Observed
from secretbinding.generation import moment, target_of
from secretbinding.job.marks import Placed, serving_pins
from secretbinding.job.targets import select_tasks
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import AuthMethod, Delivery, SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json
from secretbinding.render.template import secret_identity
from secretbinding.rotation import (
    FIRST,
    Lease,
    SecretDecision,
    Turn,
    decide_version,
    lease_of,
    nanoseconds_to_time,
)
from secretbinding.rotation import last_roll as dated_roll


def unsupported(binding: SecretBinding) -> Fault | None:
    """What no controller can do for a binding."""
    spec = binding.spec
    if spec.auth.method is AuthMethod.APP_ROLE and spec.delivery is not Delivery.AGENT:
        return Fault(Reason.UNSUPPORTED_AUTH, "auth.method AppRole needs delivery Agent; use JWT, or an agent")
    return None


def decide_all(
    bindings: Sequence[BindingInput],
    active: Mapping[BindingKey, SecretBinding],
    observed: Observed,
    placed: Sequence[Placed],
    instance: str,
) -> dict[BindingKey, tuple[SecretDecision, ...]]:
    """What is decided for each secret of all bindings, with what has to wait held back."""
    decisions: dict[BindingKey, tuple[SecretDecision, ...]] = {}
    requested: set[BindingKey] = set()
    for item in bindings:
        binding = active.get(item.key)
        if binding is not None and unsupported(binding) is None:
            serving = {name: pin for name, (pin, _) in serving_pins(placed, item.key).items()}
            turns = {
                entry.name: _turn(item, binding, entry, observed, serving.get(entry.name))
                for entry in binding.spec.secrets
            }
            decisions[item.key] = _decide(item, binding, observed, placed, turns)
            if any(turn.requested_at is not None for turn in turns.values()):
                requested.add(item.key)
    ungated = ungated_groups(observed.job, placed)
    last = last_roll(observed, instance)
    # The job starts anew with its user's change: what only settles comes with it.
    settles = not observed.carried
    return gated(decisions, active, frozenset(requested), ungated, observed.gate, last, settles=settles)


def last_roll(observed: Observed, instance: str) -> datetime | None:
    """When the job was last registered for a change of ours, by our clock. What Nomad dated by a clock that was set
    since can lie in the future and says nothing then; this process knows what it did itself."""
    gate = observed.gate
    dated = dated_roll(observed.versions, instance)
    told = dated - gate.nomad_ahead if dated is not None else None
    if told is not None and gate.now is not None and told > gate.now + CLOCK_SKEW:
        told = None
    return max((moment for moment in (told, gate.last_registration) if moment is not None), default=None)


def _turn(
    item: BindingInput, binding: SecretBinding, entry: SecretEntry, observed: Observed, serving: Pin | None
) -> Turn:
    """What the clock and people say about one secret."""
    state = state_of(observed, item.key, entry)
    gate = observed.gate
    asked = item.rotate_requested_at if asks_for(item, state, observed) else None
    if asked is None and made_on_request(item, entry, state, observed, serving):
        asked = item.generate_request.at if item.generate_request is not None else None
    now = gate.now + gate.nomad_ahead if gate.now is not None else None
    return Turn(now, asked, _lease(binding, state, observed), gate.vault_ahead, gate.nomad_ahead)


def _lease(binding: SecretBinding, state: SecretState, observed: Observed) -> Lease | None:
    """The lease to go by. Of a job that rolls already what is old is being replaced; children of a periodic or
    parameterized job end by themselves."""
    job = observed.job
    if job is None or not state.lease_seconds or job.get("Periodic") or job.get("ParameterizedJob"):
        return None
    if rolling(observed.deployments):
        return None
    groups = {ref.group for ref in select_tasks(job, binding.spec.workload.groups)[0]}
    gate = observed.gate
    return lease_of(
        observed.allocations,
        groups,
        state.lease_seconds,
        observed.workload,
        gate.lease_share,
        now=gate.now + gate.nomad_ahead if gate.now is not None else None,
        seen={name: moment + gate.nomad_ahead for name, moment in gate.allocations_seen.items()},
    )


def ungated_groups(job: Json | None, placed: Sequence[Placed]) -> dict[BindingKey, str]:
    """For each binding in the job, a group of its that Nomad replaces without a deployment: `max_parallel` 0 (Nomad's
    `Update.MaxParallel`) means all allocations at once, and no health check. A group without one is stored with 1."""
    groups = {
        group["Name"]
        for group in (job or {}).get("TaskGroups") or []
        if group.get("Update") and group["Update"].get("MaxParallel") == 0 and group.get("Count") != 0
    }
    return {item.key: item.group for item in placed if item.group in groups}


def _decide(
    item: BindingInput,
    binding: SecretBinding,
    observed: Observed,
    placed: Sequence[Placed],
    turns: Mapping[str, Turn],
) -> tuple[SecretDecision, ...]:
    serving = serving_pins(placed, item.key)
    there = {(mark.mark.secret, mark.mark.of) for mark in placed if mark.key == item.key}
    decisions: list[SecretDecision] = []
    for entry in binding.spec.secrets:
        state = state_of(observed, item.key, entry)
        identity = secret_identity(entry)
        pin, of = serving.get(entry.name, (None, ""))
        if of != identity:
            pin = FIRST if not state.pinnable and (entry.name, identity) in there else None
        if observed.carried and not state.pinnable:
            # Whatever starts anew has the present values: there is no older one to go on with.
            pin = None
        strategy = binding.spec.rotation.strategy.value
        decisions.append(decide_version(entry, state, pin, strategy=strategy, turn=turns[entry.name]))
    return tuple(decisions)


def made_on_request(
    item: BindingInput, entry: SecretEntry, state: SecretState, observed: Observed, serving: Pin | None = None
) -> bool:
    """True when what is newest was made because somebody asked for a new value: who does so wants the job to have it.

    That is the first version from the request on; of what has no versions the present state, when the job was not
    registered since the request, and what it reads (`serving`) is older than that.
    """
    request = item.generate_request
    wanted = item.binding.spec.rotation.generate if item.binding is not None else ()
    one = next((one for one in wanted if one.secret == entry.name), None)
    if request is None or one is None or not request.covers(entry.name):
        return False
    asked = request.at + observed.gate.vault_ahead
    answered = observed.attempts.answered.get(target_of(one, entry))
    known = answered is not None and answered >= request.at
    newest = state.versions.get(state.current)
    if newest is None:
        told = moment(state.revision.told) if state.revision is not None and not state.pinnable else None
        if told is None or observed.job is None or not (known or told >= asked):
            return False
        read = moment(serving.told) if serving is not None else None
        if read is not None and read >= asked:
            return False
        registered = nanoseconds_to_time(int(observed.job.get("SubmitTime") or 0)) - observed.gate.nomad_ahead
        return request.at + CLOCK_SKEW > registered
    before = state.versions.get(state.current - 1)
    older = moment(before.created) if before is not None else None
    made_at = moment(newest.created)
    first = state.current == 1 or (older is not None and older < asked)
    return first and made_at is not None and (known or made_at >= asked)


def state_of(observed: Observed, key: BindingKey, entry: SecretEntry) -> SecretState:
    state = observed.secrets.get((key, entry.name))
    if state is None:
        message = f"secret {entry.name} was not looked at"
        return SecretState(engine="", pinnable=True, fault=Fault(Reason.SECRET_UNREADABLE, message))
    return state


def fields_read(
    key: BindingKey, binding: SecretBinding, decisions: Sequence[SecretDecision], observed: Observed
) -> dict[str, Mapping[str, Any] | None]:
    """The fields of what is read of each secret, as far as they are known: names, with a mapping for an object."""
    found: dict[str, Mapping[str, Any] | None] = {entry.name: None for entry in binding.spec.secrets}
    for entry, decision in zip(binding.spec.secrets, decisions, strict=False):
        state = state_of(observed, key, entry)
        if not state.pinnable:
            found[entry.name] = state.fields.get(0)
        elif decision.pin is not None:
            found[entry.name] = state.fields.get(decision.pin.version)
    return found
