"""Canaries: values of secrets, tokens and secret IDs show nowhere but in what Nomad renders, whatever goes wrong."""

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding import app
from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.adapters.vault import session
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.engine.reconciler import Pace
from secretbinding.metrics import Monitoring
from secretbinding.models.reasons import ConditionType
from secretbinding.settings import VaultLogin, VaultSettings
from secretbinding.sources import nomad
from secretbinding.sources.kubernetes.source import KubernetesSource
from secretbinding.sources.nomad import GENERATE_ITEM, REQUESTS, NomadSource
from tests.support.agents import AppRoleWorld, by_app_role, reads_file
from tests.support.commandline import CommandLine, cli
from tests.support.faulty import NOMAD, VAULT, Faulty, faulty
from tests.support.journal import Journal, journal
from tests.support.kubernetes import Cluster, small_kubernetes
from tests.support.metrics import get
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, wait_until

__all__ = ["cli", "small_kubernetes"]

PASSWORDS = ("canary-password-one-7f3a", "canary-password-two-9b1d")
USER = "canary-user-44e2"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Nomad with access control, so that there is a token, joined to a Vault."""
    directory = tmp_path_factory.mktemp("canaries")
    with (
        OpenBao(directory / "openbao") as vault,
        Simulator(directory / "nomad", vault_address=vault.address, acl=True) as server,
    ):
        vault.enable_jwt(server.address)
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


class Site:
    """A controller that logs in by AppRole, with a proxy before each server."""

    def __init__(self, world: World, name: str, vault: Faulty, nomad: Faulty, secret_id_file: Path) -> None:
        stack = world.stack
        self.name, self.stack, self.vault, self.nomad, self.world = name, stack, vault, nomad, world
        self.secret_id = f"canary-secret-id-of-{name}"
        self.nomad_token = self.world.settings.nomad.token.get_secret_value()
        policies = [rule for rule in _policies(stack) if rule.startswith("shipped-")]
        assert len(policies) >= 2, "the controller's own, and what it needs for more"
        api = stack.openbao.api
        api.put("/v1/sys/auth/approle", {"type": "approle"}).expect(204, 400)
        role = {"token_policies": policies, "token_no_default_policy": True, "token_ttl": "2s", "token_max_ttl": "4s"}
        api.put(f"/v1/auth/approle/role/{name}", role).expect(204)
        api.put(f"/v1/auth/approle/role/{name}/custom-secret-id", {"secret_id": self.secret_id}).expect()
        role_id = api.get(f"/v1/auth/approle/role/{name}/role-id").expect().json()["data"]["role_id"]
        secret_id_file.write_text(self.secret_id)
        self.world.settings.vault = VaultSettings(
            address=vault.address,
            login=VaultLogin.APPROLE,
            login_role=name,
            login_role_id=role_id,
            login_secret_id_file=secret_id_file,
        )
        self.world.settings.nomad = self.world.settings.nomad.model_copy(update={"address": nomad.address})

    @property
    def canaries(self) -> set[str]:
        """Everything that must show nowhere, in the forms that a text could have it in."""
        plain = {self.secret_id, USER, *PASSWORDS, *self.vault.tokens, *self.vault.values, *self.nomad.tokens}
        return plain | {base64.b64encode(one.encode()).decode().rstrip("=") for one in plain}

    def shows(self, text: str) -> list[str]:
        return sorted(one for one in self.canaries if one in text)

    @contextmanager
    def trouble(self, *, every: bool = False) -> Iterator[None]:
        """Faults: until each kind has happened at both servers, or until Vault has had some."""
        for proxy in (self.vault, self.nomad):
            proxy.injected.clear()
            proxy.faulty = True
        yield
        if every:
            wait_until("every fault at Vault", lambda: VAULT.keys() <= self.vault.injected.keys(), 60)
            wait_until("every fault at Nomad", lambda: NOMAD.keys() <= self.nomad.injected.keys(), 60)
        wait_until("faults", lambda: self.vault.injected.total() >= 5, 60)
        self.vault.faulty = self.nomad.faulty = False

    def ask(self, items: dict[str, str]) -> None:
        path = REQUESTS + self.name
        self.world.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()


def _policies(stack: Stack) -> list[str]:
    found = stack.openbao.api.get("/v1/sys/policies/acl", list="true").expect().json()
    return [str(name) for name in found["data"]["keys"]]


@contextmanager
def site_of(world: World, name: str, place: Path) -> Iterator[Site]:
    with faulty(world.stack.openbao.address, VAULT) as vault, faulty(world.stack.address, NOMAD) as proxy:
        yield Site(world, name, vault, proxy, place / "secret-id")


@pytest.fixture
def site(stack: Stack, unique: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    world = World(stack, vault_rights=shipped("vault-policy-generate.hcl", myapp=unique))
    with site_of(world, unique, tmp_path_factory.mktemp("ids")) as made:
        yield made


@pytest.fixture
def agents(stack: Stack, unique: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, AppRoleWorld]]:
    """A site whose tasks get their secrets by agents that log in by AppRole."""
    world = AppRoleWorld(stack)
    with site_of(world, unique, tmp_path_factory.mktemp("ids")) as made:
        yield made, world


@pytest.fixture
def told() -> Iterator[Journal]:
    with journal("DEBUG") as found:
        yield found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the controller writes what it would write."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    for name in ("TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(place))
    return place


def test_no_canary_is_seen_in_logs_statuses_events_metrics_or_files_while_everything_goes_wrong(
    site: Site,
    told: Journal,
    scratch: Path,
    small_kubernetes: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "PAUSES", (0.05, 0.2))
    monkeypatch.setattr(app, "Pace", partial(Pace, backoff_seconds=0.1, backoff_max_seconds=0.5))
    monkeypatch.setattr(nomad, "_RETRY_MAX_SECONDS", 0.5)
    world, name, cluster = site.world, site.name, small_kubernetes
    monitoring = Monitoring(("127.0.0.1", 0))
    shown: list[str] = []
    world.secret(name, username=USER, password=PASSWORDS[0])
    world.register(a_job(name))
    manifest = a_manifest(
        name, name, name, rotation={"settle": "0s", "generate": [{"secret": "app", "fields": ["token"]}]}
    )
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(cluster.kubeconfig)))
    with ExitStack() as stack:
        stack.callback(client.close)
        sources = app.Clients(world.settings)
        stack.callback(sources.close)
        stack.enter_context(
            world.running(NomadSource(sources.nomad, (NAMESPACE,)), KubernetesSource(client), monitoring=monitoring)
        )
        with site.trouble(every=True):
            world.bind(manifest)
            other = a_manifest("other", name, name, env={"OTHER": "username"})
            other["metadata"]["namespace"] = "default"
            cluster.api.create_binding(other)
        world.await_reason(name, "Ready")
        wait_until("the task has it", lambda: world.seen(name) == [f"{USER} {PASSWORDS[0]}"])
        with site.trouble():
            world.secret(name, username=USER, password=PASSWORDS[1])
            site.ask({GENERATE_ITEM: datetime.now(UTC).isoformat()})
        wait_until("a value is made", lambda: bool(site.vault.values), 60)
        wait_until("the task has it", lambda: world.seen(name) == [f"{USER} {PASSWORDS[1]}"], 60)
        shown.append(get(monitoring.address, "/metrics").text)
        shown.append(json.dumps(_variables(world)))
        shown.append(json.dumps([world.job(name), _texts(site.stack)]))
        shown.append(json.dumps([cluster.api.binding("default", "other"), cluster.api.events_of("default", "other")]))
        with site.trouble():
            world.unbind(name)
            cluster.api.delete_binding("default", "other")
        wait_until("nothing is left", lambda: not any("nsb." in one for one in _policies(site.stack)), 60)
    tokens = site.vault.tokens
    assert len(tokens) >= 2, "it logged in more than once"
    assert site.nomad_token in site.nomad.tokens
    assert any(line["event"] == "change" for line in told.lines())
    assert any(line["level"] == "debug" for line in told.lines())
    assert site.shows(told.text) == []
    assert [site.shows(text) for text in shown] == [[]] * 4
    written = [path for path in scratch.rglob("*") if path.is_file()]
    assert {str(path): found for path in written if (found := site.shows(path.read_text(errors="replace")))} == {}


def _variables(world: World) -> list[Any]:
    rows = world.api.get("/v1/vars", namespace=NAMESPACE, prefix="nomad-vault/").expect().json()
    return [world.api.get(f"/v1/var/{row['Path']}", namespace=NAMESPACE).expect().json() for row in rows]


def _texts(stack: Stack) -> list[Any]:
    """Every policy and login role of ours in Vault."""
    api = stack.openbao.api
    names = [name for name in _policies(stack) if name.startswith("nsb.")]
    roles = api.get("/v1/auth/jwt-nomad/role", list="true").json().get("data", {}).get("keys", [])
    return [
        *(api.get(f"/v1/sys/policies/acl/{name}").expect().json()["data"] for name in names),
        *(api.get(f"/v1/auth/jwt-nomad/role/{name}").expect().json()["data"] for name in roles),
    ]


def test_no_wrapped_secret_id_is_seen_but_in_its_variable_while_everything_goes_wrong(
    agents: tuple[Site, AppRoleWorld], told: Journal, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PAUSES", (0.05, 0.2))
    monkeypatch.setattr(app, "Pace", partial(Pace, backoff_seconds=0.1, backoff_max_seconds=0.5))
    monkeypatch.setattr(nomad, "_RETRY_MAX_SECONDS", 0.5)
    site, world = agents
    name, monitoring = site.name, Monitoring(("127.0.0.1", 0))
    world.secret(name, username=USER, password=PASSWORDS[0])
    world.register(reads_file(name, count=2))
    wrapped: set[str] = set()
    with ExitStack() as stack:
        sources = app.Clients(world.settings)
        stack.callback(sources.close)
        stack.enter_context(world.running(NomadSource(sources.nomad, (NAMESPACE,)), monitoring=monitoring))
        with site.trouble(every=True):
            world.bind(by_app_role(name))
        world.await_reason(name, "Ready", timeout=60)
        wait_until("the tasks have it", lambda: world.seen(name) == [f"{USER} {PASSWORDS[0]}"] * 2, 60)
        wait_until("each index has a fresh token", lambda: world.sealed(name, 2), 60)
        wrapped |= set(world.items(name).values())
        with site.trouble():
            stolen = world.steal(name, 0)
        world.await_reason(name, "WrappingTokenOpened", ConditionType.VAULT_SYNCED, timeout=60)
        wait_until("each index has a fresh token again", lambda: world.sealed(name, 2), 60)
        wrapped |= set(world.items(name).values())
        shown = [
            get(monitoring.address, "/metrics").text,
            json.dumps(_variables(world)),
            json.dumps([world.job(name), _texts(site.stack)]),
        ]
        with site.trouble():
            world.unbind(name)
        wait_until("nothing is left", lambda: world.policies(having=name) == [], 60)
    tokens = {one for one in wrapped if one in site.vault.tokens}
    assert len(tokens) >= 3, "two, and another one for what was stolen"
    canaries = {stolen, *tokens}
    assert any(line["level"] == "debug" for line in told.lines())
    for text in (
        told.text,
        *shown,
        *(path.read_text(errors="replace") for path in scratch.rglob("*") if path.is_file()),
    ):
        assert site.shows(text) == []
        assert [one for one in canaries if one in text] == []


@pytest.mark.parametrize("command", ["plan", "apply", "status", "doctor", "delete"])
def test_no_command_shows_a_canary_whatever_goes_wrong(
    site: Site, cli: CommandLine, scratch: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PAUSES", (0.0, 0.01))
    world, name = site.world, site.name
    world.secret(name, username=USER, password=PASSWORDS[0])
    world.register(a_job(name))
    (scratch / "binding.yaml").write_text(yaml.safe_dump(a_manifest(name, name, name)))
    vault = world.settings.vault
    cli.setenv(
        VAULT_ADDR=site.vault.address,
        SECRETBINDING_VAULT_LOGIN="approle",
        SECRETBINDING_VAULT_LOGIN_ROLE=name,
        SECRETBINDING_VAULT_LOGIN_ROLE_ID=vault.login_role_id,
        SECRETBINDING_VAULT_LOGIN_SECRET_ID=site.secret_id,
        NOMAD_ADDR=site.nomad.address,
        NOMAD_TOKEN=site.nomad_token,
        SECRETBINDING_LOG_LEVEL="DEBUG",
    )
    arguments = {
        "plan": ["plan", "-f", "binding.yaml"],
        "apply": ["apply", "-f", "binding.yaml", "--detach", "--timeout", "5s"],
        "status": ["status", "-f", "binding.yaml"],
        "doctor": ["doctor", "-o", "json"],
        "delete": ["delete", "-f", "binding.yaml", "--timeout", "5s"],
    }[command]
    site.vault.faulty = site.nomad.faulty = True
    text = ""
    for _ in range(6):
        ran = cli(*arguments)
        text += ran.out + ran.err
    site.vault.faulty = site.nomad.faulty = False
    assert sum((site.vault.injected + site.nomad.injected).values()) > 3
    assert site.secret_id in site.canaries
    assert site.shows(text) == []
