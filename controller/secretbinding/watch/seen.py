"""What a look at a secret shows, in a form that can be compared: what the engine decides by, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from secretbinding.kinds.base import Pin, SecretState
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion


@dataclass(frozen=True, slots=True)
class Seen:
    """A KV v2 secret: the versions that are kept, in order, with their creation times and whether they are deleted or
    destroyed, and how many are kept at most."""

    current: int
    max_versions: int
    versions: tuple[KvVersion, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A secret without versions: what the server tells of it. Fields as those of `kinds.SecretState`."""

    revision: Pin | None = None
    lease_seconds: float = 0.0
    next_change: datetime | None = None


Sight = Seen | Told

ABSENT = Seen(0, 0, ())
"""No such secret, or one without any version."""


def seen_in_metadata(metadata: KvMetadata | None) -> Sight:
    """What the metadata of a KV v2 secret shows."""
    if metadata is None:
        return ABSENT
    return _seen(metadata.current, metadata.max_versions, metadata.versions)


def seen_in_state(state: SecretState) -> Sight | None:
    """What `Kind.observe` has seen; None when it saw nothing that can be compared."""
    if state.fault is not None:
        return ABSENT if state.fault.reason is Reason.SECRET_NOT_FOUND else None
    if state.pinnable or state.engine == "v2":
        return _seen(state.current, state.max_versions, state.versions)
    return Told(state.revision, state.lease_seconds, state.next_change)


def _seen(current: int, max_versions: int, versions: Mapping[int, KvVersion]) -> Sight:
    if current == 0:
        return ABSENT
    return Seen(current, max_versions, tuple(versions[number] for number in sorted(versions)))
