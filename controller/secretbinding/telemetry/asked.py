"""What OpenTelemetry's environment variables ask for. Pure; imports nothing of OpenTelemetry's.

The variables and their defaults: opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables and
.../protocol/exporter. Endpoints, headers, time limits, certificates, compression, sampling, batching and resource
attributes are read by the SDK itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from secretbinding.errors import UsageError

_PROTOCOL = "http/protobuf"
_INTERVAL_MILLISECONDS = 60_000
_LONGEST_MILLISECONDS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done.

    Attributes:
        traces, metrics: whether to export them.
        propagate: whether requests carry `traceparent`.
        interval_seconds: how often metrics are exported.
        because: a variable that asked, for errors.
    """

    traces: bool = False
    metrics: bool = False
    propagate: bool = True
    interval_seconds: float = _INTERVAL_MILLISECONDS / 1000
    because: str = ""

    @property
    def anything(self) -> bool:
        return self.traces or self.metrics


def asked(environment: Mapping[str, str]) -> Asked:
    """What the variables ask for; nothing unless an exporter `otlp` or an endpoint is named. Raises
    `errors.UsageError` with the variable's name, and never with the value of one that may hold a password."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Asked()
    reasons = {signal: _wanted(environment, signal) for signal in ("TRACES", "METRICS")}
    for signal in (signal for signal, why in reasons.items() if why):
        _check_protocol(environment, signal)
        _check_endpoint(environment, signal)
    propagators = {name.strip() for name in environment.get("OTEL_PROPAGATORS", "").split(",") if name.strip()}
    return Asked(
        bool(reasons["TRACES"]),
        bool(reasons["METRICS"]),
        not propagators or "tracecontext" in propagators,
        _interval(environment) if reasons["METRICS"] else _INTERVAL_MILLISECONDS / 1000,
        reasons["TRACES"] or reasons["METRICS"],
    )


def _wanted(environment: Mapping[str, str], signal: str) -> str:
    """The variable that asks for traces or metrics; "" when none does."""
    exporter = f"OTEL_{signal}_EXPORTER"
    named = environment.get(exporter, "").strip().lower()
    if named == "none":
        return ""
    if named == "otlp":
        return exporter
    if named:
        raise UsageError(f"environment variable {exporter}: only OTLP is spoken", remedy="use otlp or none")
    return next((name for name in _names(signal, "ENDPOINT") if environment.get(name)), "")


def _check_protocol(environment: Mapping[str, str], signal: str) -> None:
    for name in _names(signal, "PROTOCOL"):
        value = environment.get(name, "").strip().lower()
        if value and value != _PROTOCOL:
            raise UsageError(
                f"environment variable {name}: only {_PROTOCOL} is spoken",
                remedy=f"set it to {_PROTOCOL}, and the endpoint to where the collector takes that (port 4318)",
            )
        if value:
            return


def _check_endpoint(environment: Mapping[str, str], signal: str) -> None:
    for name in _names(signal, "ENDPOINT"):
        value = environment.get(name, "").strip()
        if value and not value.lower().startswith(("http://", "https://")):
            raise UsageError(f"environment variable {name}: not a URL", remedy="write http(s)://HOST:4318")
        if value:
            return


def _interval(environment: Mapping[str, str]) -> float:
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    text = environment.get(name, "").strip()
    if not text:
        return _INTERVAL_MILLISECONDS / 1000
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LONGEST_MILLISECONDS):
        raise UsageError(f"environment variable {name}: no number of milliseconds", remedy="write one such as 60000")
    return int(text) / 1000


def _names(signal: str, what: str) -> tuple[str, str]:
    """The variable of the one signal, which wins, and that of all."""
    return f"OTEL_EXPORTER_OTLP_{signal}_{what}", f"OTEL_EXPORTER_OTLP_{what}"
