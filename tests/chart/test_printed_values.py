"""What `bootstrap` prints for Kubernetes: values that the chart takes, and a pod that has what was printed."""

from typing import Any

import pytest
import yaml

from secretbinding.ops.bootstrap.chart import kubernetes
from secretbinding.ops.bootstrap.pasting import Surroundings
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.rights import Scope
from tests.chart.rendering import Json, chart, container, documents, env, merged, pod


def printed(login: Login, scope: Scope | None = None, **around: Any) -> Json:
    """The values; the chart needs none beside them."""
    target = Target(
        scope=scope or Scope(),
        jwks_url="http://nomad/keys",
        login=login,
        kubernetes_mount=around.pop("kubernetes_mount", "kubernetes"),
        service_account=("platform", "sb"),
    )
    surroundings = Surroundings("https://vault:8200", "https://nomad:4646", **around)
    (text,) = (one.text for one in kubernetes(target, surroundings) if one.language == "yaml")
    values: Json = yaml.safe_load(text)
    chart().render(values, name=target.scope.name, namespace="platform")
    return values


def test_with_tokens_the_pod_reads_them_from_the_secret_as_the_user_that_it_is() -> None:
    values = printed(Login.TOKEN)
    told = env(values)
    assert told["VAULT_ADDR"] == "https://vault:8200"
    assert told["NOMAD_ADDR"] == "https://nomad:4646"
    mounts = {row["name"]: row["mountPath"] for row in container(values)["volumeMounts"]}
    for variable, key in (("VAULT_TOKEN_FILE", "vault-token"), ("NOMAD_TOKEN_FILE", "nomad-token")):
        directory, _, name = told[variable].rpartition("/")
        (volume,) = [one for one in pod(values)["volumes"] if mounts.get(one["name"]) == directory]
        assert volume["secret"]["secretName"] == "secretbinding-credentials"
        assert name == key
        assert volume["secret"]["defaultMode"] == 0o440
    user = pod(values)["securityContext"]
    assert user["fsGroup"] == user["runAsUser"] == 65532


def test_with_its_service_account_the_pod_logs_in_as_the_role_says_and_vault_may_ask_about_it() -> None:
    values = printed(Login.KUBERNETES, kubernetes_mount="k8s")
    told = env(values)
    assert told["SECRETBINDING_VAULT_LOGIN"] == "kubernetes"
    assert told["SECRETBINDING_VAULT_LOGIN_MOUNT"] == "k8s"
    assert "VAULT_TOKEN_FILE" not in told
    assert pod(values)["serviceAccountName"] == "sb"
    bound = [one for one in _objects(values) if one.get("roleRef", {}).get("name") == "system:auth-delegator"]
    assert len(bound) == 1


def test_another_instance_mount_namespace_image_and_authorities_are_the_pods() -> None:
    values = printed(
        Login.TOKEN,
        Scope(instance="blue", jwt_mount="n", election=True),
        vault_namespace="team",
        vault_ca="/etc/vault.pem",
        nomad_ca="/etc/nomad.pem",
        image="r.example.com:5000/sb:2",
    )
    told = env(values)
    assert (told["SECRETBINDING_INSTANCE"], told["SECRETBINDING_JWT_MOUNT"]) == ("blue", "n")
    assert told["VAULT_NAMESPACE"] == "team"
    assert told["SECRETBINDING_ELECTION"] == "kubernetes"
    assert container(values)["image"] == "r.example.com:5000/sb:2"
    maps = {volume["configMap"]["name"] for volume in pod(values)["volumes"] if "configMap" in volume}
    assert {"secretbinding-blue-vault-ca", "secretbinding-blue-nomad-ca"} <= maps
    assert told["VAULT_CACERT"].endswith("/ca.crt")
    assert told["NOMAD_CACERT"].endswith("/ca.crt")


@pytest.mark.parametrize("login", [Login.TOKEN, Login.KUBERNETES])
def test_the_schema_takes_no_other_name_than_those_that_are_printed(login: Login) -> None:
    values = printed(login)
    with pytest.raises(Exception, match="vaultt"):
        chart().render(merged(values, {"vaultt": {}}), name="x", namespace="y")


def _objects(values: Json) -> list[Json]:
    return documents(chart().render(values, name="secretbinding", namespace="platform"))
