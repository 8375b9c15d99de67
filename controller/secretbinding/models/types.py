"""The constrained types of the manifest: names, paths, durations and texts."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self

import durationpy
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from secretbinding.models.base import TEXT_ERROR, VALIDATIONS
from secretbinding.models.text import Names, Never, Text, quoted

# What may stand in no name or path: C0 and C1 controls, soft hyphen and joiners, zero-width and direction marks, line
# and paragraph separators, fillers, annotation marks and tags.
UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\x{034f}\x{061c}\x{115f}\x{1160}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}"
    r"\x{2060}-\x{206f}\x{3164}\x{feff}\x{ffa0}\x{fff9}-\x{fffb}\x{e0000}-\x{e007f}"
)
# Spaces that are not the ordinary one.
_WIDE = r"\xa0\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}"
BREAKING = "\"'`{}\\\\"


class Duration(str):
    """A length of time in Go's syntax (`90s`, `1h30m`), kept as it was written."""

    __slots__ = ()

    @property
    def timedelta(self) -> timedelta:
        """The length as a timedelta."""
        parsed: timedelta = durationpy.from_str(str(self))
        return parsed

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.timedelta.total_seconds()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema(strict=True))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return DURATION_TEXT.schema()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The duration that `text` names; raises pydantic's custom error of type `text`."""
        return cls(DURATION_TEXT.check(text))


DURATION_TEXT = Text(
    "duration",
    r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
    says="is no length of time",
    remedy="write it as numbers with h, m, s or ms, such as 90s or 1h30m",
    max_length=24,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Metadata for `Annotated[Duration, Bounds(...)]`: the least and the greatest length, both in Go's syntax.

    An empty `most` means no upper bound; `above` makes the lower bound itself illegal.
    """

    least: str
    most: str = ""
    above: bool = False

    @property
    def says(self) -> str:
        """The sentence's end, for people."""
        if self.most:
            return f"must be between {self.least} and {self.most}"
        return f"must be longer than {self.least}" if self.above else f"must be at least {self.least}"

    def check(self, value: Duration) -> Duration:
        """The duration itself; raises pydantic's custom error of type `text` when it is out of bounds."""
        least = Duration(self.least).timedelta
        low = value.timedelta <= least if self.above else value.timedelta < least
        if low or (self.most and value.timedelta > Duration(self.most).timedelta):
            message = f"duration {quoted(value)} {self.says}"
            raise PydanticCustomError(
                TEXT_ERROR, "{message}; {remedy}", {"message": message, "remedy": "use a length within these bounds"}
            )
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        compare = ">" if self.above else ">="
        rule = f"duration(self) {compare} duration('{self.least}')"
        if self.most:
            rule += f" && duration(self) <= duration('{self.most}')"
        return {**handler(schema), VALIDATIONS: [{"rule": rule, "message": f"duration {self.says}"}]}


def duration_seconds(value: object) -> float | None:
    """The length of a raw duration text in seconds; None for what is none."""
    return Duration(value).seconds if isinstance(value, str) and DURATION_TEXT.complaint(value) is None else None


PositiveDuration = Annotated[Duration, Bounds("0s", above=True)]

# --- names ---------------------------------------------------------------------------------------------------------

DNS_LABEL = Text(
    "name",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    says="is no DNS label",
    remedy="use lower-case letters, digits and `-`, with a letter or digit at both ends",
    max_length=63,
)
DnsLabel = Annotated[str, DNS_LABEL]

ENV_NAME = Text(
    "env name",
    r"^[A-Za-z_][A-Za-z0-9_]*$",
    says="is no identifier",
    remedy="use letters, digits and `_`, not starting with a digit",
    max_length=128,
    never=(
        Never(
            r"^(PATH|VAULT_TOKEN|LD_.*|NOMAD_.*)$",
            "must not be set by a binding",
            "choose another name: PATH, LD_*, NOMAD_* and VAULT_TOKEN belong to the system, Nomad and Vault",
        ),
    ),
)

FIELD_NAME = Text(
    "field name",
    f"^[^{UNSEEN}]+$",
    says="is not valid",
    remedy="name a field of the secret, 1 to 256 characters without control characters",
    bad=UNSEEN,
)

PLAIN_VALUE = Text(
    "value",
    r"^[^\x00]*$",
    says="must not hold the character U+0000",
    remedy="leave it out",
    max_length=4096,
    min_length=0,
    shown=False,
)

# Variable: name of the secret's field.
EnvMap = Annotated[dict[str, Annotated[str, FIELD_NAME]], Names(ENV_NAME, 64)]
# Variable: its value, as it is.
ValueMap = Annotated[dict[str, Annotated[str, PLAIN_VALUE]], Names(ENV_NAME, 64)]

# Name in the file: name of the secret's field.
FileFields = Annotated[dict[str, Annotated[str, FIELD_NAME]], Names(FIELD_NAME, 64)]

ENV_PREFIX = Text(
    "prefix",
    r"^[A-Za-z_][A-Za-z0-9_]*$",
    says="is not the beginning of a variable's name",
    remedy="use letters, digits and `_`, not starting with a digit, such as DB_",
    max_length=64,
)
EnvPrefix = Annotated[str, ENV_PREFIX]

# Nomad's own rule (structs.Job.Validate) is: no space, no null character. Other white space and unseen characters
# would only mislead readers.
JobId = Annotated[
    str,
    Text(
        "job ID",
        f"^[^ {_WIDE}{UNSEEN}]+$",
        remedy="use the job's ID as `nomad job status` shows it",
        bad=f" {_WIDE}{UNSEEN}",
    ),
]
GroupName = Annotated[
    str,
    Text("group name", f"^[^{UNSEEN}]+$", remedy="use the group's name as in the job", max_length=128, bad=UNSEEN),
]
TaskName = Annotated[
    str,
    Text(
        "task name",
        f"^[^{UNSEEN}/\\\\]+$",
        remedy="use the task's name as in the job",
        max_length=128,
        bad=UNSEEN + "/\\\\",
    ),
]
NomadNamespace = Annotated[
    str,
    Text(
        "Nomad namespace",
        r"^[A-Za-z0-9-]+$",
        remedy="use letters, digits and `-`, as Nomad does",
        max_length=128,
    ),
]
Region = Annotated[
    str,
    Text("region", r"^[A-Za-z0-9._-]+$", remedy="use letters, digits, `.`, `_` and `-`", max_length=128),
]

# --- Vault ---------------------------------------------------------------------------------------------------------

_PATH_BAD = f"{UNSEEN}{_WIDE}{BREAKING}*+?#%"
_NO_TRICKS = Never(
    r"(^|/)\.{0,2}(/|$)",
    "must not begin or end with `/`, nor have an empty, `.` or `..` segment",
    "write the plain path, such as team/app",
)
_NO_EDGES = Never(
    r"(^|/) | (/|$)",
    "must not have a segment that begins or ends with a space",
    "leave out the space; Vault takes it for a part of the name",
)
# Where Vault has its own API, in the root namespace and below the path of every other one (`team/sys/policies/acl`).
# As the last segment of a path these are ordinary names: nothing of that API is there.
_OWN_API = "(sys|auth|identity|cubbyhole)"
OWN_API_IN_PATH = f"(^|/){_OWN_API}/"
OWN_API_SAYS = "may lead to Vault's own API in a namespace (a segment sys, auth, identity or cubbyhole)"
_PATH_REMEDY = "leave out quotes, backticks, braces, backslashes, wildcards, `?`, `#`, `%` and control characters"

Mount = Annotated[
    str,
    Text(
        "mount",
        f"^[^ :{_PATH_BAD}]+$",
        remedy=_PATH_REMEDY,
        bad=" :" + _PATH_BAD,
        never=(
            _NO_TRICKS,
            Never(
                f"(^|/){_OWN_API}(/|$)",
                "is no mount of a secrets engine (a segment sys, auth, identity or cubbyhole)",
                "name the mount of the engine that holds the secret, such as secret",
            ),
        ),
    ),
]
VaultPath = Annotated[
    str,
    Text(
        "path",
        f"^[^{_PATH_BAD}]+$",
        remedy=_PATH_REMEDY,
        max_length=512,
        bad=_PATH_BAD,
        never=(_NO_TRICKS, _NO_EDGES),
    ),
]
# A path that is joined with its mount as it is, without `data/` in between.
BarePath = Annotated[
    str,
    Text(
        "path",
        f"^[^{_PATH_BAD}]+$",
        remedy=_PATH_REMEDY,
        max_length=512,
        bad=_PATH_BAD,
        never=(
            _NO_TRICKS,
            _NO_EDGES,
            Never(OWN_API_IN_PATH, OWN_API_SAYS, "name a path of the secrets engine itself, such as creds/app"),
        ),
    ),
]
VaultRole = Annotated[
    str,
    Text(
        "role",
        r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$",
        remedy="use letters, digits, `_`, `.` and `-`, with a letter or digit at both ends",
        max_length=128,
    ),
]
CertificateName = Annotated[
    str,
    Text(
        "certificate name",
        r"^[A-Za-z0-9*_]([A-Za-z0-9_.@*-]*[A-Za-z0-9])?$",
        remedy="use a host name, a wildcard such as *.example.com, or an e-mail address",
        max_length=253,
    ),
]
IpAddress = Annotated[
    str,
    Text("IP address", r"^[0-9A-Fa-f:.]+$", remedy="write an IPv4 or IPv6 address", max_length=45),
]
Uri = Annotated[
    str,
    Text(
        "URI",
        r"^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#@!\x24&()*+,;=%-]+$",
        remedy="write an absolute URI, such as spiffe://example.com/app",
        max_length=512,
    ),
]

# --- files and processes ----------------------------------------------------------------------------------------------

_PLAIN_PATH = "write a name, or a plain path below secrets/, local/ or ../alloc/, such as secrets/app.conf"
Destination = Annotated[
    str,
    Text(
        "destination",
        f"^((secrets|local|\\.\\./alloc|\\.\\./vault-agent/secrets)/[^{UNSEEN}{BREAKING}\\x24]*|[^/{UNSEEN}{BREAKING}\\x24]+)$",
        says="is not below secrets/, local/ or ../alloc/",
        remedy=_PLAIN_PATH,
        bad=UNSEEN + BREAKING + "\\x24",
        never=(
            Never(
                r"/\.{0,2}(/|$)|^\.{1,2}$", "must not end with `/`, nor have an empty, `.` or `..` segment", _PLAIN_PATH
            ),
            Never(
                r"^((\.\./vault-agent/)?secrets/)?(nomad-vault|vault_token|nomad_token|api\.sock|nomad_[^/]*\.jwt)(/|$)",
                "is reserved",
                "choose another name: secrets/nomad-vault/ is for generated files, vault_token, nomad_token, "
                "nomad_*.jwt and api.sock are Nomad's own",
            ),
            Never(r"^\.\./vault-agent/secrets/approle(/|$)", "is reserved", "choose another name: this is the agent's"),
        ),
    ),
]
Permissions = Annotated[
    str,
    Text(
        "permissions",
        r"^0[0-7]{3}$",
        says="are not octal",
        remedy='write four octal digits in quotes, such as "0600"',
        max_length=4,
    ),
]
TemplateText = Annotated[
    str,
    Text(
        "template",
        max_length=16384,
        shown=False,
        never=(
            Never(
                r"/\*\s*secretbinding",
                "must not hold a comment that begins with `secretbinding`",
                "word the comment differently: such comments mark what this controller owns",
            ),
        ),
    ),
]
Delimiter = Annotated[
    str,
    Text(
        "delimiter",
        r"^[!-~]+$",
        says="is not plain",
        remedy="use 1 to 8 visible ASCII characters, such as [[",
        max_length=8,
    ),
]
SignalName = Annotated[
    str,
    Text("signal", r"^SIG[A-Z0-9]+$", says="is no signal", remedy="write it as SIGHUP or SIGUSR1", max_length=16),
]
Command = Annotated[
    str,
    Text("command", f"^[^{UNSEEN}]+$", remedy="write a path or a word on one line", max_length=512, bad=UNSEEN),
]
Id32 = Annotated[int, Field(ge=0, le=2147483647)]
