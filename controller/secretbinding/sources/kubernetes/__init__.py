"""Bindings that are custom resources of a Kubernetes API server, watched with kopf."""

from secretbinding.sources.kubernetes.items import FINALIZER, GENERATE_ANNOTATION, NAME, ROTATE_ANNOTATION
from secretbinding.sources.kubernetes.source import KubernetesSource, Pace

__all__ = ["FINALIZER", "GENERATE_ANNOTATION", "NAME", "ROTATE_ANNOTATION", "KubernetesSource", "Pace"]
