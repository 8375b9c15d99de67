"""Nothing that runs dies of the controller or of Vault: tried on real servers for a quarter of an hour and more.

`make soak-survival`. All trials run once, at the same time, when the first test asks; the tests read what was seen.
`SOAK_SECONDS` is how long they look (960), `SOAK_REPORT` where the findings go as JSON.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from secretbinding.devstack.nomad_agent import find_nomad
from tests.soak.observed import JobStory
from tests.soak.site import RUNNING, Case
from tests.soak.trials import AT_RISK, NARROWED, SURVIVORS, Report, run_all, write

LEAST_SECONDS = 900.0
"""Nomad gives up reading a secret after five minutes, and most trials wait for that."""
GIVES_UP = (280.0, 400.0)
"""Seconds from the first failure to read a secret until a client gives up: 12 attempts, a minute apart at most."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Report]:
    if find_nomad() is None:
        pytest.skip("no `nomad` on PATH")
    seconds = float(os.environ.get("SOAK_SECONDS") or 960)
    if seconds < LEAST_SECONDS:
        pytest.fail(f"SOAK_SECONDS is {seconds:.0f}; make it {LEAST_SECONDS:.0f} or more")
    found = run_all(tmp_path_factory.mktemp("soak"), seconds)
    path = Path(os.environ.get("SOAK_REPORT") or "build/soak-survival.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(found, path)
    print("\n" + table(found))
    return found


def table(reports: Mapping[str, Report]) -> str:
    """What became of the tasks of each case, for people."""
    lines: list[str] = []
    for name, report in reports.items():
        lines.append(f"{name}: " + "; ".join(f"{at:.0f} s {text}" for at, text in report.steps))
        for case, story in report.stories.items():
            fate = "untouched" if story.untouched else f"first touched after {story.ended_at} s"
            down = ", ".join(f"{since:.0f}-{until:.0f} s" for since, until in story.down)
            lines.append(f"  {case:22} {report.cases[case]:70} {fate}{f', down {down}' if down else ''}")
    return "\n".join(lines)


def step(report: Report, text: str) -> float:
    """When something was done."""
    return next(at for at, told in report.steps if text in told)


def waited(story: JobStory, since: float) -> float:
    """Seconds from a moment until the job's tasks were first touched after it."""
    return min((event.at for event in story.endings if event.at >= since - 5), default=float("inf")) - since


def within(seconds: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= seconds <= limits[1]


# --- KV-only tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*SURVIVORS, NARROWED], ids=lambda case: case.name)
def test_a_task_with_pinned_secrets_survives(reports: Mapping[str, Report], case: Case) -> None:
    """And then Vault's absence for longer than its token lives, on top of it."""
    story = reports["survival"].stories[case.name]
    assert story.untouched, story.to_json()
    assert story.events == []


@pytest.mark.parametrize(
    ("case", "reasons"),
    [
        ("control", "Ready, UpToDate"),
        ("destroyed", "Ready, SecretVersionDestroyed"),
        ("deleted", "Ready, SecretVersionDeleted"),
        ("pruned", "Ready, PinnedVersionAtRisk"),
        ("gone", "Ready, SecretNotFound"),
        ("emptied", "Ready, UpToDate"),
        ("disarmed", "Ready, UpToDate"),
        ("tokens", "Ready, UpToDate"),
        ("narrowed", "Ready, UpToDate"),
    ],
)
def test_the_controller_says_what_is_wrong_and_mends_what_it_can(
    reports: Mapping[str, Report], case: str, reasons: str
) -> None:
    assert reports["survival"].reasons[f"{case}-{RUNNING}"] == reasons


@pytest.mark.parametrize("trial", ["vault-away", "vault-away-patient"])
@pytest.mark.parametrize("case", ["away-pinned", "away-pinned-short"])
def test_so_it_does_while_vault_is_away(reports: Mapping[str, Report], trial: str, case: str) -> None:
    assert reports[trial].stories[case].untouched


# --- a client agent that restarts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", ["agent-restart", "agent-restart-patient"])
@pytest.mark.parametrize("case", ["restart-control", "restart-native"])
def test_tasks_go_on_when_their_client_agent_restarts(reports: Mapping[str, Report], trial: str, case: str) -> None:
    assert reports[trial].stories[case].untouched


UNREADABLE = ["expired", "deleted", "pruned", "gone", "emptied", "disarmed"]


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_task_whose_secret_cannot_be_read_then_ends_five_minutes_later(
    reports: Mapping[str, Report], case: str
) -> None:
    report = reports["agent-restart"]
    assert within(waited(report.stories[f"restart-{case}"], step(report, "started again")), GIVES_UP)


@pytest.mark.parametrize("case", UNREADABLE)
def test_it_goes_on_where_clients_never_give_up(reports: Mapping[str, Report], case: str) -> None:
    assert reports["agent-restart-patient"].stories[f"restart-{case}"].untouched


@pytest.mark.parametrize("trial", ["agent-restart", "agent-restart-patient"])
def test_a_task_whose_version_is_destroyed_ends_at_once(reports: Mapping[str, Report], trial: str) -> None:
    report = reports[trial]
    assert waited(report.stories["restart-destroyed"], step(report, "started again")) < 15


@pytest.mark.parametrize("trial", ["agent-restart", "agent-restart-patient"])
def test_a_version_at_risk_is_rolled_away_from_before_it_is_gone(reports: Mapping[str, Report], trial: str) -> None:
    """In a closed window; and so the agent that restarts, when the version is gone, ends nothing."""
    report = reports[trial]
    story = report.stories[AT_RISK.name]
    assert story.registrations == 1
    assert waited(story, step(report, "rolled away from") + 10) == float("inf")


@pytest.mark.parametrize("case", ["restart-lease", "restart-generic"])
def test_a_task_with_leases_gets_new_ones_and_starts_again_in_place(reports: Mapping[str, Report], case: str) -> None:
    report = reports["agent-restart"]
    story = report.stories[case]
    assert waited(story, step(report, "started again")) < 15
    assert (story.restarts, set(story.before)) == (1, set(story.after))
    assert report.logins[case][-1] == ("at the end", [True])


@pytest.mark.parametrize("case", ["pinned", "short", "native", "lease"])
def test_an_agent_that_restarts_while_vault_is_away_ends_its_tasks_five_minutes_later(
    reports: Mapping[str, Report], case: str
) -> None:
    report = reports["vault-away-agent-restart"]
    assert within(waited(report.stories[f"away-restart-{case}"], step(report, "started again")), GIVES_UP)


@pytest.mark.parametrize("case", ["pinned", "short", "native"])
def test_they_go_on_where_clients_never_give_up(reports: Mapping[str, Report], case: str) -> None:
    assert reports["vault-away-agent-restart-patient"].stories[f"away-restart-{case}"].untouched


# --- tasks that Nomad reads secrets for while they run, and Vault away ------------------------------------------------


@pytest.mark.parametrize("case", ["native", "native-noop", "native-short"])
def test_a_task_whose_secret_nomad_polls_ends_within_eleven_minutes(reports: Mapping[str, Report], case: str) -> None:
    """Up to five minutes until the next poll, and five and more until Nomad gives up."""
    report = reports["vault-away"]
    assert within(waited(report.stories[f"away-{case}"], step(report, "Vault is stopped")), (GIVES_UP[0], 660.0))


@pytest.mark.parametrize("case", ["lease", "lease-short", "generic", "ending"])
def test_a_task_with_credentials_of_a_minute_loses_them_and_ends_when_nomad_gives_up(
    reports: Mapping[str, Report], case: str
) -> None:
    report = reports["vault-away"]
    waits = waited(report.stories[f"away-{case}"], step(report, "Vault is stopped"))
    assert within(waits, (GIVES_UP[0], GIVES_UP[1] + 60))
    logins = dict(report.logins[f"away-{case}"])
    assert (logins["two minutes later"], logins["at the end"]) == ([False], [True])


@pytest.mark.parametrize("trial", ["vault-away", "vault-away-patient"])
def test_a_task_whose_lease_and_token_last_longer_than_vault_is_away_notices_nothing(
    reports: Mapping[str, Report], trial: str
) -> None:
    report = reports[trial]
    assert report.stories["away-lease-long"].untouched
    assert {good for _, told in report.logins["away-lease-long"] for good in told} == {True}


@pytest.mark.parametrize(
    ("trial", "case"),
    [
        ("vault-away", "lease-token"),
        ("vault-away-patient", "lease-token"),
        ("vault-away-patient", "lease-short"),
        ("vault-away-patient", "native-short"),
    ],
)
def test_a_task_whose_renewed_token_has_ended_meanwhile_ends_when_vault_is_back(
    reports: Mapping[str, Report], trial: str, case: str
) -> None:
    report = reports[trial]
    assert within(waited(report.stories[f"away-{case}"], step(report, "Vault runs again")), (0.0, 200.0))


@pytest.mark.parametrize("case", ["native", "native-noop"])
def test_polled_secrets_are_waited_for_where_clients_never_give_up(reports: Mapping[str, Report], case: str) -> None:
    assert reports["vault-away-patient"].stories[f"away-{case}"].untouched


@pytest.mark.parametrize("case", ["lease", "generic"])
def test_where_clients_never_give_up_a_lost_lease_is_replaced_in_place_when_vault_is_back(
    reports: Mapping[str, Report], case: str
) -> None:
    report = reports["vault-away-patient"]
    story = report.stories[f"away-{case}"]
    assert within(waited(story, step(report, "Vault runs again")), (0.0, 90.0))
    assert (story.restarts, set(story.before)) == (1, set(story.after))


def test_a_lease_that_reaches_its_end_restarts_the_task_unless_the_controller_rolls_it_ahead(
    reports: Mapping[str, Report],
) -> None:
    """Of 180 s: rolled after 60-80 % of them, or else restarted by Nomad."""
    report = reports["vault-away"]
    stopped = step(report, "Vault is stopped")
    ahead, ending = report.stories["away-ahead"], report.stories["away-ending"]
    assert waited(ahead, 5) + 5 < 160
    assert [event.kind for event in ending.events if event.at < stopped][:1] == ["Restart Signaled"]
    assert all(event.kind != "Restart Signaled" for event in ahead.events if event.at < stopped)
