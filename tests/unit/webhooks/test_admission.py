"""What is said to an API server: as `validate` and the reconciler say it."""

from typing import Any

from secretbinding.errors import Unreachable
from secretbinding.tenancy.verdict import Known
from secretbinding.webhooks.admission import Admission
from tests.unit.tenancy.builders import policy

Json = dict[str, Any]


def a_binding(path: str = "payments/app", **metadata: Any) -> Json:
    secrets = [{"name": "app", "kv": {"mount": "secret", "path": path}, "env": {"A": "a"}}]
    spec = {"workload": {"job": "api", "namespace": "payments"}, "secrets": secrets}
    return {"metadata": {"name": "api", "namespace": "payments", **metadata}, "spec": spec}


OWN = Known((policy(),))


def admission(known: Known | None = OWN, labels: Json | None = None) -> Admission:
    return Admission(
        (lambda: known) if known is not None else None, lambda source, tenant: labels, lambda connection: "global"
    )


def test_what_a_policy_allows_is_taken() -> None:
    assert admission().binding(a_binding()) == admission().binding(a_binding(), a_binding("payments/other"))
    assert admission().binding(a_binding()).refusal == ""


def test_what_no_policy_allows_is_refused_with_the_rule() -> None:
    told = admission().binding(a_binding("billing/app")).refusal
    assert told.startswith("no policy allows tenant payments (kubernetes) secret app (kv secret/billing/app)")
    assert "# This policy would allow it.\napiVersion: nomad-vault.io/v1alpha1\nkind: SecretBindingPolicy" in told


def test_without_a_policy_everything_is_refused_and_with_open_tenancy_nothing() -> None:
    assert "there is no SecretBindingPolicy at all" in admission(Known()).binding(a_binding()).refusal
    assert admission(None).binding(a_binding("billing/app")).refusal == ""


def test_a_manifest_that_does_not_validate_is_refused_in_the_words_of_validate() -> None:
    broken = a_binding()
    broken["spec"]["secrets"][0]["kv"]["path"] = "a/../b"
    for one in (admission(), admission(None)):
        told = one.binding(broken).refusal
        assert told.startswith("secretbinding payments/api: spec.secrets[0].kv.path: path `a/../b` must not begin")


def test_what_is_not_known_is_taken_with_a_warning() -> None:
    answer = admission(Known((), "the policies of nomad are not known yet")).binding(a_binding())
    assert (answer.refusal, answer.warning[:24]) == ("", "the policies of nomad ar")
    by_label = Known((policy(tenants=[{"labels": {"team": "money"}}]),))
    assert "labels of tenant payments" in admission(by_label).binding(a_binding()).warning
    assert admission(by_label, {"team": "money"}).binding(a_binding()).warning == ""
    assert "no policy allows" in admission(by_label, {"team": "other"}).binding(a_binding()).refusal


def test_finalizers_and_annotations_come_and_go_whatever_has_become_of_the_rights() -> None:
    refused = a_binding("billing/app", finalizers=["nomad-vault.io/finalizer"])
    assert admission().binding(refused).refusal
    assert admission().binding(refused, a_binding("billing/app")).refusal == ""
    leaving = a_binding("billing/app", deletionTimestamp="2026-01-01T00:00:00Z")
    assert admission().binding(leaving, a_binding()).refusal == ""


def test_regions_are_asked_for_only_where_a_policy_names_them() -> None:
    def unreachable(connection: str) -> str:
        raise Unreachable("no answer", system="nomad")

    regional = Known((policy(workloads=[{"namespaces": ["*"], "regions": ["global"]}]),))
    one = Admission(lambda: regional, lambda source, tenant: {}, lambda connection: "global")
    other = Admission(lambda: regional, lambda source, tenant: {}, unreachable)
    assert one.binding(a_binding()).refusal == ""
    assert "no policy allows" in other.binding(a_binding()).refusal


def test_a_policy_is_judged_by_its_model() -> None:
    good = policy().to_manifest()
    assert admission().policy(good).refusal == ""
    good["spec"]["templates"] = {"functions": ["frobnicate"]}
    assert "there is no function `frobnicate`" in admission().policy(good).refusal
