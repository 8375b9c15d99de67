"""`bootstrap` on a real OpenBao and on both Nomads: what it makes, shows, refuses and prints."""

import http.server
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from secretbinding.devstack.nomad_agent import find_nomad
from tests.support.commandline import CommandLine, Ran
from tests.support.servers import Stack


@pytest.fixture
def instance(cli: CommandLine, stack: Stack, unique: str) -> str:
    """An instance and a JWT mount that no other test has, on a Nomad with ACLs."""
    name = unique[:20].rstrip("-")
    cli.use(stack, SECRETBINDING_INSTANCE=name, SECRETBINDING_JWT_MOUNT=f"jwt-{unique}")
    return name


def changes(ran: Ran) -> list[str]:
    """The lines that tell of a change or a conflict."""
    return [line for line in ran.out.splitlines() if line.startswith(("+ ", "~ ", "! "))]


def test_a_dry_run_changes_nothing_and_an_applied_run_leaves_nothing_to_change(
    cli: CommandLine, stack: Stack, instance: str, unique: str
) -> None:
    policies = stack.openbao.api.request("LIST", "/v1/sys/policies/acl").json()["data"]["keys"]
    planned = cli("bootstrap", "--dry-run", "--detailed-exitcode")
    assert planned.code == 2
    assert stack.openbao.api.request("LIST", "/v1/sys/policies/acl").json()["data"]["keys"] == policies
    assert f"jwt-{unique}/" not in stack.openbao.api.get("/v1/sys/auth").json()
    done = cli("bootstrap")
    assert done.code == 0
    assert changes(done) == changes(planned)
    again = cli("bootstrap", "--dry-run", "--detailed-exitcode")
    assert (again.code, changes(again)) == (0, [])
    assert "0 changed, 5 as they should be" in cli("bootstrap").out


@pytest.mark.parametrize("login", ["token", "nomad", "approle", "kubernetes"])
def test_a_second_run_changes_nothing_whatever_the_login(
    cli: CommandLine, instance: str, unique: str, login: str
) -> None:
    arguments = [
        "--login",
        login,
        "--default-role",
        f"workloads-{unique}",
        "--mount",
        "kv=secret",
        "--make-roles",
        "database=db",
    ]
    arguments += ["--approle-mount", f"a-{unique}", "--kubernetes-mount", f"k-{unique}"]
    first = cli("bootstrap", *arguments)
    assert first.code == 0, first.err
    second = cli("bootstrap", *arguments)
    assert (second.code, changes(second)) == (0, [])


def test_a_changed_wish_is_a_change_of_what_is_ours(cli: CommandLine, instance: str) -> None:
    cli("bootstrap")
    ran = cli("bootstrap", "--mount", "kv=kv", "--nomad-namespace", "team-*", "--dry-run")
    assert changes(ran) == [f"~ Vault policy secretbinding-{instance}", f"~ Nomad ACL policy secretbinding-{instance}"]
    assert '    -path "secret/metadata/*" {\n' in ran.out
    assert '    +path "kv/metadata/*" {\n' in ran.out


def test_what_is_in_the_way_is_shown_and_then_nothing_is_changed(
    cli: CommandLine, stack: Stack, instance: str, unique: str
) -> None:
    name = f"secretbinding-{instance}"
    stack.openbao.put_policy(name, 'path "mine" {}')
    ran = cli("bootstrap")
    assert ran.code == 1
    assert f"! Vault policy {name}: a policy of that name is there, without our mark" in ran.out
    assert "something is in the way; nothing was changed" in ran.err
    assert f"jwt-{unique}/" not in stack.openbao.api.get("/v1/sys/auth").json()
    assert stack.api.get(f"/v1/acl/policy/{name}").status == 404
    # The conflict names what to add; then it is done as shown.
    (identifier,) = re.findall(r"--replace (\S+)", ran.out)
    assert cli("bootstrap", "--replace", identifier).code == 0
    assert "# secretbinding" in stack.openbao.api.get(f"/v1/sys/policies/acl/{name}").json()["data"]["policy"]


def test_an_edited_policy_is_not_overwritten_silently(cli: CommandLine, stack: Stack, instance: str) -> None:
    cli("bootstrap")
    name = f"secretbinding-{instance}"
    rules = stack.api.get(f"/v1/acl/policy/{name}").json()["Rules"] + '\nnode { policy = "read" }\n'
    stack.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules}).expect()
    ran = cli("bootstrap")
    assert ran.code == 1
    assert "somebody has edited the policy since it was written" in ran.out
    assert stack.api.get(f"/v1/acl/policy/{name}").json()["Rules"] == rules


def test_a_replacement_that_names_nothing_is_refused(cli: CommandLine, instance: str) -> None:
    ran = cli("bootstrap", "--replace", "vault:policy/none", "--dry-run")
    assert ran.code == 1
    assert f"use one of nomad:policy/secretbinding-{instance}, " in ran.err


def test_an_address_that_vault_cannot_reach_is_an_error_that_names_the_option(cli: CommandLine, instance: str) -> None:
    ran = cli("bootstrap", "--jwks-url", "http://127.0.0.1:1/keys")
    assert ran.code == 1
    assert "http://127.0.0.1:1/keys" in ran.err
    assert "--jwks-url" in ran.err


@contextmanager
def discovery() -> Iterator[tuple[str, rsa.RSAPrivateKey]]:
    """A Nomad's OIDC discovery, and the key that its identities are signed with."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    document: dict[str, Mapping[str, Any]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    document["/keys"] = {"keys": [{**public, "kid": "k", "use": "sig", "alg": "RS256"}]}
    document["/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/keys"}
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    yield url, key
    server.shutdown()
    server.server_close()


def test_with_discovery_only_identities_of_that_issuer_are_let_in(
    cli: CommandLine, stack: Stack, instance: str, unique: str
) -> None:
    with discovery() as (url, key):
        arguments = ["--oidc-discovery-url", url, "--login", "nomad", "--job", "team/sb"]
        ran = cli("bootstrap", *arguments)
        assert ran.code == 0, ran.err
        assert changes(cli("bootstrap", *arguments)) == []
        now = int(time.time())
        claims = {"aud": "vault.io", "sub": "x", "iat": now, "nbf": now, "exp": now + 600}
        claims |= {"nomad_namespace": "team", "nomad_job_id": "sb", "nomad_task": "controller"}

        def login(**more: str) -> str:
            token = jwt.encode({**claims, **more}, key, algorithm="RS256", headers={"kid": "k"})
            body = {"role": f"secretbinding-{instance}", "jwt": token}
            answer = stack.openbao.api.put(f"/v1/auth/jwt-{unique}/login", body)
            return "" if answer.status == 200 else answer.text

        assert login(iss=url) == ""
        assert "issuer" in login(iss="http://elsewhere")
        assert "nomad_job_id" in login(iss=url, nomad_job_id="other")


def test_credentials_can_be_made_later_anew_and_wrapped(cli: CommandLine, instance: str, tmp_path: Path) -> None:
    assert "no credentials are made" in cli("bootstrap").err
    place = tmp_path / "c"
    assert cli("bootstrap", "--credentials", str(place)).code == 0
    first = (place / "vault-token").read_text()
    assert cli("bootstrap", "--credentials", str(place), "--new-credentials").code == 0
    second = (place / "vault-token").read_text()
    assert first != second
    (place / "vault-token").write_text("hvs.not-a-token")
    ran = cli("bootstrap", "--credentials", str(place))
    assert ran.code == 1
    assert "--new-credentials makes new ones" in ran.out
    wrapped = cli("bootstrap", "--credentials", str(tmp_path / "w"), "--wrap", "5m")
    assert wrapped.code == 0
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"vault-token.wrapped", "nomad-token"}
    assert "vault unwrap -field=token" in wrapped.out
    for shown in (ran, wrapped):
        assert not any(value in shown.out + shown.err for value in (first, second, "hvs.not-a-token"))


def test_a_token_without_the_rights_gets_the_right_that_is_missing_named(
    cli: CommandLine, stack: Stack, instance: str, unique: str
) -> None:
    stack.openbao.put_policy(unique, 'path "sys/auth" { capabilities = ["read"] }')
    body = {"policies": [unique], "no_default_policy": True}
    token = stack.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"]
    cli.setenv(VAULT_TOKEN=token)
    ran = cli("bootstrap")
    assert ran.code == 1
    assert f'add `path "sys/policies/acl/secretbinding-{instance}"' in ran.err
    cli.setenv(VAULT_TOKEN=stack.openbao.root_token, NOMAD_TOKEN="")
    ran = cli("bootstrap")
    assert ran.code == 1
    assert "use a management token" in ran.err


def test_a_nomad_without_acls_needs_no_policy_and_no_token(cli: CommandLine, open_stack: Stack, unique: str) -> None:
    cli.use(open_stack, SECRETBINDING_INSTANCE=unique[:20].rstrip("-"), SECRETBINDING_JWT_MOUNT=f"jwt-{unique}")
    ran = cli("bootstrap")
    assert ran.code == 0
    assert "Nomad has no ACLs" in ran.err
    assert "Nomad ACL policy" not in ran.out
    assert "NOMAD_TOKEN_FILE" not in ran.out


@pytest.mark.parametrize("form", ["clients: the", "servers: the", "clients, the older form"])
@pytest.mark.real_nomad
def test_nomad_reads_the_vault_blocks_that_are_printed(
    cli: CommandLine, simulator: Stack, unique: str, tmp_path: Path, form: str
) -> None:
    program = find_nomad()
    if program is None:
        pytest.skip("no `nomad` on PATH")
    cli.use(simulator, SECRETBINDING_INSTANCE=unique[:20].rstrip("-"), SECRETBINDING_JWT_MOUNT=f"jwt-{unique}")
    ran = cli("bootstrap")
    (block,) = re.findall(rf"^(## Nomad {form}.*?)(?=^## )", ran.out, re.MULTILINE | re.DOTALL)
    config = tmp_path / "agent.hcl"
    config.write_text(f'data_dir = "{tmp_path}"\nclient {{\n  enabled = true\n}}\n{block}')
    done = subprocess.run([program, "config", "validate", str(config)], capture_output=True, text=True, check=False)
    assert "Configuration is valid!" in done.stdout, done.stdout + done.stderr


def test_policies_are_printed_without_any_server(cli: CommandLine) -> None:
    cli.setenv(VAULT_ADDR="http://127.0.0.1:1", NOMAD_ADDR="http://127.0.0.1:1", SECRETBINDING_INSTANCE="blue")
    vault = cli("bootstrap", "--print-policy", "vault", "--mount", "kv=kv")
    assert vault.code == 0
    assert 'path "kv/metadata/*" {' in vault.out
    nomad = cli("bootstrap", "--print-policy", "nomad", "--nomad-namespace", "team-a")
    assert 'namespace "team-a" {' in nomad.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--new-credentials"], "name a directory by --credentials"),
        (["--wrap", "5m"], "name a directory by --credentials"),
        (["--detailed-exitcode"], "--detailed-exitcode goes with --dry-run"),
        (["--login", "userpass"], "'userpass' is not one of"),
        (["--mount", "kv=a/../b"], "is no mount"),
        (["--mount", "secret"], "write KIND=PATH"),
        (["--mount", "cubbyhole=x"], "no engine is of kind 'cubbyhole'; use one of kv, "),
        (["--service-account", "one"], "write NAMESPACE/NAME"),
        (["--jwks-ca", "/no/such/file"], "cannot be read"),
        (["--jwks-url", "http://a/", "--oidc-discovery-url", "http://b/"], "give one of the two"),
    ],
)
def test_a_wrong_command_line_ends_with_1(cli: CommandLine, simulator: Stack, arguments: list[str], told: str) -> None:
    cli.use(simulator)
    ran = cli("bootstrap", *arguments)
    assert ran.code == 1
    assert told in ran.err
