"""Loading manifests: streams, lists, objects of an API, and errors in plain words."""

import json
import textwrap
from typing import Any

import pytest

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.binding import AuthMethod, Delivery, Strategy
from secretbinding.models.loading import (
    VARIABLE_LIMIT,
    check_variable_size,
    identify,
    parse_manifests,
    parse_object,
)

MANIFEST = """\
apiVersion: nomad-vault.io/v1alpha1
kind: SecretBinding
metadata: {name: app, namespace: team-a}
spec:
  workload: {job: app}
  secrets:
    - name: one
      kv: {mount: secret, path: app}
      env: {A: a}
"""


def problems_of(text: str, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        parse_manifests(text, **options)
    return caught.value.problems


def an_object(**spec: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "workload": {"job": "app"},
        "secrets": [{"name": "one", "kv": {"mount": "secret", "path": "app"}, "env": {"A": "a"}}],
    }
    return {"metadata": {"name": "app", "namespace": "team-a"}, "spec": base | spec}


def test_what_is_left_out_gets_its_default() -> None:
    (binding,) = parse_manifests(MANIFEST)
    spec = binding.spec
    assert (spec.delivery, spec.auth.method, spec.rotation.strategy) == (
        Delivery.TEMPLATE,
        AuthMethod.JWT,
        Strategy.ROLLING,
    )
    assert (spec.suspend, spec.connection, spec.workload.namespace, spec.auth.token_period) == (False, None, None, None)


def test_a_stream_gives_its_bindings_in_order_and_skips_empty_documents() -> None:
    stream = f"---\n{MANIFEST}---\n---\n{MANIFEST.replace('name: app,', 'name: two,')}...\n"
    assert [binding.metadata.name for binding in parse_manifests(stream)] == ["app", "two"]


@pytest.mark.parametrize("kind", ["List", "SecretBindingList"])
def test_a_list_gives_its_members(kind: str) -> None:
    members = "".join(
        "- " + textwrap.indent(MANIFEST.replace("name: app,", f"name: {name},"), "  ")[2:] for name in ("a", "b")
    )
    bindings = parse_manifests(f"apiVersion: v1\nkind: {kind}\nitems:\n{members}")
    assert [binding.metadata.name for binding in bindings] == ["a", "b"]


def test_the_same_name_in_two_namespaces_is_two_bindings() -> None:
    assert len(parse_manifests(MANIFEST + "---\n" + MANIFEST.replace("team-a", "team-b"))) == 2


def test_every_problem_of_every_document_is_told_in_the_order_of_the_text() -> None:
    first = MANIFEST.replace("path: app", "path: /app").replace("A: a", "NOMAD_A: a").replace("job: app", "jobs: app")
    second = MANIFEST.replace("name: app,", "name: two,").replace("env:", "envs:") + "  suspend: perhaps\n"
    found = problems_of(f"{first}---\n{second}", file="bindings.yaml")
    assert [(problem.line, problem.field) for problem in found] == [
        (5, "spec.workload.job"),
        (5, "spec.workload.jobs"),
        (8, "spec.secrets[0].kv.path"),
        (9, "spec.secrets[0].env.NOMAD_A"),
        (17, "spec.secrets[0]"),
        (19, "spec.secrets[0].envs"),
        (20, "spec.suspend"),
    ]
    assert {problem.file for problem in found} == {"bindings.yaml"}


def test_faults_between_fields_are_told_even_where_single_fields_are_wrong() -> None:
    text = MANIFEST.replace("kv: {mount: secret, path: app}", "kv: {mount: secret, path: a//b}\n      pki: {mount: 1}")
    assert "an entry is one secret, but kv and pki are set" in {problem.message for problem in problems_of(text)}


def test_a_problem_reads_as_file_line_column_field_message_and_remedy() -> None:
    (problem,) = problems_of(MANIFEST.replace("{A: a}", "{db-user: a}"), file="app.yaml")
    assert str(problem) == (
        "app.yaml:9:13: spec.secrets[0].env.db-user: env name `db-user` is no identifier; "
        "use letters, digits and `_`, not starting with a digit"
    )


def test_a_value_of_workload_env_is_never_repeated_in_a_problem() -> None:
    text = MANIFEST.replace("{job: app}", '{job: app, env: {A1: "hunter2\\0"}}')
    assert "hunter2" not in str(problems_of(text))


def test_a_faulty_template_is_not_repeated_in_a_problem() -> None:
    text = MANIFEST.replace("env: {A: a}", 'files: [{destination: local/a, template: "hunter2 {{"}]')
    assert "hunter2" not in str(problems_of(text))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("secret", "secrets"), ("rotations", "rotation"), ("deletion_policy", "deletionPolicy"), ("Workload", "workload")],
)
def test_an_unknown_field_gets_the_nearest_known_one_suggested(written: str, meant: str) -> None:
    found = problems_of(f"{MANIFEST}  {written}: x\n")
    assert found[-1].remedy == f"did you mean `{meant}`?"


def test_an_unknown_field_that_resembles_none_gets_the_known_ones_listed() -> None:
    (problem,) = problems_of(f"{MANIFEST}  xyz: 1\n")
    assert problem.remedy.startswith("remove it; known here: workload, connection, secrets,")


def test_json_is_read_as_well() -> None:
    assert parse_manifests(json.dumps({"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBinding"} | an_object()))


def test_a_manifest_over_the_limit_of_a_nomad_variable_is_refused_for_that_source_only() -> None:
    large = MANIFEST + "#" * VARIABLE_LIMIT
    assert parse_manifests(large, source="files")
    (problem,) = problems_of(large, source="nomad", file="app")
    assert "a Nomad variable holds 65528" in problem.message


def test_the_largest_manifest_that_fits_in_a_nomad_variable_is_taken() -> None:
    fits = "é" * ((VARIABLE_LIMIT - len("manifest")) // 2)
    check_variable_size(fits)
    with pytest.raises(ManifestError):
        check_variable_size(fits + "x")


def test_an_object_of_an_api_may_lack_its_kind_and_carry_status_and_unknown_metadata() -> None:
    obj = an_object() | {"status": {"anything": [1]}}
    obj["metadata"] |= {"uid": "u-1", "generation": 3, "managedFields": [{}], "somethingNew": 1}
    binding = parse_object(obj, source="kubernetes")
    assert (binding.metadata.uid, binding.metadata.generation) == ("u-1", 3)


def test_an_object_of_an_api_with_a_fault_is_refused_with_the_field() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_object(an_object(delivery="Pigeon"), source="kubernetes")
    (problem,) = caught.value.problems
    assert (problem.file, problem.field, problem.line) == ("kubernetes", "spec.delivery", 0)


@pytest.mark.parametrize("obj", [None, [], "text", 7, {}, {"spec": None}, {"metadata": [], "spec": {"secrets": {}}}])
def test_what_is_no_binding_at_all_is_refused_and_has_no_identity(obj: Any) -> None:
    with pytest.raises(ManifestError):
        parse_object(obj, source="kubernetes")
    assert set(identify(obj)) == {None}


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ManifestError):
        parse_object(an_object(connection="\ud800"), source="kubernetes")


def test_a_number_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(ManifestError):
        parse_object(an_object(connection=float("nan")), source="kubernetes")


def test_the_identity_of_an_invalid_object_is_read_as_far_as_it_goes() -> None:
    obj = an_object(
        secrets="none", workload={"job": "app", "namespace": "prod", "region": 7, "groups": 1}, connection="x"
    )
    identity = identify(obj)
    assert (identity.name, identity.namespace, identity.job, identity.job_namespace, identity.region) == (
        "app",
        "team-a",
        "app",
        "prod",
        None,
    )
    assert identity.connection == "x"
