"""What each page shows, as values for its template. Reads nothing but what it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.page.journal import Event
from secretbinding.page.rows import Filter, State, holds, listing, moment, row_of, state_of
from secretbinding.page.surroundings import Surroundings
from secretbinding.page.timeline import SPANS, Window, lane, lanes, spanning

SIZE = 50
"""How many rows a page of a list has."""
_FEW = 8
_LONGEST_TEXT = 200
_MEANINGS = {word.value: word.meaning for kind in (ConditionType, Reason) for word in kind}

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to be seen when a page is asked for. `events` are oldest first."""

    around: Surroundings
    entries: Sequence[Entry]
    events: Sequence[Event]
    now: datetime


@dataclass(frozen=True, slots=True)
class View:
    """A template, and what it is filled with."""

    template: str
    values: Mapping[str, Any]


def overview(seen: Seen, query: Query) -> View | None:
    """Counts, what needs somebody, the last day's rotations, what is held, the newest events."""
    window = Window(seen.now, SPANS["24h"])
    found = listing(seen.entries, Filter(), page=1, size=_FEW)
    rows = [row for row in found.rows if row.state in (State.PROBLEM, State.WAITING)]
    drawn = lanes(seen.entries, seen.events, window)
    held = holds(seen.entries)
    return View(
        "overview.html",
        {
            "counts": found.counts,
            "total": found.total,
            "rows": rows,
            "window": window,
            "lanes": drawn[:_FEW],
            "lanes_total": len(drawn),
            "holds": held[:_FEW],
            "holds_total": len(held),
            "held_sources": seen.around.held(),
            "events": list(reversed(seen.events))[:_FEW],
            "events_total": len(seen.events),
        },
    )


def bindings(seen: Seen, query: Query) -> View | None:
    """All bindings, those with problems first; by text and state."""
    text = query.get("q", "").strip()[:_LONGEST_TEXT]
    state = next((one for one in State if one.value == query.get("state")), None)
    found = listing(seen.entries, Filter(text, state), page=_page(query), size=SIZE)
    total = sum(found.counts.values())
    return View("bindings.html", {"text": text, "state": state, "listing": found, "matching": total, "size": SIZE})


def binding(seen: Seen, query: Query) -> View | None:
    """One binding; None when there is none of that name."""
    key = BindingKey(query.get("source", ""), query.get("namespace", ""), query.get("name", ""))
    entry = seen.around.get(key)
    if entry is None:
        return None
    own = [event for event in seen.events if event.key == key]
    span = _span(query) or spanning(entry, own, seen.now)
    window = Window(seen.now, SPANS[span])
    spec = entry.item.binding.spec if entry.item.binding is not None else None
    return View(
        "binding.html",
        {
            "entry": entry,
            "row": row_of(entry),
            "status": entry.status,
            "state": state_of(entry),
            "kinds": {one.name: one.kind_name for one in spec.secrets} if spec is not None else {},
            "strategy": spec.rotation.strategy.value if spec is not None else "",
            "suspended": spec is not None and spec.suspend,
            "problems": [str(problem) for problem in entry.item.problems],
            "meanings": _MEANINGS,
            "moment": moment,
            "window": window,
            "span": span,
            "spans": list(SPANS),
            "lanes": [lane(entry, own, window)],
            "events": list(reversed(own))[:SIZE],
            "events_total": len(own),
        },
    )


def rotations(seen: Seen, query: Query) -> View | None:
    """The time line of every binding that rolled lately or is expected to."""
    span = _span(query) or "24h"
    window = Window(seen.now, SPANS[span])
    drawn = lanes(seen.entries, seen.events, window)
    page, pages = _pages(len(drawn), query)
    values = {"window": window, "span": span, "spans": list(SPANS), "lanes": drawn[(page - 1) * SIZE : page * SIZE]}
    return View("rotations.html", {**values, "total": len(drawn), "page": page, "pages": pages})


def held(seen: Seen, query: Query) -> View | None:
    """Every secret whose wanted version does not serve, and every source that nothing is deleted of."""
    found = holds(seen.entries)
    page, pages = _pages(len(found), query)
    shown = found[(page - 1) * SIZE : page * SIZE]
    values = {"holds": shown, "total": len(found), "page": page, "pages": pages}
    return View("held.html", {**values, "held_sources": seen.around.held()})


def events(seen: Seen, query: Query) -> View | None:
    """The newest events, of all bindings or of warnings only."""
    warnings = query.get("kind") == "warning"
    found = [event for event in reversed(seen.events) if event.kind == "Warning" or not warnings]
    page, pages = _pages(len(found), query)
    values = {"events": found[(page - 1) * SIZE : page * SIZE], "total": len(found), "page": page, "pages": pages}
    return View("events.html", {**values, "warnings": warnings})


VIEWS: Mapping[str, Callable[[Seen, Query], View | None]] = {
    "": overview,
    "bindings": bindings,
    "binding": binding,
    "rotations": rotations,
    "held": held,
    "events": events,
}
"""By name of the page, which is the last part of its path."""


def _span(query: Query) -> str:
    return query.get("span", "") if query.get("span") in SPANS else ""


def _page(query: Query) -> int:
    text = query.get("page", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _pages(total: int, query: Query) -> tuple[int, int]:
    """The page asked for, or the nearest one that there is, and how many there are."""
    pages = max(1, -(-total // SIZE))
    return min(max(1, _page(query)), pages), pages
