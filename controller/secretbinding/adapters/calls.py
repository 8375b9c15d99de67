"""What a request is for, and its whole answer: plain values that hide what they carry from repr."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Call:
    """What a request is for, in words that may be shown.

    Attributes:
        label: from a small fixed set, such as `policy_write`; for metrics, so never a path.
        text: what was asked, such as `write policy app`.
        denied: the sentence for HTTP 403: who may not do what, and the capability that is missing.
        grant: what to add to the token's policy.
        repeatable: whether doing it twice is the same as doing it once.
        anonymous: send no token.
        absent: what Nomad's own 404 says, so that a proxy's 404 never looks like an absence; empty: it gives none.
        content_type: of the body, if there is one.
        hidden: secret values of the request; an error text of the server that repeats one is withheld.
        headers: headers of this call alone.
    """

    label: str
    text: str
    denied: str = ""
    grant: str = ""
    repeatable: bool = True
    anonymous: bool = False
    absent: str = ""
    content_type: str = "application/json"
    hidden: tuple[str, ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, in the shape that hvac and python-nomad know from requests. `body` is hidden from repr."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    system: str
    call: Call

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def request_id(self) -> str:
        """Vault's own name for the request (`request_id`), "" where the answer has no body, or no such field."""
        try:
            body = json.loads(self.body) if self.system == "vault" and self.body else None
        except (ValueError, RecursionError):
            return ""
        return str(body.get("request_id") or "") if isinstance(body, dict) else ""

    def json(self) -> Any:
        """The body's value. Raises `ServiceError` when it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            pass
        raise unexpected(self.system, self.call, "something that is not JSON")


def unexpected(system: str, call: Call, what: str) -> ServiceError:
    """The error for an answer that a server of this kind never gives."""
    return ServiceError(
        f"{system.capitalize()} answered with {what} when asked to {call.text}",
        system=system,
        operation=call.text,
        remedy=f"check that {system.upper()}_ADDR leads to {system.capitalize()} itself",
    )
