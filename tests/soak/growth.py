"""How much something has grown while work went on: samples, a line through them, a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Sample = tuple[float, float]
"""Seconds, and how much there was."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much may come on top within an hour, by the line through the second half of the samples, and however short
    the look was: `allowance` is what comes and goes."""

    unit: str
    per_hour: float
    allowance: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What was seen of one thing."""

    name: str
    bound: Bound
    first: float
    last: float
    most: float
    per_hour: float
    seconds: float

    @property
    def within(self) -> bool:
        """Whether the growth of the time that was looked at is no more than the bound allows for it."""
        hours = self.seconds / 3600
        return self.per_hour * hours <= self.bound.per_hour * hours + self.bound.allowance


def growth(name: str, samples: Sequence[Sample], bound: Bound) -> Growth:
    """The growth by the least-squares line through the second half; the first is warming up. Raises `ValueError` for
    fewer than four samples."""
    if len(samples) < 4:
        raise ValueError(f"{name}: {len(samples)} samples show no growth")
    half = samples[len(samples) // 2 :]
    middle = sum(at for at, _ in half) / len(half)
    mean = sum(value for _, value in half) / len(half)
    spread = sum((at - middle) ** 2 for at, _ in half)
    slope = sum((at - middle) * (value - mean) for at, value in half) / spread if spread else 0.0
    values = [value for _, value in samples]
    seconds = half[-1][0] - half[0][0]
    return Growth(name, bound, values[0], values[-1], max(values), slope * 3600, seconds)


def of_process(pid: int) -> dict[str, float]:
    """Resident MiB, threads and open files of a process (proc(5))."""
    place = Path("/proc") / str(pid)
    fields = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
    return {
        "memory": int(fields["VmRSS"].split()[0]) / 1024,
        "threads": float(fields["Threads"]),
        "files": float(len(list((place / "fd").iterdir()))),
    }


def table(found: Sequence[Growth]) -> str:
    """For people."""
    head = f"{'what':12} {'unit':12} {'first':>9} {'last':>9} {'most':>9} {'an hour':>9} {'bound':>9}"
    rows = [
        f"{one.name:12} {one.bound.unit:12} {one.first:9.1f} {one.last:9.1f} {one.most:9.1f} {one.per_hour:9.1f} "
        f"{one.bound.per_hour:9.1f}{'' if one.within else '  TOO MUCH'}"
        for one in found
    ]
    return "\n".join([head, *rows])
