"""Leases of several controllers as locks on Nomad variables."""

from collections.abc import Mapping
from secrets import token_hex

from secretbinding.ports import Nomad

SHORTEST_SECONDS = 10.0
"""Nomad takes no shorter TTL, and takes a lock away only when it was not renewed for twice that."""


class NomadLeases:
    """Fulfils `ports.Leases` with the variables `nomad-vault/leases/<instance>/<name>` and
    `nomad-vault/members/<instance>/<identity>` of one Nomad namespace (Nomad 1.7+). For the one thread that keeps
    them."""

    def __init__(self, nomad: Nomad, *, namespace: str, instance: str, identity: str, seconds: float) -> None:
        self._nomad = nomad
        self._namespace = namespace
        self._leases = f"nomad-vault/leases/{instance}"
        self._members = f"nomad-vault/members/{instance}"
        self._identity = identity
        self._seconds = max(seconds, SHORTEST_SECONDS)
        self._locks: dict[str, str] = {}

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def seconds(self) -> float:
        return self._seconds

    def take(self, name: str) -> bool:
        path, held = f"{self._leases}/{name}", self._locks.get(name)
        if held is not None:
            if self._nomad.renew_lock(self._namespace, path, held):
                return True
            del self._locks[name]
        lock = self._nomad.acquire_lock(self._namespace, path, {"holder": self._identity}, self._seconds)
        if lock is not None:
            self._locks[name] = lock
        return lock is not None

    def give(self, name: str) -> None:
        held = self._locks.pop(name, None)
        if held is not None:
            self._nomad.release_lock(self._namespace, f"{self._leases}/{name}", held)

    def beat(self) -> None:
        self._nomad.write_variable(self._namespace, f"{self._members}/{self._identity}", {"beat": token_hex(4)})

    def beats(self) -> Mapping[str, str]:
        _, rows = self._nomad.list_variables(self._namespace, f"{self._members}/")
        return {row.path.removeprefix(f"{self._members}/"): str(row.modify_index) for row in rows}

    def leave(self, identity: str) -> None:
        self._nomad.delete_variable(self._namespace, f"{self._members}/{identity}")
