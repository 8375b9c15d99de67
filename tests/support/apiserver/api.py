"""The HTTP side of the small API server: a request in, the store's answer out."""

import asyncio
import base64
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from aiohttp import web

from tests.support.apiserver import documents, events, failures, patches, resources, schema
from tests.support.apiserver.failures import ApiError
from tests.support.apiserver.faults import Faults, Request
from tests.support.apiserver.resources import Resource
from tests.support.apiserver.selectors import Matches, selector
from tests.support.apiserver.store import Change, Store

Json = dict[str, Any]

_PATCHES = {
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
}

_WARNINGS = web.RequestKey("warnings", list[str])


class Api:
    """Answers requests from one event loop. `token` is the bearer token that every request needs."""

    def __init__(self, store: Store, faults: Faults, token: str, bookmark_seconds: float) -> None:
        self.token = token
        self.watches: list[web.Request] = []
        self._store = store
        self._faults = faults
        self._bookmark_seconds = bookmark_seconds

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ApiError as failure:
            headers = {"Retry-After": str(failure.retry_after)} if failure.retry_after is not None else {}
            return _json(failure.body, status=failure.code, headers=headers)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return web.Response(text="ok")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized", "Unauthorized")
        document = self._document(parts, request.host)
        if document is not None:
            return _json(document)
        return await self._resource_request(request, parts)

    def _document(self, parts: list[str], host: str) -> Json | None:
        served = list(self._store.resources.values())
        match parts:
            case ["version"]:
                return documents.VERSION
            case ["api"]:
                return documents.core_versions(host)
            case ["apis"]:
                return documents.groups(served)
            case ["apis", group] if any(resource.group == group for resource in served):
                return documents.group(group, served)
            case ["api", version] if version == "v1":
                return documents.resource_list(version, [item for item in served if not item.group])
            case ["apis", group, version]:
                chosen = [item for item in served if (item.group, item.version) == (group, version)]
                return documents.resource_list(f"{group}/{version}", chosen) if chosen else None
            case ["openapi", "v3"]:
                return documents.openapi_index(served)
            case ["openapi", "v3", *rest]:
                return documents.openapi("/".join(rest), served)
        return None

    async def _resource_request(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        resource, namespace, name, subresource = self._locate(parts)
        verb = _verb(request, name)
        status = 500
        try:
            if verb not in resource.verbs:
                raise ApiError(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            self._faults.raise_for(verb, resource, subresource, namespace, name)
            if verb == "watch":
                status = 200
                self._record(request, resource, verb, namespace, name, subresource, status)
                return await self._watch(request, resource, namespace, name)
            body = await self._operate(request, verb, resource, namespace, name, subresource)
            status = 201 if verb == "create" else 200
            return _json(body, status=status, headers=_warnings(request))
        except ApiError as failure:
            status = failure.code
            raise
        finally:
            if verb != "watch" or status != 200:
                self._record(request, resource, verb, namespace, name, subresource, status)

    def _record(self, request: web.Request, resource: Resource, verb: str, *where: Any) -> None:
        namespace, name, subresource, status = where
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        agent = request.headers.get("User-Agent", "")
        self._faults.record(Request(verb, label, namespace, name, status, agent))

    def _locate(self, parts: list[str]) -> tuple[Resource, str, str, str]:
        group, version, rest = "", "", []
        if parts[:1] == ["api"] and len(parts) > 2:
            version, rest = parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = self._store.resources.get((group, version, rest[0])) if rest else None
        name, subresource = (*rest[1:3], "", "")[:2]
        known = subresource in ("", "status") and len(rest) <= 3
        if resource is None or not known or (subresource and not resource.has_status):
            raise ApiError(404, "NotFound", "the server could not find the requested resource", {})
        return resource, namespace, name, subresource

    async def _operate(
        self, request: web.Request, verb: str, resource: Resource, namespace: str, name: str, subresource: str
    ) -> Json:
        dry_run = request.query.get("dryRun") == "All"
        store = self._store
        if verb == "get":
            return _shown(request, resource, [_face(resource, store.find(resource, namespace, name))], None)
        if verb == "list":
            return self._list(request, resource, namespace)
        if verb == "create":
            body = await _body(request)
            if resource.plural == "selfsubjectaccessreviews":
                return self._review(body)
            body = self._cleaned(request, resource, body)
            if resource.key == resources.EVENTS:
                body = events.to_core(body) if resource.group else body
                found = events.faults(resource, body)
                if found:
                    raise failures.invalid(resource, body.get("metadata", {}).get("name", ""), found)
            return _face(resource, store.create(resource, namespace, body, dry_run=dry_run))
        if verb == "update":
            body = self._cleaned(request, resource, await _body(request))
            if not body.get("metadata", {}).get("resourceVersion"):
                sentence = "Invalid value: 0: must be specified for an update"
                raise failures.invalid(
                    resource, name, [schema.Fault("metadata.resourceVersion", "FieldValueInvalid", sentence)]
                )
            return _face(resource, self._replace(resource, namespace, name, body, subresource, dry_run))
        if verb == "patch":
            return await self._patch(request, resource, namespace, name, subresource, dry_run)
        if verb == "delete":
            return store.delete(resource, namespace, name, await _body(request), dry_run=dry_run)
        matches = self._selector(request, resource, namespace)
        for item in [item for item in store.all(resource) if matches(item)]:
            metadata = item["metadata"]
            store.delete(resource, metadata.get("namespace", ""), metadata["name"], {}, dry_run=dry_run)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _replace(
        self, resource: Resource, namespace: str, name: str, body: Json, subresource: str, dry_run: bool
    ) -> Json:
        status = subresource == "status"
        return self._store.update(resource, namespace, name, body, status=status, dry_run=dry_run)

    async def _patch(
        self, request: web.Request, resource: Resource, namespace: str, name: str, subresource: str, dry_run: bool
    ) -> Json:
        kind = request.content_type
        if kind not in _PATCHES:
            raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
        text = await request.text()
        patch = yaml.safe_load(text) if kind.endswith("yaml") else json.loads(text)
        if kind.endswith("yaml") and not subresource:
            try:
                live = self._store.find(resource, namespace, name)
            except ApiError:
                body = self._cleaned(request, resource, patches.apply({}, patch, resource.schema or {}))
                return _face(resource, self._store.create(resource, namespace, body, dry_run=dry_run))
        live = _face(resource, self._store.find(resource, namespace, name))
        try:
            if kind.endswith("yaml"):
                body = patches.apply(live, patch, resource.schema or {})
            elif kind.startswith("application/json-patch"):
                body = patches.json_patch(live, patch)
            else:
                body = patches.merge(live, patch)
        except patches.PatchError as error:
            raise ApiError(
                422, "Invalid", "the server rejected our request due to an error in our request", {}
            ) from error
        body = self._cleaned(request, resource, body)
        if resource.key == resources.EVENTS and resource.group:
            body = events.to_core(body)
        return _face(resource, self._replace(resource, namespace, name, body, subresource, dry_run))

    def _cleaned(self, request: web.Request, resource: Resource, body: Json) -> Json:
        if resource.schema is None:
            return body
        kept, dropped = schema.pruned(resource.schema, body)
        if dropped and request.query.get("fieldValidation") == "Strict":
            faults = ", ".join(f'unknown field "{path}"' for path in dropped)
            raise failures.bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                f"strict decoding error: {faults}"
            )
        if request.query.get("fieldValidation", "Warn") == "Warn":
            request[_WARNINGS] = [f'unknown field \\"{path}\\"' for path in dropped]
        return dict(kept)

    def _review(self, body: Json) -> Json:
        wanted = body.get("spec", {}).get("resourceAttributes", {})
        allowed = True
        for resource in self._store.resources.values():
            if (resource.group, resource.plural) == (wanted.get("group", ""), wanted.get("resource")):
                try:
                    self._faults.raise_for(wanted.get("verb", ""), resource, wanted.get("subresource", ""), "", "")
                except ApiError:
                    allowed = False
        return body | {"status": {"allowed": allowed}}

    def _selector(self, request: web.Request, resource: Resource, namespace: str, name: str = "") -> Matches:
        fields = request.query.get("fieldSelector", "")
        if name:
            fields = f"metadata.name={name}"
        return selector(resource, request.query.get("labelSelector", ""), fields, namespace or None)

    def _list(self, request: web.Request, resource: Resource, namespace: str) -> Json:
        matches = self._selector(request, resource, namespace)
        items = [item for item in self._store.all(resource) if matches(item)]
        metadata: Json = {"resourceVersion": str(self._store.version)}
        start, limit = 0, _whole(request, "limit", 0)
        if "continue" in request.query:
            version, start = json.loads(base64.urlsafe_b64decode(request.query["continue"]))
            if version < self._store.compacted:
                raise failures.expired(
                    "The provided continue parameter is too old to display a consistent list result."
                )
            metadata["resourceVersion"] = str(version)
        if limit and len(items) > start + limit:
            token = json.dumps([int(metadata["resourceVersion"]), start + limit]).encode()
            metadata |= {
                "continue": base64.urlsafe_b64encode(token).decode(),
                "remainingItemCount": len(items) - start - limit,
            }
            items = items[: start + limit]
        return _shown(request, resource, [_face(resource, item) for item in items[start:]], metadata)

    async def _watch(self, request: web.Request, resource: Resource, namespace: str, name: str) -> web.StreamResponse:
        matches = self._selector(request, resource, namespace, name)
        store = self._store
        since = request.query.get("resourceVersion", "")
        seconds = _whole(request, "timeoutSeconds", 1800)
        initial = request.query.get("sendInitialEvents") == "true"
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        backlog: list[tuple[str, Json]] = []
        if since in ("", "0") or initial:
            backlog = [("ADDED", item) for item in store.all(resource) if matches(item)]
        elif int(since) < store.compacted:
            backlog = [("ERROR", failures.expired(f"too old resource version: {since} ({store.version})").body)]
        else:
            changes = [change for change in store.history if change.version > int(since) and change.key == resource.key]
            backlog = [seen for change in changes for seen in _seen(change, matches)]
        bookmark = _bookmark(resource, store.version)
        if initial:
            bookmark["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
            backlog.append(("BOOKMARK", bookmark))
        store.subscribers.add(queue)
        self.watches.append(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            await self._stream(request, response, resource, backlog, queue, matches, seconds)
        except (ConnectionResetError, asyncio.CancelledError):
            pass
        finally:
            store.subscribers.discard(queue)
            self.watches = [other for other in self.watches if other is not request]
        return response

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        resource: Resource,
        backlog: list[tuple[str, Json]],
        queue: "asyncio.Queue[Change | None]",
        matches: Matches,
        seconds: int,
    ) -> None:
        async def send(kind: str, item: Json) -> None:
            if kind != "ERROR":
                item = _shown(request, resource, [_face(resource, item)], None) if kind != "BOOKMARK" else item
            await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")

        for kind, item in backlog:
            await send(kind, item)
            if kind == "ERROR":
                return
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        while (left := end - loop.time()) > 0:
            try:
                change = await asyncio.wait_for(queue.get(), min(left, self._bookmark_seconds))
            except TimeoutError:
                if bookmarks and not self._faults.deaf:
                    await send("BOOKMARK", _bookmark(resource, self._store.version))
                continue
            if change is None:
                return
            if change.key == resource.key and not self._faults.deaf:
                for kind, item in _seen(change, matches):
                    await send(kind, item)


def _whole(request: web.Request, parameter: str, otherwise: int) -> int:
    text = request.query.get(parameter, str(otherwise))
    try:
        return int(text)
    except ValueError as error:
        raise failures.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _json(
    body: Json, *, status: int = 200, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
) -> web.Response:
    """An answer with the Content-Type of an API server, which names no charset."""
    response = web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")
    response.headers.extend(headers)
    return response


def _verb(request: web.Request, name: str) -> str:
    if request.method == "GET":
        if request.query.get("watch") in ("true", "1"):
            return "watch"
        return "get" if name else "list"
    if request.method == "DELETE":
        return "delete" if name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method, request.method.lower())


async def _body(request: web.Request) -> Json:
    text = await request.text()
    if not text:
        return {}
    if request.content_type not in ("application/json", "application/yaml", "application/octet-stream"):
        raise ApiError(415, "UnsupportedMediaType", f"the body is in an unsupported format: {request.content_type}")
    try:
        value = yaml.safe_load(text) if request.content_type == "application/yaml" else json.loads(text)
    except ValueError as error:
        raise failures.bad_request("the object provided is unrecognized: not JSON") from error
    if not isinstance(value, dict):
        raise failures.bad_request("the object provided is unrecognized: not an object")
    return value


def _face(resource: Resource, item: Json) -> Json:
    """The stored object as this group and version shows it."""
    shown = events.from_core(item) if resource.key == resources.EVENTS and resource.group else item
    return shown | {"apiVersion": resource.api_version, "kind": resource.kind}


def _shown(request: web.Request, resource: Resource, items: list[Json], list_metadata: Json | None) -> Json:
    """One object, or a list when `list_metadata` is given, in the form that the Accept header asks for."""
    form = request.headers.get("Accept", "")
    if "as=Table" in form:
        return documents.table(resource, items, list_metadata or {})
    if "as=PartialObjectMetadata" in form:
        items = [documents.partial(item) for item in items]
        if list_metadata is not None:
            kind = "PartialObjectMetadataList"
            return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "items": items}
    if list_metadata is None:
        return items[0]
    kind = f"{resource.kind}List"
    return {"kind": kind, "apiVersion": resource.api_version, "metadata": list_metadata, "items": items}


def _seen(change: Change, matches: Matches) -> list[tuple[str, Json]]:
    """The event that a watch with this selector sees of a change: leaving the selection is a deletion."""
    before = change.old is not None and matches(change.old)
    after = change.new is not None and matches(change.new)
    if after and change.new is not None:
        return [("MODIFIED" if before else "ADDED", change.new)]
    if before and change.old is not None:
        metadata = change.old["metadata"] | {"resourceVersion": str(change.version)}
        return [("DELETED", change.old | {"metadata": metadata})]
    return []


def _bookmark(resource: Resource, version: int) -> Json:
    metadata: Json = {"resourceVersion": str(version), "creationTimestamp": None}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def _warnings(request: web.Request) -> list[tuple[str, str]]:
    return list(
        zip(itertools.repeat("Warning"), (f'299 - "{text}"' for text in request.get(_WARNINGS, ())), strict=False)
    )
