"""What `/healthz` and `/readyz` say, check by check."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secretbinding.metrics.parts import Parts
from secretbinding.metrics.probe import SYSTEMS, ServerProbe


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `problem` is "" when all is well, and names no secret, path or address."""

    name: str
    problem: str = ""


def live(parts: Parts, probe: ServerProbe, stuck_seconds: float) -> Sequence[Check]:
    """Whether the process works, as far as a new start would mend it: every thread lives, no worker is at one workload,
    nothing that is due waits, and no watch, source or election has not come round for longer than `stuck_seconds`.

    A server that is away is no reason, and neither is a watch of which a server brings nothing: what has no right to a
    stream hears nothing of it, and would after a new start, too.
    """
    threads = (*parts.threads(), *probe.threads)
    dead = sorted(thread.name for thread in threads if thread.ident is not None and not thread.is_alive())
    late = sorted({loop.name for loop in (*parts.loops(), *probe.loops) if loop.late_seconds() > stuck_seconds})
    _, longest = parts.engine.queue.busy()
    stalled = parts.engine.queue.stalled_seconds()
    return (
        Check("threads", f"ended: {', '.join(dead)}" if dead else ""),
        Check("workers", f"a worker is at one job for {longest:.0f} s" if longest > stuck_seconds else ""),
        Check("queue", f"nothing was handed out for {stalled:.0f} s" if stalled > stuck_seconds else ""),
        Check("loops", f"stuck for longer than {stuck_seconds:.0f} s: {', '.join(late)}" if late else ""),
    )


def ready(parts: Parts, probe: ServerProbe) -> Sequence[Check]:
    """Whether it can do its work now: every source was listed once and hears its server, Vault and Nomad answer."""
    now = time.monotonic()
    checks: list[Check] = []
    for name, source in parts.engine.sources.items():
        if not parts.engine.store.is_listed(name):
            checks.append(Check(f"source {name}", "has not been listed yet"))
        else:
            checks.append(Check(f"source {name}", "is not heard" if source.healthy(now) else ""))
    checks += [Check(system, "" if probe.answering(system) else "does not answer") for system in SYSTEMS]
    return checks


def report(checks: Iterable[Check]) -> tuple[bool, str]:
    """Whether all is well, and a line for each check."""
    rows = list(checks)
    lines = [f"{'ok    ' if not check.problem else 'failed'} {check.name} {check.problem}".rstrip() for check in rows]
    return not any(check.problem for check in rows), "\n".join(lines) + "\n"
