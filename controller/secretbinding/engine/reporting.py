"""What the engine gives back to the sources: finalizers before anything is made, statuses, and bindings let go."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import structlog

from secretbinding.engine.hooks import Hooks
from secretbinding.engine.moving import Elsewhere, Moving
from secretbinding.engine.store import Entry, Store, inputs_of
from secretbinding.engine.untold import Untold
from secretbinding.errors import SecretBindingError
from secretbinding.kinds import Fault
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan_names import changed_conditions
from secretbinding.sources.base import Source
from secretbinding.status import Pass, Requests, Transition, compute_status, transitions
from secretbinding.trail import asked

_log = structlog.get_logger(__name__)


class Reporter:
    """Speaks to the sources for the engine, from any worker. What a source refuses is told in the log, and tried again
    with the next pass: nothing here raises `errors.ServiceError`."""

    def __init__(
        self, sources: Mapping[str, Source], store: Store, moving: Moving, elsewhere: Elsewhere, hooks: Hooks
    ) -> None:
        self._sources = sources
        self._store = store
        self._moving = moving
        self._elsewhere = elsewhere
        self._hooks = hooks
        self._untold = Untold()

    def prepare(self, entries: Sequence[Entry]) -> Mapping[BindingKey, Fault]:
        """Have the sources prepare what is new to them (finalizers), before anything is made for it. Why it failed, for
        those that stay as they are for that."""
        held: dict[BindingKey, Fault] = {}
        for entry in entries:
            source = self._sources.get(entry.item.key.source)
            if entry.item.deleting or source is None:
                continue
            try:
                with asked(bindings=[str(entry.item.key)]):
                    source.prepare(entry.item.key)
            except SecretBindingError as error:
                _log.warning("binding cannot be prepared", binding=str(entry.item.key), error=str(error))
                held[entry.item.key] = Fault(_reason(error), f"the binding cannot be prepared: {error}")
        return held

    def report(
        self,
        entries: Sequence[Entry],
        found: Pass,
        now: datetime,
        held: Mapping[BindingKey, Fault] = MappingProxyType({}),
    ) -> bool:
        """Write every status that changed; False when a source could not be written to. Those in `held` could not be
        prepared."""
        written = True
        self._untold.add(found.made)
        for entry in entries:
            current = self._store.get(entry.item.key)
            if current is None:
                continue
            requests = Requests(entry.item.rotate_requested_at, entry.item.generate_requested_at)
            (given,) = inputs_of([entry], held)
            status = compute_status(given, found, current.status, now, requests=requests)
            written = self._write(current, status) and written
        return written

    def _write(self, entry: Entry, status: SecretBindingStatus) -> bool:
        source, made = self._sources.get(entry.item.key.source), self._untold.of(entry.item.key)
        if (status == entry.status and not made) or source is None:
            return True
        events = [Transition("Normal", Reason.VALUE_GENERATED, each.message) for each in made]
        events += transitions(entry.status, status)
        try:
            with asked(bindings=[str(entry.item.key)], changed=changed_conditions(entry.status, status)):
                source.report(entry.item.key, status, tuple(events))
        except SecretBindingError as error:
            _log.warning("status cannot be written", binding=str(entry.item.key), error=str(error))
            return False
        self._untold.told(entry.item.key, made)
        self._store.set_status(entry.item.key, status)
        self._hooks.reported(entry.item.key, entry.status, status, events)
        return True

    def let_go(self, key: BindingKey) -> bool:
        """Tell a source that nothing is left of a binding, and forget it; False when the source could not be told. One
        that another connection has now is left to that one."""
        if self._elsewhere.knows(key):
            return True
        source = self._sources.get(key.source)
        try:
            if source is not None:
                with asked(bindings=[str(key)]):
                    source.gone(key)
        except SecretBindingError as error:
            _log.warning("binding cannot be let go", binding=str(key), error=str(error))
            return False
        self._store.remove(key)
        self._moving.forget(key)
        return True


def _reason(error: SecretBindingError) -> Reason:
    return next((reason for reason in Reason if reason.value == error.reason), Reason.ERROR)
