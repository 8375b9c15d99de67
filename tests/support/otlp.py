"""An OpenTelemetry collector in this process: takes OTLP over HTTP, and remembers what came."""

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

INTERNAL, CLIENT, ERROR = 1, 3, 2


@dataclass(frozen=True, slots=True)
class Traced:
    """A span that came. `parent` is "" for the first of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    status: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class Collector:
    """What came: `raw` is every body, uncompressed; `headers` those of each request."""

    def __init__(self) -> None:
        self.address = ""
        self.raw: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 200
        self._lock = threading.Lock()
        self._spans: list[Traced] = []
        self._metrics: dict[str, Any] = {}
        self._resource: Mapping[str, Any] = {}

    def take(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """A request; the status to answer with."""
        with self._lock:
            self.raw.append(body)
            self.headers.append(headers)
            if self.status == 200 and path == "/v1/traces":
                self._take_spans(ExportTraceServiceRequest.FromString(body))
            elif self.status == 200 and path == "/v1/metrics":
                self._take_metrics(ExportMetricsServiceRequest.FromString(body))
            return self.status

    def spans(self, name: str = "") -> list[Traced]:
        """The spans that have come, of one name or all."""
        with self._lock:
            return [span for span in self._spans if name in ("", span.name)]

    def metrics(self) -> dict[str, Any]:
        """The metrics as they came last, by name."""
        with self._lock:
            return dict(self._metrics)

    @property
    def resource(self) -> Mapping[str, Any]:
        """Who sent the metrics."""
        with self._lock:
            return self._resource

    def _take_spans(self, request: Any) -> None:
        for group in request.resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    attributes = _plain(span.attributes)
                    self._spans.append(Traced(span.name, *ids, span.kind, span.status.code, attributes, resource))

    def _take_metrics(self, request: Any) -> None:
        for group in request.resource_metrics:
            self._resource = _plain(group.resource.attributes)
            self._metrics = {metric.name: metric for scope in group.scope_metrics for metric in scope.metrics}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector at `http://<address>` while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(collector.take(self.path, body, dict(self.headers)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
