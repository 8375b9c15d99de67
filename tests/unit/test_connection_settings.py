"""The file of named connections: what it gives, and what is said of one that cannot be used."""

from pathlib import Path

import pytest

from secretbinding.app import Clients
from secretbinding.connections import nomad_connection, vault_connection
from secretbinding.errors import UsageError
from secretbinding.settings import Settings

EU = """
connections:
  - name: eu
    jwtMount: jwt-eu
    workers: 3
    vault:
      address: https://vault.eu.example.com:8200
      namespace: teams
      tokenEnv: EU_VAULT_TOKEN
    nomad:
      address: https://nomad.eu.example.com:4646
      region: eu
      tokenFile: /run/eu/nomad
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "connections.yaml"
    monkeypatch.setenv("SECRETBINDING_CONNECTIONS", str(path))
    monkeypatch.setenv("VAULT_TOKEN", "of-the-default")
    monkeypatch.setenv("NOMAD_TOKEN", "of-the-default")
    monkeypatch.setenv("EU_VAULT_TOKEN", "of-eu")
    return path


def told(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Settings()
    return str(caught.value)


def one(**parts: str) -> str:
    """A connection that works, with other parts."""
    given = {"name": "eu", "vault": "{address: 'https://v'}", "nomad": "{address: 'https://n'}", **parts}
    return "connections:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in given.items()) + "\n"


def test_without_a_file_there_is_the_default_connection_alone() -> None:
    settings = Settings()
    assert (settings.connection, settings.connections, settings.of("default")) == ("default", {}, settings)
    with pytest.raises(UsageError, match=r"there is no connection 'eu'; name one of default, or add it to the file"):
        settings.of("eu")


def test_a_named_connection_has_servers_and_an_instance_of_its_own(written: Path) -> None:
    written.write_text(EU)
    own = Settings().of("eu")
    assert (own.connection, own.controller.instance, own.controller.jwt_mount) == ("eu", "default-eu", "jwt-eu")
    assert (own.vault.address, own.vault.namespace) == ("https://vault.eu.example.com:8200", "teams")
    assert (own.nomad.address, own.nomad.region) == ("https://nomad.eu.example.com:4646", "eu")
    assert own.controller.workers == 3
    assert own.agents().server.address == "https://vault.eu.example.com:8200"


def test_a_token_of_the_default_connection_never_reaches_another(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_NAMESPACE", "of-the-default")
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    monkeypatch.setenv("SECRETBINDING_VAULT_LOGIN", "jwt")
    monkeypatch.setenv("SECRETBINDING_AUDIT_FILE", "/var/log/vault.json")
    written.write_text(one())
    own = Settings().of("eu")
    vault, nomad = vault_connection(own, 1), nomad_connection(own.nomad, 1)
    assert (vault.token, vault.namespace, vault.skip_verify, nomad.token) == ("", "", False, "")
    assert own.controller.audit_file is None
    written.write_text(EU)
    assert vault_connection(Settings().of("eu"), 1).token == "of-eu"


def test_a_secret_in_the_file_is_refused_with_what_to_do_instead(written: Path) -> None:
    said = told(written, one(vault="{address: 'https://v', token: hvs.inline, loginSecretId: inline-too}"))
    assert "connections[0].vault.token: a secret does not belong into this file; use tokenFile, the path" in said
    assert "connections[0].vault.loginSecretId: a secret does not belong into this file" in said
    assert "inline" not in said.replace("loginSecretId", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (one(vault="{adress: 'https://v'}"), "3:5: connections[0].vault.address: there is no address; set it, such as"),
        (one(nomad="{region: eu}"), "4:5: connections[0].nomad.address: there is no address"),
        (one(vault="[]"), "connections[0].vault: this is no mapping of settings"),
        (
            one(nomad="{address: 'https://n', skipVerify: maybe}"),
            "connections[0].nomad.skipVerify: Input should be a valid boolean",
        ),
        (one(nomad="{address: 'https://n', namespace: x}"), "connections[0].nomad.namespace: there is no such setting"),
        (
            one(vault="{address: 'https://v', tokenEnv: NOT_THERE}"),
            "connections[0].vault.tokenEnv: environment variable NOT_THERE is not set; give the controller that",
        ),
        (one(workers="0"), "connections[0].workers: Input should be greater than or equal to 1"),
        (one(name="default"), "connections[0].name: default is the connection that VAULT_ADDR and NOMAD_ADDR name"),
        (one(name="Second Cluster"), "connections[0].name: a connection needs a name; use up to 63 lower-case letters"),
        (one(name="a-long-name-of-a-cluster"), "default-a-long-name-of-a-cluster is no name of an instance"),
        (one(instance="default"), "instance default is that of connection default; give each connection an instance"),
        (one(typo="1"), "connections[0].typo: there is no such setting; use one of name, instance, jwtMount"),
        (one() + one().removeprefix("connections:\n"), "connections[1].name: connection eu is there twice"),
        ("- name: eu\n", "this is no file of connections; write a list under `connections:`"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_remedy(written: Path, text: str, said: str) -> None:
    assert f"{written}:" in (message := told(written, text))
    assert said in message


def test_the_file_on_the_page_is_one(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "deploy" / "connections.md").read_text()
    monkeypatch.setenv("US_NOMAD_TOKEN", "of-us")
    written.write_text(page.split("```yaml\n")[1].split("```")[0])
    settings = Settings()
    assert [(name, settings.of(name).nomad.region) for name in settings.connections] == [("eu", ""), ("us", "us")]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in row.replace("`", "").replace(" ", "").split(",")} == {
        *("name", "instance", "jwtMount", "workers", "maxRolls", "auditFile", "auditListen"),
        *("vault", "nomad", "consul", "agent"),
    }


def test_a_file_that_is_not_there_is_told_by_its_variable(written: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read; correct SECRETBINDING_CONNECTIONS"):
        Settings()


def test_a_login_that_lacks_something_names_the_field_of_the_file(written: Path) -> None:
    written.write_text(one(vault="{address: 'https://v', login: jwt}"))
    own = Settings().of("eu")
    with pytest.raises(UsageError, match=r"connections\[0\]\.vault\.loginJwtFile is not set"):
        vault_connection(own, 1)
    written.write_text(one(vault="{address: 'https://v', login: approle}"))
    with pytest.raises(UsageError, match=r"needs one of connections\[0\]\.vault\.loginRoleId and .*RoleIdFile"):
        vault_connection(Settings().of("eu"), 1)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"vault": "{address: 'https://v', caCert: /no/such/ca.pem}"},
            "connection eu: the CA certificate for Vault, /no/such/ca.pem, is not there; "
            "put it there, or correct the path in connections[0].vault.caCert",
        ),
        (
            {"nomad": "{address: 'https://n', clientCert: /no/c.pem, clientKey: /no/k.pem}"},
            "connection eu: the client certificate for Nomad, /no/c.pem, is not there; "
            "put it there, or correct the path in connections[0].nomad.clientCert",
        ),
        (
            {"vault": "{address: 'consul+https://consul:8501/vault'}", "consul": "{caPath: /no/such}"},
            "connection eu: the CA directory for Consul, /no/such, is not there; "
            "put it there, or correct the path in connections[0].consul.caPath",
        ),
        (
            {"vault": "{address: 'consul+https://consul:8501'}"},
            "connection eu: connections[0].vault.address names no Consul, or no service in it",
        ),
        (
            {"vault": "{address: 'v:8200'}"},
            "connection eu: the address of Vault is not a URL; set connections[0].vault.address to http(s)://host:port",
        ),
        (
            {"nomad": "{address: 'n:4646'}"},
            "connection eu: the address of Nomad is not a URL; set connections[0].nomad.address to http(s)://host:port",
        ),
    ],
)
def test_what_cannot_work_is_blamed_on_the_connection_and_its_own_setting(
    written: Path, parts: dict[str, str], says: str
) -> None:
    written.write_text(one(**parts))
    with pytest.raises(UsageError) as caught:
        Clients(Settings().of("eu"))
    assert str(caught.value).startswith(says)
    assert "VAULT_ADDR" not in str(caught.value)


def test_of_the_default_connection_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "ca.pem"))
    with pytest.raises(UsageError, match=r"ca\.pem, is not there; .* correct the path in VAULT_CACERT"):
        Clients(Settings())
