"""A real Chromium, driven by Playwright; what needs one skips visibly where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]
PHONE = 360
DESK = 1280


class Chromium:
    """One browser; each visit has a profile of its own."""

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser

    @contextmanager
    def visit(self, *, width: int = DESK, scheme: Scheme = "light", script: bool = False) -> Iterator["Visit"]:
        """A window; without `script` nothing that a page brings along could run, whatever its headers say."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
        )
        try:
            yield Visit(context.new_page())
        finally:
            context.close()


class Visit:
    """A window, and what went on in it.

    Attributes:
        complaints: what the browser has put on its console, such as what a policy forbade.
        dialogs: what was popped up.
        asked: the addresses that were asked for.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def css(self, selector: str, name: str) -> str:
        """A computed style."""
        return str(self.page.evaluate("([s, n]) => getComputedStyle(document.querySelector(s))[n]", [selector, name]))

    def faults(self) -> list[str]:
        """What axe-core (WCAG 2.2 A and AA, and good practice) finds fault with, and where. Needs `script`."""
        axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-playwright-python")
        found = axe.Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {', '.join(str(node['target'][0]) for node in one['nodes'][:4])} ({one['help']})"
            for one in found
        ]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A headless Chromium for the tests of a module."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no `chromium` on PATH (Debian: apt-get install chromium): the page is not looked at in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: nothing drives the browser")
    with playwright.sync_playwright() as driver:
        # Root has no sandbox of Chromium's, and a container often too little shared memory.
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=found, args=flags)
        yield Chromium(browser)
        browser.close()
