"""What OpenTelemetry's standard variables ask for."""

import pytest

from secretbinding.errors import UsageError
from secretbinding.telemetry.asked import Asked, asked

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({}, False, False),
        ({ENDPOINT: HERE}, True, True),
        ({ENDPOINT: ""}, False, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": HERE}, False, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({"OTEL_METRICS_EXPORTER": "OTLP"}, False, True),
        ({ENDPOINT: HERE, "OTEL_METRICS_EXPORTER": "none"}, True, False),
        ({ENDPOINT: HERE, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, False, False),
        ({ENDPOINT: HERE, "OTEL_SDK_DISABLED": "true"}, False, False),
        ({ENDPOINT: HERE, "OTEL_SDK_DISABLED": "false"}, True, True),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, True),
        ({"OTEL_SERVICE_NAME": "secretbinding"}, False, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, False),
    ],
)
def test_nothing_is_exported_unless_an_exporter_or_an_endpoint_is_named(
    variables: dict[str, str], traces: bool, metrics: bool
) -> None:
    found = asked(variables)
    assert (found.traces, found.metrics, found.anything) == (traces, metrics, traces or metrics)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER: only OTLP is spoken; use otlp or none"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER: only OTLP is spoken; use otlp or none"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"),
        (
            {ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: only http/protobuf",
        ),
        ({ENDPOINT: "user:hidden@collector:4318"}, f"{ENDPOINT}: not a URL; write http(s)://HOST:4318"),
        ({ENDPOINT: HERE, "OTEL_METRIC_EXPORT_INTERVAL": "1m"}, "OTEL_METRIC_EXPORT_INTERVAL: no number of"),
        ({ENDPOINT: HERE, "OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OTEL_METRIC_EXPORT_INTERVAL: no number of"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_variable_and_without_its_value(
    variables: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError) as raised:
        asked(variables)
    assert told in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_variable_of_the_one_signal_wins_over_that_of_all() -> None:
    found = asked(
        {
            ENDPOINT: HERE,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
        }
    )
    assert (found.traces, found.metrics) == (True, False)


def test_interval_and_propagation_are_read() -> None:
    found = asked({ENDPOINT: HERE, "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_PROPAGATORS": "b3"})
    assert (found.interval_seconds, found.propagate) == (0.5, False)
    assert asked({ENDPOINT: HERE, "OTEL_PROPAGATORS": "baggage, tracecontext"}).propagate
    assert asked({ENDPOINT: HERE}) == Asked(True, True, True, 60.0, ENDPOINT)
