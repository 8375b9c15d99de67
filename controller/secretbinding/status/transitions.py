"""Which changes of a status are worth an event."""

from dataclasses import dataclass

from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus

_WATCHED = (ConditionType.READY, ConditionType.ROTATION_HEALTHY, ConditionType.VAULT_SYNCED)
_REASONS = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Transition:
    """Something worth an event: a condition that changed. `kind` is `Normal` or `Warning`, as for Kubernetes events."""

    kind: str
    reason: Reason
    message: str


def transitions(before: SecretBindingStatus, after: SecretBindingStatus) -> tuple[Transition, ...]:
    """One for each condition whose status or reason changed, each text once, in the order Ready, RotationHealthy,
    VaultSynced. A first status that is merely waiting is not one."""
    found: dict[tuple[Reason, str], Transition] = {}
    for kind in _WATCHED:
        old, new = before.condition(kind), after.condition(kind)
        if new is None or _same(old, new):
            continue
        reason = _REASONS.get(new.reason, Reason.ERROR)
        if old is None and reason in (Reason.PENDING, Reason.SYNCED, Reason.UP_TO_DATE):
            continue
        warning = new.status is ConditionStatus.FALSE and reason is not Reason.ROLLING_OUT
        found.setdefault((reason, new.message), Transition("Warning" if warning else "Normal", reason, new.message))
    return tuple(found.values())


def _same(old: Condition | None, new: Condition) -> bool:
    return old is not None and (old.status, old.reason) == (new.status, new.reason)
