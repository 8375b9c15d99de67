"""`python -m tests.performance.bench`, or `make bench`: starts its servers, measures, prints one table."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.performance.bench.cases import CASES, Bench, Plan
from tests.performance.bench.figures import growth, table
from tests.performance.bench.found import Found, say
from tests.performance.bench.servers import servers


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; prints the surroundings and the table, and writes the raw figures. 0 whether budgets are met or not."""
    given = _parser().parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    found = Found()
    kinds: dict[str, str] = {}
    began = time.monotonic()
    for size in given.sizes:
        # Few runs of what takes long: its figures scatter less.
        plan = Plan(given.cases, given.runs if size <= 1000 else 1, given.steady_seconds, given.profile)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, servers(Path(folder)) as running:
            kinds.update(running.kinds)
            say(f"servers are up: {kinds}")
            Bench(running, Path(folder), size, plan, found).run()
    if given.sizes[-1] > given.sizes[0]:
        grown = growth(found.rows, "cold start until all are Ready", given.sizes[-2], given.sizes[-1])
        found.rows += [grown] if grown is not None else []
    surroundings = {
        **kinds,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load when it ended (1, 5, 15 minutes)": os.getloadavg(),
        "seconds": round(time.monotonic() - began),
    }
    print("\n".join(f"{name}: {value}" for name, value in surroundings.items()))
    print("Figures of several runs are medians, with the least and the greatest.\n")
    print(table(found.rows))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        raw = {"surroundings": surroundings, "rows": [row.raw() for row in found.rows], "figures": found.raw}
        given.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sizes", type=_sizes, default=[100, 1000, 10000], help="numbers of bindings (100,1000,10000)")
    parser.add_argument("--runs", type=int, default=3, help="of each case up to 1,000 bindings (3)")
    parser.add_argument("--cases", type=_cases, default=CASES, help=f"which cases ({','.join(CASES)})")
    parser.add_argument("--steady-seconds", type=float, default=300.0, help="how long it is left alone (300)")
    parser.add_argument("--profile", type=Path, help="where stacks of the controller go, sampled by `py-spy` of PATH")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    return parser


def _sizes(text: str) -> list[int]:
    return sorted({int(part) for part in text.split(",")})


def _cases(text: str) -> Sequence[str]:
    asked = text.split(",")
    if unknown := set(asked) - set(CASES):
        raise argparse.ArgumentTypeError(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
