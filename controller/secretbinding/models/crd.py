"""The CustomResourceDefinitions, generated from the models. `python -m secretbinding.models.crd` writes that of
SecretBinding out, with the argument `secretbindingpolicies` the other."""

import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from secretbinding.models.base import VALIDATIONS
from secretbinding.models.binding import GROUP, KIND, VERSION, SecretBinding
from secretbinding.models.policy import POLICY_KIND, SecretBindingPolicy
from secretbinding.models.status import SecretBindingStatus, initial_status
from secretbinding.models.types import DNS_LABEL
from secretbinding.strictyaml import dump

PLURAL = "secretbindings"
POLICY_PLURAL = "secretbindingpolicies"
FILE_NAME = f"{GROUP}_{PLURAL}.yaml"
POLICY_FILE_NAME = f"{GROUP}_{POLICY_PLURAL}.yaml"

# Of pydantic's JSON schema, what a structural schema (apiextensions.k8s.io/v1) may hold as it is.
_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
)


def crd() -> dict[str, Any]:
    """The CRD of SecretBinding as the API server takes it (apiextensions.k8s.io/v1)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["nsb"],
                "categories": ["nomad-vault"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [
                        {"jsonPath": ".spec.workload.job"},
                        {"jsonPath": ".spec.workload.namespace"},
                    ],
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": object_schema()},
                }
            ],
        },
    }


def policy_crd() -> dict[str, Any]:
    """The CRD of SecretBindingPolicy, which is the cluster's own and has no status."""
    schema = _object_of(SecretBindingPolicy)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{POLICY_PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": POLICY_KIND,
                "listKind": f"{POLICY_KIND}List",
                "plural": POLICY_PLURAL,
                "singular": POLICY_KIND.lower(),
                "shortNames": ["nsbp"],
                "categories": ["nomad-vault"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [
                        {"name": "Effect", "type": "string", "jsonPath": ".spec.effect"},
                        {"name": "Tenants", "type": "string", "jsonPath": ".spec.tenants[*].names"},
                        {"name": "Namespaces", "type": "string", "jsonPath": ".spec.workloads[*].namespaces"},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def crd_yaml(definition: Mapping[str, Any] | None = None) -> str:
    """A CRD as text, as it is kept in `crds/`; that of SecretBinding where none is given."""
    head = "# Generated from the models (`secretbinding crd`): edit those, not this file.\n"
    return head + dump(crd() if definition is None else dict(definition))


def all_yaml() -> str:
    """Both CRDs as one stream."""
    return f"{crd_yaml()}---\n{crd_yaml(policy_crd())}"


def object_schema() -> dict[str, Any]:
    """The structural schema of a whole SecretBinding."""
    status = SecretBindingStatus.model_json_schema(by_alias=True)
    made = {**structural(status, status.get("$defs", {})), "default": initial_status()}
    return _object_of(SecretBinding, status=made)


def _object_of(model: type[BaseModel], **more: Any) -> dict[str, Any]:
    """The structural schema of an object with the `spec` of a model, and with `more` beside it."""
    generated = model.model_json_schema(by_alias=True)
    return {
        "type": "object",
        "description": generated["description"],
        "required": ["spec"],
        VALIDATIONS: [_name_rule()],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(generated["properties"]["spec"], generated.get("$defs", {})),
            **more,
        },
    }


def _name_rule() -> dict[str, str]:
    name = "self.metadata.name"
    return {
        "rule": f"{name}.size() <= {DNS_LABEL.max_length} && {name}.matches('{DNS_LABEL.pattern}')",
        "message": f"metadata.name {DNS_LABEL.says}; {DNS_LABEL.remedy}, at most 63 characters",
    }


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema from one of pydantic's: references inlined, `anyOf` with null and `const` resolved, and only
    what the API server takes. Raises `ValueError` for a construct that has no such form."""
    merged = _resolved(schema, definitions)
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    made: dict[str, Any] = {}
    if description := merged.get("description"):
        made["description"] = " ".join(description.split())
    made |= {key: merged[key] for key in _KEPT if key in merged}
    if "type" not in made:
        raise ValueError(f"a schema without a type has no structural form: {schema}")
    made |= {key: value for key, value in merged.items() if key.startswith("x-kubernetes-")}
    if "default" in merged and (default := _default(merged)) is not None:
        made["default"] = default
    if "properties" in merged:
        made["properties"] = {name: structural(value, definitions) for name, value in merged["properties"].items()}
    if isinstance(values := merged.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(values, definitions)
    if "items" in merged:
        made["items"] = structural(merged["items"], definitions)
    return made


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference and its optional form replaced by what they stand for; what stands beside them,
    such as the field's own description, wins."""
    own = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "title")}
    if "$ref" in schema:
        return {**_resolved(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions), **own}
    if "anyOf" in schema:
        real = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        if len(real) != 1:
            raise ValueError(f"a union has no structural form: {schema}")
        return {**_resolved(real[0], definitions), **own}
    return own


def _default(merged: Mapping[str, Any]) -> Any:
    """The default for the CRD. Objects get `{}`, from which the API server fills in the defaults inside; empty lists
    and maps get none, so that they do not show up in people's manifests."""
    default = merged["default"]
    if isinstance(default, dict) and merged.get("type") == "object":
        return {}
    return default if default != [] else None


def _columns() -> list[dict[str, Any]]:
    def condition(kind: str, field: str) -> str:
        return f'.status.conditions[?(@.type=="{kind}")].{field}'

    return [
        {"name": "Job", "type": "string", "jsonPath": ".spec.workload.job"},
        {"name": "Ready", "type": "string", "jsonPath": condition("Ready", "status")},
        {"name": "Reason", "type": "string", "jsonPath": condition("Ready", "reason")},
        {"name": "Rotation", "type": "string", "jsonPath": condition("RotationHealthy", "reason")},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Message", "type": "string", "priority": 1, "jsonPath": condition("Ready", "message")},
    ]


if __name__ == "__main__":
    sys.stdout.write(crd_yaml(policy_crd() if sys.argv[1:] == [POLICY_PLURAL] else None))
