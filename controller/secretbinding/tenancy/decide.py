"""The decision: whether policies allow what a binding asks for, and what is missing where they do not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from secretbinding.kinds.base import RENEW, Right
from secretbinding.models.binding import AuthMethod, Delivery, SecretBinding
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.kinds import DatabaseCreate, PkiCreate
from secretbinding.models.policy import (
    Choice,
    CreateRules,
    Effect,
    PolicySpec,
    SecretBindingPolicy,
    SecretKind,
    SecretRules,
    TenantSelector,
    WorkloadSelector,
)
from secretbinding.tenancy.demands import Conditions, Demand, Path, conditions_of, demands_of
from secretbinding.tenancy.patterns import KV_API, matches, matches_any, matches_bare_path

_BY_ITSELF = frozenset(kind.value for kind in SecretKind) - {"generic", "nomadVariable"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose binding it is.

    Attributes:
        source: `kubernetes`, `nomad` or `files`.
        name: the namespace, or what the directory of files is configured as.
        labels: None when they are not known; then nobody has any, and nobody lacks any either.
    """

    source: str
    name: str
    labels: Mapping[str, str] | None = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


@dataclass(frozen=True, slots=True)
class Target:
    """The job that gets the secrets. `drivers` of its tasks that do; None while the job is not known. `connection` is
    the one by which its Nomad, and Vault, are reached."""

    namespace: str
    job: str
    region: str = ""
    drivers: frozenset[str] | None = None
    connection: str = DEFAULT_CONNECTION


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that is not allowed.

    Attributes:
        place: the field of the manifest that asks for it.
        denied: a policy with effect Deny matches, so that no further policy would allow it.
        demand: what is asked for; None where only rights are known.
    """

    place: Path
    message: str
    denied: bool = False
    demand: Demand | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is not allowed; nothing when all is. `unknown` says why that cannot be told, "" when it can."""

    refusals: tuple[Refusal, ...] = ()
    unknown: str = ""

    @property
    def allowed(self) -> bool:
        """True when everything that the binding asks for is allowed."""
        return not self.refusals and not self.unknown


def decide(
    policies: Iterable[SecretBindingPolicy],
    tenant: Tenant,
    binding: SecretBinding,
    target: Target,
    *,
    adopted: bool = False,
) -> Decision:
    """Whether a tenant may have its binding. Each secret has to be allowed by one policy as a whole: by its tenants,
    its jobs, its secrets and its limits; and no Deny may match it."""
    conditions = conditions_of(binding, adopted=adopted)
    return _decide(tuple(policies), tenant, target, conditions, demands_of(binding))


def decide_rights(
    policies: Iterable[SecretBindingPolicy],
    tenant: Tenant,
    target: Target,
    rights: Iterable[Right],
    *,
    choices: frozenset[Choice] = frozenset(),
) -> Decision:
    """Whether a tenant may have rights that a job has already, where the manifest that asked for them cannot be read
    any more: each path has to be below a mount that a policy names, and what it names there. `choices` are those that
    the job shows."""
    demands = [
        Demand((), "", "", "", "", rights=(right.path,), capabilities=frozenset(right.capabilities), call=True)
        for right in rights
        if right != RENEW
    ]
    # An Allow without what the job has been given to run allows nothing of it.
    given = [one for one in policies if one.spec.effect is Effect.DENY or choices <= set(one.spec.choices)]
    if demands:
        return _decide(given, tenant, target, None, demands)
    return _decide_presence(given, tenant, target)


def _decide_presence(policies: Sequence[SecretBindingPolicy], tenant: Tenant, target: Target) -> Decision:
    """Whether a tenant may have anything at all in a job: of an unreadable binding whose secrets
    need no rights in Vault (Nomad's variables), no more can be judged."""
    if unknown := _unknown_labels(policies, tenant):
        return Decision(unknown=unknown)
    mine = [policy for policy in policies if any(_selects(one, tenant) for one in policy.spec.tenants)]
    for policy in mine:
        spec = policy.spec
        aimed = not spec.workloads or any(_aims(one, tenant, target, unknown=False) for one in spec.workloads)
        if spec.effect is Effect.DENY and not spec.secrets and aimed:
            message = f"policy {policy.metadata.name} denies tenant {tenant} everything for {_job(target)}"
            return Decision((Refusal((), message, denied=True),))
    allowing = (one.spec for one in mine if one.spec.effect is Effect.ALLOW)
    if any(_aims(one, tenant, target, unknown=True) for spec in allowing for one in spec.workloads):
        return Decision()
    return Decision((Refusal((), f"no policy allows tenant {tenant} anything for {_job(target)}"),))


def _unknown_labels(policies: Iterable[SecretBindingPolicy], tenant: Tenant) -> str:
    if tenant.labels is None and any(chosen.labels for policy in policies for chosen in policy.spec.tenants):
        return f"the labels of tenant {tenant} are not known"
    return ""


def _decide(
    policies: Sequence[SecretBindingPolicy],
    tenant: Tenant,
    target: Target,
    conditions: Conditions | None,
    demands: Iterable[Demand],
) -> Decision:
    if unknown := _unknown_labels(policies, tenant):
        return Decision(unknown=unknown)
    mine = [policy for policy in policies if any(_selects(one, tenant) for one in policy.spec.tenants)]
    refusals: list[Refusal] = []
    for demand in demands:
        denying = next((one for one in mine if _denies(one.spec, tenant, target, demand)), None)
        if denying is not None:
            message = f"policy {denying.metadata.name} denies tenant {tenant} {demand.title} for {_job(target)}"
            refusals.append(Refusal(demand.place, message, denied=True, demand=demand))
            continue
        lacking = {
            policy.metadata.name: list(_lacks(policy.spec, tenant, target, conditions, demand))
            for policy in mine
            if policy.spec.effect is Effect.ALLOW
        }
        if all(lacking.values()):
            refusals.append(Refusal(demand.place, _told(tenant, target, demand, lacking), demand=demand))
    return Decision(tuple(refusals))


def _told(tenant: Tenant, target: Target, demand: Demand, lacking: Mapping[str, Sequence[str]]) -> str:
    message = f"no policy allows tenant {tenant} {demand.title} for {_job(target)}"
    near = min(lacking.items(), key=lambda item: (len(item[1]), item[0]), default=None)
    if near is None:
        return message
    return f"{message}; policy {near[0]} does not allow {', '.join(near[1])}"


def _job(target: Target) -> str:
    place = "" if target.connection == DEFAULT_CONNECTION else f" of connection {target.connection}"
    return f"job {target.namespace}/{target.job}{place}"


def _selects(selector: TenantSelector, tenant: Tenant) -> bool:
    if selector.sources and tenant.source not in {source.value for source in selector.sources}:
        return False
    if selector.names and not matches_any(selector.names, tenant.name, tenant.name):
        return False
    labels = tenant.labels or {}
    return all(labels.get(name) == value for name, value in selector.labels.items())


def _aims(selector: WorkloadSelector, tenant: Tenant, target: Target, *, unknown: bool) -> bool:
    """Whether a job is one of those that a selector means; `unknown` is the answer where the job is not known."""
    if not matches_any(selector.namespaces, target.namespace, tenant.name):
        return False
    if selector.jobs and not matches_any(selector.jobs, target.job, tenant.name):
        return False
    if selector.regions and not matches_any(selector.regions, target.region, tenant.name):
        return False
    # A job of another cluster is another job: who may bind to `payments` here may not by that word bind to it there.
    # `unknown` is true of Allow.
    connections = selector.connections or ((DEFAULT_CONNECTION,) if unknown else ("*",))
    if not matches_any(connections, target.connection, tenant.name):
        return False
    if not selector.drivers:
        return True
    if target.drivers is None:
        return unknown
    # With Allow each task has to be right; with Deny one that is meant is enough.
    fits = [matches_any(selector.drivers, driver, tenant.name) for driver in target.drivers]
    return all(fits) if unknown else any(fits)


def _denies(spec: PolicySpec, tenant: Tenant, target: Target, demand: Demand) -> bool:
    if spec.effect is not Effect.DENY:
        return False
    if spec.workloads and not any(_aims(one, tenant, target, unknown=False) for one in spec.workloads):
        return False
    return not spec.secrets or any(_forbids(rules, tenant.name, demand) for rules in spec.secrets)


def _forbids(rules: SecretRules, tenant: str, demand: Demand) -> bool:
    """Whether a rule of a Deny means a secret: as it is written, or as the path that it comes to; upper and lower case
    are the same here. A path is denied by whichever kind a binding says it is: Vault does not ask for the kind. Only a
    Deny of every mount and path means nothing but its kinds, and what may be a KV secret."""
    kinds = {kind.value for kind in rules.kinds}
    lowered = rules.model_copy(update={"paths": _lower(rules.paths), "mounts": _lower(rules.mounts)})
    tenant = tenant.lower()
    if not demand.call and (not kinds or demand.kind in kinds):
        mount = not lowered.mounts or matches_any(lowered.mounts, demand.mount.lower(), tenant)
        if mount and (not demand.name or matches_any(lowered.paths, demand.name.lower(), tenant)):
            return True
    if kinds and not (demand.call or demand.bare or demand.kind == "kv") and "*" in rules.mounts and "*" in rules.paths:
        return "kv" in kinds and any("data" in path.split("/")[1:-1] for path in _lower(demand.rights))
    return any(
        matches_any(lowered.mounts, mount, tenant)
        and any(matches_any(lowered.paths, name, tenant) for name in _readings(rest))
        for path in demand.rights
        for mount, rest in _splits(path.lower())
    )


def _lower(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in patterns)


def _lacks(
    spec: PolicySpec, tenant: Tenant, target: Target, conditions: Conditions | None, demand: Demand
) -> Iterator[str]:
    """What a policy with Allow lacks for a secret, in words; nothing when it allows it."""
    if not any(_aims(one, tenant, target, unknown=True) for one in spec.workloads):
        if any(_aims(_any_connection(one), tenant, target, unknown=True) for one in spec.workloads):
            yield f"connection {target.connection}"
        elif any(_aims(_any_driver(one), tenant, target, unknown=True) for one in spec.workloads):
            yield f"tasks of driver {', '.join(sorted(target.drivers or ()))}"
        else:
            yield _job(target)
    if conditions is not None:
        yield from _beyond(spec, conditions)
    if demand.namespace and not any(
        matches_any(one.namespaces, demand.namespace, tenant.name) for one in spec.workloads
    ):
        yield f"variables of namespace {demand.namespace}"
    beyond = sorted(demand.functions - set(spec.templates.functions))
    if beyond:
        yield f"templates that call {', '.join(beyond)}"
    fitting = [list(_misses(rules, tenant.name, demand)) for rules in spec.secrets if _covers(rules, tenant, demand)]
    if not fitting:
        yield "this secret"
    else:
        yield from min(fitting, key=len)


def _any_connection(selector: WorkloadSelector) -> WorkloadSelector:
    """The selector for any connection."""
    return selector.model_copy(update={"connections": ("*",)})


def _any_driver(selector: WorkloadSelector) -> WorkloadSelector:
    """The selector for any driver."""
    return selector.model_copy(update={"drivers": ()})


def _beyond(spec: PolicySpec, conditions: Conditions) -> Iterator[str]:
    methods = {method.value for method in spec.auth.methods} or {AuthMethod.JWT.value}
    if conditions.method not in methods:
        yield f"auth.method {conditions.method}"
    limit = spec.auth.max_ttl
    if limit is not None and conditions.longest_seconds is None:
        yield f"tokens without a tokenPeriod or tokenMaxTTL of at most {limit}"
    elif limit is not None and conditions.longest_seconds is not None and conditions.longest_seconds > limit.seconds:
        yield f"tokens of more than {limit}"
    if conditions.delivery not in (spec.delivery or (Delivery.TEMPLATE,)):
        yield f"delivery {conditions.delivery}"
    chosen = sorted(conditions.choices - {choice.value for choice in spec.choices})
    if chosen:
        yield f"a choice of {', '.join(chosen)}"
    if conditions.adopted and not spec.adopt:
        yield "taking over what is in the job by hand"
    if conditions.retained and not spec.retain:
        yield "deletionPolicy Retain"


def _covers(rules: SecretRules, tenant: Tenant, demand: Demand) -> bool:
    """Whether a rule is about a secret at all."""
    kinds = {kind.value for kind in rules.kinds} or _BY_ITSELF
    if demand.call:
        return any(_reaches(rules, kinds, tenant.name, path) for path in demand.rights)
    if demand.kind not in kinds:
        return False
    if demand.kind == SecretKind.NOMAD_VARIABLE.value:
        return matches_any(rules.paths, demand.name, tenant.name)
    if not matches_any(rules.mounts, demand.mount, tenant.name):
        return False
    if demand.create is not None:
        return True
    match = matches_bare_path if demand.bare else matches
    return any(match(pattern, demand.name, tenant.name) for pattern in rules.paths)


def _reaches(rules: SecretRules, kinds: Iterable[str], tenant: str, path: str) -> bool:
    """Whether a rule is about a path of Vault's API of which nothing else is known."""
    of_kv = "kv" in kinds
    for mount, rest in _splits(path):
        if not matches_any(rules.mounts, mount, tenant):
            continue
        # What begins as the KV engine's own API may be another path's secret, whatever the pattern was meant for.
        as_it_is = rest.partition("/")[0] not in KV_API or "generic" in kinds or "*" in rules.paths
        if as_it_is and any(matches_bare_path(pattern, rest, tenant) for pattern in rules.paths):
            return True
        below = rest.partition("/")[2]
        if of_kv and rest.startswith("data/") and any(matches(pattern, below, tenant) for pattern in rules.paths):
            return True
        # What other engines give: creds/ROLE, issue/ROLE, roleset/NAME/token.
        names = [name for name in _readings(rest) if name != rest]
        others = set(kinds) - {"kv", "generic", "nomadVariable"}
        if others and any(matches_bare_path(pattern, name, tenant) for pattern in rules.paths for name in names):
            return not rest.startswith("data/")
    return False


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Every way in which a path of Vault's API can be a mount and what is below it."""
    parts = path.split("/")
    for end in range(1, len(parts)):
        yield "/".join(parts[:end]), "/".join(parts[end:])


def _readings(rest: str) -> tuple[str, ...]:
    """What a path below a mount may be about: itself, what follows its first segment (`creds/ROLE`), and what stands
    between its first and its last (`roleset/NAME/token`)."""
    parts = rest.split("/")
    found = [rest, "/".join(parts[1:]), "/".join(parts[1:-1])]
    return tuple(name for name in found if name)


def _misses(rules: SecretRules, tenant: str, demand: Demand) -> Iterator[str]:
    """What a rule that is about a secret does not allow of it."""
    if demand.call and not demand.secret:
        # Rights that are there; what the manifest was is not known.
        allowed = {capability.value for capability in rules.capabilities}
    else:
        generic = demand.kind == SecretKind.GENERIC.value or demand.call
        allowed = {capability.value for capability in rules.capabilities} or ({"read"} if generic else set())
    beyond = sorted(demand.capabilities - allowed) if allowed else []
    if beyond:
        yield f"the capabilities {', '.join(beyond)}"
    if demand.create is not None:
        if rules.create is None:
            yield "roles that are made for a binding"
        else:
            yield from _made_beyond(rules.create, tenant, demand.create)
    wanted = demand.generate
    if wanted is None:
        return
    if rules.generate is None:
        yield "new values that a binding has made"
        return
    if wanted.secret_id_of is not None:
        role = f"{wanted.secret_id_of.mount}/{wanted.secret_id_of.role}"
        if not matches_any(rules.generate.secret_ids_of, role, tenant):
            yield f"secret-ids of AppRole {role}"
    if wanted.rotate_root is not None and not matches_any(rules.generate.roots, wanted.rotate_root, tenant):
        yield f"a new root password of connection {wanted.rotate_root}"


def _made_beyond(rules: CreateRules, tenant: str, made: DatabaseCreate | PkiCreate) -> Iterator[str]:
    limit = rules.max_ttl
    longest = made.max_ttl
    bounded = not (isinstance(made, DatabaseCreate) and made.static)
    if limit is not None and bounded and (longest is None or longest.seconds > limit.seconds):
        yield f"roles without a maxTTL of at most {limit}"
    if isinstance(made, DatabaseCreate):
        if not matches_any(rules.connections, made.connection, tenant):
            yield f"roles of connection {made.connection}"
        if made.username is not None and not matches_any(rules.users, made.username, tenant):
            yield f"a static role of user {made.username}"
        return
    yield from (
        f"roles for domain {domain}"
        for domain in made.allowed_domains
        if not matches_any(rules.domains, domain, tenant)
    )
    yield from (f"roles for URI {uri}" for uri in made.allowed_uri_sans if not matches_any(rules.uris, uri, tenant))
    if made.allow_ip_sans and not rules.ip_sans:
        yield "roles for IP addresses"
    if made.issuer is not None and not matches_any(rules.issuers, made.issuer, tenant):
        yield f"roles of issuer {made.issuer}"
