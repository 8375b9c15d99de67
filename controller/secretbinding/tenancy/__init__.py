"""Who may bind what to which jobs: pure decisions by SecretBindingPolicies."""

from secretbinding.tenancy.decide import Decision, Refusal, Target, Tenant, decide, decide_rights
from secretbinding.tenancy.suggest import policy_text, suggestion

__all__ = [
    "Decision",
    "Refusal",
    "Target",
    "Tenant",
    "decide",
    "decide_rights",
    "policy_text",
    "suggestion",
]
