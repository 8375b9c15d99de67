"""Makes what the chart has from elsewhere: `values.schema.json` and the tables of its README from `values.yaml`, and
the resource definitions. `make chart` calls it; `tests/chart` compares.

A comment above a value is its description, `## ...` begins a section. What a value may be comes from its default, from
the controller's settings where it is one of them, and from the rules below.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from secretbinding.agent_settings import AgentSettings
from secretbinding.models.crd import policy_crd
from secretbinding.settings import ControllerSettings

Json = dict[str, Any]

CHART = Path(__file__).parent / "secretbinding"
CRDS = CHART.parents[1] / "crds"
BEGIN, END = "<!-- values: made by `make chart` from values.yaml -->", "<!-- end of values -->"

_NAME = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
_KEY = r"^[A-Za-z0-9._-]{1,253}$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_ANY: Json = {"type": "object"}
_PROBE: Json = {"type": ["object", "null"]}
_OBJECTS: Json = {"type": "array", "items": {"type": "object"}}
_WORDS: Json = {"type": "array", "items": {"type": "string", "minLength": 1}}
_PORT: Json = {"type": "integer", "minimum": 1, "maximum": 65535}
_NAMED: Json = {"type": "array", "items": {"type": "object", "required": ["name"]}}
_AMOUNT: Json = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]{1,3}%$"}
_DURATION: Json = {"type": "string", "pattern": r"^([0-9]+(h|ms|m|s))+$"}
_PULL: Json = {
    "type": "array",
    "items": {"type": ["string", "object"], "minLength": 1, "required": ["name"]},
}
_FILE: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {"type": "string", "pattern": "^/"},
        "tenant": {"type": "string", "pattern": r"^(\*|[A-Za-z0-9._-]+)$"},
    },
}

# A ConfigMap is no place for a secret: the controller would refuse it, and it would be there already.
_SERVER: Json = {"type": "object", "properties": {"token": False, "loginSecretId": False}}
_CONNECTION: Json = {
    "type": "object",
    "required": ["name", "vault", "nomad"],
    "properties": {
        "name": {"type": "string", "pattern": _LABEL, "not": {"const": "default"}},
        **{server: {**_SERVER, "required": ["address"]} for server in ("vault", "nomad")},
        "consul": _SERVER,
    },
}
_NAMES: Json = {"type": "array", "uniqueItems": True, "items": {"type": "string", "minLength": 1, "pattern": _NAME}}

RULES: Mapping[str, Json] = {
    "connections": {"type": "array", "items": _CONNECTION},
    "mounts.*": _NAMES,
    "global.imagePullSecrets": _PULL,
    "imagePullSecrets": _PULL,
    "image.pullPolicy": {"type": "string", "enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"type": "string", "pattern": r"^([a-z0-9]+:[0-9a-f]{32,})?$"},
    "image.repository": {"type": "string", "minLength": 1},
    "replicaCount": {"type": "integer", "minimum": 0, "maximum": 100},
    "shards": {"type": "integer", "minimum": 1, "maximum": 64},
    "election.enabled": {"type": ["boolean", "null"]},
    "election.seconds": {"type": "number", "minimum": 5, "maximum": 300},
    "instance": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$"},
    "sources.files": {"type": "array", "items": _FILE},
    "watchNamespaces": {"type": "array", "uniqueItems": True, "items": {"type": "string", "pattern": _LABEL}},
    "nomadNamespace": {"type": "string", "minLength": 1},
    "tenancy.mode": {"type": "string", "enum": ["policies", "open"]},
    "tenancy.policiesAs": {"type": "string", "enum": ["Mounted", "Objects"]},
    "vault.address": {"type": "string", "pattern": r"^((srv\+|consul\+)?https?://.+)?$"},
    "nomad.address": {"type": "string", "pattern": r"^(https?://.+)?$"},
    "vault.login.method": {"type": "string", "enum": ["kubernetes", "jwt", "approle", "cert", "token"]},
    "vault.login.tokenSeconds": {"type": "integer", "minimum": 600},
    "*.caKey": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{0,253}$"},
    "*Key": {"type": "string", "pattern": _KEY},
    "agent.ca.key": {"type": "string", "pattern": _KEY},
    "*existingSecret": {"type": "string", "pattern": _NAME},
    "*existingConfigMap": {"type": "string", "pattern": _NAME},
    "controller.confirmRemovals": {
        "type": "array",
        "items": {"type": "string", "enum": ["kubernetes", "nomad", "files", "*"]},
    },
    "agent.args": {"type": "array", "items": {"type": "string", "pattern": r"^\S+$"}},
    "agent.driver": {"type": "string", "enum": ["", "docker", "podman", "exec", "raw_exec"]},
    "agent.allow": {
        "type": "array",
        "items": {"type": "string", "enum": ["driver", "image", "command", "args", "user", "script"]},
    },
    "webhook.failurePolicy": {"type": "string", "enum": ["Ignore", "Fail"]},
    "webhook.timeoutSeconds": {"type": "integer", "minimum": 1, "maximum": 30},
    "webhook.certificate.source": {"type": "string", "enum": ["chart", "certManager", "existing"]},
    "webhook.certificate.days": {"type": "integer", "minimum": 1},
    "webhook.certificate.certManager.issuerRef": _ANY,
    "webhook.certificate.certManager.*": _DURATION,
    "webhook.namespaceSelector": _ANY,
    "*.service.type": {"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "*.nodePort": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    "nacp.refusal": {"type": "string", "enum": ["refuse", "warn"]},
    "*.port": _PORT,
    "*.interval": _DURATION,
    "*.scrapeTimeout": _DURATION,
    "podDisruptionBudget.maxUnavailable": _AMOUNT,
    "podDisruptionBudget.minAvailable": {**_AMOUNT, "type": ["integer", "string", "null"]},
    "podDisruptionBudget.unhealthyPodEvictionPolicy": {"type": "string", "enum": ["AlwaysAllow", "IfHealthyBudget"]},
    "dnsPolicy": {"type": "string", "enum": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]},
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 2},
    "*argetLabels": _WORDS,
    "*.honorLabels": {"type": "boolean"},
    "*Labels": _TEXTS,
    "*Annotations": _TEXTS,
    "*.labels": _TEXTS,
    "*.annotations": _TEXTS,
    "nodeSelector": _TEXTS,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "extraEnv": _NAMED,
    "extraVolumes": _NAMED,
    "extraVolumeMounts": {"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
    "extraContainers": _NAMED,
    "initContainers": _NAMED,
    "metrics.*.disabled": _WORDS,
    "*.loadBalancerSourceRanges": _WORDS,
    "extraArgs": _WORDS,
    **dict.fromkeys(("affinity", "dnsConfig", "lifecycle", "resources", "strategy"), _ANY),
    **dict.fromkeys(("podSecurityContext", "securityContext"), _ANY),
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
}
"""What a value may be, by its path; the first rule that fits. Lists of Kubernetes' own are lists of objects."""

_AGENT_NAMES = {"vaultAddress": "vault_addr"}


@dataclass(slots=True)
class Values:
    """`values.yaml`: its values, what each is for, and the sections with their first keys."""

    defaults: Json
    told: dict[str, str] = field(default_factory=dict)
    sections: list[tuple[str, list[str]]] = field(default_factory=list)


def read_values(text: str) -> Values:
    """The values with the comments above them, by path such as `vault.login.method`."""
    found = Values(yaml.safe_load(text))
    open_keys: list[tuple[int, str]] = []
    pending: list[str] = []
    for line in text.splitlines():
        section = re.match(r"^## (.*)$", line)
        comment = re.match(r"^ *# ?(.*)$", line)
        key = re.match(r"^( *)([A-Za-z_]+):", line)
        if section is not None:
            found.sections.append((section[1], []))
        elif comment is not None:
            pending.append(comment[1].strip())
        elif key is not None:
            depth = len(key[1])
            open_keys = [(at, name) for at, name in open_keys if at < depth] + [(depth, key[2])]
            path = ".".join(name for _, name in open_keys)
            if depth == 0:
                found.sections[-1][1].append(path)
            if pending:
                found.told[path] = " ".join(pending)
            pending = []
        else:
            pending = []
    return found


def schema(values: Values) -> Json:
    """The JSON schema of the values."""
    made = _of(values, "", values.defaults)
    made["properties"]["global"]["additionalProperties"] = True
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the secretbinding chart", **made}


def is_leaf(path: str, value: object) -> bool:
    """Whether a value is one, and not a group of others."""
    return not isinstance(value, dict) or _rule(path) is not None or path == "tenancy.policies"


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path."""
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if is_leaf(here, value):
            yield here, value
        else:
            yield from leaves(value, here)


def tables(values: Values) -> str:
    """The values as Markdown, a table for each section."""
    parts = []
    for title, keys in values.sections:
        rows = ["| value | meaning | default |", "|---|---|---|"]
        for key in keys:
            group = values.defaults[key]
            if not is_leaf(key, group) and key in values.told:
                rows.append(f"| **`{key}`** | {_cell(values.told[key])} | |")
            for path, default in leaves({key: group}):
                shown = "" if default in ("", None) else f"`{json.dumps(default, ensure_ascii=False)}`"
                rows.append(f"| `{path}` | {_cell(values.told[path])} | {_cell(shown)} |")
        parts.append("\n".join([f"### {title}", "", *rows]))
    return "\n\n".join(parts)


def with_tables(readme: str, made: str) -> str:
    """The README with these tables between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rule(path: str) -> Json | None:
    return next((rule for pattern, rule in RULES.items() if fnmatchcase(path, pattern)), None)


def _of(values: Values, path: str, value: Any) -> Json:
    told = {"description": values.told[path]} if path in values.told else {}
    rule = _rule(path)
    if rule is not None:
        return {**told, **rule}
    if path == "tenancy.policies":
        spec = policy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        return {**told, "type": "object", "propertyNames": {"pattern": _LABEL}, "additionalProperties": _closed(spec)}
    if isinstance(value, dict):
        inner = {key: _of(values, f"{path}.{key}" if path else key, each) for key, each in value.items()}
        return {**told, "type": "object", "additionalProperties": False, "properties": inner}
    group, _, name = path.rpartition(".")
    if group in ("controller", "agent"):
        return {**told, **_setting(ControllerSettings if group == "controller" else AgentSettings, name, value)}
    return {**told, **_like(value)}


def _like(value: Any) -> Json:
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string"}
        case list():
            return _OBJECTS
    raise ValueError(f"nothing says what may stand in place of {value!r}")


def _setting(model: type[ControllerSettings] | type[AgentSettings], name: str, value: Any) -> Json:
    """What the controller takes for a setting of its own, and nothing at all, which leaves it to the controller."""
    field_name = _AGENT_NAMES.get(name) or re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    made = dict(model.model_json_schema(by_alias=False)["properties"][field_name])
    kept = {key: made[key] for key in ("minimum", "maximum", "exclusiveMinimum", "pattern") if key in made}
    words = re.fullmatch(r"\^\(([A-Za-z|]+)\)\$", kept.get("pattern", ""))
    if words is not None:
        kept = {"enum": [*words[1].split("|"), *([None] if value is None else [])]}
    return {"type": [made["type"], "null"] if value is None else made["type"], **kept}


def _closed(part: Any) -> Any:
    """An OpenAPI schema of Kubernetes as plain JSON schema, which takes no fields that it does not know."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _closed(value) for key, value in part.items() if not key.startswith("x-kubernetes-")}
    if isinstance(made.get("properties"), dict) and "type" in made:
        made.setdefault("additionalProperties", False)
    return made


def files() -> dict[Path, str]:
    """Every file that is made, with its text."""
    values = read_values((CHART / "values.yaml").read_text())
    readme = CHART / "README.md"
    made = {
        CHART / "values.schema.json": json.dumps(schema(values), indent=2, ensure_ascii=False) + "\n",
        readme: with_tables(readme.read_text(), tables(values)),
    }
    return made | {
        CHART / "files" / "crds" / path.name: path.read_text() for path in sorted(CRDS.glob("nomad-vault.io_*.yaml"))
    }


def main() -> int:
    """Write them."""
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
