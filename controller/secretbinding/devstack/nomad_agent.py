"""A real Nomad agent, server and client in one, with further clients beside it, on loopback, for demo and tests."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import urllib3

from secretbinding.devstack import nomad_guard
from secretbinding.devstack.api import Api, ApiError, quoted
from secretbinding.devstack.openbao import JWT_MOUNT
from secretbinding.devstack.processes import ManagedProcess, ProcessError, free_ports, wait_until

_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux (unix(7), sun_path)."""

_NO_FINGERPRINT = ("env_aws", "env_gce", "env_azure", "env_digitalocean", "cni")
"""Cloud metadata addresses are not there to be asked; asking delays the start by seconds. Nor is Consul, mostly."""


def find_nomad() -> str | None:
    """The program `nomad` on PATH."""
    return shutil.which("nomad")


class NomadAgent:
    """A running agent. Its state survives `restart`, not `stop`.

    Attributes:
        address: `http://127.0.0.1:<port>`; the same after a restart.
        token: the management token when ACLs are enabled, else empty.
        api: requests with that token.
    """

    kind = "nomad"
    region = "global"

    def __init__(
        self,
        directory: Path,
        *,
        vault_address: str,
        acl: bool = False,
        program: str | None = None,
        template_poll_seconds: float | None = None,
        vault_attempts: int | None = None,
        consul_address: str = "",
    ) -> None:
        """`template_poll_seconds` is how often an allocation reads the secrets of templates that are not `Once` where
        they have no lease (the client's `template.vault_default_lease_duration`); Nomad's own 300 s with None.
        `vault_attempts` is how often it tries to read one before it gives up (`template.vault_retry.attempts`, 0 for
        without end); Nomad's own 12 with None. At `consul_address`, `host:port`, there is a Consul that takes the
        identities of tasks and services; "" for none."""
        found = program or find_nomad()
        if found is None:
            raise ProcessError("no `nomad` on PATH: use the simulator, or install Nomad")
        self._program = found
        self._directory = directory
        self._vault_address = vault_address
        self._acl = acl
        self._template_poll_seconds = template_poll_seconds
        self._vault_attempts = vault_attempts
        self._consul_address = consul_address
        self._rpc = 0
        self._nodes: list[ManagedProcess] = []
        self.token = ""
        self.address = ""
        self.api = Api("")
        self._process: ManagedProcess | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._client = False
        self._temporary: Path | None = None

    @property
    def log_path(self) -> Path:
        return self._directory / "nomad.log"

    @property
    def data_dir(self) -> Path:
        return self._directory / "data"

    def start(self, *, timeout_seconds: float = 60.0) -> "NomadAgent":
        """Start on free ports and wait until the node is ready and eligible. Raises `ProcessError`."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._temporary = self._make_temporary()
        self._guard = subprocess.Popen(
            [sys.executable, "-m", nomad_guard.__name__, str(self._directory)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        for attempt in range(3):
            http, rpc, serf = free_ports(3)
            self.address = f"http://127.0.0.1:{http}"
            self.api = Api(self.address)
            try:
                # A client that registers before the server has made its keyring waits 15 s before it tries again.
                # So the server runs alone until it serves its keys.
                self._write_config(http, rpc, serf, client=False)
                self._run(timeout_seconds)
                self._write_config(http, rpc, serf, client=True)
                self.restart(timeout_seconds=timeout_seconds)
            except ProcessError:
                if attempt == 2:
                    raise
                # A server that is to have other ports would meet itself there, by its ID, at the old ones.
                shutil.rmtree(self.data_dir, ignore_errors=True)
                self.data_dir.mkdir(parents=True, exist_ok=True)
                self.token = ""
            else:
                break
        return self

    def add_nodes(self, names: Sequence[str], *, timeout_seconds: float = 60.0) -> None:
        """Start further clients of that name, and wait until they are ready. Raises `ProcessError`."""
        for name in names:
            directory = self._directory / name
            (directory / "data").mkdir(parents=True)
            (http,) = free_ports(1)
            config = {
                "name": name,
                "data_dir": str(directory / "data"),
                "ports": {"http": http},
                "server": {"enabled": False},
                "client": {**self._client_config(), "servers": [f"127.0.0.1:{self._rpc}"]},
                "acl": {"enabled": self._acl},
                **self._common_config(),
            }
            path = directory / "nomad.json"
            path.write_text(json.dumps(config, indent=2))
            argv = [self._program, "agent", f"-config={path}"]
            log = directory / "nomad.log"
            self._nodes.append(ManagedProcess(name, argv, log_path=log, env=self._env(), cwd=directory))
        for node in self._nodes:
            node.wait_ready(lambda: self._ready_nodes() > len(self._nodes), timeout_seconds=timeout_seconds)

    def restart(self, *, timeout_seconds: float = 60.0) -> None:
        """Kill the agent without warning and start it again with the same data; tasks go on meanwhile."""
        if self._process is None:
            raise ProcessError("the Nomad agent is not running")
        self._process.kill()
        self._run(timeout_seconds)

    def stop(self) -> None:
        """Purge all jobs, wait for their tasks to end, stop the agent, and leave nothing behind."""
        if self._process is not None:
            if self._process.running:
                with contextlib.suppress(ApiError, TimeoutError, urllib3.exceptions.HTTPError):
                    self._purge_jobs()
            for node in self._nodes:
                node.stop(grace_seconds=15.0)
            self._nodes = []
            self._process.stop(grace_seconds=15.0)
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None

    def __enter__(self) -> "NomadAgent":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_config(self, http: int, rpc: int, serf: int, *, client: bool) -> None:
        self._client = client
        self._rpc = rpc
        config: dict[str, Any] = {
            "data_dir": str(self.data_dir),
            "ports": {"http": http, "rpc": rpc, "serf": serf},
            "server": {"enabled": True, "bootstrap_expect": 1, "raft_multiplier": 1},
            "client": {**self._client_config(), "enabled": client},
            "acl": {"enabled": self._acl},
            **self._common_config(),
        }
        (self._directory / "nomad.json").write_text(json.dumps(config, indent=2))

    def _client_config(self) -> dict[str, Any]:
        absent = _NO_FINGERPRINT if self._consul_address else (*_NO_FINGERPRINT, "consul")
        config: dict[str, Any] = {
            "enabled": True,
            "options": {"fingerprint.denylist": ",".join(absent), "driver.allowlist": "raw_exec,exec,mock_driver"},
            "gc_interval": "1h",
            # Ports of tasks are on loopback as well.
            "network_interface": "lo",
        }
        template: dict[str, Any] = {}
        if self._vault_attempts is not None:
            template["vault_retry"] = {"attempts": self._vault_attempts}
        if self._template_poll_seconds is not None:
            # Each answer counts as a change, whatever is in it, and a template is rendered when there was none for the
            # least wait: it has to be shorter than the time between two reads.
            template["vault_default_lease_duration"] = f"{int(self._template_poll_seconds * 1000)}ms"
            template["wait"] = {"min": "100ms", "max": "500ms"}
        if template:
            config["template"] = template
        return config

    def _common_config(self) -> dict[str, Any]:
        """What servers and clients have alike."""
        identity = {"aud": ["consul.io"], "ttl": "1h"}
        consul = {
            "address": self._consul_address,
            "auto_advertise": False,
            "server_auto_join": False,
            "client_auto_join": False,
            "service_identity": identity,
            "task_identity": identity,
        }
        return {
            **({"consul": consul} if self._consul_address else {}),
            "bind_addr": "127.0.0.1",
            "advertise": {"http": "127.0.0.1", "rpc": "127.0.0.1", "serf": "127.0.0.1"},
            "plugin": [{"raw_exec": [{"config": [{"enabled": True}]}]}],
            "vault": {"enabled": True, "address": self._vault_address, "jwt_auth_backend_path": JWT_MOUNT},
            "ui": {"enabled": False},
            "disable_update_check": True,
            "limits": {"http_max_conns_per_client": 0, "rpc_max_conns_per_client": 0},
        }

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self._directory), "TMPDIR": str(self._temporary)}

    def _make_temporary(self) -> Path:
        """Where the agent's plugins make their sockets, which they leave behind when they are killed. In the agent's
        directory, unless a socket's path would get too long there."""
        inside = self._directory / "tmp"
        if len(os.fsencode(inside / "plugin0123456789")) > _SOCKET_PATH_BYTES:
            return Path(tempfile.mkdtemp(prefix="secretbinding-nomad-"))
        inside.mkdir(exist_ok=True)
        return inside

    def _run(self, timeout_seconds: float) -> None:
        argv = [self._program, "agent", f"-config={self._directory / 'nomad.json'}"]
        process = ManagedProcess("nomad", argv, log_path=self.log_path, env=self._env(), cwd=self._directory)
        try:
            process.wait_ready(self._keys_served, timeout_seconds=timeout_seconds)
            self._bootstrap(timeout_seconds)
            if self._client:
                process.wait_ready(lambda: self._ready_nodes() > 0, timeout_seconds=timeout_seconds)
        except BaseException:
            process.stop()
            raise
        self._process = process

    def _bootstrap(self, timeout_seconds: float) -> None:
        if not self._acl or self.token:
            return
        secret = str(uuid.uuid4())

        def bootstrapped() -> bool:
            return self.api.put("/v1/acl/bootstrap", {"BootstrapSecret": secret}).status == 200

        try:
            wait_until(bootstrapped, timeout_seconds=timeout_seconds, what="the ACL bootstrap")
        except TimeoutError as error:
            raise ProcessError(str(error)) from error
        self.token = secret
        self.api = Api(self.address, {"X-Nomad-Token": secret})

    def _keys_served(self) -> bool:
        try:
            answer = self.api.get("/.well-known/jwks.json")
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200 and bool(answer.json()["keys"])

    def _ready_nodes(self) -> int:
        """How many nodes take allocations."""
        try:
            answer = self.api.get("/v1/nodes")
        except urllib3.exceptions.HTTPError:
            return 0
        if answer.status != 200:
            return 0
        return sum(node["Status"] == "ready" and node["SchedulingEligibility"] == "eligible" for node in answer.json())

    def _purge_jobs(self) -> None:
        for job in self.api.get("/v1/jobs", namespace="*").expect(200).json():
            self.api.delete(f"/v1/job/{quoted(job['ID'])}", purge="true", namespace=job["Namespace"])

        def none_left() -> bool:
            allocations = self.api.get("/v1/allocations", namespace="*").expect(200).json()
            return not any(one["ClientStatus"] in ("running", "pending") for one in allocations)

        wait_until(none_left, timeout_seconds=15.0, what="the end of all allocations")
        self.api.put("/v1/system/gc")
