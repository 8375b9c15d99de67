"""A watch on a real OpenBao that counts what it asks, and looks for the first time at once."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.devstack.openbao import OpenBao
from secretbinding.engine.store import Store
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import KvMetadata, LeaseLimits, PkiRole, StaticRole
from secretbinding.sources.base import SourceItem
from secretbinding.watch.secrets import SecretWatcher
from tests.support.world import wait_until

T = TypeVar("T")
HOUR = 3600.0


class CountedVault(ListingVaultAdapter):
    """The adapter, which also notes each request."""

    def __init__(self, connection: VaultConnection) -> None:
        super().__init__(connection)
        self.reads: list[str] = []
        self.lists: list[str] = []
        self.currents: list[int] = []

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        found = super().kv_metadata(mount, path)
        self.reads.append(path)
        self.currents.append(found.current if found is not None else 0)
        return found

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        return self._noted(f"{mount}/static-roles/{name}", super().static_role(mount, name))

    def database_role(self, mount: str, name: str) -> LeaseLimits | None:
        return self._noted(f"{mount}/roles/{name}", super().database_role(mount, name))

    def pki_role(self, mount: str, name: str) -> PkiRole | None:
        return self._noted(f"{mount}/roles/{name}", super().pki_role(mount, name))

    def _noted(self, path: str, found: T) -> T:
        self.reads.append(path)
        return found

    def kv_folder(self, mount: str, path: str) -> Mapping[str, KvMetadata] | None:
        found = super().kv_folder(mount, path)
        self.lists.append(path)
        return found


class Soonest(random.Random):
    """No jitter: always the soonest."""

    def uniform(self, a: float, b: float) -> float:
        return a


@dataclass
class Watching:
    """A running watch; `woken` has the names of the jobs."""

    vault: CountedVault
    watcher: SecretWatcher
    woken: Queue[str]

    def looked(self, times: int) -> None:
        """Wait for the first looks."""
        wait_until("all is looked at", lambda: len(self.vault.reads) + len(self.vault.lists) >= times)

    def woken_so_far(self) -> list[str]:
        """The jobs that were woken since the last call."""
        found = []
        while True:
            try:
                found.append(self.woken.get_nowait())
            except Empty:
                return found


@contextmanager
def watching(
    openbao: OpenBao,
    items: Sequence[SourceItem],
    *,
    interval: float = HOUR,
    token: str = "",
    namespace: str = "",
) -> Iterator[Watching]:
    """A watch over bindings while the block runs."""
    vault = CountedVault(
        VaultConnection(address=openbao.address, token=token or openbao.root_token, namespace=namespace)
    )
    store = Store()
    for item in items:
        store.upsert(item)
    woken: Queue[str] = Queue()

    def take(workloads: set[WorkloadKey]) -> None:
        for each in sorted(workloads):
            woken.put(each.job)

    watcher = SecretWatcher(vault, store, take, interval_seconds=interval, namespace=namespace, rng=Soonest())
    watcher.start()
    try:
        yield Watching(vault, watcher, woken)
    finally:
        watcher.stop()
        vault.close()
