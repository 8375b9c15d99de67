"""The labels of tenants, looked at every so often while any policy asks for labels."""

import threading
from collections.abc import Callable, Mapping

import structlog

from secretbinding.errors import SecretBindingError
from secretbinding.loops import Loop

_log = structlog.get_logger(__name__)

Lister = Callable[[], Mapping[str, Mapping[str, str]]]
"""The labels of all tenants of a source, by their names; raises `errors.ServiceError` subclasses."""


class LabelBook:
    """Labels by source and tenant. Tenants of files have none.

    Args:
        listers: by source.
        wanted: whether any policy asks for labels now; without that nothing is listed.
        changed: called when labels have changed, from the book's thread.
    """

    def __init__(
        self,
        listers: Mapping[str, Lister],
        wanted: Callable[[], bool],
        changed: Callable[[], None] = lambda: None,
        *,
        interval_seconds: float = 30.0,
    ) -> None:
        self._listers = dict(listers)
        self._wanted = wanted
        self.changed = changed
        self._interval_seconds = interval_seconds
        self._labels: dict[str, Mapping[str, Mapping[str, str]]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._loop = Loop("labels")
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)

    def __call__(self, source: str, tenant: str) -> Mapping[str, str] | None:
        """The labels of a tenant; None where they are not known. One that was not there yet is looked for soon."""
        if source not in self._listers:
            return {}
        with self._lock:
            found = self._labels.get(source, {}).get(tenant)
        if found is None:
            self._wake.set()
        return found

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round in it."""
        return (self._loop,)

    def look(self) -> bool:
        """List all labels once; True when any have changed. What cannot be listed stays as it was known."""
        changed = False
        for source, lister in self._listers.items():
            try:
                found = {name: dict(labels) for name, labels in lister().items()}
            except SecretBindingError as error:
                _log.warning("labels of tenants cannot be listed", source=source, error=str(error))
                continue
            with self._lock:
                changed = changed or found != self._labels.get(source)
                self._labels[source] = found
        return changed

    def _run(self) -> None:
        self._loop.turned()
        while not self._stopping.is_set():
            if self._wanted() and self.look():
                self.changed()
            self._loop.turned(self._interval_seconds)
            self._wake.wait(self._interval_seconds)
            # Many tenants that are new at once are one look.
            self._stopping.wait(0.5)
            self._wake.clear()
