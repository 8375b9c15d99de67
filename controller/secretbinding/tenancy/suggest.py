"""The policy that would allow what was refused, ready to paste."""

import re
from collections.abc import Iterable

from secretbinding.models.binding import AuthMethod, Capability, Delivery, Metadata, SecretBinding
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.kinds import DatabaseCreate, PkiCreate
from secretbinding.models.policy import (
    AuthRules,
    Choice,
    CreateRules,
    GenerateRules,
    PolicySpec,
    SecretBindingPolicy,
    SecretKind,
    SecretRules,
    SourceKind,
    TemplateRules,
    TenantSelector,
    WorkloadSelector,
)
from secretbinding.strictyaml import dump
from secretbinding.tenancy.decide import Refusal, Target, Tenant
from secretbinding.tenancy.demands import Conditions, Demand, conditions_of, demands_of

# What may stand in a name and not in a pattern.
_ODD = re.compile(r"[\"'`\\{}]")


def suggestion(
    tenant: Tenant,
    binding: SecretBinding,
    target: Target,
    refusals: Iterable[Refusal] | None = None,
    *,
    adopted: bool = False,
) -> SecretBindingPolicy | None:
    """The least policy that allows what was refused, or, without refusals, the whole binding; None where nothing can
    be allowed because all of it is denied."""
    demands = list(demands_of(binding))
    if refusals is not None:
        demands = [one.demand for one in refusals if one.demand is not None and not one.denied]
    if not demands:
        return None
    conditions = conditions_of(binding, adopted=adopted)
    longest = binding.spec.auth.token_period or binding.spec.auth.token_max_ttl
    methods = (AuthMethod(conditions.method),) if conditions.method != AuthMethod.JWT.value else ()
    # A variable of another namespace has to be in one that the policy names.
    others = tuple(sorted({one.namespace for one in demands if one.namespace not in ("", target.namespace)}))
    connections = (target.connection,) if target.connection != DEFAULT_CONNECTION else ()
    elsewhere = (
        (WorkloadSelector(namespaces=others, jobs=(_pattern(target.job),), connections=connections),) if others else ()
    )
    spec = PolicySpec(
        tenants=(TenantSelector(sources=(SourceKind(tenant.source),), names=(_pattern(tenant.name),)),),
        workloads=(
            WorkloadSelector(
                namespaces=(_pattern(target.namespace),), jobs=(_pattern(target.job),), connections=connections
            ),
            *elsewhere,
        ),
        secrets=_secrets(demands),
        auth=AuthRules(methods=methods, max_ttl=longest),
        delivery=(conditions.delivery,) if conditions.delivery is not Delivery.TEMPLATE else (),
        choices=_choices(conditions),
        templates=TemplateRules(functions=tuple(sorted({name for one in demands for name in one.functions}))),
        adopt=conditions.adopted,
        retain=conditions.retained,
    )
    return SecretBindingPolicy(metadata=Metadata(name=_name(tenant.name, binding.metadata.name)), spec=spec)


def policy_text(policy: SecretBindingPolicy) -> str:
    """The policy as YAML."""
    return dump(policy.to_manifest())


def _choices(conditions: Conditions) -> tuple[Choice, ...]:
    return tuple(choice for choice in Choice if choice.value in conditions.choices)


def _secrets(demands: Iterable[Demand]) -> tuple[SecretRules, ...]:
    """One rule for each secret, those that differ in the path only joined."""
    joined: dict[SecretRules, list[str]] = {}
    for demand in demands:
        for rule in _rule(demand):
            plain = rule.model_copy(update={"paths": ("*",)})
            joined.setdefault(plain, []).extend(rule.paths)
    return tuple(rule.model_copy(update={"paths": tuple(dict.fromkeys(paths))}) for rule, paths in joined.items())


def _rule(demand: Demand) -> list[SecretRules]:
    if demand.call:
        # Mount and path of what a template reads are not known apart; the mount is taken for one segment.
        (path,) = demand.rights
        mount, _, rest = path.partition("/")
        first, _, below = rest.partition("/")
        if first == "data" and below:
            return [SecretRules(kinds=(SecretKind.KV,), mounts=(mount,), paths=(below,))]
        return [SecretRules(kinds=(SecretKind.GENERIC,), mounts=(mount,), paths=(rest or "*",))]
    generic = demand.kind == SecretKind.GENERIC.value
    wider = generic and demand.capabilities != {Capability.READ.value}
    variable = demand.kind == SecretKind.NOMAD_VARIABLE.value
    return [
        SecretRules(
            kinds=(SecretKind(demand.kind),),
            mounts=() if variable else (_pattern(demand.mount),),
            paths=(_pattern(demand.name) if demand.name else "*",),
            capabilities=tuple(one for one in Capability if one.value in demand.capabilities) if wider else (),
            create=_create(demand.create) if demand.create is not None else None,
            generate=_generate(demand),
        )
    ]


def _create(made: DatabaseCreate | PkiCreate) -> CreateRules:
    if isinstance(made, DatabaseCreate):
        users = (_pattern(made.username),) if made.username is not None else ()
        return CreateRules(connections=(made.connection,), users=users, max_ttl=made.max_ttl)
    return CreateRules(
        domains=tuple(dict.fromkeys(map(_pattern, made.allowed_domains))),
        uris=tuple(dict.fromkeys(map(_pattern, made.allowed_uri_sans))),
        ip_sans=made.allow_ip_sans,
        issuers=(made.issuer,) if made.issuer is not None else (),
        max_ttl=made.max_ttl,
    )


def _generate(demand: Demand) -> GenerateRules | None:
    wanted = demand.generate
    if wanted is None:
        return None
    asked = wanted.secret_id_of
    return GenerateRules(
        secret_ids_of=(f"{asked.mount}/{asked.role}",) if asked is not None else (),
        roots=(wanted.rotate_root,) if wanted.rotate_root is not None else (),
    )


def _pattern(name: str) -> str:
    """A name as a pattern; what cannot stand in one is left to a wildcard."""
    return _ODD.sub("*", name)


def _name(*parts: str) -> str:
    text = re.sub(r"[^a-z0-9-]+", "-", "-".join(parts).lower()).strip("-")
    return text[:63].rstrip("-") or "allowed"
