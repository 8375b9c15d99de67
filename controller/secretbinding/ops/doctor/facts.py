"""What was observed of both servers, the controller's tokens, bindings and jobs: values, and no judgement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar

from secretbinding.errors import Problem
from secretbinding.kinds.base import SecretState
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.ops.ports import (
    AclPolicy,
    AuditDevice,
    AuthMount,
    Clock,
    Node,
    NomadAgent,
    NomadToken,
    VaultLeader,
    VaultToken,
)
from secretbinding.ops.rights import Scope
from secretbinding.ports import Json, VaultHealth

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be found out.

    Attributes:
        why: what stood in the way.
        remedy: what to do so that it can be found out.
        denied: a right is missing (not: a server is away, or nobody asked).
    """

    why: str
    remedy: str = ""
    denied: bool = False


Fact: TypeAlias = T | Unknown


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a server is reached: `address` is for any program, `setting` what ours was given where that is another."""

    system: str
    address: str
    verified: bool = True
    setting: str = ""


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """Vault.

    Attributes:
        namespace: the Vault namespace that is worked in; "" for the root namespace.
        config: the configuration of the JWT mount; None when there is none.
        roles: all roles of the JWT mount.
        policies: the policies of our instance, and those that roles of the JWT mount grant; a name without text is
            one that a role grants and that is not there.
        engine_roles: paths of our instance's roles in database and PKI engines.
        probe: what Vault says to a login with a token that cannot be right; "" when it has no role to try.
        keys: the keys at the address that the mount has them from, as read from here.
        approle_mount: the AppRole auth mount that agents log in to, where they do.
        app_roles: all roles there; none where it is not there.
    """

    endpoint: Endpoint
    namespace: str
    health: Fact[VaultHealth]
    leader: Fact[VaultLeader]
    clock: Fact[Clock]
    mounts: Fact[Mapping[str, AuthMount]]
    audit: Fact[Mapping[str, AuditDevice]]
    config: Fact[Json | None]
    roles: Fact[Mapping[str, Json]]
    policies: Fact[Mapping[str, str | None]]
    engine_roles: Fact[frozenset[str]]
    probe: Fact[str]
    keys: Fact[frozenset[str]]
    approle_mount: str = "approle-nomad"
    app_roles: Fact[Mapping[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NomadFacts:
    """Nomad.

    Attributes:
        leaderless: it answers and has no leader.
        without_vault: nodes that never reached a Vault.
        elsewhere: nodes that reached a Vault of another cluster name.
        keys: the keys that sign workload identities.
        issuer: the issuer of its OIDC discovery; None without one.
        acl: whether it has ACLs.
        jobs: all jobs that could be seen.
        jobs_hidden: why there may be jobs that could not be seen; None when all could.
        gone_jobs: for jobs that policies of ours are for and that were not seen: whether they are proven gone.
    """

    endpoint: Endpoint
    leader: Fact[str]
    leaderless: bool
    clock: Fact[Clock]
    agent: Fact[NomadAgent]
    nodes: Fact[Sequence[Node]]
    without_vault: Fact[Sequence[Node]]
    elsewhere: Fact[Sequence[Node]]
    keys: Fact[frozenset[str]]
    issuer: Fact[str | None]
    acl: Fact[bool]
    jobs: Fact[Sequence[Json]]
    jobs_hidden: Unknown | None = None
    gone_jobs: Mapping[tuple[str, str], Fact[bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """The tokens whose rights are judged.

    Attributes:
        vault_from, nomad_from: where they are from, for people.
        vault_named, nomad_named: they are given as the controller's, so that they are judged whatever they are.
    """

    vault_from: str
    vault: Fact[VaultToken]
    capabilities: Fact[Mapping[str, frozenset[str]]]
    nomad_from: str
    nomad: Fact[NomadToken | None]
    policies: Fact[Sequence[AclPolicy]]
    vault_named: bool = False
    nomad_named: bool = False


@dataclass(frozen=True, slots=True)
class BindingFacts:
    """One binding.

    Attributes:
        binding: None when its manifest does not validate; `problems` say why then.
        namespace: the Nomad namespace of its job.
        job: None when Nomad has no such job.
        secrets: what could be learned of each secret, by its name.
    """

    key: BindingKey
    binding: SecretBinding | None
    namespace: str
    job: Fact[Json | None]
    secrets: Mapping[str, Fact[SecretState]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file that was given, as a job."""

    file: str
    job: Json


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything.

    Attributes:
        now: when it was gathered.
        max_age_days: secrets that are older are reported.
        source: where the bindings are from: `nomad`, `kubernetes`, `files`; "" when none were given.
        bindings: those that were given, or listed by the source.
        absent: for owners of policies that the source did not list: whether it proved that they do not exist.
        job_files: those that were given.
    """

    scope: Scope
    now: datetime
    max_age_days: int
    vault: VaultFacts
    nomad: NomadFacts
    tokens: TokenFacts
    source: str = ""
    bindings: Fact[Sequence[BindingFacts]] = ()
    absent: Mapping[BindingKey, Fact[bool]] = field(default_factory=dict)
    job_files: Sequence[JobFile] = ()
