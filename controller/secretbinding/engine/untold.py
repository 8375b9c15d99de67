"""Events that could not be told yet: what was made is told, however long a source cannot be written to."""

import threading
from collections.abc import Iterable

from secretbinding.generation import Made
from secretbinding.models.key import BindingKey

_MOST = 50


class Untold:
    """Thread-safe. Of one binding the newest events are kept; the log has all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[BindingKey, tuple[Made, ...]] = {}

    def add(self, made: Iterable[Made]) -> None:
        """Take events in."""
        with self._lock:
            for each in made:
                self._made[each.key] = (*self._made.get(each.key, ()), each)[-_MOST:]

    def of(self, key: BindingKey) -> tuple[Made, ...]:
        """What is to be told of a binding."""
        with self._lock:
            return self._made.get(key, ())

    def told(self, key: BindingKey, made: tuple[Made, ...]) -> None:
        """These have been told."""
        with self._lock:
            left = tuple(each for each in self._made.get(key, ()) if each not in made)
            if left:
                self._made[key] = left
            else:
                self._made.pop(key, None)
