"""What is traced, and that nothing is where nobody asked."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from secretbinding import tracing
from secretbinding.errors import Denied
from tests.support.commandline import environment

CANARY = "secret/data/path-that-is-nobodys-business"


def test_without_a_tracer_there_is_nothing() -> None:
    with tracing.span("reconcile", a=1) as outer, tracing.call("vault", "policy_read", "GET", "v:8200") as inner:
        outer.set(b=2)
        inner.failed("Denied")
        assert outer is inner
        assert dict(tracing.ids()) == {}
        assert tuple(tracing.headers()) == ()


def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys, secretbinding.cli.application, secretbinding.app, secretbinding.cli.running as running;"
        "from secretbinding.settings import Settings;"
        "assert running._telemetry(Settings(), None) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(environment()), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


class TestSpans:
    """Those that the SDK records."""

    @pytest.fixture
    def finished(self) -> "Iterator[object]":
        pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from secretbinding.telemetry.spans import OtelTracer

        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracing.install(OtelTracer(provider.get_tracer("test"), propagate=True))
        yield exporter.get_finished_spans
        tracing.install(None)

    def test_a_request_is_a_child_of_what_it_is_made_for(self, finished: object) -> None:
        with tracing.span("observe", secretbinding__history=True):
            with tracing.call("vault", "policy_read", "GET", "[::1]:8200") as told:
                told.set(http__response__status_code=200)
            assert set(tracing.ids()) == {"trace_id", "span_id"}
        call, observe = finished()  # type: ignore[operator]
        assert (call.name, call.kind.name, call.parent.span_id) == (
            "vault policy_read",
            "CLIENT",
            observe.context.span_id,
        )
        assert dict(call.attributes) == {
            "http.request.method": "GET",
            "secretbinding.system": "vault",
            "secretbinding.operation": "policy_read",
            "server.address": "::1",
            "server.port": 8200,
            "http.response.status_code": 200,
        }
        assert dict(observe.attributes) == {"secretbinding.history": True}

    def test_a_request_that_is_made_for_no_pass_is_none(self, finished: object) -> None:
        with tracing.call("nomad", "variables_list", "GET", "n:4646") as told:
            told.set(http__response__status_code=200)
            told.failed("Denied")
            assert tuple(tracing.headers()) == ()
        assert not finished()  # type: ignore[operator]

    def test_an_error_leaves_its_reason_and_not_its_text(self, finished: object) -> None:
        with pytest.raises(Denied), tracing.span("apply"):
            raise Denied(f"may not read {CANARY}", system="vault", operation=f"read {CANARY}")
        with pytest.raises(KeyError), tracing.span("plan"):
            raise KeyError(CANARY)
        for span, reason in zip(finished(), (Denied.reason, "KeyError"), strict=True):  # type: ignore[operator]
            assert span.attributes["error.type"] == reason
            assert (span.status.status_code.name, span.status.description, span.events) == ("ERROR", None, ())
            assert CANARY not in span.to_json()

    def test_a_request_carries_the_name_of_the_trace_and_nothing_else(self, finished: object) -> None:
        with tracing.span("reconcile"), tracing.call("vault", "policy_read", "GET"):
            ids = tracing.ids()
            carried = dict(tracing.headers())
        assert list(carried) == ["traceparent"]
        assert re.fullmatch(f"00-{ids['trace_id']}-{ids['span_id']}-0[13]", carried["traceparent"])
