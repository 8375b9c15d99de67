"""Checks of what carries our mark in Vault, and of what else lets Nomad's tasks in."""

import json
import re
from collections.abc import Iterator, Mapping

from secretbinding.kinds import KINDS, Right
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, is_app_role, name_prefix, policy_name
from secretbinding.ops.doctor.checks.words import some
from secretbinding.ops.doctor.facts import BindingFacts, Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ops.rights import read_mark
from secretbinding.render.policy import PolicyDocument, join_rights, read_policy
from secretbinding.render.role import role_policies

_PATH = re.compile(r'\bpath\s+"([^"\n]+)"\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}')
_CAPABILITIES = re.compile(r"\bcapabilities\s*=\s*\[([^\]]*)\]")
_WORD = re.compile(r'"([a-z]+)"')
_SHORT = re.compile(r'\bpolicy\s*=\s*"(read|write|sudo)"')
_COMMENT = re.compile(r"^\s*(?:#|//).*$", re.MULTILINE)
_TEMPLATED = re.compile(r"\{\{.*?\}\}")
_WRITE = ("create", "read", "update", "delete", "list")
_SYSTEM = ("sys/", "auth/", "identity/")
_OWN_TOKEN = ("sys/leases/renew", "auth/token/renew-self", "auth/token/lookup-self", "auth/token/revoke-self")


def _ours(facts: Facts) -> tuple[dict[str, tuple[PolicyDocument, bool]], list[Unknown]]:
    """Our instance's policies, with whether each is as it was written."""
    policies = facts.vault.policies
    if isinstance(policies, Unknown):
        return {}, [policies]
    found = {name: read_policy(text) for name, text in policies.items() if text is not None}
    instance = facts.scope.instance
    return {name: one for name, one in found.items() if one and one[0].owner.instance == instance}, []


def _title(key: BindingKey) -> str:
    return f"{key.tenant}/{key.name} ({key.source})"


@check("policy-altered", "Every policy of a binding is as the controller wrote it.")
def altered(facts: Facts) -> Iterator[Finding | Unknown]:
    ours, unknown = _ours(facts)
    yield from unknown
    for name, (document, intact) in sorted(ours.items()):
        if not intact:
            yield Finding(
                Severity.WARNING,
                f"policy {name}",
                f"somebody has edited it since it was written for {_title(document.owner.key)}",
                f"sys/policies/acl/{name}: its mark is of another text",
                "let the controller write it again (it does at its next pass), and give rights by the binding",
            )


@check("policy-excess", "No policy of a binding gives more than the binding needs.")
def excess(facts: Facts) -> Iterator[Finding | Unknown]:
    ours, unknown = _ours(facts)
    yield from unknown
    if isinstance(facts.bindings, Unknown):
        yield facts.bindings
        return
    for one in facts.bindings:
        name = policy_name(Owner(facts.scope.instance, one.key))
        needed = _needed(one)
        if name not in ours or needed is None:
            continue
        extra = _beyond(ours[name][0].rights, needed)
        if extra:
            yield Finding(
                Severity.WARNING,
                f"policy {name}",
                f"it gives more than {_title(one.key)} needs: {some(extra)}",
                f"sys/policies/acl/{name}, and the binding",
                "none while a rotation or removal is under way: rights are narrowed when nothing needs them; else see "
                "why the binding is held (`secretbinding status`)",
            )


def _needed(one: BindingFacts) -> tuple[Right, ...] | None:
    """What a binding's tasks have to read; None when that is not known."""
    groups = []
    for entry in one.binding.spec.secrets if one.binding is not None else ():
        state, kind = one.secrets.get(entry.name), KINDS.get(entry.kind_name)
        if state is None or isinstance(state, Unknown) or state.fault is not None or kind is None:
            return None
        groups.append(kind.rights(entry, state))
    return join_rights(*groups) if groups else None


def _beyond(rights: tuple[Right, ...], needed: tuple[Right, ...]) -> list[str]:
    known = {right.path: set(right.capabilities) for right in needed}
    return [
        f"{some(extra)} {right.path}"
        for right in rights
        if (extra := sorted(set(right.capabilities) - known.get(right.path, set())))
    ]


@check(
    "policy-wildcard",
    "No role that lets Nomad's tasks in grants a policy with wildcards or with rights on Vault itself.",
)
def wildcard(facts: Facts) -> Iterator[Finding | Unknown]:
    roles, policies = facts.vault.roles, facts.vault.policies
    if isinstance(roles, Unknown):
        yield roles
        return
    if isinstance(policies, Unknown):
        yield policies
        return
    granting: dict[str, list[str]] = {}
    app_roles = {} if isinstance(facts.vault.app_roles, Unknown) else facts.vault.app_roles
    for role, body in sorted({**app_roles, **roles}.items()):
        for name in role_policies(body):
            granting.setdefault(name, []).append(role)
    for name, by in sorted(granting.items()):
        text = policies.get(name)
        mark = read_mark(text) if text else None
        if name == "root":
            yield _too_wide(name, by, "every right", facts)
            continue
        if not text or (mark is not None and mark.intact):
            continue
        wide = [what for path, capabilities in _paths(text).items() if (what := _wide(path, capabilities))]
        if wide:
            yield _too_wide(name, by, some(wide), facts)


def _too_wide(name: str, roles: list[str], what: str, facts: Facts) -> Finding:
    return Finding(
        Severity.WARNING,
        f"policy {name}",
        f"every task that logs in by {some([f'role {role}' for role in roles])} gets {what}",
        f"sys/policies/acl/{name}; auth/{facts.scope.jwt_mount}/role, auth/{facts.vault.approle_mount}/role",
        "name the paths that the tasks read, or let a binding do so",
    )


def _paths(text: str) -> Mapping[str, set[str]]:
    """The paths of a policy, in HCL or JSON, with their capabilities; the older short forms spelled out."""
    found: dict[str, set[str]] = {}
    try:
        blocks = json.loads(text).get("path") or {}
        for path, block in blocks.items():
            found[str(path)] = set(map(str, block.get("capabilities") or ()))
        return found
    except (ValueError, AttributeError, TypeError, RecursionError):
        found.clear()
    for path, body in _PATH.findall(_COMMENT.sub("", text)):
        granted = found.setdefault(path, set())
        for listed in _CAPABILITIES.findall(body):
            granted.update(_WORD.findall(listed))
        for short in _SHORT.findall(body):
            granted.update({"read": ("read", "list"), "write": _WRITE, "sudo": (*_WRITE, "sudo")}[short])
    return found


def _wide(path: str, capabilities: set[str]) -> str:
    """What makes a path of a policy too wide for a task; "" for one that is not. A path that names the task's own
    namespace or job by its identity is as narrow as one that is written out."""
    if not capabilities or "deny" in capabilities:
        return ""
    if "sudo" in capabilities:
        return f"sudo on {path}"
    if path.startswith(_SYSTEM) and path not in _OWN_TOKEN and capabilities - {"read", "list"}:
        return f"{some(sorted(capabilities))} on {path}"
    if _TEMPLATED.search(path):
        return ""
    star = path.endswith("*") or "+" in path.split("/")
    return f"{some(sorted(capabilities))} on {path}" if star and capabilities - {"list"} else ""


@check("orphaned-policy", "Every policy of ours belongs to a binding that exists.")
def orphaned_policy(facts: Facts) -> Iterator[Finding | Unknown]:
    ours, unknown = _ours(facts)
    yield from unknown
    listed = set() if isinstance(facts.bindings, Unknown) else {one.key for one in facts.bindings}
    elsewhere: list[str] = []
    for name, (document, _) in sorted(ours.items()):
        key = document.owner.key
        absent = facts.absent.get(key)
        if document.retain or key in listed or absent is False:
            continue
        if absent is True:
            yield Finding(
                Severity.WARNING,
                f"policy {name}",
                f"its binding {_title(key)} does not exist any more",
                f"sys/policies/acl/{name}: its mark; the source proves that the binding is gone",
                _removal(name, document, facts),
            )
        elif isinstance(absent, Unknown):
            yield absent
        else:
            elsewhere.append(_title(key))
    if elsewhere:
        yield Unknown(
            f"whether the bindings of {len(elsewhere)} policies exist is not known: {some(elsewhere)}",
            "give --source with the source that they are of",
        )


def _removal(name: str, document: PolicyDocument, facts: Facts) -> str:
    jwt, approle = facts.scope.jwt_mount, facts.vault.approle_mount
    roles = [f"vault delete auth/{approle if is_app_role(role) else jwt}/role/{role}" for role in document.roles]
    # The policy comes last: its mark is all that tells of the roles.
    engines = [f"vault delete {path}" for path in document.engine_roles]
    commands = [*engines, *roles, f"vault policy delete {name}"]
    return (
        "the controller removes it within ten minutes of a start, and says in its log when it does not; by hand:\n"
        + "\n".join(commands)
    )


@check("orphaned-job", "Every policy of ours is for a job that exists.")
def orphaned_job(facts: Facts) -> Iterator[Finding | Unknown]:
    ours, unknown = _ours(facts)
    yield from unknown
    if isinstance(facts.nomad.jobs, Unknown):
        yield facts.nomad.jobs
        return
    for name, (document, _) in sorted(ours.items()):
        workload = document.workload
        gone = facts.nomad.gone_jobs.get((workload.namespace, workload.job), False)
        if isinstance(gone, Unknown):
            yield gone
        elif gone:
            yield Finding(
                Severity.WARNING,
                f"policy {name}",
                f"there is no job {workload.job} in namespace {workload.namespace}, for which it is",
                f"sys/policies/acl/{name}: its mark; /v1/job/{workload.job}: 404",
                "register the job, or delete its binding",
            )


@check("orphaned-role", "Every role of ours is one that a policy of ours names, and the other way round.")
def orphaned_role(facts: Facts) -> Iterator[Finding | Unknown]:
    ours, unknown = _ours(facts)
    yield from unknown
    roles = facts.vault.roles
    if isinstance(roles, Unknown):
        yield roles
        return
    if unknown:
        return
    named = {role: name for name, (document, _) in ours.items() for role in document.roles if not is_app_role(role)}
    for role in sorted(roles):
        if role.startswith(name_prefix(facts.scope.instance)) and role not in named:
            yield Finding(
                Severity.WARNING,
                f"role {role}",
                "no policy of ours names it: what it was made for is gone",
                f"auth/{facts.scope.jwt_mount}/role; sys/policies/acl",
                f"vault delete auth/{facts.scope.jwt_mount}/role/{role}",
            )
    policies = {} if isinstance(facts.vault.policies, Unknown) else facts.vault.policies
    for role in sorted(named.keys() & roles.keys()):
        for name in role_policies(roles[role]):
            if name.startswith(name_prefix(facts.scope.instance)) and policies.get(name) is None:
                yield Finding(
                    Severity.WARNING,
                    f"role {role}",
                    f"it grants the policy {name}, which is not there, so that its tasks lack rights",
                    f"auth/{facts.scope.jwt_mount}/role/{role}: token_policies; sys/policies/acl",
                    "the controller makes it again at its next pass; see in its log why it has not",
                )
    for role, name in sorted(named.items()):
        if role not in roles:
            yield Finding(
                Severity.WARNING,
                f"policy {name}",
                f"the role {role} that grants it is not there, so that the next allocation cannot log in",
                f"sys/policies/acl/{name}: its mark; auth/{facts.scope.jwt_mount}/role",
                "the controller makes it again at its next pass; see in its log why it has not",
            )


CHECKS = (altered, excess, wildcard, orphaned_policy, orphaned_job, orphaned_role)
