"""The policy that would allow what was refused, ready to paste."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from secretbinding.models.binding import AuthMethod, Capability, Delivery, Metadata, SecretBinding
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.kinds import DatabaseCreate, PkiCreate
from secretbinding.models.policy import (
    PATTERN,
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
from secretbinding.models.text import quoted
from secretbinding.strictyaml import dump
from secretbinding.tenancy.decide import Refusal
from secretbinding.tenancy.demands import Conditions, Demand, conditions_of, demands_of
from secretbinding.tenancy.parties import Target, Tenant
from secretbinding.tenancy.patterns import KV_API

_MOST = 64
_TOLD = 10
# Nomad takes no job ID with a space: a namespace that is named for its variables opens no job there.
_NO_JOB = "no job"
# No engine has a role with a space in its name: where a role is made, none that is there already is opened with it.
_NO_ROLE = "no role"


class _Unwritable(Exception):
    """A name that no pattern says without saying others too."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """`policy` is what would allow what was refused, None where there is none; `without` says what it leaves out, and
    why, a line each."""

    policy: SecretBindingPolicy | None = None
    without: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The policy as YAML, with what it leaves out as comments; "" for nothing."""
        told = "".join(f"# Left out: {line}\n" for line in self.without)
        return told + (policy_text(self.policy) if self.policy is not None else "")


def suggestion(
    tenant: Tenant,
    binding: SecretBinding,
    target: Target,
    refusals: Iterable[Refusal] | None = None,
    *,
    adopted: bool = False,
) -> SecretBindingPolicy | None:
    """The policy of `suggested` alone."""
    return suggested(tenant, binding, target, refusals, adopted=adopted).policy


def suggested(
    tenant: Tenant,
    binding: SecretBinding,
    target: Target,
    refusals: Iterable[Refusal] | None = None,
    *,
    adopted: bool = False,
) -> Suggested:
    """The least policy that allows what was refused, or, without refusals, the whole binding; none where all of it is
    denied, or where no pattern can name it alone. Never raises: a manifest is not to hinder its own refusal."""
    try:
        return _suggested(tenant, binding, target, refusals, adopted=adopted)
    except _Unwritable as error:
        return Suggested(without=(str(error),))
    except (ValueError, UnicodeError):
        return Suggested(without=("all of it; no policy can be written for this manifest",))


def _suggested(
    tenant: Tenant, binding: SecretBinding, target: Target, refusals: Iterable[Refusal] | None, *, adopted: bool
) -> Suggested:
    demands = list(demands_of(binding))
    if refusals is not None:
        demands = [one.demand for one in refusals if one.demand is not None and not one.denied]
    rules, without = _secrets(demands)
    if not rules:
        return Suggested(without=without)
    conditions = conditions_of(binding, adopted=adopted)
    longest = binding.spec.auth.token_period or binding.spec.auth.token_max_ttl
    methods = (AuthMethod(conditions.method),) if conditions.method != AuthMethod.JWT.value else ()
    # A variable of another namespace has to be in one that the policy names.
    others = tuple(sorted({one.namespace for one in demands if one.namespace not in ("", target.namespace)}))
    connections = (target.connection,) if target.connection != DEFAULT_CONNECTION else ()
    elsewhere = (
        (WorkloadSelector(namespaces=tuple(map(_pattern, others)), jobs=(_NO_JOB,), connections=connections),)
        if others
        else ()
    )
    drivers = tuple(_pattern(driver) for driver in sorted(target.drivers or ()) if driver)
    own = WorkloadSelector(
        namespaces=(_pattern(target.namespace),), jobs=(_pattern(target.job),), drivers=drivers, connections=connections
    )
    spec = PolicySpec(
        tenants=(TenantSelector(sources=(SourceKind(tenant.source),), names=(_pattern(tenant.name),)),),
        workloads=(
            own,
            *elsewhere,
        ),
        secrets=rules,
        auth=AuthRules(methods=methods, max_ttl=longest),
        delivery=(conditions.delivery,) if conditions.delivery is not Delivery.TEMPLATE else (),
        choices=_choices(conditions),
        templates=TemplateRules(functions=tuple(sorted({name for one in demands for name in one.functions}))),
        adopt=conditions.adopted,
        retain=conditions.retained,
    )
    metadata = Metadata(name=_name(tenant.name, binding.metadata.name))
    return Suggested(SecretBindingPolicy(metadata=metadata, spec=spec), without)


def policy_text(policy: SecretBindingPolicy) -> str:
    """The policy as YAML."""
    return dump(policy.to_manifest())


def _choices(conditions: Conditions) -> tuple[Choice, ...]:
    return tuple(choice for choice in Choice if choice.value in conditions.choices)


def _secrets(demands: Iterable[Demand]) -> tuple[tuple[SecretRules, ...], tuple[str, ...]]:
    """One rule for each secret, those that differ in the path only joined; and what is left out."""
    joined: dict[SecretRules, list[str]] = {}
    without: list[str] = []
    for demand in demands:
        try:
            rule = _rule(demand)
        except _Unwritable as error:
            without.append(str(error))
            continue
        plain = rule.model_copy(update={"paths": ("*",)})
        if plain not in joined and len(joined) == _MOST:
            without.append(f"secrets beyond {_MOST} rules")
            continue
        paths = joined.setdefault(plain, [])
        paths += [path for path in rule.paths if path not in paths]
    if any(len(paths) > _MOST for paths in joined.values()):
        without.append(f"paths beyond the first {_MOST} of a mount")
    rules = tuple(rule.model_copy(update={"paths": tuple(paths[:_MOST])}) for rule, paths in joined.items())
    return rules, tuple(dict.fromkeys(without))[:_TOLD]


def _rule(demand: Demand) -> SecretRules:
    if demand.call:
        # Mount and path of what a template reads are not known apart; the mount is taken for one segment.
        (path,) = demand.rights
        mount, _, rest = path.partition("/")
        first, _, below = rest.partition("/")
        if not rest:
            raise _Unwritable(f"{quoted(path)}, which names no path below a mount")
        writes = demand.capabilities != {Capability.READ.value}
        wanted = tuple(one for one in Capability if one.value in demand.capabilities) if writes else ()
        plain = first == "data" and below and not writes and not _is_ambiguous(mount, below)
        kind, name = (SecretKind.KV, below) if plain else (SecretKind.GENERIC, rest)
        return SecretRules(kinds=(kind,), mounts=(_pattern(mount),), paths=(_pattern(name),), capabilities=wanted)
    if demand.kind == SecretKind.KV.value and _is_ambiguous(demand.mount, demand.name):
        raise _Unwritable(
            f"{quoted(f'{demand.mount}/{demand.name}')}, which may be another secret's path with another `engine` (it"
            " has a segment of the KV engine's own API); name the secret otherwise, or write the rule by hand"
        )
    generic = demand.kind == SecretKind.GENERIC.value
    wider = generic and demand.capabilities != {Capability.READ.value}
    variable = demand.kind == SecretKind.NOMAD_VARIABLE.value
    return SecretRules(
        kinds=(SecretKind(demand.kind),),
        mounts=() if variable else (_pattern(demand.mount),),
        paths=(_pattern(demand.name) if demand.name else _NO_ROLE,),
        capabilities=tuple(one for one in Capability if one.value in demand.capabilities) if wider else (),
        create=_create(demand.create) if demand.create is not None else None,
        generate=_generate(demand),
    )


def _is_ambiguous(mount: str, path: str) -> bool:
    """Whether the path of a KV secret means one secret as version 2 and may mean another's as version 1: a rule does
    not tell the versions apart. `secret/data/app` may be `app` of mount `secret`, and a mount need not be there."""
    return not KV_API.isdisjoint(f"{mount}/{path}".split("/")[1:])


def _create(made: DatabaseCreate | PkiCreate) -> CreateRules:
    if isinstance(made, DatabaseCreate):
        users = (_pattern(made.username),) if made.username is not None else ()
        return CreateRules(connections=(_pattern(made.connection),), users=users, max_ttl=made.max_ttl)
    return CreateRules(
        domains=tuple(dict.fromkeys(map(_pattern, made.allowed_domains))),
        uris=tuple(dict.fromkeys(map(_pattern, made.allowed_uri_sans))),
        ip_sans=made.allow_ip_sans,
        issuers=(_pattern(made.issuer),) if made.issuer is not None else (),
        max_ttl=made.max_ttl,
    )


def _generate(demand: Demand) -> GenerateRules | None:
    wanted = demand.generate
    if wanted is None:
        return None
    asked = wanted.secret_id_of
    return GenerateRules(
        secret_ids_of=(_pattern(f"{asked.mount}/{asked.role}"),) if asked is not None else (),
        roots=(_pattern(wanted.rotate_root),) if wanted.rotate_root is not None else (),
    )


def _pattern(name: str) -> str:
    """A name as a pattern that means it alone. Raises `_Unwritable`."""
    if "*" in name or "{" in name or PATTERN.complaint(name) is not None:
        raise _Unwritable(f"{quoted(name)}, which no pattern can say without saying others too")
    return name


def _name(*parts: str) -> str:
    text = re.sub(r"[^a-z0-9-]+", "-", "-".join(parts).lower()).strip("-")
    return text[:63].rstrip("-") or "allowed"
