"""An error of a server as the reason and the sentence that a condition shows."""

from secretbinding.errors import (
    Conflict,
    Denied,
    ManifestError,
    NoLeader,
    NotLeading,
    Rejected,
    SecretBindingError,
    ServiceError,
    Unavailable,
    Unreachable,
    VaultSealed,
)
from secretbinding.kinds.base import Fault
from secretbinding.models.reasons import Reason

# Faults that nothing but a person's hand can mend: what kstatus shows as failed.
STALLED = frozenset(
    {
        Reason.INVALID_MANIFEST,
        Reason.UNSUPPORTED_KIND,
        Reason.UNSUPPORTED_DELIVERY,
        Reason.UNSUPPORTED_AUTH,
        Reason.UNSUPPORTED_JOB_TYPE,
        Reason.NAMESPACE_MISMATCH,
        Reason.CONNECTION_UNKNOWN,
        Reason.REGION_MISMATCH,
        Reason.REFUSED_BY_POLICY,
        Reason.REFUSED_WITHOUT_POLICIES,
        Reason.TOO_LARGE,
        Reason.DUPLICATE_TARGET,
        Reason.GROUP_NOT_FOUND,
        Reason.TASK_NOT_FOUND,
        Reason.VAULT_BLOCK_CONFLICT,
        Reason.TEMPLATE_CONFLICT,
        Reason.ENV_CONFLICT,
        Reason.AGENT_CONFLICT,
        Reason.POLICY_CONFLICT,
        Reason.ROLE_CONFLICT,
        Reason.WRAPPING_TOKEN_OPENED,
        Reason.MOUNT_NOT_FOUND,
        Reason.SECRET_FIELD_MISSING,
        Reason.SECRET_VERSION_DELETED,
        Reason.SECRET_VERSION_DESTROYED,
        Reason.DEPLOYMENT_FAILED,
        Reason.DEPLOYMENT_REVERTED,
        Reason.PERMISSION_DENIED,
        Reason.REJECTED,
    }
)


def fault_of(error: SecretBindingError) -> Fault:
    """The fault that an error amounts to. The error's text names things and places, never a value."""
    return Fault(_reason(error), str(error))


def _reason(error: SecretBindingError) -> Reason:
    system = error.system if isinstance(error, ServiceError) else ""
    if isinstance(error, ManifestError):
        return Reason.INVALID_MANIFEST
    if isinstance(error, VaultSealed):
        return Reason.VAULT_SEALED
    if isinstance(error, NoLeader):
        return Reason.NOMAD_NO_LEADER
    if isinstance(error, Denied):
        return Reason.PERMISSION_DENIED
    if isinstance(error, Conflict):
        return Reason.WRITE_CONFLICT
    if isinstance(error, Rejected):
        return Reason.REJECTED
    if isinstance(error, (Unreachable, Unavailable)):
        return Reason.VAULT_UNREACHABLE if system == "vault" else Reason.NOMAD_UNREACHABLE
    return Reason.NOT_LEADING if isinstance(error, NotLeading) else Reason.ERROR
