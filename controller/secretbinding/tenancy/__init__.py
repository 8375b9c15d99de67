"""Who may bind what to which jobs: pure decisions by SecretBindingPolicies."""

from secretbinding.tenancy.decide import Decision, Refusal, decide, decide_rights
from secretbinding.tenancy.parties import Target, Tenant
from secretbinding.tenancy.suggest import Suggested, policy_text, suggested, suggestion

__all__ = [
    "Decision",
    "Refusal",
    "Suggested",
    "Target",
    "Tenant",
    "decide",
    "decide_rights",
    "policy_text",
    "suggested",
    "suggestion",
]
