"""Where SecretBindingPolicies come from: custom resources, Nomad variables of the controller's own namespace, files."""

from secretbinding.sources.policies.files import FilePolicies
from secretbinding.sources.policies.kubernetes import KubernetesPolicies, PoliciesApi
from secretbinding.sources.policies.labels import LabelBook
from secretbinding.sources.policies.nomad import POLICIES, NomadPolicies

__all__ = ["POLICIES", "FilePolicies", "KubernetesPolicies", "LabelBook", "NomadPolicies", "PoliciesApi"]
