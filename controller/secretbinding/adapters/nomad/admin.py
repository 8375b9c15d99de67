"""Agents, nodes, ACL policies and tokens of Nomad, as `ops.ports.NomadAdmin` asks for them."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nomad import api

from secretbinding.adapters.nomad.adapter import NomadAdapter
from secretbinding.adapters.nomad.shapes import list_of, mapping, rows_of, strange
from secretbinding.adapters.transport import Call
from secretbinding.adapters.vault.admin import clock_of
from secretbinding.errors import NotFound, Rejected
from secretbinding.ops.ports import AclPolicy, Clock, Issued, Node, NomadAgent, NomadToken, VaultBlock
from secretbinding.ports import Json

_NO_ACLS = "ACL support disabled"
_NO_ACLS_ACCESSOR = "acls-disabled"
_NO_DISCOVERY = "OIDC Discovery endpoint disabled"
_NEEDS_MANAGEMENT = "use a management token"


class NomadAdminAdapter(NomadAdapter):
    """The Nomad adapter with what only `bootstrap` and `doctor` need. See `ops.ports.NomadAdmin`."""

    def measured_clock(self) -> Clock:
        call = Call("leader_read", "read its leader", anonymous=True)
        return clock_of(self._transport, call, "/v1/status/leader", self._region_params())

    def leader(self) -> str:
        call = Call("leader_read", "read its leader", anonymous=True)
        return str(self._send(call, "/v1/status/leader"))

    def agent(self) -> NomadAgent:
        call = _call("agent_read", "read the configuration of its agent", 'agent { policy = "read" }')
        body = mapping(self._asker.api(api.Agent, call).get_agent(), call)
        return _agent(mapping(body.get("config") or {}, call), call)

    def nodes(self) -> Sequence[Node]:
        return self._nodes({})

    def nodes_without(self, attribute: str) -> Sequence[Node]:
        """See `ops.ports.NomadAdmin`. One request: Nomad filters its nodes by an expression (1.3+)."""
        return self._nodes({"filter": f'"{attribute}" not in Attributes'})

    def nodes_with_other(self, attribute: str, value: str) -> Sequence[Node]:
        if not value.isprintable() or '"' in value or "\\" in value:
            raise ValueError(f"{value!r} cannot stand in an expression")
        return self._nodes({"filter": f'"{attribute}" in Attributes and Attributes["{attribute}"] != "{value}"'})

    def signing_keys(self) -> frozenset[str]:
        call = Call("keys_read", "read its signing keys", anonymous=True)
        return key_ids(self._send(call, "/.well-known/jwks.json"), call)

    def issuer(self) -> str | None:
        call = Call("discovery_read", "read its OIDC discovery", anonymous=True, absent=_NO_DISCOVERY)
        try:
            return str(mapping(self._send(call, "/.well-known/openid-configuration"), call).get("issuer", ""))
        except NotFound:
            return None

    def acl_enabled(self) -> bool:
        return self._token_self(Call("acl_read", "read whether it has ACLs", anonymous=True)) is not None

    def own_token(self) -> NomadToken | None:
        return self._token_self(Call("token_read", "look up its own token", grant="give it a token that is valid"))

    def _token_self(self, call: Call) -> NomadToken | None:
        """None without ACLs: Nomad 2.0 answers with a token that says so, others may refuse."""
        try:
            row = mapping(self._asker.api(api.Acl, call).get_self_token(), call)
        except Rejected as refusal:
            if _NO_ACLS in refusal.message:
                return None
            raise
        return None if row.get("AccessorID") == _NO_ACLS_ACCESSOR else _token(row)

    def acl_policies(self) -> Sequence[str]:
        call = Call("acl_policies_list", "list ACL policies", grant=_NEEDS_MANAGEMENT)
        return [str(row.get("Name", "")) for row in rows_of(self._asker.api(api.Acl, call).get_policies(), call)]

    def acl_policy(self, name: str) -> AclPolicy | None:
        call = Call(
            "acl_policy_read", f"read ACL policy {name}", grant=_NEEDS_MANAGEMENT, absent="ACL policy not found"
        )
        try:
            return _policy(mapping(self._asker.api(api.Acl, call).get_policy(quote(name, safe="")), call))
        except NotFound:
            return None

    def write_acl_policy(self, policy: AclPolicy) -> None:
        call = Call("acl_policy_write", f"write ACL policy {policy.name}", grant=_NEEDS_MANAGEMENT)
        body: Json = {"Name": policy.name, "Description": policy.description, "Rules": policy.rules}
        if any(policy.job):
            body["JobACL"] = dict(zip(("Namespace", "JobID", "Group", "Task"), policy.job, strict=True))
        self._asker.api(api.Acl, call).create_policy(quote(policy.name, safe=""), body)

    def acl_tokens(self) -> Sequence[NomadToken]:
        call = Call("acl_tokens_list", "list ACL tokens", grant=_NEEDS_MANAGEMENT)
        return [_token(row) for row in rows_of(self._asker.api(api.Acl, call).get_tokens(), call)]

    def create_token(self, name: str, policies: Sequence[str]) -> Issued:
        """See `ops.ports.NomadAdmin`. Never sent twice: each would make a token."""
        call = Call("acl_token_create", f"make an ACL token {name}", grant=_NEEDS_MANAGEMENT, repeatable=False)
        body = mapping(
            self._asker.api(api.Acl, call).create_token({"Name": name, "Type": "client", "Policies": list(policies)}),
            call,
        )
        if not isinstance(body.get("SecretID"), str):
            raise strange(call)
        return Issued(body["SecretID"], accessor=str(body.get("AccessorID", "")))

    def _nodes(self, params: Mapping[str, Any]) -> Sequence[Node]:
        call = _call("nodes_list", "list nodes", 'node { policy = "read" }')
        rows = rows_of(self._send(call, "/v1/nodes", params), call)
        return [
            Node(
                id=str(row.get("ID", "")),
                name=str(row.get("Name", "")),
                status=str(row.get("Status", "")),
                eligible=row.get("SchedulingEligibility") == "eligible",
                version=str(row.get("Version", "")),
                drain=bool(row.get("Drain")),
            )
            for row in rows
        ]

    def _send(self, call: Call, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._transport.send(call, "GET", path, params={**self._region_params(), **(params or {})}).json()

    def _region_params(self) -> Mapping[str, Any]:
        return {"region": self._connection.region} if self._connection.region else {}


def key_ids(body: Any, call: Call) -> frozenset[str]:
    """The `kid` of each key of a JWKS document."""
    keys = list_of(mapping(body, call).get("keys"), call)
    return frozenset(str(mapping(key, call).get("kid", "")) for key in keys)


def _call(label: str, text: str, rule: str) -> Call:
    return Call(
        label, text, denied=f"the Nomad token may not {text}, which needs `{rule}`", grant=f"add `{rule}` to its policy"
    )


def _agent(config: Mapping[str, Any], call: Call) -> NomadAgent:
    """Of a configuration, which holds secrets of all sorts, only what is named here is kept."""
    version = mapping(config.get("Version") or {}, call)
    server, client = mapping(config.get("Server") or {}, call), mapping(config.get("Client") or {}, call)
    vaults = rows_of(config.get("Vaults") or [], call)
    if not vaults and isinstance(config.get("Vault"), Mapping):  # Nomad before 1.7 has one.
        vaults = [mapping(config["Vault"], call)]
    prerelease = str(version.get("VersionPrerelease") or "")
    return NomadAgent(
        version="-".join(part for part in (str(version.get("Version", "")), prerelease) if part),
        is_server=bool(server.get("Enabled")),
        is_client=bool(client.get("Enabled")),
        acl_enabled=bool(mapping(config.get("ACL") or {}, call).get("Enabled")),
        tls_http=bool(mapping(config.get("TLSConfig") or {}, call).get("EnableHTTP")),
        region=str(config.get("Region", "")),
        vaults=tuple(_vault_block(row) for row in vaults),
        oidc_issuer=str(server.get("OIDCIssuer") or ""),
    )


def _vault_block(row: Mapping[str, Any]) -> VaultBlock:
    identity = row.get("DefaultIdentity")
    audiences = identity.get("Audience") if isinstance(identity, Mapping) else None
    return VaultBlock(
        name=str(row.get("Name") or "default"),
        enabled=bool(row.get("Enabled")),
        address=str(row.get("Addr") or ""),
        jwt_mount=str(row.get("JWTAuthBackendPath") or ""),
        namespace=str(row.get("Namespace") or ""),
        role=str(row.get("Role") or ""),
        has_token=bool(row.get("Token")),
        identity_audiences=tuple(map(str, audiences or ())) if isinstance(identity, Mapping) else None,
    )


def _policy(row: Mapping[str, Any]) -> AclPolicy:
    job = row.get("JobACL") or {}
    parsed = row.get("RulesJSON")
    return AclPolicy(
        name=str(row.get("Name", "")),
        rules=str(row.get("Rules", "")),
        description=str(row.get("Description") or ""),
        parsed=dict(parsed) if isinstance(parsed, Mapping) else {},
        job=(
            str(job.get("Namespace") or ""),
            str(job.get("JobID") or ""),
            str(job.get("Group") or ""),
            str(job.get("Task") or ""),
        ),
    )


def _token(row: Mapping[str, Any]) -> NomadToken:
    roles = row.get("Roles") or ()
    return NomadToken(
        accessor=str(row.get("AccessorID", "")),
        name=str(row.get("Name") or ""),
        type=str(row.get("Type", "")),
        policies=tuple(map(str, row.get("Policies") or ())),
        roles=tuple(str(role.get("Name") or role.get("ID")) for role in roles if isinstance(role, Mapping)),
        expires=str(row.get("ExpirationTime") or ""),
    )
