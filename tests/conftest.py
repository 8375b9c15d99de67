"""Makes the shared fixtures known to all tests."""

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
    "openbao",
    "real_acl_nomad",
    "real_nomad",
    "simulator",
    "stack",
    "unique",
]
