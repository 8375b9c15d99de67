"""Judges objects by a CRD as an API server would: nulls, defaults, structural schema, CEL rules; no server needed."""

import datetime
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import celpy
import re2
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

# CEL's reserved words, which a rule writes as `__word__` (Kubernetes API, "Common Expression Language", escaping).
_RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
# What every object has, whatever its CRD says (metav1.TypeMeta, metav1.ObjectMeta).
_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_METADATA: Mapping[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": _TEXT,
        "namespace": _TEXT,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "uid": _TEXT,
        "resourceVersion": _TEXT,
        "creationTimestamp": _TEXT,
        "generation": {"type": "integer"},
        "managedFields": {"type": "array", "items": {"type": "object"}},
    },
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


class Judge:
    """The verdict of a CRD's first version on objects."""

    def __init__(self, crd: Mapping[str, Any]) -> None:
        spec = crd["spec"]
        version = spec["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        own = {
            "apiVersion": {"type": "string", "enum": [f"{spec['group']}/{version['name']}"]},
            "kind": {"type": "string", "enum": [spec["names"]["kind"]]},
            "metadata": _METADATA,
        }
        self.schema: Mapping[str, Any] = {
            **schema,
            "required": ["apiVersion", "kind", "metadata", *schema["required"]],
            "properties": {**schema["properties"], **own},
        }

    def defaulted(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """The object with the schema's defaults, as the server would store it; on creation, a status is dropped."""
        copied = json.loads(json.dumps({key: value for key, value in obj.items() if key != "status"}))
        made: dict[str, Any] = _with_defaults(copied, self.schema)
        return made

    def faults(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[str]:
        """Why the server would refuse to create the object (or to change `old` to it), by strict field validation;
        empty when it would take it. Rules are looked at only when the structure is right, as the server does."""
        given = self.defaulted(obj)
        structure = list(_structural(given, self.schema, ""))
        if structure:
            return structure
        before = self.defaulted(old) if old is not None else None
        return list(_rules(given, before, self.schema, ""))


def _with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        # The server drops nulls where null is not allowed, in maps too.
        for name in [name for name, member in value.items() if member is None]:
            del value[name]
        for name, inner in properties.items():
            if name not in value and "default" in inner:
                value[name] = json.loads(json.dumps(inner["default"]))
        for name, member in value.items():
            inner = properties.get(name) or schema.get("additionalProperties")
            if isinstance(inner, Mapping):
                value[name] = _with_defaults(member, inner)
    elif isinstance(value, list) and "items" in schema:
        return [_with_defaults(item, schema["items"]) for item in value]
    return value


def _structural(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    kind: str = schema["type"]
    right: bool = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not right:
        yield f"{path}: must be of type {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: not one of {schema['enum']}"
    if kind == "string":
        yield from _text(value, schema, path)
    elif kind == "integer":
        if "minimum" in schema and value < schema["minimum"]:
            yield f"{path}: less than {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"{path}: greater than {schema['maximum']}"
    elif kind == "array":
        yield from _list(value, schema, path)
    elif kind == "object":
        yield from _object(value, schema, path)


def _text(value: str, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if len(value) < schema.get("minLength", 0):
        yield f"{path}: shorter than {schema['minLength']}"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{path}: longer than {schema['maxLength']}"
    if "pattern" in schema and not re2.search(schema["pattern"], value):
        yield f"{path}: does not match {schema['pattern']}"


def _list(value: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{path}: fewer than {schema['minItems']}"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{path}: more than {schema['maxItems']}"
    for index, item in enumerate(value):
        yield from _structural(item, schema["items"], f"{path}[{index}]")
    kind = schema.get("x-kubernetes-list-type")
    seen: list[Any] = []
    for index, item in enumerate(value):
        key = item
        if kind == "map":
            keys = schema["x-kubernetes-list-map-keys"]
            key = [item.get(name) for name in keys] if isinstance(item, dict) else item
        if kind in ("map", "set") and key in seen:
            yield f"{path}[{index}]: duplicate value {key}"
        seen.append(key)


def _object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    properties = schema.get("properties")
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: required"
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{path}: more than {schema['maxProperties']} members"
    for name, member in value.items():
        if properties is not None and name in properties:
            yield from _structural(member, properties[name], f"{path}.{name}")
        elif "additionalProperties" in schema:
            yield from _structural(member, schema["additionalProperties"], f"{path}.{name}")
        elif properties is not None:
            yield f"{path}.{name}: unknown field"


def _rules(value: Any, old: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for entry in schema.get("x-kubernetes-validations", ()):
        rule = entry["rule"]
        if "oldSelf" in rule and old is None:
            continue
        names = {"self": _cel(value, schema)}
        if "oldSelf" in rule:
            names["oldSelf"] = _cel(old, schema)
        try:
            holds = _program(rule).evaluate(names)
        except CELEvalError:
            holds = False
        if not holds:
            yield f"{path}{entry.get('fieldPath', '')}: {entry['message']}"
    if isinstance(value, dict):
        for name, member in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(inner, Mapping):
                before = old.get(name) if isinstance(old, dict) else None
                yield from _rules(member, before, inner, f"{path}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _rules(item, None, schema["items"], f"{path}[{index}]")


def _cel(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value for celpy; names of properties that are CEL's own words are escaped, keys of maps are not."""
    if isinstance(value, dict):
        properties = schema.get("properties")
        members = {}
        for name, member in value.items():
            inner = (properties or {}).get(name) or schema.get("additionalProperties") or {}
            escaped = f"__{name}__" if properties is not None and name in _RESERVED else name
            members[celtypes.StringType(escaped)] = _cel(member, inner)
        return celtypes.MapType(members)
    if isinstance(value, list):
        return celtypes.ListType([_cel(item, schema.get("items", {})) for item in value])
    return json_to_cel(value)


@cache
def _program(rule: str) -> Any:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule), functions={"getFullYear": _full_year})


def _full_year(when: datetime.datetime, zone: str = "UTC") -> celtypes.IntType:
    """`getFullYear` as Go does it: an unknown time zone is an error, which refuses the object."""
    try:
        return celtypes.IntType(when.astimezone(ZoneInfo(str(zone))).year)
    except (KeyError, ValueError, OSError):
        return celtypes.IntType(0)
