"""Kinds of secrets without a database, with the whole controller on both Nomads and the rights that are shipped: what a
task gets, that it can use it, and what happens when it changes."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, wait_until

ENGINES = shipped("vault-policy-engines.hcl")
VARIABLES = shipped("nomad-policy-variables.hcl")


def controlled(stack: Stack, **own: Any) -> World:
    """A controller with the shipped rights, those for further engines and for Nomad variables included."""
    return World(stack, vault_rights=ENGINES, nomad_rights=VARIABLES, **own)


def mounted(stack: Stack, kind: str, **options: Any) -> None:
    """An engine at its usual mount."""
    if f"{kind}/" not in stack.openbao.api.get("/v1/sys/mounts").expect().json()["data"]:
        stack.openbao.api.put(f"/v1/sys/mounts/{kind}", {"type": kind, **options}).expect(200, 204)


def vault(stack: Stack, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write to Vault; the answer's data."""
    answer = stack.openbao.api.put(f"/v1/{path}", body or {}).expect(200, 204)
    found: dict[str, Any] = answer.json()["data"] if answer.status == 200 else {}
    return found


def manifest(name: str, *secrets: dict[str, Any], **spec: Any) -> dict[str, Any]:
    made = a_manifest(name, name, "none", **spec)
    made["spec"]["secrets"] = list(secrets)
    return made


def job(name: str, script: str, **changes: Any) -> dict[str, Any]:
    made = a_job(name, **changes)
    made["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", script]
    return made


def python(code: str) -> str:
    """A shell command that runs a line of Python."""
    assert "'" not in code
    return f"{sys.executable} -c '{code}'"


REPORT = "{ %s; } > local/new 2>&1; mv local/new local/seen; exec sleep 3600"


@pytest.mark.parametrize("how", ["File", "Env"])
def test_a_task_encrypts_and_decrypts_with_the_token_that_it_gets_and_may_do_nothing_else(
    stack: Stack, unique: str, how: str
) -> None:
    world = controlled(stack)
    mounted(stack, "transit")
    vault(stack, f"transit/keys/{unique}")
    vault(stack, f"transit/keys/other-{unique}")
    token = 'open("secrets/vault_token").read()' if how == "File" else 'os.environ["VAULT_TOKEN"]'
    code = (
        "import json, os, urllib.request as u, urllib.error as e\n"
        f"token = {token}\n"
        "def call(path, **body):\n"
        '    url = os.environ["VAULT_ADDR"] + "/v1/transit/" + path\n'
        '    asked = u.Request(url, json.dumps(body).encode(), {"X-Vault-Token": token}, method="POST")\n'
        "    try:\n"
        '        return json.load(u.urlopen(asked))["data"]\n'
        "    except e.HTTPError as error:\n"
        "        return error.code\n"
        f'made = call("encrypt/{unique}", plaintext="aGVsbG8=")["ciphertext"]\n'
        f'back = call("decrypt/{unique}", ciphertext=made)["plaintext"]\n'
        f'print(made[:9], back, call("rewrap/{unique}", ciphertext=made), '
        f'call("encrypt/other-{unique}", plaintext="aGVsbG8="))'
    )
    world.register(job(unique, REPORT % python(code)))
    key = {"mount": "transit", "key": unique, "operations": ["Encrypt", "Decrypt"], "token": how}
    secret = {"name": "key", "transit": key}
    env = {"VAULT_ADDR": stack.openbao.address}
    with world.running():
        world.bind(manifest(unique, secret, workload={"env": env}))
        world.await_reason(unique, Reason.READY)
        wait_until("it reports", lambda: world.seen(unique) == ["vault:v1: aGVsbG8= 403 403"])
        task = world.job(unique)["TaskGroups"][0]["Tasks"][0]
        assert task["Vault"]["AllowTokenExpiration"] is False
        world.unbind(unique)
        wait_until("it is given back", lambda: not world.job(unique)["TaskGroups"][0]["Tasks"][0].get("Templates"))
        assert world.job(unique)["TaskGroups"][0]["Tasks"][0].get("Identities") in (None, [])
        wait_until("nothing is left", lambda: world.policies(having=unique) == world.roles(having=unique) == [])


def test_a_key_that_cannot_do_what_is_asked_of_it_is_refused_before_anything_is_rolled(
    stack: Stack, unique: str
) -> None:
    world = controlled(stack)
    mounted(stack, "transit")
    vault(stack, f"transit/keys/{unique}")
    world.register(a_job(unique))
    secret = {"name": "key", "transit": {"mount": "transit", "key": unique, "operations": ["Encrypt", "Sign"]}}
    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.SECRET_UNREADABLE)
        assert "does not allow Sign" in world.message(unique)
        assert world.job(unique)["Version"] == 0


@pytest.fixture
def ssh(stack: Stack, unique: str) -> str:
    """An SSH engine with a role for certificates and one for passwords."""
    mounted(stack, "ssh")
    if stack.openbao.api.get("/v1/ssh/config/ca").status != 200:
        vault(stack, "ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
    certificate = {"key_type": "ca", "allow_user_certificates": True, "allowed_users": "*", "default_user": "deploy"}
    vault(stack, f"ssh/roles/{unique}", {**certificate, "ttl": "1h"})
    vault(stack, f"ssh/roles/{unique}-otp", {"key_type": "otp", "default_user": "deploy", "cidr_list": "10.0.0.0/8"})
    return unique


def test_a_task_gets_a_key_with_its_certificate_and_another_one_when_somebody_asks(stack: Stack, ssh: str) -> None:
    world = controlled(stack)
    show = "ssh-keygen -Lf secrets/id-cert.pub | grep -A1 Principals: | tail -1; head -1 secrets/id"
    world.register(job(ssh, REPORT % f"{show}; cut -c1-200 secrets/id-cert.pub"))
    files = [
        {"destination": "id", "perms": "0600"},
        {"destination": "secrets/id-cert.pub", "template": "{{ .Data.signed_key }}"},
    ]
    key = {"mount": "ssh", "role": ssh, "keyType": "ed25519", "validPrincipals": ["app"]}
    with world.running():
        world.bind(manifest(ssh, {"name": "key", "ssh": key, "files": files}))
        world.await_reason(ssh, Reason.READY)
        wait_until("it has a key", lambda: "OPENSSH PRIVATE KEY" in "".join(world.seen(ssh)))
        before = world.seen(ssh)
        assert "ssh-ed25519-cert-v01@openssh.com" in before[0]
        templates = world.job(ssh)["TaskGroups"][0]["Tasks"][0]["Templates"]
        assert [one["Once"] for one in templates] == [True, True], "Nomad would issue another key every few minutes"
        world.request_rotation(ssh, datetime.now(UTC).isoformat())
        wait_until("it has another", lambda: len(world.seen(ssh)) == 1 and world.seen(ssh) != before)


def test_a_task_gets_a_certificate_for_a_key_that_is_there_or_a_password(stack: Stack, ssh: str) -> None:
    world = controlled(stack)
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzS+8pq6y1lX5C1b2bq3kqLr9n5nq2n5m7p3G7Yk7sP me@host"
    world.register(job(ssh, REPORT % 'cut -c1-32 secrets/cert; echo "$USER_OF $PASS"'))
    signed = {"mount": "ssh", "role": ssh, "type": "Sign", "publicKey": public, "ttl": "10m"}
    password = {"mount": "ssh", "role": f"{ssh}-otp", "type": "OneTimePassword", "ip": "10.1.2.3"}
    with world.running():
        world.bind(
            manifest(
                ssh,
                {"name": "cert", "ssh": signed, "files": [{"destination": "cert"}]},
                {"name": "pass", "ssh": password, "env": {"PASS": "key", "USER_OF": "username"}},
            )
        )
        world.await_reason(ssh, Reason.READY)
        wait_until("it reports", lambda: bool(world.seen(ssh)))
        lines = world.seen(ssh)[0].split("\n")
        assert lines[0] == "ssh-ed25519-cert-v01@openssh.com"
        user, _, given = lines[1].partition(" ")
        assert user == "deploy"
        assert vault(stack, "ssh/verify", {"otp": given})["ip"] == "10.1.2.3"


def test_a_secret_of_kv_version_1_reaches_the_task_by_a_name_of_its_fields_choosing(stack: Stack, unique: str) -> None:
    world = controlled(stack)
    mounted(stack, "kv", options={"version": "1"})
    vault(stack, f"kv/{unique}", {"username": "app", "password": "it's"})
    world.register(job(unique, REPORT % '. secrets/env.sh; echo "$DB_USER $DB_PASS $PASS"'))
    shell = {"destination": "env.sh", "format": "Shell", "fields": {"DB_USER": "username", "DB_PASS": "password"}}
    secret = {"name": "app", "kv": {"mount": "kv", "path": unique}, "env": {"PASS": "password"}, "files": [shell]}
    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.READY)
        wait_until("it reports", lambda: world.seen(unique) == ["app it's it's"])
        assert f'"kv/{unique}"' in world.policy(world.policies(having=unique)[0])


def put_variable(world: World, path: str, **items: str) -> None:
    world.api.put(f"/v1/var/{path}", {"Namespace": NAMESPACE, "Path": path, "Items": items}).expect()


def test_values_of_a_nomad_variable_roll_the_job_when_they_change_and_need_no_vault(stack: Stack, unique: str) -> None:
    world = controlled(stack)
    path = f"nomad/jobs/{unique}"
    put_variable(world, path, password="first", **{"a-b": "x"})
    world.register(job(unique, REPORT % 'echo "$PASS $DASHED"; cat secrets/app.json', count=2))
    secret = {
        "name": "var",
        "nomadVariable": {"path": path},
        "env": {"PASS": "password", "DASHED": "a-b"},
        "files": [{"destination": "app.json"}],
    }
    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.READY)
        first = 'first x\n{"a-b":"x","password":"first"}'
        wait_until("both report", lambda: world.seen(unique) == [first] * 2)
        task = world.job(unique)["TaskGroups"][0]["Tasks"][0]
        assert not task.get("Vault")
        assert world.roles(having=unique) == []
        before = world.job(unique)["Version"]
        put_variable(world, path, password="second", **{"a-b": "y"})
        second = 'second y\n{"a-b":"y","password":"second"}'
        wait_until("both report anew", lambda: world.seen(unique) == [second] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert world.job(unique)["Version"] == before + 1
        world.unbind(unique)
        wait_until("it is given back", lambda: not world.job(unique)["TaskGroups"][0]["Tasks"][0].get("Templates"))
        wait_until("nothing is left", lambda: world.policies(having=unique) == [])


def test_with_strategy_native_nomad_itself_brings_a_changed_variable_to_the_task(stack: Stack, unique: str) -> None:
    world = controlled(stack)
    path = f"nomad/jobs/{unique}"
    put_variable(world, path, password="first")
    world.register(job(unique, REPORT % 'echo "$PASS"'))
    secret = {"name": "var", "nomadVariable": {"path": path}, "env": {"PASS": "password"}, "splay": "0s"}
    with world.running():
        world.bind(manifest(unique, secret, rotation={"strategy": "Native"}))
        world.await_reason(unique, Reason.READY)
        wait_until("it reports", lambda: world.seen(unique) == ["first"])
        before = world.job(unique)["Version"]
        put_variable(world, path, password="second")
        wait_until("it reports anew", lambda: world.seen(unique) == ["second"])
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert world.job(unique)["Version"] == before


def test_a_variable_that_is_not_there_is_waited_for_with_a_reason(stack: Stack, unique: str) -> None:
    world = controlled(stack)
    world.register(job(unique, REPORT % 'echo "$PASS"'))
    secret = {"name": "var", "nomadVariable": {"path": f"nomad/jobs/{unique}"}, "env": {"PASS": "password"}}
    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.SECRET_NOT_FOUND)
        assert world.job(unique)["Version"] == 0
        put_variable(world, f"nomad/jobs/{unique}", password="now")
        wait_until("it reports", lambda: world.seen(unique) == ["now"])


def test_every_field_becomes_a_variable_and_a_new_field_comes_with_its_version(stack: Stack, unique: str) -> None:
    world = controlled(stack)
    world.secret(unique, username="app", password="first")
    world.register(job(unique, REPORT % 'env | grep ^DB_ | sort | tr "\\n" " "'))
    secret = {
        "name": "app",
        "kv": {"mount": "secret", "path": unique},
        "envFrom": {"prefix": "DB_", "upperCase": True},
    }
    with world.running():
        world.bind(manifest(unique, secret))
        wait_until("it reports", lambda: world.seen(unique) == ["DB_PASSWORD=first DB_USERNAME=app"])
        world.secret(unique, username="app", password="second", host="db1")
        wait_until("it reports", lambda: world.seen(unique) == ["DB_HOST=db1 DB_PASSWORD=second DB_USERNAME=app"])
        world.secret(unique, username="app", password="third", **{"not a name": "x"})
        world.await_reason(unique, Reason.SECRET_UNREADABLE, ConditionType.ROTATION_HEALTHY)
        assert "not a name" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        assert world.seen(unique) == ["DB_HOST=db1 DB_PASSWORD=second DB_USERNAME=app"]
