"""Facts of a pair of servers with which all is well, and changes to them."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from secretbinding.kinds.base import Right
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, policy_name, role_name
from secretbinding.ops.doctor.checks import CHECKS
from secretbinding.ops.doctor.facts import BindingFacts, Endpoint, Facts, NomadFacts, TokenFacts, Unknown, VaultFacts
from secretbinding.ops.doctor.findings import Finding, Outcome, examine
from secretbinding.ops.ports import (
    AclPolicy,
    AuditDevice,
    AuthMount,
    Clock,
    Node,
    NomadAgent,
    NomadToken,
    VaultBlock,
    VaultLeader,
    VaultToken,
)
from secretbinding.ops.rights import NAMESPACE_CAPABILITIES, VARIABLES, Scope, vault_excess, vault_rights
from secretbinding.ports import VaultHealth
from secretbinding.render.policy import PolicyDocument, policy_text
from tests.support.builders import binding, job, kv_state

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SCOPE = Scope()
DENIED = Unknown("the token may not ask", "give it the right", denied=True)
KEY = BindingKey("nomad", "default", "app")
OWNER = Owner("default", KEY)
WORKLOAD = WorkloadKey("default", "", "default", "web")
ROLE = role_name("default", WORKLOAD, None, None)
POLICY = policy_name(OWNER)
TEXT = policy_text(PolicyDocument(OWNER, WORKLOAD, (Right("secret/data/myapp", ("read",)),), (ROLE,)))
JWKS = "https://nomad:4646/.well-known/jwks.json"

RULES: Mapping[str, Any] = {
    "Namespaces": [
        {
            "Name": "*",
            "Capabilities": list(NAMESPACE_CAPABILITIES),
            "Variables": {
                "Paths": [{"PathSpec": one.path, "Capabilities": list(one.capabilities)} for one in VARIABLES]
            },
        }
    ]
}


def node(name: str = "one", **changes: Any) -> Node:
    return replace(Node("id", name, "ready", True, "1.10.2"), **changes)


def block(**changes: Any) -> VaultBlock:
    made = VaultBlock("default", True, "https://vault:8200", "jwt-nomad", identity_audiences=("vault.io",))
    return replace(made, **changes)


def vault(**changes: Any) -> VaultFacts:
    made = VaultFacts(
        endpoint=Endpoint("Vault", "https://vault:8200"),
        namespace="",
        health=VaultHealth(True, False, False, "2.4.1", "cluster"),
        leader=VaultLeader(True, "https://vault-1:8200"),
        clock=Clock(100.0, 100.2, 100.0),
        mounts={
            "token": AuthMount("token", plugin="v2.4.1+builtin.bao"),
            "jwt-nomad": AuthMount("jwt", accessor="auth_jwt_1"),
        },
        audit={"file": AuditDevice("file", "/var/log/audit.log")},
        config={"jwks_url": JWKS},
        roles={ROLE: {"bound_audiences": ["vault.io"], "token_policies": [POLICY]}},
        policies={POLICY: TEXT},
        engine_roles=frozenset(),
        probe="Vault says: error verifying token signature: failed to verify id token signature",
        keys=frozenset({"a", "b"}),
    )
    return replace(made, **changes)


def nomad(**changes: Any) -> NomadFacts:
    made = NomadFacts(
        endpoint=Endpoint("Nomad", "https://nomad:4646"),
        leader="10.0.0.1:4647",
        leaderless=False,
        clock=Clock(100.0, 100.2, 100.0),
        agent=NomadAgent("1.10.2", True, True, True, True, "global", (block(),)),
        nodes=[node()],
        without_vault=[],
        elsewhere=[],
        keys=frozenset({"a"}),
        issuer=None,
        acl=True,
        jobs=[job()],
    )
    return replace(made, **changes)


def capabilities(**changes: frozenset[str]) -> Mapping[str, frozenset[str]]:
    """What the shipped policy gives, by path; `changes` replace that of a path (`/` written as `__`)."""
    granted = {right.probe: frozenset(right.capabilities) for right in vault_rights(SCOPE)}
    granted |= {excess.path: frozenset({"deny"}) for excess in vault_excess(SCOPE)}
    return granted | {path.replace("__", "/"): found for path, found in changes.items()}


def tokens(**changes: Any) -> TokenFacts:
    made = TokenFacts(
        vault_from="VAULT_TOKEN",
        vault=VaultToken(
            ("secretbinding",), ttl_seconds=3000.0, creation_ttl_seconds=3600.0, renewable=True, expires=True
        ),
        capabilities=capabilities(),
        nomad_from="NOMAD_TOKEN",
        nomad=NomadToken("accessor", "secretbinding", "client", ("secretbinding",)),
        policies=[AclPolicy("secretbinding", "", parsed=dict(RULES))],
    )
    return replace(made, **changes)


def bound(**changes: Any) -> BindingFacts:
    made = BindingFacts(KEY, binding(), "default", job(), {"app": kv_state()})
    return replace(made, **changes)


def facts(**changes: Any) -> Facts:
    """All is well. `changes` replace facts; those of `vault`, `nomad` and `tokens` may be given as mappings."""
    parts = {name: changes.pop(name, {}) for name in ("vault", "nomad", "tokens")}
    made = {"vault": vault, "nomad": nomad, "tokens": tokens}
    built = {name: made[name](**part) if isinstance(part, dict) else part for name, part in parts.items()}
    base = Facts(
        scope=SCOPE,
        now=NOW,
        max_age_days=90,
        source="nomad",
        bindings=[bound()],
        **built,
    )
    return replace(base, **changes)


def outcome(name: str, found: Facts) -> Outcome:
    """What one check finds."""
    (made,) = examine([check for check in CHECKS if check.name == name], found)
    return made


def findings(name: str, found: Facts) -> list[Finding]:
    return list(outcome(name, found).findings)


def rules(**changes: Any) -> list[AclPolicy]:
    """The shipped Nomad policy, with fields of its one namespace changed."""
    changed = copy.deepcopy(dict(RULES))
    changed["Namespaces"][0] |= changes
    return [AclPolicy("secretbinding", "", parsed=changed)]
