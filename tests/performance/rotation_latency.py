"""How long a rotation takes, from the write in Vault to the job, its last new allocation, and its deployment's end.

`python -m tests.performance.rotation_latency`, or `make bench-rotation`. On a real Nomad where one is on PATH, else on
the simulator; with a real OpenBao in any case. Each way in which the controller can learn of a change is measured by
itself: by looking every two seconds, and by a `socket` and a `file` audit device.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import free_ports
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from tests.performance.bench.figures import percentile
from tests.support.servers import Stack
from tests.support.world import SECOND, World, a_job, a_manifest, wait_until

COUNT = 2
MIN_HEALTHY_SECONDS = 0.2
POLL_SECONDS = 2.0
SAFETY_NET_SECONDS = 30.0
"""The interval of the poll beside push: the controller's default."""
_PERCENTILES = (50, 90, 99)
_STEP_SECONDS = 0.02
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation, in seconds since just before the write in Vault.

    Attributes:
        version: the secret's version.
        written: OpenBao has answered.
        registered: Nomad has the new job version (its `SubmitTime`).
        started: the first task of the new version has started (`StartedAt`).
        healthy: the last of its allocations is healthy (its deployment status' `Timestamp`).
        deployed: the deployment was seen to be successful.
    """

    version: int
    written: float
    registered: float
    started: float
    healthy: float
    deployed: float


STAGES: Mapping[str, str] = {
    "registered": "job registered",
    "started": "first new task started",
    "healthy": "last new allocation healthy",
    "deployed": "deployment successful",
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to learn of changes: its name, and the controller's settings for it."""

    name: str
    settings: Mapping[str, Any]


@contextmanager
def servers(directory: Path) -> Iterator[tuple[Stack, Sequence[Way]]]:
    """Nomad and OpenBao, the latter with audit devices that find the controller when it listens."""
    (port,) = free_ports(1)
    file = directory / "audit.log"
    configuration = (
        f'audit "file" "file" {{\n  options {{\n    file_path = "{file}"\n  }}\n}}\n'
        f'audit "socket" "socket" {{\n  options {{\n    address = "127.0.0.1:{port}"\n    socket_type = "tcp"\n'
        '    write_timeout = "200ms"\n    skip_test = "true"\n  }\n}\n'
    )
    ways = (
        Way("poll", {"poll_seconds": POLL_SECONDS}),
        Way("push, socket", {"poll_seconds": SAFETY_NET_SECONDS, "audit_listen": f"127.0.0.1:{port}"}),
        Way("push, file", {"poll_seconds": SAFETY_NET_SECONDS, "audit_file": str(file)}),
    )
    with ExitStack() as running:
        vault = running.enter_context(OpenBao(directory / "openbao", configuration=configuration))
        kind = NomadAgent if find_nomad() is not None else Simulator
        nomad = running.enter_context(kind(directory / "nomad", vault_address=vault.address))
        vault.enable_jwt(nomad.address)
        yield Stack(nomad.kind, nomad.address, nomad.api, nomad.token, vault), ways


class Bench:
    """One job with one binding, rotated again and again."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._rng = random.Random(name)

    def prepare(self) -> None:
        """The job is there with its secret; returns when it is deployed. The controller has to run."""
        world, name = self._world, self._name
        job = a_job(name, count=COUNT)
        job["TaskGroups"][0]["Update"]["MinHealthyTime"] = int(MIN_HEALTHY_SECONDS * SECOND)
        world.secret(name, username="app", password="0")
        world.register(job)
        world.bind(a_manifest(name, name, name))
        world.await_reason(name, Reason.READY, timeout=60.0)
        world.deployed(name)

    def rotate(self) -> Rotation:
        """Write a version, at any moment of a poll interval, and follow it."""
        world, name = self._world, self._name
        time.sleep(self._rng.uniform(0.0, POLL_SECONDS))
        before = int(world.job(name)["Version"])
        began = time.time()
        version = world.secret(name, username="app", password=str(began))
        written = time.time() - began
        deployed = self._await_deployment(before + 1) - began
        job = world.job(name)
        if int(job["Version"]) != before + 1 or f"?version={version}" not in str(job):
            raise RuntimeError(f"{name}: job version {job['Version']} is not the one that was waited for")
        rows = world.api.get(f"/v1/job/{name}/allocations").expect().json()
        new = [row for row in rows if row["JobVersion"] == before + 1 and row["ClientStatus"] == "running"]
        if len(new) != COUNT:
            raise RuntimeError(f"{name}: {len(new)} allocations run, not {COUNT}")
        started = [moment(state["StartedAt"]) for row in new for state in row["TaskStates"].values()]
        healthy = [moment(row["DeploymentStatus"]["Timestamp"]) for row in new]
        return Rotation(
            version=version,
            written=written,
            registered=job["SubmitTime"] / SECOND - began,
            started=min(started) - began,
            healthy=max(healthy) - began,
            deployed=deployed,
        )

    def check(self) -> None:
        """What the tasks have is what was written last."""
        world, name = self._world, self._name
        wanted = world.vault.get(f"/v1/secret/data/{name}").expect().json()["data"]["data"]["password"]
        seen = world.seen(name)
        if seen != [f"app {wanted}"] * COUNT:
            raise RuntimeError(f"{name}: the tasks have something else than what was written last")

    def clear(self) -> None:
        """Take binding and job away, so that nothing of them is in the way of the next measurement."""
        self._world.unbind(self._name)
        wait_until("the binding is gone", lambda: self._world.status(self._name) is None, 60.0)
        self._world.api.delete(f"/v1/job/{self._name}", purge="true").expect()

    def _await_deployment(self, version: int) -> float:
        """When the deployment of a job version was seen to be successful."""
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline:
            found = self._world.deployment(self._name)
            if int(found["JobVersion"]) == version and found["Status"] == "successful":
                return time.time()
            if int(found["JobVersion"]) >= version and found["Status"] in ("failed", "cancelled"):
                raise RuntimeError(f"{self._name}: the deployment is {found['Status']}")
            time.sleep(_STEP_SECONDS)
        raise RuntimeError(f"{self._name}: no deployment of version {version} came to its end")


def measure(stack: Stack, way: Way, rotations: int) -> list[Rotation]:
    """So many rotations, one after the other, under a controller that learns of changes in one way."""
    world = World(stack, progress_seconds=5.0, resync_seconds=300.0, **way.settings)
    bench = Bench(world, f"bench-{way.name.replace(', ', '-')}")
    with world.running():
        bench.prepare()
        # A socket device finds the listener with one of the next answers: until then pushes are lost.
        for _ in range(_WARM_UP):
            bench.rotate()
        found = [bench.rotate() for _ in _progress(way.name, rotations)]
        bench.check()
        bench.clear()
    return found


def _progress(what: str, count: int) -> Iterator[int]:
    for number in range(count):
        print(f"\r{what}: {number + 1} of {count}", end="", file=sys.stderr, flush=True)
        yield number
    print(file=sys.stderr)


def table(found: Mapping[str, Sequence[Rotation]]) -> str:
    """Rows of way and stage, columns of percentiles, in seconds; Markdown."""
    head = ["", "from the write in Vault until", *(f"p{percent}" for percent in _PERCENTILES), "max"]
    lines = [head, ["---"] * len(head)]
    for name, rotations in found.items():
        for stage, words in STAGES.items():
            values = [float(getattr(rotation, stage)) for rotation in rotations]
            figures = [percentile(values, percent) for percent in _PERCENTILES] + [max(values)]
            lines.append([name, words, *(f"{figure:.2f} s" for figure in figures)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def moment(text: str) -> float:
    """Nomad's time (RFC 3339, nanoseconds) as seconds since the epoch."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    zone = "+00:00" if text.endswith("Z") else ""
    if not zone and (sign := max(fraction.rfind("+"), fraction.rfind("-"))) > 0:
        fraction, zone = fraction[:sign], fraction[sign:]
    return datetime.fromisoformat(whole + zone).timestamp() + float(f"0.{fraction or 0}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the raw figures."""
    parser = argparse.ArgumentParser(prog="rotation_latency", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rotations", type=int, default=100, help="of each way (100)")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    given = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="secretbinding-bench-") as folder, servers(Path(folder)) as (stack, ways):
        versions = {
            "nomad": stack.api.get("/v1/agent/self").json()["config"]["Version"]["Version"],
            "openbao": stack.openbao.api.get("/v1/sys/health").json()["version"],
        }
        found = {way.name: measure(stack, way, given.rotations) for way in ways}
    settings = {
        "nomad": "a real agent" if stack.kind == "nomad" else "the simulator (no `nomad` on PATH)",
        "versions": versions,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "rotations of each way": given.rotations,
        "job": f"count {COUNT}, max_parallel 1, min_healthy_time {MIN_HEALTHY_SECONDS} s, health_check task_states",
        "settle": "0 s",
        "poll": f"every {POLL_SECONDS:.0f} s; beside push every {SAFETY_NET_SECONDS:.0f} s",
    }
    print("\n".join(f"{name}: {value}" for name, value in settings.items()))
    print(table(found))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        raw = {name: [asdict(rotation) for rotation in rotations] for name, rotations in found.items()}
        given.json.write_text(json.dumps({"settings": settings, "rotations": raw}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
