"""The page as it is answered: to whom, with which headers, and never with anybody else's markup in it."""

import html
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

import secretbinding.page
from secretbinding.errors import Problem
from secretbinding.models.reasons import Reason
from secretbinding.page.access import Access
from secretbinding.page.rows import State
from secretbinding.page.site import FOR_THIS_MACHINE, Site
from tests.support.page import FALSE, TRUE, Sample, a_large_site, a_secret, a_status, an_entry

PATHS = sorted(Site.paths - {"/binding"})
EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(1)>'\"{{7*7}}"


@pytest.fixture(scope="module")
def large() -> Sample:
    return a_large_site(10_000)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_headers_that_let_a_browser_load_and_run_nothing(path: str) -> None:
    shown = Sample([an_entry("app")]).visitor.get(path)
    assert shown.status == "200 OK"
    policy = dict(part.strip().split(" ", 1) for part in shown.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy["style-src"])
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["Content-Length"] == str(len(shown.text.encode()))
    assert "<script" not in shown.text
    assert not re.search(r"\son\w+=|\sstyle=", shown.text)


@pytest.mark.parametrize("path", PATHS)
def test_every_page_names_its_language_its_width_and_its_landmarks(path: str) -> None:
    text = Sample([an_entry("app")]).visitor.get(path).text
    assert '<html lang="en">' in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    for landmark in ("<header", "<main", "<footer", "<nav", "<h1"):
        assert landmark in text


def test_names_and_messages_are_shown_as_they_are_and_never_as_markup() -> None:
    secret = a_secret("app", EVIL[:60], EVIL[:50], message=EVIL)
    status = a_status((FALSE, Reason.ERROR, f"{EVIL}\n{EVIL}"), (TRUE, Reason.NEW_VERSION_HELD, EVIL), secret)
    entry = an_entry(EVIL, status, tenant=EVIL, job=EVIL, problems=(Problem(EVIL, EVIL, EVIL),))
    sample = Sample([entry], held={EVIL: 4})
    sample.happened(EVIL, timedelta(minutes=1), Reason.ERROR, EVIL, warning=True)
    pages = [sample.visitor.get(path, f"q={'%3Cscript%3E'}").text for path in PATHS]
    link = re.search(r'href="(binding\?[^"]*)"', pages[0])
    assert link is not None
    query = html.unescape(link.group(1)).partition("?")[2]
    pages.append(sample.visitor.get("/binding", query).text)
    assert html.escape(EVIL[:20]) in pages[-1]
    for text in pages:
        assert "<script" not in text
        assert "<img" not in text
        assert "49" not in re.sub(r"[0-9]{3,}", "", text.partition("<main")[2])


def test_it_is_shown_to_this_machine_only_unless_told_otherwise() -> None:
    visitor = Sample([an_entry("app")]).visitor
    assert visitor.get("/", REMOTE_ADDR="::1", HTTP_HOST="[::1]:9464").status == "200 OK"
    for other in (
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": "127.0.0.6"},
        {"HTTP_HOST": "rebound.example.com:9464"},
        {"HTTP_HOST": ""},
        {"HTTP_HOST": "["},
        {"HTTP_X_FORWARDED_FOR": "10.0.0.7"},
        {"HTTP_FORWARDED": "for=10.0.0.7"},
    ):
        refused = visitor.get("/", **other)
        assert (refused.status, refused.text) == ("403 Forbidden", FOR_THIS_MACHINE), other
        assert "app" not in refused.text.replace("secretbinding", "")
    everybody = Sample([an_entry("app")], access=Access.ON).visitor
    assert everybody.get("/", REMOTE_ADDR="10.0.0.7", HTTP_HOST="controller.svc").status == "200 OK"


def test_it_only_reads() -> None:
    visitor = Sample([an_entry("app")]).visitor
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = visitor.get("/bindings", method=method)
        assert (refused.status, refused.headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    head = visitor.get("/bindings", method="HEAD")
    assert (head.status, head.text) == ("200 OK", "")
    assert int(head.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "query",
    ["page=-1", "page=zero", "page=99999999999999999999", "page=%FF", "state=none", "span=1y", "q=%00%1b", "=&&="],
)
def test_a_query_that_makes_no_sense_is_passed_over_or_refused(query: str) -> None:
    visitor = Sample([an_entry("app")]).visitor
    for path in Site.paths:
        assert visitor.get(path, query).status in ("200 OK", "404 Not Found", "400 Bad Request")


def test_a_query_that_is_too_long_is_refused() -> None:
    assert Sample().visitor.get("/bindings", "q=" + "x" * 3000).status == "400 Bad Request"
    assert Sample().visitor.get("/bindings", "&".join(f"a{n}=1" for n in range(50))).status == "400 Bad Request"


def test_of_ten_thousand_bindings_a_page_is_shown_with_the_problems_first(large: Sample) -> None:
    started = time.thread_time()
    first = large.visitor.get("/bindings").text
    assert time.thread_time() - started < 1.5, "it takes a tenth of a second, and another for the first template"
    rows = re.findall(r'<th role="rowheader"[^>]*>\n?<a href="[^"]*">([^<]*)</a>', first)
    assert len(rows) == 50
    assert rows[:3] == ["ledger-writer", "checkout-api", "search-indexer"]
    assert "10 000 bindings, page 1 of 200" in first
    assert len(first) < 150_000
    last = large.visitor.get("/bindings", "page=200").text
    assert 'rel="next"' not in last
    assert 'href="bindings?page=199"' in last


def test_bindings_are_filtered_by_text_and_state(large: Sample) -> None:
    found = large.visitor.get("/bindings", "q=finance&state=held").text
    rows = re.findall(r'<th role="rowheader"[^>]*>\n?<a href="[^"]*">([^<]*)</a>', found)
    assert rows == ["billing-worker", "reports"]
    assert 'value="finance"' in found
    assert "No binding matches" in large.visitor.get("/bindings", "q=nothing-like-it").text


def test_a_filter_goes_along_to_the_next_page_and_so_does_refreshing(large: Sample) -> None:
    shown = large.visitor.get("/bindings", "q=nomad&live=1").text
    assert 'href="bindings?q=nomad&amp;live=1&amp;page=2"' in shown
    assert '<meta http-equiv="refresh" content="5">' in shown
    assert 'href="bindings?q=nomad">Stop refreshing' in shown
    assert "http-equiv" not in large.visitor.get("/bindings", "q=nomad").text


def test_the_states_are_told_by_word_and_shape_as_well_as_by_colour(large: Sample) -> None:
    shown = large.visitor.get("/").text
    for state in State:
        assert f'<use href="#s-{state}"/>' in shown
        assert f'id="s-{state}"' in shown


def test_a_server_that_does_not_answer_is_told_first(large: Sample) -> None:
    pulse = large.visitor.get("/held").text.partition("Sources and servers")[2]
    assert pulse.index("vault does not answer") < pulse.index("source kubernetes")


def test_what_is_held_is_told_with_its_reason_and_a_source_of_which_too_much_is_gone_as_well() -> None:
    held = a_secret("db", "3", "4", message="version 4 waits for the window `0 2 * * *`")
    status = a_status((TRUE, Reason.READY, ""), (TRUE, Reason.NEW_VERSION_HELD, "waits"), held)
    shown = Sample([an_entry("app", status)], held={"nomad": 12}).visitor.get("/held").text
    assert "version 4 waits for the window <code>0 2 * * *</code>" in shown
    assert "12 bindings of the source nomad are gone at once" in shown
    assert "SECRETBINDING_CONFIRM_REMOVALS=nomad" in shown
    assert "Nothing is held" in Sample([an_entry("app")]).visitor.get("/held").text


def test_a_binding_that_is_not_there_is_not_found() -> None:
    shown = Sample([an_entry("app")]).visitor.get("/binding", "source=nomad&namespace=x&name=y")
    assert (shown.status, "There is no such binding" in shown.text) == ("404 Not Found", True)


def test_one_of_several_controllers_says_which_part_it_shows() -> None:
    assert "shards 0, 3 of 8" in Sample(part="shards 0, 3 of 8").visitor.get("/").text


def test_warnings_can_be_looked_at_alone() -> None:
    sample = Sample([an_entry("app")])
    sample.happened("app", timedelta(minutes=2), Reason.DEPLOYMENT_RUNNING, "begins")
    sample.happened("app", timedelta(minutes=1), Reason.SECRET_FIELD_MISSING, "lacks one", warning=True)
    assert "begins" in sample.visitor.get("/events").text
    only = sample.visitor.get("/events", "kind=warning").text
    assert ("begins" in only, "lacks one" in only) == (False, True)


def test_pages_that_are_made_at_once_are_few() -> None:
    sample = Sample([an_entry("app")])
    statuses: list[str] = []
    # While a page is made somebody asks for another, and so on.
    sample.asked = lambda: statuses.append(sample.visitor.get("/").status)
    assert sample.visitor.get("/").status == "200 OK"
    assert statuses == ["503 Service Unavailable", "200 OK", "200 OK", "200 OK"]
    sample.asked = lambda: None
    assert sample.visitor.get("/").status == "200 OK"


def test_the_templates_switch_escaping_off_nowhere() -> None:
    files = list((Path(str(secretbinding.page.__file__)).parent / "templates").glob("*.html"))
    assert len(files) >= 8
    for file in files:
        text = file.read_text()
        assert "safe" not in re.findall(r"\|\s*(\w+)", text), file.name
        assert "autoescape" not in text
