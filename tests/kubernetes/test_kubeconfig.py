"""Where the credentials come from: kubeconfigs, exec plugins, the service account, and what is refused."""

import base64
import json
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from secretbinding.adapters.kubernetes.kubeconfig import KubernetesCredentials, load_credentials
from secretbinding.errors import UsageError

SECRET = "not-for-anybody-else"


def write(path: Path, *, user: Mapping[str, Any] | None = None, cluster: Mapping[str, Any] | None = None) -> str:
    """A kubeconfig with one context named after the file."""
    name = path.stem
    config = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "team"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"} | dict(cluster or {})}],
        "users": [{"name": name, "user": dict(user if user is not None else {"token": SECRET})}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def load(kubeconfig: str, context: str = "", **environment: str) -> KubernetesCredentials:
    return load_credentials(kubeconfig, context, environment)


def test_the_current_context_is_used(tmp_path: Path) -> None:
    credentials = load(write(tmp_path / "one"))

    assert credentials.server == "https://one.example:6443"
    assert credentials.namespace == "team"
    assert credentials.authorization() == f"Bearer {SECRET}"


def test_several_files_are_one_and_the_first_that_names_a_thing_wins(tmp_path: Path) -> None:
    paths = os.pathsep.join((write(tmp_path / "one"), str(tmp_path / "missing"), write(tmp_path / "two")))

    assert load(paths).server == "https://one.example:6443"
    assert load(paths, "two").server == "https://two.example:6443"


def test_files_are_found_beside_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "current").write_text(f"{SECRET}\n")
    path = write(tmp_path / "one", user={"tokenFile": "current"}, cluster={"certificate-authority": "ca.crt"})

    credentials = load(path)

    assert credentials.ca_file == str(tmp_path / "ca.crt")
    assert credentials.authorization() == f"Bearer {SECRET}"
    (tmp_path / "current").write_text("renewed")
    assert credentials.authorization() == "Bearer renewed"


def test_without_a_kubeconfig_the_pods_service_account_is_used(tmp_path: Path) -> None:
    for name, text in (("token", SECRET), ("namespace", "controllers"), ("ca.crt", "")):
        (tmp_path / name).write_text(text)
    pod = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}

    credentials = load_credentials("", "", pod, tmp_path)

    assert credentials.server == "https://[fd00::1]:443"
    assert credentials.namespace == "controllers"
    assert credentials.ca_file == str(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("renewed")
    assert credentials.authorization() == "Bearer renewed"


def test_an_exec_plugin_is_run_with_its_environment(tmp_path: Path) -> None:
    program = (
        "import json, os;"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "status = {'token': os.environ['GIVEN'], 'expirationTimestamp': '2030-01-01T00:00:00Z'};"
        "print(json.dumps({'kind': info['kind'], 'status': status}))"
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
        "env": [{"name": "GIVEN", "value": SECRET}],
    }

    credentials = load(write(tmp_path / "one", user={"exec": plugin}))

    assert credentials.authorization() == f"Bearer {SECRET}"
    assert credentials.expires is not None
    assert credentials.expires.year == 2030


def test_a_failing_exec_plugin_is_named_without_what_it_printed(tmp_path: Path) -> None:
    program = f"import sys; print('{SECRET}'); print('{SECRET}', file=sys.stderr); sys.exit(1)"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", program]}

    with pytest.raises(UsageError) as caught:
        load(write(tmp_path / "one", user={"exec": plugin}))

    assert sys.executable in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_basic_authentication_is_a_header(tmp_path: Path) -> None:
    credentials = load(write(tmp_path / "one", user={"username": "me", "password": SECRET}))

    assert credentials.authorization() == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


def test_a_client_certificate_that_the_kubeconfig_holds_is_usable(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("client.example")

    def encoded(blob: trustme.Blob) -> str:
        return base64.b64encode(blob.bytes()).decode()

    user = {
        "client-certificate-data": encoded(certificate.cert_chain_pems[0]),
        "client-key-data": encoded(certificate.private_key_pem),
    }
    cluster = {"certificate-authority-data": encoded(authority.cert_pem)}

    context = load(write(tmp_path / "one", user=user, cluster=cluster)).ssl_context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_a_certificate_that_is_none_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    credentials = load(write(tmp_path / "one", cluster={"certificate-authority-data": "bm9uZQ=="}))

    with pytest.raises(UsageError, match=r"certificates for https://one\.example:6443"):
        credentials.ssl_context()


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://far.example", {"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ("https://far.example", {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".example"}, ""),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://proxy.example:3128"}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://proxy.example:3128"}, ""),
        ("https://far.example", {}, ""),
    ],
)
def test_the_environments_proxy_is_used_but_never_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: str, environment: Mapping[str, str], proxy: str
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert KubernetesCredentials(server=server).proxy() == proxy


def test_the_kubeconfigs_proxy_wins(tmp_path: Path) -> None:
    assert (
        load(write(tmp_path / "one", cluster={"proxy-url": "http://own.example:1"})).proxy() == "http://own.example:1"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"users: [{{token: {SECRET}", "is not a kubeconfig"),
        (f"- {SECRET}", "is not a kubeconfig"),
        ("contexts: [{context: {}}]", "is not a kubeconfig"),
        ("{}", "no current context"),
        ("current-context: one", "no context `one`"),
        (json.dumps({"current-context": "a", "contexts": [{"name": "a", "context": {}}]}), "no cluster"),
    ],
)
def test_a_broken_kubeconfig_is_named_without_its_content(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)

    with pytest.raises(UsageError, match=told) as caught:
        load(str(path))

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("user", [{"auth-provider": {"name": "gcp"}}, {"token": "x", "as": "somebody"}])
def test_a_way_to_log_in_that_is_not_supported_is_refused_and_not_ignored(
    tmp_path: Path, user: Mapping[str, Any]
) -> None:
    with pytest.raises(UsageError, match="not supported"):
        load(write(tmp_path / "one", user=user))


def test_nothing_to_log_in_with_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set KUBECONFIG"):
        load_credentials("", "", {}, tmp_path)
    with pytest.raises(UsageError, match="no kubeconfig"):
        load(str(tmp_path / "missing"))


def test_credentials_do_not_show_their_secrets(tmp_path: Path) -> None:
    user = {"token": SECRET, "password": SECRET, "client-key-data": SECRET}

    assert SECRET not in repr(load(write(tmp_path / "one", user=user)))
