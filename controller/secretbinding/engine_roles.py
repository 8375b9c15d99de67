"""Roles of secrets engines that bindings have made for themselves: what is to be written, and what is to go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from secretbinding.desired.values import BindingInput, Desired, Observed
from secretbinding.kinds import engine_role
from secretbinding.kinds.base import EngineRole, Fault
from secretbinding.naming import name_prefix
from secretbinding.ports import Json
from secretbinding.render.engine_role import same_engine_role
from secretbinding.render.policy import PolicyDocument


@dataclass(frozen=True, slots=True)
class WriteEngineRole:
    """Create a role of a secrets engine, or set what a binding says of it. `before` is what is there."""

    role: EngineRole
    before: Json | None

    @property
    def ends_the_look(self) -> bool:
        """True when only a new look tells what the rest of the plan needs."""
        return self.role.told_later and self.before is None


@dataclass(frozen=True, slots=True)
class DeleteEngineRole:
    """Delete a role of a secrets engine that is ours."""

    path: str
    before: Json


def missing_roles(observed: Observed, desired: Desired) -> list[WriteEngineRole]:
    """The writes that are due: of roles that are not there, or not as they should be."""
    writes: list[WriteEngineRole] = []
    for path, role in sorted(desired.engine_roles.items()):
        before = observed.engine_roles.get(path)
        if before is None or not same_engine_role(before, role):
            writes.append(WriteEngineRole(role, before))
    return writes


def without_refused(observed: Observed, bindings: Sequence[BindingInput], refused: Mapping[str, Fault]) -> Observed:
    """The workload where writes of some roles (by path) were refused: the secrets that need them cannot be used, and
    whatever else the workload has goes on."""
    if not refused:
        return observed
    secrets = dict(observed.secrets)
    for item in bindings:
        for entry in item.binding.spec.secrets if item.binding is not None else ():
            state, role = secrets.get((item.key, entry.name)), engine_role(entry)
            if state is not None and role is not None and role.path in refused:
                secrets[item.key, entry.name] = replace(state, fault=refused[role.path])
    known = {path: body for path, body in observed.engine_roles.items() if path not in refused}
    return replace(observed, secrets=secrets, engine_roles=known)


def unused_roles(
    observed: Observed, desired: Desired, documents: Iterable[PolicyDocument], instance: str
) -> list[DeleteEngineRole]:
    """The roles that `documents`, policies as they are, name in their marks, and that nobody wants any more. The name
    makes a role ours: the engine keeps no mark."""
    wanted = {path for document in desired.policies.values() for path in document.engine_roles}
    named = {path for document in documents for path in document.engine_roles}
    ours = [path for path in sorted(named - wanted) if path.rsplit("/", 1)[-1].startswith(name_prefix(instance))]
    found = ((path, observed.engine_roles.get(path)) for path in ours)
    return [DeleteEngineRole(path, before) for path, before in found if before is not None]
