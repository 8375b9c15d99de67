"""The cases, each from where the one before ends: a controller is started, left alone, restarted, disturbed."""

import asyncio
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from secretbinding.engine.reconciler import Pace
from tests.performance.bench.bare import Bare
from tests.performance.bench.figures import Budget, Row, Series, percentile
from tests.performance.bench.found import Found, say
from tests.performance.bench.population import Population, bindings_of, evaluated, populate, ready_since, write
from tests.performance.bench.processes import children_cpu
from tests.performance.bench.servers import Servers
from tests.performance.bench.subject import Calls, Given, Subject, await_true, of_system, running, since, writes
from tests.performance.bench.web import spread

CASES = ("cold", "steady", "restart", "change", "mass", "shared")
COLD_RATIO = Budget(1.5, "times")
IDLE_CPU = Budget(5.0, "% of a core")
RESIDENT = Budget(250.0, "MiB")
ADOPTION_WRITES = Budget(3.0)
NO_WRITES = Budget(0.0)
CHANGE_POLL_SECONDS = 5.0
POLL_SECONDS = 30.0
"""What the controller has by default."""
RESYNC_SECONDS = Pace().resync_seconds
RESYNCS_PER_SECOND = Pace().resyncs_per_second
"""Of the controller: how often jobs are looked at for nothing."""
_CHANGES = 20
_BATCH = 1000
"""So many secrets are rotated at once, and so many jobs share one."""
_MIB = 1024 * 1024
_PATIENCE_SECONDS = 7200.0
_EASY = {"SECRETBINDING_SETTLE_SECONDS": "0"}
"""What is measured is how fast a change is carried out, and not how long it is let settle."""


@dataclass
class Plan:
    """What is to be measured: which cases, in how many runs, and how long the controller is left alone."""

    cases: Sequence[str] = CASES
    runs: int = 3
    steady_seconds: float = 300.0
    profile: Path | None = None


_NAMES = itertools.count(1)


class Bench:
    """The cases for one number of bindings, on servers that are there."""

    def __init__(self, servers: Servers, directory: Path, size: int, plan: Plan, found: Found) -> None:
        self._servers = servers
        self._directory = directory
        self._size = size
        self._plan = plan
        self._found = found
        self._begun: list[float] = []
        self._idle: tuple[float, float] | None = None
        """In the steady state: processor seconds and passes, of a second."""

    def run(self) -> None:
        """All cases of the plan."""
        ours = self._cold_starts() if set(self._plan.cases) - {"shared"} else None
        if ours is not None and "restart" in self._plan.cases:
            self._restart(ours)
        if ours is not None and "change" in self._plan.cases:
            self._changes(ours, f"poll of {CHANGE_POLL_SECONDS:.0f} s", _polled(), CHANGE_POLL_SECONDS + 1.0)
            self._changes(ours, "push", self._pushed(), 1.0)
        if ours is not None and "mass" in self._plan.cases and self._size <= _BATCH:
            self._batch("all secrets rotated at once", ours)
        if "shared" in self._plan.cases and self._size <= _BATCH:
            population = self._populated(shared=True)
            self._batch("one secret of all jobs rotated", population)

    # Cold start -------------------------------------------------------------------------------------------------------

    def _cold_starts(self) -> Population:
        runs = self._plan.runs
        times: list[float] = []
        bare: list[float] = []
        last = self._populated()
        for run in range(runs):
            ours, theirs = last if run == 0 else self._populated(), self._populated()
            # Who comes second finds more in the servers: each is that in turn.
            if run % 2 == 0:
                bare.append(self._bare(theirs))
            times.append(self._cold_start(ours, last=run == runs - 1))
            if run % 2 == 1:
                bare.append(self._bare(theirs))
            last = ours
        case = "cold start until all are Ready"
        budget = COLD_RATIO if self._size == _BATCH else None
        self._found.add(
            Row(case, self._size, Series(tuple(times)), Series(tuple(bare)), budget),
            Row("cold start: of it until the first pass has ended", self._size, Series(tuple(self._begun))),
        )
        return last

    def _bare(self, population: Population) -> float:
        client = Bare(self._servers, population)
        before = children_cpu()
        took = asyncio.run(client.cold_start())
        self._found.note("cold start, bare", self._size, seconds=took, calls=client.calls, servers=_used(before))
        say(f"bare cold start of {self._size}: {took:.2f} s, {client.calls} calls")
        asyncio.run(self._settled())
        return took

    def _cold_start(self, population: Population, *, last: bool) -> float:
        given = self._given(population)
        before = children_cpu()
        with running(self._servers, self._directory, given) as subject:
            begun: list[float] = []  # since the start, when the first pass had ended

            def all_ready() -> bool:
                if not begun and subject.passes():
                    begun.append(time.monotonic() - subject.started)
                return subject.ready() == self._size

            await_true("all bindings are Ready", all_ready, timeout=_PATIENCE_SECONDS, began=subject.started)
            self._begun += begun[:1] or [0.0]
            took, cpu, at_ready = time.monotonic() - subject.started, subject.cpu(), subject.calls()
            used = _used(before)
            took = min(took, self._last_ready(population) - subject.started_at)
            subject.await_quiet()
            calls = subject.calls()
            self._found.note(
                "cold start",
                self._size,
                seconds=took,
                first_pass_seconds=begun[0] if begun else None,
                cpu_seconds=cpu,
                passes=subject.passes(),
                calls=_named(calls),
                calls_until_ready=_named(at_ready),
                servers=used,
                memory=subject.memory(),
            )
            say(f"cold start of {self._size}: {took:.2f} s, {cpu:.1f} s of processor, {sum(at_ready.values())} calls")
            if last:
                self._after_start(subject, calls)
        asyncio.run(self._settled())
        return took

    def _after_start(self, subject: Subject, calls: Calls) -> None:
        self._found.add(*self._rows_of_calls("adoption", calls, ADOPTION_WRITES))
        now, peak = subject.memory()
        self._found.add(
            Row("memory", self._size, Series((now / _MIB,), "MiB"), budget=RESIDENT if self._size >= 10_000 else None),
            Row("memory at its peak", self._size, Series((peak / _MIB,), "MiB")),
        )
        if "steady" in self._plan.cases:
            self._steady(subject)

    def _rows_of_calls(self, case: str, calls: Calls, budget: Budget) -> list[Row]:
        written = writes(calls)

        def each(of: Calls, system: str) -> Series:
            return Series((of_system(of, system) / self._size,), "")

        rows = [Row(f"{case}: API-server writes of a binding", self._size, each(written, "kubernetes"), budget=budget)]
        for system in ("vault", "nomad"):
            reads = of_system(calls, system) - of_system(written, system)
            rows.append(Row(f"{case}: writes to {system} for a binding", self._size, each(written, system)))
            rows.append(
                Row(f"{case}: reads from {system} for a binding", self._size, Series((reads / self._size,), ""))
            )
        return rows

    # Nothing to do ----------------------------------------------------------------------------------------------------

    def _steady(self, subject: Subject) -> None:
        seconds = self._plan.steady_seconds
        audit = self._servers.audit.stat().st_size
        before, cpu, passes = subject.calls(), subject.cpu(), subject.passes()
        began = time.monotonic()
        time.sleep(seconds)
        cpu, took = subject.cpu() - cpu, time.monotonic() - began
        calls, passes = since(subject.calls(), before), subject.passes() - passes
        memory = subject.memory()
        written = writes(calls)
        vault_reads = of_system(calls, "vault") / max(1.0, took / POLL_SECONDS) / self._size
        self._found.note(
            "steady state",
            self._size,
            seconds=took,
            cpu_seconds=cpu,
            passes=passes,
            calls=_named(calls),
            memory=memory,
            audit_bytes=self._servers.audit.stat().st_size - audit,
        )
        self._idle = (cpu / took, passes / took)
        share = Series((cpu / took * 100,), "% of a core")
        self._found.add(
            Row("steady: processor", self._size, share),
            Row("steady: all writes", self._size, Series((float(sum(written.values())),), ""), budget=NO_WRITES),
            Row(
                "steady: reads from vault for a secret and poll interval",
                self._size,
                Series((vault_reads,), ""),
                budget=Budget(1.0),
            ),
            Row("steady: memory", self._size, Series((memory[0] / _MIB,), "MiB")),
        )

    def _restart(self, population: Population) -> None:
        """Everything is in place: each job is looked at once, and nothing is written."""
        others = self._populated()
        client = Bare(self._servers, others)
        asyncio.run(client.cold_start())
        asyncio.run(self._settled())
        bare, ours = [], []
        calls: Calls = {}
        pass_seconds = 0.0
        for _ in range(self._plan.runs):
            bare.append(asyncio.run(client.restart()))
            with running(self._servers, self._directory, self._given(population)) as subject:
                await_true("the first pass", lambda: subject.passes() > 0, timeout=60.0, began=subject.started)
                cpu, passes = subject.cpu(), subject.passes()
                self._await_passes(subject)
                ours.append(time.monotonic() - subject.started)
                pass_seconds = (subject.cpu() - cpu) / max(1, subject.passes() - passes)
                subject.await_quiet()
                calls = subject.calls()
        written = float(sum(writes(calls).values()))
        self._found.note("restart", self._size, calls=_named(calls), cpu_seconds_of_a_pass=pass_seconds)
        self._with_resync(pass_seconds)
        self._found.add(
            Row("restart with everything in place", self._size, Series(tuple(ours)), Series(tuple(bare))),
            Row("restart: all writes", self._size, Series((written,), ""), budget=NO_WRITES),
        )

    def _with_resync(self, pass_seconds: float) -> None:
        """The steady state with the resync, whose turn comes later than anybody would watch it: after a start all jobs
        have just been looked at. What was used without, and as many passes as will come then."""
        if self._idle is None:
            return
        used, passes = self._idle
        more = max(0.0, min(self._size / RESYNC_SECONDS, RESYNCS_PER_SECOND) - passes) * pass_seconds
        share = Series(((used + more) * 100,), "% of a core")
        budget = IDLE_CPU if self._size >= 10_000 else None
        self._found.add(Row("steady: processor, with the resync (computed)", self._size, share, budget=budget))

    # Changes ----------------------------------------------------------------------------------------------------------

    def _pushed(self) -> Mapping[str, str]:
        return {**_EASY, "SECRETBINDING_AUDIT_FILE": str(self._servers.audit)}

    def _changes(self, population: Population, way: str, settings: Mapping[str, str], most: float) -> None:
        """One secret among all is written, again and again, each at another moment of the interval."""
        given = self._given(population, settings)
        with running(self._servers, self._directory, given) as subject:
            await_true(
                "all jobs are looked at",
                lambda: subject.passes() >= self._size,
                timeout=_PATIENCE_SECONDS,
                began=subject.started,
            )
            subject.await_quiet()
            time.sleep(CHANGE_POLL_SECONDS)
            took = asyncio.run(self._written(population))
        self._found.note(f"one change, by {way}", self._size, seconds=took)
        for percent in (50, 99):
            budget = Budget(most, "s") if percent == 99 else None
            case = f"one change until the job is registered, p{percent}, by {way}"
            self._found.add(Row(case, self._size, Series((percentile(took, percent),)), budget=budget))

    async def _written(self, population: Population) -> list[float]:
        rng = random.Random(self._size)
        names = rng.sample(population.names, min(_CHANGES, self._size))
        async with self._servers.vault() as vault, self._servers.nomad() as nomad:
            took: list[float] = []

            async def change(name: str) -> None:
                await asyncio.sleep(rng.uniform(0.0, 2 * CHANGE_POLL_SECONDS))
                before = (await nomad.call("GET", f"/v1/job/{name}"))["Version"]
                began = time.time()
                await write(vault, population.secret(name), str(began))
                deadline = time.monotonic() + 120.0
                while True:
                    job = await nomad.call("GET", f"/v1/job/{name}")
                    if job["Version"] > before:
                        break
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{name} is not registered anew")
                    await asyncio.sleep(0.1)
                took.append(job["SubmitTime"] / 1e9 - began)

            await spread(names, change, at_once=len(names))
        return took

    def _batch(self, what: str, population: Population) -> None:
        """Many jobs get a new version at once; as many roll together as the limits let."""
        others = self._populated(shared=population.shared)
        client = Bare(self._servers, others)
        asyncio.run(client.cold_start())
        asyncio.run(self._rewritten(others))
        bare = asyncio.run(client.rotate())
        asyncio.run(self._settled())
        with running(self._servers, self._directory, self._given(population, self._pushed())) as subject:
            await_true(
                "all are Ready", lambda: subject.ready() == self._size, timeout=_PATIENCE_SECONDS, began=subject.started
            )
            subject.await_quiet()
            time.sleep(POLL_SECONDS if population.shared else 1.0)
            before, cpu = subject.calls(), subject.cpu()
            began = time.monotonic()
            asyncio.run(self._rewritten(population))
            asyncio.run(self._rolled(population))
            took = time.monotonic() - began
            cpu = subject.cpu() - cpu
            subject.await_quiet()
            calls = since(subject.calls(), before)
        self._found.note(what, self._size, seconds=took, cpu_seconds=cpu, calls=_named(calls))
        self._found.add(Row(what, self._size, Series((took,)), Series((bare,))))

    async def _rewritten(self, population: Population) -> None:
        async with self._servers.vault() as vault:
            await spread(population.secrets, lambda path: write(vault, path, "two"))

    async def _rolled(self, population: Population) -> None:
        """Wait until each job reads the newest version of its secret."""
        async with self._servers.vault() as vault, self._servers.nomad() as nomad:
            versions = {}
            for path in population.secrets:
                metadata = await vault.call("GET", f"/v1/secret/metadata/{path}")
                versions[path] = metadata["data"]["current_version"]
            left = {name: f"?version={versions[population.secret(name)]}" for name in population.names}
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while left:
                # The first and the last of those that are left: all of them would be a load of its own.
                for name in (next(iter(left)), next(reversed(left))):
                    if name in left and left[name] in str(await nomad.call("GET", f"/v1/job/{name}")):
                        del left[name]
                        break
                else:
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{len(left)} jobs do not have the newest version")
                    await asyncio.sleep(0.05)

    # Help -------------------------------------------------------------------------------------------------------------

    def _populated(self, *, shared: bool = False) -> Population:
        population = Population(f"b{next(_NAMES)}", self._size, shared)
        began = time.monotonic()
        asyncio.run(populate(self._servers, population))
        say(f"{self._size} jobs, secrets and bindings are there after {time.monotonic() - began:.0f} s")
        return population

    async def _settled(self) -> None:
        async with self._servers.nomad() as nomad:
            await evaluated(nomad)

    def _given(self, population: Population, settings: Mapping[str, str] = MappingProxyType({})) -> Given:
        return Given(population.name, population.name, settings, self._plan.profile)

    def _await_passes(self, subject: Subject) -> None:
        what = "all jobs are looked at"
        await_true(what, lambda: subject.passes() >= self._size, timeout=_PATIENCE_SECONDS, began=subject.started)

    def _last_ready(self, population: Population) -> float:
        """The end of the second in which the last binding became Ready, as the API server has it (seconds since the
        epoch). Raises `RuntimeError` when what the controller tells of itself is not what the API server has."""

        async def listed() -> list[float]:
            async with self._servers.api() as api:
                found = [ready_since(binding) for binding in await bindings_of(api, population)]
                return [moment for moment in found if moment is not None]

        moments = asyncio.run(listed())
        if len(moments) != self._size:
            raise RuntimeError(f"{len(moments)} of {self._size} bindings are Ready at the API server")
        return max(moments) + 1.0


def _polled() -> Mapping[str, str]:
    return {**_EASY, "SECRETBINDING_POLL_SECONDS": str(CHANGE_POLL_SECONDS)}


def _named(calls: Calls) -> Mapping[str, int]:
    return {f"{system} {operation}": n for (system, operation), n in sorted(calls.items())}


def _used(before: Mapping[str, float]) -> Mapping[str, float]:
    """Processor seconds of the servers since then, by program; the controller comes as a Python."""
    return {name: round(used - before.get(name, 0.0), 2) for name, used in children_cpu().items()}
