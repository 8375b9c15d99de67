"""What a Nomad client asks of Vault for a task: log in with a JWT, read secrets, renew their leases and the token."""

import json
from dataclasses import dataclass

import urllib3

from secretbinding.devstack.simulator.template import Dependency, Secret, load_json, secret_of


class VaultError(Exception):
    """Vault refused (`status` is its HTTP status) or did not answer (`status` 0). The text never holds a token."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

    @property
    def recoverable(self) -> bool:
        """Whether Nomad's client tries again: no answer, or a server error."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True, slots=True)
class Login:
    token: str
    lease_seconds: int
    renewable: bool


class VaultClient:
    """Thread-safe. `address` is OpenBao's or Vault's."""

    def __init__(self, address: str, mount: str) -> None:
        self._address = address.rstrip("/")
        self._mount = mount
        self._seen: dict[str, str] = {}
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=30.0)

    def block(self) -> dict[str, object]:
        """The `vault` block of the agent's configuration, as `/v1/agent/self` shows it."""
        empty = {"Namespace": "", "Role": "", "Token": "", "DefaultIdentity": None}
        return {"Name": "default", "Enabled": True, "Addr": self._address, "JWTAuthBackendPath": self._mount, **empty}

    def attributes(self) -> dict[str, str]:
        """What a node's fingerprint says of Vault; empty until it has answered once, and the same ever after (Nomad
        1.9.6+ asks no more then)."""
        if not self._seen:
            try:
                body = json.loads(self._call("GET", "/v1/sys/seal-status", None, ""))
            except VaultError:
                return {}
            named = {"vault.version": "version", "vault.cluster_id": "cluster_id", "vault.cluster_name": "cluster_name"}
            found = {name: str(body.get(field, "")) for name, field in named.items()}
            self._seen = {"vault.accessible": "true", **found}
        return self._seen

    def login(self, role: str, token: str) -> Login:
        """Log in at the JWT mount. Raises `VaultError`."""
        path = f"/v1/auth/{self._mount}/login"
        try:
            auth = json.loads(self._call("PUT", path, {"role": role, "jwt": token}, ""))["auth"]
        except VaultError as error:
            raise VaultError(f"failed to login with JWT: {error}", error.status) from None
        return Login(str(auth["client_token"]), int(auth["lease_duration"]), bool(auth["renewable"]))

    def fetch(self, asked: Dependency, token: str) -> Secret:
        """What a template asks for, as consul-template does; KV v2 paths have `data/` in them, a version as a query.

        Raises `VaultError`, also where there is nothing, or only a deleted version.
        """
        body = load_json(self._ask(asked, token) or "{}")
        data = body.get("data")
        if data is None or (isinstance(data, dict) and "metadata" in data and data.get("data", "") is None):
            raise VaultError(f"no secret exists at {asked.path}", 404)
        return secret_of(body)

    def _ask(self, asked: Dependency, token: str) -> str:
        if asked.writes or asked.certificate:
            return self._call("PUT", f"/v1/{asked.path}", dict(asked.arguments), token)
        try:
            return self._call("GET", f"/v1/{asked.path}", None, token)
        except VaultError as error:
            if error.status == 404:
                raise VaultError(f"no secret exists at {asked.path}", 404) from None
            raise

    def renew_lease(self, lease: str, token: str) -> int:
        """Renew a secret's lease; how long it lives from now on, in seconds. Raises `VaultError`."""
        answer = json.loads(self._call("PUT", "/v1/sys/leases/renew", {"lease_id": lease}, token))
        return int(answer["lease_duration"])

    def renew(self, token: str) -> int:
        """Renew the token itself; the new lease in seconds. Raises `VaultError`."""
        auth = json.loads(self._call("PUT", "/v1/auth/token/renew-self", {}, token))["auth"]
        return int(auth["lease_duration"])

    def _call(self, method: str, path: str, body: object, token: str) -> str:
        headers = {"X-Vault-Token": token} if token else {}
        data = None if body is None else json.dumps(body)
        try:
            response = self._pool.request(method, self._address + path, body=data, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise VaultError(f"{method} {self._address}{path}: {type(error).__name__}", 0) from None
        text = response.data.decode("utf-8", "replace")
        if response.status >= 300:
            raise VaultError(_refusal(method, self._address + path, response.status, text), response.status)
        return text


def _refusal(method: str, url: str, status: int, text: str) -> str:
    """The text that Vault's own client library makes of a refusal."""
    try:
        errors = json.loads(text).get("errors") or []
    except (ValueError, AttributeError):
        errors = []
    lines = "".join(f"\n* {one}" for one in errors)
    return f"Error making API request.\n\nURL: {method} {url}\nCode: {status}. Errors:\n{lines}"
