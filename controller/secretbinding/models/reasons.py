"""Every condition type and every reason that a status, an event or a metric can carry, with its meaning."""

from enum import StrEnum
from typing import Self


class _Meant(StrEnum):
    """A word of the API with its meaning in one line."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """A member that is the word itself, and carries the meaning besides."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


class ConditionType(_Meant):
    """The `type` of a condition."""

    READY = "Ready", "The first injection succeeded, and what serves is healthy."
    STALLED = "Stalled", "A fault that only a person can mend; nothing more is tried until something changes."
    VAULT_SYNCED = "VaultSynced", "Policies and roles in Vault are as they should be."
    JOB_SYNCED = "JobSynced", "The job in Nomad has its Vault block and templates as it should."
    ROTATION_HEALTHY = "RotationHealthy", "The newest wanted versions serve, or are on their way as planned."


class Reason(_Meant):
    """The `reason` of a condition, an event or a metric."""

    # All is well, or on its way.
    READY = "Ready", "The job has its secrets, and its allocations are healthy."
    PENDING = "Pending", "The controller has not looked at the binding yet."
    SYNCED = "Synced", "Everything is as it should be."
    UP_TO_DATE = "UpToDate", "The newest wanted version of each secret serves."
    ROLLING_OUT = "RollingOut", "The job was registered, and its first deployment with the secrets is running."
    WIDENED = "Widened", "Rights that are no longer wanted are kept until no allocation or revert can need them."
    DEPLOYMENT_RUNNING = "DeploymentRunning", "A new version of a secret is rolling through the job's allocations."
    WAITING_FOR_PROMOTION = "WaitingForPromotion", "The canaries are healthy; somebody has to promote the deployment."
    NEW_VERSION_HELD = "NewVersionHeld", "A new version waits for a window, a minimum interval or a free slot."
    UNGATED_UPDATE = (
        "UngatedUpdate",
        "A group would be replaced all at once (max_parallel 0); it is rolled on request.",
    )
    MANUAL_ROTATION_PENDING = "ManualRotationPending", "A new version exists and is rolled on request only."
    SUSPENDED = "Suspended", "The binding is suspended; its share of the job stays as it is."
    DELETING = "Deleting", "The binding is being removed from job and Vault."
    RETAINED = "Retained", "The binding was deleted, and what it made stays, as its deletion policy asks."

    # The manifest.
    INVALID_MANIFEST = "InvalidManifest", "The manifest breaks a rule; what was made from it before stays as it is."
    UNSUPPORTED_KIND = "UnsupportedKind", "An entry asks for what its kind of secret does not have."
    UNSUPPORTED_DELIVERY = "UnsupportedDelivery", "The way of delivery is not one that this controller allows."
    UNSUPPORTED_AUTH = "UnsupportedAuth", "The way to log in is not one that this controller has."
    NAMESPACE_MISMATCH = "NamespaceMismatch", "The binding names a Nomad namespace that its source may not reach."
    CONNECTION_UNKNOWN = "ConnectionUnknown", "The binding names a connection that the controller does not have."
    REGION_MISMATCH = "RegionMismatch", "The binding names a Nomad region that the controller does not work in."
    REFUSED_BY_POLICY = (
        "RefusedByPolicy",
        "No policy allows the binding, or one denies it; what it had is taken away. The message has the rule.",
    )
    REFUSED_WITHOUT_POLICIES = (
        "RefusedWithoutPolicies",
        "There is no policy at all; nothing new is put in, and nothing is taken away.",
    )
    POLICIES_UNKNOWN = "PoliciesUnknown", "The policies cannot be read (all), so what is injected stays as it is."
    TOO_LARGE = "TooLarge", "The manifest is larger than a Nomad variable may be."
    DUPLICATE_TARGET = "DuplicateTarget", "Another binding already has the same variable or file in the same task."

    # The job.
    JOB_NOT_FOUND = "JobNotFound", "Nomad has no such job; policy and role are ready for when it comes."
    JOB_STOPPED = "JobStopped", "The job is stopped; it gets its secrets when it is registered again."
    GROUP_NOT_FOUND = "GroupNotFound", "The job has no such task group."
    TASK_NOT_FOUND = "TaskNotFound", "The group has no such task."
    UNSUPPORTED_JOB_TYPE = "UnsupportedJobType", "The controller does not register jobs of this type; use `inject`."
    VAULT_BLOCK_CONFLICT = "VaultBlockConflict", "The task has a vault block that is not the controller's."
    TEMPLATE_CONFLICT = "TemplateConflict", "The task has a template of its own at the same destination."
    ENV_CONFLICT = "EnvConflict", "The task sets the same variable by itself."
    AGENT_CONFLICT = (
        "AgentConflict",
        "The group has a task of the sidecar's name, or another binding of it wants another sidecar.",
    )
    GITOPS_CONFLICT = "GitOpsConflict", "Another tool keeps registering the job without its secrets."

    # Vault.
    POLICY_CONFLICT = "PolicyConflict", "A policy of that name exists and does not carry the controller's mark."
    WRAPPING_TOKEN_OPENED = (
        "WrappingTokenOpened",
        "Somebody else opened a wrapped secret-id of an agent's: find out who reads the variable or the job's tasks.",
    )
    ROLE_CONFLICT = "RoleConflict", "A role of that name, or for that user of a database, exists and is another's."
    MOUNT_NOT_FOUND = "MountNotFound", "Vault has no secrets engine or login method at that mount."
    SECRET_NOT_FOUND = "SecretNotFound", "Vault has no secret at that path."
    SECRET_VERSION_DELETED = "SecretVersionDeleted", "The wanted version is deleted; what serves stays."
    SECRET_VERSION_DESTROYED = "SecretVersionDestroyed", "The wanted version is destroyed; what serves stays."
    SECRET_FIELD_MISSING = "SecretFieldMissing", "The version lacks a field that the binding uses, so it is not rolled."
    SECRET_UNREADABLE = "SecretUnreadable", "The version of the secret cannot be found out."
    PINNED_VERSION_AT_RISK = "PinnedVersionAtRisk", "Vault has pruned, or soon prunes, the version that serves."

    # Deployments.
    DEPLOYMENT_FAILED = (
        "DeploymentFailed",
        "The deployment of a new version failed, and what worked is being put back, where it can be.",
    )
    DEPLOYMENT_REVERTED = (
        "DeploymentReverted",
        "The deployment failed, the version that worked serves again; it is not tried again by itself.",
    )

    # New values.
    VALUE_GENERATED = "ValueGenerated", "A new value was made on schedule or on request; the message says which."
    GENERATION_FAILED = "GenerationFailed", "A new value could not be made or written; what serves stays."

    REQUEST_UNREADABLE = "RequestUnreadable", "A request to rotate or to generate is not written as a time."

    # The servers and the source.
    PERMISSION_DENIED = "PermissionDenied", "The controller's token may not do this; the message names path and right."
    VAULT_SEALED = "VaultSealed", "Vault is sealed."
    VAULT_UNREACHABLE = "VaultUnreachable", "Vault does not answer."
    NOMAD_UNREACHABLE = "NomadUnreachable", "Nomad does not answer."
    NOMAD_NO_LEADER = "NomadNoLeader", "Nomad has no leader."
    REJECTED = "Rejected", "A server understood the request and refused it."
    WRITE_CONFLICT = "WriteConflict", "Somebody else changed the same thing at the same time; it is tried again."
    SOURCE_HELD = "SourceHeld", "The source shows far fewer bindings than before, so nothing is deleted for now."
    NOT_LEADING = "NotLeading", "Another controller works on the job now."
    ERROR = "Error", "Something unforeseen; the controller's log says more."
