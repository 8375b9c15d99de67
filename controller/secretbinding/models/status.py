"""The status of a SecretBinding, in the shape that kstatus (Flux, Argo CD, kubectl wait) understands."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from secretbinding.models.base import Model
from secretbinding.models.text import cut

# RFC 3339 in UTC, such as 2026-01-31T02:00:00Z.
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Index = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
MESSAGE_LENGTH = 4096
"""Bytes of a message that the controller writes; a whole status has to fit into a Nomad variable (64 KiB)."""


def _short(text: object, length: int = MESSAGE_LENGTH) -> object:
    return cut(text, length) if isinstance(text, str) else text


Message = Annotated[str, BeforeValidator(lambda text: _short(text)), Field(max_length=32768)]
# There may be 32 of them.
SecretMessage = Annotated[str, BeforeValidator(lambda text: _short(text, 768)), Field(max_length=32768)]
# The words are Nomad's, of whatever length.
FailureMessage = Annotated[str, BeforeValidator(lambda text: _short(text, 1024)), Field(max_length=1024)]
EPOCH: Timestamp = "1970-01-01T00:00:00Z"
ROTATE_REQUEST_LENGTH = 64
"""Characters of a request to rotate; a time (RFC 3339) has 20 to 35."""
GENERATE_REQUEST_LENGTH = 2304
"""Characters of a request for new values: a time and the names of 32 secrets."""


class _Status(Model):
    """A part of the status. A newer controller may have written more: unknown fields are ignored on reading."""

    model_config = ConfigDict(extra="ignore")


class ConditionStatus(StrEnum):
    """The three values of a condition's `status`."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(_Status):
    """One condition (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Ready, Stalled, VaultSynced, JobSynced or RotationHealthy."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """Why, in one word for machines."""
    message: Message
    """Why, for people. Empty when there is nothing to say."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    observed_generation: Index | None = None
    """The generation of the binding that this was found for."""


class SecretStatus(_Status):
    """What is known of one entry of spec.secrets. Versions are texts: a KV version's number, or a revision."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the entry."""
    serving_version: Annotated[str, Field(max_length=128)] | None = None
    """Version that the running allocations have."""
    wanted_version: Annotated[str, Field(max_length=128)] | None = None
    """Version that they should have."""
    changed_at: Timestamp | None = None
    """When the wanted version was made."""
    next_rotation_at: Timestamp | None = None
    """When the next change is expected."""
    message: SecretMessage | None = None
    """What hinders the wanted version, if anything does."""


class JobStatus(_Status):
    """The job as the controller last saw or registered it."""

    namespace: Annotated[str, Field(max_length=128)]
    """Nomad namespace."""
    id: Annotated[str, Field(max_length=256)]
    """Job ID."""
    version: Index | None = None
    """Version of the job."""
    modify_index: Index | None = None
    """JobModifyIndex of that version."""


class DeploymentStatus(_Status):
    """The job's latest deployment with the secrets of this binding."""

    id: Annotated[str, Field(max_length=64)]
    """Deployment ID."""
    status: Annotated[str, Field(max_length=64)]
    """Nomad's word for its state."""


class FailedState(_Status):
    """A state of the secrets whose deployment failed, and which is not tried again by itself."""

    state: Annotated[str, Field(max_length=128)]
    """Hash of what the controller contributes to the job in that state."""
    secret_versions: Annotated[dict[str, str], Field(max_length=32)] = Field(default_factory=dict)
    """The version of each entry of spec.secrets in that state."""
    job_version: Index | None = None
    """The job version that failed."""
    at: Timestamp | None = None
    """When it failed."""
    message: FailureMessage | None = None
    """Why, in Nomad's words."""


class SecretBindingStatus(_Status):
    """What the controller found and did. Written by the controller only, and never taken as input."""

    observed_generation: Index | None = None
    """The generation of the binding that the whole status was found for."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """Ready, Stalled, VaultSynced, JobSynced, RotationHealthy."""
    secrets: Annotated[
        tuple[SecretStatus, ...],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Versions of each entry of spec.secrets."""
    policies: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...],
        Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Names of the policies in Vault."""
    roles: Annotated[
        tuple[Annotated[str, Field(max_length=512)], ...],
        Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Names of the login roles in Vault."""
    job: JobStatus | None = None
    """The job."""
    deployment: DeploymentStatus | None = None
    """Its latest deployment with these secrets."""
    last_rotation_time: Timestamp | None = None
    """When a new version last served in all allocations."""
    last_handled_rotate_at: Annotated[str, Field(max_length=ROTATE_REQUEST_LENGTH)] | None = None
    """The value of the annotation nomad-vault.io/rotate-requested-at that was last acted on."""
    last_handled_generate_at: Annotated[str, Field(max_length=GENERATE_REQUEST_LENGTH)] | None = None
    """The value of the annotation nomad-vault.io/generate-requested-at that was last acted on."""
    failed: FailedState | None = None
    """The state whose deployment failed, as long as it is the wanted one."""

    def condition(self, type: str) -> Condition | None:
        """The condition of that type, None when there is none."""
        return next((condition for condition in self.conditions if condition.type == type), None)

    @classmethod
    def read(cls, stored: object) -> "SecretBindingStatus":
        """The status as an API or a variable holds it. What does not fit the shape counts as no status at all, since
        a status is never trusted."""
        if not isinstance(stored, Mapping):
            return cls()
        try:
            return cls.model_validate(dict(stored), strict=False, by_name=False, by_alias=True)
        except ValidationError:
            return cls()


def initial_status() -> dict[str, Any]:
    """The status that the CRD's schema gives to an object before the controller has seen it: without it, kstatus takes
    a new object as current."""
    return {
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "Pending",
                "message": "waiting for the controller",
                "lastTransitionTime": EPOCH,
            }
        ]
    }
