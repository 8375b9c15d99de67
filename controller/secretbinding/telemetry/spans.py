"""Spans by OpenTelemetry: what `tracing` asks for, recorded by a tracer of the SDK."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from secretbinding.errors import SecretBindingError
from secretbinding.tracing import Span, Value


class OtelTracer:
    """Fulfils `tracing.Tracer`. No text of an exception is ever recorded: it may name paths."""

    def __init__(self, tracer: trace.Tracer, *, propagate: bool) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator() if propagate else None

    def span(self, name: str, attributes: Mapping[str, Value]) -> AbstractContextManager[Span]:
        return self._recorded(name, trace.SpanKind.INTERNAL, attributes)

    def call(self, name: str, attributes: Mapping[str, Value]) -> AbstractContextManager[Span]:
        if not trace.get_current_span().get_span_context().is_valid:
            return nullcontext(_Told(trace.INVALID_SPAN))
        return self._recorded(name, trace.SpanKind.CLIENT, attributes)

    def ids(self) -> Mapping[str, str]:
        context = trace.get_current_span().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return {}
        return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}

    def headers(self) -> Sequence[tuple[str, str]]:
        carried: dict[str, str] = {}
        if self._propagator is not None:
            self._propagator.inject(carried)
        return tuple(carried.items())

    @contextmanager
    def _recorded(self, name: str, kind: trace.SpanKind, attributes: Mapping[str, Value]) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as found:
            told = _Told(found)
            try:
                yield told
            except Exception as error:
                told.failed(error.reason if isinstance(error, SecretBindingError) else type(error).__name__)
                raise


class _Told:
    """Fulfils `tracing.Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: Value) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def failed(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(trace.StatusCode.ERROR)
