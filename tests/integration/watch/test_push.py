"""Push: what OpenBao's audit devices tell makes the watch look at once, long before its poll would."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from queue import Empty

import pytest
import structlog

from secretbinding import logs
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from secretbinding.settings import ControllerSettings
from secretbinding.watch.audit import AuditFile, AuditListener
from tests.integration.watch.conftest import Audited
from tests.integration.watch.watching import HOUR, Watching, watching
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until
from tests.unit.watch.world import binding

DEVICES = ("tcp", "unix", "file")
SOON = 1.0
"""Seconds within which a change is to be seen."""


@contextmanager
def hearing(audited: Audited, device: str, on_change: Callable[[str], None]) -> Iterator[None]:
    own = ControllerSettings.model_validate(audited.settings(device))
    bind, file = own.audit_bind, own.audit_file
    audit = AuditListener(bind, on_change) if bind is not None else AuditFile(file or Path(), on_change)
    audit.start()
    try:
        yield
    finally:
        audit.stop()


def heard_again(audited: Audited, watch: Watching, path: str) -> None:
    """Wait until the device has found the listener again: what it wrote before may be lost."""
    for number in itertools.count(100):
        audited.openbao.put_secret(path, {"value": str(number)})
        try:
            watch.woken.get(timeout=0.5)
        except Empty:
            assert number < 130, "the device does not find the listener"
        else:
            return


@pytest.mark.parametrize("device", DEVICES)
def test_every_kind_of_change_is_seen_within_a_second_though_the_poll_is_an_hour_away(
    audited: Audited, device: str, unique: str
) -> None:
    api, path = audited.openbao.api, f"{unique}/app"
    audited.openbao.put_secret(path, {"value": "one"})
    with (
        watching(audited.openbao, [binding("web", path)]) as watch,
        hearing(audited, device, watch.watcher.pushed),
    ):
        watch.looked(1)
        heard_again(audited, watch, path)
        merge = {"Content-Type": "application/merge-patch+json"}
        current = int(api.get(f"/v1/secret/metadata/{path}").expect().json()["data"]["current_version"])
        changes: list[tuple[str, str, object, dict[str, str]]] = [
            ("PUT", f"data/{path}", {"data": {"value": "two"}}, {}),
            ("PATCH", f"data/{path}", {"data": {"value": "three"}}, merge),
            ("DELETE", f"data/{path}", None, {}),
            ("PUT", f"undelete/{path}", {"versions": [current + 2]}, {}),
            ("PUT", f"delete/{path}", {"versions": [current + 1]}, {}),
            ("PUT", f"destroy/{path}", {"versions": [current + 1]}, {}),
            ("PUT", f"metadata/{path}", {"max_versions": 3}, {}),
            ("DELETE", f"metadata/{path}", None, {}),
            ("PUT", f"data/{path}", {"data": {"value": "new"}}, {}),
        ]
        for method, where, body, headers in changes:
            started = time.monotonic()
            answer = api.request(method, f"/v1/secret/{where}", body=body, headers=headers)
            assert answer.status in (200, 204), answer.text
            assert watch.woken.get(timeout=10.0) == "web", where
            assert time.monotonic() - started < SOON, where
        assert watch.woken_so_far() == []


def test_what_changes_no_watched_secret_makes_no_look(audited: Audited, unique: str) -> None:
    api = audited.openbao.api
    audited.openbao.put_secret(f"{unique}/app", {"value": "one"})
    with (
        watching(audited.openbao, [binding("web", f"{unique}/app")]) as watch,
        hearing(audited, "tcp", watch.watcher.pushed),
    ):
        watch.looked(1)
        heard_again(audited, watch, f"{unique}/app")
        watch.vault.reads.clear()
        for number in range(20):
            audited.openbao.put_secret(f"{unique}/other{number}", {"value": "x"})
            api.get(f"/v1/secret/data/{unique}/app").expect()
        refused = api.put(f"/v1/secret/data/{unique}/app", {"data": {"value": "x"}, "options": {"cas": 77}})
        assert refused.status == 400
        audited.openbao.put_secret(f"{unique}/app", {"value": "two"})
        assert watch.woken.get(timeout=10.0) == "web"
        assert watch.vault.reads == [f"{unique}/app"]


def test_a_burst_of_writes_makes_few_looks(audited: Audited, unique: str) -> None:
    path = f"{unique}/app"
    audited.openbao.put_secret(path, {"value": "one"})
    with (
        watching(audited.openbao, [binding("web", path)]) as watch,
        hearing(audited, "tcp", watch.watcher.pushed),
    ):
        watch.looked(1)
        heard_again(audited, watch, path)
        watch.vault.reads.clear()
        started = time.monotonic()
        for number in range(30):
            newest = audited.openbao.put_secret(path, {"value": str(number)})
        took = time.monotonic() - started
        wait_until("the last one is seen", lambda: newest in watch.vault.currents)
        assert len(watch.vault.reads) <= took / 0.1 + 2


def test_changes_in_a_namespace_are_heard_in_that_namespace_only(audited: Audited, unique: str) -> None:
    api = audited.openbao.api
    api.put(f"/v1/sys/namespaces/{unique}", {}).expect(200, 204)
    inside = {"X-Vault-Namespace": unique}
    mount = {"type": "kv", "options": {"version": "2"}}
    api.request("PUT", "/v1/sys/mounts/secret", body=mount, headers=inside).expect(200, 204)

    def write(value: str, **where: str) -> None:
        headers = {"X-Vault-Namespace": where["namespace"]} if where else {}
        written = {"data": {"value": value}}
        wait_until(
            "it is written",
            lambda: api.request("PUT", "/v1/secret/data/app", body=written, headers=headers).status == 200,
        )

    write("one", namespace=unique)
    with (
        watching(audited.openbao, [binding("web", "app")], namespace=unique) as watch,
        hearing(audited, "file", watch.watcher.pushed),
    ):
        watch.looked(1)
        write("elsewhere")
        write("two", namespace=unique)
        assert watch.woken.get(timeout=10.0) == "web"
        assert watch.vault.reads == ["app", "app"]


def test_vault_works_on_while_the_controller_is_away_and_is_heard_again_afterwards(
    audited: Audited, unique: str
) -> None:
    path = f"{unique}/app"
    audited.openbao.put_secret(path, {"value": "nobody listens"})
    with watching(audited.openbao, [binding("web", path)]) as watch:
        watch.looked(1)
        with hearing(audited, "tcp", watch.watcher.pushed):
            heard_again(audited, watch, path)
        for _ in range(10):
            started = time.monotonic()
            audited.openbao.put_secret(path, {"value": "away again"})
            assert time.monotonic() - started < SOON
        with hearing(audited, "tcp", watch.watcher.pushed):
            heard_again(audited, watch, path)


def test_the_file_is_followed_when_it_is_rotated_under_the_server(audited: Audited, unique: str) -> None:
    path = f"{unique}/app"
    audited.openbao.put_secret(path, {"value": "one"})
    with (
        watching(audited.openbao, [binding("web", path)]) as watch,
        hearing(audited, "file", watch.watcher.pushed),
    ):
        watch.looked(1)
        audited.file.rename(audited.file.with_suffix(f".{unique}"))
        audited.openbao.put_secret(path, {"value": "two"})
        assert watch.woken.get(timeout=10.0) == "web"
        audited.openbao.reload()
        audited.openbao.put_secret(path, {"value": "three"})
        assert watch.woken.get(timeout=10.0) == "web"
        assert audited.file.stat().st_size > 0


@pytest.fixture(scope="module")
def audited_stack(audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The simulator, joined to the OpenBao with audit devices."""
    with Simulator(tmp_path_factory.mktemp("simulator"), vault_address=audited.openbao.address) as server:
        audited.openbao.enable_jwt(server.address)
        yield Stack(server.kind, server.address, server.api, server.token, audited.openbao, server.region)


def pins(world: World, name: str, version: int) -> bool:
    return f"?version={version}" in str(world.job(name))


@pytest.mark.parametrize("device", DEVICES)
def test_a_written_secret_is_a_registered_job_soon_with_polls_an_hour_apart_and_its_value_in_no_log(
    audited: Audited, audited_stack: Stack, device: str, unique: str
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    shown = StringIO()
    logs.configure("DEBUG", "text", shown)
    world = World(audited_stack, poll_seconds=HOUR, progress_seconds=5.0, **audited.settings(device))
    try:
        world.secret(unique, username="app", password="canary-one")
        world.register(a_job(unique, count=0))
        with world.running():
            world.bind(a_manifest(unique, unique, unique))
            world.await_reason(unique, Reason.READY)
            # The device may have lost its listener in the test before.
            for _ in range(10):
                world.vault.get("/v1/sys/mounts").expect()
            for number in range(2, 8):
                started = time.monotonic()
                world.secret(unique, username="app", password=f"canary-{number}")
                wait_until("it is registered", partial(pins, world, unique, number), 20.0)
                if number > 2:
                    assert time.monotonic() - started < 2 * SOON
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = handlers, level
    text = shown.getvalue()
    assert unique in text
    for canary in ("canary", "hmac", "accessor", "client_token"):
        assert canary not in text
