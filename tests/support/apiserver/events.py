"""Events are one kind of object with two faces: `v1` and `events.k8s.io/v1` name the same fields differently."""

from typing import Any

from tests.support.apiserver.resources import Resource
from tests.support.apiserver.schema import Fault

Json = dict[str, Any]

_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}


def to_core(item: Json) -> Json:
    """An `events.k8s.io/v1` event under the names of `v1`."""
    return {_RENAMED.get(key, key): value for key, value in item.items()}


def from_core(item: Json) -> Json:
    """A `v1` event under the names of `events.k8s.io/v1`."""
    back = {core: new for new, core in _RENAMED.items()}
    return {back.get(key, key): value for key, value in item.items()}


def faults(resource: Resource, item: Json) -> list[Fault]:
    """What an API server refuses in a new event (given under the names of `v1`)."""
    found = []
    if resource.group == "events.k8s.io":
        for field in ("eventTime", "reportingComponent", "reportingInstance", "action", "reason"):
            if not item.get(field):
                found.append(Fault(field, "FieldValueRequired", "Required value"))
        if item.get("type") not in ("Normal", "Warning"):
            found.append(Fault("type", "FieldValueInvalid", f'Invalid value: "{item.get("type")}"'))
        if len(item.get("message", "")) > 1024:
            found.append(Fault("note", "FieldValueInvalid", "Invalid value: can have at most 1024 characters"))
    return found
