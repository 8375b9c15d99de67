"""Makes the shared fixtures known to all tests."""

from tests.support.kubernetes import kubernetes_api, real_kubernetes, small_kubernetes, tenant
from tests.support.servers import (
    acl_simulator,
    acl_stack,
    openbao,
    real_acl_nomad,
    real_nomad,
    simulator,
    stack,
    unique,
)

__all__ = [
    "acl_simulator",
    "acl_stack",
    "kubernetes_api",
    "openbao",
    "real_acl_nomad",
    "real_kubernetes",
    "real_nomad",
    "simulator",
    "small_kubernetes",
    "stack",
    "tenant",
    "unique",
]
