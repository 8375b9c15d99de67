"""What both servers say of themselves and of how they are joined."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence

from secretbinding.errors import NoLeader, SecretBindingError
from secretbinding.naming import name_prefix
from secretbinding.ops.doctor.facts import Endpoint, Fact, NomadFacts, Unknown, VaultFacts
from secretbinding.ops.doctor.gathering.asking import ask, ask_each, known, unknown
from secretbinding.ops.nomad_rights import Granted
from secretbinding.ops.ports import AuthMount, Keys, Node, NomadAdmin, VaultAdmin
from secretbinding.ops.rights import Scope
from secretbinding.ports import Json, Nomad, Vault, VaultHealth
from secretbinding.render.role import AUDIENCE, role_policies

_BUILT_IN = frozenset({"default", "root"})
_ROLES_OF = {"database": ("roles", "static-roles"), "pki": ("roles",)}
_ACCESSIBLE = "vault.accessible"
_CLUSTER = "vault.cluster_name"


def vault_facts(
    vault: Vault,
    admin: VaultAdmin,
    endpoint: Endpoint,
    namespace: str,
    scope: Scope,
    keys: Keys,
    *,
    approle_mount: str,
) -> VaultFacts:
    """Everything about Vault that is the same for all bindings."""
    health = ask(vault.health)
    away = _away("Vault", health)
    mount = scope.jwt_mount
    if away is not None:
        return _silent_vault(endpoint, namespace, health, away, approle_mount)
    config = ask(lambda: admin.read(f"auth/{mount}/config"))
    names = ask(lambda: admin.list(f"auth/{mount}/role"))
    roles = names if isinstance(names, Unknown) else _roles(vault, mount, names)
    mounts = ask(admin.auth_mounts)
    app_roles = _app_roles(vault, admin, approle_mount, mounts)
    return VaultFacts(
        endpoint=endpoint,
        namespace=namespace,
        health=health,
        leader=ask(admin.leader),
        clock=ask(admin.measured_clock),
        mounts=mounts,
        audit=ask(admin.audit_devices),
        config=config,
        roles=roles,
        policies=_policies(vault, scope.instance, roles, app_roles),
        engine_roles=_engine_roles(admin, scope.instance),
        probe=_probe(admin, mount, roles),
        keys=_keys(config, keys),
        approle_mount=approle_mount,
        app_roles=app_roles,
    )


def _silent_vault(
    endpoint: Endpoint, namespace: str, health: Fact[VaultHealth], away: Unknown, approle_mount: str
) -> VaultFacts:
    return VaultFacts(
        endpoint=endpoint,
        namespace=namespace,
        health=health,
        leader=away,
        clock=away,
        mounts=away,
        audit=away,
        config=away,
        roles=away,
        policies=away,
        engine_roles=away,
        probe=away,
        keys=away,
        approle_mount=approle_mount,
        app_roles=away,
    )


def _away(system: str, answer: Fact[object]) -> Unknown | None:
    if isinstance(answer, Unknown):
        return Unknown(f"{system} does not answer", "see the finding about that")
    if isinstance(answer, VaultHealth) and (answer.sealed or not answer.initialized):
        return Unknown("Vault is sealed or not initialized", "see the finding about that")
    return None


def _roles(vault: Vault, mount: str, names: Sequence[str]) -> Fact[Mapping[str, Json]]:
    found = known(ask_each(names, lambda name: vault.read_jwt_role(mount, name)))
    if isinstance(found, Unknown):
        return found
    return {name: body for name, body in found.items() if body is not None}


def _app_roles(
    vault: Vault, admin: VaultAdmin, mount: str, mounts: Fact[Mapping[str, AuthMount]]
) -> Fact[Mapping[str, Json]]:
    if isinstance(mounts, Unknown):
        return mounts
    if mount not in mounts or mounts[mount].type != "approle":
        return {}
    names = ask(lambda: admin.list(f"auth/{mount}/role"))
    if isinstance(names, Unknown):
        return names
    found = known(ask_each(names, lambda name: vault.read_app_role(mount, name)))
    if isinstance(found, Unknown):
        return found
    return {name: body for name, body in found.items() if body is not None}


def _policies(vault: Vault, instance: str, *granting: Fact[Mapping[str, Json]]) -> Fact[Mapping[str, str | None]]:
    """The texts of our instance's policies, and of those that these roles grant."""
    names = ask(vault.list_policies)
    if isinstance(names, Unknown):
        return names
    known_roles = [body for roles in granting if not isinstance(roles, Unknown) for body in roles.values()]
    granted = {name for role in known_roles for name in role_policies(role)}
    wanted = {name for name in names if name.startswith(name_prefix(instance))} | (granted - _BUILT_IN)
    return known(ask_each(sorted(wanted), vault.read_policy))


def _engine_roles(admin: VaultAdmin, instance: str) -> Fact[frozenset[str]]:
    """The paths of the roles of our instance in all engines where bindings can have roles made."""
    mounts = ask(lambda: admin.read("sys/mounts"))
    if isinstance(mounts, Unknown):
        return mounts
    kinds = {path: row.get("type") for path, row in (mounts or {}).items() if isinstance(row, Mapping)}
    places = [f"{path}{place}" for path, kind in kinds.items() for place in _ROLES_OF.get(str(kind), ())]
    found = known(ask_each(places, admin.list))
    if isinstance(found, Unknown):
        return found
    prefix = name_prefix(instance)
    return frozenset(f"{place}/{name}" for place, names in found.items() for name in names if name.startswith(prefix))


def _probe(admin: VaultAdmin, mount: str, roles: Fact[Mapping[str, Json]]) -> Fact[str]:
    """Vault's answer to a login whose signature is none: it looks for the key before it refuses. It needs a role that
    takes tokens of the audience; the token names nobody."""
    if isinstance(roles, Unknown):
        return roles
    role = next((name for name, body in sorted(roles.items()) if AUDIENCE in (body.get("bound_audiences") or ())), "")
    if not role:
        return Unknown(
            f"the mount {mount} has no role yet, so no login can be tried", "it will have one with a binding"
        )
    return ask(lambda: admin.probe_login(mount, role, _false_token()))


def _false_token() -> str:
    """The shape of a signed token, with a random signature by a key that nobody has."""
    header = {"alg": "RS256", "typ": "JWT", "kid": secrets.token_hex(8)}
    parts = [json.dumps(header).encode(), json.dumps({"aud": AUDIENCE, "sub": "doctor"}).encode()]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, secrets.token_bytes(256)))


def _keys(config: Fact[Json | None], keys: Keys) -> Fact[frozenset[str]]:
    """The keys where Vault has them from, as seen from here."""
    if isinstance(config, Unknown):
        return config
    url = str((config or {}).get("jwks_url") or "")
    if not url:
        return Unknown("Vault does not have the keys from a JWKS URL")
    return ask(lambda: keys(url))


def nomad_facts(nomad: Nomad, admin: NomadAdmin, endpoint: Endpoint, health: Fact[VaultHealth]) -> NomadFacts:
    """Everything about Nomad that is the same for all bindings."""
    leader, leaderless = _leader(admin)
    if isinstance(leader, Unknown):
        away = Unknown("Nomad does not answer", "see the finding about that")
        if leaderless:
            away = Unknown("Nomad has no leader", "see the finding about that")
        return _silent_nomad(endpoint, leader, leaderless, away)
    return NomadFacts(
        endpoint=endpoint,
        leader=leader,
        leaderless=False,
        clock=ask(admin.measured_clock),
        agent=ask(admin.agent),
        nodes=ask(admin.nodes),
        without_vault=ask(lambda: admin.nodes_without(_ACCESSIBLE)),
        elsewhere=_elsewhere(admin, health),
        keys=ask(admin.signing_keys),
        issuer=ask(admin.issuer),
        acl=ask(admin.acl_enabled),
        jobs=_jobs(nomad),
        jobs_hidden=_hidden(admin),
    )


def _silent_nomad(endpoint: Endpoint, leader: Fact[str], leaderless: bool, away: Unknown) -> NomadFacts:
    return NomadFacts(
        endpoint=endpoint,
        leader=leader,
        leaderless=leaderless,
        clock=away,
        agent=away,
        nodes=away,
        without_vault=away,
        elsewhere=away,
        keys=away,
        issuer=away,
        acl=away,
        jobs=away,
    )


def _hidden(admin: NomadAdmin) -> Unknown | None:
    """Nomad leaves out of a list what the token may not see, and says nothing."""
    token = ask(admin.own_token)
    if token is None:
        return None
    if not isinstance(token, Unknown):
        if token.type == "management":
            return None
        policies = known(ask_each(token.policies, admin.acl_policy))
        if not isinstance(policies, Unknown):
            granted = Granted(policy for policy in policies.values() if policy is not None)
            if granted.everywhere({"list-jobs", "read-job"}):
                return None
    return Unknown(
        "jobs of Nomad namespaces in which the token may not list and read jobs were not looked at",
        'use a token with `namespace "*" { capabilities = ["list-jobs", "read-job"] }`',
        denied=True,
    )


def _leader(admin: NomadAdmin) -> tuple[Fact[str], bool]:
    try:
        return admin.leader(), False
    except NoLeader as error:
        return unknown(error), True
    except SecretBindingError as error:
        return unknown(error), False


def _elsewhere(admin: NomadAdmin, health: Fact[VaultHealth]) -> Fact[Sequence[Node]]:
    if isinstance(health, Unknown):
        return Unknown("Vault does not answer, so that its cluster's name is not known")
    if not health.cluster:
        return Unknown("Vault does not tell its cluster's name")
    name = health.cluster
    return ask(lambda: admin.nodes_with_other(_CLUSTER, name))


def _jobs(nomad: Nomad) -> Fact[list[Json]]:
    """All jobs that the token may see, whole. Children of periodic and parameterized jobs are like their parents."""
    stubs = ask(lambda: nomad.list_jobs("*"))
    if isinstance(stubs, Unknown):
        return stubs
    places = [(str(one.get("Namespace")), str(one["ID"])) for one in stubs if not one.get("ParentID")]
    found = ask_each(places, lambda place: nomad.job(*place))
    return [job for job in found.values() if job is not None and not isinstance(job, Unknown)]
