"""Nomad's event stream: events and heartbeats in order, ends that are noticed, and closing from another thread."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trustme

from secretbinding.adapters.connection import NomadConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.errors import Denied, ServiceError, Unreachable

from .misbehaving import Misbehaving, lines, misbehaving, reply, reset


def batch(index: int, *keys: str) -> str:
    events: list[dict[str, Any]] = [
        {
            "Topic": "Job",
            "Type": "JobRegistered",
            "Key": key,
            "Namespace": "default",
            "Index": index,
            "Payload": {"a": 1},
        }
        for key in keys
    ]
    return json.dumps({"Index": index, "Events": events})


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


def adapter(server: Misbehaving, **settings: Any) -> NomadAdapter:
    return NomadAdapter(NomadConnection(address=server.address, token="t", **settings))


def test_events_come_one_by_one_and_heartbeats_carry_the_last_index(server: Misbehaving) -> None:
    server.script = [lines("{}", batch(7, "a", "b/c"), "", "{}", batch(9, "d"), then=server.silent)]
    with adapter(server).events(["Job:*", "Deployment:*"], "default", index=3) as stream:
        seen = [next(stream) for _ in range(5)]
    assert [(event.topic, event.key, event.index) for event in seen] == [
        ("", "", 0),
        ("Job", "a", 7),
        ("Job", "b/c", 7),
        ("", "", 7),
        ("Job", "d", 9),
    ]
    assert seen[1].payload == {"a": 1}
    assert (seen[1].type, seen[1].namespace) == ("JobRegistered", "default")
    assert server.requests[0].target == (
        "/v1/event/stream?namespace=default&index=3&topic=Job%3A%2A&topic=Deployment%3A%2A"
    )


def test_the_region_is_asked_for_where_one_is_configured(server: Misbehaving) -> None:
    server.script = [lines("{}", then=server.silent)]
    adapter(server, region="eu").events(["Job:*"], "default").close()
    assert server.requests[0].target.endswith("&region=eu")


def test_an_event_cut_into_pieces_or_longer_than_a_read_is_put_together(server: Misbehaving) -> None:
    long = batch(5, *("k" * 100 for _ in range(3000)))

    def in_pieces(handler: Any) -> None:
        for text in (long[:10], long[10:200_001], long[200_001:] + "\n"):
            handler.wfile.write(text.encode())
            handler.wfile.flush()
            time.sleep(0.05)
        server.silent(handler)

    server.script = [lines(then=in_pieces)]
    with adapter(server).events(["Job:*"], "default") as stream:
        assert len([next(stream) for _ in range(3000)]) == 3000


def test_a_connection_that_ends_is_unreachable(server: Misbehaving) -> None:
    server.script = [lines("{}")]
    stream = adapter(server).events(["Job:*"], "default")
    assert next(stream).topic == ""
    with pytest.raises(Unreachable, match="connection was closed"):
        next(stream)


def test_a_connection_that_is_reset_is_unreachable(server: Misbehaving) -> None:
    server.script = [lines("{}", then=reset)]
    stream = adapter(server).events(["Job:*"], "default")
    with pytest.raises(Unreachable):
        list(stream)


def test_a_stream_that_is_silent_for_two_heartbeats_is_unreachable(server: Misbehaving) -> None:
    server.script = [lines("{}", then=server.silent)]
    stream = adapter(server, heartbeat_seconds=0.2).events(["Job:*"], "default")
    assert next(stream).topic == ""
    started = time.monotonic()
    with pytest.raises(Unreachable, match="silent for too long"):
        next(stream)
    assert 0.35 <= time.monotonic() - started < 5


def test_closing_wakes_the_thread_that_waits_and_ends_the_stream_without_an_error(server: Misbehaving) -> None:
    server.script = [lines("{}", then=server.silent)]
    stream = adapter(server).events(["Job:*"], "default")
    first = threading.Event()

    def read() -> int:
        count = 0
        for _ in stream:
            count += 1
            first.set()
        return count

    with ThreadPoolExecutor(1) as worker:
        reading = worker.submit(read)
        assert first.wait(10)
        stream.close()
        assert reading.result(timeout=5) == 1


def test_closing_works_over_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with misbehaving(context) as server, authority.cert_pem.tempfile() as ca:
        server.script = [lines("{}", then=server.silent)]
        stream = adapter(server, ca_cert=ca).events(["Job:*"], "default")
        with ThreadPoolExecutor(1) as worker:
            assert next(stream).topic == ""
            reading = worker.submit(lambda: list(stream))
            stream.close()
            assert reading.result(timeout=5) == []


def test_a_closed_stream_gives_nothing_more_though_it_has_read_more(server: Misbehaving) -> None:
    server.script = [lines(batch(1, "a", "b", "c"), then=server.silent)]
    stream = adapter(server).events(["Job:*"], "default")
    assert next(stream).key == "a"
    stream.close()
    stream.close()
    assert list(stream) == []


def test_closed_and_broken_streams_give_their_connections_back(server: Misbehaving) -> None:
    nomad = adapter(server, long_pool_size=1, timeout_seconds=1.0)
    server.script = [lines("{}", then=server.silent)]
    for _ in range(3):
        nomad.events(["Job:*"], "default").close()
    server.script = [lines("{}")]
    for _ in range(3):
        with pytest.raises(Unreachable):
            list(nomad.events(["Job:*"], "default"))
    server.script = [lines("{}", then=server.silent)]
    with nomad.events(["Job:*"], "default") as stream:
        assert next(stream).topic == ""


def test_more_streams_than_the_pool_has_connections_is_unreachable_and_says_why(server: Misbehaving) -> None:
    nomad = adapter(server, long_pool_size=1, timeout_seconds=1.0)
    server.script = [lines("{}", then=server.silent)]
    with nomad.events(["Job:*"], "default"), pytest.raises(Unreachable, match="connections of the pool are in use"):
        nomad.events(["Job:*"], "default")


def test_a_refused_subscription_is_an_error_before_the_first_event(server: Misbehaving) -> None:
    server.script = [reply(403, b"Permission denied")]
    with pytest.raises(Denied, match="read-job"):
        adapter(server).events(["Job:*"], "default")


@pytest.mark.parametrize("line", ["<html>", "[]", "7"])
def test_a_line_that_is_no_event_is_a_service_error(server: Misbehaving, line: str) -> None:
    server.script = [lines(line, then=server.silent)]
    with pytest.raises(ServiceError, match="NOMAD_ADDR"):
        next(adapter(server).events(["Job:*"], "default"))


def test_a_line_without_an_end_is_a_service_error(server: Misbehaving) -> None:
    def endless(handler: Any) -> None:
        handler.wfile.write(b"x" * 10_000)
        handler.wfile.flush()
        server.silent(handler)

    server.script = [lines(then=endless)]
    with pytest.raises(ServiceError, match="more than 1000 bytes"):
        next(adapter(server, max_answer_bytes=1000).events(["Job:*"], "default"))
