"""What has to change, what is in the way, and both in words: a pure comparison of what is wanted and what is there."""

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from enum import StrEnum
from typing import Any

from secretbinding.ops.bootstrap.desired import MOUNT_MARK, Item, Kind
from secretbinding.ops.rights import read_mark

# What the server may answer for a value that is not set.
_NOTHING: tuple[Any, ...] = (None, "", 0, False, [], {}, ())
# Of the configuration of an auth mount: what a write has to repeat, since it replaces all of it. Not the other sources
# of keys, of which there may be only one.
_KEPT = (
    "bound_issuer",
    "default_role",
    "jwt_supported_algs",
    "kubernetes_ca_cert",
    "disable_iss_validation",
    "disable_local_ca_jwt",
    "issuer",
    "pem_keys",
)
_CAS = {"jwks_url": "jwks_ca_pem", "oidc_discovery_url": "oidc_discovery_ca_pem"}
_TEXTS = {Kind.VAULT_POLICY: "policy", Kind.NOMAD_POLICY: "rules"}


class Change(StrEnum):
    """What is to be done with one thing."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing, what is to be done with it, and why not where it is in the way.

    Attributes:
        found: what is there; None for nothing.
        body: what is written.
        why: of a conflict: what is wrong with what is there.
        replaceable: of a conflict: whether `--replace` helps.
    """

    item: Item
    change: Change
    found: Mapping[str, Any] | None
    body: Mapping[str, Any]
    why: str = ""
    replaceable: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, in the order in which they are done."""

    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.change in (Change.CREATE, Change.UPDATE))

    @property
    def conflicts(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.change is Change.CONFLICT)


Found = Mapping[str, Mapping[str, Any] | None]
"""What is there, by `Item.id`; None for nothing."""


def make_plan(items: Sequence[Item], found: Found, instance: str, replace: Collection[str] = ()) -> Plan:
    """Compare. Nothing that differs and is not ours is changed, unless its ID is in `replace`."""
    return Plan(tuple(_step(item, items, found, instance, replace) for item in items))


def _step(item: Item, items: Sequence[Item], found: Found, instance: str, replace: Collection[str]) -> Step:
    there = found.get(item.id)
    if there is None:
        return Step(item, Change.CREATE, None, item.wanted)
    item = _with_what_may_stay(item, there, exact=item.id in replace)
    if _equal(item, there):
        return Step(item, Change.KEEP, there, item.wanted)
    body = _merged(item, there)
    if item.kind is Kind.AUTH_MOUNT:
        why = f"an auth method of type {there.get('type')} is at {item.name}"
        return Step(item, Change.CONFLICT, there, body, why, replaceable=False)
    why = _foreign(item, there, items, found, instance)
    if why and item.id not in replace:
        return Step(item, Change.CONFLICT, there, body, why)
    return Step(item, Change.UPDATE, there, body)


def _with_what_may_stay(item: Item, there: Mapping[str, Any], *, exact: bool) -> Item:
    """The thing with those values that are there and will do as well. Unless it is to be exactly as planned, an ACL
    policy stays attached to its job: that is a controller's, by `--login nomad`, which has no other right."""
    stays = {name: there[name] for name, values in item.also.items() if there.get(name) in values}
    if item.kind is Kind.NOMAD_POLICY and not item.wanted["job"] and there.get("job") and not exact:
        stays["job"] = there["job"]
    return changed(item, wanted={**item.wanted, **stays}) if stays else item


def _equal(item: Item, there: Mapping[str, Any]) -> bool:
    # A mount of somebody else's will do, whatever its description says.
    names = ("type",) if item.kind is Kind.AUTH_MOUNT else tuple(item.wanted)
    return all(_same(item.wanted[name], there.get(name)) for name in names)


def _same(wanted: Any, there: Any) -> bool:
    if wanted in _NOTHING and there in _NOTHING:
        return True
    if isinstance(wanted, list) and isinstance(there, list):
        return sorted(map(str, wanted)) == sorted(map(str, there))
    if isinstance(wanted, str) and isinstance(there, str):
        return wanted.strip() == there.strip()
    return bool(wanted == there)


def _foreign(item: Item, there: Mapping[str, Any], items: Sequence[Item], found: Found, instance: str) -> str:
    """Why what is there may not be changed; "" when it is ours."""
    match item.kind:
        case Kind.VAULT_POLICY:
            return _foreign_text(str(there.get("policy", "")), instance)
        case Kind.NOMAD_POLICY:
            return _foreign_text(str(there.get("rules", "")), instance) or _foreign_job(item, there)
        case Kind.AUTH_CONFIG:
            mount = found.get(f"vault:auth/{item.mount}") or {}
            if str(mount.get("description", "")).endswith(MOUNT_MARK):
                return ""
            return f"somebody else has set up the auth method at {item.mount}, for other purposes it seems"
        case Kind.AUTH_ROLE:
            return _foreign_role(item, there, items, found, instance)
        case _:
            return ""


def _foreign_role(item: Item, there: Mapping[str, Any], items: Sequence[Item], found: Found, instance: str) -> str:
    """A role holds no comment: it is ours when it grants a policy that is ours, and nothing that is not asked for."""
    field, policy = item.grants
    granted = [str(name) for name in there.get(field) or []]
    if policy not in granted or not set(granted) <= set(item.wanted[field]):
        return f"a role of that name is there, and grants {', '.join(granted) or 'no policy'}"
    text = found.get(next(one.id for one in items if one.kind is Kind.VAULT_POLICY and one.name == policy))
    mark = read_mark(str(text.get("policy", ""))) if text is not None else None
    return "" if mark is not None and mark.instance == instance else "a role of that name is there"


def _foreign_job(item: Item, there: Mapping[str, Any]) -> str:
    attached = there.get("job") or {}
    if not attached or attached == item.wanted["job"]:
        return ""
    name = f"{attached.get('namespace', 'default')}/{attached.get('job', '')}"
    return f"it is attached to the job {name}, which would lose these rights"


def _foreign_text(text: str, instance: str) -> str:
    mark = read_mark(text)
    if mark is None:
        return "a policy of that name is there, without our mark"
    if mark.instance != instance:
        return f"a policy of that name is there, of instance {mark.instance}"
    return "" if mark.intact else "somebody has edited the policy since it was written"


def _merged(item: Item, there: Mapping[str, Any]) -> Mapping[str, Any]:
    if item.kind is not Kind.AUTH_CONFIG:
        return item.wanted
    names = [*_KEPT, *(ca for url, ca in _CAS.items() if item.wanted.get(url))]
    kept = {name: there[name] for name in names if there.get(name) not in _NOTHING}
    return {**kept, **item.wanted}


def describe(step: Step) -> str:
    """One step in one line: `+` makes, `~` changes, `=` stays, `!` is in the way."""
    sign = {Change.CREATE: "+", Change.UPDATE: "~", Change.KEEP: "=", Change.CONFLICT: "!"}[step.change]
    where = "" if step.item.kind is Kind.NOMAD_POLICY else "Vault "
    line = f"{sign} {where}{step.item.kind.value} {step.item.name}"
    return f"{line}: {step.why}" if step.why else line


def details(step: Step) -> str:
    """What a step changes, or would change, as a unified diff; "" for what stays."""
    if step.change is Change.KEEP:
        return ""
    before = [] if step.found is None else _lines(step.item, step.found)
    return "\n".join(difflib.unified_diff(before, _lines(step.item, step.item.wanted), "now", "planned", lineterm=""))


def _lines(item: Item, values: Mapping[str, Any]) -> list[str]:
    """The values that are set, one a line, and a policy's text as it is. An empty value is like none."""
    field = _TEXTS.get(item.kind, "")
    lines = [
        f"{name} = {json.dumps(_sorted(values[name]), sort_keys=True)}"
        for name in sorted(item.wanted)
        if name != field and values.get(name) not in _NOTHING
    ]
    return [*lines, *str(values.get(field) or "").splitlines()]


def _sorted(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def show(plan: Plan) -> str:
    """The plan for people: each step, and below it its diff."""
    lines: list[str] = []
    for step in plan.steps:
        lines.append(describe(step))
        lines += [f"    {line}".rstrip() for line in details(step).splitlines()]
        if step.change is Change.CONFLICT:
            lines.append(f"    {remedy(step)}")
    return "\n".join(lines) + "\n"


def remedy(step: Step) -> str:
    """What to do about a conflict."""
    if step.replaceable:
        return f"to have it changed as shown: --replace {step.item.id}"
    return "give another mount, or disable what is there"
