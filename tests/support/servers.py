"""Fixtures for servers, to be shared by all tests: OpenBao, the Nomad simulator, a real Nomad.

Servers live as long as the test session (each xdist worker has its own). Tests keep apart by job IDs, variable paths,
secret paths and role names of their own: the fixture `unique` gives such a name.
"""

import itertools
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from secretbinding.devstack.api import Api
from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator

_NO_NOMAD = "no `nomad` on PATH: what is tested on the simulator is not compared with a real Nomad"


@dataclass(frozen=True, slots=True)
class Stack:
    """A Nomad of some kind, joined to an OpenBao of its own at the JWT mount `jwt-nomad`.

    Attributes:
        kind: `simulator` or `nomad`.
        address: Nomad's `http://127.0.0.1:<port>`.
        api: requests to it, with the management token when it has ACLs.
        token: that token, empty without ACLs.
        openbao: the OpenBao that its tasks log in to; `openbao.address`, `openbao.root_token`.
        region: always `global`.
    """

    kind: str
    address: str
    api: Api
    token: str
    openbao: OpenBao
    region: str = "global"


def _stack(server: Simulator | NomadAgent, openbao: OpenBao) -> Stack:
    openbao.enable_jwt(server.address)
    return Stack(server.kind, server.address, server.api, server.token, openbao, server.region)


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A real OpenBao in dev mode, KV v2 at `secret/`; the simulator's tasks log in to it."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(scope="session")
def simulator(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The simulator, with ACLs."""
    with Simulator(tmp_path_factory.mktemp("simulator"), vault_address=openbao.address, acl=True) as server:
        yield _stack(server, openbao)


@pytest.fixture(scope="session")
def real_nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Nomad agent with ACLs and an OpenBao of its own; skips visibly where there is no Nomad."""
    if find_nomad() is None:
        pytest.skip(_NO_NOMAD)
    with (
        OpenBao(tmp_path_factory.mktemp("openbao-of-nomad")) as vault,
        NomadAgent(tmp_path_factory.mktemp("nomad"), vault_address=vault.address, acl=True) as server,
    ):
        yield _stack(server, vault)


@pytest.fixture(scope="session")
def open_simulator(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As `open_stack`, simulated."""
    with Simulator(tmp_path_factory.mktemp("open"), vault_address=openbao.address) as server:
        yield Stack(server.kind, server.address, server.api, server.token, openbao, server.region)


@pytest.fixture(scope="session")
def open_nomad(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As `open_stack`, real; skips visibly where there is no Nomad."""
    if find_nomad() is None:
        pytest.skip(_NO_NOMAD)
    with NomadAgent(tmp_path_factory.mktemp("open-nomad"), vault_address=openbao.address) as server:
        yield Stack(server.kind, server.address, server.api, server.token, openbao, server.region)


FURTHER_NODES = ("second", "third")
TEMPLATE_POLL_SECONDS = 2.0


@pytest.fixture(scope="session")
def cluster_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As `cluster`, simulated."""
    with (
        OpenBao(tmp_path_factory.mktemp("openbao-of-cluster")) as vault,
        Simulator(
            tmp_path_factory.mktemp("cluster"),
            vault_address=vault.address,
            template_poll_seconds=TEMPLATE_POLL_SECONDS,
            acl=True,
        ) as server,
    ):
        server.add_nodes(FURTHER_NODES)
        yield _stack(server, vault)


@pytest.fixture(scope="session")
def cluster_nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As `cluster`, real; skips visibly where there is no Nomad."""
    if find_nomad() is None:
        pytest.skip(_NO_NOMAD)
    with (
        OpenBao(tmp_path_factory.mktemp("openbao-of-nomad-cluster")) as vault,
        NomadAgent(
            tmp_path_factory.mktemp("nomad-cluster"),
            vault_address=vault.address,
            template_poll_seconds=TEMPLATE_POLL_SECONDS,
            acl=True,
        ) as server,
    ):
        server.add_nodes(FURTHER_NODES)
        yield _stack(server, vault)


_BOTH_CLUSTERS = (
    pytest.param("cluster_simulator"),
    pytest.param("cluster_nomad", marks=pytest.mark.real_nomad),
)
_BOTH_OPEN = (
    pytest.param("open_simulator", marks=pytest.mark.xdist_group("open")),
    pytest.param("open_nomad", marks=[pytest.mark.real_nomad, pytest.mark.xdist_group("open")]),
)
_BOTH = (pytest.param("simulator"), pytest.param("real_nomad", marks=pytest.mark.real_nomad))


@pytest.fixture(scope="session", params=_BOTH)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Every test that uses it runs twice: on the simulator and on a real Nomad."""
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=_BOTH_CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> Stack:
    """Three nodes, and templates that poll every two seconds. Tests that use it belong into one xdist group, so that
    few workers start it; whoever drains a node gives it back."""
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=_BOTH_OPEN)
def open_stack(request: pytest.FixtureRequest) -> Stack:
    """A Nomad without ACLs, whose tasks cannot log in to Vault."""
    found: Stack = request.getfixturevalue(request.param)
    return found


_COUNTER = itertools.count(1)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, of lower-case letters, digits and dashes."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "w")
    return f"t{next(_COUNTER)}-{worker}-{uuid.uuid4().hex[:6]}"
