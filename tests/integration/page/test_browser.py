"""The page in a real Chromium: on a phone and on a desk, by day and by night, with nothing but HTML."""

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from prometheus_client import CollectorRegistry

from secretbinding.metrics.web import MetricsServer, application
from secretbinding.models.reasons import Reason
from tests.support.browser import DESK, PHONE, Chromium, Scheme
from tests.support.page import FALSE, TRUE, Sample, a_large_site, a_secret, a_status, an_entry

EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(1)><svg onload=alert(1)>"
LONG = "a-name-as-long-as-it-may-be-" * 9
PAGES = {
    "overview": "/",
    "bindings": "/bindings",
    "rotations": "/rotations?span=24h",
    "held": "/held",
    "events": "/events",
    "failed": "/binding?source=nomad&namespace=search&name=search-indexer",
    "refused": "/binding?source=kubernetes&namespace=finance&name=ledger-writer",
    "missing": "/binding?source=nomad&namespace=no&name=no",
}


def served(sample: Sample) -> MetricsServer:
    """A server of the page alone."""
    pages = dict.fromkeys(sample.site.paths, sample.site)
    server = MetricsServer(("127.0.0.1", 0), application(CollectorRegistry(), lambda: (), lambda: (), pages))
    server.start()
    return server


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    """The address of a page with ten thousand bindings."""
    server = served(a_large_site(10_000))
    yield f"http://{server.address}"
    server.stop()


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """One whose names and messages are as long as they may be, and full of markup."""
    secret = a_secret("s" * 63, "1" * 128, "2" * 128, message=f"{EVIL} {'x' * 300}")
    status = a_status((FALSE, Reason.ERROR, f"{EVIL}\n{EVIL * 5}"), (TRUE, Reason.NEW_VERSION_HELD, EVIL), secret)
    sample = Sample([an_entry(LONG, status, tenant=LONG, job=EVIL)], held={EVIL: 3}, part=EVIL)
    sample.happened(LONG, timedelta(minutes=3), Reason.ERROR, EVIL * 4, warning=True)
    server = served(sample)
    yield f"http://{server.address}"
    server.stop()


@pytest.mark.parametrize("page", PAGES)
def test_on_a_phone_nothing_is_wider_than_the_screen(chromium: Chromium, large: str, page: str) -> None:
    with chromium.visit(width=PHONE) as visit:
        visit.page.goto(large + PAGES[page])
        assert visit.overflow() == 0
        assert visit.page.locator("main").bounding_box() is not None


def test_on_a_phone_the_longest_names_are_broken(chromium: Chromium, hostile: str) -> None:
    with chromium.visit(width=PHONE) as visit:
        for path in ("/", "/bindings", "/rotations", "/held", "/events", _page_of(LONG)):
            visit.page.goto(hostile + path)
            assert visit.overflow() == 0, path
            assert visit.page.locator("h1").count() == 1, path


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESK, "dark")])
def test_everybody_can_read_and_use_it(chromium: Chromium, large: str, width: int, scheme: Scheme) -> None:
    with chromium.visit(width=width, scheme=scheme, script=True) as visit:
        for name, path in PAGES.items():
            visit.page.goto(large + path)
            assert visit.faults() == [], name


def test_by_night_it_is_dark(chromium: Chromium, large: str) -> None:
    shades: dict[str, int] = {}
    for scheme in ("light", "dark"):
        with chromium.visit(scheme=scheme) as visit:
            visit.page.goto(large)
            shades[scheme] = sum(map(int, re.findall(r"\d+", visit.css("body", "backgroundColor"))))
    assert shades["dark"] < 120
    assert shades["light"] > 700


def test_names_and_messages_that_are_markup_are_text(chromium: Chromium, hostile: str) -> None:
    with chromium.visit(script=True) as visit:
        for path in ("/", "/bindings?q=" + EVIL, "/held", "/events", _page_of(LONG)):
            visit.page.goto(hostile + path)
            assert visit.page.locator("script, img, iframe, object").count() == 0
            assert EVIL in visit.page.locator("body").inner_text() or path.startswith("/bindings"), path
        assert visit.dialogs == []
        assert visit.complaints == []


def test_it_asks_for_nothing_but_itself(chromium: Chromium, large: str) -> None:
    with chromium.visit(script=True) as visit:
        visit.page.goto(large)
        assert visit.asked == [f"{large}/"]
        assert visit.complaints == []


def test_whatever_got_into_it_could_not_run(chromium: Chromium, large: str) -> None:
    with chromium.visit(script=True) as visit:
        visit.page.goto(large)
        visit.page.evaluate(
            "() => { const it = document.createElement('script'); it.textContent = 'document.title = \"ran\"';"
            " document.body.append(it); const picture = document.createElement('img'); picture.src = '/x';"
            " document.body.append(picture); }"
        )
        assert visit.page.title() != "ran"
        assert any("Content Security Policy" in told for told in visit.complaints)


def test_a_binding_is_found_and_looked_at_by_keyboard_alone(chromium: Chromium, large: str) -> None:
    with chromium.visit() as visit:
        page = visit.page
        page.goto(f"{large}/bindings")
        page.get_by_role("searchbox").press_sequentially("checkout")
        page.keyboard.press("Enter")
        page.wait_for_url("**/bindings?q=checkout")
        assert page.get_by_role("rowheader").all_inner_texts()[0].startswith("checkout-api")
        page.get_by_role("link", name="checkout-api").press("Enter")
        page.wait_for_url("**/binding?*")
        assert page.get_by_role("heading", level=1).inner_text() == "checkout-api"
        assert "lacks the field password" in page.locator("main").inner_text()
        page.get_by_role("link", name="Rotations").click()
        line = page.get_by_role("img", name=re.compile("the roll of app 18, session-key 2 is under way"))
        assert line.count() == 1


def test_the_pages_of_the_list_are_walked_through_by_links(chromium: Chromium, large: str) -> None:
    with chromium.visit(width=PHONE) as visit:
        page = visit.page
        page.goto(f"{large}/bindings?state=well")
        page.get_by_role("link", name="Next").click()
        assert "9 993 bindings, page 2 of 200" in page.locator("main").inner_text()
        page.get_by_role("link", name="Last").click()
        assert page.get_by_role("rowheader").count() == 9993 - 199 * 50


def test_a_page_of_somebody_else_cannot_frame_it(chromium: Chromium, large: str) -> None:
    with chromium.visit(script=True) as visit:
        visit.page.set_content(f'<iframe src="{large}/"></iframe>')
        visit.page.wait_for_timeout(300)
        assert all("secretbinding" not in frame.content() for frame in visit.page.frames[1:])
        assert any("frame" in told.lower() for told in visit.complaints)


def _page_of(name: str) -> str:
    return "/binding?" + urlencode({"source": "kubernetes", "namespace": name, "name": name})
