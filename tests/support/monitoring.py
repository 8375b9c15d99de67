"""The alerts and dashboards of the chart, and a Prometheus to try them on."""

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import yaml

from secretbinding.devstack.processes import ManagedProcess, free_ports

FILES = Path(__file__).parents[2] / "charts" / "secretbinding" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))

_START_SECONDS = 30.0
_SCRAPED_SECONDS = 60.0


def need(program: str) -> str:
    """Where a program is; skips visibly when it is not there."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no `{program}` on PATH (Debian: apt-get install prometheus): alerts and dashboards are not tried")
    return found


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of the file that are of a kind: `alert` or `record`."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel. `legend` is the pattern of its legend."""

    board: str
    panel: str
    kind: str
    expression: str
    legend: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.expression}"


def boards() -> list[dict[str, Any]]:
    """The dashboards, parsed."""
    return [json.loads(path.read_text()) for path in DASHBOARDS]


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets() -> list[Target]:
    """Every query of every panel."""
    return [
        Target(board["uid"], panel["title"], panel["type"], target["expr"], target["legendFormat"])
        for board in boards()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def filled(expression: str, *, window: str = "5m", reach: str = "1h") -> str:
    """The expression as Grafana sends it when all controllers and sources are chosen."""
    values = {"__rate_interval": window, "__range": reach, "job": ".*", "source": ".*"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


@dataclass(frozen=True, slots=True)
class Series:
    """A series in the answer to a query, with its newest value."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running server that scrapes one address every two seconds, and evaluates the alerts every second."""

    def __init__(self, directory: Path, scraped: str, *, job: str) -> None:
        program = need("prometheus")
        port = free_ports(1)[0]
        self.address = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [scraped]}]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._process = ManagedProcess(
            "prometheus",
            [
                program,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            log_path=directory / "prometheus.log",
            env={"GOMAXPROCS": "1"},
        )

    def __enter__(self) -> "Prometheus":
        try:
            self._process.wait_ready(self._ready, timeout_seconds=_START_SECONDS)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    def query(self, expression: str) -> list[Series]:
        """What an expression is now. Fails when it is not an expression.

        A scrape that comes too late, on a busy machine, takes away every series until the next one, and what rules have
        made of them until they are evaluated again: nothing found is believed only where that was not so.
        """
        end = time.monotonic() + _SCRAPED_SECONDS
        while True:
            at = f"{time.time():.3f}"
            found = self._get("/api/v1/query", query=expression, time=at)
            if found["resultType"] == "scalar":
                return [Series({}, float(found["result"][1]))]
            if found["result"] or self._scraped_of_late(at):
                return [Series(row["metric"], float(row["value"][1])) for row in found["result"]]
            assert time.monotonic() < end, f"nothing is scraped for {_SCRAPED_SECONDS:.0f} s"
            time.sleep(0.2)

    def _scraped_of_late(self, at: str) -> bool:
        """Whether each scrape of the seconds before came in time; also before the first one."""
        found = self._get("/api/v1/query", query="min(min_over_time(up[6s]))", time=at)["result"]
        return not found or float(found[0]["value"][1]) == 1

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values that a label of a metric has."""
        values: list[str] = self._get(f"/api/v1/label/{label}/values", **{"match[]": metric})
        return values

    def rules(self) -> Iterator[dict[str, Any]]:
        """All rules that are loaded, with `health` and `lastError`."""
        for group in self._get("/api/v1/rules")["groups"]:
            yield from group["rules"]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("/api/v1/alerts")["alerts"]
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = json.load(answer)
        except HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert body["status"] == "success", body
        return body["data"]
