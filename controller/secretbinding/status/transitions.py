"""Which changes of a status are worth an event."""

from collections.abc import Iterator
from dataclasses import dataclass

from secretbinding.generation import read_request
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.rotation import read_rotate_request

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
    VaultSynced. A first status that is merely waiting is not one. Then one for each request that could not be read."""
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
    return (*found.values(), *_unreadable(before, after))


def _unreadable(before: SecretBindingStatus, after: SecretBindingStatus) -> Iterator[Transition]:
    rotate, generate = after.last_handled_rotate_at, after.last_handled_generate_at
    if rotate and rotate != before.last_handled_rotate_at and read_rotate_request(rotate) is None:
        yield _not_read("rotate-requested-at is no time", "")
    if generate and generate != before.last_handled_generate_at and read_request(generate) is None:
        yield _not_read(
            "generate-requested-at does not begin with a time", ", then names of secrets if not all are meant"
        )


def _not_read(fault: str, more: str) -> Transition:
    message = f"nomad-vault.io/{fault}, so that nothing was done: write one like 2026-01-31T02:00:00Z{more}"
    return Transition("Warning", Reason.REQUEST_UNREADABLE, message)


def _same(old: Condition | None, new: Condition) -> bool:
    return old is not None and (old.status, old.reason) == (new.status, new.reason)
