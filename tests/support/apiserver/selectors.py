"""Label and field selectors, as far as list and watch need them."""

import re
from collections.abc import Callable
from typing import Any

from tests.support.apiserver.failures import bad_request
from tests.support.apiserver.resources import Resource, json_path

Json = dict[str, Any]
Matches = Callable[[Json], bool]


def selector(resource: Resource, labels: str, fields: str, namespace: str | None) -> Matches:
    """One predicate of an object for a namespace (None: all), a label selector and a field selector."""
    conditions = [_label_condition(part) for part in _split(labels)]
    conditions += [_field_condition(resource, part) for part in fields.split(",") if part]
    if namespace is not None:
        conditions.append(lambda item: item["metadata"].get("namespace") == namespace)
    return lambda item: all(condition(item) for condition in conditions)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part]


def _label_condition(text: str) -> Matches:
    def label(item: Json, key: str) -> Any:
        return (item["metadata"].get("labels") or {}).get(key)

    text = text.strip()
    found = re.match(r"^(\S+)\s+(in|notin)\s+\((.*)\)$", text)
    if found:
        key, verb, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        return lambda item: (label(item, key) in values) == (verb == "in")
    if "!=" in text:
        key, value = (part.strip() for part in text.split("!=", 1))
        return lambda item: label(item, key) != value
    if "=" in text:
        key, value = (part.strip() for part in re.split("==?", text, maxsplit=1))
        return lambda item: label(item, key) == value
    if text.startswith("!"):
        return lambda item: label(item, text[1:]) is None
    return lambda item: label(item, text) is not None


def _field_condition(resource: Resource, text: str) -> Matches:
    negative = "!=" in text
    key, value = (part.strip() for part in re.split("!=|==?", text, maxsplit=1))
    known = {"metadata.name", "metadata.namespace"} | {path.lstrip(".") for path in resource.selectable}
    if resource.plural == "events":
        known |= {f"involvedObject.{part}" for part in ("kind", "namespace", "name", "uid", "apiVersion")}
        known |= {"reason", "type", "reportingComponent"}
    if key not in known:
        raise bad_request(f"field label not supported: {key}")
    return lambda item: (str(json_path(item, key) or "") == value) != negative
