"""The words that labels are made of, each from a small fixed set."""

from enum import StrEnum

from secretbinding.gate import Obstacle
from secretbinding.models.reasons import Reason


class Decision(StrEnum):
    """What is decided about new versions of secrets."""

    DETECTED = "detected"
    COALESCED = "coalesced"
    DEFERRED = "deferred"
    LIMITED = "limited"
    HELD = "held"
    STARTED = "started"


class Outcome(StrEnum):
    """How a roll for new versions ends, or what it waits for."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVERTED = "reverted"
    SUPERSEDED = "superseded"
    WAITING_FOR_PROMOTION = "waiting_for_promotion"


class Cause(StrEnum):
    """Why a job is registered: new versions, somebody altered our part, a failed state is taken back, all else."""

    ROTATION = "rotation"
    DRIFT = "drift"
    RESTORE = "restore"
    CHANGE = "change"


class Part(StrEnum):
    """What of ours somebody else may alter."""

    POLICY = "policy"
    ROLE = "role"
    ENGINE_ROLE = "engine_role"
    JOB = "job"


class Result(StrEnum):
    """How a pass over a workload ends: nothing to do, something written, the job registered, a server's error, an error
    that nobody foresaw, or not begun since a source could not prepare a binding."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    REGISTERED = "registered"
    FAILED = "failed"
    CRASHED = "crashed"
    UNPREPARED = "unprepared"


VERSION, LEASE = "Version", "Lease"
"""What is detected: a new version or revision of a secret, or leases that are to be replaced ahead of their end."""

AGAIN = "Again"
"""A roll that is started for versions of which each has been rolled, or was counted as coalesced, before."""

STARTING = "Starting"
"""A roll that waits since allocations which it leaves alone are starting."""

UNREADABLE_GROUP = "UnreadableGroup"
"""A roll that waits since a task of its group reads a version that can no longer be read."""

REFUSED = (
    Reason.SECRET_FIELD_MISSING,
    Reason.SECRET_VERSION_DELETED,
    Reason.SECRET_VERSION_DESTROYED,
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_UNREADABLE,
)
"""Why a new version is not rolled whatever the clock says."""

# Of rolls in flight, and of new values.
_ELSEWHERE = (Obstacle.SLOT, Obstacle.DEPLOYMENT, Obstacle.RETRY)
REASONS: dict[Decision, tuple[str, ...]] = {
    Decision.DETECTED: (VERSION, LEASE),
    Decision.COALESCED: ("",),
    Decision.DEFERRED: (
        *(obstacle.value for obstacle in Obstacle if obstacle not in _ELSEWHERE),
        Reason.MANUAL_ROTATION_PENDING.value,
        STARTING,
        UNREADABLE_GROUP,
    ),
    Decision.LIMITED: (Obstacle.SLOT.value,),
    Decision.HELD: (Reason.DEPLOYMENT_FAILED.value, *(reason.value for reason in REFUSED)),
    Decision.STARTED: ("", AGAIN),
}
"""Every reason that a decision may have."""
