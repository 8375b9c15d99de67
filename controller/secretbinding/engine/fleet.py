"""The engines of all connections as one: each works by itself, so that servers that are away hold up no others."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog

from secretbinding.engine.loop import Engine
from secretbinding.engine.moving import Elsewhere
from secretbinding.engine.queue import Priority
from secretbinding.engine.store import Entry, connection_of
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.sources.base import Source, SourceItem

_log = structlog.get_logger(__name__)


class Fleet:
    """Fulfils `sources.base.Sink`: gives each binding to the engine of the connection that it names.

    One that names a connection which there is not, or whose manifest cannot be read, stays where it is, and is told so
    there; one that was nowhere yet is told by the default connection. One that names another connection than before is
    given up by the old one once the new one has taken it in (`engine.moving`).
    """

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._sources: dict[str, Source] = {}

    def elsewhere(self, connection: str) -> Elsewhere:
        """What the engine of a connection is to be told of the others."""
        return _Others(connection, self._engines)

    def add(self, engine: Engine) -> None:
        """Take an engine, before `start`."""
        self._engines[engine.store.connection] = engine

    def add_source(self, source: Source) -> None:
        """Take bindings from a source; before `start`."""
        self._sources[source.name] = source
        for engine in self._engines.values():
            engine.add_source(source)

    def start(self) -> None:
        """Start the engines, and then the sources."""
        for engine in self._engines.values():
            engine.start(sources=False)
        for source in self._sources.values():
            source.start(self)

    def stop(self) -> None:
        """Stop the sources, and the engines all at once: one whose servers are away takes longer."""
        for source in self._sources.values():
            source.stop()
        stopping = [
            threading.Thread(target=engine.stop, kwargs={"sources": False}, daemon=True)
            for engine in self._engines.values()
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    @property
    def engines(self) -> Mapping[str, Engine]:
        """By the names of their connections, the default one first."""
        return self._engines

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name."""
        return self._sources

    @property
    def held(self) -> Mapping[str, int]:
        """By source: how many bindings were gone at once after a start, so that nothing of them is deleted."""
        found: dict[str, int] = {}
        for engine in self._engines.values():
            for source, count in engine.held.items():
                found[source] = found.get(source, 0) + count
        return found

    def is_listed(self, source: str) -> bool:
        """True when a source has delivered all that it has."""
        return all(engine.store.is_listed(source) for engine in self._engines.values())

    def get(self, key: BindingKey) -> Entry | None:
        """The entry of a binding, None when it is not known."""
        found = (engine.store.get(key) for engine in self._engines.values())
        return next((entry for entry in found if entry is not None), None)

    def snapshot(self) -> Sequence[Entry]:
        """All bindings of workloads that are this controller's, in no order."""
        return [entry for engine in self._engines.values() for entry in engine.store.snapshot()]

    def of_workload(self, workload: WorkloadKey) -> Sequence[Entry]:
        """The bindings that name a workload."""
        engine = self._engines.get(workload.connection)
        return engine.store.of_workload(workload) if engine is not None else ()

    def owns(self, workload: WorkloadKey) -> bool:
        """Whether a workload is this controller's."""
        return any(engine.owns(workload) for engine in self._engines.values())

    def upsert(self, item: SourceItem) -> None:
        before = self._of(item.key)
        now = self._engines.get(connection_of(item) or "") or before or self._engines[DEFAULT_CONNECTION]
        if before is None or before is now:
            now.upsert(item)
        else:
            _log.info(
                "binding names another connection",
                binding=str(item.key),
                before=before.store.connection,
                connection=now.store.connection,
            )
            before.leave(item.key)
            now.upsert(item)
            if now.has_taken_in(item.key):
                before.give_up(item.key)
        if item.deleting:
            for engine in self._engines.values():
                if engine is not now:
                    engine.give_up(item.key)

    def vanished(self, key: BindingKey) -> None:
        for engine in self._engines.values():
            engine.vanished(key)
            engine.give_up(key)

    def listed(self, source: str) -> None:
        for engine in self._engines.values():
            engine.listed(source)

    def gained(self, of: Callable[[WorkloadKey], bool]) -> None:
        """As `Engine.gained`, of every connection."""
        for engine in self._engines.values():
            engine.gained(of)

    def lost(self) -> None:
        """As `Engine.lost`."""
        for engine in self._engines.values():
            engine.lost()

    def busy(self, of: Callable[[WorkloadKey], bool]) -> bool:
        """As `Engine.busy`."""
        return any(engine.busy(of) for engine in self._engines.values())

    def wake_all(self, priority: Priority = Priority.CHANGE) -> None:
        """Look at every workload."""
        for engine in self._engines.values():
            engine.wake(engine.store.workloads(), priority)

    def threads(self) -> Iterator[threading.Thread]:
        """The threads of all engines, which live from `start` to `stop`."""
        for engine in self._engines.values():
            yield from engine.threads

    def _of(self, key: BindingKey) -> Engine | None:
        return next((engine for engine in self._engines.values() if engine.store.get(key) is not None), None)


class _Others(Elsewhere):
    """All engines but one."""

    def __init__(self, connection: str, engines: Mapping[str, Engine]) -> None:
        self._connection = connection
        self._engines = engines

    def knows(self, key: BindingKey) -> bool:
        return any(engine.store.get(key) is not None for engine in self._rest())

    def took_in(self, key: BindingKey) -> bool:
        return any(engine.has_taken_in(key) for engine in self._rest())

    def settled(self, key: BindingKey) -> None:
        for engine in self._rest():
            engine.give_up(key)

    def _rest(self) -> Iterable[Engine]:
        return [engine for name, engine in self._engines.items() if name != self._connection]
