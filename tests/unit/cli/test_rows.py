"""How statuses look in a table."""

from datetime import UTC, datetime, timedelta

import pytest

from secretbinding.cli.console import painter
from secretbinding.cli.rows import Row, age, table, to_list
from secretbinding.models.key import BindingKey
from secretbinding.models.status import (
    Condition,
    ConditionStatus,
    DeploymentStatus,
    SecretBindingStatus,
    SecretStatus,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def condition(kind: str, status: str, reason: str, message: str = "") -> Condition:
    return Condition(
        type=kind,
        status=ConditionStatus(status),
        reason=reason,
        message=message,
        last_transition_time="2026-01-01T00:00:00Z",
    )


def row(*conditions: Condition, name: str = "api", created: str = "", **status: object) -> Row:
    found = SecretBindingStatus(conditions=conditions).model_copy(update=status)
    return Row(BindingKey("nomad", "payments", name), "web", found, created)


def test_the_columns_are_always_the_same_and_aligned() -> None:
    rows = [
        row(condition("Ready", "True", "Ready"), condition("RotationHealthy", "True", "UpToDate"), name="a"),
        row(name="a-longer-name"),
    ]
    lines = table(rows, NOW, wide=False).splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "JOB", "READY", "REASON", "ROTATION", "AGE"]
    assert lines[1].split() == ["payments", "a", "web", "True", "Ready", "UpToDate", "-"]
    assert lines[2].split() == ["payments", "a-longer-name", "web", "Unknown", "-", "-", "-"]
    assert {line.index("web") for line in lines[1:]} == {lines[0].index("JOB")}


def test_wide_shows_versions_deployment_and_message() -> None:
    one = row(
        condition("Ready", "True", "Ready"),
        condition("RotationHealthy", "False", "DeploymentFailed", "it\nfailed"),
        secrets=(
            SecretStatus(name="app", serving_version="2", wanted_version="3"),
            SecretStatus(name="tls", serving_version="7", wanted_version="7"),
            SecretStatus(name="new", wanted_version="1"),
        ),
        deployment=DeploymentStatus(id="0123456789", status="failed"),
    )
    line = table([one], NOW, wide=True, header=False)
    assert "app=2->3,tls=7,new=none" in line
    assert "01234567 failed" in line
    assert line.endswith("it failed\n")


def test_without_readiness_the_message_of_ready_is_shown() -> None:
    one = row(condition("Ready", "False", "JobNotFound", "no job"), condition("RotationHealthy", "Unknown", "Pending"))
    assert table([one], NOW, wide=True).endswith("no job\n")


def test_a_refusal_is_shown_without_the_policy_to_paste() -> None:
    one = row(
        condition("Ready", "False", "RefusedByPolicy", "no policy allows it\n# This policy would allow it.\nkind: x")
    )
    assert table([one], NOW, wide=True).endswith("no policy allows it\n")


def test_a_text_from_a_server_cannot_move_the_cursor() -> None:
    one = row(condition("Ready", "False", "Rejected", "a\x1b[2Jb\rc"))
    assert "a\\u001b[2Jb\\u000dc" in table([one], NOW, wide=True)


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=5), "5s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(hours=3), "3h"),
        (timedelta(days=8), "8d"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_an_age_is_told_as_kubectl_does(ago: timedelta, shown: str) -> None:
    assert age((NOW - ago).isoformat(), NOW) == shown


def test_an_unknown_age_is_empty() -> None:
    assert age("", NOW) == age("yesterday", NOW) == ""


def test_objects_have_the_shape_of_the_custom_resource() -> None:
    listed = to_list([row(condition("Ready", "True", "Ready"))])
    assert listed["kind"] == "SecretBindingList"
    assert listed["items"][0]["metadata"] == {"name": "api", "namespace": "payments"}
    assert listed["items"][0]["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_what_is_not_well_stands_out_and_the_columns_stay_aligned() -> None:
    rows = [
        row(condition("Ready", "True", "Ready"), condition("RotationHealthy", "False", "DeploymentFailed"), name="a"),
        row(condition("Ready", "False", "SecretNotFound"), name="b"),
        row(condition("Ready", "True", "Ready"), condition("RotationHealthy", "True", "DeploymentRunning"), name="c"),
        row(name="d"),
    ]
    plain = table(rows, NOW, wide=False)
    seen: list[tuple[str, str]] = []

    def paint(text: str, style: str) -> str:
        seen.append((text, style))
        return f"<{text}>"

    colored = table(rows, NOW, wide=False, paint=paint)
    assert colored.replace("<", "").replace(">", "") == plain
    assert [one for one in seen if one[1] != "bold"] == [
        ("True", "green"),
        ("DeploymentFailed", "bold red"),
        ("False", "bold red"),
        ("SecretNotFound", "bold red"),
        ("True", "green"),
        ("DeploymentRunning", "cyan"),
        ("Unknown", "yellow"),
        ("-", "yellow"),
    ]


@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colors_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[32mTrue" in painter()("True", "green")) is colored
