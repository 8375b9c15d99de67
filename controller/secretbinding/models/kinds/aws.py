"""The `aws` entry: credentials of an AWS engine."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Rule
from secretbinding.models.kinds.base import KindSpec
from secretbinding.models.kinds.types import AwsArn, AwsSessionName
from secretbinding.models.types import Mount, PositiveDuration, VaultRole

_OF_STS = ("roleArn", "sessionName", "ttl")


def _sts_only(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("sts") is not True:
        for name in _OF_STS:
            if obj.get(name) is not None:
                yield Fault((name,), f"{name} is for temporary credentials")


class Aws(KindSpec):
    """Credentials of an AWS secrets engine."""

    mount: Mount
    """Mount of the AWS engine."""
    role: VaultRole
    """Role of the AWS engine."""
    sts: bool = False
    """Ask at `<mount>/sts/<role>`, which takes the fields below, instead of `<mount>/creds/<role>`."""
    role_arn: AwsArn | None = None
    """The AWS role to assume, where the engine's role allows several."""
    session_name: AwsSessionName | None = None
    """Name of the session of the assumed role."""
    ttl: PositiveDuration | None = None
    """Lifetime of temporary credentials; the role's own, or an hour, when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Longest lifetime of what is given, where the engine does not tell; decides when the job is rolled ahead."""

    rules = (
        Rule(
            message="roleArn, sessionName and ttl are for temporary credentials",
            remedy="set sts to true, or leave them out",
            cel="(has(self.sts) && self.sts) || !(has(self.roleArn) || has(self.sessionName) || has(self.ttl))",
            check=_sts_only,
        ),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.role, self.sts, self.role_arn, self.session_name]
