"""What processes use, from `/proc`: processor time, memory, threads. Linux only."""

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far. Raises OSError for one that is gone."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_bytes(pid: int) -> tuple[int, int]:
    """The resident memory, now and at its peak. Raises OSError for a process that is gone."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]


def children_cpu() -> Mapping[str, float]:
    """Processor seconds of the processes that this one has started, by the name of their program."""
    used: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = _fields(int(entry.name))
            if int(fields[1]) == os.getpid():
                name = (entry / "comm").read_text().strip()
                used[name] = used.get(name, 0.0) + cpu_seconds(int(entry.name))
        except OSError:
            continue
    return used


def _fields(pid: int) -> list[str]:
    """The fields of `/proc/<pid>/stat` from the third on: a program's name may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
