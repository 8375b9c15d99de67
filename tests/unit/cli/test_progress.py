"""What is shown while a command waits."""

import io
import sys

import pytest

from secretbinding.cli.console import stderr
from secretbinding.cli.progress import Progress, state_of
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.plan import DeletePolicy

KEY = BindingKey("files", "team", "web")


def status(ready: str, reason: str, message: str = "", rotation: str = "UpToDate") -> SecretBindingStatus:
    return SecretBindingStatus(
        conditions=tuple(
            Condition(
                type=kind,
                status=ConditionStatus(value),
                reason=why,
                message=told,
                last_transition_time="2026-01-01T00:00:00Z",
            )
            for kind, value, why, told in (
                ("Ready", ready, reason, message),
                ("RotationHealthy", "True", rotation, "rolling" if rotation != "UpToDate" else ""),
            )
        )
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (SecretBindingStatus(), "Pending"),
        (status("True", "Ready"), "Ready"),
        (status("False", "JobNotFound", "no job"), "JobNotFound: no job"),
        (status("True", "Ready", rotation="DeploymentRunning"), "DeploymentRunning: rolling"),
    ],
)
def test_a_status_is_told_in_a_line(found: SecretBindingStatus, told: str) -> None:
    assert state_of(found) == told


def test_where_there_is_no_terminal_each_change_is_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress({KEY: "web"}) as progress:
        progress.did(WorkloadKey("default", "", "prod", "web"), DeletePolicy("nsb.default.web", ""))
        progress.changed(KEY, status("False", "RollingOut", "deploying"))
        progress.changed(KEY, status("False", "RollingOut", "deploying"))
        progress.changed(KEY, status("True", "Ready"))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("s  ", 1)[1] for line in err.splitlines()] == [
        "prod/web: - policy nsb.default.web",
        "team/web: RollingOut: deploying",
        "team/web: Ready",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_table_gives_way_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Progress({KEY: "web"}) as progress:
        progress.changed(KEY, status("True", "Ready"))
        assert stderr().is_terminal
    text = screen.getvalue()
    assert "team/web" in text
    assert "\x1b[2K" in text, "erased at the end"
