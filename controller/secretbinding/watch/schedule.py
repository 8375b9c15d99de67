"""When each look is due: the regular ones, one after another, and those out of turn."""

import heapq
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

from secretbinding.kinds import Subject
from secretbinding.watch.seen import Sight, Told
from secretbinding.watch.targets import Look

AGAIN_SECONDS = (1.0,)
"""A pushed look that shows nothing new is repeated once: another server of the cluster may be asked than written to."""
OVERDUE_SECONDS = (1.0, 1.0, 1.5, 2.0, 2.0, 4.0)
"""The pauses between looks for a change whose time has come: Vault rotates what is due every five seconds."""
_TOLERANCE_SECONDS = 0.25
"""A plan is not made anew for less; a clock that was set is more."""


class Rounds:
    """The regular looks, by the time at which each is due."""

    def __init__(self) -> None:
        self._due: dict[Look, float] = {}
        self._heap: list[tuple[float, int, Look]] = []
        self._pushes = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, look: Look) -> bool:
        return look in self._due

    def due(self, look: Look) -> float:
        """When the look is due."""
        return self._due[look]

    def plan(self, look: Look, when: float) -> None:
        """Have the look made then, and not at another time."""
        self._due[look] = when
        self._pushes += 1
        heapq.heappush(self._heap, (when, self._pushes, look))

    def forget(self, look: Look) -> None:
        """Have it made no more."""
        del self._due[look]

    def next(self) -> Look | None:
        """The look that is due first."""
        while self._heap:
            when, _, look = self._heap[0]
            if self._due.get(look) == when:
                return look
            heapq.heappop(self._heap)
        return None


@dataclass(slots=True)
class Prompt:
    """A look out of turn.

    Attributes:
        when: on the watch's clock; infinite when there are to be no more.
        pauses: before each further look, as long as nothing new shows.
        change: the time of the change that is expected; without one somebody has told of a change.
        begun: the first look was made.
    """

    when: float
    pauses: tuple[float, ...]
    change: datetime | None = None
    begun: bool = False

    def answered_by(self, sight: Sight | None) -> bool:
        """Whether the change that is expected has been made."""
        return self.change is not None and isinstance(sight, Told) and sight.next_change != self.change


class Prompts:
    """The looks out of turn, at most one of each sort for each secret."""

    def __init__(self) -> None:
        self._pushed: dict[Subject, Prompt] = {}
        self._expected: dict[Subject, Prompt] = {}
        self._heap: list[tuple[float, int, Subject, Prompt]] = []
        self._pushes = 0

    def push(self, subject: Subject, when: float) -> bool:
        """Somebody has told of a change; False when a look is near anyway."""
        known = self._pushed.get(subject)
        if known is not None and known.when <= when:
            return False
        self._add(self._pushed, subject, Prompt(when, AGAIN_SECONDS))
        return True

    def expect(self, subject: Subject, change: datetime, when: float) -> bool:
        """The server says that it will change the secret at `change`; False when that is known, and looked for."""
        known = self._expected.get(subject)
        if (
            known is not None
            and known.change == change
            and (known.begun or abs(known.when - when) < _TOLERANCE_SECONDS)
        ):
            return False
        self._add(self._expected, subject, Prompt(when, OVERDUE_SECONDS, change))
        return True

    def keep(self, subjects: Container[Subject]) -> None:
        """Forget all others."""
        self._pushed = {subject: prompt for subject, prompt in self._pushed.items() if subject in subjects}
        self._expected = {subject: prompt for subject, prompt in self._expected.items() if subject in subjects}

    def next(self) -> tuple[Subject, Prompt] | None:
        """The look that is to be made first."""
        while self._heap:
            when, _, subject, prompt = self._heap[0]
            known = self._pushed if prompt.change is None else self._expected
            if prompt.when == when and known.get(subject) is prompt:
                return subject, prompt
            heapq.heappop(self._heap)
        return None

    def take(self, subject: Subject, prompt: Prompt) -> None:
        """The look is being made. What is told meanwhile makes another one."""
        if prompt.change is None:
            self._pushed.pop(subject, None)
        else:
            prompt.when, prompt.begun = float("inf"), True

    def again(self, subject: Subject, prompt: Prompt, when: float, pauses: tuple[float, ...]) -> None:
        """Make the look once more, unless there is a newer one of its sort."""
        place = self._pushed if prompt.change is None else self._expected
        known = place.get(subject)
        if known is None or known is prompt:
            self._add(place, subject, Prompt(when, pauses, prompt.change, begun=True))

    def _add(self, place: dict[Subject, Prompt], subject: Subject, prompt: Prompt) -> None:
        place[subject] = prompt
        self._pushes += 1
        heapq.heappush(self._heap, (prompt.when, self._pushes, subject, prompt))
