"""Bindings that are custom resources of a Kubernetes API server, watched with kopf."""

from secretbinding.sources.kubernetes.items import FINALIZER, NAME, ROTATE_ANNOTATION
from secretbinding.sources.kubernetes.source import KubernetesSource, Pace

__all__ = ["FINALIZER", "NAME", "ROTATE_ANNOTATION", "KubernetesSource", "Pace"]
