"""Faults that only the servers can tell are told at the lines of the manifest."""

import pytest

from secretbinding.cli.findings import findings
from secretbinding.models.reasons import Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus, SecretStatus
from secretbinding.rotation.fields import unfit
from secretbinding.sources.files import Loaded
from secretbinding.sources.files.reading import bindings_of

TEXT = b"""\
apiVersion: nomad-vault.io/v1alpha1
kind: SecretBinding
metadata:
  name: web
spec:
  workload:
    job: web
    groups: [{name: g, tasks: [t]}]
  secrets:
    - name: app
      kv: {mount: secret, path: app}
      env: {A: a}
    - name: db
      kv: {mount: secret, path: db}
      env: {B: b}
      files:
        - destination: all.json
        - destination: db.json
          fields: {c: c}
"""


@pytest.fixture
def loaded() -> Loaded:
    return bindings_of(TEXT, "web.yaml", nomad_namespace="default")[0]


def status(reason: Reason, message: str, *, kind: str = "Ready", secret: str = "") -> SecretBindingStatus:
    condition = Condition(
        type=kind,
        status=ConditionStatus.FALSE,
        reason=reason.value,
        message=message,
        last_transition_time="2026-01-01T00:00:00Z",
    )
    secrets = tuple(SecretStatus(name=name, message=message if name == secret else None) for name in ("app", "db"))
    return SecretBindingStatus(conditions=(condition,), secrets=secrets)


@pytest.mark.parametrize(
    ("reason", "secret", "place"),
    [
        (Reason.JOB_NOT_FOUND, "", "web.yaml:7:5: spec.workload.job: "),
        (Reason.UNSUPPORTED_JOB_TYPE, "", "web.yaml:7:5: spec.workload.job: "),
        (Reason.TASK_NOT_FOUND, "", "web.yaml:8:5: spec.workload.groups: "),
        (Reason.VAULT_BLOCK_CONFLICT, "", "web.yaml:6:3: spec.workload: "),
        (Reason.SECRET_FIELD_MISSING, "db", "web.yaml:15:7: spec.secrets[1].env: "),
        (Reason.SECRET_NOT_FOUND, "app", "web.yaml:11:7: spec.secrets[0].kv: "),
        (Reason.UNSUPPORTED_DELIVERY, "", "web.yaml:5:1: spec.delivery: "),
        (Reason.DEPLOYMENT_FAILED, "", "web.yaml: it is so"),
        (Reason.PERMISSION_DENIED, "", "it is so"),
    ],
)
def test_a_fault_is_told_at_the_field_it_is_about(loaded: Loaded, reason: Reason, secret: str, place: str) -> None:
    (problem,) = findings(loaded, status(reason, "it is so", secret=secret))
    assert str(problem).startswith(place)


@pytest.mark.parametrize(
    "reason", [Reason.PENDING, Reason.ROLLING_OUT, Reason.MANUAL_ROTATION_PENDING, Reason.SUSPENDED, Reason.DELETING]
)
def test_what_is_on_its_way_or_wanted_is_no_fault(loaded: Loaded, reason: Reason) -> None:
    assert findings(loaded, status(reason, "wait")) == []


def test_one_fault_in_two_conditions_is_told_once(loaded: Loaded) -> None:
    first = status(Reason.JOB_NOT_FOUND, "no job")
    second = status(Reason.JOB_NOT_FOUND, "no job", kind="JobSynced")
    both = SecretBindingStatus(conditions=(*first.conditions, *second.conditions))
    assert len(findings(loaded, both)) == 1


def test_a_version_that_is_held_is_a_fault_though_the_binding_is_ready(loaded: Loaded) -> None:
    held = status(Reason.SECRET_FIELD_MISSING, "no field b", kind="RotationHealthy", secret="db")
    assert len(findings(loaded, held)) == 1


@pytest.mark.parametrize(
    ("there", "place"),
    [("c", "web.yaml:15:7: spec.secrets[1].env: "), ("b", "web.yaml:19:11: spec.secrets[1].files[1].fields: ")],
)
def test_a_missing_field_is_told_where_it_is_asked_for(loaded: Loaded, there: str, place: str) -> None:
    fault = unfit(loaded.binding.spec.secrets[1], {there: None}, "version 2 of secret/db")
    assert fault is not None
    (problem,) = findings(loaded, status(fault.reason, fault.message, secret="db"))
    assert str(problem).startswith(place)
