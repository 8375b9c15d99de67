"""The protocols that adapters fulfil, and the plain values that cross them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from pydantic import SecretStr

Json = dict[str, Any]
T = TypeVar("T")


def copied(value: T) -> T:
    """A deep copy of what came from JSON: its objects and lists. Several times as fast as `copy.deepcopy`, which has to
    foresee objects that name each other."""
    if isinstance(value, dict):
        return cast(T, {key: copied(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return cast(T, [copied(inner) for inner in value])
    return value


@dataclass(frozen=True, slots=True)
class KvVersion:
    """One version of a KV v2 secret, as `<mount>/metadata/<path>` tells it.

    `created` is Vault's `created_time` text, kept verbatim: with the number it identifies a version.
    `deleted` is true when `deletion_time` is set and not in the future.
    """

    number: int
    created: str
    deleted: bool = False
    destroyed: bool = False

    @property
    def readable(self) -> bool:
        return not (self.deleted or self.destroyed)


@dataclass(frozen=True, slots=True)
class KvMetadata:
    """A KV v2 secret's metadata. `versions` by number, without those that were pruned; with `max_versions` 0 it is the
    mount's how many are kept."""

    current: int
    versions: Mapping[int, KvVersion] = field(default_factory=dict)
    max_versions: int = 0


@dataclass(frozen=True, slots=True)
class VaultHealth:
    """`sys/health`, readable without a token."""

    initialized: bool
    sealed: bool
    standby: bool
    version: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class StaticRole:
    """A static role of a database engine (`<mount>/static-roles/<name>`), without its password.

    `rotated` is Vault's `last_vault_rotation` text, kept verbatim, "" when it has not rotated yet; `period_seconds` is
    0 for a role that rotates by a schedule.
    """

    rotated: str
    period_seconds: float = 0.0


@dataclass(frozen=True, slots=True, order=True)
class StaticUser:
    """The user of a database that a static role stands for: `connection` is the role's `db_name`."""

    connection: str
    username: str


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """How long what a role or a mount gives out lives, in seconds; 0 where it leaves that to what stands above it."""

    ttl: float = 0.0
    max_ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class PkiRole:
    """A role of a PKI engine (`<mount>/roles/<name>`): the lifetimes of its certificates, and its issuer's name or ID
    (`default` for the engine's own choice)."""

    limits: LeaseLimits
    issuer: str = "default"


@dataclass(frozen=True, slots=True)
class SecretId:
    """A secret-id of an AppRole. The accessor names it without giving it away."""

    value: SecretStr
    accessor: str


@dataclass(frozen=True, slots=True)
class WrappedSecretId:
    """A secret-id in a wrapping token, which opens once. `accessor` names the secret-id; `expires` is when nobody can
    open it any more, by Vault's clock."""

    token: SecretStr
    accessor: str
    expires: datetime


class Vault(Protocol):
    """What the engine needs of Vault or OpenBao. Every method raises `errors.ServiceError` subclasses."""

    def health(self) -> VaultHealth:
        """The server's health; raises `Unreachable` when there is no answer."""

    def read_policy(self, name: str) -> str | None:
        """The text of an ACL policy (`sys/policies/acl/<name>`), None when there is none."""

    def write_policy(self, name: str, text: str) -> None:
        """Create or replace an ACL policy."""

    def delete_policy(self, name: str) -> None:
        """Delete an ACL policy; one that is not there is success."""

    def list_policies(self) -> Sequence[str]:
        """Names of all ACL policies (`LIST sys/policies/acl`)."""

    def read_jwt_role(self, mount: str, name: str) -> Json | None:
        """A role of a JWT auth mount (`auth/<mount>/role/<name>`), None when there is none."""

    def write_jwt_role(self, mount: str, name: str, body: Json) -> None:
        """Create or replace a role with exactly the given body."""

    def delete_jwt_role(self, mount: str, name: str) -> None:
        """Delete a role; one that is not there is success."""

    def list_jwt_roles(self, mount: str) -> Sequence[str]:
        """Names of all roles of the mount; empty when there are none."""

    def kv_engine(self, mount: str) -> str | None:
        """`v1` or `v2` for a KV mount (`sys/internal/ui/mounts/<mount>`), None when the server does not tell."""

    def kv_max_versions(self, mount: str) -> int | None:
        """How many versions of a secret a KV v2 mount keeps (`max_versions` of `<mount>/config`), 0 where it sets
        nothing; None when the server does not tell."""

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """Metadata of a KV v2 secret without a right to its data; None when there is none."""

    def kv_fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        """The field names of one version (`<mount>/subkeys/<path>?version=N`): leaf fields map to None, nested
        objects to a mapping. None when that version cannot be read (deleted, destroyed, pruned)."""

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        """A static role of a database engine; None when there is none."""

    def database_role(self, mount: str, name: str) -> LeaseLimits | None:
        """The lifetimes of a dynamic role of a database engine (`<mount>/roles/<name>`); None when there is none."""

    def pki_role(self, mount: str, name: str) -> PkiRole | None:
        """A role of a PKI engine; None when there is none."""

    def pki_issuer(self, mount: str, issuer: str) -> str | None:
        """A digest of an issuer's certificate and chain (`<mount>/issuer/<issuer>/json`, readable without a token);
        None when there is none."""

    def read_engine_config(self, path: str) -> Json | None:
        """A part of a secrets engine's configuration, such as `aws/roles/deploy` or `transit/keys/app`; never a path
        that gives a secret out. None when there is none."""

    def static_users(self, mount: str) -> Mapping[str, StaticUser]:
        """Whom each static role of a database engine stands for (`LIST <mount>/static-roles`), by role; empty where
        there is none."""

    def write_engine_role(self, path: str, body: Json) -> None:
        """Create a role of a secrets engine (`<mount>/roles/<name>`), or set what the body has of one that is there."""

    def delete_engine_role(self, path: str) -> None:
        """Delete it; one that is not there is success."""

    def generate_password(self, policy: str) -> SecretStr:
        """A value that a password policy makes (`sys/policies/password/<policy>/generate`)."""

    def new_secret_id(self, mount: str, role: str) -> SecretId:
        """A new secret-id of an AppRole (`auth/<mount>/role/<role>/secret-id`); those that there are stay valid."""

    def drop_secret_id(self, mount: str, role: str, accessor: str) -> None:
        """Destroy a secret-id (`auth/<mount>/role/<role>/secret-id-accessor/destroy`)."""

    def present(self) -> datetime:
        """The present time by Vault's clock, to two seconds."""

    def read_app_role(self, mount: str, name: str) -> Json | None:
        """An AppRole (`auth/<mount>/role/<name>`), None when there is none. Its role-id is not a part of it."""

    def write_app_role(self, mount: str, name: str, body: Json) -> None:
        """Create an AppRole, or set what the body has of one that is there."""

    def delete_app_role(self, mount: str, name: str) -> None:
        """Delete an AppRole, and its secret-ids with it; one that is not there is success."""

    def wrapped_secret_id(self, mount: str, role: str, seconds: int) -> WrappedSecretId:
        """A new secret-id that never leaves Vault but in a wrapping token, good for so long."""

    def is_sealed(self, token: SecretStr, mount: str, role: str) -> bool:
        """Whether nobody has opened a wrapping token, it has not expired, and it was made for a secret-id of this
        AppRole: somebody may have put one of his own in its place (`sys/wrapping/lookup`)."""

    def secret_id_uses(self, mount: str, role: str, accessor: str) -> int | None:
        """How many logins a secret-id is still good for; None when it is not there any more."""

    def patch_kv(self, mount: str, path: str, fields: Mapping[str, SecretStr], *, seen: int) -> int:
        """Write fields of a KV v2 secret over version `seen` without reading it, the others stay; the first version
        when `seen` is 0. Gives the new version's number. Raises `Conflict` when the secret is at another version."""

    def rotate_static_role(self, mount: str, name: str) -> None:
        """Have a database engine make the password of a static role anew."""

    def rotate_root(self, mount: str, connection: str) -> None:
        """Have a database engine make the root password of a connection anew; nobody but it knows that then."""

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        """The lifetimes that a mount sets (`sys/internal/ui/mounts/<mount>`); None when the server does not tell."""


@dataclass(frozen=True, slots=True)
class VariableMeta:
    """One row of `GET /v1/vars`. `modify_index` changes with every write of that variable."""

    namespace: str
    path: str
    modify_index: int


@dataclass(frozen=True, slots=True)
class Variable:
    """One Nomad variable with its items (all strings)."""

    namespace: str
    path: str
    modify_index: int
    items: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a job registration. `job_modify_index` is what the next `EnforceIndex` write needs."""

    evaluation: str
    job_modify_index: int
    warnings: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of Nomad's stream. A heartbeat has topic `` (empty) and no payload."""

    topic: str
    type: str
    key: str
    namespace: str
    index: int
    payload: Json


class Nomad(Protocol):
    """What the engine needs of Nomad. Every method raises `errors.ServiceError` subclasses.

    Jobs, versions, deployments and allocations are plain dicts in the shape of Nomad's HTTP API (CamelCase keys).
    `namespace` is always given; `region` is part of the connection.
    """

    def region(self) -> str:
        """The region this connection works in: as configured, else the only one of `/v1/regions`."""

    def job(self, namespace: str, job_id: str) -> Json | None:
        """The job (`GET /v1/job/<id>`), None when there is none (404)."""

    def submission(self, namespace: str, job_id: str, version: int) -> Json | None:
        """The source that the version was registered from (`/submission`), None when there is none."""

    def register(
        self, job: Json, *, modify_index: int, submission: Json | None = None, preserve_counts: bool = False
    ) -> Registered:
        """Register with `EnforceIndex`; 0 means the job must not exist yet. Raises `Conflict` when it moved.
        The namespace is the job's own `Namespace`."""

    def plan(self, job: Json) -> Json:
        """`POST /v1/job/<id>/plan` with `Diff: true`: what registering would do."""

    def versions(self, namespace: str, job_id: str) -> Sequence[Json]:
        """All kept versions of the job, newest first; empty when the job is not there."""

    def tag_version(self, namespace: str, job_id: str, version: int, name: str, description: str) -> None:
        """Tag a version (`POST /v1/job/<id>/versions/<name>/tag`); a tagged version is kept."""

    def untag_version(self, namespace: str, job_id: str, name: str) -> None:
        """Take the tag away; one that is not there is success."""

    def evaluate(self, namespace: str, job_id: str) -> None:
        """Have Nomad look at the job again (`POST /v1/job/<id>/evaluate`); nothing of the job changes."""

    def deployments(self, namespace: str, job_id: str) -> Sequence[Json]:
        """All deployments of the job that Nomad still knows, newest first by CreateIndex."""

    def allocations(self, namespace: str, job_id: str) -> Sequence[Json]:
        """All allocations that Nomad still knows (`?all=true`). Purging a job removes them at once, though its tasks
        may still be stopping: an empty answer for a job that is gone proves nothing."""

    def evaluations(self, namespace: str, job_id: str) -> Sequence[Json]:
        """Evaluations of the job that Nomad still knows; of a purged job too."""

    def parse_hcl(self, text: str, variables: str = "", *, namespace: str = "default") -> Json:
        """A job from HCL by Nomad's own parser (`POST /v1/jobs/parse`, canonicalized). `namespace` is where the token
        has the right to parse or submit jobs."""

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Sequence[VariableMeta]]:
        """(X-Nomad-Index, rows) of `GET /v1/vars?prefix=`, all pages; blocks up to `wait_seconds` when `index` > 0.
        An answer without rows says nothing about rights (Nomad answers `200 []` without them)."""

    def read_variable(self, namespace: str, path: str) -> Variable | None:
        """One variable; None on 404; raises `Denied` on 403, so that None proves absence."""

    def write_variable(
        self, namespace: str, path: str, items: Mapping[str, str], *, cas: int | None = None
    ) -> Variable:
        """Write all items; with `cas` only if ModifyIndex is that (0: must not exist), else raises `Conflict`."""

    def delete_variable(self, namespace: str, path: str) -> None:
        """Delete; one that is not there is success."""

    def acquire_lock(self, namespace: str, path: str, items: Mapping[str, str], ttl_seconds: float) -> str | None:
        """Write a variable and take its lock (`PUT /v1/var/<path>?lock-acquire`): the lock's ID, None while another has
        it. Nomad (1.7+) takes it from a holder who has not renewed it for twice `ttl_seconds` (10 at least)."""

    def renew_lock(self, namespace: str, path: str, lock_id: str) -> bool:
        """Hold the lock for another while (`?lock-renew`); False when it is not ours any more."""

    def release_lock(self, namespace: str, path: str, lock_id: str) -> None:
        """Give the lock back (`?lock-release`); one that is not ours any more is success."""

    def list_jobs(self, namespace: str, prefix: str = "") -> Sequence[Json]:
        """Job stubs of a namespace (`*` for all) whose ID begins with `prefix`."""

    def events(self, topics: Sequence[str], namespace: str, *, index: int = 0) -> Iterator[Event]:
        """Nomad's event stream, heartbeats included; ends by raising `Unreachable` when the connection is cut or no
        byte came for longer than two heartbeats. `topics` such as `Job:*`, `Deployment:*`, `Allocation:*`."""


class Leases(Protocol):
    """Leases of several controllers, each held by one at a time, and who of them takes part. For one controller: an
    object knows what it holds itself. Every method raises `errors.ServiceError` subclasses."""

    @property
    def identity(self) -> str:
        """This controller's name, which no other has."""

    @property
    def seconds(self) -> float:
        """For how long what is taken is held if it is not taken again. Nobody else gets it within that time of the
        moment before the last successful `take`."""

    def take(self, name: str) -> bool:
        """Take a lease, or hold on to it; False while another has it."""

    def give(self, name: str) -> None:
        """Give it back; one that is not held is success."""

    def beat(self) -> None:
        """Say that this controller takes part."""

    def beats(self) -> Mapping[str, str]:
        """All that have said so and have not left: their identities, each with a text that each beat changes."""

    def leave(self, identity: str) -> None:
        """Strike one off the list."""
