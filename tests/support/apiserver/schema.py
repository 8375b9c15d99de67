"""Structural schemas of custom resources: defaulting, pruning, validation, with an API server's own wording."""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import re2

Json = dict[str, Any]

_NEVER_PRUNED = frozenset({"apiVersion", "kind", "metadata"})
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why an object is invalid: the field, the machine's word for it, the sentence."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def with_defaults(schema: Json, value: Any) -> Any:
    """The value with every missing property that has a default; null counts as missing where null is not allowed."""
    if isinstance(value, dict):
        result = {}
        properties = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        for key, child in value.items():
            sub = properties.get(key, additional if isinstance(additional, dict) else {})
            if child is None and "default" in sub and not sub.get("nullable"):
                continue
            result[key] = with_defaults(sub, child)
        for key, sub in properties.items():
            if key not in result and "default" in sub:
                result[key] = with_defaults(sub, copy.deepcopy(sub["default"]))
        return result
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    return value


def pruned(schema: Json, value: Any, path: str = "", *, root: bool = True) -> tuple[Any, list[str]]:
    """The value without fields that the schema does not name, and the paths of those fields."""
    if isinstance(value, dict):
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return value, []
        properties = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        result, dropped = {}, []
        for key, child in value.items():
            here = f"{path}.{key}" if path else key
            if root and key in _NEVER_PRUNED:
                result[key] = child
            elif key in properties or isinstance(additional, dict):
                result[key], below = pruned(properties.get(key, additional), child, here, root=False)
                dropped += below
            elif additional is True:
                result[key] = child
            else:
                dropped.append(here)
        return result, dropped
    if isinstance(value, list):
        items, dropped = [], []
        for position, item in enumerate(value):
            kept, below = pruned(schema.get("items", {}), item, f"{path}[{position}]", root=False)
            items.append(kept)
            dropped += below
        return items, dropped
    return value, []


def validate(schema: Json, value: Any, path: str = "") -> list[Fault]:
    """Every fault of the value against the schema (structural keywords; CEL rules are somebody else's)."""
    return list(_faults(schema, value, path))


def _faults(schema: Json, value: Any, path: str) -> Iterator[Fault]:
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            yield _wrong_type(schema["type"], "null", path)
        return
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type("integer,string", _type_name(value), path)
        return
    if kind and not _is_type(kind, value):
        yield _wrong_type(kind, _type_name(value), path)
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(json.dumps(choice) for choice in schema["enum"])
        yield Fault(
            path, "FieldValueNotSupported", f"Unsupported value: {json.dumps(value)}: supported values: {supported}"
        )
    if isinstance(value, str):
        yield from _string_faults(schema, value, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number_faults(schema, value, path)
    elif isinstance(value, list):
        yield from _list_faults(schema, value, path)
    elif isinstance(value, dict):
        yield from _object_faults(schema, value, path)
    yield from _combination_faults(schema, value, path)


def _string_faults(schema: Json, value: str, path: str) -> Iterator[Fault]:
    if len(value) > schema.get("maxLength", len(value)):
        limit = schema["maxLength"]
        yield Fault(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        yield _invalid(path, value, f"{path} in body should be at least {least} chars long")
    if "pattern" in schema and not re2.search(schema["pattern"], value):
        yield _invalid(path, value, f"{path} in body should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not _is_time(value):
        yield _invalid(path, value, f'{path} in body must be of type date-time: "{value}"')


def _number_faults(schema: Json, value: float, path: str) -> Iterator[Fault]:
    if value > schema.get("maximum", value) or (schema.get("exclusiveMaximum") and value == schema["maximum"]):
        yield _invalid(path, value, f"{path} in body should be less than or equal to {schema['maximum']}")
    if value < schema.get("minimum", value) or (schema.get("exclusiveMinimum") and value == schema["minimum"]):
        yield _invalid(path, value, f"{path} in body should be greater than or equal to {schema['minimum']}")


def _list_faults(schema: Json, value: list[Any], path: str) -> Iterator[Fault]:
    if len(value) > schema.get("maxItems", len(value)):
        limit = schema["maxItems"]
        yield Fault(path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} items")
    if len(value) < schema.get("minItems", 0):
        least = schema["minItems"]
        yield _invalid(path, len(value), f"{path} in body should have at least {least} items")
    for position, item in enumerate(value):
        yield from _faults(schema.get("items", {}), item, f"{path}[{position}]")
    yield from _duplicates(schema, value, path)


def _duplicates(schema: Json, value: list[Any], path: str) -> Iterator[Fault]:
    list_type = schema.get("x-kubernetes-list-type")
    if list_type not in ("map", "set"):
        return
    seen: set[str] = set()
    for position, item in enumerate(value):
        identity = item
        if list_type == "map":
            if not isinstance(item, dict):
                continue
            identity = {key: item[key] for key in schema["x-kubernetes-list-map-keys"] if key in item}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        if text in seen:
            yield Fault(f"{path}[{position}]", "FieldValueDuplicate", f"Duplicate value: {text}")
        seen.add(text)


def _object_faults(schema: Json, value: Json, path: str) -> Iterator[Fault]:
    properties = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    for key in schema.get("required", []):
        if value.get(key) is None and not (key in value and properties.get(key, {}).get("nullable")):
            yield Fault(_join(path, key), "FieldValueRequired", "Required value")
    if len(value) > schema.get("maxProperties", len(value)):
        limit = schema["maxProperties"]
        yield Fault(path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} items")
    if len(value) < schema.get("minProperties", 0):
        least = schema["minProperties"]
        yield _invalid(path, len(value), f"{path} in body should have at least {least} properties")
    for key, child in value.items():
        if key in properties:
            if child is None and key in schema.get("required", []):
                continue
            yield from _faults(properties[key], child, _join(path, key))
        elif isinstance(additional, dict):
            yield from _faults(additional, child, _join(path, key))


def _combination_faults(schema: Json, value: Any, path: str) -> Iterator[Fault]:
    for part in schema.get("allOf", []):
        yield from _faults(part, value, path)
    if "anyOf" in schema and all(validate(part, value, path) for part in schema["anyOf"]):
        yield _invalid(path, value, f"{path} in body must validate at least one schema (anyOf)")
    if "oneOf" in schema and sum(not validate(part, value, path) for part in schema["oneOf"]) != 1:
        yield _invalid(path, value, f"{path} in body must validate one and only one schema (oneOf)")
    if "not" in schema and not validate(schema["not"], value, path):
        yield _invalid(path, value, f"{path} in body must not validate the schema (not)")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _invalid(path: str, value: Any, sentence: str) -> Fault:
    shown = json.dumps(value) if isinstance(value, str | int | float) else '"object"'
    return Fault(path, "FieldValueInvalid", f"Invalid value: {shown}: {sentence}")


def _wrong_type(wanted: str, got: str, path: str) -> Fault:
    sentence = f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"'
    return Fault(path, "FieldValueTypeInvalid", sentence)


def _is_type(kind: str, value: Any) -> bool:
    if kind == "integer":
        return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value % 1 == 0))
    if kind == "number":
        return not isinstance(value, bool) and isinstance(value, int | float)
    return isinstance(value, _TYPES[kind])


def _type_name(value: Any) -> str:
    names: Sequence[tuple[type, str]] = (
        (bool, "boolean"),
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (list, "array"),
        (dict, "object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
