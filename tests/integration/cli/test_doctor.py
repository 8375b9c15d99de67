"""`doctor` on a real OpenBao and on both Nomads: silent on a pair that is well, and loud about what is broken there."""

import http.server
import json
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from secretbinding.devstack.nomad_agent import NomadAgent, find_nomad
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import Reason
from secretbinding.ops.doctor.checks import CHECKS
from tests.support.commandline import CommandLine, Ran
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

_KINDS = (pytest.param("simulator"), pytest.param("nomad", marks=pytest.mark.real_nomad))
_AUDIT = 'audit "file" "log" {\n  options {\n    file_path = "discard"\n  }\n}\n'


@contextmanager
def pair(kind: str, directory: Path) -> Iterator[Stack]:
    """A Nomad with ACLs and an OpenBao with an audit device, of one's own."""
    if kind == "nomad" and find_nomad() is None:
        pytest.skip("no `nomad` on PATH: what is tested on the simulator is not compared with a real Nomad")
    made = NomadAgent if kind == "nomad" else Simulator
    with (
        OpenBao(directory / "openbao", configuration=_AUDIT) as vault,
        made(directory / "nomad", vault_address=vault.address, acl=True) as server,
    ):
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


@pytest.fixture(scope="module", params=_KINDS)
def well(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pair(request.param, tmp_path_factory.mktemp("pair")) as stack:
        yield stack


@dataclass(frozen=True, slots=True)
class Doctor:
    """Runs `doctor` for an instance of its own that was set up by `bootstrap`, with the controller's tokens judged."""

    cli: CommandLine
    stack: Stack
    instance: str
    credentials: Path

    def __call__(self, *arguments: str) -> dict[str, Any]:
        ran = self.run(*arguments, "-o", "json")
        assert ran.out, ran.err
        report: dict[str, Any] = json.loads(ran.out)
        worst = report["summary"]["errors"], report["summary"]["warnings"]
        denied = any(one["denied"] for check in report["checks"] for one in check["notMade"])
        assert ran.code == (1 if worst[0] else 2 if worst[1] or denied else 0)
        return report

    def run(self, *arguments: str) -> Ran:
        judged = [f"--controller-{side}-token-file" for side in ("vault", "nomad")]
        files = [str(self.credentials / f"{side}-token") for side in ("vault", "nomad")]
        return self.cli("doctor", judged[0], files[0], judged[1], files[1], *arguments)

    def world(self) -> World:
        tokens = {f"{side}_token": (self.credentials / f"{side}-token").read_text() for side in ("vault", "nomad")}
        return World(self.stack, instance=self.instance, **tokens)


@pytest.fixture
def doctor(cli: CommandLine, well: Stack, unique: str, tmp_path: Path) -> Doctor:
    instance = unique[:20].rstrip("-")
    cli.use(well, SECRETBINDING_INSTANCE=instance)
    made = cli("bootstrap", "--credentials", str(tmp_path / "credentials"))
    assert made.code == 0, made.err
    return Doctor(cli, well, instance, tmp_path / "credentials")


def found(report: dict[str, Any], name: str) -> list[str]:
    """What one check found, as `severity: subject: message`."""
    (check,) = [one for one in report["checks"] if one["name"] == name]
    return [f"{one['severity']}: {one['subject']}: {one['message']}" for one in check["findings"]]


def faults(report: dict[str, Any]) -> dict[str, list[str]]:
    """The checks that found more than a note."""
    worse = {check["name"]: found(report, check["name"]) for check in report["checks"]}
    return {name: texts for name, texts in worse.items() if any(not text.startswith("info") for text in texts)}


def not_made(report: dict[str, Any]) -> set[str]:
    return {check["name"] for check in report["checks"] if check["notMade"]}


def bound(world: World, name: str) -> None:
    """A job with a secret, put there by the controller."""
    world.secret(name, username="app", password="one")
    world.register(a_job(name))
    world.bind(a_manifest(name, name, name))
    world.await_reason(name, Reason.READY)


def test_a_pair_that_was_set_up_and_is_used_is_well(doctor: Doctor, unique: str) -> None:
    world = doctor.world()
    with world.running():
        bound(world, unique)
        report = doctor("--source", "nomad")
        assert faults(report) == {}
        assert not_made(report) == set()
        assert report["summary"]["ok"] >= len(CHECKS) - 1
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)


def test_before_the_first_binding_nothing_is_wrong_either(doctor: Doctor) -> None:
    report = doctor()
    assert faults(report) == {}
    assert "jwt-keys-reachable" in not_made(report)
    assert "binding-job" in not_made(report)


def test_what_bindings_lack_is_found(doctor: Doctor, unique: str, tmp_path: Path) -> None:
    doctor.stack.openbao.put_secret(unique, {"username": "app"})
    doctor.stack.api.put("/v1/jobs", {"Job": {**a_job(unique, count=0), "Type": "service"}}).expect()
    manifests = [
        a_manifest("one", unique, unique),
        a_manifest("two", f"{unique}-none", f"{unique}-none"),
        a_manifest("three", unique, "x", env={"A": "a"}, secrets=None),
    ]
    manifests[2]["spec"]["secrets"] = [{"name": "app", "kv": {"mount": "nowhere", "path": "x"}, "env": {"A": "a"}}]
    path = tmp_path / "bindings.json"
    path.write_text("\n---\n".join(json.dumps(one) for one in manifests))
    report = doctor("-f", str(path))
    secrets = found(report, "binding-secret")
    assert len([text for text in secrets if "no field password" in text]) == 1
    assert len([text for text in secrets if f"no secret at secret/{unique}-none" in text]) == 1
    assert len([text for text in secrets if "no secrets engine is mounted at nowhere" in text]) == 1
    assert found(report, "binding-job") == [
        f"warning: binding default/two: Nomad has no job {unique}-none in namespace default"
    ]


def test_a_manifest_that_is_not_valid_is_a_finding_and_the_others_are_examined(
    doctor: Doctor, unique: str, tmp_path: Path
) -> None:
    doctor.stack.openbao.put_secret(unique, {"username": "app"})
    good, bad = a_manifest("good", unique, unique), a_manifest("bad", unique, unique, env={"PATH": "username"})
    (tmp_path / "some.yaml").write_text(yaml.safe_dump_all([good, bad]))
    (tmp_path / "torn.yaml").write_text("kind: [SecretBinding\n")
    report = doctor("-f", str(tmp_path))
    (check,) = [one for one in report["checks"] if one["name"] == "binding-invalid"]
    invalid = check["findings"]
    assert [one["subject"] for one in invalid] == ["binding default/bad", f"binding default/{tmp_path}/torn.yaml"]
    assert re.fullmatch(rf"{tmp_path}/some\.yaml:\d+:\d+, spec\.secrets\[0\]\.env\.PATH", invalid[0]["evidence"])
    assert "choose another name" in invalid[0]["remedy"]
    assert [text for text in found(report, "binding-secret") if "default/good" in text]
    again = "\n---\n".join([yaml.safe_dump(good)] * 2)
    (tmp_path / "torn.yaml").write_text(again)
    report = doctor("-f", str(tmp_path))
    assert any("given twice" in text for text in found(report, "binding-invalid"))
    ran = doctor.run("-f", str(tmp_path / "none"))
    assert (ran.code, ran.out) == (1, "")
    assert "cannot be read" in ran.err


def test_leftovers_are_found_once_the_source_proves_that_their_binding_is_gone(doctor: Doctor, unique: str) -> None:
    world = doctor.world()
    with world.running():
        bound(world, unique)
    world.unbind(unique)
    (policy,) = world.policies(doctor.instance)
    assert found(doctor("--source", "nomad"), "orphaned-policy") == [
        f"warning: policy {policy}: its binding default/{unique} (nomad) does not exist any more"
    ]
    # Without a source nobody can tell.
    assert "orphaned-policy" in not_made(doctor())
    doctor.stack.api.delete(f"/v1/job/{unique}", purge="true")
    assert len(found(doctor(), "orphaned-job")) == 1
    doctor.stack.openbao.api.delete(f"/v1/sys/policies/acl/{policy}").expect(204)
    (role,) = world.roles(doctor.instance)
    assert found(doctor(), "orphaned-role") == [
        f"warning: role {role}: no policy of ours names it: what it was made for is gone"
    ]
    doctor.stack.openbao.api.delete(f"/v1/auth/jwt-nomad/role/{role}").expect(204)


def test_a_binding_that_has_a_role_made_is_well_once_it_is_applied_and_its_role_is_missed(
    doctor: Doctor, cli: CommandLine, unique: str, tmp_path: Path
) -> None:
    api, mount = doctor.stack.openbao.api, f"pki-{unique}"
    api.put(f"/v1/sys/mounts/{mount}", {"type": "pki"}).expect(204)
    root = {"common_name": "example.test", "key_type": "ec"}
    api.put(f"/v1/{mount}/root/generate/internal", root).expect(200)
    made = a_manifest(unique, unique, "none")
    create = {"allowedDomains": ["example.test"], "allowSubdomains": True, "maxTTL": "72h", "keyType": "ec"}
    pki = {"mount": mount, "commonName": "a.example.test", "ttl": "24h", "create": create}
    made["spec"]["secrets"] = [{"name": "tls", "pki": pki, "files": [{"destination": "tls.pem"}]}]
    path = tmp_path / "binding.yaml"
    path.write_text(yaml.safe_dump(made))
    doctor.stack.api.put("/v1/jobs", {"Job": a_job(unique)}).expect()
    about = ("binding-secret", "policy-excess", "orphaned-engine-role")
    assert [found(doctor("-f", str(path)), name) for name in about] == [[], [], []]
    applied = cli("apply", "-f", str(path), "--timeout", "60s")
    assert applied.code == 0, applied.err
    assert [found(doctor("-f", str(path)), name) for name in about] == [[], [], []]
    (role,) = api.request("LIST", f"/v1/{mount}/roles").expect().json()["data"]["keys"]
    api.delete(f"/v1/{mount}/roles/{role}").expect(204)
    (text,) = found(doctor("-f", str(path)), "orphaned-engine-role")
    assert f"the engine role {mount}/roles/{role} that its binding has made is not there" in text
    deleted = cli("delete", "-f", str(path), "--timeout", "60s")
    assert deleted.code == 0, deleted.err


def test_a_role_in_an_engine_that_no_policy_tells_of_is_found(doctor: Doctor) -> None:
    api, name = doctor.stack.openbao.api, f"nsb.{doctor.instance}.app-tls.abc"
    mount = f"pki-{doctor.instance}"
    api.put(f"/v1/sys/mounts/{mount}", {"type": "pki"}).expect(204)
    for role in (name, "somebody-elses"):
        api.put(f"/v1/{mount}/roles/{role}", {"allow_any_name": True}).expect(200, 204)
    (text,) = found(doctor(), "orphaned-engine-role")
    assert text.startswith(f"warning: engine role {mount}/roles/{name}: no policy of ours names it")
    api.delete(f"/v1/{mount}/roles/{name}").expect(204)
    assert found(doctor(), "orphaned-engine-role") == []


def test_a_policy_that_somebody_widened_is_found(doctor: Doctor, unique: str) -> None:
    world = doctor.world()
    with world.running():
        bound(world, unique)
    (policy,) = world.policies(doctor.instance)
    wider = world.policy(policy) + 'path "secret/*" {\n  capabilities = ["read"]\n}\n'
    doctor.stack.openbao.put_policy(policy, wider)
    report = doctor("--source", "nomad")
    assert "somebody has edited it" in found(report, "policy-altered")[0]
    assert "read on secret/*" in found(report, "policy-wildcard")[0]
    with world.running():
        wait_until("it is put back", lambda: "secret/*" not in world.policy(policy))
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)


def test_a_version_that_is_gone_under_a_running_job_is_found(doctor: Doctor, unique: str) -> None:
    world = doctor.world()
    with world.running():
        bound(world, unique)
    doctor.stack.openbao.api.put(f"/v1/secret/destroy/{unique}", {"versions": [1]}).expect(204)
    report = doctor("--source", "nomad")
    assert "the job reads version 1, which is gone" in found(report, "pinned-version")[0]
    world.secret(unique, username="app", password="two")
    with world.running():
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)


def test_literal_secrets_are_found_in_jobs_and_in_job_files(doctor: Doctor, unique: str, tmp_path: Path) -> None:
    job = a_job(unique, count=0)
    job["TaskGroups"][0]["Tasks"][0]["Env"] = {"DB_PASSWORD": "hunter2-canary", "PORT": "80"}
    doctor.stack.api.put("/v1/jobs", {"Job": job}).expect()
    file = tmp_path / "job.nomad.hcl"
    file.write_text(
        'job "other" {\n  group "g" {\n    task "t" {\n      driver = "raw_exec"\n      config { command = "x" }\n'
        '      env { API_KEY = "canary-0123" }\n    }\n  }\n}\n'
    )
    ran = doctor.run("--job-file", str(file))
    assert f"job default/{unique}, task app/web\n  DB_PASSWORD looks like a literal secret" in ran.out
    assert f"{file}: job other, task g/t\n  API_KEY looks like a literal secret" in ran.out
    assert "canary" not in ran.out + ran.err
    doctor.stack.api.delete(f"/v1/job/{unique}", purge="true")


def test_with_the_controllers_own_token_it_says_what_it_may_not_look_at(
    doctor: Doctor, cli: CommandLine, unique: str
) -> None:
    cli.setenv(
        VAULT_TOKEN=(doctor.credentials / "vault-token").read_text(),
        NOMAD_TOKEN=(doctor.credentials / "nomad-token").read_text(),
    )
    report = json.loads(cli("doctor", "-o", "json").out)
    assert faults(report) == {}
    denied = {check["name"] for check in report["checks"] if any(one["denied"] for one in check["notMade"])}
    assert {"audit-missing", "jwt-mount", "jwt-audience", "nodes-without-vault", "vault-block"} <= denied
    assert not {"vault-token", "vault-rights", "vault-excess", "nomad-token", "nomad-rights", "nomad-excess"} & denied
    ran = cli("doctor")
    assert ran.code == 2
    assert 'add `node { policy = "read" }` to its policy' in ran.out
    assert 'add `path "sys/audit" { capabilities = ["read", "sudo"] }` to its policy' in ran.out


def test_your_own_tokens_are_not_taken_for_the_controllers_unless_you_say_so(
    doctor: Doctor, cli: CommandLine, well: Stack, tmp_path: Path
) -> None:
    ran = cli("doctor")
    assert ran.code == 0, ran.out
    assert "NOT MADE vault-token, vault-rights, vault-excess" in ran.out
    assert "NOT MADE nomad-token, nomad-rights, nomad-excess" in ran.out
    (tmp_path / "vault").write_text(well.openbao.root_token)
    (tmp_path / "nomad").write_text(well.token)
    named = ["--controller-vault-token-file", str(tmp_path / "vault")]
    named += ["--controller-nomad-token-file", str(tmp_path / "nomad")]
    ran = cli("doctor", *named)
    assert ran.code == 2
    assert "it is a root token: the controller must not run with it" in ran.out
    assert "it is a management token: the controller must not run with it" in ran.out


def test_an_app_role_of_our_name_that_nobody_has_asked_for_is_named(doctor: Doctor, well: Stack) -> None:
    api, ghost = well.openbao.api, f"nsb.{doctor.instance}.ghost"
    api.put("/v1/sys/auth/approle-nomad", {"type": "approle"}).expect(200, 204)
    try:
        api.put(f"/v1/auth/approle-nomad/role/{ghost}", {"token_policies": ["root"]}).expect(200, 204)
        found = faults(doctor())
        assert "it grants root" in found["orphaned-approle"][0]
        assert "orphaned-role" not in found
    finally:
        api.delete("/v1/sys/auth/approle-nomad")


def test_rights_that_are_missing_or_too_many_are_named(doctor: Doctor, well: Stack, unique: str) -> None:
    name = f"secretbinding-{doctor.instance}"
    text = well.openbao.api.get(f"/v1/sys/policies/acl/{name}").json()["data"]["policy"]
    narrow = text.replace(f'path "auth/jwt-nomad/role/nsb.{doctor.instance}.*"', 'path "nothing"')
    well.openbao.put_policy(name, narrow + 'path "secret/data/*" {\n  capabilities = ["read"]\n}\n')
    rules = well.api.get(f"/v1/acl/policy/{name}").json()["Rules"]
    more = rules.replace('"submit-job",', '"alloc-exec",')
    well.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": more}).expect()
    # Nomad keeps what it knows of a token for half a minute, but tells its policies as they are.
    report = faults(doctor())
    assert (
        f"it may not create, read, update, delete auth/jwt-nomad/role/nsb.{doctor.instance}.*"
        in report["vault-rights"][0]
    )
    assert "it could read secret values" in report["vault-excess"][0]
    assert "it lacks submit-job in namespace *" in report["nomad-rights"][0]
    assert "it also has alloc-exec" in report["nomad-excess"][0]


def test_another_nomads_keys_and_another_mount_are_found(
    cli: CommandLine, well: Stack, simulator: Stack, unique: str, tmp_path: Path
) -> None:
    instance = unique[:20].rstrip("-")
    cli.use(well, SECRETBINDING_INSTANCE=instance, SECRETBINDING_JWT_MOUNT=f"jwt-{unique}")
    made = cli("bootstrap", "--jwks-url", f"{simulator.address}/.well-known/jwks.json")
    assert made.code == 0, made.err
    report = json.loads(cli("doctor", "-o", "json").out)
    assert "it trusts the keys of another Nomad" in found(report, "jwt-keys-match")[0]
    assert (
        f"tasks log in at jwt-nomad, and the controller makes its roles at jwt-{unique}"
        in found(report, "vault-block")[0]
    )


def test_a_mount_that_is_not_there_is_found(doctor: Doctor, cli: CommandLine) -> None:
    cli.setenv(SECRETBINDING_JWT_MOUNT="elsewhere")
    report = json.loads(cli("doctor", "-o", "json").out)
    assert found(report, "jwt-mount") == [
        "error: auth mount elsewhere: Vault has no such auth method, so no task can log in"
    ]


@pytest.mark.parametrize("kind", _KINDS)
def test_keys_that_vault_cannot_fetch_and_servers_that_are_away_are_found(
    cli: CommandLine, kind: str, tmp_path: Path, unique: str
) -> None:
    with pair(kind, tmp_path) as stack:
        cli.use(stack)
        assert cli("bootstrap").code == 0
        stack.openbao.put_jwt_role("some", {"token_policies": ["x"]})
        assert found(json.loads(cli("doctor", "-o", "json").out), "jwt-keys-reachable") == []
        # From where Vault looks for them, nobody answers any more.
        with Simulator(tmp_path / "gone", vault_address=stack.openbao.address) as gone:
            stack.openbao.enable_jwt(gone.address)
        report = json.loads(cli("doctor", "-o", "json").out)
        (text,) = found(report, "jwt-keys-reachable")
        assert f"Vault cannot fetch Nomad's signing keys from {gone.address}/.well-known/jwks.json" in text
        stack.openbao.api.put("/v1/sys/seal").expect(204)
        report = json.loads(cli("doctor", "-o", "json").out)
        assert found(report, "vault-sealed") == [f"error: Vault at {stack.openbao.address}: it is sealed"]
        assert set(faults(report)) <= {"vault-sealed", "nomad-token", "nomad-acl"}
    ran = cli("doctor", "-o", "json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert {"vault-reachable", "nomad-reachable"} <= set(faults(report))
    assert {"vault-sealed", "nomad-leader", "jwt-mount", "vault-rights", "nomad-rights"} <= not_made(report)


def test_an_openbao_without_an_audit_device_and_a_nomad_without_acls_are_told(
    cli: CommandLine, open_stack: Stack
) -> None:
    cli.use(open_stack)
    report = json.loads(cli("doctor", "-o", "json").out)
    (audit,) = [one for one in report["checks"] if one["name"] == "audit-missing"]
    assert 'audit "file" "log"' in audit["findings"][0]["remedy"]
    assert found(report, "nomad-acl")[0].startswith("warning")


def test_metadata_that_the_asking_token_may_not_read_is_no_fault_of_the_binding(
    doctor: Doctor, cli: CommandLine, well: Stack, unique: str, tmp_path: Path
) -> None:
    well.openbao.put_policy(unique, 'path "sys/auth" { capabilities = ["read"] }')
    body = {"policies": [unique], "no_default_policy": True}
    token = well.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"]
    cli.setenv(VAULT_TOKEN=token)
    path = tmp_path / "binding.json"
    path.write_text(json.dumps(a_manifest("one", unique, unique)))
    (check,) = [one for one in doctor("-f", str(path))["checks"] if one["name"] == "binding-secret"]
    assert (check["findings"], check["notMade"][0]["denied"]) == ([], True)
    assert f"secret/metadata/{unique}" in check["notMade"][0]["why"]


def test_an_empty_list_of_bindings_proves_nothing_without_the_right_to_read_them(
    doctor: Doctor, cli: CommandLine, well: Stack, unique: str
) -> None:
    well.api.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": 'node { policy = "read" }'}).expect()
    body = {"Name": unique, "Type": "client", "Policies": [unique]}
    cli.setenv(NOMAD_TOKEN=well.api.put("/v1/acl/token", body).expect().json()["SecretID"])
    report = json.loads(cli("doctor", "--source", "nomad", "-o", "json").out)
    (check,) = [one for one in report["checks"] if one["name"] == "binding-job"]
    assert (check["result"], check["notMade"][0]["denied"]) == ("not made", True)
    assert "literal-secret" in not_made(report)


def test_yaml_and_skipped_checks(doctor: Doctor) -> None:
    ran = doctor.run("-o", "yaml", "--skip", "default-identity", "--skip", "literal-secret")
    assert ran.out.startswith("summary:\n")
    assert "name: default-identity" not in ran.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--skip", "nothing"], "no check is named 'nothing'; use one of vault-reachable, "),
        (["-f", "x", "--source", "nomad"], "-f goes with --source files"),
        (["--source", "files"], "-f goes with --source files"),
        (["-f", "/no/such/file"], "cannot be read"),
        (["--job-file", "/no/such/file"], "cannot be read"),
        (["--controller-vault-token-file", "/no/such/file"], "cannot be read"),
        (["--older-than-days", "0"], "greater than or equal to 1"),
        (["-o", "wide"], "is not one of"),
    ],
)
def test_a_wrong_command_line_ends_with_1(cli: CommandLine, stack: Stack, arguments: list[str], told: str) -> None:
    cli.use(stack)
    ran = cli("doctor", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert told in ran.err


@contextmanager
def behind_tls(address: str) -> Iterator[tuple[str, trustme.CA]]:
    """Something that speaks TLS with a certificate of an authority that nobody knows, and answers as Vault's health."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with urllib.request.urlopen(f"{address}{self.path}") as answer:
                body = answer.read()
            self.send_response_only(200)
            # An hour late.
            self.send_header("Date", formatdate(time.time() - 3600, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", authority
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_not_trusted_and_a_clock_that_is_late_are_found(
    cli: CommandLine, simulator: Stack, tmp_path: Path
) -> None:
    cli.use(simulator)
    with behind_tls(simulator.openbao.address) as (address, authority):
        cli.setenv(VAULT_ADDR=address)
        report = json.loads(cli("doctor", "-o", "json").out)
        (check,) = [one for one in report["checks"] if one["name"] == "vault-reachable"]
        assert "its TLS certificate is not trusted" in check["findings"][0]["message"]
        assert "set VAULT_CACERT" in check["findings"][0]["remedy"]
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        cli.setenv(VAULT_CACERT=str(tmp_path / "ca.pem"))
        report = json.loads(cli("doctor", "-o", "json").out)
        assert found(report, "vault-reachable") == []
        skew = found(report, "clock-skew")
        assert [text.split(": ")[1] for text in skew] == [
            "the clocks of this machine and Vault",
            "the clocks of Vault and Nomad",
        ]
        assert all(text.startswith("error") for text in skew)
