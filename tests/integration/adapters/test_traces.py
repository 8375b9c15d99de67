"""What a request leaves in a trace, attempt by attempt, and what it carries to the server."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from secretbinding import tracing
from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.errors import Denied
from secretbinding.telemetry.spans import OtelTracer

from .misbehaving import misbehaving, reply

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

CANARY = "canary-b1d2"
Finished = Callable[[], Sequence["ReadableSpan"]]


@pytest.fixture
def finished() -> Iterator[Finished]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(OtelTracer(provider.get_tracer("test"), propagate=True))
    yield exporter.get_finished_spans
    tracing.install(None)


def test_each_attempt_is_a_span_and_the_server_is_told_of_the_trace(finished: Finished) -> None:
    with misbehaving() as server:
        vault = VaultAdapter(VaultConnection(address=server.address, token=CANARY, retry_seconds=5.0))
        server.script = [reply(503), reply(200, {"data": {"name": "app", "policy": "text"}})]
        with tracing.span("observe"):
            assert vault.read_policy(f"path-{CANARY}") == "text"
        port = int(server.address.rpartition(":")[2])
        carried = [request.headers.get("traceparent") for request in server.requests]
    first, second, observe = finished()
    assert [span.name for span in (first, second)] == ["vault policy_read"] * 2
    for span, header in zip((first, second), carried, strict=True):
        assert span.attributes is not None
        assert span.context is not None
        assert span.attributes["server.port"] == port
        assert re.fullmatch(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-0[13]", str(header))
        assert CANARY not in span.to_json()
    assert first.attributes is not None
    assert (first.attributes["error.type"], first.attributes["http.response.status_code"]) == ("Unavailable", 503)
    assert first.status.status_code.name == "ERROR"
    assert second.status.status_code.name == "UNSET"
    assert observe.context is not None
    assert {span.parent.span_id for span in (first, second) if span.parent} == {observe.context.span_id}


def test_a_refusal_of_nomads_leaves_its_reason_alone(finished: Finished) -> None:
    with misbehaving() as server:
        nomad = NomadAdapter(NomadConnection(address=server.address, token=CANARY))
        server.script = [reply(403, f"Permission denied {CANARY}")]
        with pytest.raises(Denied), tracing.span("apply"):
            nomad.write_variable("default", f"nomad/{CANARY}", {"value": CANARY})
    write, apply = finished()
    for span in (write, apply):
        assert span.attributes is not None
        assert span.attributes["error.type"] == Denied.reason
        assert CANARY not in span.to_json()


def test_a_request_without_a_pass_carries_nothing(finished: Finished) -> None:
    with misbehaving() as server:
        server.script = [reply(200, {"data": {"name": "app", "policy": "text"}})]
        assert VaultAdapter(VaultConnection(address=server.address, token="t")).read_policy("app") == "text"
        assert "traceparent" not in server.requests[0].headers
    assert not finished()
