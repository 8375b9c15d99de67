"""Several clusters: each binding is served by the connection that it names, and none waits for another's servers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretbinding.connection_settings import read_connections
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.metrics import Monitoring
from secretbinding.models.reasons import Reason
from secretbinding.sources.files import FilesSource, Tenants
from secretbinding.strictyaml import dump
from tests.support.commandline import CommandLine, cli, environment, servers_of
from tests.support.hanging import Hanging, hanging
from tests.support.metrics import scrape
from tests.support.rights import controller_tokens
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, forget_bindings, wait_until

__all__ = ["cli"]

pytestmark = pytest.mark.xdist_group("connections")
EU = "eu"
WORKERS = 2


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers of the default connection."""
    yield from _stack(tmp_path_factory, "near")


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Those of the connection `eu`."""
    yield from _stack(tmp_path_factory, "far")


def _stack(places: pytest.TempPathFactory, name: str) -> Iterator[Stack]:
    with (
        OpenBao(places.mktemp(f"openbao-{name}")) as vault,
        Simulator(places.mktemp(name), vault_address=vault.address, acl=True) as nomad,
    ):
        vault.enable_jwt(nomad.address)
        yield Stack(nomad.kind, nomad.address, nomad.api, nomad.token, vault, nomad.region)


class Clusters:
    """Two worlds with one controller, which the near one runs. `vault` and `nomad` are what can hang, by connection."""

    def __init__(self, near: Stack, far: Stack, directory: Path, proxies: dict[str, Hanging], **own: Any) -> None:
        self.near, self.far = World(near, workers=WORKERS, **own), World(far)
        self.proxies = proxies
        instance = f"{self.near.settings.controller.instance}-{EU}"
        vault, nomad = controller_tokens(far, instance)
        (directory / "vault").write_text(vault)
        (directory / "nomad").write_text(nomad)
        connection = {
            "name": EU,
            "vault": {"address": proxies["vault"].address, "tokenFile": str(directory / "vault")},
            "nomad": {"address": proxies["nomad"].address, "tokenFile": str(directory / "nomad")},
        }
        file = directory / "connections.yaml"
        file.write_text(dump({"connections": [connection]}))
        self.near.settings.connections = read_connections(file, self.near.settings)
        self.instance = instance

    def place(self, name: str, near: str, far: str) -> None:
        """A job of one name, and a secret of one path, in both clusters."""
        for world, word in ((self.near, near), (self.far, far)):
            world.secret(name, username="app", password=word)
            world.register(a_job(name))


@pytest.fixture
def proxies(far: Stack) -> Iterator[dict[str, Hanging]]:
    with hanging(far.openbao.address) as vault, hanging(far.address) as nomad:
        yield {"vault": vault, "nomad": nomad}


@pytest.fixture
def clusters(near: Stack, far: Stack, proxies: dict[str, Hanging], tmp_path: Path) -> Clusters:
    forget_bindings(near)
    return Clusters(near, far, tmp_path, proxies)


def templates(world: World, name: str) -> int:
    return len(world.job(name)["TaskGroups"][0]["Tasks"][0].get("Templates") or [])


def test_each_binding_is_served_by_the_connection_that_it_names(clusters: Clusters, unique: str) -> None:
    clusters.place(unique, "here", "there")
    other = f"{unique}-eu"
    with clusters.near.running():
        clusters.near.bind(a_manifest(unique, unique, unique))
        clusters.near.bind(a_manifest(other, unique, unique, connection=EU))
        for name in (unique, other):
            clusters.near.await_reason(name, Reason.READY)
        assert (clusters.near.seen(unique), clusters.far.seen(unique)) == (["app here"], ["app there"])
        clusters.far.secret(unique, username="app", password="anew")
        wait_until("it has rolled there", lambda: clusters.far.seen(unique) == ["app anew"])
    assert clusters.near.seen(unique) == ["app here"]
    assert clusters.near.policies(having=other) == []
    assert len(clusters.far.policies(clusters.instance, having=other)) == 1


@pytest.mark.parametrize("system", ["vault", "nomad"])
def test_a_server_that_never_answers_holds_up_no_other_connection(clusters: Clusters, unique: str, system: str) -> None:
    stuck = [f"{unique}-{number}" for number in range(WORKERS + 1)]
    clusters.place(unique, "one", "unused")
    for name in stuck:
        clusters.place(name, "unused", "one")
    monitoring = Monitoring(("127.0.0.1", 0), probe_seconds=0.2)
    with clusters.near.running(monitoring=monitoring) as controller:
        clusters.near.bind(a_manifest(unique, unique, unique))
        for name in stuck:
            clusters.near.bind(a_manifest(name, name, name, connection=EU))
        for name in (unique, *stuck):
            clusters.near.await_reason(name, Reason.READY)
        clusters.proxies[system].hang()
        try:
            engine = controller.fleet.engines[EU]
            engine.wake(engine.store.workloads())
            wait_until("every worker there waits", lambda: engine.queue.busy()[0] == WORKERS)
            started = time.monotonic()
            clusters.near.secret(unique, username="app", password="two")
            wait_until("it has rolled here", lambda: clusters.near.seen(unique) == ["app two"], 10.0)
            assert time.monotonic() - started < 10.0
            assert engine.queue.busy()[0] == WORKERS, "they wait still"
            answering = "secretbinding_server_answering"
            wait_until(
                "the metric tells",
                lambda: scrape(monitoring.address).value(answering, connection=EU, system=system) == 0,
            )
            assert scrape(monitoring.address).value(answering, connection="default", system=system) == 1
            ready = clusters.near.api.__class__(f"http://{monitoring.address}").get("/readyz")
            assert (ready.status, f"warned {system} of {EU} does not answer" in ready.text) == (200, True)
        finally:
            clusters.proxies[system].recover()
        clusters.far.secret(stuck[0], username="app", password="two")
        wait_until("it goes on there", lambda: clusters.far.seen(stuck[0]) == ["app two"], 60.0)


def test_the_default_connection_holds_up_no_other_either(
    near: Stack, far: Stack, proxies: dict[str, Hanging], tmp_path: Path, unique: str
) -> None:
    (tmp_path / "bindings").mkdir()
    clusters = Clusters(near, far, tmp_path, proxies)
    clusters.place(unique, "unused", "one")
    manifest = a_manifest(unique, unique, unique, connection=EU)
    (tmp_path / "bindings" / "binding.yaml").write_text(dump(manifest))
    with hanging(near.openbao.address) as vault, hanging(near.address) as nomad:
        settings = clusters.near.settings
        settings.vault = settings.vault.model_copy(update={"address": vault.address})
        settings.nomad = settings.nomad.model_copy(update={"address": nomad.address})
        vault.hang()
        nomad.hang()
        bindings = str(tmp_path / "bindings")
        tenants = Tenants([("default", bindings)], trusting=True)
        with clusters.near.running(FilesSource([bindings], nomad_namespace="default", tenants=tenants)):
            wait_until("it has the secret", lambda: clusters.far.seen(unique) == ["app one"])
            clusters.far.secret(unique, username="app", password="two")
            wait_until("it has rolled", lambda: clusters.far.seen(unique) == ["app two"], 10.0)
            vault.recover()
            nomad.recover()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it does not"])
def test_a_binding_that_names_another_connection_goes_there_and_then_leaves_the_one_before(
    clusters: Clusters, unique: str, running: bool
) -> None:
    clusters.place(unique, "here", "there")
    manifest, moved = a_manifest(unique, unique, unique), a_manifest(unique, unique, unique, connection=EU)
    with clusters.near.running():
        clusters.near.bind(manifest)
        clusters.near.await_reason(unique, Reason.READY)
        wait_until("it is served here", lambda: clusters.near.seen(unique) == ["app here"])
        if running:
            clusters.near.bind(moved)
            wait_until("it is gone here", lambda: templates(clusters.near, unique) == 0)
    if not running:
        clusters.near.bind(moved)
    with clusters.near.running():
        wait_until("it is served there", lambda: clusters.far.seen(unique) == ["app there"])
        wait_until("the job has nothing of it here", lambda: templates(clusters.near, unique) == 0)
        wait_until("no right is left here", lambda: not clusters.near.policies(having=unique))
        clusters.near.await_reason(unique, Reason.READY)
        assert len(clusters.far.policies(clusters.instance, having=unique)) == 1


def test_nothing_is_given_up_as_long_as_the_new_connection_does_not_answer(clusters: Clusters, unique: str) -> None:
    clusters.place(unique, "here", "there")
    with clusters.near.running() as controller:
        clusters.near.bind(a_manifest(unique, unique, unique))
        clusters.near.await_reason(unique, Reason.READY)
        version = clusters.near.job(unique)["Version"]
        clusters.proxies["vault"].hang()
        clusters.near.bind(a_manifest(unique, unique, unique, connection=EU))
        engine = controller.fleet.engines[EU]
        wait_until("it is tried there", lambda: engine.queue.busy()[0] > 0)
        wait_until("it is idle here", lambda: controller.engine.queue.idle(within=0.5))
        assert (clusters.near.job(unique)["Version"], templates(clusters.near, unique)) == (version, 1)
        clusters.proxies["vault"].recover()
        wait_until("it is served there", lambda: clusters.far.seen(unique) == ["app there"], 60.0)
        wait_until("it is gone here", lambda: templates(clusters.near, unique) == 0)


def test_a_connection_that_there_is_not_is_told_and_nothing_is_taken_away(clusters: Clusters, unique: str) -> None:
    clusters.place(unique, "here", "there")
    with clusters.near.running() as controller:
        clusters.near.bind(a_manifest(unique, unique, unique, connection=EU))
        clusters.near.await_reason(unique, Reason.READY)
        version = clusters.far.job(unique)["Version"]
        clusters.near.bind(a_manifest(unique, unique, unique, connection="mars"))
        clusters.near.await_reason(unique, Reason.CONNECTION_UNKNOWN)
        assert "add it to the file that SECRETBINDING_CONNECTIONS names" in clusters.near.message(unique)
        wait_until("it is idle", lambda: controller.fleet.engines[EU].queue.idle(within=0.5))
    with clusters.near.running() as controller:
        wait_until("both have swept", lambda: all(each.sweeps for each in controller.fleet.engines.values()))
        wait_until("it is idle", lambda: controller.fleet.engines[EU].queue.idle(within=0.5))
        assert clusters.near.reason(unique) == Reason.CONNECTION_UNKNOWN
    assert (clusters.far.job(unique)["Version"], templates(clusters.far, unique)) == (version, 1)
    assert len(clusters.far.policies(clusters.instance, having=unique)) == 1


def test_a_policy_says_which_connections_a_tenant_may_name(
    near: Stack, far: Stack, proxies: dict[str, Hanging], tmp_path: Path, unique: str
) -> None:
    forget_bindings(near)
    clusters = Clusters(near, far, tmp_path, proxies, tenancy="policies")
    clusters.place(unique, "here", "there")
    spec: dict[str, Any] = {
        "tenants": [{"names": ["*"]}],
        "workloads": [{"namespaces": ["*"]}],
        "secrets": [{"mounts": ["secret"], "paths": ["*"]}],
    }
    policy = {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBindingPolicy", "metadata": {"name": unique}}
    clusters.near.allow({**policy, "spec": spec})
    try:
        with clusters.near.running():
            clusters.near.bind(a_manifest(unique, unique, unique, connection=EU))
            clusters.near.await_reason(unique, Reason.REFUSED_BY_POLICY)
            told = clusters.near.message(unique)
            assert f"policy {unique} does not allow connection {EU}" in told
            assert f"connections:\n    - {EU}" in told
            assert templates(clusters.far, unique) == 0
            clusters.near.allow(
                {**policy, "spec": {**spec, "workloads": [{"namespaces": ["*"], "connections": ["e*"]}]}}
            )
            clusters.near.await_reason(unique, Reason.READY)
    finally:
        clusters.near.disallow(unique)


def test_every_command_works_by_the_connection_that_is_meant(
    near: Stack, far: Stack, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    kept, file, job_file = tmp_path / "eu", tmp_path / "connections.yaml", tmp_path / "job.json"
    person = {
        "name": EU,
        "vault": {"address": far.openbao.address, "tokenEnv": "EU_VAULT_TOKEN"},
        "nomad": {"address": far.address, "tokenEnv": "EU_NOMAD_TOKEN"},
    }
    file.write_text(dump({"connections": [person]}))
    cli.use(near, SECRETBINDING_CONNECTIONS=str(file), EU_VAULT_TOKEN=far.openbao.root_token, EU_NOMAD_TOKEN=far.token)
    here, there = World(near), World(far)
    for world, word in ((here, "here"), (there, "there")):
        world.secret(unique, username="app", password=word)
        world.register(a_job(unique))
    manifest = tmp_path / "bindings.yaml"
    other = a_manifest(f"{unique}-eu", unique, unique, connection=EU)
    manifest.write_text(f"{dump(a_manifest(unique, unique, unique))}---\n{dump(other)}")

    assert cli("bootstrap", "--connection", EU, "--credentials", str(kept)).code == 0
    ran = cli("plan", "-f", str(manifest))
    assert (ran.code, ran.err) == (0, "")
    assert f"job default/{unique} (default/{unique})" in ran.out
    assert f"job default/{unique} of connection {EU} (default/{unique}-eu)" in ran.out
    assert cli("apply", "-f", str(manifest)).code == 0
    assert (here.seen(unique), there.seen(unique)) == (["app here"], ["app there"])
    ran = cli("doctor", "--connection", EU, "-f", str(manifest), "-o", "json")
    assert f"default/{unique}-eu" not in ran.err
    assert ran.code in (0, 2), ran.out
    assert cli("rotate", "-f", str(manifest), f"{unique}-eu").code == 0
    job_file.write_text(json.dumps({"Job": a_job(unique)}))
    manifest.write_text(dump(other))
    ran = cli("inject", "-f", str(manifest), str(job_file))
    assert (ran.code, "nsb.default-eu." in ran.out) == (0, True), ran.err
    ran = cli("plan", "-f", str(manifest), "--detailed-exitcode")
    assert (ran.code, "no changes" in ran.out) == (0, True)
    manifest.write_text(dump(a_manifest(f"{unique}-eu", unique, unique, connection="mars")))
    ran = cli("plan", "-f", str(manifest))
    assert (ran.code, "there is no connection 'mars'; name one of default, eu" in ran.err) == (1, True)

    controllers = {"tokenFile": str(kept / "vault-token")}, {"tokenFile": str(kept / "nomad-token")}
    own = {
        "name": EU,
        "vault": {"address": far.openbao.address, **controllers[0]},
        "nomad": {"address": far.address, **controllers[1]},
    }
    file.write_text(dump({"connections": [own]}))
    manifest.write_text(dump(other))
    there.secret(unique, username="app", password="anew")
    variables = {**servers_of(near), "SECRETBINDING_CONNECTIONS": str(file), "SECRETBINDING_TENANCY": "open"}
    command = [sys.executable, "-m", "secretbinding", "run", "--source", f"files={manifest}"]
    with subprocess.Popen(command, env=environment(**variables), stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until("it has rolled there", lambda: there.seen(unique) == ["app anew"])
        finally:
            process.terminate()
            told = process.communicate(timeout=30)[1]
    assert "connections=['eu']" in told
    file.write_text(dump({"connections": [person]}))
    assert cli("uninstall", "--all", "--connection", EU, "--no-kubernetes", "--yes").code == 0
    assert there.policies("default-eu", having=unique) == []
    assert (templates(there, unique), templates(here, unique)) == (0, 1)
