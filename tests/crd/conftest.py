"""Fixtures of the CRD's tests."""

from tests.support.kubernetes import real_kubernetes

__all__ = ["real_kubernetes"]
