"""The state that `bootstrap` brings both servers to: a list of things with the values that are set on them. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.rights import marked, nomad_policy, vault_policy
from secretbinding.render.role import AUDIENCE, DEFAULT_PERIOD_SECONDS

ALGORITHMS = ("RS256", "EdDSA")
"""What Nomad signs workload identities with: RS256 since 1.7, EdDSA before, and still for old keys."""

MOUNT_MARK = "managed by `secretbinding bootstrap`"
"""Ends the description of an auth mount that `bootstrap` made: its mark."""

CLAIMS = ("nomad_namespace", "nomad_job_id", "nomad_task")


class Kind(StrEnum):
    """What kind of thing."""

    AUTH_MOUNT = "auth method"
    AUTH_CONFIG = "configuration"
    VAULT_POLICY = "policy"
    AUTH_ROLE = "role"
    NOMAD_POLICY = "Nomad ACL policy"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing as it should be.

    Attributes:
        name: its path in Vault without `auth/` for mounts, or the policy's name.
        wanted: the values that are set; what else the server keeps is its own.
        grants: of a role: the field that says what it grants, and our own policy there.
        mount: of a configuration: the auth mount that it is of.
        also: by field, other values that are left as they are where they are there.
    """

    kind: Kind
    name: str
    wanted: Mapping[str, Any]
    grants: tuple[str, str] = ("", "")
    mount: str = ""
    also: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What `--replace` calls it."""
        match self.kind:
            case Kind.VAULT_POLICY:
                return f"vault:policy/{self.name}"
            case Kind.NOMAD_POLICY:
                return f"nomad:policy/{self.name}"
            case Kind.AUTH_MOUNT:
                return f"vault:auth/{self.name}"
            case _:
                return f"vault:{self.name}"


def desire(target: Target, accessor: str) -> tuple[Item, ...]:
    """Everything that should be there, in the order in which it is made. `accessor` is that of the JWT mount, "" while
    it is not there: the policy of the default role names it."""
    return tuple(_vault(target, accessor)) + tuple(_nomad(target))


def _vault(target: Target, accessor: str) -> Iterator[Item]:
    scope = target.scope
    yield _mount(scope.jwt_mount, "jwt", "Nomad's workload identities")
    yield Item(
        Kind.AUTH_CONFIG,
        f"auth/{scope.jwt_mount}/config",
        _jwt_config(target),
        mount=scope.jwt_mount,
        also={"bound_issuer": (target.nomad_issuer,)} if target.jwks_url and target.nomad_issuer else {},
    )
    if target.default_role:
        text = marked(scope.instance, default_policy(target, accessor))
        yield Item(Kind.VAULT_POLICY, target.default_role, {"policy": text})
        yield Item(
            Kind.AUTH_ROLE,
            f"auth/{scope.jwt_mount}/role/{target.default_role}",
            _jwt_role(target.default_role, DEFAULT_PERIOD_SECONDS, {}),
            grants=("token_policies", target.default_role),
        )
    yield Item(Kind.VAULT_POLICY, scope.name, {"policy": vault_policy(scope)})
    yield from _login(target)


def _login(target: Target) -> Iterator[Item]:
    name, period = target.scope.name, target.period_seconds
    policies = [name, *target.extra_policies]
    grants = ("token_policies", name)
    limits: dict[str, Any] = {"token_policies": policies, "token_no_default_policy": True, "token_period": period}
    body: dict[str, Any]
    match target.login:
        case Login.TOKEN:
            grants = ("allowed_policies", name)
            body = {
                "allowed_policies": policies,
                "orphan": True,
                "renewable": True,
                "token_no_default_policy": True,
                "token_period": period,
                "token_type": "service",
            }
        case Login.NOMAD:
            claims = {"nomad_namespace": target.job_namespace, "nomad_job_id": target.job}
            body = {**_jwt_role(name, period, claims), **limits}
        case Login.KUBERNETES:
            namespace, account = target.service_account
            yield _mount(target.kubernetes_mount, "kubernetes", "Kubernetes service accounts")
            if target.kubernetes_host:
                config: dict[str, Any] = {"kubernetes_host": target.kubernetes_host}
                if target.kubernetes_ca_pem:
                    config |= {"kubernetes_ca_cert": target.kubernetes_ca_pem, "disable_local_ca_jwt": True}
                path = f"auth/{target.kubernetes_mount}/config"
                yield Item(Kind.AUTH_CONFIG, path, config, mount=target.kubernetes_mount)
            body = {
                "bound_service_account_names": [account],
                "bound_service_account_namespaces": [namespace],
                **limits,
            }
        case Login.APPROLE:
            yield _mount(target.approle_mount, "approle", "AppRoles")
            body = {"bind_secret_id": True, **limits}
    yield Item(Kind.AUTH_ROLE, target.role_path, body, grants=grants)


def _nomad(target: Target) -> Iterator[Item]:
    if not target.nomad_acl:
        return
    attached = {"namespace": target.job_namespace, "job": target.job} if target.login is Login.NOMAD else {}
    yield Item(
        Kind.NOMAD_POLICY,
        target.scope.name,
        {"rules": nomad_policy(target.scope), "description": "The secretbinding controller", "job": attached},
    )


def _mount(path: str, kind: str, what: str) -> Item:
    return Item(Kind.AUTH_MOUNT, path, {"type": kind, "description": f"{what}; {MOUNT_MARK}"})


def _jwt_config(target: Target) -> dict[str, Any]:
    """Only one source of keys may be set; the other one is cleared. So is an issuer that Nomad does not sign: nobody
    could log in."""
    config: dict[str, Any] = {"jwt_supported_algs": list(ALGORITHMS)}
    if target.jwks_url:
        config |= {"jwks_url": target.jwks_url, "oidc_discovery_url": ""}
        config |= {"bound_issuer": ""} if target.nomad_issuer is not None else {}
        config |= {"jwks_ca_pem": target.ca_pem} if target.ca_pem else {}
    else:
        # Nomad signs `iss` only where it has an issuer, and then with just this text.
        issuer = target.oidc_discovery_url
        config |= {"oidc_discovery_url": issuer, "bound_issuer": issuer, "jwks_url": ""}
        config |= {"oidc_discovery_ca_pem": target.ca_pem} if target.ca_pem else {}
    if target.default_role:
        config["default_role"] = target.default_role
    return config


def _jwt_role(policy: str, period_seconds: int, claims: Mapping[str, str]) -> dict[str, Any]:
    """A role for Nomad's workload identities. `user_claim` is `sub`: one Vault entity for each group and task, since a
    job ID is not unique across namespaces."""
    role: dict[str, Any] = {
        "role_type": "jwt",
        "bound_audiences": [AUDIENCE],
        "user_claim": "sub",
        "claim_mappings": {name: name for name in CLAIMS},
        "token_type": "service",
        "token_policies": [policy],
        "token_period": period_seconds,
    }
    return {**role, "bound_claims": dict(claims), "bound_claims_type": "string"} if claims else role


def default_policy(target: Target, accessor: str) -> str:
    """What a task may read that logs in by the default role: the secrets below its own Nomad namespace and job ID. A
    job whose ID holds a slash or a wildcard gets nothing: the server refuses to fill it in."""
    alias = f"identity.entity.aliases.{accessor or 'ACCESSOR'}.metadata"
    own = f"{{{{{alias}.nomad_namespace}}}}/{{{{{alias}.nomad_job_id}}}}"
    blocks = [
        "# What a task may read that has a vault block without a role: secrets below its Nomad namespace and job ID.\n"
    ]
    for mount in target.scope.of_kind("kv"):
        for path in (own, f"{own}/*"):
            blocks.append(f'path "{mount}/data/{path}" {{\n  capabilities = ["read"]\n}}\n')
    return "\n".join(blocks)
