"""What becomes of a binding by the policies as far as they are known: allowed, refused, or left as it is."""

from collections.abc import Iterable
from dataclasses import dataclass

from secretbinding.kinds.base import Fault, Right
from secretbinding.models.binding import SecretBinding
from secretbinding.models.policy import Choice, SecretBindingPolicy
from secretbinding.models.reasons import Reason
from secretbinding.models.text import cut
from secretbinding.tenancy.decide import Decision, decide, decide_rights
from secretbinding.tenancy.parties import Target, Tenant
from secretbinding.tenancy.suggest import suggested
from secretbinding.tenancy.terms import Terms

UNDECIDED = "the policies could not be applied to this manifest, so that it is refused; please report this as a bug"
_TOLD = 10
_LONGEST = 1024
"""Bytes of one refusal."""


@dataclass(frozen=True, slots=True)
class Known:
    """The policies of all sources together. `unknown` says why they may not be all, "" when they are."""

    policies: tuple[SecretBindingPolicy, ...] = ()
    unknown: str = ""

    @property
    def asks_for_labels(self) -> bool:
        """Whether any policy chooses tenants by labels."""
        return any(chosen.labels for policy in self.policies for chosen in policy.spec.tenants)

    @property
    def asks_for_drivers(self) -> bool:
        """Whether any policy chooses jobs by the drivers of their tasks."""
        return any(chosen.drivers for policy in self.policies for chosen in policy.spec.workloads)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault` says why a binding is not allowed, None when it is. With `taken` what it has is taken away; without, it
    stays as it is, and nothing new is put in."""

    fault: Fault | None = None
    taken: bool = False


ALLOWED = Verdict()


def verdict(
    known: Known,
    tenant: Tenant,
    binding: SecretBinding | None,
    target: Target,
    *,
    adopted: bool = False,
    rights: Iterable[Right] = (),
    terms: Terms | None = None,
    choices: frozenset[Choice] = frozenset(),
    made: Iterable[str] = (),
) -> Verdict:
    """The verdict on a binding. Of one whose manifest cannot be used, `rights` and `choices` are those that its job
    has, `terms` those of its last manifest that could be used, and `made` the roles of engines that it has.

    What is not known must neither open nor take away. Without a single policy nothing is allowed and nothing is taken
    away either: that nobody has written one, or that all are gone at once, is no word of anybody's.
    """
    if known.unknown:
        return Verdict(Fault(Reason.POLICIES_UNKNOWN, f"{known.unknown}; what is injected stays as it is"))
    if binding is None:
        if not known.policies:
            return ALLOWED
        decision = decide_rights(
            known.policies, tenant, target, rights, terms=terms, choices=choices, made=made, adopted=adopted
        )
    else:
        decision = decide(known.policies, tenant, binding, target, adopted=adopted)
    if decision.unknown:
        return Verdict(Fault(Reason.POLICIES_UNKNOWN, f"{decision.unknown}; what is injected stays as it is"))
    if decision.allowed:
        return ALLOWED
    rule = refusal_text(decision, tenant, binding, target, adopted=adopted)
    if not known.policies:
        message = "there is no SecretBindingPolicy at all; what is injected stays as it is, and nothing new is put in"
        return Verdict(Fault(Reason.REFUSED_WITHOUT_POLICIES, f"{message}; {rule}"))
    return Verdict(Fault(Reason.REFUSED_BY_POLICY, rule), taken=True)


def refusal_text(
    decision: Decision, tenant: Tenant, binding: SecretBinding | None, target: Target, *, adopted: bool = False
) -> str:
    """The first ten refusals in one line, and after it the rule that would allow what is refused, as YAML."""
    told = [cut(refusal.message, _LONGEST) for refusal in decision.refusals[:_TOLD]]
    more = len(decision.refusals) - len(told)
    head = "; ".join([*told, f"and {more} more"] if more else told)
    if binding is None:
        return head
    refusals = [one for one in decision.refusals if not one.denied]
    found = suggested(tenant, binding, target, refusals, adopted=adopted)
    if not found.text:
        return head
    if found.policy is None:
        return f"{head}\n{found.text.rstrip()}"
    what = "the rest of it" if len(refusals) < len(decision.refusals) or found.without else "it"
    return f"{head}\n# This policy would allow {what}.\n{found.text}"
