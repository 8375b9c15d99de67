"""All checks, in the order in which they are reported. Pure: each judges observed facts."""

from secretbinding.ops.doctor.checks import (
    app_roles,
    bindings,
    engine_roles,
    jobs,
    joined,
    leftovers,
    nomad,
    rights,
    vault,
)
from secretbinding.ops.doctor.findings import Check

CHECKS: tuple[Check, ...] = (
    *vault.CHECKS,
    *nomad.CHECKS,
    *joined.CHECKS,
    *rights.CHECKS,
    *bindings.CHECKS,
    *leftovers.CHECKS,
    *engine_roles.CHECKS,
    *app_roles.CHECKS,
    *jobs.CHECKS,
)

__all__ = ["CHECKS"]
