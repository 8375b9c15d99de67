"""The controller in Kubernetes: its Secret, and the values and the command for its Helm chart. Pure texts."""

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from secretbinding.ops.bootstrap.credentials import Credential, needed
from secretbinding.ops.bootstrap.pasting import Snippet, Surroundings, file_of
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.strictyaml import dump

CHART = "charts/secretbinding"
VALUES_FILE = "secretbinding-values.yaml"
_CA_KEY = "ca.crt"


def kubernetes(target: Target, around: Surroundings) -> Iterator[Snippet]:
    """What is pasted one after the other for a controller in Kubernetes that logs in by a token or its service
    account."""
    namespace, release = target.service_account[0], target.scope.name
    objects = [*_secret(target, around), *_authorities(target, around)]
    if objects:
        lines = [f"kubectl create namespace {namespace} --dry-run=client -o yaml | kubectl apply -f -", *objects]
        yield Snippet(
            "The controller's credentials in Kubernetes",
            "shell",
            "\n".join([*lines, ""]),
            ("The namespace, and in it what the values below name.",),
        )
    yield Snippet(
        f"The controller in Kubernetes: {VALUES_FILE}, values of its Helm chart",
        "yaml",
        dump(values(target, around)),
        (f"The chart is in `{CHART}`; its README tells of all values.",),
    )
    yield Snippet(
        "Install the chart, or bring it up to date",
        "shell",
        f"helm upgrade --install {release} {CHART} \\\n"
        f"  --namespace {namespace} --create-namespace --values {VALUES_FILE}\n",
    )


def values(target: Target, around: Surroundings) -> dict[str, Any]:
    """The chart's values. What is as the chart has it anyway is left out."""
    scope, files = target.scope, needed(target)
    vault: dict[str, Any] = {"address": around.lookup or around.vault_address}
    nomad: dict[str, Any] = {"address": around.nomad_address}
    if around.vault_namespace:
        vault["namespace"] = around.vault_namespace
    if scope.jwt_mount != "jwt-nomad":
        vault["jwtMount"] = scope.jwt_mount
    login: dict[str, Any] = {"method": target.login.value}
    if Credential.VAULT_TOKEN in files:
        login |= {"existingSecret": _name(target), "tokenKey": Credential.VAULT_TOKEN.value}
    elif target.kubernetes_mount != "kubernetes":
        login["mount"] = target.kubernetes_mount
    vault["login"] = login
    if Credential.NOMAD_TOKEN in files:
        nomad |= {"existingSecret": _name(target), "tokenKey": Credential.NOMAD_TOKEN.value}
    for server, name, ca in ((vault, "vault", around.vault_ca), (nomad, "nomad", around.nomad_ca)):
        if ca:
            server["tls"] = {"existingConfigMap": _authority(target, name), "caKey": _CA_KEY}
    made: dict[str, Any] = {"image": image(around.image), "vault": vault, "nomad": nomad}
    if scope.instance != "default":
        made["instance"] = scope.instance
    if scope.election:
        made["election"] = {"enabled": True}
    made["serviceAccount"] = {"name": target.service_account[1]}
    if target.login is Login.KUBERNETES:
        # Vault asks the API server about a token with that token itself.
        made["rbac"] = {"authDelegator": True}
    return made


def image(name: str) -> Mapping[str, str]:
    """An image's name as the chart takes it apart: registry, repository, tag, digest; those that it has."""
    rest, _, digest = name.partition("@")
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    first, slash, others = path.partition("/")
    registry = first if slash and (first == "localhost" or "." in first or ":" in first) else ""
    parts = {"registry": registry, "repository": others if registry else path, "tag": tag, "digest": digest}
    return {part: value for part, value in parts.items() if value}


def _secret(target: Target, around: Surroundings) -> Iterator[str]:
    files = needed(target)
    if files:
        sources = "".join(f" \\\n  --from-file={one.value}={quote(file_of(around, one.value))}" for one in files)
        yield f"kubectl -n {target.service_account[0]} create secret generic {_name(target)}{sources}"


def _authorities(target: Target, around: Surroundings) -> Iterator[str]:
    for name, ca in (("vault", around.vault_ca), ("nomad", around.nomad_ca)):
        if ca:
            yield (
                f"kubectl -n {target.service_account[0]} create configmap {_authority(target, name)} \\\n"
                f"  --from-file={_CA_KEY}={quote(ca)}"
            )


def _name(target: Target) -> str:
    return f"{target.scope.name}-credentials"


def _authority(target: Target, server: str) -> str:
    return f"{target.scope.name}-{server}-ca"
