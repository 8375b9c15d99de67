"""Wakes the engine when a secret changes: one read for each distinct secret and interval, spread over it."""

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from secretbinding.engine.store import Entry
from secretbinding.errors import SecretBindingError
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import KvMetadata, Vault

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class WatchedSecret:
    """One KV v2 secret, however many bindings use it."""

    mount: str
    path: str


class SecretWatcher:
    """Polls `<mount>/metadata/<path>`, which needs no right to the values.

    `interval_seconds` is the time between two looks at one secret; `on_change` gets the workloads that use it.
    """

    def __init__(
        self,
        vault: Vault,
        entries: Callable[[], Iterable[Entry]],
        on_change: Callable[[set[WorkloadKey]], None],
        *,
        interval_seconds: float,
    ) -> None:
        self._vault = vault
        self._entries = entries
        self._on_change = on_change
        self._interval_seconds = interval_seconds
        self._seen: dict[WatchedSecret, KvMetadata | None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secret-watch", daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, and wait for the read that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Look at every distinct secret once, spread over the interval."""
        users = watched(self._entries())
        self._seen = {secret: state for secret, state in self._seen.items() if secret in users}
        secrets = list(users)
        random.shuffle(secrets)
        pause = self._interval_seconds / max(1, len(secrets))
        for secret in secrets:
            if self._stopping.wait(pause * random.uniform(0.8, 1.0)):
                return
            self._look(secret, users[secret])

    def _look(self, secret: WatchedSecret, workloads: set[WorkloadKey]) -> None:
        try:
            state = self._vault.kv_metadata(secret.mount, secret.path)
        except SecretBindingError as error:
            # The engine's own passes report what is wrong with a secret; here it only means: nothing new.
            _log.debug("secret cannot be looked at", mount=secret.mount, error=type(error).__name__)
            return
        # The first look wakes too: the secret may have changed between the engine's own read and this one.
        changed = secret not in self._seen or self._seen[secret] != state
        self._seen[secret] = state
        if changed:
            self._on_change(workloads)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not watched(self._entries()):
                self._stopping.wait(self._interval_seconds)
            self.poll()


def watched(entries: Iterable[Entry]) -> dict[WatchedSecret, set[WorkloadKey]]:
    """The distinct KV secrets of all bindings that are to be made true, with the workloads that use each."""
    users: dict[WatchedSecret, set[WorkloadKey]] = {}
    for entry in entries:
        item = entry.item
        if item.binding is None or item.deleting or item.binding.spec.suspend:
            continue
        for secret in item.binding.spec.secrets:
            if secret.kv is not None and secret.kv.engine != "v1":
                users.setdefault(WatchedSecret(secret.kv.mount, secret.kv.path), set()).add(entry.workload)
    return users
