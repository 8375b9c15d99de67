"""Which version or revision of a secret a job should read now, and which states of our part have failed."""

from secretbinding.rotation.failures import (
    FailedState,
    failed_description,
    failed_parts,
    failed_states,
    failed_tag,
    good_version,
    held_failure,
    is_failed_tag,
    last_roll,
    last_stable,
    nanoseconds_to_time,
    renewal_failed,
    suspected,
)
from secretbinding.rotation.leases import SPREAD, TURN_SECONDS, Lease, lease_of, lease_turn, spacing_seconds
from secretbinding.rotation.versions import FIRST, SecretDecision, Turn, decide_version, read_rotate_request

__all__ = [
    "FIRST",
    "SPREAD",
    "TURN_SECONDS",
    "FailedState",
    "Lease",
    "SecretDecision",
    "Turn",
    "decide_version",
    "failed_description",
    "failed_parts",
    "failed_states",
    "failed_tag",
    "good_version",
    "held_failure",
    "is_failed_tag",
    "last_roll",
    "last_stable",
    "lease_of",
    "lease_turn",
    "nanoseconds_to_time",
    "read_rotate_request",
    "renewal_failed",
    "spacing_seconds",
    "suspected",
]
