"""Where the Kubernetes API server is and how to log in: a kubeconfig, or the service account of the own pod."""

import base64
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from secretbinding.errors import UsageError

Json = dict[str, Any]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_SECONDS = 60.0
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_UNSUPPORTED = ("auth-provider", "as", "as-uid", "as-groups", "as-user-extra")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCredentials:
    """How to reach one API server, as plain values; secrets are hidden from repr.

    Attributes:
        server: base URL.
        ca_file, ca_data: PEM file or base64 text of the authority; the system's own authorities without either.
        insecure: do not verify the server's certificate.
        token, token_file: bearer token, or the file that holds the current one.
        username, password: basic authentication.
        cert_file, key_file, cert_data, key_data: client certificate, as PEM files or base64 text.
        proxy_url: proxy of the kubeconfig; "" means the environment's (`HTTPS_PROXY`, `NO_PROXY`), never for loopback.
        namespace: the default namespace of the context, or of the own pod.
        expires: when a token of an exec plugin expires, None when it does not say.
    """

    server: str
    ca_file: str = ""
    ca_data: str = ""
    insecure: bool = False
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    cert_file: str = ""
    key_file: str = ""
    cert_data: str = field(default="", repr=False)
    key_data: str = field(default="", repr=False)
    proxy_url: str = field(default="", repr=False)
    namespace: str = "default"
    expires: datetime | None = None

    def authorization(self) -> str:
        """The `Authorization` header as it is now (a token file is read again each time); "" without one."""
        if self.token_file:
            return f"Bearer {Path(self.token_file).read_text().strip()}"
        if self.token:
            return f"Bearer {self.token}"
        if self.username:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return ""

    def proxy(self) -> str:
        """The proxy to use, "" for none: the kubeconfig's, else the environment's (`HTTPS_PROXY`, `NO_PROXY`), which is
        never asked for this very machine (as kubectl does it)."""
        parts = urlsplit(self.server)
        host = parts.hostname or ""
        if self.proxy_url or _is_loopback(host) or urllib.request.proxy_bypass(host):
            return self.proxy_url
        return urllib.request.getproxies().get(parts.scheme, "")

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the authority and shows the client certificate. A key that the kubeconfig holds as
        data never reaches a disk on Linux. Raises `UsageError` for certificates that cannot be used."""
        try:
            authority = base64.b64decode(self.ca_data).decode() if self.ca_data else None
            context = ssl.create_default_context(cafile=self.ca_file or None, cadata=authority)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
            elif self.cert_data:
                _load_pem(context, base64.b64decode(self.cert_data) + b"\n" + base64.b64decode(self.key_data))
            return context
        except (OSError, ValueError):
            raise UsageError(f"the certificates for {self.server} cannot be used", remedy="correct them") from None


def load_credentials(
    kubeconfig: str, context: str, environment: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
) -> KubernetesCredentials:
    """Credentials from a kubeconfig (one path, or several joined by the path separator as in `KUBECONFIG`), or, with an
    empty `kubeconfig`, from the pod's service account. `context` "" is the current one. Exec plugins are run.

    Raises `UsageError` for whatever is missing, unreadable or not supported.
    """
    if kubeconfig:
        config = _merged(kubeconfig)
        return _from_context(config, context or str(config["current-context"] or ""), environment)
    return _from_service_account(environment, service_account)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Python loads certificates from files only: a file in memory that only this process can open, where there is such
    a thing."""
    if sys.platform != "linux":
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        return
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _from_service_account(environment: Mapping[str, str], directory: Path) -> KubernetesCredentials:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    token_file = directory / "token"
    if not host or not token_file.is_file():
        raise UsageError(
            "there is neither a kubeconfig nor a service account",
            remedy="set KUBECONFIG, or run in a pod whose service account token is mounted",
        )
    namespace_file = directory / "namespace"
    return KubernetesCredentials(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ca_file=str(directory / "ca.crt"),
        token_file=str(token_file),
        namespace=namespace_file.read_text().strip() if namespace_file.is_file() else "default",
    )


def _merged(kubeconfig: str) -> Json:
    """All files as one, the first that names a thing winning, with absolute paths of certificates."""
    merged: Json = {"current-context": None, "contexts": {}, "clusters": {}, "users": {}}
    paths = [Path(part).expanduser() for part in kubeconfig.split(os.pathsep) if part]
    present = [path for path in paths if path.is_file()]
    if not present:
        raise UsageError(f"there is no kubeconfig {kubeconfig}", remedy="correct KUBECONFIG")
    for path in present:
        try:
            content = yaml.safe_load(path.read_text()) or {}
            merged["current-context"] = merged["current-context"] or content.get("current-context")
            for kind, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
                for entry in content.get(kind) or ():
                    merged[kind].setdefault(entry["name"], _absolute(entry.get(inner) or {}, path.parent))
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            # Without the cause: a YAML error quotes the line, which may be a token.
            raise UsageError(f"{path} is not a kubeconfig", remedy="correct it, or set KUBECONFIG to another") from None
    return merged


def _absolute(entry: Json, directory: Path) -> Json:
    return entry | {key: str(directory.absolute() / entry[key]) for key in _FILES if entry.get(key)}


def _from_context(config: Json, context_name: str, environment: Mapping[str, str]) -> KubernetesCredentials:
    if not context_name:
        raise UsageError("the kubeconfig has no current context", remedy="choose one: kubectl config use-context NAME")
    context = _entry(config, "contexts", context_name)
    cluster = _entry(config, "clusters", str(context.get("cluster", "")))
    user = _entry(config, "users", str(context["user"])) if context.get("user") else {}
    found = [key for key in _UNSUPPORTED if user.get(key)]
    if cluster.get("tls-server-name"):
        found.append("tls-server-name")
    if found:
        raise UsageError(
            f"context {context_name} of the kubeconfig uses {', '.join(found)}, which is not supported",
            remedy="use a token, a client certificate or an exec plugin",
        )
    credentials = KubernetesCredentials(
        server=str(cluster.get("server", "")),
        ca_file=cluster.get("certificate-authority", ""),
        ca_data=cluster.get("certificate-authority-data", ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        token=user.get("token", ""),
        token_file=user.get("tokenFile", ""),
        username=user.get("username", ""),
        password=user.get("password", ""),
        cert_file=user.get("client-certificate", ""),
        key_file=user.get("client-key", ""),
        cert_data=user.get("client-certificate-data", ""),
        key_data=user.get("client-key-data", ""),
        proxy_url=cluster.get("proxy-url", ""),
        namespace=context.get("namespace") or "default",
    )
    return _executed(credentials, user["exec"], environment) if user.get("exec") else credentials


def _entry(config: Json, kind: str, name: str) -> Json:
    entry = config[kind].get(name)
    if entry is None:
        known = ", ".join(sorted(config[kind])) or "none"
        raise UsageError(f"the kubeconfig has no {kind[:-1]} `{name}`", remedy=f"it has: {known}")
    return dict(entry)


def _executed(
    credentials: KubernetesCredentials, plugin: Json, environment: Mapping[str, str]
) -> KubernetesCredentials:
    """The credentials with what the exec plugin prints (`client.authentication.k8s.io` ExecCredential)."""
    command = str(plugin.get("command", ""))
    request = {
        "apiVersion": plugin.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": credentials.server}},
    }
    own = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    try:
        done = subprocess.run(
            [command, *(plugin.get("args") or ())],
            env={**environment, **own, "KUBERNETES_EXEC_INFO": json.dumps(request)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_EXEC_SECONDS,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
        expiry = status.get("expirationTimestamp")
        return replace(
            credentials,
            token=status.get("token", ""),
            cert_data=_encoded(status.get("clientCertificateData")),
            key_data=_encoded(status.get("clientKeyData")),
            expires=datetime.fromisoformat(expiry) if expiry else None,
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError):
        # Without the cause: its text or the plugin's output may hold the token.
        raise UsageError(
            f"the kubeconfig's exec plugin {command} gave no credentials", remedy="run it by itself to see why"
        ) from None


def _encoded(pem: str | None) -> str:
    return base64.b64encode(pem.encode()).decode() if pem else ""
