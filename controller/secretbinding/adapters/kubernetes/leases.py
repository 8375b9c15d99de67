"""Leases of several controllers as `coordination.k8s.io/v1` Leases of a Kubernetes API server."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from secretbinding.errors import Conflict, NotFound
from secretbinding.ports import Json

_INSTANCE = "nomad-vault.io/instance"
_ROLE = "nomad-vault.io/lease"
_MEMBER = "member"


class LeaseApi(Protocol):
    """What of `adapters.kubernetes.KubernetesClient` is used."""

    def read_lease(self, namespace: str, name: str) -> Json | None:
        """The Lease, None when there is none."""

    def list_leases(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Json]:
        """Those with these labels."""

    def write_lease(self, lease: Mapping[str, Any]) -> Json:
        """Create, or replace just the version that is given; raises `Conflict`."""

    def delete_lease(self, namespace: str, name: str) -> None:
        """Delete; one that is not there is success."""


class KubernetesLeases:
    """Fulfils `ports.Leases` in one Kubernetes namespace. For the one thread that keeps them.

    Another's lease is taken when it has not changed for as long as it is good for, counted from when it was *seen*: no
    clock but the own one is believed, and of that only that it goes on (`clock`, seconds). `now` is for people to read.
    """

    def __init__(
        self,
        api: LeaseApi,
        *,
        namespace: str,
        instance: str,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._instance = instance
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._own: dict[str, Json] = {}
        self._seen: dict[str, tuple[str, float]] = {}

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def seconds(self) -> float:
        return self._seconds

    def take(self, name: str) -> bool:
        return self._take(name, "lease")

    def give(self, name: str) -> None:
        lease = self._own.pop(name, None)
        if lease is None:
            return
        try:
            self._api.write_lease({**lease, "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}})
        except (Conflict, NotFound):
            return

    def beat(self) -> None:
        self._take(self._member(self._identity), _MEMBER)

    def beats(self) -> Mapping[str, str]:
        labels = {_INSTANCE: self._instance, _ROLE: _MEMBER}
        found = self._api.list_leases(self._namespace, labels)
        return {
            str(lease["spec"]["holderIdentity"]): str(lease["metadata"]["resourceVersion"])
            for lease in found
            if (lease.get("spec") or {}).get("holderIdentity")
        }

    def leave(self, identity: str) -> None:
        self._own.pop(self._member(identity), None)
        self._api.delete_lease(self._namespace, self._object(self._member(identity)))

    def _take(self, name: str, role: str) -> bool:
        try:
            return self._taken(name, role)
        except (Conflict, NotFound):
            # Somebody was faster, deleted it, or an answer of ours was lost: what is there now decides.
            self._own.pop(name, None)
            try:
                return self._taken(name, role)
            except (Conflict, NotFound):
                return False

    def _taken(self, name: str, role: str) -> bool:
        known = self._own.get(name)
        lease = known or self._api.read_lease(self._namespace, self._object(name))
        if lease is not None and known is None and not self._is_free(name, lease):
            return False
        self._own[name] = self._api.write_lease(self._held(name, role, lease))
        return True

    def _is_free(self, name: str, lease: Json) -> bool:
        spec, version, now = lease.get("spec") or {}, str(lease["metadata"]["resourceVersion"]), self._clock()
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        known, since = self._seen.get(name, ("", now))
        if known != version:
            since = now
            self._seen[name] = (version, now)
        return now - since >= max(self._seconds, float(spec.get("leaseDurationSeconds") or 0))

    def _held(self, name: str, role: str, lease: Json | None) -> Json:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec") or {}
        spec: Json = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": old.get("acquireTime") or stamp,
            "renewTime": stamp,
            "leaseTransitions": int(old.get("leaseTransitions") or 0),
        }
        if lease is not None and old.get("holderIdentity") != self._identity:
            spec["acquireTime"] = stamp
            spec["leaseTransitions"] += 1
        metadata: Json = {"name": self._object(name), "namespace": self._namespace}
        if lease is not None:
            metadata = {**lease["metadata"]}
        metadata["labels"] = {**(metadata.get("labels") or {}), _INSTANCE: self._instance, _ROLE: role}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _object(self, name: str) -> str:
        return f"secretbinding-{self._instance}-{name}"

    def _member(self, identity: str) -> str:
        return f"{_MEMBER}-{identity}"
