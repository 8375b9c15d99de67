"""Which login the environment asks for, with its usual places; what is missing is named."""

from pathlib import Path

import pytest

from secretbinding.adapters.connection import TokenFile
from secretbinding.adapters.vault.login import AppRoleLogin, CertLogin, JwtLogin
from secretbinding.adapters.vault.session import VaultSession
from secretbinding.connections import login_method, nomad_connection, vault_connection
from secretbinding.errors import UsageError
from secretbinding.settings import Settings

LOGIN = "SECRETBINDING_VAULT_LOGIN"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_TOKEN", "BAO_TOKEN", "VAULT_TOKEN_FILE", "NOMAD_SECRETS_DIR", "SECRETBINDING_INSTANCE"):
        monkeypatch.delenv(name, raising=False)


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_without_a_login_a_token_is_sent_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(monkeypatch, VAULT_TOKEN="opensesame")
    assert login_method(given) is None
    assert vault_connection(given, 4).token == "opensesame"


def test_the_controller_keeps_a_given_token_alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opensesame")
    given = settings(monkeypatch, VAULT_TOKEN_FILE=str(tmp_path / "token"))
    assert isinstance(vault_connection(given, 4).token, TokenFile)
    assert isinstance(vault_connection(given, 4, keep=True).token, VaultSession)


def test_kubernetes_takes_the_pods_token_and_the_role_that_bootstrap_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = login_method(settings(monkeypatch, **{LOGIN: "kubernetes"}, SECRETBINDING_INSTANCE="blue"))
    assert isinstance(found, JwtLogin)
    assert (found.mount, found.role) == ("kubernetes", "secretbinding-blue")
    assert found.token.path == Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def test_as_a_nomad_task_the_identity_named_vault_logs_in_at_the_mount_of_the_workloads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = login_method(
        settings(monkeypatch, **{LOGIN: "nomad"}, NOMAD_SECRETS_DIR="/secrets", SECRETBINDING_JWT_MOUNT="jwt-east")
    )
    assert isinstance(found, JwtLogin)
    assert (found.mount, found.role, found.token.path) == (
        "jwt-east",
        "secretbinding",
        Path("/secrets/nomad_vault.jwt"),
    )


def test_mount_role_and_file_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {f"{LOGIN}_MOUNT": "auth-of/mine/", f"{LOGIN}_ROLE": "watcher", f"{LOGIN}_JWT_FILE": "/here"}
    found = login_method(settings(monkeypatch, **{LOGIN: "jwt"}, **named))
    assert isinstance(found, JwtLogin)
    assert (found.mount, found.role, found.token.path) == ("auth-of/mine", "watcher", Path("/here"))


def test_role_id_and_secret_id_come_from_the_environment_or_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {f"{LOGIN}_ROLE_ID": "r", f"{LOGIN}_SECRET_ID_FILE": "/here", f"{LOGIN}_SECRET_ID_WRAPPED": "true"}
    found = login_method(settings(monkeypatch, **{LOGIN: "approle"}, **given))
    assert isinstance(found, AppRoleLogin)
    assert (found.role_id.value, found.secret_id.path, found.wrapped) == ("r", Path("/here"), True)


@pytest.mark.parametrize("variable", ["VAULT_ADDR", "SECRETBINDING_AGENT_VAULT_ADDR"])
def test_a_sidecar_is_given_the_name_of_a_vault_that_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    given = settings(monkeypatch, **{variable: "srv+https://_vault._active.service.consul"})
    assert given.agents().server.address == "https://active.vault.service.consul:8200"


def test_a_certificate_logs_in_to_a_vault_that_is_looked_up_over_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"VAULT_CLIENT_CERT": "/cert.pem", "VAULT_CLIENT_KEY": "/key.pem"}
    found = settings(monkeypatch, **{LOGIN: "cert"}, VAULT_ADDR="consul+http://127.0.0.1:8500/vault", **files)
    assert isinstance(login_method(found), CertLogin)
    clear = settings(monkeypatch, VAULT_ADDR="consul+http://127.0.0.1:8500/vault?scheme=http")
    with pytest.raises(UsageError, match="VAULT_CLIENT_CERT and VAULT_CLIENT_KEY"):
        login_method(clear)


def test_a_certificate_needs_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(
        monkeypatch,
        **{LOGIN: "cert"},
        VAULT_ADDR="https://vault:8200",
        VAULT_CLIENT_CERT="/cert.pem",
        VAULT_CLIENT_KEY="/key.pem",
    )
    found = login_method(given)
    assert isinstance(found, CertLogin)
    assert (found.mount, found.role) == ("cert", "")
    with pytest.raises(UsageError, match="VAULT_CLIENT_CERT and VAULT_CLIENT_KEY"):
        login_method(settings(monkeypatch, VAULT_ADDR="http://vault:8200"))


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({LOGIN: "nomad"}, f"{LOGIN}_JWT_FILE"),
        ({LOGIN: "jwt"}, f"{LOGIN}_JWT_FILE is not set"),
        ({LOGIN: "approle", f"{LOGIN}_ROLE_ID": "r"}, f"one of {LOGIN}_SECRET_ID and {LOGIN}_SECRET_ID_FILE"),
        ({LOGIN: "approle", f"{LOGIN}_SECRET_ID": "opensesame"}, f"one of {LOGIN}_ROLE_ID and"),
        ({LOGIN: "ldap"}, f"environment variable {LOGIN}"),
    ],
)
def test_what_is_missing_or_unknown_is_named_and_no_secret_is_repeated(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        login_method(settings(monkeypatch, **environment))
    assert named in str(caught.value)
    assert "opensesame" not in str(caught.value)


def test_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {f"{LOGIN}_ROLE_ID": "r", f"{LOGIN}_SECRET_ID": "opensesame"}
    made = settings(monkeypatch, **{LOGIN: "approle"}, **given)
    assert "opensesame" not in repr([made.vault, login_method(made), vault_connection(made, 4)])


def test_nomad_is_reached_by_the_socket_that_its_client_gives_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings(monkeypatch, NOMAD_ADDR="unix:///secrets/api.sock", NOMAD_TOKEN_FILE="/secrets/nomad_token")
    assert nomad_connection(made.nomad, 4).address == "unix:///secrets/api.sock"
