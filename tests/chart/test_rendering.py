"""What the chart makes of values: objects that their schemas take, and whose parts fit together."""

import base64
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kubernetes_validate.utils
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from helm_python import lint

from secretbinding.models.crd import crd, policy_crd
from secretbinding.models.policy_loading import parse_policies
from tests.chart.rendering import (
    BASE,
    CHART,
    MATRIX,
    NAMESPACE,
    POLICY,
    RELEASE,
    Json,
    container,
    env,
    merged,
    objects,
    of_kind,
    pod,
)

KUBERNETES = "1.33.1"
OF_OTHERS = ("monitoring.coreos.com", "cert-manager.io", "nomad-vault.io", "apiextensions.k8s.io")
_schemas = functools.cache(kubernetes_validate.utils.schema_contents)
_RIGHT: set[str] = set()
NAMES = {
    "name",
    "namespace",
    "serviceAccountName",
    "priorityClassName",
    "secretName",
    "matchNames",
    "resourceNames",
    "jobLabel",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
}
LONG_NAMED = ("CustomResourceDefinition", "ValidatingWebhookConfiguration")


def group(each: Mapping[str, Any]) -> str:
    return str(each["apiVersion"]).rpartition("/")[0]


@pytest.mark.parametrize("name", list(MATRIX))
def test_it_lints_without_a_word(name: str) -> None:
    told = lint(CHART, merged(BASE, MATRIX[name]))
    assert not told["errors"]
    assert [row for row in told["messages"] if "icon is recommended" not in row["error"]] == []


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Json], None]:
    """Checks an object by its schema; each file of schemas is read once, and what was right once is right again."""
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _schemas)

    def checked(each: Json) -> None:
        text = json.dumps(each, sort_keys=True)
        if text not in _RIGHT:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            _RIGHT.add(text)

    return checked


@pytest.mark.parametrize("name", list(MATRIX))
def test_every_object_is_what_its_schema_says(name: str, validate: Callable[[Json], None]) -> None:
    made = [each for each in objects(name) if group(each) not in OF_OTHERS]
    assert made
    for each in made:
        validate(each)


def test_the_schemas_refuse_what_is_wrong(validate: Callable[[Json], None]) -> None:
    (service,) = [each for each in of_kind("defaults", "Service") if each["metadata"]["name"].endswith("webhook")]
    with pytest.raises(kubernetes_validate.ValidationError):
        validate({**service, "spec": {**service["spec"], "port": 443}})


@pytest.mark.parametrize("name", list(MATRIX))
def test_no_two_objects_have_one_name_and_each_says_whose_it_is(name: str) -> None:
    seen: set[tuple[str, ...]] = set()
    for each in objects(name):
        metadata = each["metadata"]
        key = (each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in seen
        seen.add(key)
        assert len(metadata["name"]) <= 63 or each["kind"] in LONG_NAMED
        if name != "extended" or each["kind"] != "ConfigMap":
            assert metadata["labels"]["app.kubernetes.io/instance"] == RELEASE
            assert metadata["labels"]["app.kubernetes.io/name"] == "secretbinding"
            assert metadata["labels"].get("team") == ("ops" if name == "as named" else None)
            assert metadata.get("annotations", {}).get("by") == ("us" if name == "as named" else None)


@pytest.mark.parametrize("name", list(MATRIX))
def test_what_is_mounted_is_there_and_what_is_bound_exists(name: str) -> None:
    spec = pod(name)
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounts = [mount for one in spec["containers"] for mount in one.get("volumeMounts", [])]
    assert {mount["name"] for mount in mounts} == volumes
    places = [mount["mountPath"] for mount in mounts]
    assert len(set(places)) == len(places)
    words = itertools.chain(env(name).values(), (arg.rpartition("=")[2] for arg in container(name)["args"]))
    for value in words:
        if value.startswith(("/etc/secretbinding/", "/var/run/secrets/")):
            assert any(value == place or value.startswith(f"{place}/") for place in places), value
    own = {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
    assert {f"{RELEASE}-secretbinding-policies"} & own <= {
        each["metadata"]["name"] for each in of_kind(name, "ConfigMap")
    }
    roles = {(each["kind"], each["metadata"]["name"]) for each in of_kind(name, "Role", "ClusterRole")}
    for each in of_kind(name, "RoleBinding", "ClusterRoleBinding"):
        role = (each["roleRef"]["kind"], each["roleRef"]["name"])
        assert role in roles or role == ("ClusterRole", "system:auth-delegator")


@pytest.mark.parametrize("name", list(MATRIX))
def test_selectors_find_the_controllers_pods_and_no_other_pod_of_the_release(name: str) -> None:
    (deployment,) = of_kind(name, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    others = [each["metadata"]["labels"] for each in of_kind(name, "Pod")]
    others += [each["spec"]["template"]["metadata"]["labels"] for each in of_kind(name, "Job")]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in of_kind(name, "Service")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(name, "NetworkPolicy")]
    selectors += [
        each["spec"]["selector"]["matchLabels"] for each in of_kind(name, "PodDisruptionBudget", "PodMonitor")
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= other.items() for other in others)
    ports = {port["name"] for port in container(name)["ports"]}
    for service in of_kind(name, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_what_is_hardened_is_so_in_every_pod_of_ours() -> None:
    everything = merged(MATRIX["cleaned up"], {"replicaCount": 2})
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
            assert each["resources"]["limits"]["memory"]


def test_every_pod_of_ours_runs_where_it_may_with_the_image_that_is_given() -> None:
    for name in ("as placed", "a registry of all charts"):
        specs = [each["spec"] for each in of_kind(name, "Pod")]
        specs += [each["spec"]["template"]["spec"] for each in of_kind(name, "Job", "Deployment")]
        assert len(specs) == 3
        for spec in specs:
            if name == "as placed":
                assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"a": "b"}, "system-cluster-critical")
            else:
                assert spec["containers"][0]["image"].startswith("mirror.example.com/secretbinding/secretbinding:")
                assert spec["imagePullSecrets"] == [{"name": "all"}, {"name": "own"}]
    image = container("an image by digest")["image"]
    assert image == "r.example.com:5000/secretbinding/secretbinding@sha256:" + "0" * 64


def test_a_single_entry_of_a_security_context_goes_with_null() -> None:
    assert "runAsUser" not in pod("on OpenShift")["securityContext"]
    assert pod("on OpenShift")["securityContext"]["runAsNonRoot"] is True


def test_pods_that_elect_are_replaced_one_by_one_and_others_end_first() -> None:
    for name, elects in {"defaults": False, "two replicas": True, "one that elects": True, "sharded": True}.items():
        (deployment,) = of_kind(name, "Deployment")
        assert deployment["spec"]["strategy"]["type"] == ("RollingUpdate" if elects else "Recreate")
        assert env(name).get("SECRETBINDING_ELECTION") == ("kubernetes" if elects else None)
        assert env(name).get("SECRETBINDING_ELECTION_NAMESPACE") == (NAMESPACE if elects else None)
    assert env("sharded")["SECRETBINDING_SHARDS"] == "16"


def rules(name: str, *kinds: str) -> set[tuple[str, str, str]]:
    """Rights that are not for people: kind of role, resource, verb."""
    return {
        (each["kind"], resource, verb)
        for each in of_kind(name, *(kinds or ("Role", "ClusterRole")))
        if "aggregate" not in str(each["metadata"]["labels"])
        for rule in each["rules"]
        for resource, verb in itertools.product(rule["resources"], rule["verbs"])
    }


@pytest.mark.parametrize("word", ["no", "on", "null", "123", "1e3", "0x1f"])
def test_a_name_that_yaml_takes_for_something_else_is_a_name(word: str) -> None:
    """Norway's namespace is `no`; Kubernetes takes each of these for a name."""
    names = {"namespaceOverride": word, "nameOverride": word, "priorityClassName": word}
    if word.isalpha():  # A Service's name begins with a letter.
        names["fullnameOverride"] = word
    more = {"cleanup": {"enabled": True}, "replicaCount": 2, "rbac": {"authDelegator": True}}
    monitored = {"metrics": {"serviceMonitor": {"enabled": True, "jobLabel": word}}}
    certificate = {"webhook": {"certificate": {"source": "certManager"}}}
    values = {**names, **more, **monitored, **certificate}

    def strings(value: object, key: str = "") -> Iterator[tuple[str, object]]:
        for name, each in value.items() if isinstance(value, dict) else ():
            yield from strings(each, name)
        for each in value if isinstance(value, list) else ():
            yield from strings(each, key)
        if key in NAMES and not isinstance(value, dict | list):
            yield key, value

    found = [each for made in objects(values) for each in strings(made)]
    assert {key for key, _ in found} == NAMES
    assert [each for each in found if not isinstance(each[1], str)] == []


def test_a_spread_with_a_selector_of_its_own_has_that_one_alone() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    mine = {**spread, "labelSelector": {"matchLabels": {"app": "all"}}}
    own, other = pod({"topologySpreadConstraints": [mine, spread]})["topologySpreadConstraints"]
    assert own == mine
    assert other["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "controller"


@pytest.mark.parametrize(("poll", "limit"), [(None, 600), (30, 600), (150, 600), (1800, 7200), (200.5, 802)])
def test_a_watch_that_looks_less_often_may_be_silent_for_longer(poll: float | None, limit: int) -> None:
    values = {"controller": {"pollSeconds": poll}, "metrics": {"prometheusRule": {"enabled": True}}}
    (made,) = of_kind(values, "PrometheusRule")
    rules = [rule for group in made["spec"]["groups"] for rule in group["rules"]]
    (stale,) = [rule["expr"] for rule in rules if rule.get("alert") == "SecretBindingWatchStale"]
    assert stale.endswith(f"> {limit}")


def test_a_further_vault_is_logged_in_to_with_a_token_that_is_there() -> None:
    server = {"vault": {"address": "https://v", "login": "kubernetes"}, "nomad": {"address": "https://n"}}
    own = merged(server, {"vault": {"loginJwtFile": "/etc/secretbinding/mounted/eu/token"}})
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    for connection, there in ((server, True), (own, False)):
        values = merged(MATRIX["nomad alone"], {"connections": [{"name": "eu", **connection}]})
        assert (place in {mount["mountPath"] for mount in container(values)["volumeMounts"]}) == there


def test_rights_are_no_more_than_needed() -> None:
    for name in MATRIX:
        assert not {
            row for row in rules(name) if row[1] == "secrets" or row[2] in ("*", "escalate", "bind", "deletecollection")
        }
    assert rules("some namespaces", "ClusterRole") == {
        ("ClusterRole", "secretbindingpolicies", "list"),
        ("ClusterRole", "secretbindingpolicies", "watch"),
        ("ClusterRole", "namespaces", "list"),
    }
    assert ("Role", "secretbindings/status", "patch") in rules("some namespaces")
    assert of_kind("some namespaces and nothing of the cluster", "ClusterRole", "ClusterRoleBinding") == []
    assert rules("nomad alone") == set()
    leases = {row for row in rules("two replicas", "Role") if row[1] == "leases"}
    assert {verb for _, _, verb in leases} == {"get", "list", "create", "update", "delete"}
    assert not {row for row in rules("defaults") if row[1] == "leases"}


def test_the_definitions_are_those_of_the_model_and_stay_when_the_release_goes() -> None:
    made = {each["metadata"]["name"]: each for each in of_kind("defaults", "CustomResourceDefinition")}
    assert set(made) == {"secretbindings.nomad-vault.io", "secretbindingpolicies.nomad-vault.io"}
    for name, each in made.items():
        model = crd() if name.startswith("secretbindings.") else policy_crd()
        assert each["spec"] == model["spec"]
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    gone = of_kind({"crds": {"keep": False}}, "CustomResourceDefinition")
    assert len(gone) == 2
    assert all("helm.sh/resource-policy" not in each["metadata"].get("annotations", {}) for each in gone)


def test_policies_from_values_are_mounted_for_the_controller_or_objects() -> None:
    (mounted,) = of_kind("policies", "ConfigMap")
    ((file, text),) = mounted["data"].items()
    (policy,) = parse_policies(text, file=file)
    assert (file, policy.metadata.name) == ("own-secrets.yaml", "own-secrets")
    assert container("policies")["args"][2:4] == [
        "--policies=kubernetes",
        "--policies=files=/etc/secretbinding/policies",
    ]
    (one,) = of_kind("policies as objects", "SecretBindingPolicy")
    assert (one["metadata"]["name"], one["spec"]["tenants"]) == ("own-secrets", [{"names": ["*"]}])
    assert of_kind("policies as objects", "ConfigMap") == []


def test_the_webhooks_certificate_is_good_for_its_service_and_signed_by_what_the_configuration_trusts() -> None:
    made = list(objects({}))
    (secret,) = [each for each in made if each["kind"] == "Secret"]
    data = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    certificate, authority = (x509.load_pem_x509_certificate(data[name]) for name in ("tls.crt", "ca.crt"))
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (configuration,) = [each for each in made if each["kind"] == "ValidatingWebhookConfiguration"]
    services = {each["metadata"]["name"] for each in made if each["kind"] == "Service"}
    for hook in configuration["webhooks"]:
        service = hook["clientConfig"]["service"]
        assert f"{service['name']}.{service['namespace']}.svc" in names.get_values_for_type(x509.DNSName)
        assert service["name"] in services
        assert hook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_cert_manager_makes_a_certificate_for_the_service_and_tells_the_configuration_its_authority() -> None:
    for name, issuer in {"cert-manager": "Issuer", "cert-manager's issuer": "ClusterIssuer"}.items():
        (certificate,) = of_kind(name, "Certificate")
        spec = certificate["spec"]
        assert f"{RELEASE}-secretbinding-webhook.{NAMESPACE}.svc" in spec["dnsNames"]
        assert spec["issuerRef"]["kind"] == issuer
        made = [each["metadata"]["name"] for each in of_kind(name, "Issuer")]
        assert made == ([spec["issuerRef"]["name"]] if issuer == "Issuer" else [])
        (configuration,) = of_kind(name, "ValidatingWebhookConfiguration")
        metadata = certificate["metadata"]
        source = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert source == f"{metadata['namespace']}/{metadata['name']}"
        assert spec["secretName"] in [volume.get("secret", {}).get("secretName") for volume in pod(name)["volumes"]]


def test_the_network_policy_lets_in_who_is_named_and_the_test_and_out_to_dns_and_what_is_named() -> None:
    (policy,) = of_kind("everything that listens", "NetworkPolicy")
    allowed = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
    assert set(allowed) == {9464, 9443, 9311, 9201}
    assert allowed[9201] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert allowed[9443] is None
    (test,) = of_kind("everything that listens", "Pod")
    selectors = [each["podSelector"]["matchLabels"] for each in allowed[9464] if "podSelector" in each]
    assert [selector.items() <= test["metadata"]["labels"].items() for selector in selectors] == [True]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    out = [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]
    assert out == [[53, 53], [8200]]


def test_monitors_find_the_port_with_the_metrics() -> None:
    (monitor,) = of_kind("watched", "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    found = [each for each in of_kind("watched", "Service") if selector.items() <= each["metadata"]["labels"].items()]
    assert [port["name"] for each in found for port in each["spec"]["ports"]] == ["metrics"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == ("metrics", "/metrics", True)
    assert monitor["metadata"]["labels"]["release"] == "p"
    (pods,) = of_kind("watched by pods", "PodMonitor")
    assert pods["spec"]["podMetricsEndpoints"][0]["relabelings"] == [{"action": "labeldrop", "regex": "pod"}]
    for each in (monitor, pods):
        assert each["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}


def test_recreate_has_no_rolling_update_with_it() -> None:
    for election in (True, False):
        (deployment,) = of_kind({"strategy": {"type": "Recreate"}, "election": {"enabled": election}}, "Deployment")
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("name", ["123", "true"])
def test_a_policy_of_any_name_can_be_read_by_the_controller(name: str) -> None:
    (config,) = [
        made
        for made in of_kind({"tenancy": {"policies": {name: POLICY}}}, "ConfigMap")
        if f"{name}.yaml" in made["data"]
    ]
    (policy,) = parse_policies(config["data"][f"{name}.yaml"])
    assert policy.metadata.name == name


def test_releases_of_two_namespaces_never_share_a_name_of_the_whole_cluster() -> None:
    def names(namespace: str, name: str) -> set[str]:
        made = of_kind({"namespaceOverride": namespace, "fullnameOverride": name}, "ClusterRole", "ClusterRoleBinding")
        return {each["metadata"]["name"] for each in made}

    assert names("shop", "eu-vault") & names("shop-eu", "vault") == set()
    assert "shop-eu-vault" in names("shop", "eu-vault")
