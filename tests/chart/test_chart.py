"""The Helm chart, linted and rendered by Helm's own engine over a matrix of values."""

import base64
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from helm_python import Chart, HelmError, lint

from secretbinding import __version__
from secretbinding.cli.running import parse_sources
from secretbinding.models.crd import crd, policy_crd
from secretbinding.settings import ControllerSettings, NomadSettings, VaultSettings
from tests.support.kubernetes import Cluster

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "charts" / "secretbinding"
KUBERNETES = "1.33.1"
BASE: dict[str, Any] = {
    "vault": {"address": "https://vault.example.com:8200"},
    "nomad": {"address": "https://nomad.example.com:4646"},
}
POLICY = {
    "tenants": [{"names": ["*"]}],
    "workloads": [{"namespaces": ["{{tenant}}"]}],
    "secrets": [{"kinds": ["kv"], "mounts": ["secret"], "paths": ["{{tenant}}/*"]}],
}
Json = dict[str, Any]

MATRIX: Mapping[str, Json] = {
    "defaults": {},
    "two replicas": {"replicas": 2},
    "sharded": {"replicas": 3, "shards": 16, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    "one tenant's namespaces": {"watchNamespaces": ["payments", "shop"], "replicas": 2},
    "nomad alone": {
        "sources": {"kubernetes": {"enabled": False}, "nomad": {"enabled": True}},
        "crds": {"enabled": False},
    },
    "files": {
        "sources": {"files": [{"path": "/bindings", "tenant": "*"}, {"path": "/more"}]},
        "extraVolumes": [{"name": "b", "configMap": {"name": "b"}}],
        "extraVolumeMounts": [{"name": "b", "mountPath": "/bindings"}],
    },
    "by token": {"vault": {"login": {"method": "token", "existingSecret": "vault"}}},
    "by AppRole": {"vault": {"login": {"method": "approle", "existingSecret": "vault", "secretIdWrapped": True}}},
    "by certificate": {"vault": {"login": {"method": "cert"}, "tls": {"existingSecret": "vault-tls", "client": True}}},
    "by JWT": {"vault": {"login": {"method": "jwt", "mount": "k8s-jwt", "namespace": "root"}, "namespace": "team"}},
    "mutual TLS to Nomad": {
        "nomad": {"existingSecret": "nomad", "region": "eu", "tls": {"existingSecret": "nomad-tls", "client": True}}
    },
    "unverified": {"vault": {"tls": {"skipVerify": True}}, "nomad": {"tls": {"skipVerify": True}}},
    "cert-manager": {"webhook": {"certificate": {"source": "certManager"}}},
    "cert-manager's issuer": {
        "webhook": {
            "certificate": {
                "source": "certManager",
                "certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}},
            }
        }
    },
    "a certificate of one's own": {
        "webhook": {
            "failurePolicy": "Fail",
            "certificate": {"source": "existing", "existingSecret": "tls", "caBundle": "-----BEGIN CERTIFICATE-----"},
        }
    },
    "no webhook": {"webhook": {"enabled": False}},
    "everything that listens": {
        "nacp": {"enabled": True, "existingSecret": "nacp"},
        "audit": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "auditFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8200, "protocol": "TCP"}]}],
        },
    },
    "watched": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "honorLabels": True},
            "podMonitor": {"enabled": True, "relabelings": [{"action": "labeldrop", "regex": "pod"}]},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    },
    "policies": {"tenancy": {"policies": {"own-secrets": POLICY}}},
    "a single team": {"tenancy": {"mode": "open"}},
    "cleaned up": {"cleanup": {"enabled": True}},
    "an image by digest": {"image": {"registry": "r.example.com:5000", "digest": "sha256:" + "0" * 64}},
    "as placed": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["vault"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.53"]},
    },
    "as named": {
        "fullnameOverride": "x",
        "namespaceOverride": "elsewhere",
        "commonLabels": {"team": "ops"},
        "commonAnnotations": {"by": "us"},
        "serviceAccount": {"name": "given", "create": False},
        "imagePullSecrets": [{"name": "pull"}],
        "podLabels": {"p": "1"},
        "podAnnotations": {"q": "2"},
    },
    "extended": {
        "extraArgs": ["--policies", "kubernetes"],
        "extraEnv": [{"name": "A", "value": "{{ .Release.Name }}"}],
        "extraEnvFrom": [{"secretRef": {"name": "e"}}],
        "extraContainers": [{"name": "side", "image": "side:1"}],
        "initContainers": [{"name": "init", "image": "init:1"}],
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n",
        ],
    },
    "tuned": {
        "controller": {"workers": 4, "pollSeconds": 5.5, "maxRolls": 0, "confirmRemovals": "*", "ungatedRolls": True}
    },
    "without what is optional": {
        "metrics": {"enabled": False},
        "tests": {"enabled": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "livenessProbe": None,
        "resources": None,
    },
}


def merged(*values: Mapping[str, Any]) -> Json:
    made: Json = {}
    for each in values:
        for key, value in each.items():
            made[key] = (
                merged(made[key], value) if isinstance(made.get(key), dict) and isinstance(value, dict) else value
            )
    return made


def render(values: Mapping[str, Any]) -> dict[str, str]:
    with Chart.load(CHART) as chart:
        return dict(chart.render(merged(BASE, values), name="rel", namespace="tools"))


def objects(values: Mapping[str, Any]) -> Iterator[Json]:
    for path, text in render(values).items():
        if not path.endswith("NOTES.txt"):
            yield from (made for made in yaml.safe_load_all(text) if made)


def of_kind(values: Mapping[str, Any], kind: str) -> list[Json]:
    return [made for made in objects(values) if made["kind"] == kind]


def pod(values: Mapping[str, Any]) -> Json:
    (deployment,) = of_kind(values, "Deployment")
    spec: Json = deployment["spec"]["template"]["spec"]
    return spec


def container(values: Mapping[str, Any]) -> Json:
    found: Json = pod(values)["containers"][0]
    return found


def env(values: Mapping[str, Any]) -> dict[str, str]:
    return {row["name"]: row["value"] for row in container(values)["env"]}


@pytest.mark.parametrize("name", list(MATRIX))
def test_it_lints_without_a_word(name: str) -> None:
    told = lint(CHART, merged(BASE, MATRIX[name]))
    assert not told["errors"]
    assert [row for row in told["messages"] if row["error"] != "icon is recommended"] == []


@pytest.mark.parametrize("name", list(MATRIX))
def test_every_object_is_what_its_schema_says(name: str) -> None:
    made = list(objects(MATRIX[name]))
    assert made
    for each in made:
        if each["apiVersion"].endswith("nomad-vault.io/v1alpha1") or (
            "." in each["apiVersion"].split("/")[0] and not each["apiVersion"].split("/")[0].endswith("k8s.io")
        ):
            continue
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", list(MATRIX))
def test_no_two_objects_have_one_name_and_each_has_the_common_labels(name: str) -> None:
    seen: set[tuple[str, ...]] = set()
    for each in objects(MATRIX[name]):
        metadata = each["metadata"]
        key = (each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in seen
        seen.add(key)
        assert len(metadata["name"]) <= 63 or each["kind"] == "CustomResourceDefinition"
        if "extraObjects" not in MATRIX[name] or each["kind"] != "ConfigMap":
            assert metadata["labels"]["app.kubernetes.io/instance"] == "rel"
            assert metadata["labels"].get("team") == ("ops" if name == "as named" else None)


@pytest.mark.parametrize("name", list(MATRIX))
def test_what_is_mounted_is_there_and_what_is_bound_exists(name: str) -> None:
    spec = pod(MATRIX[name])
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounts = [mount for one in spec["containers"] for mount in one.get("volumeMounts", [])]
    assert {mount["name"] for mount in mounts} <= volumes
    places = [mount["mountPath"] for mount in mounts]
    for value in env(MATRIX[name]).values():
        if value.startswith(("/etc/secretbinding/", "/var/run/secrets/")):
            assert any(value.startswith(f"{place}/") for place in places), value
    roles = {
        (each["kind"], each["metadata"]["name"]) for each in objects(MATRIX[name]) if each["kind"].endswith("Role")
    }
    for each in objects(MATRIX[name]):
        if each["kind"].endswith("RoleBinding"):
            assert (each["roleRef"]["kind"], each["roleRef"]["name"]) in roles


@pytest.mark.parametrize("name", list(MATRIX))
def test_the_controller_takes_its_settings_and_flags(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in env(MATRIX[name]).items():
        monkeypatch.setenv(variable, value)
    known = {field.upper() for field in ControllerSettings.model_fields}
    aliases = {
        str(alias)
        for model in (VaultSettings, NomadSettings)
        for field in model.model_fields.values()
        for alias in getattr(field.validation_alias, "choices", ())
    }
    for variable in env(MATRIX[name]):
        own = variable.removeprefix("SECRETBINDING_") in known
        assert own or variable in aliases or variable == "A", f"{variable} is no setting"
    ControllerSettings()
    VaultSettings()
    NomadSettings()
    args = container(MATRIX[name])["args"]
    assert args[0] == "run"
    assert parse_sources([args[place + 1] for place, flag in enumerate(args) if flag == "--source"])


def test_what_is_hardened_is_so_in_every_pod_of_ours() -> None:
    everything = merged(MATRIX["cleaned up"], {"replicas": 2})
    specs = [pod(everything)]
    specs += [job["spec"]["template"]["spec"] for job in of_kind(everything, "Job")]
    specs += [each["spec"] for each in of_kind(everything, "Pod")]
    assert len(specs) == 3
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in spec["containers"]:
            context = each["securityContext"]
            assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_several_replicas_elect_and_one_does_not() -> None:
    assert "SECRETBINDING_ELECTION" not in env({})
    assert of_kind({}, "Deployment")[0]["spec"]["strategy"] == {"type": "Recreate"}
    several = env({"replicas": 2})
    assert (several["SECRETBINDING_ELECTION"], several["SECRETBINDING_ELECTION_NAMESPACE"]) == ("kubernetes", "tools")
    assert of_kind({"replicas": 2}, "Deployment")[0]["spec"]["strategy"]["type"] == "RollingUpdate"


def test_rights_are_no_more_than_needed() -> None:
    def rules(values: Mapping[str, Any]) -> set[tuple[str, str, str]]:
        return {
            (each["kind"], resource, verb)
            for each in objects(values)
            if each["kind"] in ("Role", "ClusterRole") and "aggregate" not in str(each["metadata"]["labels"])
            for rule in each["rules"]
            for resource, verb in itertools.product(rule["resources"], rule["verbs"])
        }

    everywhere = rules({})
    assert not {row for row in everywhere if row[1] == "secrets"}
    assert not {verb for _, _, verb in everywhere} & {"*", "deletecollection", "impersonate", "escalate", "bind"}
    narrow = rules({"watchNamespaces": ["payments"]})
    assert {row for row in narrow if row[0] == "ClusterRole"} == {
        ("ClusterRole", resource, verb)
        for resource, verbs in {
            "secretbindingpolicies": ("get", "list", "watch"),
            "namespaces": ("get", "list"),
        }.items()
        for verb in verbs
    }
    assert ("Role", "secretbindings/status", "patch") in narrow


def test_the_definitions_are_those_of_the_model_and_stay_when_the_release_goes() -> None:
    for plural in ("secretbindings", "secretbindingpolicies"):
        stored = (PROJECT / "crds" / f"nomad-vault.io_{plural}.yaml").read_text()
        assert (CHART / "files" / "crds" / f"nomad-vault.io_{plural}.yaml").read_text() == stored
    made = {each["metadata"]["name"]: each for each in of_kind({}, "CustomResourceDefinition")}
    assert set(made) == {"secretbindings.nomad-vault.io", "secretbindingpolicies.nomad-vault.io"}
    for name, each in made.items():
        model = crd() if name.startswith("secretbindings.") else policy_crd()
        assert each["spec"] == model["spec"]
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    gone = of_kind({"crds": {"keep": False}}, "CustomResourceDefinition")
    assert all("helm.sh/resource-policy" not in each["metadata"].get("annotations", {}) for each in gone)


def test_the_webhooks_certificate_is_good_for_the_service() -> None:
    (secret,) = of_kind({}, "Secret")
    data = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    certificate, authority = (x509.load_pem_x509_certificate(data[name]) for name in ("tls.crt", "ca.crt"))
    key: Any = authority.public_key()
    algorithm = certificate.signature_hash_algorithm
    assert algorithm is not None
    key.verify(certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "rel-secretbinding.tools.svc" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"vault": {"address": ""}}, "vault.address is needed"),
        ({"nomad": {"address": ""}}, "nomad.address is needed"),
        ({"vault": {"login": {"method": "token"}}}, "vault.login.existingSecret is needed"),
        ({"vault": {"login": {"method": "cert"}}}, "vault.tls.existingSecret and vault.tls.client are needed"),
        ({"sources": {"kubernetes": {"enabled": False}}}, "no source of bindings is enabled"),
        ({"nacp": {"enabled": True}}, "nacp.existingSecret is needed"),
        ({"webhook": {"certificate": {"source": "existing"}}}, "webhook.certificate.existingSecret is needed"),
        ({"audit": {"enabled": True}, "networkPolicy": {"enabled": True}}, "networkPolicy.auditFrom is needed"),
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "replicas"),
        ({"tenancy": {"mode": "closed"}}, "tenancy/mode"),
        ({"instance": "Upper"}, "instance"),
        ({"shards": 65}, "shards"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: Json, says: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(values)
    assert says in str(refused.value).replace(".", "/") or says in str(refused.value)


def test_every_value_is_explained() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    text = (CHART / "README.md").read_text()
    for key in values:
        assert f"`{key}`" in text or f"`{key}." in text, key


def test_the_notes_say_what_comes_next() -> None:
    notes = render({})["secretbinding/templates/NOTES.txt"]
    assert "NOTHING IS ALLOWED YET" in notes
    assert 'paths: ["{{tenant}}/*"]' in notes
    assert "EVERYTHING IS ALLOWED" in render({"tenancy": {"mode": "open"}})["secretbinding/templates/NOTES.txt"]
    for line in re.findall(r"^  ((?:kubectl|helm) .*)$", notes, re.MULTILINE):
        assert shlex.split(line, comments=True)


def test_the_charts_version_is_the_programs() -> None:
    with Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == __version__


APPLIED: Sequence[str] = ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.mark.real_kubernetes
@pytest.mark.parametrize("name", ["one tenant's namespaces", "a certificate of one's own", "policies"])
def test_a_real_api_server_takes_what_it_knows(real_kubernetes: Cluster, name: str) -> None:
    values = merged(MATRIX[name], {"crds": {"annotations": {"chart": "test"}}})
    for namespace in ("tools", "payments", "shop"):
        real_kubernetes.kubectl("create", "namespace", namespace)
    kinds = (*APPLIED, "ValidatingWebhookConfiguration", "ServiceAccount", "SecretBindingPolicy")
    wanted = [each for each in objects(values) if each["kind"] in kinds]
    assert wanted
    # A policy asks for its definition, and no webhook answers here.
    last = sorted(wanted, key=lambda each: each["kind"] in ("SecretBindingPolicy", "ValidatingWebhookConfiguration"))
    for each in last:
        ran = real_kubernetes.kubectl(
            "apply", "--validate=strict", "--dry-run=server", "-f", "-", stdin=json.dumps(each)
        )
        assert ran.returncode == 0, ran.stderr
