"""The decision: whether policies allow what a binding asks for, and what is missing where they do not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from secretbinding.kinds.base import RENEW, Right
from secretbinding.models.binding import SecretBinding
from secretbinding.models.policy import (
    Choice,
    Effect,
    PolicySpec,
    SecretBindingPolicy,
)
from secretbinding.tenancy.demands import Conditions, Demand, Path, conditions_of, demands_of
from secretbinding.tenancy.parties import Target, Tenant
from secretbinding.tenancy.rules import aims, beyond, denies, lacks, selects
from secretbinding.tenancy.terms import Terms


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
    terms: Terms | None = None,
    choices: frozenset[Choice] = frozenset(),
    made: Iterable[str] = (),
    adopted: bool = False,
) -> Decision:
    """Whether a tenant may have rights that a job has already, where the manifest that asked for them cannot be read
    any more: each path has to be below a mount that a policy names, and what it names there. `terms` are those of the
    last manifest that could be read, None where nobody knows them; `choices` those that the job shows; `made` the
    roles of engines, by path, that the binding has; `adopted` that it has taken over what was in the job by hand."""
    policies = tuple(policies)
    own = {_given_by(path) for path in made}
    demands = [
        Demand(
            (),
            "",
            "",
            "",
            "",
            rights=(right.path,),
            capabilities=frozenset(right.capabilities),
            call=True,
            made=_given_by(right.path) in own,
        )
        for right in rights
        if right != RENEW
    ]
    shown = frozenset(choice.value for choice in choices)
    conditions = Conditions(choices=shown)
    if terms is not None:
        conditions = replace(terms.conditions, choices=terms.conditions.choices | shown, adopted=adopted)
        demands += [
            Demand((), secret, "", "", "", rights=(path,), capabilities=frozenset({needed}), call=True)
            for secret, path, needed in sorted(terms.calls)
        ]
    # An Allow without what the job has been given to run allows nothing of it.
    given = [one for one in policies if one.spec.effect is Effect.DENY or shown <= set(one.spec.choices)]
    if demands:
        decision = _decide(given, tenant, target, conditions if terms is not None else None, demands)
    else:
        decision = _decide_presence(given, tenant, target, conditions if terms is not None else None)
    if decision.unknown or terms is None:
        return decision
    calling = [one.spec for one in _allowing(given, tenant) if _aims_any(one.spec, tenant, target)]
    named = {name for spec in calling for name in spec.templates.functions}
    return Decision(
        (
            *decision.refusals,
            *(
                Refusal((), f"no policy allows tenant {tenant} templates that call {name} for {target.title}")
                for name in sorted(terms.functions - named)
            ),
        )
    )


def _given_by(path: str) -> tuple[str, str]:
    """The mount and the role of a path at which an engine keeps a role (`MOUNT/roles/ROLE`), or gives by it."""
    mount, _, rest = path.rpartition("/")
    return mount.rpartition("/")[0], rest


def _decide_presence(
    policies: Sequence[SecretBindingPolicy], tenant: Tenant, target: Target, conditions: Conditions | None
) -> Decision:
    """Whether a tenant may have anything at all in a job: of an unreadable binding whose secrets
    need no rights in Vault (Nomad's variables), no more can be judged but its conditions."""
    if unknown := _unknown_labels(policies, tenant):
        return Decision(unknown=unknown)
    for policy in _of_tenant(policies, tenant):
        spec = policy.spec
        aimed = not spec.workloads or any(aims(one, tenant, target, unknown=False) for one in spec.workloads)
        if spec.effect is Effect.DENY and not spec.secrets and aimed:
            message = f"policy {policy.metadata.name} denies tenant {tenant} everything for {target.title}"
            return Decision((Refusal((), message, denied=True),))
    aiming = [one.spec for one in _allowing(policies, tenant) if _aims_any(one.spec, tenant, target)]
    lacking: list[list[str]] = [list(beyond(spec, conditions)) if conditions is not None else [] for spec in aiming]
    if not all(lacking):
        return Decision()
    nearest = sorted(lacking, key=lambda one: len(one))[:1] or [["anything"]]
    message = f"no policy allows tenant {tenant} {', '.join(nearest[0])} for {target.title}"
    return Decision((Refusal((), message),))


def _of_tenant(policies: Iterable[SecretBindingPolicy], tenant: Tenant) -> list[SecretBindingPolicy]:
    return [policy for policy in policies if any(selects(one, tenant) for one in policy.spec.tenants)]


def _allowing(policies: Iterable[SecretBindingPolicy], tenant: Tenant) -> list[SecretBindingPolicy]:
    return [one for one in _of_tenant(policies, tenant) if one.spec.effect is Effect.ALLOW]


def _aims_any(spec: PolicySpec, tenant: Tenant, target: Target) -> bool:
    return any(aims(one, tenant, target, unknown=True) for one in spec.workloads)


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
    mine = _of_tenant(policies, tenant)
    refusals: list[Refusal] = []
    for demand in demands:
        denying = next((one for one in mine if denies(one.spec, tenant, target, demand)), None)
        if denying is not None:
            message = f"policy {denying.metadata.name} denies tenant {tenant} {demand.title} for {target.title}"
            refusals.append(Refusal(demand.place, message, denied=True, demand=demand))
            continue
        lacking = {
            policy.metadata.name: list(lacks(policy.spec, tenant, target, conditions, demand))
            for policy in mine
            if policy.spec.effect is Effect.ALLOW
        }
        if all(lacking.values()):
            refusals.append(Refusal(demand.place, _told(tenant, target, demand, lacking), demand=demand))
    return Decision(tuple(refusals))


def _told(tenant: Tenant, target: Target, demand: Demand, lacking: Mapping[str, Sequence[str]]) -> str:
    message = f"no policy allows tenant {tenant} {demand.title} for {target.title}"
    near = min(lacking.items(), key=lambda item: (len(item[1]), item[0]), default=None)
    if near is None:
        return message
    return f"{message}; policy {near[0]} does not allow {', '.join(near[1])}"
