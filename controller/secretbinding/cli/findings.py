"""What stands in a binding's way, as problems at the lines of its manifest. Pure."""

from collections.abc import Iterator

from secretbinding.errors import Problem
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.sources.files import Loaded
from secretbinding.strictyaml import Path

# Reasons of a condition that is not True, and yet nothing is wrong.
_ON_ITS_WAY = frozenset(
    {
        Reason.PENDING,
        Reason.ROLLING_OUT,
        Reason.WIDENED,
        Reason.DEPLOYMENT_RUNNING,
        Reason.WAITING_FOR_PROMOTION,
        Reason.NEW_VERSION_HELD,
        Reason.MANUAL_ROTATION_PENDING,
        Reason.SUSPENDED,
        Reason.DELETING,
        Reason.RETAINED,
        Reason.SYNCED,
    }
)
# Faults that no line of a manifest is the cause of.
_OF_SERVERS = frozenset(
    {
        Reason.PERMISSION_DENIED,
        Reason.VAULT_SEALED,
        Reason.VAULT_UNREACHABLE,
        Reason.NOMAD_UNREACHABLE,
        Reason.NOMAD_NO_LEADER,
        Reason.WRITE_CONFLICT,
    }
)
_WORKLOAD: Path = ("spec", "workload")
_FIELDS: dict[Reason, Path] = {
    Reason.JOB_NOT_FOUND: (*_WORKLOAD, "job"),
    Reason.JOB_STOPPED: (*_WORKLOAD, "job"),
    Reason.UNSUPPORTED_JOB_TYPE: (*_WORKLOAD, "job"),
    Reason.GITOPS_CONFLICT: (*_WORKLOAD, "job"),
    Reason.GROUP_NOT_FOUND: (*_WORKLOAD, "groups"),
    Reason.TASK_NOT_FOUND: (*_WORKLOAD, "groups"),
    Reason.VAULT_BLOCK_CONFLICT: _WORKLOAD,
    Reason.ENV_CONFLICT: _WORKLOAD,
    Reason.TEMPLATE_CONFLICT: ("spec", "secrets"),
    Reason.DUPLICATE_TARGET: ("spec", "secrets"),
    Reason.UNSUPPORTED_KIND: ("spec", "secrets"),
    Reason.UNSUPPORTED_DELIVERY: ("spec", "delivery"),
    Reason.AGENT_CONFLICT: ("spec", "delivery"),
    Reason.UNSUPPORTED_AUTH: ("spec", "auth", "method"),
    Reason.POLICY_CONFLICT: ("metadata", "name"),
}
_REMEDIES: dict[Reason, str] = {
    Reason.JOB_NOT_FOUND: "register the job with `nomad job run`, then apply again",
    Reason.SECRET_NOT_FOUND: "write the secret, or correct mount and path",
    Reason.MOUNT_NOT_FOUND: "correct the mount, or enable it",
}


def findings(loaded: Loaded, status: SecretBindingStatus, *, to_be_made: bool = False) -> list[Problem]:
    """Each fault that the status tells, once, with file, line and field of what it is about. With `to_be_made` the
    rights, which the status takes for written, are only planned."""
    problems: dict[str, Problem] = {}
    for condition in _faulty(status):
        if condition.message in problems:
            continue
        reason = _reason(condition)
        path = _field(loaded, status, reason, condition.message)
        message, remedy = condition.message or reason.meaning, _REMEDIES.get(reason, "")
        if to_be_made and reason is Reason.JOB_NOT_FOUND:
            workload = loaded.binding.spec.workload
            place = workload.namespace or loaded.item.nomad_namespace
            message = f"Nomad has no job {workload.job} in namespace {place}; apply would only make what is shown"
        if path:
            problems[condition.message] = loaded.problem(path, message, remedy)
        else:
            file = "" if reason in _OF_SERVERS else loaded.file
            problems[condition.message] = Problem(message, remedy, file=file)
    return list(problems.values())


def _faulty(status: SecretBindingStatus) -> Iterator[Condition]:
    for kind in (
        ConditionType.READY,
        ConditionType.VAULT_SYNCED,
        ConditionType.JOB_SYNCED,
        ConditionType.ROTATION_HEALTHY,
    ):
        condition = status.condition(kind)
        if condition is None or condition.status is ConditionStatus.TRUE:
            continue
        if _reason(condition) not in _ON_ITS_WAY:
            yield condition


def _reason(condition: Condition) -> Reason:
    return next((reason for reason in Reason if reason.value == condition.reason), Reason.ERROR)


def _field(loaded: Loaded, status: SecretBindingStatus, reason: Reason, message: str) -> Path:
    """The field that a fault is about: that of a secret when the fault is of one; empty when it is of no field."""
    names = [secret.name for secret in status.secrets if secret.message and secret.message in message]
    for index, entry in enumerate(loaded.binding.spec.secrets):
        if entry.name in names:
            inside = _user(entry, message) if reason is Reason.SECRET_FIELD_MISSING else (entry.kind_name,)
            return ("spec", "secrets", index, *inside)
    return _FIELDS.get(reason, ())


def _user(entry: SecretEntry, message: str) -> Path:
    """Where an entry asks for the field that `rotation.fields` says is missing."""
    for index, target in enumerate(entry.files):
        if f"which {target.path} needs" in message:
            return ("files", index, "fields")
    return ("env",)
