"""The JWT role that lets exactly one task, or the main tasks of one job, log in to Vault."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from math import ceil
from typing import Any

from secretbinding.models.binding import Auth
from secretbinding.models.key import WorkloadKey

AUDIENCE = "vault.io"
IDENTITY = "vault_default"
DEFAULT_PERIOD_SECONDS = 1800
UNRENEWED_PERIOD_SECONDS = 768 * 3600
"""For tokens that nobody renews (`AllowTokenExpiration`): the longest that Vault gives where nothing else is set. A
client agent that restarts reads a task's templates with the token that the task has: one that has expired ends the task
five minutes later (tried)."""

# Only these keys are compared and written; Vault adds a dozen of its own to what it answers.
_NETWORKS = frozenset({"secret_id_bound_cidrs", "token_bound_cidrs"})
_LISTS = frozenset({"bound_audiences", "token_policies"}) | _NETWORKS
# What Vault takes and does not answer.
_UNTOLD = frozenset({"role_id"})


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """Who may log in. `group` and `task` are None for the main tasks of the whole job.

    `region` is needed for the subject of a single task; without it the role is bound by its claims alone. `identity` is
    the name of the workload identity.
    """

    workload: WorkloadKey
    group: str | None = None
    task: str | None = None
    region: str = ""
    identity: str = IDENTITY


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """Lifetimes of a task's token, in seconds; 0 leaves one out. A period and a maximum exclude each other."""

    period: int = DEFAULT_PERIOD_SECONDS
    ttl: int = 0
    max_ttl: int = 0


def join_limits(
    auths: Iterable[Auth], current: TokenLimits | None = None, *, default_period: int = DEFAULT_PERIOD_SECONDS
) -> TokenLimits:
    """The limits of a task that several bindings share: the shortest of each that was asked for.

    A task has one token. When one binding asks for a period and another for a TTL, the shorter of both becomes the
    period, because a maximum TTL would end the task of the binding that did not ask for it. `current` are the limits
    that the role has now, given when a binding has a part in them that is to stay as it is. `default_period`,
    in seconds, stands for a binding that asks for nothing.
    """
    periods: list[int] = []
    ttls: list[int] = []
    maximums: list[int] = []
    for auth in auths:
        if auth.token_ttl is not None:
            ttls.append(ceil(auth.token_ttl.seconds))
        if auth.token_max_ttl is not None:
            maximums.append(ceil(auth.token_max_ttl.seconds))
        if auth.token_ttl is None and auth.token_max_ttl is None:
            period = auth.token_period
            periods.append(ceil(period.seconds) if period is not None else default_period)
    if current is not None:
        periods.extend([current.period] if current.period else [])
        ttls.extend([current.ttl] if current.ttl else [])
        maximums.extend([current.max_ttl] if current.max_ttl else [])
    if periods or not (ttls or maximums):
        return TokenLimits(period=min([*periods, *ttls], default=default_period))
    return TokenLimits(period=0, ttl=min(ttls, default=0), max_ttl=min(maximums, default=0))


def role_body(binding: RoleBinding, policies: Iterable[str], limits: TokenLimits) -> dict[str, Any]:
    """The body of `auth/<mount>/role/<name>`.

    Nomad signs `nomad_namespace`, `nomad_job_id` (the parent's for children) and `nomad_task` into the workload
    identity; the group stands only in `sub` = `region:namespace:job:group:task:identity`. `user_claim` is `sub`:
    one Vault entity for each group and task, since a job ID is not unique across namespaces.
    """
    workload = binding.workload
    claims: dict[str, Any] = {"nomad_namespace": workload.namespace, "nomad_job_id": workload.job}
    body: dict[str, Any] = {
        "role_type": "jwt",
        "bound_audiences": [AUDIENCE],
        "user_claim": "sub",
        "bound_claims": claims,
        "bound_claims_type": "string",
        "claim_mappings": {name: name for name in ("nomad_namespace", "nomad_job_id", "nomad_task")},
        "token_type": "service",
        "token_policies": sorted(policies),
        "token_period": limits.period,
        "token_ttl": limits.ttl,
        "token_max_ttl": limits.max_ttl,
    }
    if binding.task is not None:
        claims["nomad_task"] = binding.task
        if binding.group is not None and binding.region:
            parts = [binding.region, workload.namespace, workload.job, binding.group, binding.task, binding.identity]
            body["bound_subject"] = ":".join(parts)
    return body


def same_role(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True when the server's role has every value that we set; what else it holds is the server's own."""
    told = {name: value for name, value in wanted.items() if name not in _UNTOLD}
    return all(_plain(name, current.get(name)) == _plain(name, value) for name, value in told.items())


def role_limits(body: Mapping[str, Any] | None) -> TokenLimits | None:
    """The limits that a role has, None when there is no role."""
    if body is None:
        return None
    period, ttl, max_ttl = (body.get(name) for name in ("token_period", "token_ttl", "token_max_ttl"))
    return TokenLimits(*(value if isinstance(value, int) else 0 for value in (period, ttl, max_ttl)))


def role_policies(body: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The policies that a role grants, sorted."""
    names = body.get("token_policies") if body is not None else None
    return tuple(sorted(str(name) for name in names)) if isinstance(names, list) else ()


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return [] if name in _LISTS else value
    if name in _NETWORKS and isinstance(value, list):
        return sorted(_network(str(item)) for item in value)
    if name in _LISTS and isinstance(value, list):
        return sorted(value)
    return value


def _network(text: str) -> str:
    """A network as we write it: Vault answers a single address without its prefix."""
    try:
        return str(ip_network(text))
    except ValueError:
        return text
