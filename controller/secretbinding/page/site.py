"""The page as a WSGI application: reads the query, has the view computed, and answers with strict headers."""

import base64
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from secretbinding import __version__
from secretbinding.page.access import Access, is_local
from secretbinding.page.journal import Journal
from secretbinding.page.rows import State
from secretbinding.page.surroundings import Surroundings
from secretbinding.page.timeline import Mark
from secretbinding.page.views import VIEWS, Seen
from secretbinding.page.words import exactly, when

LIVE_SECONDS = 5
"""How often a page that follows is loaded again."""
_AT_ONCE = 4  # pages that are made at the same time: health checks are to be answered beside them
_LONGEST_QUERY = 2000

FOR_THIS_MACHINE = (
    "This page is shown to this machine only: open it by `kubectl port-forward` or an SSH tunnel as "
    "http://localhost:PORT/, or set SECRETBINDING_PAGE=on to show it to whoever reaches this port.\n"
)


class Site:
    """Answers GET and HEAD of `paths`.

    Args:
        around: the controller.
        journal: its newest events.
        instance: its name.
        access: whom it is shown to.
        now: the present time.
    """

    paths = frozenset(f"/{name}" for name in VIEWS)
    """The paths that it answers."""

    def __init__(
        self,
        around: Surroundings,
        journal: Journal,
        *,
        instance: str = "default",
        access: Access = Access.LOCAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._around = around
        self._journal = journal
        self._instance = instance
        self._access = access
        self._now = now
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        style = resources.files(__package__).joinpath("templates", "style.css").read_text(encoding="utf-8")
        self._headers = _headers(style)
        self._templates = _templates(style)

    def __call__(self, environment: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request for one of the paths."""

        def say(status: str, text: str, *more: tuple[str, str]) -> Iterable[bytes]:
            return self._answer(start, status, text, "text/plain", more)

        method = str(environment.get("REQUEST_METHOD") or "")
        if method not in ("GET", "HEAD"):
            return say("405 Method Not Allowed", "use GET\n", ("Allow", "GET, HEAD"))
        if self._access is Access.OFF or not (self._access is Access.ON or is_local(environment)):
            return say("403 Forbidden", FOR_THIS_MACHINE)
        query = _query(str(environment.get("QUERY_STRING") or ""))
        if query is None:
            return say("400 Bad Request", "the query cannot be read\n")
        if not self._free.acquire(blocking=False):
            return say("503 Service Unavailable", "too many pages at once; try again\n", ("Retry-After", "2"))
        try:
            status, html = self._made(str(environment.get("PATH_INFO") or "").removeprefix("/"), query)
        finally:
            self._free.release()
        answer = self._answer(start, status, html, "text/html")
        return answer if method == "GET" else ()

    def _made(self, name: str, query: Mapping[str, str]) -> tuple[str, str]:
        now = self._now()
        seen = Seen(self._around, self._around.entries(), self._journal.events(), now)
        view = VIEWS[name](seen, query)
        template, values = (view.template, view.values) if view is not None else ("missing.html", {})
        frame = {**self._frame(now), **_links(name, query)}
        html = self._templates.get_template(template).render({**frame, **values})
        return "200 OK" if view is not None else "404 Not Found", html

    def _frame(self, now: datetime) -> dict[str, Any]:
        """What every page has."""
        return {
            "now": now,
            "instance": self._instance,
            "version": __version__,
            "part": self._around.part(),
            "checks": sorted(self._around.checks(), key=lambda check: not check.problem),
            "since": self._journal.since,
            "journal_is_full": self._journal.is_full,
            "states": list(State),
            "marks": list(Mark),
            "when": lambda at: when(at, now),
            "exactly": exactly,
        }

    def _answer(
        self, start: Callable[..., Any], status: str, text: str, kind: str, more: Sequence[tuple[str, str]] = ()
    ) -> Iterable[bytes]:
        body = text.encode("utf-8", "replace")
        fixed = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start(status, [*fixed, *self._headers, *more])
        return [body]


def _links(name: str, query: Mapping[str, str]) -> dict[str, Any]:
    """How a template links to other pages. They are relative, so that they lead somewhere behind a proxy that adds to
    the path; whether the visitor follows goes along."""
    live = query.get("live") == "1"

    def link(to: str, /, **parameters: object) -> str:
        given = {key: str(value) for key, value in parameters.items() if value not in ("", None)}
        if live:
            given.setdefault("live", "1")
        if given.get("live") == "0":
            del given["live"]
        return f"{to or './'}{'?' if given else ''}{urlencode(given)}"

    def same(**parameters: object) -> str:
        return link(name, **{**query, **parameters})

    return {"live": live, "live_seconds": LIVE_SECONDS, "link": link, "same": same, "here": name}


def _headers(style: str) -> list[tuple[str, str]]:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return [
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ]


def _templates(style: str) -> Environment:
    made = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["style"] = Markup(style)
    made.filters["prose"] = _prose
    return made


def _prose(text: str) -> Markup:
    """A message, its words between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _query(text: str) -> dict[str, str] | None:
    """The parameters, each once; None when it is too long, or no query."""
    if len(text) > _LONGEST_QUERY:
        return None
    try:
        return dict(parse_qsl(text, max_num_fields=20, errors="strict"))
    except ValueError:
        return None
