"""The objects of the small API server, with the rules of an API server for every write.

One counter numbers all writes (resourceVersion); a write that changes nothing is none.
"""

import asyncio
import copy
import json
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.apiserver import failures, resources, schema
from tests.support.apiserver.resources import Resource

Json = dict[str, Any]
Rules = Callable[[Json, Json, Json | None], Sequence[schema.Fault]]

_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "namespace",
    "name",
)
_HISTORY = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `old` is None for a creation, `new` None for a deletion (whose last state is `old`)."""

    version: int
    key: tuple[str, str]
    old: Json | None
    new: Json | None


class Store:
    """All objects, and the last changes for watches to resume from. Not thread-safe: one event loop owns it."""

    def __init__(self, rules: Rules) -> None:
        self.version = 1000
        self.compacted = 1000
        self.history: deque[Change] = deque(maxlen=_HISTORY)
        self.resources: dict[tuple[str, str, str], Resource] = {}
        self.subscribers: set[asyncio.Queue[Change | None]] = set()
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Json]] = {}
        self._rules = rules
        for resource in resources.BUILT_IN:
            self.resources[resource.group, resource.version, resource.plural] = resource
        for name in ("default", "kube-system"):
            self.create(self.resources["", "v1", "namespaces"], "", {"metadata": {"name": name}})

    def find(self, resource: Resource, namespace: str, name: str) -> Json:
        found = self._objects.get(resource.key, {}).get((namespace, name))
        if found is None:
            raise failures.not_found(resource, name)
        return found

    def all(self, resource: Resource) -> list[Json]:
        """Objects in the order of a list: by namespace and name."""
        return [item for _, item in sorted(self._objects.get(resource.key, {}).items())]

    def create(self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        new = copy.deepcopy(body)
        metadata = new.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)
        name = metadata.get("name", "")
        if not name:
            raise failures.invalid(
                resource, "", [schema.Fault("metadata.name", "FieldValueRequired", "name or generateName is required")]
            )
        if resource.namespaced:
            self._require_namespace(resource, namespace, name)
            metadata["namespace"] = namespace
        if (namespace, name) in self._objects.get(resource.key, {}):
            raise failures.already_exists(resource, name)
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp()
        if resource.schema is not None or resource.key == resources.CRDS:
            metadata["generation"] = 1
        if resource.has_status:
            new.pop("status", None)
        new = self._checked(resource, new, None)
        if resource.key == resources.NAMESPACES:
            new["spec"], new["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
        if resource.key == resources.CRDS:
            self._define(new)
        if dry_run:
            return new
        return self._record(resource, namespace, name, None, new)

    def update(
        self, resource: Resource, namespace: str, name: str, body: Json, *, status: bool = False, dry_run: bool = False
    ) -> Json:
        """Replace the object (or, with `status`, only its status). `body` carries the resourceVersion to check."""
        old = self.find(resource, namespace, name)
        given = body.get("metadata", {})
        if given.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise failures.conflict(resource, name)
        if given.get("uid") not in (None, "", old["metadata"]["uid"]):
            sentence = f'Invalid value: "{given["uid"]}": field is immutable'
            raise failures.invalid(resource, name, [schema.Fault("metadata.uid", "FieldValueInvalid", sentence)])
        if given.get("name", name) != name or given.get("namespace", namespace) != namespace:
            raise failures.bad_request("the name or namespace of the object does not match the one of the URL")
        new = copy.deepcopy(old)
        if status:
            _put(new, "status", body.get("status"))
        else:
            new = copy.deepcopy(body)
            new["metadata"] = _merged_metadata(old["metadata"], given)
            if resource.has_status:
                _put(new, "status", old.get("status"))
            self._refuse_new_finalizers(resource, name, old, new)
        new = self._checked(resource, new, old)
        if "generation" in old["metadata"] and _essence(new) != _essence(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if resource.key == resources.CRDS and not status:
            self._define(new)
        if new == old or dry_run:
            return new
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._forget(resource, namespace, name, old)
            return new
        return self._record(resource, namespace, name, old, new)

    def delete(self, resource: Resource, namespace: str, name: str, options: Json, *, dry_run: bool = False) -> Json:
        """Delete, or mark for deletion while there are finalizers. The answer is a Status or the marked object."""
        old = self.find(resource, namespace, name)
        for field, wanted in options.get("preconditions", {}).items():
            if old["metadata"].get(field) != wanted:
                raise failures.conflict(resource, name)
        if dry_run:
            return old
        if resource.key == resources.NAMESPACES:
            return self._delete_namespace(resource, name, old)
        if old["metadata"].get("finalizers"):
            if "deletionTimestamp" in old["metadata"]:
                return old
            new = copy.deepcopy(old)
            new["metadata"] |= {"deletionTimestamp": timestamp(), "deletionGracePeriodSeconds": 0}
            if "generation" in new["metadata"]:
                new["metadata"]["generation"] += 1
            return self._record(resource, namespace, name, old, new)
        self._forget(resource, namespace, name, old)
        details = {"name": name, "group": resource.group, "kind": resource.plural, "uid": old["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def expire(self) -> None:
        """Forget the history, as an API server does after some minutes: older versions get 410 Gone."""
        self.history.clear()
        self.version += 1
        self.compacted = self.version

    def _checked(self, resource: Resource, new: Json, old: Json | None) -> Json:
        new |= {"apiVersion": resource.api_version, "kind": resource.kind}
        if resource.schema is None:
            return new
        new = schema.with_defaults(resource.schema, new)
        faults = schema.validate(resource.schema, new) or list(self._rules(resource.schema, new, old))
        if faults:
            raise failures.invalid(resource, new["metadata"].get("name", ""), faults)
        return new

    def _require_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        place = self.find(self.resources["", "v1", "namespaces"], "", namespace)
        if "deletionTimestamp" in place["metadata"]:
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise failures.forbidden(resource, name, message)

    def _refuse_new_finalizers(self, resource: Resource, name: str, old: Json, new: Json) -> None:
        if "deletionTimestamp" not in old["metadata"]:
            return
        added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
        if added:
            sentence = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers"
            fault = schema.Fault("metadata.finalizers", "FieldValueForbidden", f"{sentence} {sorted(added)}")
            raise failures.invalid(resource, name, [fault])

    def _delete_namespace(self, resource: Resource, name: str, old: Json) -> Json:
        new = copy.deepcopy(old)
        new["metadata"].setdefault("deletionTimestamp", timestamp())
        new["status"] = {"phase": "Terminating"}
        self._record(resource, "", name, old, new)
        for other in {item.key: item for item in self.resources.values() if item.namespaced}.values():
            for namespace, content in list(self._objects.get(other.key, {})):
                if namespace == name:
                    self.delete(other, namespace, content, {})
        self._finish_namespace(name)
        return new

    def _finish_namespace(self, name: str) -> None:
        resource = self.resources["", "v1", "namespaces"]
        place = self._objects[resource.key].get(("", name))
        if place is None or "deletionTimestamp" not in place["metadata"]:
            return
        if not any(namespace == name for held in self._objects.values() for namespace, _ in held):
            self._forget(resource, "", name, place)

    def _define(self, definition: Json) -> None:
        spec = definition["spec"]
        for resource in resources.of_definition(definition):
            self.resources[resource.group, resource.version, resource.plural] = resource
        definition["status"] = {
            "acceptedNames": spec["names"],
            "storedVersions": [version["name"] for version in spec["versions"] if version.get("storage")],
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": "",
                    "lastTransitionTime": definition["metadata"]["creationTimestamp"],
                }
                for kind, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
            ],
        }

    def _undefine(self, definition: Json) -> None:
        for resource in resources.of_definition(definition):
            for namespace, name in list(self._objects.get(resource.key, {})):
                self._forget(resource, namespace, name, self._objects[resource.key][namespace, name])
            self.resources.pop((resource.group, resource.version, resource.plural), None)

    def _record(self, resource: Resource, namespace: str, name: str, old: Json | None, new: Json) -> Json:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        self._objects.setdefault(resource.key, {})[namespace, name] = new
        self._publish(Change(self.version, resource.key, old, new))
        return new

    def _forget(self, resource: Resource, namespace: str, name: str, last: Json) -> None:
        del self._objects[resource.key][namespace, name]
        self.version += 1
        gone = copy.deepcopy(last)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._publish(Change(self.version, resource.key, gone, None))
        if resource.key == resources.CRDS:
            self._undefine(last)
        if resource.namespaced:
            self._finish_namespace(namespace)

    def _publish(self, change: Change) -> None:
        if len(self.history) == self.history.maxlen:
            self.compacted = self.history[0].version
        self.history.append(change)
        for queue in self.subscribers:
            queue.put_nowait(change)


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _put(target: Json, key: str, value: Any) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = copy.deepcopy(value)


def _merged_metadata(old: Json, given: Json) -> Json:
    kept = {key: value for key, value in given.items() if key not in _SERVER_OWNED and value not in (None, [], {})}
    return copy.deepcopy(kept | {key: old[key] for key in _SERVER_OWNED if key in old})


def _essence(item: Json) -> str:
    return json.dumps({key: value for key, value in item.items() if key not in ("metadata", "status")}, sort_keys=True)
