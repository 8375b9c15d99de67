"""New values on a schedule or on request: which secret, which fields, and how a value is made."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule, mapping, objects
from secretbinding.models.schedule import KNOWN_ZONE, Schedule, TimeZone
from secretbinding.models.text import Text, quoted
from secretbinding.models.types import FIELD_NAME, DnsLabel, Mount, VaultRole

MAX_GENERATED = 32
DEFAULT_LENGTH = 32
"""Characters of a value where the manifest names neither a password policy nor a length."""

_MOST_FIELDS = 16
_WAYS = ("passwordPolicy", "length", "secretIdOf")
_OF_KV = ("fields", *_WAYS)

# As Vault's own name patterns (`framework.GenericNameRegex`).
_VAULT_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$"
_VAULT_NAME_REMEDY = "use letters, digits, `_`, `.` and `-`, with a letter or digit at both ends"
PolicyName = Annotated[str, Text("password policy", _VAULT_NAME, remedy=_VAULT_NAME_REMEDY, max_length=128)]
ConnectionName = Annotated[str, Text("database connection", _VAULT_NAME, remedy=_VAULT_NAME_REMEDY, max_length=128)]


class SecretIdOf(Model):
    """An AppRole that a new secret-id is asked of."""

    mount: Mount
    """Mount of the AppRole auth method, without `auth/`."""
    role: VaultRole
    """Name of the AppRole."""


def _one_way(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in _WAYS if obj.get(name) is not None]
    for name in given[1:]:
        yield Fault((name,), f"{given[0]} and {name} exclude each other")


def _root_alone(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("rotateRoot") is None:
        return
    for name in ("schedule", *_OF_KV):
        if obj.get(name):
            why = "Vault does not tell when it last did it" if name == "schedule" else "it makes the password itself"
            yield Fault((name,), f"{name} does not go with rotateRoot: {why}")


def _zone_of_a_schedule(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("timeZone") is not None and obj.get("schedule") is None:
        yield Fault(("timeZone",), "timeZone is set without a schedule")


def _one_secret_id(obj: Mapping[str, Any]) -> Iterator[Fault]:
    fields = obj.get("fields")
    if obj.get("secretIdOf") is not None and isinstance(fields, list) and len(fields) > 1:
        yield Fault(("fields",), f"a secret-id goes into one field, and {len(fields)} are named")


def _fields_twice(obj: Mapping[str, Any]) -> Iterator[Fault]:
    seen: list[object] = []
    listed = obj.get("fields")
    for index, name in enumerate(listed if isinstance(listed, list) else ()):
        if name in seen:
            yield Fault(("fields", index), f"field {quoted(str(name))} is named twice")
        seen.append(name)


class Generate(Model):
    """A secret of which Vault is to make a new value: fields of a KV secret, or a password of a database engine."""

    secret: DnsLabel
    """Name of an entry of spec.secrets."""
    schedule: Schedule | None = None
    """When a new value is due: a cron expression of five fields; only on request when left out."""
    time_zone: TimeZone | None = None
    """IANA time zone of the schedule; UTC when left out."""
    fields: Annotated[
        tuple[Annotated[str, FIELD_NAME], ...],
        Field(max_length=_MOST_FIELDS, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Fields of a KV secret that get a new value; the others stay as they are."""
    password_policy: PolicyName | None = None
    """Password policy in Vault that makes the value."""
    length: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Characters of the value, letters and digits; 32 when neither a policy nor a length is given."""
    secret_id_of: SecretIdOf | None = None
    """The value is a new secret-id of this AppRole."""
    rotate_root: ConnectionName | None = None
    """Database connection whose root password Vault makes anew, for an entry with a database role. Only on request."""

    rules = (
        Rule(
            message="passwordPolicy, length and secretIdOf exclude each other",
            remedy="keep one of them",
            cel="[has(self.passwordPolicy), has(self.length), has(self.secretIdOf)].filter(x, x).size() <= 1",
            check=_one_way,
        ),
        Rule(
            message="rotateRoot stands alone: Vault makes the password itself, and does not tell when it last did",
            remedy="leave the rest out, and ask for it with `rotate NAME --generate`",
            cel="!has(self.rotateRoot) || !(has(self.schedule) || has(self.passwordPolicy) || has(self.length)"
            " || has(self.secretIdOf) || (has(self.fields) && self.fields.size() > 0))",
            field=".rotateRoot",
            check=_root_alone,
        ),
        Rule(
            message="timeZone is set without a schedule",
            remedy="set schedule too, or leave timeZone out",
            cel="!has(self.timeZone) || has(self.schedule)",
            field=".timeZone",
            check=_zone_of_a_schedule,
        ),
        Rule(
            message="a secret-id goes into one field",
            remedy="name one field, and give each further one an entry of its own",
            cel="!has(self.secretIdOf) || !has(self.fields) || self.fields.size() <= 1",
            field=".fields",
            check=_one_secret_id,
        ),
        Rule(message="a field is named twice", remedy="name each field once", check=_fields_twice),
        KNOWN_ZONE,
    )


def _pairs(obj: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], Mapping[str, Any] | None]]:
    """Index and members of `rotation.generate`, each with the secret that it names, None when there is none."""
    secrets = {entry["name"]: entry for _, entry in objects(obj.get("secrets")) if isinstance(entry.get("name"), str)}
    for index, wanted in objects(mapping(obj.get("rotation")).get("generate")):
        if isinstance(wanted.get("secret"), str):
            yield index, wanted, secrets.get(wanted["secret"])


def _named(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, wanted, entry in _pairs(obj):
        if entry is None:
            message = f"there is no entry {quoted(wanted['secret'])} in spec.secrets"
            yield Fault(("rotation", "generate", index, "secret"), message)


def _possible(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, wanted, entry in _pairs(obj):
        if entry is not None and entry.get("kv") is None and entry.get("database") is None:
            message = f"{quoted(wanted['secret'])} is neither a KV secret nor of a database: nobody could write it"
            yield Fault(("rotation", "generate", index, "secret"), message)


def _kv(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, wanted, entry in _pairs(obj):
        if entry is None or entry.get("kv") is None:
            continue
        if not wanted.get("fields"):
            yield Fault(("rotation", "generate", index), "`fields` is missing: which fields get a new value?")
        if wanted.get("rotateRoot") is not None:
            message = f"{quoted(wanted['secret'])} is a KV secret, which has no root password"
            yield Fault(("rotation", "generate", index, "rotateRoot"), message)


def _versioned(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, wanted, entry in _pairs(obj):
        kv = mapping(mapping(entry).get("kv"))
        place = ("rotation", "generate", index, "secret")
        if kv.get("engine") == "v1":
            message = f"{quoted(wanted['secret'])} is of KV version 1, where a write replaces what it cannot read"
            yield Fault(place, message)
        elif kv.get("version") is not None:
            yield Fault(place, f"{quoted(wanted['secret'])} is frozen at a version, so that no new one would be used")


def _database(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, wanted, entry in _pairs(obj):
        database = mapping(entry).get("database")
        if not isinstance(database, Mapping) or mapping(entry).get("kv") is not None:
            continue
        for name in _OF_KV:
            if wanted.get(name):
                message = f"{name} is for KV secrets; a database engine makes its passwords itself"
                yield Fault(("rotation", "generate", index, name), message)
        root = wanted.get("rotateRoot") is not None
        made = database.get("create")
        dynamic = database.get("role") is not None or (isinstance(made, Mapping) and made.get("username") is None)
        if dynamic and not root:
            message = (
                f"{quoted(wanted['secret'])} is of a role that makes a user for each lease; what can be made anew is "
                "the root password of its connection, by rotateRoot"
            )
            yield Fault(("rotation", "generate", index), message)
        elif not dynamic and root:
            message = "rotateRoot is for an entry with a role; the password of a staticRole is made anew without it"
            yield Fault(("rotation", "generate", index, "rotateRoot"), message)


def _rule(says: str, remedy: str, condition: str, check: Callable[[Mapping[str, Any]], Iterator[Fault]]) -> Rule:
    """A rule of the whole spec. `condition` is CEL about a member `g` of generate and the secret `s` that it names."""
    every = f"self.rotation.generate.all(g, self.secrets.all(s, s.name != g.secret || {condition}))"
    return Rule(
        message=says,
        remedy=remedy,
        cel=f"!has(self.rotation) || !has(self.rotation.generate) || {every}",
        field=".rotation",
        check=check,
    )


GENERATE_RULES = (
    Rule(
        message="rotation.generate names a secret that is no entry of spec.secrets",
        remedy="name an entry of spec.secrets",
        cel="!has(self.rotation) || !has(self.rotation.generate)"
        " || self.rotation.generate.all(g, self.secrets.exists(s, s.name == g.secret))",
        field=".rotation",
        check=_named,
    ),
    _rule(
        "rotation.generate is for KV secrets and databases",
        "leave the entry out of rotation.generate",
        "has(s.kv) || has(s.database)",
        _possible,
    ),
    _rule(
        "rotation.generate of a KV secret needs fields, and no rotateRoot",
        "set fields, such as [password]",
        "!has(s.kv) || (has(g.fields) && g.fields.size() > 0 && !has(g.rotateRoot))",
        _kv,
    ),
    _rule(
        "rotation.generate needs KV version 2, and a secret that is not frozen at a version",
        "leave out engine and version, or leave the entry out of rotation.generate",
        "!has(s.kv) || !((has(s.kv.engine) && s.kv.engine == 'v1') || has(s.kv.version))",
        _versioned,
    ),
    _rule(
        "rotation.generate of a database takes rotateRoot for a role, nothing for a staticRole, and no fields,"
        " passwordPolicy, length or secretIdOf",
        "leave out what is for KV secrets; set rotateRoot for a role, and leave it out for a staticRole",
        "!has(s.database) || has(s.kv) || ((has(s.database.role)"
        " || (has(s.database.create) && !has(s.database.create.username))) == has(g.rotateRoot)"
        " && !(has(g.passwordPolicy) || has(g.length) || has(g.secretIdOf)"
        " || (has(g.fields) && g.fields.size() > 0)))",
        _database,
    ),
)
"""Rules between rotation.generate and secrets, of the whole spec."""
