"""Keeps this controller's shards: takes what is its part, holds on to it, and gives back what is another's."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from secretbinding.errors import SecretBindingError
from secretbinding.leadership.shards import LEADER, Roll, assigned, shard_of
from secretbinding.loops import Loop
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import Leases

_log = structlog.get_logger(__name__)

_LOOKS_IN_A_LEASE = 5
_FORGOTTEN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom the keeper tells.

    Attributes:
        gained: jobs of these shards may be worked on from now on.
        lost: and of these no more.
        busy: whether a pass over a job of which that is true is under way.
    """

    gained: Callable[[Collection[int]], None]
    lost: Callable[[Collection[int]], None]
    busy: Callable[[Callable[[WorkloadKey], bool]], bool]


class Keeper:
    """With one shard, an election: one of several controllers works, the others are ready to. With more, each has its
    part of them.

    What is held ends by itself: `owns` is false from the moment on at which another might have taken it, whether or not
    the server can be reached and whatever this process was kept from doing. `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        total: int,
        callbacks: Callbacks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._total = total
        self._tell = callbacks
        self._clock = clock
        self._roll = Roll(leases.seconds)
        self._until: dict[int, float] = {}
        self._draining: set[int] = set()
        self._told: set[int] = set()
        self._looked_at = clock()
        self._stopping = threading.Event()
        self._loop = Loop("leadership", clock=clock)
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    @property
    def total(self) -> int:
        """How many shards there are."""
        return self._total

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round from `start` to `stop`."""
        return (self._loop,)

    def held(self) -> frozenset[int]:
        """The shards whose jobs this controller works on now."""
        now = self._clock()
        return frozenset(shard for shard, until in self._until.items() if now < until)

    def owns(self, workload: WorkloadKey) -> bool:
        """Whether a write for this job may begin."""
        return self._clock() < self._until.get(shard_of(workload, self._total), 0.0)

    def silent_seconds(self) -> float:
        """How long the server that holds the leases has not answered."""
        return self._clock() - self._looked_at

    def start(self) -> None:
        """Begin to take part."""
        self._looked_at = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Give everything back, so that others need not wait. Passes must have come to their end before."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for shard in sorted(self._until.keys() | self._draining):
            self._give(shard)
        if self._total > 1:
            self._leave(self._leases.identity)

    def look(self) -> bool:
        """One look: what is held is held on to, what is another's part is given back, what is ours and free is taken.
        False when the server did not answer to all of it."""
        good = True
        for shard in list(self._until):
            good = self._hold(shard) and good
        wanted = self._wanted()
        if wanted is None:
            self._settle()
            return False
        for shard in [shard for shard in self._until if shard not in wanted]:
            # Nothing more begins for its jobs; it is given back when what is under way has ended.
            del self._until[shard]
            self._draining.add(shard)
        self._settle()
        for shard in sorted(self._draining):
            if not self._is_busy(shard):
                self._give(shard)
        for shard in sorted(wanted - self._until.keys() - self._draining):
            good = self._hold(shard) and good
        self._settle()
        if good:
            self._looked_at = self._clock()
        return good

    def _wanted(self) -> set[int] | None:
        """The shards that are this controller's part; None when it cannot be told."""
        if self._total == 1:
            return {LEADER}
        try:
            self._leases.beat()
            beats = self._leases.beats()
        except SecretBindingError as error:
            _log.warning("who takes part cannot be told", error=str(error))
            return None
        members = self._roll.note(beats, self._clock())
        if LEADER in self._until:
            for name in self._roll.long_gone(self._clock(), _FORGOTTEN_SECONDS):
                self._leave(name)
        return {shard for shard, name in assigned(members, self._total).items() if name == self._leases.identity}

    def _hold(self, shard: int) -> bool:
        """Take a shard or hold on to it; False when the server did not answer. What could not be held on to stays ours
        until it ends by itself."""
        before = self._clock()
        try:
            taken = self._leases.take(_name(shard, self._total))
        except SecretBindingError as error:
            _log.warning("lease cannot be held", shard=shard, error=str(error))
            return False
        if taken:
            if self._clock() >= self._until.get(shard, before):
                # It had ended meanwhile: what came up for its jobs then was left to others, and is looked at anew.
                self._told.discard(shard)
            self._until[shard] = before + self._leases.seconds
        else:
            self._until.pop(shard, None)
        return True

    def _is_busy(self, shard: int) -> bool:
        return self._tell.busy(lambda workload: shard_of(workload, self._total) == shard)

    def _leave(self, identity: str) -> None:
        self._try(lambda: self._leases.leave(identity), "striking off the list")

    def _give(self, shard: int) -> None:
        self._until.pop(shard, None)
        self._draining.discard(shard)
        self._try(lambda: self._leases.give(_name(shard, self._total)), "giving back")

    def _settle(self) -> None:
        """Tell what has come and gone, and forget what has ended by itself."""
        held = self.held()
        self._until = {shard: until for shard, until in self._until.items() if shard in held}
        gained, lost = held - self._told, self._told - held
        self._told = set(held)
        if lost:
            _log.warning("shards lost" if self._total > 1 else "no longer the leader", shards=sorted(lost))
            self._tell.lost(lost)
        if gained:
            _log.info("shards taken" if self._total > 1 else "leading", shards=sorted(gained))
            self._tell.gained(gained)

    def _run(self) -> None:
        pause = 0.0
        self._loop.turned()
        while not self._stopping.wait(pause):
            self.look()
            pause = self._leases.seconds / _LOOKS_IN_A_LEASE
            self._loop.turned(pause)

    def _try(self, action: Callable[[], None], what: str) -> None:
        """Do what may fail: the lease ends by itself then."""
        try:
            action()
        except SecretBindingError as error:
            _log.warning(f"{what} did not work", error=str(error))


def _name(shard: int, total: int) -> str:
    return "leader" if total == 1 else f"shard-{shard}-of-{total}"
