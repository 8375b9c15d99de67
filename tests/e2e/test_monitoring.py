"""A real Prometheus scrapes a running controller: alerts and dashboards have the answers they should."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretbinding import __version__
from secretbinding.metrics import Monitoring
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.sources.files import FilesSource
from tests.e2e.test_metrics import NEVER_NOW, Watched
from tests.support.metrics import scrape
from tests.support.monitoring import Prometheus, Target, boards, filled, need, rules, targets
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until, wary

pytestmark = pytest.mark.xdist_group("monitoring")

JOB = "secretbinding"
ROTATED, FAILED, HELD, AT_RISK, WAITING, UNREADABLE, HOMELESS = (
    "rotated", "failed", "held", "at-risk", "waiting", "unreadable", "homeless"
)  # fmt: skip
NAMES = (ROTATED, FAILED, HELD, AT_RISK, WAITING, UNREADABLE, HOMELESS)


class Site:
    """A controller with bindings of each kind of trouble, and the Prometheus that scrapes it."""

    def __init__(self, watched: Watched, prometheus: Prometheus, folder: Path) -> None:
        self.watched = watched
        self.prometheus = prometheus
        self._folder = folder

    def remove(self, *names: str) -> None:
        """Take bindings out of the directory, all at once."""
        for name in names:
            (self._folder / f"{name}.yaml").unlink()


@pytest.fixture(scope="module")
def site(simulator: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need("prometheus")
    world = World(simulator, instance="monitoring")
    monitoring = Monitoring(("127.0.0.1", 0))
    folder = tmp_path_factory.mktemp("bindings")
    with world.running(FilesSource([str(folder)], interval_seconds=0.1), monitoring=monitoring) as controller:
        watched = Watched(world, controller, monitoring, folder)
        with Prometheus(tmp_path_factory.mktemp("prometheus"), monitoring.address, job=JOB) as prometheus:
            # So that everything that is counted shows as an increase.
            wait_until("it is scraped", lambda: bool(prometheus.query("secretbinding_build_info")))
            troubles(watched)
            seen = scrape(watched.address).total("secretbinding_reconciles_total")
            wait_until(
                "the last of it is scraped",
                lambda: prometheus.query("sum(secretbinding_reconciles_total)")[0].value >= seen,
            )
            yield Site(watched, prometheus, folder)


def troubles(watched: Watched) -> None:
    """Makes the bindings, and what becomes of them."""
    world = watched.world
    manifests = {name: a_manifest(name, f"mon-{name}", f"mon-{name}") for name in NAMES}
    manifests[WAITING]["spec"]["rotation"] = {"windows": [NEVER_NOW]}
    manifests[UNREADABLE]["spec"]["secrets"][0]["kv"]["mount"] = "nobodys"
    for name in (ROTATED, FAILED, HELD, AT_RISK, WAITING, UNREADABLE):
        world.register(wary(a_job(f"mon-{name}", count=1 if name in (ROTATED, FAILED) else 0)))
    for name in NAMES:
        world.secret(f"mon-{name}", username="app", password="one")
    world.vault.put("/v1/secret/metadata/mon-at-risk", {"max_versions": 2}).expect(200, 204)
    for manifest in manifests.values():
        watched.bind(manifest)
    for name in (ROTATED, FAILED, HELD, AT_RISK, WAITING):
        watched.await_reason(name, Reason.READY)
    watched.await_reason(HOMELESS, Reason.JOB_NOT_FOUND)
    for name in (ROTATED, FAILED):
        world.deployed(f"mon-{name}")
    world.secret("mon-rotated", username="app", password="two")
    world.secret("mon-failed", username="app", password="broken")
    world.secret("mon-waiting", username="app", password="two")
    world.secret("mon-held", username="app")
    world.secret("mon-at-risk", username="app")
    rotation = ConditionType.ROTATION_HEALTHY
    watched.await_reason(WAITING, Reason.NEW_VERSION_HELD, rotation)
    watched.await_reason(HELD, Reason.SECRET_FIELD_MISSING, rotation)
    watched.await_reason(AT_RISK, Reason.PINNED_VERSION_AT_RISK, rotation)
    watched.await_reason(FAILED, Reason.DEPLOYMENT_REVERTED, rotation)
    wait_until("it has rolled", lambda: watched.decisions().get("succeeded") == 1)
    # Somebody's tool registers a job without our part.
    world.register(a_job("mon-rotated"))
    wait_until("it is mended", lambda: scrape(watched.address).total("secretbinding_drift_mended_total") == 1)
    watched.more_passes()


SHOWN: dict[str, float | str] = {
    "Bindings": 7,
    "Not ready": 2,
    "Rotations to look at": 4,
    "Versions at risk": 1,
    "Held back from deletion": 0,
    "Rolls now": 0,
    "Vault answers": 1,
    "Nomad answers": 1,
    "Parts without a controller": 0,
    "Policies": 0,
    "Policies all known": 1,
    "Tenancy enforced": 0,
    "Healthy": 1,
    "Not named below": 0,
    "Success": 0.5,
    "New values made": 0,
}
"""What panels show as one number."""

COUNTED = {"New versions": 5, "Rolls": 2, "Succeeded": 1, "Failed": 1}
"""What Prometheus extrapolates to the whole range: more than it was, not less."""


def test_everything_that_a_dashboard_asks_for_is_there(site: Site) -> None:
    for target in targets():
        found = site.prometheus.query(filled(target.expression))
        assert found, f"{target} shows nothing"
        assert any(math.isfinite(series.value) for series in found), f"{target} shows no number"
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target.legend))
        assert all(wanted <= set(series.labels) for series in found), f"{target} has no {wanted} for its legend"


@pytest.mark.parametrize("target", [t for t in targets() if t.panel in SHOWN], ids=lambda target: target.panel)
def test_a_panel_shows_what_there_is(site: Site, target: Target) -> None:
    assert [series.value for series in site.prometheus.query(filled(target.expression))] == [SHOWN[target.panel]]


@pytest.mark.parametrize("target", [t for t in targets() if t.panel in COUNTED], ids=lambda target: target.panel)
def test_a_panel_counts_what_has_happened(site: Site, target: Target) -> None:
    found = site.prometheus.query(filled(target.expression))
    assert len(found) == 1
    assert COUNTED[target.panel] <= found[0].value < 3 * COUNTED[target.panel]


def test_each_number_of_a_dashboard_is_looked_at() -> None:
    alone = {target.panel for target in targets() if target.kind == "stat"}
    assert alone - set(SHOWN) - set(COUNTED) == {"Last rotation", "Next rotation", "Budget left"}


def test_tables_name_the_bindings_and_why(site: Site) -> None:
    def rows(panel: str) -> set[tuple[str, str]]:
        target = next(each for each in targets() if each.panel == panel)
        found = site.prometheus.query(filled(target.expression))
        assert all(series.labels["source"] == "files" and series.labels["binding_namespace"] for series in found)
        return {(series.labels["binding"], series.labels["reason"]) for series in found}

    assert {name for name, _ in rows("Bindings that are not ready")} == {HOMELESS, UNREADABLE}
    assert rows("Rotations that need somebody") == {
        (FAILED, "DeploymentReverted"),
        (HELD, "SecretFieldMissing"),
        (AT_RISK, "PinnedVersionAtRisk"),
        (UNREADABLE, "PermissionDenied"),
    }
    decisions = next(each for each in targets() if each.panel == "Decisions and their reasons")
    found = {
        (one.labels["decision"], one.labels.get("reason", ""))
        for one in site.prometheus.query(filled(decisions.expression))
    }
    assert {
        ("held", "SecretFieldMissing"),
        ("held", "DeploymentFailed"),
        ("deferred", "Window"),
        ("started", ""),
    } <= found
    releases = next(each for each in targets() if each.panel == "Releases")
    assert [one.labels["version"] for one in site.prometheus.query(filled(releases.expression))] == [__version__]


def test_times_are_times(site: Site) -> None:
    now = site.prometheus.query("time()")[0].value * 1000
    last, following = (
        site.prometheus.query(filled(target.expression))[0].value
        for panel in ("Last rotation", "Next rotation")
        for target in targets()
        if target.panel == panel
    )
    assert now - 120_000 < last <= now
    assert following > now - 120_000
    budget = next(each for each in targets() if each.panel == "Budget left")
    assert site.prometheus.query(filled(budget.expression))[0].value <= 1


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_variables_have_values_to_choose_from(site: Site, board: dict[str, object]) -> None:
    listed = board["templating"]["list"]  # type: ignore[index]
    for variable in listed:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            values = site.prometheus.label_values(filled(metric), label)
            assert values == {"job": [JOB], "source": ["files"]}[label]


PENDING = {
    "SecretBindingNotReady": {HOMELESS, UNREADABLE},
    "SecretBindingRotationFailed": {FAILED},
    "SecretBindingRotationHeld": {HELD, UNREADABLE},
    "SecretBindingPinnedVersionAtRisk": {""},
}
"""The alerts that the bindings raise, and of which each is."""

IN_THE_BALANCE = {"SecretBindingErrorBudgetFast", "SecretBindingErrorBudgetSlow"}
"""Whether a few seconds' failures are a trend depends on how many passes there were."""


def test_prometheus_evaluates_every_rule(site: Site) -> None:
    known = sorted(rule.get("alert") or rule["record"] for rule in [*rules("record"), *rules("alert")])
    assert sorted(rule["name"] for rule in site.prometheus.rules()) == known
    wait_until("all rules were evaluated", lambda: all(rule["health"] == "ok" for rule in site.prometheus.rules()))
    for rule in rules("record"):
        assert [series.labels for series in site.prometheus.query(rule["record"])] == [
            {"__name__": rule["record"], "job": JOB}
        ]


def test_the_alerts_that_should_are_raised_and_no_others(site: Site) -> None:
    def raised() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for alert in site.prometheus.alerts():
            found.setdefault(alert["labels"]["alertname"], set()).add(alert["labels"].get("binding", ""))
        return {name: of for name, of in found.items() if name not in IN_THE_BALANCE}

    wait_until("they are raised", lambda: raised().keys() >= PENDING.keys())
    assert raised() == PENDING
    for alert in site.prometheus.alerts():
        text = alert["annotations"]["description"]
        assert "<error" not in text
        assert alert["labels"].get("binding", "") in text
        assert alert["labels"]["job"] == JOB


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_what_an_alert_compares_is_exposed(site: Site, rule: dict[str, str]) -> None:
    """Of an alert that is not raised, too: each series that it names is there, but for those of a trouble that there is
    not."""
    name = r"(?:job:)?secretbinding_[a-z0-9_:]+|process_[a-z_]+"
    for metric, matchers in re.findall(rf"\b({name})(\{{[^}}]*\}})?", rule["expr"]):
        found = site.prometheus.query(metric + re.sub(r'(,?)(reason|outcome)(=~|=|!~)"[^"]*"', "", matchers))
        assert found, f"{metric}{matchers} is not there"
        assert all(series.labels["job"] == JOB for series in found)


def test_a_source_that_comes_back_with_far_less_raises_an_alert(site: Site) -> None:
    site.remove(HELD, AT_RISK, WAITING, UNREADABLE, HOMELESS)
    wait_until(
        "it is held",
        lambda: (
            [
                alert["labels"]["source"]
                for alert in site.prometheus.alerts()
                if alert["labels"]["alertname"] == "SecretBindingSourceHeld"
            ]
            == ["files"]
        ),
    )
    held = next(each for each in targets() if each.panel == "Held back from deletion")
    assert [series.value for series in site.prometheus.query(filled(held.expression))] == [5]
