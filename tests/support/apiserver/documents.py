"""What clients ask before they work: versions, discovery, OpenAPI, and tables for people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.support.apiserver.resources import Resource, json_path

Json = dict[str, Any]

VERSION: Json = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "test/test",
}


def core_versions(address: str) -> Json:
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def groups(served: Iterable[Resource]) -> Json:
    names = sorted({resource.group for resource in served if resource.group})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name, served) for name in names]}


def group(name: str, served: Iterable[Resource]) -> Json:
    versions = sorted({resource.version for resource in served if resource.group == name})
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": entries, "preferredVersion": entries[0]}


def resource_list(api_version: str, served: Sequence[Resource]) -> Json:
    entries: list[Json] = []
    for resource in served:
        entry: Json = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
        if resource.has_status:
            name = f"{resource.plural}/status"
            verbs = ["get", "patch", "update"]
            entries.append(
                {
                    "name": name,
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": resource.kind,
                    "verbs": verbs,
                }
            )
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": entries}


def openapi_index(served: Iterable[Resource]) -> Json:
    paths = sorted({_base(resource) for resource in served})
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi(base: str, served: Iterable[Resource]) -> Json:
    """Enough for kubectl: the schemas by group, version and kind, and that PATCH takes `fieldValidation`."""
    schemas: Json = {}
    paths: Json = {}
    for resource in served:
        if _base(resource) != base:
            continue
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        name = f"{resource.group or 'core'}.{resource.version}.{resource.kind}"
        schemas[name] = dict(resource.schema or {"type": "object"}) | {"x-kubernetes-group-version-kind": [gvk]}
        place = "namespaces/{namespace}/" if resource.namespaced else ""
        parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
        operation: Json = {
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": gvk,
            "parameters": [parameter],
            "responses": {"200": {"description": "OK"}},
        }
        paths[f"/{base}/{place}{resource.plural}/{{name}}"] = {"patch": operation}
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def table(resource: Resource, items: Sequence[Json], metadata: Json) -> Json:
    """A `meta.k8s.io/v1 Table` with the printer columns of the resource."""
    columns = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    extra = resource.columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)
    for column in extra:
        columns.append(
            {
                "name": column["name"],
                "type": column["type"],
                "format": column.get("format", ""),
                "description": column.get("description", ""),
                "priority": column.get("priority", 0),
            }
        )
    rows = []
    for item in items:
        cells = [item["metadata"]["name"]]
        for column in extra:
            value = json_path(item, column["jsonPath"])
            cells.append(_age(value) if column["type"] == "date" and value else value)
        rows.append({"cells": cells, "object": partial(item)})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def partial(item: Json) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def _base(resource: Resource) -> str:
    return f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"


def _age(text: str) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
