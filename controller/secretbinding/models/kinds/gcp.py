"""The `gcp` entry: an access token or a service account's key of a Google Cloud engine."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Rule
from secretbinding.models.kinds.base import KindSpec, When
from secretbinding.models.types import Mount, PositiveDuration, VaultRole


class GcpType(StrEnum):
    """What is asked of the engine."""

    TOKEN = "Token"
    KEY = "Key"


_ACCOUNTS = ("roleset", "staticAccount", "impersonatedAccount")


def _one_account(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in _ACCOUNTS if obj.get(name) is not None]
    if len(given) > 1:
        yield Fault((given[1],), f"both {given[0]} and {given[1]} are set")
    elif not given:
        yield Fault((), f"none of {', '.join(_ACCOUNTS)} is set")


def _key_of_own(obj: Mapping[str, Any]) -> Iterator[Fault]:
    key = obj.get("type") == GcpType.KEY
    if key and obj.get("impersonatedAccount") is not None:
        yield Fault(("type",), "an impersonated account has no keys")
    if not key:
        for name in ("ttl", "maxTTL"):
            if obj.get(name) is not None:
                yield Fault((name,), f"{name} is for keys; an access token lives as long as Google says")


class Gcp(KindSpec):
    """An access token or a key of a service account, by a Google Cloud secrets engine."""

    ever_new = When("(!has({0}.type) || {0}.type != 'Key')", lambda spec: spec.get("type") != GcpType.KEY)

    mount: Mount
    """Mount of the Google Cloud engine."""
    roleset: VaultRole | None = None
    """A roleset: a service account that the engine made."""
    static_account: VaultRole | None = None
    """A static account: a service account that was there."""
    impersonated_account: VaultRole | None = None
    """An impersonated account, which gives tokens only."""
    type: GcpType = GcpType.TOKEN
    """Token: an OAuth2 access token, good for an hour. Key: a credentials file of the service account."""
    ttl: PositiveDuration | None = None
    """First lifetime of a key; the engine's own when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Longest lifetime of a key, where the engine does not tell; decides when the job is rolled ahead."""

    rules = (
        Rule(
            message="roleset, staticAccount and impersonatedAccount exclude each other, and one of them is needed",
            remedy="set exactly one of roleset, staticAccount, impersonatedAccount",
            cel="[has(self.roleset), has(self.staticAccount), has(self.impersonatedAccount)].exists_one(x, x)",
            check=_one_account,
        ),
        Rule(
            message="ttl and maxTTL are for keys, which an impersonated account does not have",
            remedy="set type to Key with a roleset or staticAccount, or leave out ttl and maxTTL",
            cel="(has(self.type) && self.type == 'Key') ? !has(self.impersonatedAccount)"
            " : !(has(self.ttl) || has(self.maxTTL))",
            check=_key_of_own,
        ),
    )

    @property
    def account(self) -> str:
        """The account's path below the mount, `roleset/<name>` and the like."""
        if self.roleset is not None:
            return f"roleset/{self.roleset}"
        if self.static_account is not None:
            return f"static-account/{self.static_account}"
        return f"impersonated-account/{self.impersonated_account}"

    def identity(self) -> list[Any]:
        return [self.mount, self.account, self.type]
