"""Servers of one's own for the adapters' tests: OpenBao, and Nomad with its access control switched on."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.devstack.nomad_agent import NomadAgent
from secretbinding.devstack.openbao import OpenBao


@pytest.fixture(scope="package")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A server that only these tests use: they seal it, and count what it lists."""
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        server.api.put("/v1/sys/auth/jwt-nomad", {"type": "jwt"}).expect(204)
        yield server


@pytest.fixture
def vault(bao: OpenBao) -> Iterator[VaultAdapter]:
    adapter = VaultAdapter(VaultConnection(address=bao.address, token=bao.root_token))
    yield adapter
    adapter.close()


@pytest.fixture(scope="package")
def agent(bao: OpenBao) -> Iterator[NomadAgent]:
    """A real Nomad agent with ACLs, in a directory whose path is short enough for the socket of a task (107 bytes)."""
    if shutil.which("nomad") is None:
        pytest.skip("no nomad on PATH")
    with (
        tempfile.TemporaryDirectory(prefix="nomad-", ignore_cleanup_errors=True) as directory,
        NomadAgent(Path(directory), vault_address=bao.address, acl=True) as server,
    ):
        yield server


@pytest.fixture
def nomad(agent: NomadAgent) -> Iterator[NomadAdapter]:
    adapter = NomadAdapter(NomadConnection(address=agent.address, token=agent.token))
    yield adapter
    adapter.close()


@pytest.fixture
def job_file() -> Path:
    return Path(__file__).with_name("sleeper.nomad.hcl")
