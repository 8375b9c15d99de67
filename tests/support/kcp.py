"""Starts a real Kubernetes API server for tests: kcp, when it is on PATH."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
import yaml

from tests.support.kubeclient import KubernetesApi

START_SECONDS = 90.0
_STOP_SECONDS = 15.0


class Kcp:
    """One kcp process with its data in `directory`, on free loopback ports; a context manager.

    `kubeconfig` is a file for kubectl, lightkube and kopf, with full rights in the root workspace.
    """

    def __init__(self, directory: Path, binary: str | None = None) -> None:
        found = binary or shutil.which("kcp")
        if found is None:
            raise FileNotFoundError("no `kcp` on PATH")
        self.kubeconfig = directory / "kubeconfig"
        self._binary = found
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until the server is ready; raises RuntimeError with the end of its log if it is not."""
        port, client_port, peer_port = free_ports(3)
        root = self._directory / "root"
        address = f"https://127.0.0.1:{port}"
        command = [
            self._binary,
            "start",
            f"--root-directory={root}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--batteries-included=admin",
            f"--shard-base-url={address}",
            f"--embedded-etcd-client-port={client_port}",
            f"--embedded-etcd-peer-port={peer_port}",
        ]
        with (self._directory / "kcp.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_ready(root / "admin.kubeconfig")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _wait_until_ready(self, admin: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if admin.exists() and self._take_over(admin) and is_ready(self.kubeconfig):
                return
            time.sleep(0.1)
        log = (self._directory / "kcp.log").read_text(errors="replace").splitlines()[-15:]
        raise RuntimeError("kcp did not become ready:\n" + "\n".join(log))

    def _take_over(self, admin: Path) -> bool:
        """Write the root context of kcp's own kubeconfig alone, without the contexts of its other workspaces."""
        config = yaml.safe_load(admin.read_text())
        if not config:
            return False
        context = next(entry for entry in config["contexts"] if entry["name"] == "root")
        config |= {
            "contexts": [context],
            "clusters": [entry for entry in config["clusters"] if entry["name"] == context["context"]["cluster"]],
            "users": [entry for entry in config["users"] if entry["name"] == context["context"]["user"]],
            "current-context": "root",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return True


def is_ready(kubeconfig: Path) -> bool:
    """True when the server of this kubeconfig says it is ready and serves namespaces."""
    try:
        api = KubernetesApi(kubeconfig)
        return api.request("GET", "/readyz").ok and api.request("GET", "/api/v1/namespaces/default").ok
    except requests.RequestException:
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
