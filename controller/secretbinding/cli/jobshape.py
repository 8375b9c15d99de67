"""Whether what an injection reads of a JSON job has the types of Nomad's API (api.Job). Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which types a value may have (null always), in words, and the shapes of its members."""

    says: str
    types: tuple[type, ...]
    fields: Mapping[str, "_Shape"] = field(default_factory=dict)
    items: "_Shape | None" = None


_TEXT = _Shape("a text", (str,))
_FLAG = _Shape("true or false", (bool,))
_NUMBER = _Shape("a number", (int, float))
_LENGTH = _Shape("a number or a text", (int, float, str))
_TEXTS = _Shape("a list", (list,), items=_TEXT)
_OPEN = _Shape("an object", (dict,))


def _object(**fields: _Shape) -> _Shape:
    return _Shape("an object", (dict,), fields)


def _list(items: _Shape) -> _Shape:
    return _Shape("a list", (list,), items=items)


_SCRIPT = _object(Command=_TEXT, Args=_TEXTS, Timeout=_LENGTH, FailOnError=_FLAG)
_TEMPLATE = _object(
    **dict.fromkeys(("EmbeddedTmpl", "DestPath", "ChangeMode", "ChangeSignal", "LeftDelim", "RightDelim"), _TEXT),
    **dict.fromkeys(("Envvars", "ErrMissingKey", "Once"), _FLAG),
    **dict.fromkeys(("Uid", "Gid"), _NUMBER),
    Perms=_TEXT,
    Splay=_LENGTH,
    ChangeScript=_SCRIPT,
)
_IDENTITY = _object(Name=_TEXT, Audience=_TEXTS, TTL=_LENGTH)
_SERVICE = _object(Name=_TEXT, Identity=_OPEN)
_VAULT = _object(
    **dict.fromkeys(("Role", "Namespace", "Cluster", "ChangeMode", "ChangeSignal"), _TEXT), AllowTokenExpiration=_FLAG
)
_CONSTRAINT = _object(LTarget=_TEXT, RTarget=_TEXT, Operand=_TEXT)
_TASK = _object(
    Name=_TEXT,
    KillSignal=_TEXT,
    Env=_OPEN,
    Lifecycle=_OPEN,
    Vault=_VAULT,
    Templates=_list(_TEMPLATE),
    Identities=_list(_IDENTITY),
    Services=_list(_SERVICE),
)
_GROUP = _object(
    Name=_TEXT,
    Count=_NUMBER,
    Constraints=_list(_CONSTRAINT),
    Services=_list(_SERVICE),
    Update=_OPEN,
    Tasks=_list(_TASK),
)
_JOB = _object(
    **dict.fromkeys(("ID", "Name", "Namespace", "Region", "Type", "ParentID"), _TEXT),
    Stop=_FLAG,
    Periodic=_OPEN,
    ParameterizedJob=_OPEN,
    Update=_OPEN,
    VersionTag=_OPEN,
    TaskGroups=_list(_GROUP),
)


def shape_faults(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, message) for each value of another type than Nomad's API has there."""
    return _faults(job, _JOB, "")


def _faults(value: Any, shape: _Shape, path: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    # In Python a bool is an int; in JSON it is none.
    if not isinstance(value, shape.types) or (isinstance(value, bool) and bool not in shape.types):
        yield path, f"is not {shape.says}"
        return
    if isinstance(value, Mapping):
        for name, inner in shape.fields.items():
            yield from _faults(value.get(name), inner, f"{path}.{name}" if path else name)
    if isinstance(value, list) and shape.items is not None:
        for index, item in enumerate(value):
            if item is None:
                yield f"{path}[{index}]", "is null"
            else:
                yield from _faults(item, shape.items, f"{path}[{index}]")
