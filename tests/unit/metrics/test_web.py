"""The server: formats, health checks, and what it refuses."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.reconciler import Reconciler
from secretbinding.errors import UsageError
from secretbinding.metrics import Monitoring, Servers, Unit, web
from secretbinding.metrics.web import REQUESTS
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import Vault
from tests.support.metrics import OPENMETRICS, Scrape, get
from tests.support.world import wait_until
from tests.unit.metrics.parts import FakeNomad, Fakes, FakeVault, FakeWatch


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    made = Fakes("nomad", stuck_seconds=0.05)
    made.monitoring.start()
    yield made
    made.monitoring.stop()


def test_metrics_come_as_prometheus_text_or_as_openmetrics(fakes: Fakes) -> None:
    address = fakes.monitoring.address
    plain, opened = get(address, "/metrics"), get(address, "/metrics", Accept=OPENMETRICS)
    assert (plain.status, opened.status) == (200, 200)
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert opened.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    for scraped in (Scrape(plain.text), Scrape(opened.text, open_metrics=True)):
        assert scraped.value("secretbinding_workers", connection="default") == 2


def test_there_is_nothing_else(fakes: Fakes) -> None:
    address = fakes.monitoring.address
    assert get(address, "/").status == 404
    assert get(address, "/metrics/").status == 404
    assert get(address, "/healthz", method="POST").status == 405
    assert get(address, "/metrics", method="DELETE").status == 405
    assert get(address, "/healthz", method="HEAD").status == 200


def test_ready_is_who_has_listed_his_sources_and_hears_his_servers(fakes: Fakes) -> None:
    address = fakes.monitoring.address
    wait_until("both servers have answered", lambda: "does not answer" not in get(address, "/readyz").text)
    unlisted = get(address, "/readyz")
    assert (unlisted.status, unlisted.text.splitlines()[0]) == (503, "failed source nomad has not been listed yet")
    fakes.engine.store.listed("nomad")
    assert get(address, "/readyz").text == "ok     source nomad\nok     vault\nok     nomad\n"
    fakes.sources["nomad"].problem = "Nomad's variables have not been listed"
    assert get(address, "/readyz").status == 503
    assert get(address, "/healthz").status == 200, "a new start would not mend it"


def test_one_connection_that_answers_is_enough_and_what_another_lacks_is_told() -> None:
    engine = Engine(cast(Reconciler, None), cast(Vault, None), EngineSettings(), connection="eu")
    away = FakeVault()
    away.sealed = True
    watches = (FakeWatch(), FakeWatch(), FakeWatch())
    fakes = Fakes("nomad", further={"eu": Unit(engine, Gatekeeper(Limits()), *watches, Servers(away, FakeNomad()))})
    for each in fakes.fleet.engines.values():
        each.store.listed("nomad")
    fakes.monitoring.start()
    try:
        address = fakes.monitoring.address
        wait_until("the others have answered", lambda: get(address, "/readyz").text.count("ok ") == 4)
        found, scraped = get(address, "/readyz"), Scrape(get(address, "/metrics").text)
    finally:
        fakes.monitoring.stop()
    assert (found.status, "warned vault of eu does not answer" in found.text) == (200, True)
    answering = "secretbinding_server_answering"
    assert [scraped.value(answering, connection=name, system="vault") for name in ("default", "eu")] == [1, 0]


def test_a_sealed_vault_and_a_nomad_without_a_leader_do_not_answer() -> None:
    fakes = Fakes("nomad")
    fakes.vault.sealed, fakes.nomad.address = True, ""
    fakes.monitoring.start()
    try:
        wait_until("both were asked", lambda: fakes.vault.asked > 0 and fakes.nomad.asked > 0)
        text = get(fakes.monitoring.address, "/readyz").text
    finally:
        fakes.monitoring.stop()
    assert "failed vault does not answer" in text
    assert "failed nomad does not answer" in text


def test_a_thread_that_has_ended_is_named(fakes: Fakes) -> None:
    ended = threading.Thread(target=lambda: None, name="worker-7")
    never = threading.Thread(target=lambda: None, name="not-started")
    fakes.sources["nomad"].threads = (ended, never)
    assert get(fakes.monitoring.address, "/healthz").status == 200
    ended.start()
    ended.join()
    got = get(fakes.monitoring.address, "/healthz")
    assert (got.status, got.text.splitlines()[0]) == (503, "failed threads ended: worker-7")


def test_work_that_nobody_takes_and_work_that_does_not_end_are_told(fakes: Fakes) -> None:
    fakes.engine.queue.add(WorkloadKey("default", "", "default", "a"))
    wait_until("it waits too long", lambda: "nothing was handed out" in get(fakes.monitoring.address, "/healthz").text)
    assert fakes.engine.queue.get(timeout=0) is not None
    wait_until("it takes too long", lambda: "a worker is at one job" in get(fakes.monitoring.address, "/healthz").text)
    fakes.engine.queue.done(WorkloadKey("default", "", "default", "a"))
    assert get(fakes.monitoring.address, "/healthz").status == 200


def test_an_address_that_is_taken_is_a_usage_error_that_names_the_variable(fakes: Fakes) -> None:
    port = int(fakes.monitoring.address.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"SECRETBINDING_METRICS_ADDRESS: cannot listen at 127.0.0.1:{port}") as error:
        Monitoring(("127.0.0.1", port)).start()
    assert "set it empty" in error.value.remedy


def test_a_host_that_is_not_here_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"cannot listen at 192\.0\.2\.1:9464"):
        Monitoring(("192.0.2.1", 9464)).start()


def test_it_listens_at_an_ipv6_address() -> None:
    monitoring = Monitoring(("::1", 0))
    try:
        monitoring.start()
    except UsageError:
        pytest.skip("this machine has no IPv6")
    try:
        assert monitoring.address.startswith("[::1]:")
        assert get(monitoring.address, "/healthz").status == 200
    finally:
        monitoring.stop()


def test_connections_that_say_nothing_keep_no_health_check_out(fakes: Fakes) -> None:
    host, _, port = fakes.monitoring.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(REQUESTS)]
    try:
        for _ in range(3):
            assert get(fakes.monitoring.address, "/healthz").status == 200
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b"", "the oldest has made room"
    finally:
        for each in silent:
            each.close()


def test_who_sends_a_byte_now_and_then_comes_to_an_end_all_the_same(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_REQUEST_SECONDS", 0.5)
    host, _, port = fakes.monitoring.address.rpartition(":")
    with socket.create_connection((host, int(port))) as dripping:
        dripping.settimeout(0.1)

        def ended() -> bool:
            try:
                dripping.sendall(b"G")
                return dripping.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until("it is cut off", ended, 10)


def test_a_metric_that_cannot_be_read_is_an_error_of_the_server_and_not_its_end(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.secrets.broken = True
    assert get(fakes.monitoring.address, "/metrics").status == 500
    fakes.secrets.broken = False
    assert get(fakes.monitoring.address, "/metrics").status == 200
    assert "Traceback" not in capsys.readouterr().err


def test_promtool_has_nothing_to_say_about_a_scrape(fakes: Fakes) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no `promtool` on PATH (Debian: apt-get install prometheus)")
    fakes.monitoring.called("vault", "policy_read", 0.1, "Success")
    text = get(fakes.monitoring.address, "/metrics").text
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
