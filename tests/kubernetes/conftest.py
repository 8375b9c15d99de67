"""Fixtures of the Kubernetes tests."""

from tests.support.kubernetes import kubernetes_api, real_kubernetes, small_kubernetes, tenant

__all__ = ["kubernetes_api", "real_kubernetes", "small_kubernetes", "tenant"]
