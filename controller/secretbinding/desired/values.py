"""The values that the decisions about one workload take and give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from secretbinding.desired.adopted import Adoption
from secretbinding.desired.approles import Bringing, Brought
from secretbinding.gate import Gate
from secretbinding.generation import Attempts, GenerateRequest, Generation
from secretbinding.kinds.base import EngineRole, Fault, SecretState
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.ports import Json
from secretbinding.render.agent import AgentDefaults
from secretbinding.render.policy import PolicyDocument
from secretbinding.rotation import FailedState, SecretDecision


@dataclass(frozen=True, slots=True)
class BindingInput:
    """One binding as a source gave it.

    Attributes:
        binding: None for a manifest that does not validate; then its share stays as it is.
        frozen: why the share stays as it is (suspended, invalid, refused); None for one that is to be made true.
        deleting: the share is to be taken out, and its policy and roles deleted.
        moved: with `deleting`: the binding lives on and names another job now, so that its policy stays.
        rotate_requested_at: when somebody last asked for a roll and was not answered, as far as is known.
        rotate_arrived_at: when that request came while this process watched; None for one that was there before it.
        rotate_doubtful: nothing is kept of the answers that other processes have given.
        generate_request: what somebody last asked new values of.
        generation: the source's number of the specification, for the status.
    """

    key: BindingKey
    binding: SecretBinding | None
    frozen: Fault | None = None
    deleting: bool = False
    moved: bool = False
    rotate_requested_at: datetime | None = None
    rotate_arrived_at: datetime | None = None
    rotate_doubtful: bool = False
    generate_request: GenerateRequest | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it is in Vault: the text, and what it says of itself when it is ours."""

    text: str
    document: PolicyDocument | None
    intact: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """One workload as it is, on both sides.

    Attributes:
        region: the region's real name, "" when unknown.
        job: as `GET /v1/job/<id>` gave it, None when there is none.
        versions, deployments, allocations: as Nomad gave them; versions are empty when they were not read.
        children: of a periodic or parameterized job, which has no allocations itself: the stubs of its child jobs that
            have not ended, by ID.
        policies: by name; None for one that is not there.
        roles: by name; None for one that is not there.
        engine_roles: roles of secrets engines that bindings have made, or had, by path; None for one that is not there.
        secrets: by binding and secret name.
        gate: what the limits on rolls are measured against.
        attempts: what this process knows of its attempts at new values.
        purged_at_risk: the job is gone, but tasks of it may still be running.
        agents: what the controller's settings say of every sidecar.
        brought: the variables that bring secret-ids to agents, by group.
        adoptions: what bindings have taken over that is in the job by hand; `job` shows it as if it were ours then,
            and `bare` is the job as it really is.
        carried: `job` lacks our part, and is shown with what it had from us before.
    """

    workload: WorkloadKey
    region: str = ""
    job: Json | None = None
    versions: Sequence[Json] = ()
    deployments: Sequence[Json] = ()
    allocations: Sequence[Json] = ()
    children: Mapping[str, Json] = field(default_factory=dict)
    policies: Mapping[str, Policy | None] = field(default_factory=dict)
    roles: Mapping[str, Json | None] = field(default_factory=dict)
    engine_roles: Mapping[str, Json | None] = field(default_factory=dict)
    secrets: Mapping[tuple[BindingKey, str], SecretState] = field(default_factory=dict)
    purged_at_risk: bool = False
    gate: Gate = field(default_factory=Gate)
    attempts: Attempts = field(default_factory=Attempts)
    agents: AgentDefaults = field(default_factory=AgentDefaults)
    brought: Mapping[str, Brought] = field(default_factory=dict)
    adoptions: Mapping[BindingKey, Adoption] = field(default_factory=dict)
    bare: Json | None = None
    carried: bool = False


@dataclass(frozen=True, slots=True)
class BindingResult:
    """What was decided for one binding.

    `fault` stands for the whole binding: what it has in the job stays, nothing new is put in. So it is with `failed`:
    what the binding wants has failed its deployment.
    """

    key: BindingKey
    fault: Fault | None = None
    secrets: tuple[SecretDecision, ...] = ()
    policy: str = ""
    roles: tuple[str, ...] = ()
    failed: FailedState | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """What one workload should be.

    Attributes:
        job: the job to have; None when the job is not to be touched.
        policies: documents by name.
        roles: bodies by name.
        engine_roles: roles of secrets engines, by path.
        results: by binding.
        held: the failed state that is wanted but not tried again; None when there is none.
        clean: False when something in the job is left as it is though its bindings ask for another thing, so that
            surplus rights stay.
        generations: what is decided about new values, by binding and secret.
        bringing: what is decided about wrapped secret-ids, by group.
        restored: the job lacks our part, and what it is to have is what it had before.
        again_at: when to look at the job again; None when no date is known.
    """

    job: Json | None
    policies: Mapping[str, PolicyDocument]
    roles: Mapping[str, dict[str, Any]]
    results: Mapping[BindingKey, BindingResult]
    held: FailedState | None = None
    clean: bool = True
    generations: Mapping[tuple[BindingKey, str], Generation] = field(default_factory=dict)
    bringing: Mapping[str, Bringing] = field(default_factory=dict)
    engine_roles: Mapping[str, EngineRole] = field(default_factory=dict)
    restored: bool = False
    again_at: datetime | None = None

    def holding(self) -> frozenset[int]:
        """The job versions whose failures hold something now: single bindings, or the whole wanted state."""
        failures = [result.failed for result in self.results.values() if result.failed is not None]
        return frozenset(item.version for item in [*failures, *([self.held] if self.held is not None else [])])
