"""How jobs are divided into shards, and shards among the controllers that take part: pure decisions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from secretbinding.models.key import WorkloadKey
from secretbinding.naming import stable_number

LEADER = 0
"""The shard whose holder also does what only one may do. Without sharding it is the only one."""


def shard_of(workload: WorkloadKey, total: int) -> int:
    """The shard of a job, by its namespace and name alone: the same in every process and every release."""
    return stable_number([workload.namespace, workload.job]) % total if total > 1 else LEADER


def assigned(members: Collection[str], total: int) -> dict[int, str]:
    """Who is to hold which shard. Everybody who sees the same members comes to the same answer.

    No member gets more than its part, rounded up. Each shard goes to the member with the highest number for it, so
    that few change hands when a member comes or goes. Empty without members.
    """
    if not members:
        return {}
    limit = -(-total // len(members))
    room = dict.fromkeys(members, limit)
    found: dict[int, str] = {}
    for shard in range(total):
        wanted = max((name for name in room if room[name]), key=lambda name: (stable_number([name, shard]), name))
        found[shard] = wanted
        room[wanted] -= 1
    return found


@dataclass(slots=True)
class Roll:
    """Who takes part, by what was seen of their beats. `seconds`: without another beat for so long a member is gone."""

    seconds: float
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def note(self, beats: Mapping[str, str], now: float) -> set[str]:
        """Those who take part. `beats` is a text for each known member that is another after each beat; `now` a reading
        of a clock that never goes back. The time runs from when a beat was *seen*: clocks of others say nothing."""
        self._seen = {
            name: (beat, self._seen[name][1] if self._seen.get(name, ("", 0.0))[0] == beat else now)
            for name, beat in beats.items()
        }
        return {name for name, (_, since) in self._seen.items() if now - since < self.seconds}

    def long_gone(self, now: float, seconds: float) -> set[str]:
        """Those who have not been seen to beat for so long."""
        return {name for name, (_, since) in self._seen.items() if now - since >= seconds}
