"""Mixed work with faults on real servers for an hour: nothing is lost, nothing is done twice, nothing grows.

`make soak`. `SOAK_SECONDS` is how long (3600), `SOAK_REPORT` where the figures go as JSON.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from tests.soak.growth import Bound, Sample, growth, of_process, table
from tests.support.commandline import environment
from tests.support.hands import History, Person, again_and_again, edit_of, insisting, pins_of
from tests.support.meddling import Meddler, Meddling, Rule, Seen, meddling, refusing
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

_JOBS = tuple(f"soak-{number}" for number in range(6))
_WITH_TASKS = _JOBS[:2]
_PASSING = tuple(f"passing-{number}" for number in range(3))
_FOUGHT = "fought"
_PATIENCE = 600.0
"""Longer than the longest pause after failures."""
BOUNDS = {
    "memory": Bound("MiB", 12.0, 6.0),
    "threads": Bound("threads", 2.0, 4.0),
    "files": Bound("descriptors", 6.0, 12.0),
    "entities": Bound("entities", 2.0, 12.0),
    # Nomad does not revoke the token of a task that has ended: it lives until its period is over.
    "leases": Bound("for each roll", 1.0, 3.0),
    "evaluations": Bound("for each job version", 1.0, 3.0),
}


def _answers(random: random.Random) -> tuple[str, Rule]:
    """One kind of trouble, and which server has it."""
    some = random.uniform(0.2, 1.0)

    def at_times(what: Meddling) -> Rule:
        return lambda seen: what if random.random() < some else None

    lost = Meddling("answer lost", cut=True, forward=True)
    kinds: list[tuple[str, Rule]] = [
        ("vault", at_times(refusing("Vault sealed", 503, '{"errors": ["Vault is sealed"]}'))),
        ("vault", at_times(refusing("Vault 429", 429, '{"errors": ["quota exceeded"]}', Retry_After="1"))),
        ("vault", at_times(refusing("Vault 500", 500, '{"errors": ["internal error"]}'))),
        ("vault", at_times(refusing("Vault denies", 403, '{"errors": ["permission denied"]}'))),
        ("vault", at_times(Meddling("Vault slow", delay_seconds=10.0))),
        ("vault", at_times(Meddling("Vault cut", cut=True))),
        ("vault", lambda seen: lost if seen.writes else None),
        ("nomad", at_times(refusing("no leader", 500, "rpc error: No cluster leader"))),
        ("nomad", at_times(refusing("Nomad denies", 403, "Permission denied"))),
        ("nomad", at_times(Meddling("Nomad cut", cut=True))),
        ("nomad", lambda seen: lost if seen.writes and random.random() < some else None),
        ("nomad", lambda seen: Meddling("lists empty", body=b"[]") if seen.path == "/v1/vars" else None),
        ("nomad", lambda seen: Meddling("stream silent", lines=lambda line: ()) if seen.streams else None),
        ("nomad", lambda seen: Meddling("stream doubled", lines=lambda line: (line, line)) if seen.streams else None),
    ]
    return random.choice(kinds)


class Process:
    """A controller in a process of its own, which reaches the servers at these addresses."""

    def __init__(self, world: World, vault: str, nomad: str, log: Path) -> None:
        settings = world.settings
        own = {
            "VAULT_ADDR": vault,
            "VAULT_TOKEN": settings.vault.token.get_secret_value() if settings.vault.token else "",
            "NOMAD_ADDR": nomad,
            "NOMAD_TOKEN": settings.nomad.token.get_secret_value() if settings.nomad.token else "",
            "SECRETBINDING_POLL_SECONDS": "2",
            "SECRETBINDING_SETTLE_SECONDS": "0",
            "SECRETBINDING_TENANCY": "open",
        }
        self._environment = dict(environment(**own))
        self._log = log
        self.kills = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "secretbinding", "run", "--source", "nomad"]
            self._child = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a machine that loses its power does."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self.kills += 1

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class Fate:
    """What becomes of the doomed controller: troubles come and go, and it is killed at writes."""

    def __init__(self, doomed: Process, proxies: Mapping[str, Meddler], random: random.Random) -> None:
        self._doomed, self._proxies, self._random = doomed, proxies, random
        self.met: Counter[str] = Counter()

    def turn(self) -> None:
        """One trouble for some seconds, then a kill at one of the next writes, then some rest."""
        server, rule = _answers(self._random)
        self._with(server, rule, self._random.uniform(2.0, 12.0))
        self._kill_at_a_write()
        self._doomed.start()
        time.sleep(self._random.uniform(2.0, 6.0))

    def _with(self, server: str, rule: Rule, seconds: float) -> None:
        proxy = self._proxies[server]
        proxy.met.clear()
        proxy.rule = rule
        proxy.cut_streams()
        time.sleep(seconds)
        self.calm()
        self.met += proxy.met

    def _kill_at_a_write(self) -> None:
        proxy = self._proxies[self._random.choice(("vault", "nomad", "nomad"))]
        at = proxy.writes + self._random.randint(1, 4)
        acted = self._random.random() < 0.5
        what = Meddling("killed", cut=True, forward=acted, then=self._doomed.kill)

        def rule(seen: Seen) -> Meddling | None:
            return what if seen.number >= at else None

        kills = self._doomed.kills
        proxy.met.clear()
        proxy.rule = rule
        until = time.monotonic() + 10.0
        while self._doomed.kills == kills and time.monotonic() < until:
            time.sleep(0.1)
        self._doomed.kill()
        self.calm()
        self.met[f"killed {'after' if acted else 'before'} a write" if proxy.met else "killed while idle"] += 1

    def calm(self) -> None:
        for proxy in self._proxies.values():
            proxy.rule = None
            proxy.cut_streams()


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        vault = stack.enter_context(OpenBao(directory / "openbao"))
        server: NomadAgent | Simulator
        if find_nomad() is not None:
            server = NomadAgent(directory / "nomad", vault_address=vault.address, acl=True)
        else:
            server = Simulator(directory / "nomad", vault_address=vault.address, acl=True)
        stack.enter_context(server)
        vault.enable_jwt(server.address)
        print(f"on OpenBao and {server.kind}", flush=True)
        yield World(Stack(server.kind, server.address, server.api, server.token, vault, server.region))


def _listed(world: World, path: str) -> float:
    answer = world.vault.request("LIST", path)
    return float(len(answer.json()["data"]["keys"])) if answer.status == 200 else 0.0


def _on_servers(world: World) -> dict[str, float]:
    """Entities in Vault, and logins for each version of the jobs that have tasks; evaluations in Nomad for each version
    that a job has had."""
    evaluations = world.api.get("/v1/evaluations", namespace="*").expect().json()
    versions = {name: int(world.job(name)["Version"]) + 1 for name in (*_JOBS, *_PASSING, _FOUGHT)}
    rolls = sum(versions[name] for name in _WITH_TASKS)
    return {
        "leases": _listed(world, "/v1/sys/leases/lookup/auth/jwt-nomad/login") / rolls,
        "entities": _listed(world, "/v1/identity/entity/id"),
        "evaluations": len(evaluations) / sum(versions.values()),
    }


def test_nothing_is_lost_or_done_twice_and_nothing_grows(tmp_path: Path) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS") or 3600)
    chance = random.Random(int(os.environ.get("SOAK_SEED") or time.time()))
    with servers(tmp_path) as world, contextlib.ExitStack() as stack:
        proxies = {
            "vault": stack.enter_context(meddling(world.stack.openbao.address)),
            "nomad": stack.enter_context(meddling(world.stack.address)),
        }
        steady = Process(world, world.stack.openbao.address, world.stack.address, tmp_path / "steady.log")
        doomed = Process(world, proxies["vault"].address, proxies["nomad"].address, tmp_path / "doomed.log")
        for name in (*_JOBS, *_PASSING, _FOUGHT):
            world.secret(name, username="app", password="1")
            # Some have tasks, so that there are logins; rolls of the others cost nothing.
            world.register(a_job(name, count=1 if name in _WITH_TASKS else 0))
        for name in (*_JOBS, _FOUGHT):
            world.bind(a_manifest(name, name, name))
        fate = Fate(doomed, proxies, chance)
        history, person = History(world, _JOBS), Person(world, _JOBS)
        newest = dict.fromkeys(_JOBS, 1)
        samples: dict[str, list[Sample]] = {name: [] for name in BOUNDS}
        for process in (steady, doomed):
            process.start()
            stack.callback(process.stop)
        began = time.monotonic()

        def rotate() -> None:
            name = chance.choice(_JOBS)
            newest[name] = world.secret(name, username="app", password=f"p{newest[name]}")

        def come_and_go() -> None:
            name = chance.choice(_PASSING)
            if chance.random() < 0.5:
                world.bind(a_manifest(name, name, name))
            else:
                world.unbind(name)

        def sample() -> None:
            for name, value in {**of_process(steady.pid), **_on_servers(world)}.items():
                samples[name].append((time.monotonic() - began, value))

        with (
            again_and_again(0.5, history.look),
            again_and_again(2.0, person.edit, rotate, come_and_go),
            again_and_again(max(2.0, seconds / 120), sample),
            again_and_again(1.0, insisting(world, a_job(_FOUGHT, count=0))),
        ):
            while time.monotonic() < began + seconds:
                fate.turn()
        for name in _PASSING:
            world.unbind(name)
        _converged(world, history, person, newest)
        assert steady.runs
        found = [growth(name, samples[name], bound) for name, bound in BOUNDS.items()]
        report = {
            "servers": world.stack.kind,
            "seconds": seconds,
            "kills": doomed.kills,
            "met": dict(fate.met),
            "versions": {name: int(world.job(name)["Version"]) for name in _JOBS},
            "edits": person.edits,
            "secrets": newest,
            "growth": [asdict(one) for one in found],
        }
        print(json.dumps({key: value for key, value in report.items() if key != "growth"}, indent=1))
        print(table(found), flush=True)
        path = Path(os.environ.get("SOAK_REPORT") or "build/soak.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**report, "samples": samples}, indent=1))
        assert [one.name for one in found if not one.within] == []


def _converged(world: World, history: History, person: Person, newest: Mapping[str, int]) -> None:
    """Everything is as it should be."""
    for name in _JOBS:
        wanted = frozenset({str(newest[name])})
        wait_until(f"{name} is at {newest[name]}", partial(_is_at, world, name, wanted), _PATIENCE)
    for name in _PASSING:
        wait_until(f"{name} is gone", partial(_has_no_rights, world, name), _PATIENCE)
        assert "nsb." not in str(world.job(name))
        assert not world.roles(having=name)
    wait_until("no roll is left", lambda: all(world.deployment(n).get("Status") != "running" for n in _JOBS), _PATIENCE)
    history.look()
    assert {name: edit_of(world.job(name)) for name in _JOBS} == person.edits
    assert history.lost_edits() == []
    assert history.doubles() == []
    assert len(world.policies()) == len(_JOBS) + 1, "those of the bindings that there are"


def _is_at(world: World, name: str, versions: frozenset[str]) -> bool:
    return pins_of(world.job(name)) == versions


def _has_no_rights(world: World, name: str) -> bool:
    return not world.policies(having=name)
