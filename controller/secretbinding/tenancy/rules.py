"""What one policy says of one demand: whether it is about it at all, what it denies, and what it lacks."""

from collections.abc import Iterable, Iterator

from secretbinding.models.binding import AuthMethod, Delivery
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.kinds import DatabaseCreate, PkiCreate
from secretbinding.models.policy import (
    CreateRules,
    Effect,
    PolicySpec,
    SecretKind,
    SecretRules,
    TenantSelector,
    WorkloadSelector,
)
from secretbinding.tenancy.demands import Conditions, Demand
from secretbinding.tenancy.parties import Target, Tenant
from secretbinding.tenancy.patterns import KV_API, matches, matches_any, matches_bare_path, matches_mount
from secretbinding.tenancy.shapes import is_known, may_be, name_in, splits

_BY_ITSELF = frozenset(kind.value for kind in SecretKind) - {"generic", "nomadVariable"}


def selects(selector: TenantSelector, tenant: Tenant) -> bool:
    if selector.sources and tenant.source not in {source.value for source in selector.sources}:
        return False
    if selector.names and not matches_any(selector.names, tenant.name, tenant.name):
        return False
    labels = tenant.labels or {}
    return all(labels.get(name) == value for name, value in selector.labels.items())


def aims(selector: WorkloadSelector, tenant: Tenant, target: Target, *, unknown: bool) -> bool:
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


def denies(spec: PolicySpec, tenant: Tenant, target: Target, demand: Demand) -> bool:
    if spec.effect is not Effect.DENY:
        return False
    if spec.workloads and not any(aims(one, tenant, target, unknown=False) for one in spec.workloads):
        return False
    return not spec.secrets or any(_forbids(rules, tenant.name, demand) for rules in spec.secrets)


def _forbids(rules: SecretRules, tenant: str, demand: Demand) -> bool:
    """Whether a rule of a Deny means a secret: as it is written, or as the path that it comes to; upper and lower case
    are the same here. A path is denied by whichever kind a binding says it is: Vault does not ask for the kind. A Deny
    of every mount and path means its kinds, and whatever has a path that may be one of an engine of these kinds: all
    that is written as a path of Vault's API may be."""
    kinds = {kind.value for kind in rules.kinds}
    lowered = rules.model_copy(update={"paths": _lower(rules.paths), "mounts": _lower(rules.mounts)})
    tenant = tenant.lower()
    if not demand.call and (not kinds or demand.kind in kinds):
        mount = not lowered.mounts or matches_any(lowered.mounts, demand.mount.lower(), tenant)
        if mount and (not demand.name or matches_any(lowered.paths, demand.name.lower(), tenant)):
            return True
    if kinds and "*" in rules.mounts and "*" in rules.paths:
        paths = _lower(demand.rights)
        if demand.standing and SecretKind.GENERIC.value in kinds and not all(map(is_known, paths)):
            return True
        if (demand.call or demand.bare) and not demand.standing:
            return kinds != {SecretKind.NOMAD_VARIABLE.value}
        return any(may_be(kind, path) for path in paths for kind in kinds)
    return any(
        matches_any(lowered.mounts, mount, tenant)
        and any(matches_any(lowered.paths, name, tenant) for name in _readings(rest))
        for path in demand.rights
        for mount, rest in splits(path.lower())
    )


def _lower(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in patterns)


def lacks(
    spec: PolicySpec, tenant: Tenant, target: Target, conditions: Conditions | None, demand: Demand
) -> Iterator[str]:
    """What a policy with Allow lacks for a secret, in words; nothing when it allows it."""
    if not any(aims(one, tenant, target, unknown=True) for one in spec.workloads):
        if any(aims(_any_connection(one), tenant, target, unknown=True) for one in spec.workloads):
            yield f"connection {target.connection}"
        elif any(aims(_any_driver(one), tenant, target, unknown=True) for one in spec.workloads):
            yield f"tasks of driver {', '.join(sorted(target.drivers or ()))}"
        else:
            yield target.title
    if conditions is not None:
        yield from beyond(spec, conditions)
    if demand.namespace and not any(
        matches_any(one.namespaces, demand.namespace, tenant.name) for one in spec.workloads
    ):
        yield f"variables of namespace {demand.namespace}"
    functions = sorted(demand.functions - set(spec.templates.functions))
    if functions:
        yield f"templates that call {', '.join(functions)}"
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


def beyond(spec: PolicySpec, conditions: Conditions) -> Iterator[str]:
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
    if demand.call and demand.made and rules.create is not None and _gives(rules, kinds, tenant.name, demand.rights):
        return True
    if demand.call:
        return any(_reaches(rules, kinds, tenant.name, path) for path in demand.rights)
    if demand.kind not in kinds:
        return False
    if demand.kind == SecretKind.NOMAD_VARIABLE.value:
        return matches_any(rules.paths, demand.name, tenant.name)
    if not matches_mount(rules.mounts, demand.mount, tenant.name):
        return False
    if demand.create is not None:
        return True
    match = matches_bare_path if demand.bare else matches
    return any(match(pattern, demand.name, tenant.name) for pattern in rules.paths)


def _gives(rules: SecretRules, kinds: Iterable[str], tenant: str, paths: Iterable[str]) -> bool:
    """Whether paths are those by which engines of a rule give by a role that was made: for these the mount counts."""
    return all(
        any(
            matches_mount(rules.mounts, mount, tenant) and any(name_in(kind, rest) is not None for kind in kinds)
            for mount, rest in splits(path)
        )
        for path in paths
    )


def _reaches(rules: SecretRules, kinds: Iterable[str], tenant: str, path: str) -> bool:
    """Whether a rule is about a path of Vault's API of which nothing else is known."""
    for mount, rest in splits(path):
        if not matches_mount(rules.mounts, mount, tenant):
            continue
        # What begins as the KV engine's own API may be another path's secret, whatever the pattern was meant for.
        plain = rest.partition("/")[0] not in KV_API or "generic" in kinds or "*" in rules.paths
        # Only these kinds are told by a path as it is; of the others, the engine's configuration is not meant.
        if (
            plain
            and {"kv", "generic"} & set(kinds)
            and any(matches_bare_path(pattern, rest, tenant) for pattern in rules.paths)
        ):
            return True
        # What an engine of the kinds gives there: data/PATH, creds/ROLE, roleset/NAME/token.
        names = [name for kind in kinds if (name := name_in(kind, rest)) is not None]
        if any(matches(pattern, name, tenant) for pattern in rules.paths for name in names):
            return True
    return False


def _readings(rest: str) -> tuple[str, ...]:
    """What a path below a mount may be about: itself, what follows its first segment (`creds/ROLE`), and what stands
    between its first and its last (`roleset/NAME/token`)."""
    parts = rest.split("/")
    found = [rest, "/".join(parts[1:]), "/".join(parts[1:-1])]
    return tuple(name for name in found if name)


def _misses(rules: SecretRules, tenant: str, demand: Demand) -> Iterator[str]:
    """What a rule that is about a secret does not allow of it."""
    if demand.standing:
        # What the manifest was is not known.
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
