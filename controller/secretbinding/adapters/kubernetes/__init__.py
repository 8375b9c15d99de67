"""Kubernetes: bindings, Events and Leases on an API server. Nothing else imports lightkube."""

from secretbinding.adapters.kubernetes.client import KubernetesClient
from secretbinding.adapters.kubernetes.session import KubernetesConnection

__all__ = ["KubernetesClient", "KubernetesConnection"]
