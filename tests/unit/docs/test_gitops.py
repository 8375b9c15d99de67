"""The health checks for Argo CD and Flux in `deploy/gitops/`, on every state that a binding can be in."""

from typing import Any

import pytest

import secretbinding
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.status.faults import STALLED
from tests.support.gitops import GITOPS, argo_health, documents, flux_health

Json = dict[str, Any]


def resource(*, generation: int = 2, **conditions: tuple[str, Reason, str]) -> Json:
    listed = [
        {"type": kind, "status": status, "reason": reason.value, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    status = {"observedGeneration": 2, "conditions": listed} if listed else {}
    return {"metadata": {"name": "web", "generation": generation}, "spec": {}, "status": status}


SERVED: dict[str, tuple[str, Reason, str]] = {
    ConditionType.READY: ("True", Reason.READY, ""),
    ConditionType.STALLED: ("False", Reason.SYNCED, ""),
    ConditionType.JOB_SYNCED: ("True", Reason.SYNCED, ""),
    ConditionType.ROTATION_HEALTHY: ("True", Reason.UP_TO_DATE, ""),
}


def served(**other: tuple[str, Reason, str]) -> Json:
    return resource(**{**SERVED, **other})


CASES = {
    "nobody has looked": (resource(), "Progressing", "inProgress", "not looked at it"),
    "it was changed": ({**served(), "metadata": {"generation": 3}}, "Progressing", "inProgress", "this change"),
    "its first roll": (
        served(Ready=("False", Reason.ROLLING_OUT, "1 of 2")), "Progressing", "inProgress", "RollingOut: 1 of 2",
    ),
    "it serves": (served(), "Healthy", "current", "UpToDate"),
    "a version is held": (
        served(RotationHealthy=("True", Reason.NEW_VERSION_HELD, "until 22:00")), "Healthy", "current", "until 22:00",
    ),
    "a rotation rolls": (
        served(RotationHealthy=("Unknown", Reason.DEPLOYMENT_RUNNING, "")), "Healthy", "current", "DeploymentRunning",
    ),
    "a rotation failed, what worked serves": (
        served(RotationHealthy=("False", Reason.DEPLOYMENT_REVERTED, "version 3 failed")),
        "Degraded", "failed", "version 3 failed",
    ),
    "a pin is at risk": (
        served(RotationHealthy=("False", Reason.PINNED_VERSION_AT_RISK, "")), "Degraded", "failed", "PinnedVersionAt",
    ),
    "Vault is away, and it serves": (
        served(VaultSynced=("Unknown", Reason.VAULT_UNREACHABLE, "")), "Healthy", "current", "UpToDate",
    ),
    "Vault is away, and nothing was there": (
        resource(Ready=("False", Reason.VAULT_UNREACHABLE, "no answer")), "Progressing", "inProgress", "no answer",
    ),
    "it is suspended": (
        served(JobSynced=("Unknown", Reason.SUSPENDED, "by spec.suspend")), "Suspended", "current", "by spec.suspend",
    ),
    "it is suspended, and nothing was there": (
        resource(Ready=("False", Reason.SUSPENDED, ""), JobSynced=("Unknown", Reason.SUSPENDED, "by spec.suspend")),
        "Suspended", "current", "by spec.suspend",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_state_is_told_as_what_it_is(name: str) -> None:
    found, argo, flux, said = CASES[name]
    status, message = argo_health(found)
    assert (status, flux_health(found)) == (argo, flux)
    assert said in message


@pytest.mark.parametrize("reason", sorted(STALLED))
def test_what_only_a_person_can_mend_does_not_go_on_as_if_it_would_get_better(reason: Reason) -> None:
    found = served(Ready=("False", reason, "why"), Stalled=("True", reason, "why"))
    assert argo_health(found) == ("Degraded", f"{reason.value}: why")
    assert flux_health(found) == "failed"


def test_one_that_is_being_deleted_is_not_done() -> None:
    found = served()
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert argo_health(found)[0] == "Progressing"


def test_the_examples_install_this_release_from_where_it_is() -> None:
    tag = f"v{secretbinding.__version__}"
    application = documents("argocd/controller.yaml")[0]["spec"]["sources"][0]
    repository, release = documents("flux/controller.yaml")
    assert (application["targetRevision"], repository["spec"]["ref"]["tag"]) == (tag, tag)
    for path in (application["path"], release["spec"]["chart"]["spec"]["chart"]):
        assert (GITOPS.parents[1] / path / "Chart.yaml").is_file()


def test_nothing_takes_a_binding_away_because_it_is_gone_from_git() -> None:
    assert documents("argocd/bindings.yaml")[0]["spec"]["syncPolicy"]["automated"]["prune"] is False
    assert documents("flux/bindings.yaml")[1]["spec"]["prune"] is False
