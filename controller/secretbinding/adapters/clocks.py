"""How far a server's clock is ahead of ours, as the `Date` of its answers tells."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_TOLERANCE = timedelta(seconds=2)
"""Clocks that are kept by NTP are never further apart; what is less is not worth a correction."""
_SLOW = timedelta(seconds=5)
_RESOLUTION = timedelta(seconds=1)


class ServerClock:
    """What a server's clock shows, for comparing the times that it gives with ours.

    `now` is our own wall clock, which may be set while we run: the newest answer counts. An answer that took longer
    than five seconds, and one without a `Date` (RFC 9110, 6.6.1; both servers send it), tells nothing.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._ahead = timedelta(0)

    @property
    def ahead(self) -> timedelta:
        """How much later it is there; negative when its clock is behind ours, and zero when they agree."""
        return self._ahead

    def now(self) -> datetime:
        """The present time there, to two seconds."""
        return self._now() + self._ahead

    def at_latest(self) -> datetime:
        """The latest that it can be there now."""
        return self.now() + _TOLERANCE

    def ours(self) -> datetime:
        """The present time here."""
        return self._now()

    def heard(self, date: str | None, sent: datetime) -> None:
        """Take the `Date` of an answer to a request that was sent at `sent`, by our clock.

        The server wrote it, without fractions, at some moment between sending and now: of all differences that are
        possible then, the least counts.
        """
        received = self._now()
        try:
            told = parsedate_to_datetime(date or "").astimezone(UTC)
        except (ValueError, TypeError):
            return
        if not timedelta(0) <= received - sent <= _SLOW:
            return
        least, most = told - received, told + _RESOLUTION - sent
        ahead = max(least, min(most, timedelta(0)))
        self._ahead = ahead if abs(ahead) > _TOLERANCE else timedelta(0)
