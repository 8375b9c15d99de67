"""Policies judged by the model, by the CRD alone, and by a real API server: all three say the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.errors import ManifestError
from secretbinding.models.crd import POLICY_FILE_NAME, POLICY_PLURAL, crd_yaml, policy_crd
from secretbinding.models.policy_loading import parse_policies, parse_policy_object
from tests.crd.test_generated import schemas
from tests.support.crdcheck import Judge
from tests.support.kubernetes import Cluster

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "policies").glob("*.yaml"))
JUDGE = Judge(policy_crd())
PLACE = f"/apis/nomad-vault.io/v1alpha1/{POLICY_PLURAL}"

ALLOW: Json = {
    "tenants": [{"names": ["*"]}],
    "workloads": [{"namespaces": ["{{tenant}}"]}],
    "secrets": [{"mounts": ["secret"], "paths": ["{{tenant}}/*"]}],
}
DENY: Json = {"effect": "Deny", "tenants": [{"labels": {"a.b/c": ""}}]}
SECRETS = ALLOW["secrets"][0]

GOOD: dict[str, Json] = {
    "the smallest": ALLOW,
    "a deny": DENY,
    "a deny of some secrets": {**DENY, "secrets": [{"mounts": ["*"], "paths": ["*"]}]},
    "a variable has no mount": {**ALLOW, "secrets": [{"kinds": ["nomadVariable"], "paths": ["nomad/jobs/*"]}]},
    "everything": {
        **ALLOW,
        "auth": {"methods": ["JWT", "AppRole"], "maxTTL": "1h"},
        "delivery": ["Agent"],
        "choices": ["driver", "image", "command", "args", "user", "script", "server", "listener"],
        "templates": {"functions": ["key", "sprig_env"]},
        "adopt": True,
        "retain": True,
        "secrets": [{**SECRETS, "capabilities": ["read"], "create": {"ipSans": True}, "generate": {"roots": ["a"]}}],
    },
}
BAD: dict[str, tuple[Json, str]] = {
    "no tenants": ({**ALLOW, "tenants": []}, "at least 1"),
    "a tenant without a word": ({**ALLOW, "tenants": [{"sources": ["nomad"]}]}, "neither names nor labels"),
    "no workloads": ({**ALLOW, "workloads": []}, "workloads is not set"),
    "no namespaces": ({**ALLOW, "workloads": [{"jobs": ["a"]}]}, "`namespaces` is missing"),
    "no secrets": ({key: ALLOW[key] for key in ("tenants", "workloads")}, "secrets is not set"),
    "no mounts": ({**ALLOW, "secrets": [{"paths": ["a"]}]}, "mounts is not set"),
    "no paths": ({**ALLOW, "secrets": [{"mounts": ["a"]}]}, "paths is not set"),
    "another placeholder": ({**ALLOW, "workloads": [{"namespaces": ["{{team}}"]}]}, "braces other than {{tenant}}"),
    "a quote": ({**ALLOW, "workloads": [{"namespaces": ['a"']}]}, "has quotes"),
    "a deny that allows": ({**DENY, "adopt": True}, "effect is Deny"),
    "a deny that retains": ({**DENY, "retain": True}, "effect is Deny"),
    "a deny with a limit": ({**DENY, "auth": {"maxTTL": "1h"}}, "effect is Deny"),
    "a deny that creates": ({**DENY, "secrets": [{**SECRETS, "create": {}}]}, "effect is Deny"),
    "an unknown kind": ({**ALLOW, "secrets": [{**SECRETS, "kinds": ["cubbyhole"]}]}, "is not one of"),
    "an unknown choice": ({**ALLOW, "choices": ["everything"]}, "is not one of"),
    "sudo": ({**ALLOW, "secrets": [{**SECRETS, "capabilities": ["sudo"]}]}, "is not one of"),
    "no time": ({**ALLOW, "auth": {"maxTTL": "0s"}}, "longer than 0s"),
}


def manifest(spec: Json, name: str = "rule") -> Json:
    head = {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBindingPolicy"}
    return {**head, "metadata": {"name": name}, "spec": spec}


def test_the_file_is_what_the_model_gives() -> None:
    text = (ROOT / "crds" / POLICY_FILE_NAME).read_text()
    assert text == crd_yaml(policy_crd()), f"write the policies' CRD to crds/{POLICY_FILE_NAME}: make crd"


def test_every_string_list_and_map_is_bounded_and_every_field_described() -> None:
    for schema in schemas(policy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]):
        bound = {"string": ("maxLength", "enum"), "array": ("maxItems",), "object": ("properties", "maxProperties")}
        assert any(name in schema for name in bound.get(schema["type"], ("type",))), schema
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), name


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_a_good_policy_is_accepted_and_comes_back_as_it_was(spec: Json) -> None:
    parsed = parse_policy_object(manifest(spec), source="a test")
    assert JUDGE.faults(manifest(spec)) == []
    assert parse_policy_object(parsed.to_manifest(), source="a test") == parsed


@pytest.mark.parametrize(("spec", "says"), BAD.values(), ids=BAD)
def test_a_bad_policy_is_refused_with_what_is_wrong(spec: Json, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_policy_object(manifest(spec), source="a test")
    assert says in str(caught.value)
    assert JUDGE.faults(manifest(spec)) != []


def test_an_unknown_function_is_found_by_the_model_alone() -> None:
    spec = {**ALLOW, "templates": {"functions": ["frobnicate"]}}
    with pytest.raises(ManifestError, match="there is no function `frobnicate`"):
        parse_policy_object(manifest(spec), source="a test")


def test_a_policy_in_a_file_is_told_with_its_line() -> None:
    text = yaml.safe_dump_all([manifest(ALLOW), manifest({**ALLOW, "tennants": []}, "other")], sort_keys=False)
    with pytest.raises(ManifestError) as caught:
        parse_policies(text, file="rules.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, text.splitlines()[problem.line - 1].strip()) == ("rules.yaml", "tennants: []")
    assert problem.remedy == "did you mean `tenants`?"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_shipped_example_is_accepted(path: Path) -> None:
    (policy,) = parse_policies(path.read_text(), file=path.name)
    assert JUDGE.faults(policy.to_manifest()) == []


@pytest.mark.real_kubernetes
def test_a_real_api_server_takes_the_definition_and_judges_in_the_same_way(real_kubernetes: Cluster) -> None:
    real_kubernetes.api.define(policy_crd())
    query = f"{PLACE}?fieldValidation=Strict&dryRun=All"
    for name, spec in GOOD.items():
        answer = real_kubernetes.api.request("POST", query, manifest(spec))
        assert answer.ok, (name, answer.json())
    for name, (spec, _) in BAD.items():
        assert not real_kubernetes.api.request("POST", query, manifest(spec)).ok, name


@pytest.mark.real_kubernetes
def test_a_real_api_server_takes_every_shipped_example(real_kubernetes: Cluster) -> None:
    real_kubernetes.api.define(policy_crd())
    made = real_kubernetes.kubectl("apply", "--dry-run=server", *[f"-f={path}" for path in EXAMPLES])
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created") == len(EXAMPLES)
