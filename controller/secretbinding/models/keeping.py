"""Models that are kept by the thousand: what is equal in them is held once."""

import sys
from typing import Any

from pydantic import BaseModel

_FIELD_SETS: dict[frozenset[str], set[str]] = {}
"""pydantic has a set of its own for each object, of the fields that were given: three quarters of a small object."""


def kept(value: Any) -> None:
    """Share what models within `value` have in common with others that are kept: texts, and sets of the names of their
    fields. The models are frozen, and stay equal to what they were."""
    if isinstance(value, BaseModel):
        given = value.__pydantic_fields_set__
        object.__setattr__(value, "__pydantic_fields_set__", _FIELD_SETS.setdefault(frozenset(given), given))
        _keep_fields(value.__dict__)
    elif isinstance(value, tuple | list):
        for inner in value:
            kept(inner)
    elif type(value) is dict:
        _keep_fields(value)


def _keep_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if type(value) is str:
            fields[name] = sys.intern(value)
        elif value is not None and not isinstance(value, str | int | float):
            kept(value)
