"""The page of a running controller follows a rotation, and shows no secret and no token."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.app import Controller
from secretbinding.metrics import Monitoring
from secretbinding.models.reasons import Reason
from secretbinding.page.access import Access
from secretbinding.page.site import FOR_THIS_MACHINE, Site
from secretbinding.sources.files import FilesSource
from tests.support.browser import PHONE, Chromium
from tests.support.metrics import get
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until, wary

CANARY = "canary-4c1b-never-to-be-seen"


class Looked:
    """A running controller with a binding from a file, whose page can be looked at."""

    def __init__(self, world: World, controller: Controller, monitoring: Monitoring, name: str, folder: Path) -> None:
        self.world = world
        self.controller = controller
        self.address = monitoring.address
        self.path = f"/binding?source=files&namespace=default&name={name}"
        self._name = name
        self._folder = folder

    def begin(self, **spec: Any) -> None:
        """A job that serves version 1."""
        self.world.secret(self._name, username="app", password=f"{CANARY}-1")
        self.world.register(wary(a_job(self._name)))
        (self._folder / "app.yaml").write_text(yaml.safe_dump(a_manifest(self._name, self._name, self._name, **spec)))
        self.await_text(r"UpToDate")
        self.world.deployed(self._name)

    def text(self, path: str = "") -> str:
        """What a page says, without its markup."""
        html = get(self.address, path or self.path).text
        return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL))

    def await_text(self, pattern: str, path: str = "") -> None:
        """Wait until a page says so."""
        wait_until(f"the page says {pattern}", lambda: re.search(pattern, self.text(path)) is not None)

    def everything(self) -> str:
        """All pages, with their markup."""
        return "".join(get(self.address, path).text for path in [*(Site.paths - {"/binding"}), self.path])


@pytest.fixture
def looked(tmp_path: Path, unique: str) -> Callable[..., AbstractContextManager[Looked]]:
    """Runs the controller for a stack."""

    @contextmanager
    def run(stack: Stack, page: Access = Access.LOCAL, **own: Any) -> Iterator[Looked]:
        world = World(stack, instance=unique, **own)
        monitoring = Monitoring(("127.0.0.1", 0), page=page, instance=unique)
        folder = tmp_path / "bindings"
        folder.mkdir()
        with world.running(FilesSource([str(folder)], interval_seconds=0.1), monitoring=monitoring) as controller:
            yield Looked(world, controller, monitoring, unique, folder)

    return run


Run = Callable[..., AbstractContextManager[Looked]]


def test_the_page_follows_a_rotation_that_comes_through_and_one_that_fails(
    stack: Stack, looked: Run, unique: str
) -> None:
    with looked(stack) as running:
        running.begin()
        assert re.search(rf"{unique} Well", running.text())
        running.world.secret(unique, username="app", password=f"{CANARY}-2")
        running.await_text(rf"{unique} Well .* app kv 2 ")
        assert "the roll of app 2 came through" in get(running.address, running.path).text
        assert f"name={unique}" in get(running.address, "/rotations?span=1h").text
        running.world.secret(unique, username="app", password="broken")
        running.await_text(rf"{unique} Problem DeploymentReverted")
        assert "app 2 → 3" in running.text().replace(" kv ", " ")
        assert "the roll of app 3 failed" in get(running.address, running.path).text
        assert "DeploymentReverted" in running.text("/events?kind=warning")
        assert re.search(rf"1 Problem .*{unique} default · files Problem", running.text("/"))
        seen = running.everything()
    assert CANARY not in seen
    for token in (running.world.settings.vault.token, running.world.settings.nomad.token):
        assert token.get_secret_value() not in seen


def test_what_is_held_and_why_stands_there_until_somebody_asks_for_it(
    simulator: Stack, looked: Run, unique: str
) -> None:
    with looked(simulator) as running:
        running.begin(rotation={"strategy": "Manual"})
        running.world.secret(unique, username="app", password=f"{CANARY}-2")
        running.await_text(rf"Held, and why.*{unique} default · files app 1 → 2", "/held")
        assert re.search(rf"{unique} Held ManualRotationPending", running.text())
        assert "1 Held" in running.text("/")


def test_a_browser_that_refreshes_sees_the_rotation_without_a_script(
    chromium: Chromium, simulator: Stack, looked: Run, unique: str
) -> None:
    with looked(simulator) as running, chromium.visit(width=PHONE) as visit:
        running.begin()
        page = visit.page
        page.goto(f"http://{running.address}{running.path}&live=1")
        assert "Well" in page.locator("main").inner_text()
        running.world.secret(unique, username="app", password=f"{CANARY}-2")
        done = page.get_by_role("img", name=re.compile("the roll of app 2 came through"))
        done.wait_for(state="attached", timeout=30_000)
        assert CANARY not in page.content()
        assert visit.overflow() == 0


def test_where_it_is_off_there_is_no_page(simulator: Stack, looked: Run) -> None:
    with looked(simulator, Access.OFF) as running:
        for path in Site.paths:
            assert get(running.address, path).status == 404
        assert get(running.address, "/metrics").status == 200


def test_who_comes_by_another_name_or_through_a_proxy_does_not_see_it(simulator: Stack, looked: Run) -> None:
    with looked(simulator) as running:
        assert get(running.address, "/").status == 200
        for headers in ({"Host": "controller.example.com"}, {"X_Forwarded_For": "10.0.0.7"}):
            refused = get(running.address, "/", **headers)
            assert (refused.status, refused.text) == (403, FOR_THIS_MACHINE)
        assert get(running.address, "/metrics", X_Forwarded_For="10.0.0.7").status == 200


def test_events_have_reasons_that_are_known(simulator: Stack, looked: Run) -> None:
    with looked(simulator) as running:
        running.begin()
        known = {reason.value for reason in Reason}
        told = re.findall(r'<b class="(?:Normal|Warning)">(\w+)</b>', get(running.address, "/events").text)
        assert told
        assert set(told) <= known
