"""Checks of the roles that bindings have in secrets engines (`create`)."""

from collections.abc import Iterator

from secretbinding.naming import name_prefix
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.render.policy import read_policy


@check(
    "orphaned-engine-role", "Every role of ours in a secrets engine is one that a policy of ours names, and is there."
)
def orphaned_engine_role(facts: Facts) -> Iterator[Finding | Unknown]:
    roles, policies = facts.vault.engine_roles, facts.vault.policies
    for missing in (roles, policies):
        if isinstance(missing, Unknown):
            yield missing
    if isinstance(roles, Unknown) or isinstance(policies, Unknown):
        return
    prefix, named = name_prefix(facts.scope.instance), dict[str, str]()
    for name, text in policies.items():
        found = read_policy(text) if text is not None and name.startswith(prefix) else None
        for path in found[0].engine_roles if found is not None else ():
            named[path] = name
    for path in sorted(roles - named.keys()):
        yield Finding(
            Severity.WARNING,
            f"engine role {path}",
            "no policy of ours names it: what it was made for is gone",
            f"{path.rpartition('/')[0]}; sys/policies/acl",
            f"vault delete {path}",
        )
    for path in sorted(named.keys() - roles):
        yield Finding(
            Severity.WARNING,
            f"policy {named[path]}",
            f"the engine role {path} that its binding has made is not there, so that the next allocation gets nothing",
            f"sys/policies/acl/{named[path]}: its mark; {path.rpartition('/')[0]}",
            "the controller makes it again at its next pass; see in its log why it has not",
        )


CHECKS = (orphaned_engine_role,)
