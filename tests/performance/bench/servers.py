"""The servers of a measurement, each a process of its own: OpenBao, Nomad or its simulator, a Kubernetes API server."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.devstack.api import Api
from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import ManagedProcess, free_ports
from tests.performance.bench import apiserver
from tests.performance.bench.web import Web
from tests.support.kcp import Kcp
from tests.support.kubeclient import KubernetesApi
from tests.support.rights import controller_tokens
from tests.support.servers import Stack

_DEFINITIONS = Path(__file__).parents[3] / "crds"
BARE = "bare"
"""The instance that the bare client's policies and roles are named for; the controller never sees them."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What runs. `audit` is the file of OpenBao's audit device; `kinds` says of each server what it is."""

    stack: Stack
    kubeconfig: Path
    kubernetes: KubernetesApi
    audit: Path
    kinds: Mapping[str, str]

    def tokens(self, instance: str) -> tuple[str, str]:
        """Tokens of Vault and of Nomad with the rights that `deploy/` gives a controller of that instance."""
        return controller_tokens(self.stack, instance)

    def vault(self, token: str = "") -> Web:
        """A bare client, with every right where no token is given."""
        return Web(self.stack.openbao.address, {"X-Vault-Token": token or self.stack.openbao.root_token})

    def nomad(self, token: str = "") -> Web:
        """A bare client, with every right where no token is given."""
        token = token or self.stack.token
        return Web(self.stack.address, {"X-Nomad-Token": token} if token else {})

    def api(self) -> Web:
        """A bare client of the API server."""
        client = KubernetesClient(KubernetesConnection(kubeconfig=str(self.kubeconfig)))
        credentials = client.credentials()
        authorization = credentials.authorization()
        headers = {"Authorization": authorization} if authorization else {}
        address, tls = credentials.server, credentials.ssl_context()
        client.close()
        return Web(address, headers, tls=tls)


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    """Everything started, on free loopback ports; stopped at the end."""
    audit = directory / "audit.log"
    configuration = f'audit "file" "file" {{\n  options {{\n    file_path = "{audit}"\n  }}\n}}\n'
    with ExitStack() as running:
        vault = running.enter_context(OpenBao(directory / "openbao", configuration=configuration))
        if find_nomad() is not None:
            nomad = running.enter_context(NomadAgent(directory / "nomad", vault_address=vault.address, acl=True))
            stack = Stack(nomad.kind, nomad.address, nomad.api, nomad.token, vault)
        else:
            stack = running.enter_context(_simulator(directory, vault))
        vault.enable_jwt(stack.address)
        kubeconfig = running.enter_context(_kubernetes(directory))
        kubernetes = KubernetesApi(kubeconfig)
        for file in sorted(_DEFINITIONS.glob("nomad-vault.io_*.yaml")):
            kubernetes.define(yaml.safe_load(file.read_text()))
        kinds = {
            "OpenBao": str(vault.api.get("/v1/sys/health").json()["version"]),
            "Nomad": "the simulator (no `nomad` on PATH)"
            if stack.kind == "simulator"
            else str(stack.api.get("/v1/agent/self").json()["config"]["Version"]["Version"]),
            "API server": "kcp" if shutil.which("kcp") else "the small one of the tests (no `kcp` on PATH)",
        }
        yield Servers(stack, kubeconfig, kubernetes, audit, kinds)


@contextmanager
def _simulator(directory: Path, vault: OpenBao) -> Iterator[Stack]:
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "secretbinding.devstack.simulator", "--openbao", vault.address, f"--port={port}"]
    process = _python("simulator", argv, directory)
    try:
        api = Api(address)
        process.wait_ready(lambda: api.reachable("/v1/status/leader"), timeout_seconds=60.0)
        yield Stack("simulator", address, api, "", vault)
    finally:
        process.stop()


@contextmanager
def _kubernetes(directory: Path) -> Iterator[Path]:
    if shutil.which("kcp") is not None:
        (directory / "kcp").mkdir()
        with Kcp(directory / "kcp") as kcp:
            yield kcp.kubeconfig
        return
    kubeconfig = directory / "kubeconfig"
    process = _python("apiserver", [sys.executable, "-m", apiserver.__name__, str(kubeconfig)], directory)
    try:
        process.wait_ready(kubeconfig.exists, timeout_seconds=60.0)
        yield kubeconfig
    finally:
        process.stop()


def _python(name: str, argv: list[str], directory: Path) -> ManagedProcess:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return ManagedProcess(name, argv, log_path=directory / f"{name}.log", env=env, cwd=Path.cwd())
