"""The arithmetic and the table of the measurement. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile. Raises `ValueError` for no values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of several runs of one thing, in the order of the runs.

    Attributes:
        unit: what they are counted in; "" for ratios and numbers of things.
    """

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def middle(self) -> float:
        """The median. Raises `statistics.StatisticsError` for no values."""
        return float(median(self.values))

    def __str__(self) -> str:
        """The median, and the least and the greatest where there are several."""
        unit = f" {self.unit}" if self.unit else ""
        if len(self.values) == 1:
            return f"{number(self.values[0])}{unit}"
        return f"{number(self.middle)}{unit} ({number(min(self.values))}-{number(max(self.values))})"


def ratios(of: Series, to: Series) -> Series:
    """Run by run, since two figures of one run were taken under the same load. Raises `ValueError` when the runs do not
    pair up, `ZeroDivisionError` for a run that took no time."""
    return Series(tuple(one / other for one, other in zip(of.values, to.values, strict=True)), "")


def number(value: float) -> str:
    """Three digits that count; whole numbers as they are."""
    if value == int(value) and abs(value) < 10_000_000:
        return str(int(value))
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a figure may be at most."""

    most: float
    unit: str = ""

    def judge(self, figure: float) -> str:
        """`met`, or `NOT MET`, with what was allowed."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{'met' if figure <= self.most else 'NOT MET'} (at most {number(self.most)}{unit})"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        ours, bare: the controller and the bare client; None where there is nothing to set beside it.
        budget: what the ratio may be at most where there is one, else what `ours` may be.
    """

    case: str
    size: int
    ours: Series
    bare: Series | None = None
    budget: Budget | None = None

    @property
    def ratio(self) -> Series | None:
        """Ours to the bare client's."""
        return ratios(self.ours, self.bare) if self.bare is not None else None

    @property
    def verdict(self) -> str:
        """Whether the budget is met; "" without one."""
        if self.budget is None:
            return ""
        return self.budget.judge((self.ratio or self.ours).middle)

    def raw(self) -> Mapping[str, Any]:
        """All of it, for the file of raw figures."""
        ratio = self.ratio
        return {
            "case": self.case,
            "size": self.size,
            "unit": self.ours.unit,
            "ours": list(self.ours.values),
            "bare": list(self.bare.values) if self.bare is not None else None,
            "ratio": list(ratio.values) if ratio is not None else None,
            "budget": self.budget.most if self.budget is not None else None,
            "met": self.verdict.startswith("met") if self.budget is not None else None,
        }


def table(rows: Sequence[Row]) -> str:
    """Markdown, its columns aligned."""
    cells = [["case", "bindings", "controller", "bare client", "ratio", "budget"]]
    for row in rows:
        ratio = row.ratio
        bare = str(row.bare) if row.bare is not None else ""
        shown = str(ratio) if ratio is not None else ""
        cells.append([row.case, f"{row.size:,}", str(row.ours), bare, shown, row.verdict])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths))
    return "\n".join(f"{line} |".replace("-- |", "--|") for line in lines)


def growth(rows: Sequence[Row], case: str, small: int, large: int) -> Row | None:
    """How many times as long a case takes at one size as at another; None where one of them was not measured."""
    found = {row.size: row.ours for row in rows if row.case == case}
    if small not in found or large not in found:
        return None
    times = Series((found[large].middle / found[small].middle,), "")
    name = f"growth: {case}, {large:,} against {small:,}"
    # The budget is 11 times for ten times as many.
    return Row(name, large, times, budget=Budget(1.1 * large / small, "times"))
