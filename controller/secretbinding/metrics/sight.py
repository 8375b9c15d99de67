"""What of one pass is counted, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from secretbinding.kinds.base import Pin
from secretbinding.metrics.words import Decision, Part
from secretbinding.models.key import BindingKey


class Stage(Enum):
    """Where a deployment stands."""

    RUNNING = auto()
    WAITING = auto()  # for the promotion of its canaries
    SUCCESSFUL = auto()
    FAILED = auto()
    CANCELLED = auto()


class Reference(NamedTuple):
    """An entry of spec.secrets: the digest of which secret it is, and whether the controller rolls its new versions."""

    of: str
    followed: bool


References = Mapping[tuple[BindingKey, str], Reference]
"""By binding and name of the entry."""


class Obstruction(NamedTuple):
    """Why a new version is not rolled now: `deferred`, `limited` or `held`, and the reason."""

    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True)
class SecretSight:
    """One distinct secret of the workload, however many of its bindings use it.

    Attributes:
        newest: the newest version or revision that Vault told of; None when it could not be looked at.
        versions: creation times of the versions that Vault keeps, by number.
        serving: what the job has; empty when it does not have the secret.
        renewal: the moment for which new credentials are wanted that the job does not have yet, "" for none.
        obstructions: why what is new is not rolled.
        at_risk: what serves is gone, or goes with the next version.
        followed: the controller rolls new versions of it.
    """

    newest: Pin | None = None
    versions: Mapping[int, str] = field(default_factory=dict)
    serving: frozenset[Pin] = frozenset()
    renewal: str = ""
    obstructions: frozenset[Obstruction] = frozenset()
    at_risk: bool = False
    followed: bool = True

    def written_since(self, known: Pin) -> int:
        """How many versions were made after a known one. A number that is there with another time, or that is higher
        than any, is one of a secret that was deleted for good and made again."""
        newest = self.newest
        if newest is None or newest == known:
            return 0
        if not newest.version:
            return int(newest.told != known.told)
        same = self.versions.get(known.version, known.created) == known.created
        return newest.version - known.version if same and 0 < known.version < newest.version else newest.version


@dataclass(frozen=True, slots=True)
class Registration:
    """A job that was registered, or would have been.

    Attributes:
        version: the version of the job that it makes.
        part: digest of our part in it.
        want: digest of what is wanted of the job.
        brought: new versions in place of older ones, by secret.
        changed: when these were made in Vault, as far as Vault tells.
        restores: it takes back a state of ours that failed.
    """

    version: int
    part: str = ""
    want: int = 0
    brought: Mapping[str, Pin] = field(default_factory=dict)
    changed: tuple[datetime, ...] = ()
    restores: bool = False


@dataclass(frozen=True, slots=True)
class Repair:
    """A planned write of something of ours; `want` is a digest of what it is to be, `done` when it was written."""

    what: Part
    want: int
    done: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """What a pass saw and did.

    Attributes:
        decided: the pass came as far as its decisions; without that nothing else means anything.
        settled: all is as it should be, and nothing is under way.
        version: of the job, -1 when there is none; `part` a digest of our part in it.
        stopped: somebody has stopped the job.
        rolled: whether, without a deployment, every allocation has the job's version.
        stages: of the deployments, by job version.
        pins: what the job has of each secret.
        secrets: by the digest of which secret it is.
        holding: job versions whose failure holds something.
        rolling: how the job's version came about, when its deployment is under way and its history is known.
        registered: what the pass registered.
        lost: what it would have, if Nomad had answered.
        repairs: planned writes of policies, roles and the job.
        wants: digests of how policies, roles and our part of the job are to be.
    """

    decided: bool = True
    settled: bool = False
    version: int = -1
    part: str = ""
    stopped: bool = False
    rolled: bool = False
    stages: Mapping[int, Stage] = field(default_factory=dict)
    pins: Mapping[str, frozenset[Pin]] = field(default_factory=dict)
    secrets: Mapping[str, SecretSight] = field(default_factory=dict)
    holding: frozenset[int] = frozenset()
    rolling: Registration | None = None
    registered: Registration | None = None
    lost: Registration | None = None
    repairs: tuple[Repair, ...] = ()
    wants: frozenset[int] = frozenset()
