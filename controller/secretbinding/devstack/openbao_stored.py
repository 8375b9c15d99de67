"""A real OpenBao (or Vault) server that keeps its data on disk, so that it can be stopped and started again with it."""

import json
from pathlib import Path

import urllib3

from secretbinding.devstack.api import Api
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import ManagedProcess, ProcessError, free_ports, wait_until


class StoredOpenBao(OpenBao):
    """As `OpenBao`, KV v2 at `secret/` included; `halt` and `resume` stop and start it with all that it holds.

    The unseal key is kept in memory only. `root_token` is known after `start`.
    """

    def __init__(self, directory: Path, *, program: str | None = None) -> None:
        super().__init__(directory, root_token="", program=program)
        self._unseal_key = ""

    def start(self, *, timeout_seconds: float = 30.0) -> "StoredOpenBao":
        """Start on a free port, initialize and unseal. Raises `ProcessError`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        port, cluster_port = free_ports(2)
        self.address = f"http://127.0.0.1:{port}"
        self.api = Api(self.address)
        configuration = {
            "storage": {"raft": {"path": str(self._directory / "data"), "node_id": "one"}},
            "listener": {"tcp": {"address": f"127.0.0.1:{port}", "tls_disable": True}},
            "api_addr": self.address,
            "cluster_addr": f"http://127.0.0.1:{cluster_port}",
        }
        (self._directory / "data").mkdir()
        (self._directory / "server.json").write_text(json.dumps(configuration, indent=2))
        self._launch(timeout_seconds)
        try:
            answer = self.api.put("/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1}).expect().json()
            self._unseal_key, self.root_token = answer["keys_base64"][0], answer["root_token"]
            self.api = Api(self.address, {"X-Vault-Token": self.root_token})
            self._unseal(timeout_seconds)
            self.api.put("/v1/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}).expect(200, 204)
        except BaseException:
            self.stop()
            raise
        return self

    def halt(self) -> None:
        """Stop the server; nobody answers at its address. What it holds stays on disk."""
        self.stop()

    def resume(self, *, timeout_seconds: float = 30.0) -> None:
        """Start it again at the same address, with what it held, and unseal it. Raises `ProcessError`."""
        self._launch(timeout_seconds)
        self._unseal(timeout_seconds)

    def _launch(self, timeout_seconds: float) -> None:
        argv = [self._program, "server", f"-config={self._directory / 'server.json'}"]
        process = ManagedProcess("openbao", argv, log_path=self.log_path, env={"HOME": str(self._directory)})
        try:
            process.wait_ready(self._answers, timeout_seconds=timeout_seconds)
        except BaseException:
            process.stop()
            raise
        self._process = process

    def _answers(self) -> bool:
        """Sealed or not, it speaks."""
        try:
            self.api.get("/v1/sys/seal-status").expect()
        except (urllib3.exceptions.HTTPError, RuntimeError):
            return False
        return True

    def _unseal(self, timeout_seconds: float) -> None:
        self.api.put("/v1/sys/unseal", {"key": self._unseal_key}).expect()
        try:
            wait_until(lambda: self.api.reachable("/v1/sys/health"), timeout_seconds=timeout_seconds, what="unsealing")
        except TimeoutError as error:
            raise ProcessError(f"openbao: {error}") from error
