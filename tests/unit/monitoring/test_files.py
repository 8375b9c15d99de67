"""Alerts and dashboards name what is exposed, and are fit to be read."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding import errors
from secretbinding.engine.queue import Priority
from secretbinding.errors import SecretBindingError
from secretbinding.metrics.catalogue import CATALOGUE, Kind
from secretbinding.metrics.instruments import label
from secretbinding.metrics.probe import SYSTEMS
from secretbinding.metrics.words import REASONS, Decision, Outcome, Result
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus
from tests.support.monitoring import ALERTS, boards, need, panels, rules, targets

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "deploy" / "runbooks.md"

OF_A_SCRAPE = {"cluster", "namespace", "job", "instance"}
"""Labels that the scrape gives each series."""

EXPRESSIONS = [
    *[
        pytest.param(rule["expr"], id=rule.get("alert") or rule["record"])
        for rule in [*rules("record"), *rules("alert")]
    ],
    *[pytest.param(target.expression, id=f"{target.board}: {target.panel}") for target in targets()],
]


def exposed() -> dict[str, set[str]]:
    """The labels of each series by its name in a query."""
    found: dict[str, set[str]] = {}
    for metric in CATALOGUE:
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}{suffix}": {*metric.labels} for suffix in ("_sum", "_count")}
            found[f"{metric.name}_bucket"] = {*metric.labels, "le"}
        else:
            found[metric.name] = {*metric.labels}
    return found | {rule["record"]: set() for rule in rules("record")}


def kinds_of_errors() -> set[str]:
    return {
        each.reason for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SecretBindingError)
    }


WORDS: Mapping[str, set[str]] = {
    "result": {each.value for each in Result},
    "priority": {label(each) for each in Priority},
    "condition": {each.value for each in ConditionType},
    "status": {each.value for each in ConditionStatus},
    "decision": {each.value for each in Decision},
    "system": {*SYSTEMS, "kubernetes"},
    "operation": {"job_register"},
}
"""The values of labels, where all of them are known."""


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each series that an expression names, with its matchers: label, operator, value."""
    for name, _, inside in re.findall(
        r"\b((?:job:)?secretbinding_[a-z0-9_:]+|process_[a-z_]+)(\{([^}]*)\})?", expression
    ):
        yield name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', inside)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_series_labels_and_values_that_there_are(expression: str) -> None:
    known, found = exposed(), list(selectors(expression))
    assert found, "it names no metric"
    for name, matchers in found:
        assert name in known, f"{name} is not exposed"
        for named, _, value in matchers:
            assert named in known[name] | OF_A_SCRAPE, f"{name} has no label {named}"
            if value.startswith("$"):
                continue
            words = set(value.split("|"))
            if named == "outcome":
                outcomes = {each.value for each in Outcome} if "outcomes" in name else {"Success"} | kinds_of_errors()
                assert words <= outcomes
            elif named == "reason":
                told = {each.value for each in Reason} | {word for words in REASONS.values() for word in words}
                assert words <= told
            else:
                assert words <= WORDS[named], f"{named} is never {words - WORDS[named]}"
    grouped = {word.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for word in by.split(",")}
    assert grouped <= OF_A_SCRAPE.union(*(known[name] for name, _ in found)), "it groups by a label that nothing has"


def test_the_rules_are_good() -> None:
    checked = subprocess.run(
        [need("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_how_bad_and_where_to_read_on(rule: Mapping[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert "{{" not in told["summary"], "a summary is the same for all of its kind"
    assert len(told["summary"]) < 80
    assert told["summary"].endswith(".")
    assert told["runbook_url"].endswith(f"/runbooks.html#{rule['alert'].lower()}")
    by = {word.strip() for by in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for word in by.split(",")}
    assert set(re.findall(r"\$labels\.(\w+)", told["description"])) <= by


def sections() -> dict[str, str]:
    """The sections of the runbooks that are about an alert, by its name."""
    parts = re.split(r"^### (\w+)\n", RUNBOOKS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert list(sections()) == [rule["alert"] for rule in rules("alert")], "in the order of the alerts"


@pytest.mark.parametrize("name", [rule["alert"] for rule in rules("alert")])
def test_a_section_says_what_it_means_how_to_look_and_how_to_mend_it(name: str) -> None:
    text = re.split(r"^## ", sections()[name], flags=re.MULTILINE)[0]
    found = re.findall(r"^\*\*(.+?)\.\*\* (.+?)(?=^\*\*|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert [word for word, _ in found] == ["It means", "Look", "Mend"]
    assert all(len(told.split()) > 5 for _, told in found)
    assert "```console\n" in text, "there is a command to look with"


def test_the_configuration_on_the_page_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    page = (ROOT / "deploy" / "monitoring.md").read_text()
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "scrape_configs" in block]
    assert len(blocks) == 1
    config = yaml.safe_load(blocks[0])
    (scrape,) = config["scrape_configs"]
    # Debian's build does not know it.
    (found,) = scrape.pop("nomad_sd_configs")
    assert set(found) == {"server", "namespace"}
    scrape["static_configs"] = [{"targets": ["127.0.0.1:9464"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text())
    checked = subprocess.run(
        [need("promtool"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules('alert')) + len(rules('record'))} rules found" in checked.stdout


def test_an_alert_that_a_page_names_is_one_that_there_is() -> None:
    known = {rule["alert"] for rule in rules("alert")}
    for page in sorted(ROOT.glob("deploy/*.md")):
        text = page.read_text()
        named = set(re.findall(r"`(SecretBinding[A-Z]\w+)`", text)) | set(
            re.findall(r"\[(SecretBinding[A-Z]\w+)\]", text)
        )
        assert named - {"SecretBindingPolicy", "SecretBindingPolicies"} <= known, page.name


def test_what_is_exposed_and_means_something_is_watched_or_shown() -> None:
    text = ALERTS.read_text() + "".join(target.expression for target in targets())
    unused = {metric.name for metric in CATALOGUE if not re.search(rf"\b{metric.name}", text)}
    assert unused == {"process_virtual_memory_bytes"}


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_a_dashboard_can_be_imported_anywhere(board: Mapping[str, Any]) -> None:
    assert board["id"] is None
    assert board["schemaVersion"] >= 39
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert all(each["label"] and each["description"] for each in variables.values())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    own = [*panels(board), *[target for panel in panels(board) for target in panel["targets"]]]
    own += [each for each in variables.values() if each["type"] == "query"]
    assert {each["datasource"]["uid"] for each in own} == {"${datasource}"}
    used = set(
        re.findall(r"\$(\w+)", "".join(target["expr"] for panel in panels(board) for target in panel["targets"]))
    )
    assert used - {"__rate_interval", "__range"} == set(variables) - {"datasource"}


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_a_panel_has_a_title_a_description_a_unit_and_a_place_of_its_own(board: Mapping[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
