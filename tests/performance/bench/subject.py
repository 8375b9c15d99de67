"""The controller that is measured: a real process of `secretbinding run`, seen through its metrics and `/proc`."""

import contextlib
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
import yaml

from secretbinding.devstack.processes import ManagedProcess, free_ports, wait_until
from tests.performance.bench.processes import cpu_seconds, memory_bytes
from tests.performance.bench.servers import Servers

_SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_WRITES = re.compile(r"write|delete|register|tag|create|patch|update|evaluate|put")
_NOT_COUNTED = re.compile(r"lease|events$|token_renew")
"""Leases, Events and renewals of the controller's own token are not counted (a job's `tag` is)."""
Calls = Mapping[tuple[str, str], int]
"""By system and operation."""


class Subject:
    """A running controller."""

    def __init__(self, process: ManagedProcess, metrics_port: int, started: float) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._web = urllib3.PoolManager(retries=False)
        self.started = started
        """When it was started, by `time.monotonic`."""
        self.started_at = time.time() - (time.monotonic() - started)
        """The same by the wall clock."""

    def samples(self) -> list[tuple[str, Mapping[str, str], float]]:
        """All metrics as they are now; nothing before it serves any."""
        try:
            answer = self._web.request("GET", self._url, timeout=60.0)
        except urllib3.exceptions.HTTPError:
            if not self._process.running:
                raise RuntimeError("the controller has ended") from None
            return []
        found: list[tuple[str, Mapping[str, str], float]] = []
        for line in answer.data.decode().splitlines():
            match = _SAMPLE.match(line)
            if match is not None:
                found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])))
        return found

    def calls(self) -> Calls:
        """How many requests it has made so far."""
        found: dict[tuple[str, str], int] = {}
        for name, labels, value in self.samples():
            if name == "secretbinding_api_request_duration_seconds_count":
                key = (labels["system"], labels["operation"])
                found[key] = found.get(key, 0) + int(value)
        return found

    def ready(self) -> int:
        """How many bindings are Ready, and have been told so."""
        return int(
            sum(
                value
                for name, labels, value in self.samples()
                if name == "secretbinding_bindings" and labels["condition"] == "Ready" and labels["status"] == "True"
            )
        )

    def passes(self) -> int:
        """How many passes over workloads have come to an end."""
        return int(sum(value for name, _, value in self.samples() if name == "secretbinding_reconciles_total"))

    def cpu(self) -> float:
        """Processor seconds so far."""
        return cpu_seconds(self._process.pid)

    def memory(self) -> tuple[int, int]:
        """Resident bytes, now and at the peak."""
        return memory_bytes(self._process.pid)

    def await_quiet(self, *, seconds: float = 3.0, timeout: float = 600.0) -> None:
        """Wait until it has written nothing for so long."""
        deadline = time.monotonic() + timeout
        before, since = writes(self.calls()), time.monotonic()
        pause = seconds / 4
        while time.monotonic() - since < seconds:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the controller still writes after {timeout:.0f} s")
            time.sleep(pause)
            now = writes(self.calls())
            if now != before:
                before, since = now, time.monotonic()


def writes(calls: Calls) -> Calls:
    """Those of the calls that change something and count."""
    return {key: n for key, n in calls.items() if _WRITES.search(key[1]) and not _NOT_COUNTED.search(key[1]) and n}


def since(after: Calls, before: Calls) -> Calls:
    """What was called in between."""
    return {key: n - before.get(key, 0) for key, n in after.items() if n != before.get(key, 0)}


def of_system(calls: Calls, system: str) -> int:
    """How many of them went to a server: vault, nomad or kubernetes."""
    return sum(n for (where, _), n in calls.items() if where == system)


@dataclass(frozen=True, slots=True)
class Given:
    """Which bindings a controller is for, and with what settings it runs."""

    instance: str
    namespace: str
    settings: Mapping[str, str]
    profile: Path | None = None


@contextmanager
def running(servers: Servers, directory: Path, given: Given) -> Iterator[Subject]:
    """A controller with the rights that `deploy/` gives it, and a policy that allows the bindings."""
    vault_token, nomad_token = servers.tokens(given.instance)
    policies = directory / "policies.yaml"
    policies.write_text(yaml.safe_dump(_policy(given.namespace)))
    (port,) = free_ports(1)
    own = {
        "VAULT_ADDR": servers.stack.openbao.address,
        "VAULT_TOKEN": vault_token,
        "NOMAD_ADDR": servers.stack.address,
        "NOMAD_TOKEN": nomad_token,
        "KUBECONFIG": str(servers.kubeconfig),
        "SECRETBINDING_INSTANCE": given.instance,
        "SECRETBINDING_WATCH_NAMESPACES": given.namespace,
        "SECRETBINDING_METRICS_ADDRESS": f"127.0.0.1:{port}",
        **given.settings,
    }
    env = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [sys.executable, "-m", "secretbinding", "run", "--source", "kubernetes", "--policies", f"files={policies}"]
    started = time.monotonic()
    process = ManagedProcess("controller", argv, log_path=directory / "controller.log", env={**env, **own})
    try:
        with _profiled(process, directory, given):
            yield Subject(process, port, started)
    finally:
        process.stop(grace_seconds=60.0)


@contextmanager
def _profiled(process: ManagedProcess, directory: Path, given: Given) -> Iterator[None]:
    """With a file for it, where the controller's processor time goes, sampled by py-spy from outside; each further
    controller has a number in the file's name."""
    if given.profile is None:
        yield
        return
    target = given.profile
    for further in itertools.count(2):
        if not target.exists():
            break
        target = given.profile.with_stem(f"{given.profile.stem}-{further}")
    argv = ["py-spy", "record", "--gil", "--nonblocking", "--format=raw", f"--output={target}", f"--pid={process.pid}"]
    sampler = ManagedProcess("py-spy", [*argv, "--duration=86400"], log_path=directory / "py-spy.log")
    try:
        yield
    finally:
        os.kill(sampler.pid, signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not sampler.running, timeout_seconds=30.0)
        sampler.stop()


def _policy(namespace: str) -> Mapping[str, object]:
    return {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBindingPolicy",
        "metadata": {"name": "all"},
        "spec": {
            "tenants": [{"names": [namespace]}],
            "workloads": [{"namespaces": ["default"], "jobs": ["*"]}],
            "secrets": [{"kinds": ["kv"], "mounts": ["secret"], "paths": ["*"]}],
        },
    }


def await_true(what: str, condition: Callable[[], bool], *, timeout: float, began: float) -> None:
    """Wait for a condition. Raises `RuntimeError` that names it. Metrics of thousands of bindings cost the controller
    time: they are asked for less often, the longer it has gone on since it `began` (`time.monotonic`)."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout:.0f} s in vain until {what}")
        time.sleep(max(0.1, (time.monotonic() - began) / 20))
