"""The configuration of secrets engines: roles, keys and issuers. Never a credential."""

import hashlib
from collections.abc import Mapping
from typing import Any

from secretbinding.adapters.transport import Call
from secretbinding.adapters.vault.asking import Asker
from secretbinding.adapters.vault.faults import ENGINE_ROLE_WRITE, NO_ROUTE, OTHER_ENGINE, PKI_ISSUER_READ
from secretbinding.adapters.vault.remembered import Remembered
from secretbinding.adapters.vault.shapes import data_of, keys_of, mapping, seconds
from secretbinding.errors import Denied, NotFound, Rejected
from secretbinding.ports import Json, LeaseLimits, PkiRole, StaticRole, StaticUser

_NEVER = "0001-"
"""How Go's zero time begins."""
_DIGEST_LENGTH = 16


class SecretsEngines:
    """Fulfils the part of `ports.Vault` about engines other than KV. A mount may have slashes in its path."""

    def __init__(self, asker: Asker, remember_seconds: float) -> None:
        self._asker = asker
        self._limits: Remembered[LeaseLimits] = Remembered(remember_seconds)
        # A static role cannot change its user.
        self._users: Remembered[StaticUser] = Remembered(remember_seconds)

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        """`<mount>/static-roles/<name>`. A role that rotates by a schedule (HashiCorp Vault) has no period."""
        call, found = self._read(mount, f"static-roles/{name}", "static_role_read", f"static role {name}", "database")
        if found is None:
            return None
        rotated = str(found.get("last_vault_rotation") or "")
        return StaticRole(
            rotated="" if rotated.startswith(_NEVER) else rotated,
            period_seconds=seconds(found.get("rotation_period"), call),
        )

    def database_role(self, mount: str, name: str) -> LeaseLimits | None:
        """`<mount>/roles/<name>` of a database engine."""
        call, found = self._read(mount, f"roles/{name}", "database_role_read", f"role {name}", "database")
        if found is None:
            return None
        return LeaseLimits(seconds(found.get("default_ttl"), call), seconds(found.get("max_ttl"), call))

    def pki_role(self, mount: str, name: str) -> PkiRole | None:
        """`<mount>/roles/<name>` of a PKI engine."""
        call, found = self._read(mount, f"roles/{name}", "pki_role_read", f"role {name}", "pki")
        if found is None:
            return None
        limits = LeaseLimits(seconds(found.get("ttl"), call), seconds(found.get("max_ttl"), call))
        return PkiRole(limits, str(found.get("issuer_ref") or "default"))

    def pki_issuer(self, mount: str, issuer: str) -> str | None:
        """`<mount>/issuer/<issuer>/json`, which needs no token; the chain counts as a set."""
        mount = mount.strip("/")
        path = f"{mount}/issuer/{issuer}/json"
        call = self._asker.call(PKI_ISSUER_READ, f"read issuer {issuer} of {mount}", path, "read", anonymous=True)
        try:
            found = data_of(self._asker.get(call, path), call)
        except NotFound as absent:
            self._check_engine(absent, call, mount, "pki")
            return None
        except Denied:
            # So is answered, without a token, what is not a path of a PKI engine.
            raise self._no_engine(call, mount, "pki") from None
        return _digest(found)

    def read_config(self, path: str) -> Json | None:
        """Any part of an engine's configuration."""
        call = self._asker.call("engine_config_read", f"read {path}", path, "read")
        try:
            return data_of(self._asker.get(call, path), call)
        except NotFound as absent:
            if NO_ROUTE in absent.message or OTHER_ENGINE in absent.message:
                raise self._nothing_there(call, path) from None
            return None

    def static_users(self, mount: str) -> Mapping[str, StaticUser]:
        """The listing is asked for each time; whose role one is, is remembered for a while."""
        path = f"{mount.strip('/')}/static-roles"
        call = self._asker.call("static_role_list", f"list {path}", path, "list")
        try:
            names = keys_of(self._asker.list(call, path), call)
        except NotFound:
            return {}
        users = {name: self._users.get(f"{path}/{name}", self._ask_user) for name in names}
        return {name: user for name, user in users.items() if user is not None}

    def _ask_user(self, path: str) -> StaticUser | None:
        found = self.read_config(path)
        return StaticUser(str(found.get("db_name") or ""), str(found.get("username") or "")) if found else None

    def write_role(self, path: str, body: Json) -> None:
        """Create or change a role."""
        call = self._asker.call(ENGINE_ROLE_WRITE, f"write {path}", path, "create", "update")
        try:
            self._asker.send(call, "POST", path, body)
            return
        except NotFound:
            pass
        raise self._nothing_there(call, path)

    def delete_role(self, path: str) -> None:
        """Delete a role, if it is there."""
        call = self._asker.call("engine_role_delete", f"delete {path}", path, "delete")
        try:
            self._asker.send(call, "DELETE", path)
        except NotFound:
            return

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        """The lifetimes that stand for a mount, remembered for a while. `sys/mounts/<mount>/tune` tells what the server
        falls back to as well; a token that may not read it is told what the mount itself says
        (`sys/internal/ui/mounts/<mount>`)."""
        return self._limits.get(mount.strip("/"), self._ask_limits)

    def _ask_limits(self, mount: str) -> LeaseLimits | None:
        text = f"read the lifetimes of mount {mount}"
        tune = f"sys/mounts/{mount}/tune"
        call = self._asker.call("mount_tune_read", text, tune, "read")
        try:
            return _limits(data_of(self._asker.get(call, tune), call), call)
        except (Denied, NotFound, Rejected):
            pass
        shown = f"sys/internal/ui/mounts/{mount}"
        call = self._asker.call("mount_read", text, shown, "read")
        try:
            return _limits(mapping(data_of(self._asker.get(call, shown), call).get("config") or {}, call), call)
        except (Denied, NotFound):
            return None

    def _read(
        self, mount: str, below: str, label: str, what: str, engine: str
    ) -> tuple[Call, Mapping[str, Any] | None]:
        """The data at a path below a mount, None when there is none. Raises `NotFound` when no such engine is there."""
        mount = mount.strip("/")
        path = f"{mount}/{below}"
        call = self._asker.call(label, f"read {what} of {mount}", path, "read")
        try:
            return call, data_of(self._asker.get(call, path), call)
        except NotFound as absent:
            self._check_engine(absent, call, mount, engine)
            return call, None

    def _check_engine(self, absent: NotFound, call: Call, mount: str, engine: str) -> None:
        if NO_ROUTE in absent.message or OTHER_ENGINE in absent.message:
            raise self._no_engine(call, mount, engine) from None

    def _nothing_there(self, call: Call, path: str) -> NotFound:
        return self._asker.no_mount(
            call, f"no engine that has {path} is mounted there", "enable it, or correct the binding's mount"
        )

    def _no_engine(self, call: Call, mount: str, engine: str) -> NotFound:
        return self._asker.no_mount(
            call, f"no {engine} engine is mounted at {mount}", "enable it, or correct the binding's mount"
        )


def _limits(found: Mapping[str, Any], call: Call) -> LeaseLimits:
    return LeaseLimits(seconds(found.get("default_lease_ttl"), call), seconds(found.get("max_lease_ttl"), call))


def _digest(issuer: Mapping[str, Any]) -> str:
    chain = issuer.get("ca_chain")
    texts = [str(issuer.get("certificate") or "").strip()]
    texts += sorted(str(each).strip() for each in chain) if isinstance(chain, list) else []
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
