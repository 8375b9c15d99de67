"""An empty OpenBao and an empty Nomad are set up by `bootstrap`; then the controller runs with what that made, and
nothing else."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from secretbinding.devstack.api import Answer
from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from secretbinding.settings import Settings
from tests.chart.rendering import env
from tests.support.commandline import CommandLine, Ran, cli
from tests.support.servers import Stack
from tests.support.tokenreview import account_token, token_reviews
from tests.support.world import World, a_job, a_manifest, wait_until

__all__ = ["cli"]

_KINDS = (pytest.param("simulator"), pytest.param("nomad", marks=pytest.mark.real_nomad))


@contextmanager
def _empty(kind: str, directory: Path) -> Iterator[Stack]:
    """A Nomad with ACLs and an OpenBao that know nothing of each other but the address."""
    if kind == "nomad" and find_nomad() is None:
        pytest.skip("no `nomad` on PATH: what is tested on the simulator is not compared with a real Nomad")
    made = NomadAgent if kind == "nomad" else Simulator
    with (
        OpenBao(directory / "openbao") as vault,
        made(directory / "nomad", vault_address=vault.address, acl=True) as server,
    ):
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


@pytest.fixture(scope="module", params=_KINDS)
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with _empty(request.param, tmp_path_factory.mktemp("empty")) as stack:
        yield stack


@pytest.fixture(scope="module")
def empty_nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with _empty("nomad", tmp_path_factory.mktemp("empty-nomad")) as stack:
        yield stack


def text_under(ran: Ran, title: str) -> str:
    """The text to paste below a title."""
    found = re.search(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", ran.out, re.MULTILINE | re.DOTALL)
    assert found is not None, f"nothing is printed under {title!r}"
    return found[1]


def is_injected(world: World, name: str) -> None:
    """A secret reaches a job, end to end."""
    world.secret(name, username="app", password="one")
    world.register(a_job(name))
    world.bind(a_manifest(name, name, name))
    world.await_reason(name, Reason.READY, timeout=90)
    wait_until("the task has it", lambda: world.seen(name) == ["app one"])


def test_the_controller_runs_with_exactly_what_bootstrap_made(
    cli: CommandLine, empty: Stack, tmp_path: Path, unique: str
) -> None:
    cli.use(empty, SECRETBINDING_INSTANCE=f"i{unique}"[:20].rstrip("-"))
    kept = tmp_path / "credentials"
    ran = cli("bootstrap", "--credentials", str(kept))
    assert ran.code == 0, ran.err
    tokens = {path.name: path.read_text() for path in kept.iterdir()}
    assert set(tokens) == {"vault-token", "nomad-token"}
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    assert not any(token in ran.out + ran.err for token in tokens.values())
    again = cli("bootstrap", "--credentials", str(kept), "--dry-run", "--detailed-exitcode")
    assert (again.code, [line for line in again.out.splitlines() if line[0] not in "="]) == (0, [])
    assert {path.name: path.read_text() for path in kept.iterdir()} == tokens
    world = World(
        empty,
        instance=f"i{unique}"[:20].rstrip("-"),
        vault_token=tokens["vault-token"],
        nomad_token=tokens["nomad-token"],
    )
    with world.running():
        is_injected(world, unique)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)


@pytest.mark.real_nomad
def test_as_a_nomad_job_the_controller_has_a_workload_identity_for_both_servers(
    cli: CommandLine, empty_nomad: Stack, unique: str
) -> None:
    instance = f"j{unique}"[:20].rstrip("-")
    cli.use(empty_nomad, SECRETBINDING_INSTANCE=instance)
    program = Path(sys.executable).with_name("secretbinding")
    ran = cli("bootstrap", "--login", "nomad", "--job", unique, "--driver", "raw_exec", "--command", str(program))
    assert ran.code == 0, ran.err
    text = text_under(ran, "The controller as a Nomad job")
    job = empty_nomad.api.put("/v1/jobs/parse", {"JobHCL": text, "Canonicalize": True}).expect().json()
    task = job["TaskGroups"][0]["Tasks"][0]
    # Where this very code is, and its pace: nothing that a right comes from.
    task["Env"] |= {
        "PYTHONPATH": ":".join(sys.path),
        "SECRETBINDING_PROGRESS_SECONDS": "0.3",
        "SECRETBINDING_TENANCY": "open",
    }
    world = World(empty_nomad, instance=instance)
    world.register(job)
    try:
        wait_until("the controller runs", lambda: len(world.running_allocations(unique)) == 1, 60)
        is_injected(world, f"{unique}-app")
        wait_until("its own checks have passed", lambda: world.deployment(unique)["Status"] == "successful", 60)
    finally:
        empty_nomad.api.delete(f"/v1/job/{unique}", purge="true")


def logged_in(cli: CommandLine, stack: Stack, instance: str, variables: Mapping[str, str], nomad_token: Path) -> World:
    """A controller that logs in to Vault as the printed variables say, and has no token for it."""
    cli.delenv("VAULT_TOKEN")
    cli.setenv(**{name: value for name, value in variables.items() if name.startswith("SECRETBINDING_VAULT_LOGIN")})
    world = World(stack, instance=instance, nomad_token=nomad_token.read_text())
    world.settings.vault = Settings().vault
    assert not world.settings.vault.token.get_secret_value()
    return world


def test_with_an_approle_the_controller_opens_its_secret_id_and_logs_in(
    cli: CommandLine, empty: Stack, tmp_path: Path, unique: str
) -> None:
    instance = f"a{unique}"[:20].rstrip("-")
    cli.use(empty, SECRETBINDING_INSTANCE=instance)
    kept = tmp_path / "credentials"
    ran = cli("bootstrap", "--login", "approle", "--credentials", str(kept), "--wrap", "5m")
    assert ran.code == 0, ran.err
    printed = dict(re.findall(r"^export (\w+)=(\S+)$", text_under(ran, "The controller on a host"), re.MULTILINE))
    world = logged_in(cli, empty, instance, printed, kept / "nomad-token")
    with world.running():
        is_injected(world, unique)


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and CA of something that answers as a Kubernetes API server does."""
    with token_reviews(tmp_path) as found:
        yield found


def test_with_kubernetes_auth_only_the_controllers_service_account_gets_the_token(
    cli: CommandLine, empty: Stack, tmp_path: Path, unique: str, api_server: tuple[str, Path]
) -> None:
    instance = f"k{unique}"[:20].rstrip("-")
    cli.use(empty, SECRETBINDING_INSTANCE=instance)
    mount = f"kubernetes-{unique}"
    host, ca = api_server
    arguments = ["--login", "kubernetes", "--kubernetes-mount", mount, "--credentials", str(tmp_path)]
    arguments += ["--kubernetes-host", host, "--kubernetes-ca", str(ca)]
    ran = cli("bootstrap", *arguments)
    assert ran.code == 0, ran.err
    assert cli("bootstrap", *arguments, "--dry-run", "--detailed-exitcode").code == 0
    assert not (tmp_path / "vault-token").exists()

    def login(account: str) -> Answer:
        body = {"role": f"secretbinding-{instance}", "jwt": account_token(account)}
        return empty.openbao.api.put(f"/v1/auth/{mount}/login", body)

    assert login("somebody").status == 403
    assert login("secretbinding").status == 200
    printed = env(yaml.safe_load(text_under(ran, "The controller in Kubernetes: secretbinding-values.yaml")))
    (tmp_path / "service-account").write_text(account_token("secretbinding"))
    printed["SECRETBINDING_VAULT_LOGIN_JWT_FILE"] = str(tmp_path / "service-account")
    world = logged_in(cli, empty, instance, printed, tmp_path / "nomad-token")
    with world.running():
        is_injected(world, unique)
