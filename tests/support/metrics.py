"""Scraping: what a metrics server answers, parsed as Prometheus would."""

import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.error import HTTPError

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    content_type: str
    text: str


def get(address: str, path: str, *, method: str = "GET", **headers: str) -> Got:
    """Ask a server at `host:port`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{address}{path}", headers=names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Got(answer.status, answer.headers.get("Content-Type", ""), answer.read().decode())
    except HTTPError as error:
        with error:
            return Got(error.code, error.headers.get("Content-Type", ""), error.read().decode())


class Scrape:
    """One scrape."""

    def __init__(self, text: str, *, open_metrics: bool = False) -> None:
        self.text = text
        parse = openmetrics.text_string_to_metric_families if open_metrics else text_string_to_metric_families
        self.families = {family.name: family for family in parse(text)}

    def samples(self) -> Iterator[Sample]:
        """All samples, bucket by bucket."""
        for family in self.families.values():
            yield from family.samples

    def value(self, name: str, **labels: str) -> float:
        """The value of the series with just these labels; fails when there is none."""
        found = self.find(name, labels)
        assert found is not None, f"no series {name}{labels}"
        return found

    def has(self, name: str, **labels: str) -> bool:
        return self.find(name, labels) is not None

    def find(self, name: str, labels: Mapping[str, str]) -> float | None:
        return next((float(each.value) for each in self.samples() if each.name == name and each.labels == labels), None)

    def total(self, name: str) -> float:
        """The sum over all series of a name."""
        return sum(float(each.value) for each in self.samples() if each.name == name)


def scrape(address: str) -> Scrape:
    """Scrape as Prometheus' text."""
    got = get(address, "/metrics")
    assert got.status == 200
    return Scrape(got.text)
