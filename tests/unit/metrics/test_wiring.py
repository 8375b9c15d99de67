"""What of a controller is looked at by `/healthz`."""

import threading
from collections.abc import Callable, Iterator

import pytest

from secretbinding.app import Clients, Controller, Tenancy
from secretbinding.metrics import Monitoring
from secretbinding.settings import ControllerSettings, NomadSettings, Settings, VaultSettings
from secretbinding.sources.files import FilesSource
from secretbinding.sources.nomad import NomadSource
from secretbinding.sources.policies import FilePolicies
from tests.support.metrics import get


class Beside:
    """Something whose thread has ended."""

    def __init__(self) -> None:
        ended = threading.Thread(target=lambda: None, name="admission-webhook")
        ended.start()
        ended.join()
        self.threads = (ended,)


Made = tuple[Controller, Monitoring]


@pytest.fixture
def made() -> Iterator[Callable[..., Made]]:
    """A controller that is not started, with two sources and policies in files."""
    opened: list[Clients] = []

    def make(*beside: Beside) -> Made:
        settings = Settings()
        settings.vault = VaultSettings(address="http://127.0.0.1:9")
        settings.nomad = NomadSettings(address="http://127.0.0.1:9")
        settings.controller = ControllerSettings()
        clients = Clients(settings)
        opened.append(clients)
        monitoring = Monitoring(("127.0.0.1", 0))
        sources = [FilesSource(["nowhere"]), NomadSource(clients.nomad, ("default",))]
        tenancy = Tenancy(settings, [FilePolicies(["nowhere"])])
        return Controller(settings, clients, sources, monitoring=monitoring, tenancy=tenancy, beside=beside), monitoring

    yield make
    for each in opened:
        each.close()


def test_a_thread_of_what_runs_beside_the_controller_has_to_live_as_well(made: Callable[..., Made]) -> None:
    _, monitoring = made(Beside())
    monitoring.start()
    try:
        got = get(monitoring.address, "/healthz")
    finally:
        monitoring.stop()
    assert (got.status, got.text.splitlines()[0]) == (503, "failed threads ended: admission-webhook")


def test_every_watch_source_and_place_of_policies_is_looked_at(made: Callable[..., Made]) -> None:
    controller, monitoring = made()
    controller.engine.sources["nomad"].start(controller.engine)
    parts = monitoring._parts
    assert parts is not None
    try:
        names = {loop.name for loop in parts.loops()}
    finally:
        controller.engine.sources["nomad"].stop()
    assert names == {
        "secret-watch",
        "nomad-variables",
        "nomad-events",
        "files-source",
        "variables-default",
        "policies-files",
        "labels",
    }
