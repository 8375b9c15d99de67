"""Reads what is there, and makes what is missing. No decision is taken here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secretbinding.errors import Rejected
from secretbinding.ops.bootstrap.desired import Item, Kind, desire
from secretbinding.ops.bootstrap.planning import Plan, Step, make_plan
from secretbinding.ops.bootstrap.target import Target
from secretbinding.ops.ports import AclPolicy, AuthMount, NomadAdmin, VaultAdmin

_JOB = ("namespace", "job", "group", "task")
OnStep = Callable[[Step], None]


class Bootstrap:
    """Works on both servers."""

    def __init__(self, vault: VaultAdmin, nomad: NomadAdmin) -> None:
        self._vault = vault
        self._nomad = nomad

    def plan(self, target: Target, replace: Sequence[str] = ()) -> Plan:
        """What would have to change now. Raises `errors.ServiceError` subclasses."""
        mounts = self._vault.auth_mounts()
        items = desire(target, _accessor(mounts, target))
        found = {item.id: self._found(item, mounts) for item in items}
        return make_plan(items, found, target.scope.instance, replace)

    def apply(self, target: Target, replace: Sequence[str], on_step: OnStep) -> Plan:
        """Make it so, unless anything is in the way: then nothing is written. Gives the plan that was carried out.

        The policy of the default role names the JWT mount by what Vault calls it, so that mounts come first. Raises
        `errors.ServiceError` subclasses; what was made before stays, and the next run goes on from there.
        """
        first = self.plan(target, replace)
        if first.conflicts:
            return first
        mounts = [step for step in first.changes if step.item.kind is Kind.AUTH_MOUNT]
        for step in mounts:
            self._make(step, target)
            on_step(step)
        second = self.plan(target, replace) if mounts else first
        for step in second.changes:
            self._make(step, target)
            on_step(step)
        done = {step.item.id: step for step in (*mounts, *second.changes)}
        return Plan(tuple(done.get(step.item.id, step) for step in second.steps))

    def _found(self, item: Item, mounts: Mapping[str, AuthMount]) -> Mapping[str, Any] | None:
        match item.kind:
            case Kind.AUTH_MOUNT:
                mount = mounts.get(item.name)
                return None if mount is None else {"type": mount.type, "description": mount.description}
            case Kind.VAULT_POLICY:
                text = self._vault.read_policy(item.name)
                return None if text is None else {"policy": text}
            case Kind.NOMAD_POLICY:
                policy = self._nomad.acl_policy(item.name)
                if policy is None:
                    return None
                job = {name: value for name, value in zip(_JOB, policy.job, strict=True) if value}
                return {"rules": policy.rules, "description": policy.description, "job": job}
            case _:
                return self._vault.read(item.name) if _mount_of(item.name) in {*mounts, "token"} else None

    def _make(self, step: Step, target: Target) -> None:
        item, body = step.item, step.body
        match item.kind:
            case Kind.AUTH_MOUNT:
                self._vault.enable_auth(item.name, str(body["type"]), str(body["description"]))
            case Kind.VAULT_POLICY:
                self._vault.write_policy(item.name, str(body["policy"]))
            case Kind.NOMAD_POLICY:
                namespace, job, group, task = (str(body["job"].get(name, "")) for name in _JOB)
                attached = (namespace, job, group, task)
                policy = AclPolicy(item.name, str(body["rules"]), str(body["description"]), job=attached)
                self._nomad.write_acl_policy(policy)
            case _:
                self._write(item.name, body, target)

    def _write(self, path: str, body: Mapping[str, Any], target: Target) -> None:
        try:
            self._vault.write(path, dict(body))
        except Rejected as refusal:
            if not path.endswith("/config") or _mount_of(path) != target.scope.jwt_mount:
                raise
            raise Rejected(
                f"{refusal.message}; Vault checks {target.keys_url} when it is told to use it",
                system=refusal.system,
                operation=refusal.operation,
                status=refusal.status,
                remedy="give the address at which Vault itself reaches Nomad (--jwks-url), and its CA (--jwks-ca)",
            ) from None


def _accessor(mounts: Mapping[str, AuthMount], target: Target) -> str:
    mount = mounts.get(target.scope.jwt_mount)
    return mount.accessor if mount is not None and mount.type == "jwt" else ""


def _mount_of(path: str) -> str:
    """The auth mount of `auth/<mount>/config`, `auth/<mount>/role/<name>` or `auth/token/roles/<name>`."""
    inside = path.removeprefix("auth/")
    for end in ("/config", "/role/", "/roles/"):
        mount, found, _ = inside.rpartition(end)
        if found:
            return mount
    raise ValueError(f"{path} belongs to no auth method")
