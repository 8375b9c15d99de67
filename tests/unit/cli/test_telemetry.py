"""What `run` says when OpenTelemetry is asked for and cannot be had."""

import sys
from pathlib import Path

import pytest

from tests.support.commandline import CommandLine


def test_asked_for_and_not_installed_is_told_with_the_remedy(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [one for one in sys.modules if one.startswith(("opentelemetry", "secretbinding.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    cli.setenv(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318", SECRETBINDING_TENANCY="open")
    ran = cli("run", "--source", f"files={tmp_path}")
    assert ran.code == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT asks for OpenTelemetry, which needs opentelemetry" in ran.err
    assert "pip install 'secretbinding[otel]'" in ran.err


def test_metrics_that_are_asked_for_and_switched_off_are_told(cli: CommandLine, tmp_path: Path) -> None:
    cli.setenv(OTEL_METRICS_EXPORTER="otlp", SECRETBINDING_METRICS_ADDRESS="", SECRETBINDING_TENANCY="open")
    ran = cli("run", "--source", f"files={tmp_path}")
    assert ran.code == 1
    assert "OTEL_METRICS_EXPORTER asks for metrics, and SECRETBINDING_METRICS_ADDRESS is empty" in ran.err
