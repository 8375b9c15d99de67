"""The JSON of Nomad's answers as values; anything of another shape is a `ServiceError`."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from secretbinding.adapters.transport import Answer, Call, unexpected
from secretbinding.errors import ServiceError
from secretbinding.ports import Json, Variable, VariableMeta


def strange(call: Call) -> ServiceError:
    """The error for JSON of another shape."""
    return unexpected("nomad", call, "JSON of another shape")


def mapping(value: Any, call: Call) -> Json:
    """A JSON object."""
    if isinstance(value, dict):
        return value
    raise strange(call)


def list_of(value: Any, call: Call) -> list[Any]:
    """A JSON array."""
    if isinstance(value, list):
        return value
    raise strange(call)


def rows_of(value: Any, call: Call) -> list[Json]:
    """A JSON array of objects."""
    rows = list_of(value, call)
    if all(isinstance(row, dict) for row in rows):
        return rows
    raise strange(call)


def integer(value: Any, call: Call) -> int:
    """A whole number; null and what is missing count as 0."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    raise strange(call)


def by_number(key: str, call: Call) -> Callable[[Json], int]:
    """A sort key: the number in that field of a row."""
    return lambda row: integer(row.get(key), call)


def index_of(answer: Answer) -> int:
    """`X-Nomad-Index`, at least 1."""
    text = answer.headers.get("X-Nomad-Index", "")
    return max(1, int(text)) if text.isdecimal() and text.isascii() and len(text) < 20 else 1


def meta_of(row: Mapping[str, Any], call: Call) -> VariableMeta:
    """A row of a list of variables."""
    if not isinstance(row.get("Namespace"), str) or not isinstance(row.get("Path"), str):
        raise strange(call)
    return VariableMeta(
        namespace=row["Namespace"], path=row["Path"], modify_index=integer(row.get("ModifyIndex"), call)
    )


def variable_of(body: Json, call: Call) -> Variable:
    """One variable with its items."""
    items = body.get("Items")
    if not isinstance(items, dict) or "Path" not in body:
        raise strange(call)
    return Variable(
        namespace=str(body.get("Namespace", "")),
        path=str(body["Path"]),
        modify_index=integer(body.get("ModifyIndex"), call),
        items=items,
    )


def moment(value: Any, call: Call) -> datetime | None:
    """A time; None for null and for what is missing."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        pass
    raise strange(call)
