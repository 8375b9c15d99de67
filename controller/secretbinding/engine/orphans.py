"""What carries our mark in Vault though no binding accounts for it any more."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from secretbinding.desired.values import BindingInput
from secretbinding.engine.moving import Elsewhere
from secretbinding.engine.retention import is_retained
from secretbinding.engine.store import Entry, Store
from secretbinding.errors import SecretBindingError
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, name_prefix
from secretbinding.ports import Vault
from secretbinding.render.policy import PolicyDocument, read_policy
from secretbinding.sources.base import Source
from secretbinding.status import Pass

_log = structlog.get_logger(__name__)

_MASS = 3  # bindings of one source that are gone at once


class Orphans:
    """Thread-safe. The shares that are to go though no binding of the store asks for it: by job, whose they are.

    What a source has lost while nobody looked is held when it is much at once (`held`), until `confirmed_removals`
    names the source or `*`.
    """

    def __init__(
        self,
        vault: Vault,
        store: Store,
        sources: Mapping[str, Source],
        elsewhere: Elsewhere,
        *,
        instance: str,
        jwt_mount: str,
        confirmed_removals: frozenset[str] = frozenset(),
    ) -> None:
        self._vault = vault
        self._store = store
        self._sources = sources
        self._elsewhere = elsewhere
        self._instance = instance
        self._jwt_mount = jwt_mount
        self._confirmed_removals = confirmed_removals
        self._lock = threading.Lock()
        self._orphans: dict[WorkloadKey, set[BindingKey]] = {}
        self._swept: set[str] = set()
        self._held: dict[str, int] = {}

    @property
    def held(self) -> Mapping[str, int]:
        """By source: how many bindings were gone at once after a start, so that nothing of them is deleted."""
        return dict(self._held)

    def workloads(self) -> Sequence[WorkloadKey]:
        """The jobs that a share is to go from."""
        with self._lock:
            return list(self._orphans)

    def of(self, workload: WorkloadKey, entries: Sequence[Entry] = ()) -> list[BindingInput]:
        """The orphaned shares of a job, as the decisions take them; without those that `entries` name anew."""
        named = {entry.item.key for entry in entries}
        with self._lock:
            orphans = sorted(self._orphans.get(workload, set()) - named)
        return [BindingInput(key, None, deleting=True, moved=self._store.get(key) is not None) for key in orphans]

    def add(self, workload: WorkloadKey, keys: set[BindingKey]) -> bool:
        """These shares are to go from a job; True when one of them is new."""
        with self._lock:
            known = self._orphans.setdefault(workload, set())
            new = keys - known
            known |= keys
            if not known:
                del self._orphans[workload]
        return bool(new)

    def drop(self, workload: WorkloadKey, key: BindingKey) -> None:
        """A share is gone."""
        with self._lock:
            keys = self._orphans.get(workload, set())
            keys.discard(key)
            if not keys:
                self._orphans.pop(workload, None)

    def add_strays(self, workload: WorkloadKey, found: Pass) -> bool:
        """Add the owners that the job's marks name but that are proven to name it no longer; True when one is new.

        A binding that is known and names another job has moved. One that is not known is gone when its source has
        delivered a complete listing *and* can prove it absent; otherwise its share stays.
        """
        owners = {placed.key for placed in placed_marks(found.observed.job, self._instance)}
        strays: set[BindingKey] = set()
        for key in owners:
            entry = self._store.get(key)
            if entry is not None:
                if entry.workload != workload:
                    strays.add(key)
            elif self._elsewhere.took_in(key) or (key.source in self._swept and self._proven_absent(key)):
                strays.add(key)
        return self.add(workload, strays)

    def find(self) -> dict[str, dict[WorkloadKey, set[BindingKey]]]:
        """Look through Vault for what no binding accounts for: by source and job, whose it is. Nothing is added yet.
        Raises `errors.ServiceError` subclasses."""
        found = find_orphans(
            self._vault,
            self._instance,
            self._store,
            lambda key: self._left(key) if self._elsewhere.knows(key) else self._proven_absent(key),
            jwt_mount=self._jwt_mount,
        )
        parts: dict[str, dict[WorkloadKey, set[BindingKey]]] = {name: {} for name in self._sources}
        for workload, keys in found.items():
            for key in keys:
                if key.source in parts:
                    parts[key.source].setdefault(workload, set()).add(key)
        return parts

    def take(self, source: str, orphans: Mapping[WorkloadKey, set[BindingKey]]) -> list[WorkloadKey]:
        """Add what `find` found of a source, unless too much of it is gone at once; gives the jobs with something
        new."""
        lost = {key for keys in orphans.values() for key in keys if self._store.get(key) is None}
        if not self._confirmed(source, len(lost)):
            self._swept.discard(source)
            self._held[source] = len(lost)
            _log.error(
                "too many bindings are gone at once; nothing of them is deleted until it is confirmed",
                source=source,
                gone=len(lost),
                left=self._store.count(source),
                remedy=f"start with SECRETBINDING_CONFIRM_REMOVALS={source} when they were meant to go",
            )
            return []
        self._held.pop(source, None)
        if self._store.is_listed(source):
            self._swept.add(source)
        fresh = [workload for workload, keys in orphans.items() if self.add(workload, keys)]
        for workload in fresh:
            bindings = [str(key) for key in sorted(orphans[workload])]
            _log.info("policies without a binding", workload=str(workload), bindings=bindings)
        return fresh

    def _confirmed(self, source: str, gone: int) -> bool:
        """False when a source has lost so many bindings at once, while nobody looked, that somebody has to confirm it:
        three or more, and more than it has left."""
        if gone < _MASS or gone <= self._store.count(source):
            return True
        return bool({source, "*"} & self._confirmed_removals)

    def _proven_absent(self, key: BindingKey) -> bool:
        source = self._sources.get(key.source)
        if source is None or not self._store.is_listed(key.source):
            return False
        try:
            return source.proves_absent(key) and not is_retained(self._vault, Owner(self._instance, key))
        except SecretBindingError:
            return False

    def _left(self, key: BindingKey) -> bool:
        """Whether what a binding has here goes with it to the connection that it names now."""
        try:
            return not is_retained(self._vault, Owner(self._instance, key))
        except SecretBindingError:
            return False


def find_orphans(
    vault: Vault, instance: str, store: Store, proven_absent: Callable[[BindingKey], bool], *, jwt_mount: str
) -> dict[WorkloadKey, set[BindingKey]]:
    """The owners of this instance's policies that are proven gone, by the jobs that the policy and its roles let in
    (of a binding that was moving there are two); also those whose binding names another workload now.

    Policies that are kept on purpose (`retain`) are left out. Raises `errors.ServiceError` subclasses.
    """
    found: dict[WorkloadKey, set[BindingKey]] = {}
    prefix = name_prefix(instance)
    for name in vault.list_policies():
        if not name.startswith(prefix):
            continue
        text = vault.read_policy(name)
        parsed = read_policy(text) if text is not None else None
        if parsed is None or parsed[0].owner.instance != instance or parsed[0].retain:
            continue
        document = parsed[0]
        entry = store.get(document.owner.key)
        if entry is not None:
            named = (entry.workload.namespace, entry.workload.job)
            if entry.workload.job and named != (document.workload.namespace, document.workload.job):
                found.setdefault(document.workload, set()).add(document.owner.key)
            continue
        if proven_absent(document.owner.key):
            for workload in {document.workload, *let_in(vault, jwt_mount, document)}:
                found.setdefault(workload, set()).add(document.owner.key)
    return found


def let_in(vault: Vault, jwt_mount: str, document: PolicyDocument) -> set[WorkloadKey]:
    """The jobs whose tasks log in with the roles of a policy, as the roles' claims say."""
    found: set[WorkloadKey] = set()
    for name in document.roles:
        claims = (vault.read_jwt_role(jwt_mount, name) or {}).get("bound_claims") or {}
        namespace, job = claims.get("nomad_namespace"), claims.get("nomad_job_id")
        if isinstance(namespace, str) and isinstance(job, str) and job:
            found.add(replace(document.workload, namespace=namespace, job=job))
    return found
