"""`run` in a process of its own: sources side by side, signals, and what it logs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commandline import environment, servers_of
from tests.support.metrics import get, scrape
from tests.support.servers import Stack
from tests.support.stalling import stalling
from tests.support.world import World, a_job, a_manifest, wait_until

DEPLOY = Path(__file__).parents[3] / "deploy"


class Process:
    """A running controller."""

    def __init__(self, log: Path, child: subprocess.Popen[bytes]) -> None:
        self.log = log
        self.child = child

    def entries(self) -> list[dict[str, Any]]:
        """What it logged, complete lines only."""
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def events(self, **fields: object) -> list[str]:
        """The events that have these fields."""
        return [entry["event"] for entry in self.entries() if fields.items() <= entry.items()]

    def await_event(self, event: str, **fields: object) -> None:
        try:
            wait_until(f"{event} is logged", lambda: event in self.events(**fields))
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log.read_text()}") from None


@contextmanager
def controller(stack: Stack, log: Path, *sources: str, policies: Sequence[str] = (), **more: str) -> Iterator[Process]:
    """A controller as a process; killed at the end if it is still there. With `policies`, these decide."""
    pace = {"SECRETBINDING_POLL_SECONDS": "0.3", "SECRETBINDING_FILES_SECONDS": "0.1"}
    own = {"SECRETBINDING_TENANCY": "policies" if policies else "open", "SECRETBINDING_LOG_FORMAT": "json"}
    variables = environment(**{**servers_of(stack), **pace, **own, **more})
    flags = [part for source in sources for part in ("--source", source)]
    flags += [part for place in policies for part in ("--policies", place)]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "secretbinding", "run", *flags]
        child = subprocess.Popen(command, env=dict(variables), stdout=subprocess.PIPE, stderr=output)
    try:
        yield Process(log, child)
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def test_files_are_followed_from_their_first_sight_to_their_removal(world: World, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.secret(f"{unique}-b", username="b", password="first")
    for name in (unique, f"{unique}-b"):
        world.register(a_job(name))
        world.deployed(name)
    watched = tmp_path / "bindings"
    watched.mkdir()
    (watched / "a.yaml").write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    with controller(world.stack, tmp_path / "log", f"files={watched}", "nomad") as process:
        process.await_event("Ready", binding=f"default/{unique}")
        (watched / "b.yaml").write_text(yaml.safe_dump(a_manifest(f"{unique}-b", f"{unique}-b", f"{unique}-b")))
        process.await_event("Ready", binding=f"default/{unique}-b")
        wait_until("it is served", lambda: world.seen(f"{unique}-b") == ["b first"])

        world.secret(unique, username="app", password=f"value-of-{unique}")
        wait_until("the job has rolled", lambda: world.seen(unique) == [f"app value-of-{unique}"])

        (watched / "a.yaml").write_text("kind: [")
        process.await_event("InvalidManifest", binding=f"default/{unique}")
        (watched / "a.yaml").write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
        wait_until("it is mended", lambda: process.events(binding=f"default/{unique}")[-1] != "InvalidManifest")
        assert world.seen(unique) == [f"app value-of-{unique}"]

        (watched / "b.yaml").unlink()
        process.await_event("Removed", binding=f"default/{unique}-b")
        assert world.policies(having=f"{unique}-b") == []
        assert not world.job(f"{unique}-b")["TaskGroups"][0]["Tasks"][0]["Vault"]

        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(timeout=20) == 0
        assert process.events()[-1] == "stopped"
    assert world.policies(having=unique), "what is bound stays bound"
    log = (tmp_path / "log").read_text()
    assert world.stack.openbao.root_token not in json.dumps([entry.get("event") for entry in process.entries()])
    assert f"value-of-{unique}" not in log
    done = [entry for entry in process.entries() if entry["event"] == "pass done"]
    assert all(entry["actions"] > 0 for entry in done), "a pass that did nothing is not worth a line"


def test_policies_in_files_decide_about_the_tenants_of_directories(world: World, tmp_path: Path, unique: str) -> None:
    world.secret(f"{unique}-own/app", username="app", password="first")
    world.register(a_job(unique))
    world.deployed(unique)
    folder, rules = tmp_path / "bindings" / f"{unique}-own", tmp_path / "rules"
    folder.mkdir(parents=True)
    rules.mkdir()
    rule = yaml.safe_load((DEPLOY / "policies" / "first-rule.yaml").read_text())
    rule["spec"]["workloads"] = [{"namespaces": ["default"]}]
    (rules / "rule.yaml").write_text(yaml.safe_dump(rule))
    (folder / "own.yaml").write_text(yaml.safe_dump(a_manifest(unique, unique, f"{unique}-own/app")))
    (folder / "other.yaml").write_text(
        yaml.safe_dump(a_manifest(f"{unique}-x", unique, "somebody/app", env={"X": "x"}))
    )
    sources, decides = [f"files:*={tmp_path / 'bindings'}"], [f"files={rules}"]
    pace = {"SECRETBINDING_POLICY_SECONDS": "0.1", "SECRETBINDING_POLICY_SETTLE_SECONDS": "0"}
    with controller(world.stack, tmp_path / "log", *sources, policies=decides, **pace) as process:
        process.await_event("Ready", binding=f"{unique}-own/{unique}")
        process.await_event("RefusedByPolicy", binding=f"{unique}-own/{unique}-x")
        assert world.policies(having=f"{unique}-x") == []
        never = {**rule, "metadata": {"name": "never"}, "spec": {"effect": "Deny", "tenants": [{"names": ["*"]}]}}
        (rules / "never.yaml").write_text(yaml.safe_dump(never))
        process.await_event("RefusedByPolicy", binding=f"{unique}-own/{unique}")
        wait_until("nothing is left", lambda: world.policies(having=unique) == [])
        assert not world.job(unique)["TaskGroups"][0]["Tasks"][0]["Vault"]


def test_a_restart_changes_nothing(world: World, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    world.deployed(unique)
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    for number in ("1", "2"):
        with controller(world.stack, tmp_path / number, f"files={path}") as process:
            process.await_event("Ready" if number == "1" else "started")
            wait_until("it is served", lambda: world.seen(unique) == ["app first"])
            world.deployed(unique)
            if number == "2":
                process.await_event("Ready", binding=f"default/{unique}")
            process.child.send_signal(signal.SIGINT)
            assert process.child.wait(timeout=20) == 0
    assert len(world.versions(unique)) == 2
    assert process.events(actions=1) == []


def test_a_second_signal_ends_it_at_once(simulator: Stack, tmp_path: Path) -> None:
    with controller(simulator, tmp_path / "log", "nomad") as process:
        process.await_event("started")
        os.kill(process.child.pid, signal.SIGTERM)
        os.kill(process.child.pid, signal.SIGINT)
        assert process.child.wait(timeout=5) == 1


REGISTRATION = b"T /v1/jobs"
"""Of the request that registers a job: PUT or POST."""


def test_a_pass_that_is_under_way_is_finished_before_it_stops(simulator: Stack, tmp_path: Path, unique: str) -> None:
    world = World(simulator)
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique, count=0))
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    with (
        stalling(simulator.address, REGISTRATION) as proxy,
        controller(simulator, tmp_path / "log", f"files={path}", NOMAD_ADDR=proxy.address) as process,
    ):
        assert proxy.held.wait(30), "the pass is at the registration"
        process.child.send_signal(signal.SIGTERM)
        process.await_event("stopping; passes under way are finished first")
        assert process.child.poll() is None, "it waits for the pass"
        proxy.go.set()
        assert process.child.wait(timeout=20) == 0
        assert process.events()[-1] == "stopped"
        assert len(world.versions(unique)) == 2
        assert "pass done" in process.events()


def test_a_pass_that_does_not_end_is_not_waited_for_longer_than_the_setting_says(
    simulator: Stack, tmp_path: Path, unique: str
) -> None:
    world = World(simulator)
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique, count=0))
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    pace = {"SECRETBINDING_STOP_SECONDS": "0.5"}
    with (
        stalling(simulator.address, REGISTRATION) as proxy,
        controller(simulator, tmp_path / "log", f"files={path}", NOMAD_ADDR=proxy.address, **pace) as process,
    ):
        assert proxy.held.wait(30), "the pass is at the registration"
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(timeout=10) == 1
        assert process.events()[-1].startswith("not all passes have ended in time")


def test_a_server_that_is_away_is_waited_for(simulator: Stack, tmp_path: Path, unique: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    with controller(simulator, tmp_path / "log", f"files={path}", VAULT_ADDR="http://127.0.0.1:9") as process:
        process.await_event("VaultUnreachable", binding=f"default/{unique}")
        process.await_event("pass failed", reason="VaultUnreachable")
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(timeout=20) == 0


def test_metrics_and_health_are_served_where_the_variable_says(world: World, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    anywhere = {"SECRETBINDING_METRICS_ADDRESS": "127.0.0.1:0"}
    with controller(world.stack, tmp_path / "log", f"files={path}", **anywhere) as process:
        process.await_event("Ready", binding=f"default/{unique}")
        address = next(str(entry["address"]) for entry in process.entries() if entry["event"] == "serving metrics")
        wait_until("it is ready", lambda: get(address, "/readyz").status == 200)
        assert get(address, "/healthz").status == 200
        assert scrape(address).value("secretbinding_registrations_total", cause="change") == 1
        written = [entry for entry in process.entries() if entry.get("workload", "").endswith(f"/{unique}")]
        assert len({entry["reconcile_id"] for entry in written if "actions" in entry}) >= 1
        assert all("reconcile_id" in entry for entry in written)
        taken = {"SECRETBINDING_METRICS_ADDRESS": address}
        with controller(world.stack, tmp_path / "second", f"files={path}", **taken) as second:
            assert second.child.wait(timeout=30) == 1
        assert f"SECRETBINDING_METRICS_ADDRESS: cannot listen at {address}" in (tmp_path / "second").read_text()
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(timeout=30) == 0


def test_each_pass_is_one_line_and_every_line_of_it_has_its_names(
    simulator: Stack, tmp_path: Path, unique: str
) -> None:
    otlp = pytest.importorskip("tests.support.otlp", reason="the extra `otel` is not installed")
    world = World(simulator)
    world.secret(unique, username="app", password="canary-of-a-run")
    world.register(a_job(unique))
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    with otlp.collecting() as collector:
        asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        asked |= {"SECRETBINDING_METRICS_ADDRESS": "127.0.0.1:0", "SECRETBINDING_LOG_LEVEL": "DEBUG"}
        with controller(simulator, tmp_path / "log", f"files={path}", **asked) as process:
            process.await_event("UpToDate", binding=f"default/{unique}")
            process.child.send_signal(signal.SIGTERM)
            assert process.child.wait(timeout=30) == 0
            entries = [entry for entry in process.entries() if "reconcile_id" in entry]
        spans = {span.attributes["secretbinding.reconcile_id"]: span for span in collector.spans("reconcile")}
    passes = [entry["reconcile_id"] for entry in entries if entry["event"] == "pass done"]
    assert len(passes) == len(set(passes)) >= 2
    assert {entry["actions"] for entry in entries if entry["event"] == "pass done"} >= {0}
    for entry in entries:
        assert entry["trace_id"] == spans[entry["reconcile_id"]].trace, entry["event"]
    assert "secretbinding_reconciles_total" in collector.metrics()
    assert b"canary-of-a-run" not in b"".join(collector.raw)


def test_an_empty_variable_serves_no_metrics(simulator: Stack, tmp_path: Path) -> None:
    with controller(simulator, tmp_path / "log", "nomad", SECRETBINDING_METRICS_ADDRESS="") as process:
        process.await_event("started")
        assert "serving metrics" not in process.events()
