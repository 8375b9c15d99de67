"""Routes about the cluster, variables and events."""

from collections.abc import Iterator
from typing import Any

from secretbinding.devstack.simulator.routes import Json, Parts
from secretbinding.devstack.simulator.state import DATACENTER, NODE_NAME, REGION
from secretbinding.devstack.simulator.variables import (
    NoVariableError,
    VariableConflictError,
    VariableError,
    VariableLockedError,
    full,
    metadata,
)
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router, denied

HEARTBEAT_SECONDS = 10.0
VERSION = "2.0.0"
_NAMESPACED = ("Job", "Allocation", "Evaluation", "Deployment", "Service", "Variable")


class SystemRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/\.well-known/jwks\.json", self.keys)
        router.add("GET", r"/\.well-known/openid-configuration", self.discovery)
        router.add("GET", r"/v1/regions", lambda _: Response([REGION]))
        router.add("GET", r"/v1/status/leader", self.leader)
        router.add("GET", r"/v1/agent/health", self.health)
        router.add("GET", r"/v1/agent/self", self.agent)
        router.add("GET", r"/v1/namespaces", self.namespaces)
        router.add("PUT POST", r"/v1/namespace", self.put_namespace)
        router.add("GET", r"/v1/namespace/([^/]+)", self.namespace)
        router.add("PUT POST", r"/v1/namespace/([^/]+)", self.put_namespace)
        router.add("PUT POST", r"/v1/system/gc", self.collect)
        router.add("GET", r"/v1/vars", self.variables)
        router.add("GET", r"/v1/var/(.+)", self.read_variable)
        router.add("PUT POST", r"/v1/var/(.+)", self.write_variable)
        router.add("DELETE", r"/v1/var/(.+)", self.delete_variable)
        router.add("GET", r"/v1/event/stream", self.events)

    # -- the cluster -----------------------------------------------------------------------------------------------

    def keys(self, request: Request) -> Response:
        self._parts.route(request.region)
        return Response(self._parts.identities.jwks())

    def discovery(self, request: Request) -> Response:
        self._parts.route(request.region)
        raise HttpError(404, "OIDC Discovery endpoint disabled")

    def leader(self, request: Request) -> Response:
        self._parts.route(request.region)
        return Response("127.0.0.1:4647")

    def health(self, request: Request) -> Response:
        client = {"ok": True, "message": "ok"}
        try:
            self._parts.route(request.region)
        except HttpError as error:
            return Response({"client": client, "server": {"ok": False, "message": error.text}}, status=error.status)
        return Response({"client": client, "server": {"ok": True, "message": "ok"}})

    def collect(self, request: Request) -> Response:
        self._parts.route(request.region)
        return Response(content_type="")

    def agent(self, request: Request) -> Response:
        if not self._parts.local_rights(request).coarse("agent"):
            raise denied()
        config = {
            "ACL": {"Enabled": self._parts.acl.enabled},
            "Client": {"Enabled": True},
            "Datacenter": DATACENTER,
            "NodeName": NODE_NAME,
            "Region": REGION,
            "Server": {"Enabled": True, "OIDCIssuer": ""},
            "TLSConfig": {"EnableHTTP": False},
            "Vaults": [self._parts.client.vault.block()],
            "Version": {"Version": VERSION, "VersionPrerelease": "simulator", "VersionMetadata": "", "Revision": ""},
        }
        member = {"Name": f"{NODE_NAME}.{REGION}", "Status": "alive", "Tags": {"build": VERSION, "region": REGION}}
        return Response({"config": config, "member": member, "stats": {}})

    def namespaces(self, request: Request) -> Response:
        rights = self._parts.rights(request)

        def query() -> tuple[int, list[Json]]:
            names = [name for name in sorted(self._state.namespaces) if rights.sees_namespace(name)]
            return self._state.table_index("namespaces"), [self._state.namespaces[name] for name in names]

        return self._parts.read(request, query)

    def namespace(self, request: Request) -> Response:
        found = self._state.namespaces.get(request.parts[0])
        if not self._parts.rights(request).sees_namespace(request.parts[0]):
            raise denied()
        if found is None:
            raise HttpError(404, "Namespace not found", index=self._state.table_index("namespaces"))
        return Response(found, index=found["ModifyIndex"], known_leader=True)

    def put_namespace(self, request: Request) -> Response:
        # With ACLs namespaces are written in the authoritative region, whatever the request says.
        if not self._parts.acl.enabled:
            self._parts.route(request.region)
        if not self._parts.local_rights(request).management:
            raise denied()
        body = request.json()
        self._state.put_namespace(str(body["Name"]), str(body.get("Description") or ""), body.get("Meta"))
        return Response(content_type="", index=self._state.index)

    # -- variables -------------------------------------------------------------------------------------------------

    def variables(self, request: Request) -> Response:
        rights = self._parts.rights(request)
        namespace, prefix = request.namespace, request.query.get("prefix", "")

        def below() -> list[tuple[tuple[str, str], Json]]:
            every = sorted(self._state.variables.items())
            return [(key, each) for key, each in every if namespace in ("*", key[0]) and key[1].startswith(prefix)]

        def query() -> tuple[int, list[Json]]:
            rows = [metadata(each, lock=rights.management) for key, each in below() if rights.variable(*key, "list")]
            return self._state.table_index("variables"), rows

        def seen() -> list[tuple[tuple[str, str], int]]:
            return [(key, int(each["ModifyIndex"])) for key, each in below()]

        # Whoever waits is woken by what he may not see as well.
        index, wait = request.blocking()
        current, rows = self._state.blocking(
            query, index=index, wait_seconds=wait, stopped=self._parts.stopped, watch=lambda _: seen()
        )
        response = Response(rows, index=current, known_leader=True)
        self._page(request, response)
        return response

    def _page(self, request: Request, response: Response) -> None:
        """`per_page` and `next_token`, the token being `namespace.path` of the next row."""
        start = request.query.get("next_token", "")
        rows = [row for row in response.value if f"{row['Namespace']}.{row['Path']}" >= start]
        limit = int(request.query.get("per_page") or 0)
        if limit and len(rows) > limit:
            response.headers["X-Nomad-NextToken"] = f"{rows[limit]['Namespace']}.{rows[limit]['Path']}"
            rows = rows[:limit]
        response.value = rows

    def read_variable(self, request: Request) -> Response:
        rights = self._parts.rights(request)
        key = (request.namespace, request.parts[0])
        if not rights.variable(*key, "read"):
            raise denied()

        def query() -> tuple[int, Json | None]:
            found = self._state.variables.get(key)
            if found is None:
                return self._state.table_index("variables"), None
            return found["ModifyIndex"], full(found, lock=rights.management)

        response = self._parts.read(request, query)
        if response.value is None:
            raise HttpError(404, "variable not found", index=response.index)
        return response

    def write_variable(self, request: Request) -> Response:
        body = _decoded(request)
        path = request.parts[0]
        namespace = body.get("Namespace") or request.namespace
        locking = [name for name in ("lock-acquire", "lock-renew", "lock-release") if name in request.query]
        if len(locking) > 1:
            raise HttpError(400, "multiple lock operations")
        if locking and "cas" in request.query:
            raise HttpError(400, "CAS can't be used with lock operations")
        if not locking and not body.get("Items"):
            raise HttpError(400, "variable missing required Items object")
        cas = _cas(request)
        rights = self._parts.rights(request)
        if not rights.variable(namespace, path, "write"):
            raise denied()
        try:
            if locking:
                return self._lock(locking[0], namespace, path, body)
            lock = (body.get("Lock") or {}).get("ID") or ""
            new, index = self._parts.variables.put(namespace, path, body["Items"], cas=cas, lock_id=lock)
            return Response(full(new, lock=True), index=index)
        except VariableError as error:
            raise HttpError(400, f"RPC Error:: 400,{error}") from None
        except VariableConflictError as error:
            readable = rights.variable(namespace, path, "read")
            return _conflict(error, namespace, path, readable)
        except VariableLockedError as error:
            return _locked(error, namespace, path)
        except NoVariableError as error:
            raise HttpError(404 if locking == ["lock-renew"] else 500, str(error)) from None

    def _lock(self, operation: str, namespace: str, path: str, body: Json) -> Response:
        if operation == "lock-acquire":
            new, index = self._parts.variables.acquire(namespace, path, body)
            return Response(full(new, lock=True), index=index)
        if operation == "lock-release":
            new, index = self._parts.variables.release(namespace, path, body)
            return Response(full(new, lock=True), index=index)
        return Response(metadata(self._parts.variables.renew(namespace, path, body), lock=True))

    def delete_variable(self, request: Request) -> Response:
        namespace, path, cas = request.namespace, request.parts[0], _cas(request)
        rights = self._parts.rights(request)
        if not rights.variable(namespace, path, "destroy"):
            raise denied()
        try:
            index = self._parts.variables.delete(namespace, path, cas=cas)
        except VariableConflictError as error:
            return _conflict(error, namespace, path, rights.variable(namespace, path, "read"))
        except VariableLockedError as error:
            return _locked(error, namespace, path)
        return Response(status=204, index=index)

    # -- events ----------------------------------------------------------------------------------------------------

    def events(self, request: Request) -> Response:
        topics: dict[str, list[str]] = {}
        for text in request.lists.get("topic") or ["*:*"]:
            topic, _, key = text.partition(":")
            topics.setdefault(topic, []).append(key or "*")
        namespace = request.namespace
        rights = self._parts.acl.rights(request.token)
        index, _ = request.blocking()
        wanted = list(self._state.namespaces) if namespace == "*" else [namespace]
        if rights is None or request.region not in ("", REGION) or not self._subscribable(rights, topics, wanted):
            return Response(stream=self._silence())

        def allowed(topic: str, where: str) -> bool:
            return topic not in _NAMESPACED or namespace in ("*", where)

        def batches() -> Iterator[Any]:
            yield {}
            yield from self._state.events.subscribe(topics, allowed, index=index, heartbeat_seconds=HEARTBEAT_SECONDS)

        return Response(stream=batches())

    def _subscribable(self, rights: Any, topics: dict[str, list[str]], namespaces: list[str]) -> bool:
        if rights.management:
            return True
        for topic in topics:
            if topic == "Node" and rights.coarse("node"):
                continue
            if topic == "Variable" and all(rights.any_variable(one) for one in namespaces):
                continue
            if topic not in _NAMESPACED or not all(rights.namespace(one, "read-job") for one in namespaces):
                return False
        return True

    def _silence(self) -> Iterator[Any]:
        """A stream without rights: open, and no byte, until the simulator stops."""
        for batch in self._state.events.subscribe({}, lambda _, __: False, index=0, heartbeat_seconds=3600.0):
            if batch:
                yield batch


def _decoded(request: Request) -> Json:
    """The body of a write of a variable. Raises `HttpError` 400 for JSON of another shape, in the decoder's words."""
    body = request.json()
    if not isinstance(body, dict):
        raise HttpError(
            400, f"json: cannot unmarshal {_json_kind(body)} into Go value of type structs.VariableDecrypted"
        )
    items = body.get("Items")
    for value in items.values() if isinstance(items, dict) else ():
        if value is not None and not isinstance(value, str):
            place = "Go struct field VariableDecrypted.Items of type string"
            raise HttpError(400, f"json: cannot unmarshal {_json_kind(value)} into {place}")
    return body


def _json_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds: dict[type, str] = {int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _cas(request: Request) -> int | None:
    text = request.query.get("cas", "")
    try:
        return int(text) if text else None
    except ValueError:
        raise HttpError(400, f'can not parse cas: strconv.ParseUint: parsing "{text}": invalid syntax') from None


def _conflict(error: VariableConflictError, namespace: str, path: str, readable: bool) -> Response:
    """HTTP 409 with the variable that is there; without the right to read it, only its place."""
    if not error.value:
        value = {**_nothing(namespace, path), "Items": None}
    else:
        value = full(error.value, lock=False) if readable else metadata(error.value, lock=False)
    return Response(value, status=409, index=error.index)


def _locked(error: VariableLockedError, namespace: str, path: str) -> Response:
    """HTTP 409 that tells nothing of a variable whose lock somebody else holds, not even to who may read it."""
    if str(error):
        raise HttpError(409, str(error))
    return Response(_nothing(namespace, path), status=409, index=0)


def _nothing(namespace: str, path: str) -> Json:
    """The metadata of a variable that is not there."""
    return {"CreateIndex": 0, "CreateTime": 0, "ModifyIndex": 0, "ModifyTime": 0, "Namespace": namespace, "Path": path}
