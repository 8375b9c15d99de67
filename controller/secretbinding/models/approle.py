"""`spec.auth.appRole`: the limits of an AppRole and of the secret-ids that are made for it."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from math import inf
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule
from secretbinding.models.kinds.base import longer
from secretbinding.models.text import Text, quoted
from secretbinding.models.types import Bounds, Duration

_WRAPPING_SECONDS = 24 * 3600.0
_LOGIN_SECONDS = 3600.0


def _is_network(text: str) -> str | None:
    try:
        ip_network(text)
    except ValueError:
        return f"CIDR {quoted(text)} is no network"
    return None


Cidr = Annotated[
    str,
    Text(
        "CIDR",
        r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$",
        says="is no network",
        remedy="write a network such as 10.0.0.0/16, its host bits zero, or an address",
        max_length=49,
        test=_is_network,
    ),
]
_SecretIdTtl = Annotated[Duration, Bounds("10s")]
_WrappingTtl = Annotated[Duration, Bounds("10s", "720h")]
CidrList = Annotated[tuple[Cidr, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})]


class AppRole(Model):
    """Limits of the AppRole, with method AppRole. A secret-id is made for one login, and delivered wrapped."""

    secret_id_num_uses: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many logins one secret-id is good for; 1 when left out."""
    secret_id_ttl: Annotated[_SecretIdTtl | None, Field(alias="secretIdTTL")] = None
    """How long a secret-id is good, from when it was made; an hour longer than its wrapping token when left out."""
    wrapping_ttl: Annotated[_WrappingTtl | None, Field(alias="wrappingTTL")] = None
    """How long a wrapping token that nobody opens is good; 24h when left out, or secretIdTTL where that is less. It is
    replaced when two thirds of it are over, so that a third is what a controller may be away."""
    bound_cidrs: Annotated[CidrList, Field(alias="boundCIDRs")] = ()
    """Networks from which one can log in with a secret-id; any when left out."""
    token_bound_cidrs: Annotated[CidrList, Field(alias="tokenBoundCIDRs")] = ()
    """Networks from which the token can be used; any when left out."""

    rules = (
        Rule(
            message="wrappingTTL is longer than secretIdTTL",
            remedy="make wrappingTTL at most secretIdTTL: what it holds would not be good any more",
            cel="!has(self.secretIdTTL) || !has(self.wrappingTTL)"
            " || duration(self.wrappingTTL) <= duration(self.secretIdTTL)",
            field=".wrappingTTL",
            check=lambda obj: longer(obj, "wrappingTTL", "secretIdTTL"),
        ),
    )

    @property
    def uses(self) -> int:
        """How many logins one secret-id is good for."""
        return self.secret_id_num_uses or 1

    @property
    def wrapping_seconds(self) -> float:
        """How long a wrapping token is good."""
        if self.wrapping_ttl is not None:
            return self.wrapping_ttl.seconds
        return min(_WRAPPING_SECONDS, self.secret_id_ttl.seconds if self.secret_id_ttl is not None else inf)

    @property
    def secret_id_seconds(self) -> float:
        """How long a secret-id is good."""
        if self.secret_id_ttl is not None:
            return self.secret_id_ttl.seconds
        return self.wrapping_seconds + _LOGIN_SECONDS


def _app_role_alone(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("appRole") is not None and obj.get("method") != "AppRole":
        yield Fault(("appRole",), "appRole needs method AppRole")


APP_ROLE_ALONE = Rule(
    message="appRole needs method AppRole",
    remedy="set method to AppRole, or leave out appRole",
    cel="!has(self.appRole) || (has(self.method) && self.method == 'AppRole')",
    field=".appRole",
    check=_app_role_alone,
)
"""A rule of `spec.auth`."""
