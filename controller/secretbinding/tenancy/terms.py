"""What a binding asked for besides rights in Vault, as its policy there remembers it: judged when the manifest cannot
be read any more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.models.binding import Delivery, SecretBinding
from secretbinding.tenancy.demands import Conditions, conditions_of, demands_of

_CAPABILITIES = ("read", "update")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a binding.

    Attributes:
        conditions: what holds for all that it asks for; what it has taken over by hand stands elsewhere.
        functions: what its templates call beyond values.
        calls: by secret, the paths of Vault's API that its templates read or write and that are none of its own, with
            the capability that this takes.
    """

    conditions: Conditions = field(default_factory=Conditions)
    functions: frozenset[str] = frozenset()
    calls: frozenset[tuple[str, str, str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it, without what is as it is by default."""
        of = self.conditions
        given: dict[str, Any] = {
            "method": of.method if of.method != Conditions().method else None,
            "longest": of.longest_seconds,
            "delivery": of.delivery.value if of.delivery is not Conditions().delivery else None,
            "choices": sorted(of.choices),
            "retained": of.retained,
            "functions": sorted(self.functions),
            "calls": [list(call) for call in sorted(self.calls)],
        }
        return {name: value for name, value in given.items() if value}


def terms_of(binding: SecretBinding) -> Terms:
    """The terms of a binding whose manifest is valid."""
    demands = demands_of(binding)
    return Terms(
        conditions_of(binding),
        frozenset(name for demand in demands for name in demand.functions),
        frozenset(
            (demand.secret, path, capability)
            for demand in demands
            if demand.call
            for path in demand.rights
            for capability in demand.capabilities
        ),
    )


def read_terms(value: Any) -> Terms | None:
    """The terms that `Terms.to_json` gave; None for what cannot be such."""
    if not isinstance(value, Mapping):
        return None
    try:
        longest = value.get("longest")
        conditions = Conditions(
            method=str(value.get("method") or Conditions().method),
            longest_seconds=float(longest) if longest is not None else None,
            delivery=Delivery(value.get("delivery") or Conditions().delivery),
            choices=frozenset(_texts(value.get("choices"))),
            retained=value.get("retained") is True,
        )
        calls = frozenset((str(secret), str(path), str(needed)) for secret, path, needed in value.get("calls") or ())
    except (TypeError, ValueError):
        return None
    if any(needed not in _CAPABILITIES for _, _, needed in calls):
        return None
    return Terms(conditions, frozenset(_texts(value.get("functions"))), calls)


def _texts(value: Any) -> Iterable[str]:
    return (str(one) for one in value) if isinstance(value, list) else ()
