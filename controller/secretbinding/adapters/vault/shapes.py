"""What is taken out of the JSON of Vault's answers; another shape is an error."""

from collections.abc import Sequence
from typing import Any

from secretbinding.adapters.transport import Call, unexpected


def mapping(value: Any, call: Call) -> dict[str, Any]:
    """The value, which has to be an object. Raises `ServiceError`."""
    if isinstance(value, dict):
        return value
    raise unexpected("vault", call, "JSON of another shape")


def data_of(body: Any, call: Call) -> dict[str, Any]:
    """The object `data` of an answer. Raises `ServiceError`."""
    return mapping(mapping(body, call).get("data"), call)


def keys_of(body: Any, call: Call) -> Sequence[str]:
    """The `keys` of a list. Raises `ServiceError`."""
    found = data_of(body, call).get("keys")
    if isinstance(found, list):
        return tuple(str(key) for key in found)
    raise unexpected("vault", call, "JSON of another shape")


def seconds(value: Any, call: Call) -> float:
    """A number of seconds; nothing, and less than none, is 0. Raises `ServiceError`."""
    try:
        return max(0.0, float(value or 0))
    except (TypeError, ValueError):
        pass
    raise unexpected("vault", call, "JSON of another shape")
