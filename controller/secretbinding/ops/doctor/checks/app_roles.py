"""Checks of the AppRole mount, for agents that log in by AppRole."""

from collections.abc import Iterator

from secretbinding.models.binding import AuthMethod
from secretbinding.naming import PREFIX, is_app_role, name_prefix
from secretbinding.ops.doctor.checks.words import some
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.render.policy import read_policy
from secretbinding.render.role import role_policies


def uses_app_roles(facts: Facts) -> bool:
    """Whether agents log in by AppRole: a binding says so, or a policy of ours names such a role."""
    bindings = () if isinstance(facts.bindings, Unknown) else facts.bindings
    if any(one.binding is not None and one.binding.spec.auth.method is AuthMethod.APP_ROLE for one in bindings):
        return True
    return bool(_named(facts))


def _named(facts: Facts) -> dict[str, str]:
    """Our AppRoles that policies of ours name, each with its policy."""
    policies, prefix = facts.vault.policies, name_prefix(facts.scope.instance)
    named: dict[str, str] = {}
    for name, text in {} if isinstance(policies, Unknown) else policies.items():
        found = read_policy(text) if text is not None and name.startswith(prefix) else None
        named |= {role: name for role in (found[0].roles if found is not None else ()) if is_app_role(role)}
    return named


@check(
    "approle-mount", "The AppRole mount is there where agents log in by it, and holds no roles but the controller's."
)
def app_role_mount(facts: Facts) -> Iterator[Finding | Unknown]:
    mount, mounts, roles = facts.vault.approle_mount, facts.vault.mounts, facts.vault.app_roles
    subject = f"auth mount {mount}"
    if isinstance(mounts, Unknown):
        yield mounts
        return
    if mount not in mounts:
        if uses_app_roles(facts):
            yield Finding(
                Severity.ERROR, subject, "it is not there, and agents log in by it", "sys/auth",
                f"vault auth enable -path={mount} approle, or set SECRETBINDING_AGENT_APPROLE_MOUNT",
            )  # fmt: skip
        return
    if mounts[mount].type != "approle":
        if uses_app_roles(facts):
            yield Finding(
                Severity.ERROR, subject, f"it is of type {mounts[mount].type}", "sys/auth",
                "set SECRETBINDING_AGENT_APPROLE_MOUNT to an AppRole mount of the controller's own",
            )  # fmt: skip
        return
    if isinstance(roles, Unknown):
        yield roles
        return
    others = [name for name in sorted(roles) if not name.startswith(f"{PREFIX}.")]
    if others:
        yield Finding(
            Severity.WARNING, subject,
            f"roles of others are there: {some(others)}; the controller's rights hold for them, too",
            f"auth/{mount}/role", "give the controller a mount of its own (SECRETBINDING_AGENT_APPROLE_MOUNT)",
        )  # fmt: skip


@check("orphaned-approle", "Every AppRole of ours is one that a policy of ours names, and the other way round.")
def orphaned_app_role(facts: Facts) -> Iterator[Finding | Unknown]:
    roles, policies, mount = facts.vault.app_roles, facts.vault.policies, facts.vault.approle_mount
    for missing in (roles, policies):
        if isinstance(missing, Unknown):
            yield missing
    if isinstance(roles, Unknown) or isinstance(policies, Unknown):
        return
    named = _named(facts)
    for role in sorted(roles):
        if role.startswith(name_prefix(facts.scope.instance)) and role not in named:
            yield Finding(
                Severity.WARNING,
                f"AppRole {role}",
                "no policy of ours names it: what it was made for is gone, or somebody else has made it; it grants "
                f"{some(role_policies(roles[role])) or 'no policy'}",
                f"auth/{mount}/role; sys/policies/acl",
                f"vault delete auth/{mount}/role/{role}",
            )
    for role in sorted(named.keys() - roles.keys()):
        yield Finding(
            Severity.WARNING,
            f"policy {named[role]}",
            f"the AppRole {role} that grants it is not there, so that the next agent cannot log in",
            f"sys/policies/acl/{named[role]}: its mark; auth/{mount}/role",
            "the controller makes it again at its next pass; see in its log why it has not",
        )


CHECKS = (app_role_mount, orphaned_app_role)
