"""The CRD in `crds/`: generated from the model, never edited."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.models.binding import SecretBinding
from secretbinding.models.crd import FILE_NAME, crd, crd_yaml, object_schema, structural
from secretbinding.models.reasons import ConditionType

CRDS = Path(__file__).parents[2] / "crds"


def schemas(schema: Any) -> list[dict[str, Any]]:
    """A schema and all schemas inside it."""
    inside = [*schema.get("properties", {}).values()]
    inside += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return [schema, *(inner for member in inside for inner in schemas(member))]


def test_the_file_is_what_the_model_gives() -> None:
    assert (CRDS / FILE_NAME).read_text() == crd_yaml(), f"write the output of `secretbinding crd` to crds/{FILE_NAME}"


def test_the_text_is_the_object() -> None:
    assert yaml.safe_load(crd_yaml()) == crd()


def test_names_are_those_that_were_promised() -> None:
    definition = crd()
    assert definition["metadata"]["name"] == "secretbindings.nomad-vault.io"
    assert definition["spec"]["names"]["shortNames"] == ["nsb"]
    assert definition["spec"]["names"]["categories"] == ["nomad-vault"]
    (version,) = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    assert [field["jsonPath"] for field in version["selectableFields"]] == [
        ".spec.workload.job",
        ".spec.workload.namespace",
    ]
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert columns == ["Job", "Ready", "Reason", "Rotation", "Age"]


def test_printer_columns_name_real_conditions() -> None:
    paths = " ".join(column["jsonPath"] for column in crd()["spec"]["versions"][0]["additionalPrinterColumns"])
    assert f'"{ConditionType.READY}"' in paths
    assert f'"{ConditionType.ROTATION_HEALTHY}"' in paths


def test_every_string_list_and_map_of_the_spec_is_bounded_so_that_rules_stay_within_their_cost() -> None:
    for schema in schemas(object_schema()["properties"]["spec"]):
        bound = {"string": ("maxLength", "enum"), "array": ("maxItems",), "object": ("properties", "maxProperties")}
        names = bound.get(schema["type"], ("type",))
        assert any(name in schema for name in names), schema


def test_every_field_is_described() -> None:
    spec = object_schema()["properties"]["spec"]
    for schema in schemas(spec):
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), name


def test_durations_have_no_default_so_that_the_controller_can_change_its_own() -> None:
    auth = object_schema()["properties"]["spec"]["properties"]["auth"]["properties"]
    assert [name for name, field in auth.items() if "default" in field] == ["method"]


def test_every_rule_of_the_model_that_cel_can_say_is_in_the_crd() -> None:
    told = {
        entry["rule"] for schema in schemas(object_schema()) for entry in schema.get("x-kubernetes-validations", [])
    }
    spec = SecretBinding.model_fields["spec"].annotation
    assert spec is not None
    assert {rule.cel for rule in spec.rules if rule.cel} <= told


@pytest.mark.parametrize("schema", [{}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}])
def test_what_has_no_structural_form_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="structural form"):
        structural(schema, {})
