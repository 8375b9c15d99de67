"""The chart with different values, rendered by Helm's own engine; each rendered once."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

Json = dict[str, Any]

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "charts" / "secretbinding"
RELEASE, NAMESPACE = "rel", "tools"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

BASE: Mapping[str, Any] = {
    "vault": {"address": "https://vault.example.com:8200"},
    "nomad": {"address": "https://nomad.example.com:4646"},
}
POLICY: Mapping[str, Any] = {
    "tenants": [{"names": ["*"]}],
    "workloads": [{"namespaces": ["{{tenant}}"]}],
    "secrets": [{"kinds": ["kv"], "mounts": ["secret"], "paths": ["{{tenant}}/*"]}],
}
OWN_CERTIFICATE: Mapping[str, Any] = {
    "source": "existing",
    "existingSecret": "tls",
    "caBundle": "-----BEGIN CERTIFICATE-----",
}
MUTUAL: Mapping[str, Any] = {"existingSecret": "tls", "client": True, "serverName": "server.global.nomad"}
CIDR: Sequence[Json] = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]

MATRIX: Mapping[str, Json] = {
    "defaults": {},
    "two replicas": {"replicaCount": 2},
    "one that elects": {"election": {"enabled": True, "seconds": 15}},
    "sharded": {"replicaCount": 3, "shards": 16, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    "some have to stay": {"replicaCount": 3, "podDisruptionBudget": {"minAvailable": 2}},
    "some namespaces": {"watchNamespaces": ["payments", "shop"], "replicaCount": 2, "cleanup": {"enabled": True}},
    "some namespaces and nothing of the cluster": {
        "watchNamespaces": ["payments"],
        "tenancy": {"mode": "open"},
        "rbac": {"aggregateToView": False, "aggregateToEdit": False},
    },
    "nomad alone": {
        "sources": {"kubernetes": {"enabled": False}, "nomad": {"enabled": True}},
        "tenancy": {"nomadNamespace": "platform", "clusterPolicies": False},
        "crds": {"enabled": False},
    },
    "files": {
        "sources": {"files": [{"path": "/bindings", "tenant": "*"}, {"path": "/more"}]},
        "extraVolumes": [{"name": "b", "configMap": {"name": "b"}}],
        "extraVolumeMounts": [{"name": "b", "mountPath": "/bindings"}],
    },
    "by token": {"vault": {"login": {"method": "token", "existingSecret": "vault"}}},
    "by AppRole": {"vault": {"login": {"method": "approle", "existingSecret": "vault", "secretIdWrapped": True}}},
    "by certificate": {"vault": {"login": {"method": "cert"}, "tls": MUTUAL}},
    "by JWT": {
        "vault": {
            "login": {"method": "jwt", "mount": "k8s-jwt", "role": "r", "namespace": "root", "audience": "vault"},
            "namespace": "team",
        }
    },
    "mutual TLS to Nomad": {"nomad": {"existingSecret": "nomad", "region": "eu", "tls": MUTUAL}},
    "authorities from ConfigMaps": {
        "vault": {"tls": {"existingConfigMap": "bundle", "caKey": "trust.pem"}},
        "nomad": {"tls": {"existingConfigMap": "bundle", **MUTUAL}},
        "agent": {"ca": {"existingConfigMap": "bundle"}},
    },
    "a certificate of the client alone": {"vault": {"tls": {**MUTUAL, "caKey": ""}}},
    "Vault by Consul": {
        "vault": {"address": "consul+https://consul.example.com:8501/vault"},
        "consul": {"existingSecret": "consul", "tls": MUTUAL},
    },
    "several clusters": {
        "connections": [
            {
                "name": "eu",
                "instance": "eu",
                "vault": {"address": "https://vault.eu.example.com:8200", "login": "kubernetes"},
                "nomad": {
                    "address": "https://nomad.eu.example.com:4646",
                    "tokenFile": "/etc/secretbinding/mounted/nomad-eu/token",
                    "caCert": "/etc/secretbinding/mounted/company-ca/ca.crt",
                },
            }
        ],
        "mounts": {"secrets": ["nomad-eu"], "configMaps": ["company-ca"]},
    },
    "unverified": {name: {"tls": {"skipVerify": True}} for name in ("vault", "nomad", "consul")},
    "agents": {
        "agent": {
            "driver": "podman",
            "image": "openbao/openbao:2.4",
            "command": "bao",
            "args": ["-log-level=warn", "-x"],
            "user": "nobody",
            "cpu": 100,
            "memory": 64,
            "memoryMax": 128,
            "allow": ["image", "user"],
            "vaultAddress": "https://vault.internal:8200",
            "tlsServerName": "vault",
            "approleMount": "agents",
            "ca": {"existingSecret": "vault-ca"},
        }
    },
    "cert-manager": {"webhook": {"certificate": {"source": "certManager"}}},
    "cert-manager's issuer": {
        "webhook": {
            "certificate": {
                "source": "certManager",
                "certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}},
            }
        }
    },
    "a certificate of one's own": {"webhook": {"failurePolicy": "Fail", "certificate": OWN_CERTIFICATE}},
    "no webhook": {"webhook": {"enabled": False}},
    "everything that listens": {
        "nacp": {
            "enabled": True,
            "existingSecret": "nacp",
            "service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"], "annotations": {"a": "b"}},
        },
        "audit": {"enabled": True, "service": {"type": "NodePort", "nodePort": 30201}},
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "auditFrom": CIDR,
            "egress": [{"to": CIDR, "ports": [{"port": 8200, "protocol": "TCP"}]}],
        },
    },
    "watched": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "honorLabels": True},
            "prometheusRule": {"enabled": True, "additionalGroups": [{"name": "more", "rules": []}]},
            "dashboard": {"enabled": True, "folder": "Secrets"},
        }
    },
    "watched by pods": {
        "metrics": {"podMonitor": {"enabled": True, "relabelings": [{"action": "labeldrop", "regex": "pod"}]}}
    },
    "policies": {"tenancy": {"policies": {"own-secrets": POLICY}}},
    "policies as objects": {"tenancy": {"policies": {"own-secrets": POLICY}, "policiesAs": "Objects"}},
    "a single team": {"tenancy": {"mode": "open"}},
    "cleaned up": {"cleanup": {"enabled": True}},
    "an image by digest": {"image": {"registry": "r.example.com:5000", "digest": "sha256:" + "0" * 64}},
    "a registry of all charts": {
        "global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": ["all"]},
        "imagePullSecrets": [{"name": "own"}, "all"],
        "cleanup": {"enabled": True},
    },
    "as placed": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "runtimeClassName": "gvisor",
        "schedulerName": "other",
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["vault"]}],
        "hostNetwork": True,
        "dnsConfig": {"nameservers": ["10.0.0.53"]},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        "cleanup": {"enabled": True},
    },
    "as named": {
        "fullnameOverride": "x",
        "namespaceOverride": "elsewhere",
        "commonLabels": {"team": "ops", "app.kubernetes.io/name": "another"},
        "commonAnnotations": {"by": "us"},
        "serviceAccount": {"name": "given", "create": False},
        "podLabels": {"p": "1", "team": "pods"},
        "podAnnotations": {"q": "2"},
    },
    "on OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "extended": {
        "extraArgs": ["--policies=nomad"],
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
        "controller": {
            "workers": 4,
            "pollSeconds": 5.5,
            "maxRolls": 1000000,
            "confirmRemovals": ["nomad", "files"],
            "ungatedRolls": True,
            "leaseShare": 0.5,
            "resyncSeconds": 86400,
            "logFormat": "text",
        }
    },
    "without what is optional": {
        "metrics": {"enabled": False},
        "tests": {"enabled": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "livenessProbe": None,
        "resources": None,
    },
    "Vault asks by the controller's token": {"rbac": {"authDelegator": True}},
}


def merged(*values: Mapping[str, Any]) -> Json:
    """Values over values, as Helm lays them."""
    made: Json = {}
    for each in values:
        for key, value in each.items():
            both = isinstance(made.get(key), dict) and isinstance(value, dict)
            made[key] = merged(made[key], value) if both else value
    return made


@functools.cache
def chart(path: Path = CHART) -> Chart:
    """The chart of this directory, loaded once."""
    return Chart.load(path)


def render(values: Mapping[str, Any], of: Chart | None = None) -> dict[str, str]:
    """Texts by template."""
    return dict((of or chart()).render(merged(BASE, values), name=RELEASE, namespace=NAMESPACE))


def documents(texts: Mapping[str, str]) -> list[Json]:
    """The objects in them."""
    return [
        made
        for path, text in sorted(texts.items())
        if not path.endswith("NOTES.txt") and text.strip()
        for made in yaml.load_all(text, Loader=_LOADER)
        if made
    ]


@functools.cache
def _of_matrix(name: str) -> tuple[Json, ...]:
    return tuple(documents(render(MATRIX[name])))


def objects(values: str | Mapping[str, Any]) -> Iterator[Json]:
    """The objects of these values, or of those of this name in the matrix."""
    yield from _of_matrix(values) if isinstance(values, str) else documents(render(values))


def of_kind(values: str | Mapping[str, Any], *kinds: str) -> list[Json]:
    """Those of some kinds."""
    return [made for made in objects(values) if made["kind"] in kinds]


def pod(values: str | Mapping[str, Any]) -> Json:
    """The controller's pod."""
    (deployment,) = of_kind(values, "Deployment")
    spec: Json = deployment["spec"]["template"]["spec"]
    return spec


def container(values: str | Mapping[str, Any]) -> Json:
    """The controller's container."""
    found: Json = pod(values)["containers"][0]
    return found


def env(values: str | Mapping[str, Any]) -> dict[str, str]:
    """Its variables."""
    return {row["name"]: row["value"] for row in container(values)["env"]}
