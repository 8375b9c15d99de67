"""Which error an answer of Vault or OpenBao is."""

import json

from secretbinding.adapters.transport import Call, unexpected
from secretbinding.errors import Denied, NotFound, Rejected, ServiceError, Unavailable, VaultSealed

NO_ROUTE = "no handler for route"
"""What Vault's 404 says when nothing is mounted at the path; any other 404 means that the thing is not there."""

OTHER_ENGINE = "unsupported path"
"""What an engine's 404 says of a path that engines of its kind do not have."""
PKI_ISSUER_READ = "pki_issuer_read"
ENGINE_ROLE_WRITE = "engine_role_write"
KV_PATCH = "kv_patch"
PASSWORD_ROTATIONS = ("static_role_rotate", "database_root_rotate")
_NO_CONNECTION = "failed to find entry for connection with name"
"""What a database engine says, with HTTP 500, of a connection that is not there."""
_NO_ISSUER = ("unable to find PKI issuer for reference", "no default issuer currently configured")
"""What a PKI engine says, with HTTP 500, of an issuer that is not there."""


def judge(call: Call, status: int, text: str) -> ServiceError:
    """The error for a Vault answer with the given status and body (`{"errors": [...]}`)."""
    said = _errors(text)
    says = f"; Vault says: {said}" if said else ""
    about = {"system": "vault", "operation": call.text}
    if status in (401, 403):
        return Denied(
            call.denied or f"the Vault token may not {call.text}",
            **about,
            status=status,
            remedy=f"{call.grant or 'extend its policy'}, or check that the token has not expired",
        )
    if status == 404:
        if "namespace not found" in said:
            return Rejected(
                f"Vault has no such namespace, so it cannot {call.text}",
                **about,
                status=status,
                remedy="check VAULT_NAMESPACE",
            )
        # To a patch of what is not there Vault answers without a word.
        wordless = call.label == KV_PATCH and not text
        if not (wordless or _is_vaults(text)) or (NO_ROUTE in said and call.label.startswith("policy_")):
            return unexpected("vault", call, "a 404 that is not Vault's own")
        return NotFound(f"Vault does not have what it takes to {call.text}{says}", **about, status=status)
    if status == 503 and ("sealed" in said or "not initialized" in said):
        return VaultSealed(
            f"Vault is sealed or not initialized, so it cannot {call.text}",
            **about,
            status=status,
            remedy="unseal it (vault operator unseal); nothing is lost meanwhile",
        )
    if call.label == PKI_ISSUER_READ and any(text in said for text in _NO_ISSUER):
        return NotFound(f"Vault does not have what it takes to {call.text}{says}", **about, status=status)
    if call.label == ENGINE_ROLE_WRITE and status == 500:
        # A database's own words may repeat a statement, and with it a password.
        says = says if _NO_CONNECTION in said else ""
        return Rejected(
            f"Vault refused to {call.text} (HTTP {status}){says}",
            **about,
            status=status,
            remedy="correct the role in the binding, or see Vault's log",
        )
    if call.label in PASSWORD_ROTATIONS and status == 500:
        # Here, too; of a connection that is not there Vault says so itself.
        kept = _NO_CONNECTION in said
        says = says if kept else ""
        remedy = "mend rotateRoot" if kept else "see Vault's log; Vault itself may try again meanwhile"
        return Rejected(f"Vault could not {call.text} (HTTP {status}){says}", **about, status=status, remedy=remedy)
    if status == 429:
        return Unavailable(
            f"Vault has too many requests to {call.text}", **about, status=status, remedy="raise its rate limit quota"
        )
    if status == 412 or status >= 500:
        return Unavailable(
            f"Vault cannot {call.text} now (HTTP {status}){says}", **about, status=status, remedy="see Vault's log"
        )
    if status == 400 and "HTTP request to an HTTPS server" in text:
        return Rejected("Vault speaks TLS at this address", **about, status=status, remedy="use https:// in VAULT_ADDR")
    return Rejected(f"Vault refused to {call.text} (HTTP {status}){says}", **about, status=status)


def _errors(text: str) -> str:
    try:
        errors = json.loads(text)["errors"]
        return "; ".join(str(error).strip() for error in errors)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _is_vaults(text: str) -> bool:
    """Whether a 404's body has Vault's shape: `errors`, or `data` (a deleted version's metadata)."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and ("errors" in body or "data" in body)
