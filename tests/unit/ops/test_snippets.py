"""What `bootstrap` prints to be pasted: the right texts for each way to log in, well formed, without a secret."""

import re
import subprocess
from pathlib import PurePath
from typing import Any

import pytest
import yaml

from secretbinding.devstack.simulator.hcl import parse_hcl, parse_job
from secretbinding.models.policy_loading import parse_policies
from secretbinding.ops.bootstrap.chart import image
from secretbinding.ops.bootstrap.controller_job import Driver
from secretbinding.ops.bootstrap.pasting import Snippet, Surroundings
from secretbinding.ops.bootstrap.snippets import client_block, job, older_block, server_block, show, snippets
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.product import Product
from secretbinding.ops.rights import Scope

AROUND = Surroundings("https://vault:8200", "https://nomad:4646", credentials=PurePath("/run/keys of mine"))


def target(**changes: Any) -> Target:
    return Target(**{"jwks_url": "http://nomad/keys", **changes})


def around(**changes: Any) -> Surroundings:
    return Surroundings(**{"vault_address": "https://vault:8200", "nomad_address": "https://nomad:4646", **changes})


def named(texts: tuple[Snippet, ...], part: str) -> Snippet:
    return next(one for one in texts if part in one.title)


def test_the_clients_block_has_the_workload_identity_form() -> None:
    assert client_block(target(), AROUND) == (
        "vault {\n"
        "  enabled               = true\n"
        '  address               = "https://vault:8200"\n'
        '  jwt_auth_backend_path = "jwt-nomad"\n'
        "}\n"
    )


def test_who_cannot_look_vault_up_gets_its_name_and_the_controller_what_it_was_given() -> None:
    looked_up = "consul+http://127.0.0.1:8500/vault?tag=active"
    found = around(vault_address="https://vault.service.consul:8200", lookup=looked_up)
    assert '"https://vault.service.consul:8200"' in client_block(target(), found)
    environment = re.findall(r'(\w+) += "(.*)"', job(target(login=Login.NOMAD), found))
    assert ("VAULT_ADDR", looked_up) in environment


def test_namespace_ca_and_default_role_are_in_the_clients_block_where_there_are_any() -> None:
    text = client_block(
        target(default_role="nomad-workloads", scope=Scope(jwt_mount="n")),
        around(vault_namespace="team", vault_ca="/etc/ca.pem"),
    )
    assert dict(re.findall(r"(\w+) += (\S+)", text)) == {
        "enabled": "true",
        "address": '"https://vault:8200"',
        "jwt_auth_backend_path": '"n"',
        "namespace": '"team"',
        "ca_file": '"/etc/ca.pem"',
        "create_from_role": '"nomad-workloads"',
    }


def test_the_older_form_comes_with_the_version_from_which_it_is_gone() -> None:
    older = named(snippets(target(), AROUND), "older form")
    assert older.text == older_block(AROUND)
    assert 'token   = "<nomad-vault-token>"' in older.text
    assert "1.10.0" in older.notes[0]


@pytest.mark.parametrize("login", list(Login))
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_text_is_well_formed(login: Login, wrapped: bool) -> None:
    texts = snippets(target(login=login), around(credentials=PurePath("/run/keys of mine"), wrapped=wrapped))
    for one in texts:
        match one.language:
            case "hcl" if one.text.startswith("job "):
                assert parse_job(one.text)["ID"] == "secretbinding"
            case "hcl":
                assert parse_hcl(one.text).blocks
            case "yaml" if "kind: SecretBindingPolicy" in one.text:
                assert parse_policies(one.text)
            case "yaml":
                assert yaml.safe_load(one.text)["vault"]
            case _:
                subprocess.run(["/bin/sh", "-n"], input=one.text, text=True, check=True)


def test_a_pasted_part_may_keep_its_title_and_its_notes() -> None:
    for one in snippets(target(), AROUND):
        printed = show((one,))
        if one.language == "hcl":
            assert parse_hcl(printed).blocks
        elif one.language == "yaml":
            assert yaml.safe_load(printed)
    assert all(len(line) <= 102 for line in show(snippets(target(), AROUND)).splitlines() if line.startswith("# "))


def test_as_a_job_the_controller_logs_in_with_identities_in_files_that_nomad_writes() -> None:
    made = parse_job(job(target(login=Login.NOMAD, job="sb", job_namespace="ops"), AROUND))
    (task,) = made["TaskGroups"][0]["Tasks"]
    assert (made["Namespace"], made["ID"], task["Driver"]) == ("ops", "sb", "docker")
    assert "Vault" not in task, "it logs in by itself"
    assert {(one.get("Name", "default"), one["File"]) for one in task["Identities"]} == {
        ("vault", True),
        ("default", True),
    }
    assert task["Env"]["SECRETBINDING_VAULT_LOGIN"] == "nomad"
    assert task["Env"]["NOMAD_TOKEN_FILE"] == "${NOMAD_SECRETS_DIR}/nomad_token"


def test_a_namespace_for_the_job_is_made_before_it_and_the_default_one_is_there() -> None:
    texts = snippets(target(login=Login.NOMAD, job_namespace="ops"), AROUND)
    titles = [one.title for one in texts]
    made = named(texts, "namespace of the controller")
    assert made.text == "nomad namespace apply ops\n"
    assert titles.index(made.title) < titles.index("The controller as a Nomad job")
    assert not any("namespace" in one.title for one in snippets(target(login=Login.NOMAD), AROUND))


def test_without_acls_the_job_needs_no_token_for_nomad() -> None:
    text = job(target(login=Login.NOMAD, nomad_acl=False), AROUND)
    assert "NOMAD_TOKEN_FILE" not in text
    assert text.count("identity {") == 1


@pytest.mark.parametrize(("driver", "key"), [(Driver.DOCKER, "image"), (Driver.EXEC, "command")])
def test_the_job_runs_an_image_or_a_program(driver: Driver, key: str) -> None:
    assert re.search(rf"\n +{key} +=", job(target(login=Login.NOMAD), around(driver=driver)))


def test_the_controllers_own_deployments_are_gated_by_its_readiness_and_a_stuck_one_is_started_again() -> None:
    (group,) = parse_job(job(target(login=Login.NOMAD), AROUND))["TaskGroups"]
    assert (group["Count"], group["Update"]["HealthCheck"], group["Update"]["AutoRevert"]) == (1, "checks", True)
    checks = {check["Path"]: check for check in group["Services"][0]["Checks"]}
    assert set(checks) == {"/healthz", "/readyz"}
    assert checks["/healthz"]["CheckRestart"]["Limit"] == 3
    assert not checks["/readyz"].get("CheckRestart")


@pytest.mark.parametrize("driver", list(Driver))
def test_its_metrics_are_on_the_port_that_nomad_gives_it(driver: Driver) -> None:
    (group,) = parse_job(job(target(login=Login.NOMAD), around(driver=driver)))["TaskGroups"]
    (task,) = group["Tasks"]
    assert group["Services"][0]["PortLabel"] == group["Networks"][0]["DynamicPorts"][0]["Label"] == "metrics"
    assert "metrics}" in task["Env"]["SECRETBINDING_METRICS_ADDRESS"]
    assert task["Config"].get("ports") == (["metrics"] if driver is Driver.DOCKER else None)


def test_where_controllers_agree_by_locks_there_are_two_and_each_is_told() -> None:
    made = parse_job(job(target(login=Login.NOMAD, scope=Scope(election=True)), AROUND))
    assert made["TaskGroups"][0]["Count"] == 2
    assert made["TaskGroups"][0]["Tasks"][0]["Env"]["SECRETBINDING_ELECTION"] == "nomad"


def test_another_instance_or_mount_is_told_to_the_controller() -> None:
    scope = Scope(instance="blue", jwt_mount="n")
    text = named(snippets(target(scope=scope), AROUND), "on a host").text
    assert "export SECRETBINDING_INSTANCE=blue\n" in text
    assert "export SECRETBINDING_JWT_MOUNT=n\n" in text


def test_paths_with_spaces_are_quoted_for_the_shell() -> None:
    text = named(snippets(target(), AROUND), "on a host").text
    assert "export VAULT_TOKEN_FILE='/run/keys of mine/vault-token'\n" in text


def test_what_bootstrap_made_is_what_the_controller_logs_in_with() -> None:
    host = named(snippets(target(login=Login.APPROLE, approle_mount="roles"), around(wrapped=True)), "on a host").text
    assert dict(re.findall(r"export SECRETBINDING_VAULT_LOGIN(\w*)=(\S+)", host)) == {
        "": "approle",
        "_MOUNT": "roles",
        "_ROLE_ID_FILE": "/etc/secretbinding/role-id",
        "_SECRET_ID_FILE": "/etc/secretbinding/secret-id.wrapped",
        "_SECRET_ID_WRAPPED": "true",
    }


def test_a_command_in_a_note_stays_whole() -> None:
    shown = show(snippets(target(), AROUND)).splitlines()
    lines = [line.removeprefix("# ") for line in shown if line.startswith("# ")]
    command = "`nomad var put nomad-vault/policies/first-rule manifest=@rule.yaml`"
    assert any(command in line for line in lines)
    notes = " ".join(note for one in snippets(target(), AROUND) for note in one.notes)
    for found in re.findall(r"`[^`]+`", notes):
        assert any(found in line for line in lines), found
    assert not any(line.endswith("-") for line in lines)


def test_doctor_is_told_of_the_controllers_tokens_where_they_are_in_files() -> None:
    def check(login: Login, **changes: Any) -> str:
        return " ".join(named(snippets(target(login=login), around(**changes)), "Check").text.split(" \\\n  "))

    kept = {"credentials": PurePath("/run/keys of mine")}
    vault = "--controller-vault-token-file '/run/keys of mine/vault-token'"
    nomad = "--controller-nomad-token-file '/run/keys of mine/nomad-token'"
    assert check(Login.TOKEN, **kept) == f"secretbinding doctor {vault} {nomad}\n"
    assert check(Login.KUBERNETES, **kept) == f"secretbinding doctor {nomad}\n"
    assert check(Login.NOMAD, **kept) == check(Login.TOKEN) == "secretbinding doctor\n"


def test_the_secret_in_kubernetes_has_the_files_under_the_keys_that_the_values_name() -> None:
    texts = snippets(
        target(scope=Scope(instance="blue")), around(credentials=PurePath("/keys"), vault_ca="/etc/ca.pem")
    )
    commands = named(texts, "credentials in Kubernetes").text
    values = yaml.safe_load(named(texts, "values of its Helm chart").text)
    secret = values["vault"]["login"]["existingSecret"]
    assert secret == values["nomad"]["existingSecret"]
    assert (
        f"kubectl -n secretbinding create secret generic {secret} \\\n"
        "  --from-file=vault-token=/keys/vault-token \\\n"
        "  --from-file=nomad-token=/keys/nomad-token\n"
    ) in commands
    tls = values["vault"]["tls"]
    assert f"create configmap {tls['existingConfigMap']} \\\n  --from-file={tls['caKey']}=/etc/ca.pem\n" in commands
    install = named(texts, "Install the chart").text
    assert "helm upgrade --install secretbinding-blue charts/secretbinding " in install
    assert "--values secretbinding-values.yaml\n" in install


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("secretbinding", {"repository": "secretbinding"}),
        ("secretbinding:0.1", {"repository": "secretbinding", "tag": "0.1"}),
        ("team/sb:1", {"repository": "team/sb", "tag": "1"}),
        ("r.example.com:5000/a/b:1", {"registry": "r.example.com:5000", "repository": "a/b", "tag": "1"}),
        ("localhost/b", {"registry": "localhost", "repository": "b"}),
        ("r.example.com/b@sha256:01", {"registry": "r.example.com", "repository": "b", "digest": "sha256:01"}),
    ],
)
def test_an_image_is_taken_apart_as_the_chart_has_it(name: str, parts: dict[str, str]) -> None:
    assert image(name) == parts


@pytest.mark.parametrize(
    ("product", "audited", "titles"),
    [
        (Product.VAULT, False, ["Audit devices on HashiCorp Vault"]),
        (Product.OPENBAO, False, ["Audit devices on OpenBao: in the server's configuration, then SIGHUP"]),
        (Product.UNKNOWN, False, 2),
        (Product.OPENBAO, True, []),
    ],
)
def test_audit_devices_are_spoken_of_where_there_is_none(product: Product, audited: bool, titles: Any) -> None:
    found = [one.title for one in snippets(target(), around(product=product, audited=audited)) if "Audit" in one.title]
    assert (len(found) if isinstance(titles, int) else found) == titles


def test_both_products_are_told_never_to_have_a_socket_alone() -> None:
    texts = [one for one in snippets(target(), AROUND) if "Audit" in one.title]
    assert all("never be the only one" in " ".join(one.notes) for one in texts)


def test_the_servers_block_names_the_audience_that_roles_are_bound_to() -> None:
    assert 'aud  = ["vault.io"]' in server_block()
