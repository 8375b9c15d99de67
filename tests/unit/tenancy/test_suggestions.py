"""The policy that a refusal suggests allows that binding and no neighbour of it."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.errors import ManifestError
from secretbinding.models.binding import SecretBinding
from secretbinding.models.loading import parse_object
from secretbinding.models.policy_loading import parse_policies
from secretbinding.tenancy import Target, Tenant, decide, suggested
from secretbinding.tenancy.demands import Demand, demands_of
from tests.support.fuzzing import cases
from tests.unit.models.manifests import Json, manifests
from tests.unit.tenancy.builders import API, PAYMENTS, binding, judged

# Fields of a secret that say where it is.
_PLACES = (
    "mount",
    "path",
    "role",
    "staticRole",
    "key",
    "roleset",
    "staticAccount",
    "impersonatedAccount",
    "namespace",
)
_OTHERS = {
    "one more": lambda text: f"{text}x",
    "one less": lambda text: text[:-1],
    "one before": lambda text: f"x{text}",
    "below it": lambda text: f"{text}/x",
    "above it": lambda text: text.rpartition("/")[0],
    "beside it": lambda text: f"{text.rpartition('/')[0]}/x".lstrip("/"),
    "in another case": lambda text: text.swapcase(),
    "another": lambda text: "admin",
}


def neighbours(manifest: Json, way: str) -> Iterator[Json]:
    """Manifests that ask for something else in one place."""
    for index, entry in enumerate(manifest["spec"]["secrets"]):
        (kind,) = {"kv", "generic", "database", "pki", "ssh", "aws", "gcp", "azure", "transit", "nomadVariable"} & set(
            entry
        )
        for field in set(_PLACES) & set(entry[kind]):
            other = copy.deepcopy(manifest)
            other["spec"]["secrets"][index][kind][field] = _OTHERS[way](entry[kind][field])
            yield other


def asked_for(bound: SecretBinding) -> set[Demand]:
    """What a binding asks for, whichever of its secrets asks."""
    return {replace(demand, place=(), secret="", functions=frozenset()) for demand in demands_of(bound)}


@settings(max_examples=cases(80), deadline=None)
@given(manifests(), st.sampled_from(sorted(_OTHERS)))
def test_no_neighbour_of_a_binding_is_allowed_by_the_rule_that_is_suggested_for_it(manifest: Json, way: str) -> None:
    bound = parse_object(manifest, source="a test")
    tenant = Tenant("nomad", "team-a")
    target = Target("team-a", bound.spec.workload.job, "global", frozenset({"docker"}))
    rule = suggested(tenant, bound, target).policy
    assert rule is not None
    (rule,) = parse_policies(suggested(tenant, bound, target).text)
    assert decide((rule,), tenant, bound, target).allowed
    for other in neighbours(manifest, way):
        try:
            neighbour = parse_object(other, source="a test")
        except ManifestError:
            continue
        if not asked_for(neighbour) <= asked_for(bound):
            assert not decide((rule,), tenant, neighbour, target).allowed


@settings(max_examples=cases(40), deadline=None)
@given(
    manifests(),
    st.sampled_from(
        [
            {"job": "other"},
            {"namespace": "team-b"},
            {"connection": "eu"},
            {"drivers": frozenset({"raw_exec"})},
            {"drivers": frozenset({"docker", "raw_exec"})},
        ]
    ),
)
def test_nor_the_same_secrets_for_another_job(manifest: Json, change: Json) -> None:
    bound = parse_object(manifest, source="a test")
    tenant = Tenant("nomad", "team-a")
    target = Target("team-a", bound.spec.workload.job, "global", frozenset({"docker"}))
    rule = suggested(tenant, bound, target).policy
    assert rule is not None
    assert not decide((rule,), tenant, bound, replace(target, **change)).allowed
    assert not decide((rule,), replace(tenant, source="files"), bound, target).allowed


CREATED = {
    "name": "db",
    "database": {"mount": "db", "create": {"connection": "main", "creationStatements": ["SELECT 1"], "maxTTL": "1h"}},
    "env": {"A": "username"},
}
ISSUING = {
    "name": "tls",
    "pki": {"mount": "pki", "commonName": "a", "create": {"allowedDomains": ["example.com"]}},
    "env": {"A": "a"},
}


@pytest.mark.parametrize(
    ("made", "kind", "named"),
    [
        (CREATED, "database", {"mount": "db", "role": "admin"}),
        (CREATED, "database", {"mount": "db", "staticRole": "admin"}),
        (ISSUING, "pki", {"mount": "pki", "role": "admin", "commonName": "a"}),
    ],
)
def test_a_role_that_is_to_be_made_opens_none_that_is_there(made: Json, kind: str, named: Json) -> None:
    rule = suggested(PAYMENTS, binding(made), API).policy
    assert rule is not None
    assert judged(binding(made), rule).allowed
    assert not judged(binding({**made, kind: named}), rule).allowed


@pytest.mark.parametrize("field", ["role", "staticRole"])
def test_no_binding_can_name_a_role_as_the_rule_for_a_made_one_does(field: str) -> None:
    with pytest.raises(ManifestError):
        binding({**CREATED, "database": {"mount": "db", field: "no role"}})
