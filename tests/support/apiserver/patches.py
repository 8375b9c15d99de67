"""The patch formats an API server takes: JSON merge patch (RFC 7386), JSON patch (RFC 6902), server-side apply."""

import copy
from typing import Any

Json = dict[str, Any]


class PatchError(Exception):
    """The patch does not fit the object: a failed `test`, or a path that is not there."""


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch: null removes a key, an object merges, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Any, operations: list[Json]) -> Any:
    """JSON patch; raises PatchError as soon as one operation cannot be done, with nothing changed in `target`."""
    document = copy.deepcopy(target)
    for operation in operations:
        document = _operate(document, operation)
    return document


def apply(live: Any, applied: Any, schema: Json) -> Any:
    """Server-side apply as an upsert: objects merge, list-maps merge by their keys, other lists are replaced.

    Ownership of fields is not tracked: a field that a later apply leaves out stays.
    """
    if isinstance(applied, dict):
        result = dict(live) if isinstance(live, dict) else {}
        for key, value in applied.items():
            result[key] = apply(result.get(key), value, _child(schema, key))
        return result
    if isinstance(applied, list) and isinstance(live, list) and schema.get("x-kubernetes-list-type") == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        items = schema.get("items", {})
        merged = list(live)
        for entry in applied:
            identity = [entry.get(key) for key in keys]
            for position, present in enumerate(merged):
                if [present.get(key) for key in keys] == identity:
                    merged[position] = apply(present, entry, items)
                    break
            else:
                merged.append(copy.deepcopy(entry))
        return merged
    return copy.deepcopy(applied)


def _child(schema: Json, key: str) -> Json:
    properties = schema.get("properties", {})
    if key in properties:
        child: Json = properties[key]
        return child
    additional = schema.get("additionalProperties")
    return additional if isinstance(additional, dict) else {}


def _operate(document: Any, operation: Json) -> Any:
    kind, path = operation.get("op"), _pointer(operation.get("path", ""))
    if kind == "test":
        if _read(document, path) != operation.get("value"):
            raise PatchError(f"testing value {operation['path']} failed")
        return document
    if kind == "remove":
        return _remove(document, path)
    if kind == "add":
        return _add(document, path, copy.deepcopy(operation.get("value")))
    if kind == "replace":
        _read(document, path)
        return _add(_remove(document, path), path, copy.deepcopy(operation.get("value")))
    if kind in ("move", "copy"):
        origin = _pointer(operation.get("from", ""))
        value = copy.deepcopy(_read(document, origin))
        return _add(_remove(document, origin) if kind == "move" else document, path, value)
    raise PatchError(f"unexpected kind of operation: {kind}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise PatchError(f"not a JSON pointer: {text}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _step(node: Any, part: str) -> Any:
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    raise PatchError(f"path is not there: {part}")


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        document = _step(document, part)
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent = _read(document, path[:-1])
    _step(parent, path[-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _read(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and (last == "-" or (last.isdigit() and int(last) <= len(parent))):
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        raise PatchError(f"path is not there: {last}")
    return document
