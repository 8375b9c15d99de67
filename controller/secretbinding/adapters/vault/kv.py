"""KV secrets: what their mounts are, their versions and the names of their fields. Never a value."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from hvac.api.secrets_engines import KvV2

from secretbinding.adapters.transport import Call, unexpected
from secretbinding.adapters.vault.asking import Asker
from secretbinding.adapters.vault.faults import NO_ROUTE
from secretbinding.adapters.vault.remembered import Remembered
from secretbinding.adapters.vault.shapes import data_of, mapping
from secretbinding.errors import Denied, NotFound, Rejected
from secretbinding.ports import KvMetadata, KvVersion


class KvSecrets:
    """Fulfils the part of `ports.Vault` about KV engines.

    Args:
        remember_seconds: how long the kind of a mount, and how many versions it keeps, are remembered.
        latest: the latest that it may be by the server's clock.
    """

    def __init__(self, asker: Asker, remember_seconds: float, latest: Callable[[], datetime]) -> None:
        self._asker = asker
        self._latest = latest
        self._engines: Remembered[str] = Remembered(remember_seconds)
        self._max_versions: Remembered[int] = Remembered(remember_seconds)

    def engine(self, mount: str) -> str | None:
        """`v1`, `v2` or None; remembered, None for half a minute at most."""
        return self._engines.get(mount.strip("/"), self._ask_engine)

    def max_versions(self, mount: str) -> int | None:
        """See `ports.Vault`; remembered, None for half a minute at most."""
        return self._max_versions.get(mount.strip("/"), self._ask_max_versions)

    def metadata(self, mount: str, path: str) -> KvMetadata | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        mount = mount.strip("/")
        call = self._asker.call(
            "kv_metadata_read", f"read metadata of {mount}/{path}", f"{mount}/metadata/{path}", "read"
        )
        try:
            body = KvV2(adapter=self._asker.hvac(call)).read_secret_metadata(path, mount_point=mount)
        except NotFound as absent:
            self._check_mounted(absent, call, mount)
            return None
        return metadata_of(data_of(body, call), self._latest(), call)

    def fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        mount = mount.strip("/")
        subkeys = f"{mount}/subkeys/{path}"
        call = self._asker.call("kv_subkeys_read", f"read field names of {mount}/{path}", subkeys, "read")
        try:
            body = self._asker.get(call, subkeys, {"version": version})
        except NotFound as absent:
            self._check_mounted(absent, call, mount)
            return None
        return mapping(data_of(body, call).get("subkeys") or {}, call)

    def _ask_engine(self, mount: str) -> str | None:
        path = f"sys/internal/ui/mounts/{mount}"
        call = self._asker.call("mount_read", f"read the kind of mount {mount}", path, "read")
        try:
            found = data_of(self._asker.get(call, path), call)
        except (Denied, NotFound):
            # It is told only to those who may do something in the mount: with version 1 the controller may nothing.
            return self._ask_tuned_engine(mount)
        if found.get("type") not in ("kv", "generic"):
            return None
        return "v2" if mapping(found.get("options") or {}, call).get("version") == "2" else "v1"

    def _ask_tuned_engine(self, mount: str) -> str | None:
        path = f"sys/mounts/{mount}/tune"
        call = self._asker.call("mount_tune_read", f"read the kind of mount {mount}", path, "read")
        try:
            found = data_of(self._asker.get(call, path), call)
        except (Denied, NotFound, Rejected):
            return None
        return "v2" if mapping(found.get("options") or {}, call).get("version") == "2" else "v1"

    def _ask_max_versions(self, mount: str) -> int | None:
        path = f"{mount}/config"
        call = self._asker.call("kv_config_read", f"read how many versions mount {mount} keeps", path, "read")
        try:
            found = data_of(self._asker.get(call, path), call)
        except (Denied, NotFound, Rejected):
            return None
        try:
            return int(found.get("max_versions") or 0)
        except (ValueError, TypeError, OverflowError):
            pass
        raise unexpected("vault", call, "JSON of another shape")

    def _check_mounted(self, absent: NotFound, call: Call, mount: str) -> None:
        if NO_ROUTE in absent.message:
            raise self._asker.no_mount(
                call, f"no secrets engine is mounted at {mount}", "enable it, or correct the binding's mount"
            ) from None


def metadata_of(body: Mapping[str, Any], now: datetime, call: Call) -> KvMetadata:
    """One secret's metadata. Raises `ServiceError` for another shape."""
    try:
        return KvMetadata(
            current=int(body.get("current_version", 0)),
            versions={
                int(number): _version(int(number), each, now) for number, each in (body.get("versions") or {}).items()
            },
            max_versions=int(body.get("max_versions", 0)),
        )
    except (ValueError, TypeError, AttributeError, OverflowError):
        pass
    raise unexpected("vault", call, "JSON of another shape")


def _version(number: int, body: Mapping[str, Any], now: datetime) -> KvVersion:
    deletion = str(body.get("deletion_time") or "")
    return KvVersion(
        number=number,
        created=str(body.get("created_time", "")),
        deleted=bool(deletion) and datetime.fromisoformat(deletion) <= now,
        destroyed=bool(body.get("destroyed")),
    )
