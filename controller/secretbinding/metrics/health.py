"""What `/healthz` and `/readyz` say, check by check."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.metrics.parts import Parts
from secretbinding.metrics.probe import SYSTEMS, ServerProbe
from secretbinding.models.key import DEFAULT_CONNECTION


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `problem` is "" when all is well, and names no secret, path or address. What is only told (`counts`
    is false) makes the whole no less well."""

    name: str
    problem: str = ""
    counts: bool = True


def live(parts: Parts, probes: Mapping[str, ServerProbe], stuck_seconds: float) -> Sequence[Check]:
    """Whether the process works, as far as a new start would mend it: every thread lives, no worker is at one workload,
    nothing that is due waits, and no watch, source or election has not come round for longer than `stuck_seconds`.

    A server that is away is no reason, and neither is a watch of which a server brings nothing: what has no right to a
    stream hears nothing of it, and would after a new start, too.
    """
    own = list(probes.values())
    threads = (*parts.threads(), *(thread for probe in own for thread in probe.threads))
    dead = sorted(thread.name for thread in threads if thread.ident is not None and not thread.is_alive())
    loops = (*parts.loops(), *(loop for probe in own for loop in probe.loops))
    late = sorted({loop.name for loop in loops if loop.late_seconds() > stuck_seconds})
    queues = [unit.engine.queue for unit in parts.units.values()]
    longest = max(queue.busy()[1] for queue in queues)
    stalled = max(queue.stalled_seconds() for queue in queues)
    return (
        Check("threads", f"ended: {', '.join(dead)}" if dead else ""),
        Check("workers", f"a worker is at one job for {longest:.0f} s" if longest > stuck_seconds else ""),
        Check("queue", f"nothing was handed out for {stalled:.0f} s" if stalled > stuck_seconds else ""),
        Check("loops", f"stuck for longer than {stuck_seconds:.0f} s: {', '.join(late)}" if late else ""),
    )


def ready(parts: Parts, probes: Mapping[str, ServerProbe]) -> Sequence[Check]:
    """Whether it can do its work now: every source was listed once and hears its server, and Vault and Nomad of at
    least one connection answer. Others that do not are told of: a controller that one cluster's absence takes out of
    service would be none for all the rest.
    """
    now = time.monotonic()
    checks: list[Check] = []
    for name, source in parts.fleet.sources.items():
        if not parts.fleet.is_listed(name):
            checks.append(Check(f"source {name}", "has not been listed yet"))
        else:
            checks.append(Check(f"source {name}", "is not heard" if source.healthy(now) else ""))
    works = any(all(probe.answering(system) for system in SYSTEMS) for probe in probes.values())
    for connection, probe in probes.items():
        place = "" if connection == DEFAULT_CONNECTION else f" of {connection}"
        for system in SYSTEMS:
            problem = "" if probe.answering(system) else "does not answer"
            checks.append(Check(f"{system}{place}", problem, counts=not works))
    return checks


def report(checks: Iterable[Check]) -> tuple[bool, str]:
    """Whether all is well, and a line for each check."""
    rows = list(checks)
    lines = [f"{_word(check)} {check.name} {check.problem}".rstrip() for check in rows]
    return not any(check.problem and check.counts for check in rows), "\n".join(lines) + "\n"


def _word(check: Check) -> str:
    if not check.problem:
        return "ok    "
    return "failed" if check.counts else "warned"
