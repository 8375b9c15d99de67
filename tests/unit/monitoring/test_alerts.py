"""Each alert fires when it should, and does not when it should not: promtool's unit tests of rules."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import ALERTS, need, rules
from tests.unit.monitoring.cases import CASES, Case

SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in rules("alert")}


def test_there_is_a_case_in_which_each_alert_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.fires} == set(SEVERITIES)
    assert {case.alert for case in CASES if case.quiet} == set(SEVERITIES)


def asked(case: Case) -> list[dict[str, Any]]:
    """What promtool is to find, minute by minute. Nothing else of the alert may fire then."""
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    known = {"alertname": case.alert, "alertstate": "firing", "severity": SEVERITIES[case.alert], "job": "a"}
    inside = ",".join(f'{name}="{value}"' for name, value in {**known, **case.labels}.items() if value)
    found = [{"labels": f"ALERTS{{{inside}}}", "value": 1}]
    at = [(minute, found) for minute in case.fires] + [(minute, []) for minute in case.quiet]
    return [
        {"expr": firing, "eval_time": f"{minute}m", "exp_samples": samples}
        for minute, samples in sorted(at, key=lambda it: it[0])
    ]


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_alerts_fire_when_they_should_and_only_then(step: int, tmp_path: Path) -> None:
    tests = [
        {
            "interval": f"{step}m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": asked(case),
        }
        for case in CASES
        if case.step == step
    ]
    file = tmp_path / "alerts.test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": f"{step}m", "tests": tests}))
    done = subprocess.run(
        [need("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
