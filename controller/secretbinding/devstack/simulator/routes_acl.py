"""Routes about ACL policies and tokens."""

from typing import Any

from secretbinding.devstack.simulator.acl import PolicyError
from secretbinding.devstack.simulator.routes import Json, Parts
from secretbinding.devstack.simulator.web import HttpError, Request, Response, Router, denied


class AclRoutes:
    """Handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._acl = parts.acl
        self._state = parts.state

    def add_to(self, router: Router) -> None:
        router.add("GET", r"/v1/acl/policies", self.policies)
        router.add("GET", r"/v1/acl/policy/([^/]+)", self.policy)
        router.add("PUT POST", r"/v1/acl/policy/([^/]+)", self.put_policy)
        router.add("DELETE", r"/v1/acl/policy/([^/]+)", self.delete_policy)
        router.add("GET", r"/v1/acl/tokens", self.tokens)
        router.add("GET", r"/v1/acl/token/self", self.own_token)
        router.add("PUT POST", r"/v1/acl/token", self.put_token)
        router.add("GET", r"/v1/acl/token/([^/]+)", self.token)
        router.add("DELETE", r"/v1/acl/token/([^/]+)", self.delete_token)

    def _enabled(self) -> None:
        if not self._acl.enabled:
            raise HttpError(400, "ACL support disabled")

    def _managing(self, request: Request) -> None:
        self._enabled()
        if not self._parts.rights(request).management:
            raise denied()

    def _visible(self, request: Request) -> list[str] | None:
        """The policies that the token may see; None for all."""
        self._enabled()
        if self._parts.rights(request).management:
            return None
        return [*self._acl.policies_of(request.token), "anonymous"]

    def policies(self, request: Request) -> Response:
        visible = self._visible(request)
        rows = [row for row in self._acl.policy_rows() if visible is None or row["Name"] in visible]
        stubs = [{name: value for name, value in row.items() if name not in ("Rules", "RulesJSON")} for row in rows]
        return Response(stubs, index=self._state.table_index("acl_policy"), known_leader=True)

    def policy(self, request: Request) -> Response:
        name, visible = request.parts[0], self._visible(request)
        if visible is not None and name not in visible:
            raise denied()
        row = self._acl.policy_row(name)
        if row is None:
            raise HttpError(404, "ACL policy not found", index=self._state.table_index("acl_policy"))
        return Response(row, index=row["ModifyIndex"], known_leader=True)

    def put_policy(self, request: Request) -> Response:
        self._managing(request)
        body = request.json()
        if body.get("Name") != request.parts[0]:
            raise HttpError(400, "ACL policy name does not match request path")
        with self._state.write("acl_policy") as index:
            try:
                self._acl.put_policy(body, index)
            except PolicyError as error:
                raise HttpError(400, f"policy 0 invalid: failed to parse rules: {error}") from None
        return Response(content_type="", index=self._state.index)

    def delete_policy(self, request: Request) -> Response:
        self._managing(request)
        with self._state.write("acl_policy"):
            self._acl.delete_policy(request.parts[0])
        return Response(content_type="", index=self._state.index)

    def tokens(self, request: Request) -> Response:
        self._managing(request)
        rows = [_stub(row) for row in self._acl.token_rows()]
        return Response(rows, index=self._state.table_index("acl_token"), known_leader=True)

    def token(self, request: Request) -> Response:
        self._enabled()
        rights, row = self._parts.rights(request), self._acl.token_row(request.parts[0])
        if row is None and not rights.management:
            raise denied()
        if row is None:
            raise HttpError(404, "ACL token not found", index=self._state.table_index("acl_token"))
        if not rights.management and row["SecretID"] != request.token:
            raise denied()
        return Response(row, index=row["ModifyIndex"], known_leader=True)

    def own_token(self, request: Request) -> Response:
        self._parts.rights(request)  # An unknown token is refused.
        return Response(self._acl.own_row(request.token), index=self._state.index)

    def put_token(self, request: Request) -> Response:
        self._managing(request)
        body: Any = request.json()
        if body.get("Type") not in ("client", "management"):
            raise HttpError(400, "token 0 invalid: token type must be client or management")
        with self._state.write("acl_token") as index:
            row = self._acl.new_token(body, index)
        return Response(row, index=self._state.index)

    def delete_token(self, request: Request) -> Response:
        self._managing(request)
        with self._state.write("acl_token"):
            if not self._acl.delete_token(request.parts[0]):
                raise HttpError(400, f"Cannot delete nonexistent tokens: {request.parts[0]}")
        return Response(content_type="", index=self._state.index)


def _stub(row: Json) -> Json:
    return {name: value for name, value in row.items() if name not in ("SecretID", "ExpirationTTL")}
