"""What may stand in values: each value is explained, has an effect, and is refused by name where it cannot work."""

import importlib.util
import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from helm_python import Chart, HelmError, parse_set_string

from tests.chart.rendering import (
    BASE,
    CHART,
    CIDR,
    MUTUAL,
    OWN_CERTIFICATE,
    POLICY,
    PROJECT,
    Json,
    chart,
    documents,
    merged,
    render,
)

ALERTS: Json = {
    "groups": [
        {
            "name": "first",
            "rules": [
                {"alert": "One", "expr": "up == 0", "annotations": {"summary": "{{ $labels.binding }} is away"}},
                {"alert": "Two", "expr": "up == 0", "labels": {"severity": "page"}},
                {"record": "three", "expr": "up"},
            ],
        },
        {"name": "second", "rules": [{"alert": "Four", "expr": "up == 0"}]},
    ]
}
DASHBOARD = '{"title": "Secrets", "legend": "{{binding}}"}\n'


CONNECTION: Json = {
    "name": "eu",
    "vault": {"address": "https://vault.eu.example.com:8200"},
    "nomad": {"address": "https://nomad.eu.example.com:4646"},
}


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "charts" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


generate: Any = _generator()
VALUES: Any = generate.read_values((CHART / "values.yaml").read_text())
SCHEMA: Json = generate.schema(VALUES)
LEAVES: Mapping[str, Any] = dict(generate.leaves(VALUES.defaults))


def test_what_is_made_from_values_and_definitions_is_made_anew_with_every_change() -> None:
    for path, text in generate.files().items():
        assert path.read_text() == text, f"{path.name} is out of date: run `make chart`"


def test_every_value_is_explained() -> None:
    assert [path for path in LEAVES if path not in VALUES.told] == []
    text = (CHART / "README.md").read_text()
    for path in LEAVES:
        assert f"| `{path}` |" in text
    assert [key for _, keys in VALUES.sections for key in keys] == list(VALUES.defaults)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"vault": {"address": ""}}, "vault.address is needed"),
        ({"nomad": {"address": ""}}, "nomad.address is needed"),
        ({"vault": {"address": "vault:8200"}}, "/vault/address"),
        ({"vault": {"login": {"method": "token"}}}, "vault.login.existingSecret is needed"),
        ({"vault": {"login": {"method": "password"}}}, "/vault/login/method"),
        ({"vault": {"login": {"method": "cert"}}}, "vault.tls.existingSecret and vault.tls.client are needed"),
        ({"vault": {"login": {"existingSecret": "Not A Name"}}}, "/vault/login/existingSecret"),
        ({"nomad": {"tls": {"client": True}}}, "nomad.tls.existingSecret is needed for nomad.tls.client"),
        ({"sources": {"kubernetes": {"enabled": False}}}, "no source of bindings is enabled"),
        ({"sources": {"files": [{"path": "bindings"}]}}, "/sources/files/0/path"),
        ({"nacp": {"enabled": True}}, "nacp.existingSecret is needed"),
        ({"webhook": {"certificate": {"source": "existing"}}}, "webhook.certificate.existingSecret is needed"),
        (
            {"webhook": {"certificate": {"source": "existing", "existingSecret": "tls"}}},
            "webhook.certificate.caBundle is needed",
        ),
        ({"audit": {"enabled": True}, "networkPolicy": {"enabled": True}}, "networkPolicy.auditFrom is needed"),
        ({"replicas": 2}, "'replicas' not allowed"),
        ({"replicaCount": "two"}, "/replicaCount"),
        ({"replicaCount": 2, "election": {"enabled": False}}, "election.enabled=false goes with replicaCount=1"),
        ({"tenancy": {"mode": "closed"}}, "/tenancy/mode"),
        ({"tenancy": {"clusterPolicies": False}}, "nobody says what is allowed"),
        (
            {"tenancy": {"clusterPolicies": False, "policies": {"a": POLICY}, "policiesAs": "Objects"}},
            "tenancy.nomadNamespace",
        ),
        ({"tenancy": {"policies": {"own": {"tenant": []}}}}, "/tenancy/policies/own"),
        ({"tenancy": {"policies": {"own": merged(POLICY, {"secrets": [{"kinds": ["vk"]}]})}}}, "secrets/0/kinds/0"),
        ({"tenancy": {"policies": {"Own": POLICY}}}, "Own"),
        ({"instance": "Upper"}, "/instance"),
        ({"shards": 65}, "/shards"),
        ({"controller": {"workers": 0}}, "/controller/workers"),
        ({"controller": {"logLevel": "debug"}}, "/controller/logLevel"),
        ({"controller": {"leaseShare": 2}}, "/controller/leaseShare"),
        ({"agent": {"allow": ["everything"]}}, "/agent/allow/0"),
        ({"watchNamespaces": ["payments", "payments"]}, "/watchNamespaces"),
        ({"commonLabels": {"team": 1}}, "/commonLabels/team"),
        ({"extraEnv": {"A": "b"}}, "/extraEnv"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"connections": [{"name": "eu", "vault": {"address": "https://v"}}]}, "/connections/0"),
        ({"connections": [{"name": "default", "vault": {}, "nomad": {}}]}, "/connections/0/name"),
        ({"connections": [CONNECTION, CONNECTION]}, "connections: eu is there twice"),
        ({"connections": [merged(CONNECTION, {"vault": {"token": "in-the-clear"}})]}, "/connections/0/vault"),
        ({"connections": [merged(CONNECTION, {"vault": {"loginSecretId": "in-the-clear"}})]}, "/connections/0/vault"),
        ({"connections": [merged(CONNECTION, {"nomad": {"token": "in-the-clear"}})]}, "/connections/0/nomad"),
        ({"connections": [merged(CONNECTION, {"consul": {"token": "in-the-clear"}})]}, "/connections/0/consul"),
        ({"controller": {"stopSeconds": 60}}, "controller.stopSeconds has to be less than"),
        ({"image": {"registry": "registry.example.com/"}}, "/image/registry"),
        ({"global": {"imageRegistry": "registry.example.com/"}}, "/global/imageRegistry"),
        ({"fullnameOverride": "Not_A_Name"}, "/fullnameOverride"),
        ({"fullnameOverride": "123"}, "/fullnameOverride"),
        ({"namespaceOverride": "a.b"}, "/namespaceOverride"),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, "/livenessProbe"),
        ({"readinessProbe": {"tcpSocket": {"port": 1}}}, "/readinessProbe"),
        ({"webhook": {"port": 9464}}, "metrics.port and webhook.port are both 9464"),
        (
            {"nacp": {"enabled": True, "existingSecret": "n", "port": 9201}, "audit": {"enabled": True}},
            "audit.port and nacp.port are both 9201",
        ),
        ({"mounts": {"secrets": ["a"], "configMaps": ["a"]}}, "mounts: a is a Secret and a ConfigMap"),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true",
        ),
        (
            {"webhook": {"failurePolicy": "Fail"}, "tenancy": {"policiesAs": "Objects", "policies": {"own": POLICY}}},
            "webhook.failurePolicy=Fail and tenancy.policiesAs=Objects cannot be installed at once",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: Json, says: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(values)
    assert says in str(refused.value)
    assert "in-the-clear" not in str(refused.value)


def test_a_port_that_nobody_listens_at_is_in_nobodys_way() -> None:
    assert documents(render({"webhook": {"enabled": False, "port": 9464}, "audit": {"port": 9464}}))


PAGES = (CHART / "README.md", PROJECT / "deploy" / "kubernetes.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_values_and_commands_on_the_pages_are_ones_that_the_chart_takes(page: Path) -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    values = [block for block in blocks if "kind" not in block]
    assert values
    for block in values:
        assert documents(render(block))
    commands = re.sub(r"\\\n\s*", " ", "\n".join(re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)))
    sets = [shlex.split(line) for line in re.findall(r"^\$ (helm (?:install|upgrade) .*)$", commands, re.MULTILINE)]
    assert sets
    for words in sets:
        assert words[3] == "charts/secretbinding"
        given = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
        assert documents(render(merged(*(parse_set_string(each) for each in given))))


def test_argo_cd_leaves_alone_just_what_is_made_anew_at_each_rendering() -> None:
    file = PROJECT / "deploy" / "gitops" / "argocd" / "controller.yaml"
    application = yaml.safe_load(file.read_text())["spec"]
    release = application["sources"][0]["helm"]["releaseName"]
    namespace = application["destination"]["namespace"]
    first, second = (
        {
            (each["kind"], each["metadata"]["name"]): each
            for each in documents(dict(chart().render(dict(BASE), name=release, namespace=namespace)))
        }
        for _ in range(2)
    )
    assert {(left["kind"], left["name"]) for left in application["ignoreDifferences"]} == {
        key for key, each in first.items() if each != second[key]
    }


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chart]:
    """The chart with rules and a dashboard of the test's own."""
    place = tmp_path_factory.mktemp("chart") / "secretbinding"
    shutil.copytree(CHART, place)
    dashboards = place / "files" / "dashboards"
    shutil.rmtree(dashboards, ignore_errors=True)
    dashboards.mkdir()
    (place / "files" / "alerts.yaml").write_text(yaml.safe_dump(ALERTS))
    (dashboards / "secrets.json").write_text(DASHBOARD)
    with Chart.load(place) as loaded:
        yield loaded


def watched(full: Chart, **metrics: Any) -> list[Json]:
    return documents(render({"metrics": metrics}, full))


def test_rules_from_the_file_become_a_prometheus_rule_as_they_are(full: Chart) -> None:
    more = {"name": "more", "rules": [{"record": "r", "expr": "1"}]}
    made = watched(full, prometheusRule={"enabled": True, "labels": {"release": "p"}, "additionalGroups": [more]})
    (rule,) = [each for each in made if each["kind"] == "PrometheusRule"]
    assert rule["spec"] == {"groups": [*ALERTS["groups"], more]}
    assert rule["metadata"]["labels"]["release"] == "p"


def test_alerts_can_be_left_out_and_labelled(full: Chart) -> None:
    options = {"enabled": True, "disabled": ["Two", "Four"], "alertLabels": {"team": "ops", "severity": "low"}}
    (rule,) = [each for each in watched(full, prometheusRule=options) if each["kind"] == "PrometheusRule"]
    (group,) = rule["spec"]["groups"]
    assert [one.get("alert") for one in group["rules"]] == ["One", None]
    assert [one.get("labels") for one in group["rules"]] == [{"team": "ops", "severity": "low"}, None]


def test_each_dashboard_becomes_a_config_map_as_it_is(full: Chart) -> None:
    options = {"enabled": True, "folder": "Nomad", "namespace": "grafana"}
    (found,) = [each for each in watched(full, dashboard=options) if "dashboard" in each["metadata"]["name"]]
    assert found["data"] == {"secrets.json": DASHBOARD.strip()}
    assert found["metadata"]["namespace"] == "grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Nomad"}


def test_the_charts_own_rules_and_dashboards_are_all_in_it() -> None:
    options = {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}
    made = documents(render({"metrics": options}))
    file = CHART / "files" / "alerts.yaml"
    rules = [each["spec"] for each in made if each["kind"] == "PrometheusRule"]
    assert rules == ([yaml.safe_load(file.read_text())] if file.is_file() else [])
    shown = {
        name: text for each in made if "-dashboard-" in each["metadata"]["name"] for name, text in each["data"].items()
    }
    files = {path.name: json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in shown.items()} == files


# Everything that can be on together.
ALL: Json = {
    "replicaCount": 2,
    "sources": {"nomad": {"enabled": True}},
    "tenancy": {"policies": {"own": POLICY}, "nomadNamespace": "platform"},
    "vault": {"tls": MUTUAL},
    "nomad": {"existingSecret": "nomad", "tls": MUTUAL},
    "consul": {"existingSecret": "consul", "tls": MUTUAL},
    "agent": {"ca": {"existingSecret": "agent"}},
    "webhook": {"certificate": OWN_CERTIFICATE},
    "nacp": {"enabled": True, "existingSecret": "nacp"},
    "audit": {"enabled": True},
    "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
    "networkPolicy": {"enabled": True, "auditFrom": CIDR},
    "cleanup": {"enabled": True},
    "crds": {"enabled": False},
}
# What else has to be so for a value to have an effect.
NEEDS: Mapping[str, Json] = {
    "metrics.podMonitor": {"metrics": {"serviceMonitor": {"enabled": False}, "podMonitor": {"enabled": True}}},
    "crds.": {"crds": {"enabled": True}},
    "vault.login.tokenKey": {"vault": {"login": {"method": "token", "existingSecret": "v"}}},
    "vault.login.existingSecret": {"vault": {"login": {"method": "approle", "existingSecret": "v"}}},
    "vault.login.roleIdKey": {"vault": {"login": {"method": "approle", "existingSecret": "v"}}},
    "vault.login.secretId": {"vault": {"login": {"method": "approle", "existingSecret": "v"}}},
    "webhook.certificate.certManager.": {"webhook": {"certificate": {"source": "certManager"}}},
    "webhook.certificate.days": {"webhook": {"certificate": {"source": "chart"}}},
    "metrics.dashboard.folderAnnotation": {"metrics": {"dashboard": {"folder": "f"}}},
    "serviceAccount.create": {"serviceAccount": {"name": "given"}},
}
# In place of what follows from the schema: by the value's own rules, or to keep what the others need.
OTHERS: Mapping[str, Any] = {
    "connections": [{"name": "eu", "vault": {"address": "https://v"}, "nomad": {"address": "https://n"}}],
    "sources.files": [{"path": "/bindings"}],
    "sources.kubernetes.enabled": False,
    "watchNamespaces": ["payments"],
    "tenancy.mode": "open",
    "tenancy.policies": {"another": POLICY},
    "vault.address": "https://another.example.com",
    "nomad.address": "https://another.example.com",
    "election.enabled": True,
    "webhook.certificate.source": "certManager",
    "webhook.certificate.certManager.issuerRef": {"name": "ca"},
    "metrics.prometheusRule.disabled": ["One"],
    "extraObjects": ["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n"],
    "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "global.imagePullSecrets": ["x"],
    "imagePullSecrets": ["x"],
    "podDisruptionBudget.minAvailable": 1,
    "image.digest": "sha256:" + "0" * 64,
    "agent.ca.existingSecret": "another",
}
# Election is on with two pods already.
ALONE: Mapping[str, Json] = {"election.enabled": {"replicaCount": 1}}


def other(path: str, default: Any, schema: Mapping[str, Any]) -> Any:
    """Another value than the default that the schema takes."""
    if path in OTHERS:
        return OTHERS[path]
    if "enum" in schema:
        return next(word for word in schema["enum"] if word not in ("", default))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    match kinds[0]:
        case "boolean":
            return not default
        case "integer" | "number":
            small = schema.get("minimum", 0.5 if "exclusiveMinimum" in schema else 0)
            return small + 1 if default == small else small
        case "string":
            return "45s" if "ms" in schema.get("pattern", "") else "another"
        case "array":
            item = schema["items"]
            return [other(path + "[]", None, item)]
        case _:
            return {"name": "x", "another": "x"} if path.endswith("[]") else {"another": "x"}


def nested(path: str, value: Any) -> Json:
    made: Any = value
    for key in reversed(path.split(".")):
        made = {key: made}
    return dict(made)


def schema_of(path: str) -> Json:
    found = SCHEMA
    for key in path.split("."):
        found = found["properties"][key]
    return found


@pytest.fixture(scope="module")
def made_of(full: Chart) -> Any:
    """What the chart makes of values, each rendered once."""
    known: dict[str, Json] = {}

    def made(values: Json) -> Json:
        key = json.dumps(values, sort_keys=True)
        if key not in known:
            texts = render(merged(ALL, values), full)
            known[key] = {path: text for path, text in texts.items() if text.strip()}
        return known[key]

    return made


@pytest.mark.parametrize("path", [path for path in LEAVES if not path.endswith("certificate.days")])
def test_every_value_has_an_effect(path: str, made_of: Any) -> None:
    needs = next((values for start, values in NEEDS.items() if path.startswith(start)), ALONE.get(path, {}))
    given = merged(ALL, needs)
    value: Any = given
    for key in path.split("."):
        value = value.get(key, LEAVES[path]) if isinstance(value, dict) else LEAVES[path]
    changed = merged(needs, nested(path, other(path, value, schema_of(path))))
    assert made_of(changed) != made_of(needs)
