"""How fast a server is asked: an interval that stretches while it is in trouble, and a limit on a rate."""

import random

SLOW_SECONDS = 1.0
"""A read that takes longer, retries included, is a sign of a server that has too much to do."""
_FACTOR_MAX = 16.0
_PAUSE_MAX_SECONDS = 60.0
_RECOVER_MIN_SECONDS = 1.0
_RECOVER_MAX_SECONDS = 60.0


class Tempo:
    """A clock for plans that runs slower while the server is slow or refuses: what is due then comes later.

    Every trouble halves its speed, down to a sixteenth; every `interval_seconds` without any (at least 1 s, at most
    60 s) doubles it again. After a refusal nothing at all is to be asked until `not_before`: 1 s, then 2 s, 4 s, up to
    a minute, each less up to half of it at random. `now` is a reading of a clock that never goes back, in seconds.
    """

    def __init__(self, interval_seconds: float, now: float, rng: random.Random) -> None:
        self._recover_seconds = min(max(interval_seconds, _RECOVER_MIN_SECONDS), _RECOVER_MAX_SECONDS)
        self._rng = rng
        self._real = now
        self._planned = now
        self._changed = now
        self._factor = 1.0
        self._failures = 0
        self.not_before = now

    def planned(self, now: float) -> float:
        """The time on the slower clock."""
        self._advance(now)
        return self._planned

    def seconds_until(self, planned: float, now: float) -> float:
        """How long until the slower clock shows `planned`, at its present speed; 0 when it has."""
        self._advance(now)
        return max(0.0, (planned - self._planned) * self._factor)

    def factor(self, now: float) -> float:
        """How many times longer intervals are than asked for, from 1 to 16."""
        self._advance(now)
        return self._factor

    def worked(self, now: float, seconds: float) -> None:
        """The server answered, after so many seconds."""
        self._failures = 0
        self._advance(now)
        if seconds >= SLOW_SECONDS and (self._factor == 1.0 or now - self._changed >= self._recover_seconds / 2):
            self._stretch(now)

    def refused(self, now: float) -> None:
        """The server did not answer, or said that it cannot (429, 5xx)."""
        self._advance(now)
        pause = min(_PAUSE_MAX_SECONDS, 2.0 ** min(self._failures, 10))
        self._failures += 1
        self.not_before = now + pause * self._rng.uniform(0.5, 1.0)
        self._stretch(now)

    def _stretch(self, now: float) -> None:
        self._factor = min(_FACTOR_MAX, self._factor * 2)
        self._changed = now

    def _advance(self, now: float) -> None:
        while self._factor > 1.0 and now - self._changed >= self._recover_seconds:
            self._changed += self._recover_seconds
            self._run_until(self._changed)
            self._factor /= 2
        self._run_until(now)

    def _run_until(self, now: float) -> None:
        if now > self._real:
            self._planned += (now - self._real) / self._factor
            self._real = now


class RateLimit:
    """At most `burst` at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more may be done now; it counts as done then."""
        if self.seconds_until(now) > 0:
            return False
        self._left -= 1.0
        return True

    def seconds_until(self, now: float) -> float:
        """How long until one more may be done."""
        if now > self._at:
            self._left = min(float(self._burst), self._left + (now - self._at) * self._per_second)
            self._at = now
        return 0.0 if self._left >= 1.0 else (1.0 - self._left) / self._per_second
