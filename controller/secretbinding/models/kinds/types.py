"""The constrained types that only single kinds of secrets have."""

from typing import Annotated

from pydantic import Field

from secretbinding.models.text import Never, Text
from secretbinding.models.types import BREAKING, UNSEEN, Bounds, Duration

KeyName = Annotated[
    str,
    Text(
        "key",
        r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$",
        remedy="use letters, digits, `_`, `.` and `-`, with a letter or digit at both ends",
        max_length=128,
    ),
]

# --- database ---------------------------------------------------------------------------------------------------------

Statement = Annotated[
    str,
    Text(
        "statement",
        r"^[^\x00]+$",
        says="must not hold the character U+0000",
        remedy="leave it out",
        max_length=4096,
        shown=False,
    ),
]
Statements = Annotated[tuple[Statement, ...], Field(max_length=16)]
DatabaseUser = Annotated[
    str,
    Text(
        "user",
        f"^[^{UNSEEN}{BREAKING}]+$",
        remedy="leave out quotes, backticks, braces, backslashes and control characters",
        max_length=128,
        bad=UNSEEN + BREAKING,
    ),
]
# Vault's own least period.
RotationPeriod = Annotated[Duration, Bounds("5s")]

# --- SSH --------------------------------------------------------------------------------------------------------------

SshPrincipal = Annotated[
    str,
    Text(
        "principal",
        r"^[A-Za-z0-9_.@-]+$",
        remedy="use letters, digits, `_`, `.`, `@` and `-`: a user, or a host name",
        max_length=128,
    ),
]
SshPublicKey = Annotated[
    str,
    Text(
        "public key",
        r"^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [A-Za-z0-9_.@+:-]+)?$",
        says="is no line of a public key file",
        remedy="write it as in id_ed25519.pub, such as `ssh-ed25519 AAAA... me@host`",
        max_length=4096,
    ),
]

# --- AWS --------------------------------------------------------------------------------------------------------------

AwsArn = Annotated[
    str,
    Text(
        "ARN",
        r"^arn:[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:[A-Za-z0-9+=,.@_/:-]+$",
        says="is no ARN",
        remedy="write it as arn:aws:iam::123456789012:role/deploy",
        max_length=512,
    ),
]
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
AwsSessionName = Annotated[
    str,
    Text(
        "session name",
        r"^[A-Za-z0-9+=,.@_-]+$",
        remedy="use 2 to 64 letters, digits and `+=,.@_-`",
        max_length=64,
        min_length=2,
    ),
]

# --- Nomad ------------------------------------------------------------------------------------------------------------

# Nomad's own rule (structs.validVariablePath).
VariablePath = Annotated[
    str,
    Text(
        "path",
        r"^[A-Za-z0-9_~/-]+$",
        remedy="use letters, digits, `-`, `_`, `~` and `/`, as in nomad/jobs/app",
        max_length=128,
        never=(Never(r"(^|/)(/|$)", "must not begin or end with `/`, nor have an empty segment"),),
    ),
]
