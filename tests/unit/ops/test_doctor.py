"""Each check of `doctor` is silent where all is well, and fires where it should."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from secretbinding.errors import Problem
from secretbinding.job.inject import TaskPart, inject, strip
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Pin, Right, SecretState
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.binding import Auth, AuthMethod
from secretbinding.naming import app_role_name
from secretbinding.ops.approle_rights import VARIABLE, app_role_rights
from secretbinding.ops.doctor.checks import CHECKS
from secretbinding.ops.doctor.facts import BindingFacts, Facts, JobFile, Unknown
from secretbinding.ops.doctor.findings import Severity, examine
from secretbinding.ops.doctor.report import blocks, exit_code, summary, to_object, unmade
from secretbinding.ops.ports import AuditDevice, AuthMount, Clock, NomadAgent, NomadToken, VaultLeader, VaultToken
from secretbinding.ops.rights import Scope, vault_policy
from secretbinding.ports import VaultHealth
from secretbinding.render.policy import PolicyDocument, policy_text
from secretbinding.render.template import Change, secret_blocks
from tests.support.builders import binding, created, group, job, kv, kv_state, spec, task
from tests.unit.ops.world import (
    DENIED,
    JWKS,
    KEY,
    OWNER,
    POLICY,
    ROLE,
    RULES,
    TEXT,
    WORKLOAD,
    block,
    bound,
    capabilities,
    facts,
    findings,
    node,
    nomad,
    outcome,
    rules,
    vault,
)

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

WITH_ROLE = policy_text(
    PolicyDocument(
        OWNER, WORKLOAD, (Right("secret/data/myapp", ("read",)),), (ROLE,), ("pki/roles/nsb.default.app-tls.x",)
    )
)


def agent(*blocks_: Any, **changes: Any) -> NomadAgent:
    made = NomadAgent("1.10.2", True, True, True, True, "global", tuple(blocks_) or (block(),))
    return replace(made, **changes)


def health(**changes: Any) -> VaultHealth:
    return replace(VaultHealth(True, False, False, "2.4.1", "cluster"), **changes)


def token(**changes: Any) -> VaultToken:
    made = VaultToken(("secretbinding",), ttl_seconds=3000.0, creation_ttl_seconds=3600.0, renewable=True, expires=True)
    return replace(made, **changes)


def injected(version: int, *, era: int = 0) -> Mapping[str, Any]:
    """The job with the binding's part, reading a version of its secret."""
    entry = binding().spec.secrets[0]
    pin = Pin(version, created(version, era))
    reading = KINDS["kv"].reading(entry, kv_state(version), pin)
    made = secret_blocks(KEY, entry, reading, pin, Change())
    part = TaskPart(ROLE, tuple((OWNER, one) for one in made))
    return inject(strip(job(), "default"), {("web", "server"): part}, "default")


def policy(*paths: str, **changes: Any) -> str:
    rights = tuple(Right(path, ("read",)) for path in paths)
    return policy_text(replace(PolicyDocument(OWNER, WORKLOAD, rights, (ROLE,)), **changes))


def with_env(**variables: str) -> dict[str, Any]:
    return job(group(task(Env=variables)))


def pinned(state: SecretState) -> BindingFacts:
    """The binding, whose job reads version 1 of its secret."""
    return bound(job=injected(1), secrets={"app": state})


IN_WEB = binding(spec(workload={"job": "web", "groups": [{"name": "web"}]}))
OTHER = job(group(name="other"))
WIDE = 'path "secret/*" {\n  capabilities = ["read"]\n}'

PLAIN_VAULT = {"token": AuthMount("token", plugin="v1.15.0+builtin.vault"), "jwt-nomad": AuthMount("jwt")}

APP_ROLE = app_role_name("default", WORKLOAD, "app", AGENT_TASK)
BY_APP_ROLE = policy_text(PolicyDocument(OWNER, WORKLOAD, (Right("secret/data/myapp", ("read",)),), (APP_ROLE,)))
_SPEC = binding().spec
WISHES_APP_ROLE = binding().model_copy(
    update={"spec": _SPEC.model_copy(update={"auth": Auth(method=AuthMethod.APP_ROLE)})}
)


def app_roles(rights: bool = True, **changes: Any) -> Facts:
    """All is well, and the binding's agent logs in by AppRole. `changes` replace facts of Vault."""
    granted = {right.probe: frozenset(right.capabilities) for right in app_role_rights("approle-nomad")}
    paths = [*RULES["Namespaces"][0]["Variables"]["Paths"]]
    paths += [{"PathSpec": VARIABLE.path, "Capabilities": list(VARIABLE.capabilities)}] if rights else []
    made = {
        "mounts": {"jwt-nomad": AuthMount("jwt"), "approle-nomad": AuthMount("approle")},
        "policies": {POLICY: BY_APP_ROLE},
        "roles": {"other": {"bound_audiences": ["vault.io"]}},
        "app_roles": {APP_ROLE: {"token_policies": [POLICY]}},
    }
    return facts(
        vault={**made, **changes},
        tokens={
            "capabilities": {**capabilities(), **(granted if rights else {})},
            "policies": rules(Variables={"Paths": paths}),
        },
    )


# For each check: facts with which it fires, how badly, and a part of what it says.
FIRES: list[tuple[str, Facts, Severity, str]] = [
    ("vault-reachable", facts(vault={"health": Unknown("no answer", "start it")}), ERROR, "no answer"),
    ("vault-sealed", facts(vault={"health": health(sealed=True)}), ERROR, "it is sealed"),
    ("vault-sealed", facts(vault={"health": health(initialized=False)}), ERROR, "not initialized"),
    ("vault-leader", facts(vault={"leader": VaultLeader(True)}), ERROR, "no server of the cluster is active"),
    ("vault-version", facts(vault={"health": health(version="1.9.3"), "mounts": PLAIN_VAULT}), ERROR, "1.9.3"),
    (
        "vault-tls",
        facts(vault={"endpoint": replace(vault().endpoint, address="http://vault:8200")}),
        WARNING,
        "in the clear",
    ),
    ("vault-tls", facts(vault={"endpoint": replace(vault().endpoint, verified=False)}), WARNING, "pass for Vault"),
    ("audit-missing", facts(vault={"audit": {}}), WARNING, "who read which secret"),
    ("audit-socket-alone", facts(vault={"audit": {"s": AuditDevice("socket", "x:1")}}), ERROR, "every request"),
    ("nomad-reachable", facts(nomad={"leader": Unknown("no answer", "start it")}), ERROR, "no answer"),
    ("nomad-leader", facts(nomad={"leader": Unknown("none"), "leaderless": True}), ERROR, "no leader"),
    ("nomad-version", facts(nomad={"agent": agent(version="1.6.5")}), ERROR, "no workload identities"),
    ("nomad-version", facts(nomad={"nodes": [node(version="1.8.0")]}), WARNING, "no version tags"),
    ("nomad-version", facts(nomad={"nodes": [node(version="1.10.1")]}), WARNING, "no template once"),
    (
        "nomad-tls",
        facts(nomad={"endpoint": replace(nomad().endpoint, address="http://nomad:4646")}),
        WARNING,
        "in the clear",
    ),
    ("nomad-tls", facts(nomad={"endpoint": replace(nomad().endpoint, verified=False)}), WARNING, "pass for Nomad"),
    ("nomad-acl", facts(nomad={"acl": False}), WARNING, "register any job"),
    ("nodes-without-vault", facts(nomad={"without_vault": [node()]}), ERROR, "has not reached Vault"),
    (
        "nodes-without-vault",
        facts(nomad={"without_vault": [node()], "nodes": [node(), node("two")]}),
        WARNING,
        "has not reached Vault",
    ),
    ("nodes-at-another-vault", facts(nomad={"elsewhere": [node()]}), ERROR, "another Vault"),
    ("clock-skew", facts(vault={"clock": Clock(100.0, 100.2, 120.0)}), WARNING, "Vault is at least 20 s ahead of"),
    ("clock-skew", facts(nomad={"clock": Clock(100.0, 100.2, 20.0)}), ERROR, "refuses identities"),
    ("jwt-mount", facts(vault={"mounts": {}}), ERROR, "no such auth method"),
    ("jwt-mount", facts(vault={"mounts": {"jwt-nomad": AuthMount("userpass")}}), ERROR, "of type userpass"),
    ("jwt-mount", facts(vault={"config": None}), ERROR, "does not know Nomad's keys"),
    ("jwt-mount", facts(vault={"config": {"bound_issuer": "x"}}), ERROR, "does not know Nomad's keys"),
    (
        "jwt-keys-reachable",
        facts(vault={"probe": "x; Vault says: fetching keys oidc: get keys failed: connection refused"}),
        ERROR,
        f"cannot fetch Nomad's signing keys from {JWKS}",
    ),
    ("jwt-keys-match", facts(vault={"keys": frozenset({"z"})}), ERROR, "another Nomad"),
    ("jwt-keys-match", facts(nomad={"keys": frozenset({"a", "z"})}), WARNING, "some keys"),
    ("jwt-issuer", facts(vault={"config": {"jwks_url": JWKS, "bound_issuer": "https://n"}}), ERROR, "signs none"),
    ("jwt-audience", facts(vault={"roles": {ROLE: {"bound_audiences": ["other"]}}}), ERROR, "tokens for other"),
    (
        "jwt-audience",
        facts(
            vault={"roles": {"bare": {"bound_audiences": ["x"]}}, "config": {"jwks_url": JWKS, "default_role": "bare"}}
        ),
        ERROR,
        "the role takes x",
    ),
    ("vault-block", facts(nomad={"agent": agent(block(enabled=False))}), ERROR, "not enabled"),
    ("vault-block", facts(nomad={"agent": agent(block(jwt_mount="jwt"))}), ERROR, "tasks log in at jwt"),
    ("vault-block", facts(nomad={"agent": agent(block(namespace="team"))}), ERROR, "namespace team"),
    ("default-identity", facts(nomad={"agent": agent(block(identity_audiences=None))}), INFO, "no job needs it now"),
    (
        "default-identity",
        facts(
            nomad={
                "agent": agent(block(identity_audiences=None)),
                "jobs": [job(group(task(Vault={"Role": "x", "Cluster": "default"})))],
            }
        ),
        WARNING,
        "stay pending",
    ),
    ("agent-vault-token", facts(nomad={"agent": agent(block(has_token=True))}), WARNING, "1.10.0"),
    ("vault-token", facts(tokens={"vault": token(policies=("root",)), "vault_named": True}), WARNING, "root token"),
    ("vault-token", facts(tokens={"vault": token(num_uses=3)}), ERROR, "3 more requests"),
    ("vault-token", facts(tokens={"vault": token(renewable=False)}), ERROR, "50 minutes and cannot be renewed"),
    ("vault-token", facts(tokens={"vault": token(renewable=False, ttl_seconds=9e5)}), WARNING, "10 days"),
    ("vault-token", facts(tokens={"vault": token(explicit_max_ttl_seconds=86400.0 * 3)}), WARNING, "3 days after"),
    ("vault-token", facts(tokens={"vault": token(ttl_seconds=600.0)}), WARNING, "nobody has renewed it"),
    ("vault-token", facts(tokens={"vault": token(orphan=False)}), WARNING, "the token that made it"),
    (
        "vault-rights",
        facts(tokens={"capabilities": capabilities(**{"sys/policies/acl/nsb.default.doctor": frozenset({"read"})})}),
        ERROR,
        "it may not create, update, delete sys/policies/acl/nsb.default.*",
    ),
    (
        "vault-rights",
        facts(tokens={"capabilities": capabilities(**{"secret/metadata/doctor": frozenset({"deny"})})}),
        WARNING,
        "secrets of secret are not rolled",
    ),
    (
        "vault-excess",
        facts(tokens={"capabilities": capabilities(**{"secret/data/doctor": frozenset({"read"})})}),
        WARNING,
        "it could read secret values",
    ),
    (
        "vault-excess",
        facts(tokens={"capabilities": capabilities(**{"sys/policies/acl/secretbinding": frozenset({"update"})})}),
        WARNING,
        "widen its own policy",
    ),
    (
        "nomad-token",
        facts(tokens={"nomad": NomadToken("a", "x", "management"), "nomad_named": True}),
        WARNING,
        "management token",
    ),
    ("nomad-token", facts(tokens={"nomad": NomadToken("anonymous", "x", "client")}), ERROR, "there is none"),
    (
        "nomad-token",
        facts(tokens={"nomad": NomadToken("a", "x", "client", ("secretbinding",), expires="2027")}),
        WARNING,
        "ends at 2027",
    ),
    ("nomad-rights", facts(tokens={"policies": rules(Capabilities=["read-job"])}), ERROR, "lacks submit-job"),
    ("nomad-rights", facts(tokens={"policies": []}), ERROR, "nomad-vault/status/*"),
    ("nomad-rights", facts(tokens={"policies": rules(Variables=None)}, source="kubernetes"), WARNING, "may not list"),
    (
        "nomad-excess",
        facts(tokens={"policies": rules(Capabilities=["alloc-exec", "submit-job"])}),
        WARNING,
        "it also has alloc-exec",
    ),
    (
        "nomad-excess",
        facts(
            tokens={
                "policies": rules(Variables={"Paths": [{"PathSpec": "nomad-vault/*", "Capabilities": ["write"]}]})
            }
        ),
        WARNING,
        "the tenants' nomad-vault/bindings/*",
    ),
    (
        "binding-invalid",
        facts(bindings=[bound(binding=None, job=None, problems=(Problem("wrong", "right", "spec.x"),))]),
        ERROR,
        "wrong",
    ),
    ("binding-job", facts(bindings=[bound(job=None)]), WARNING, "Nomad has no job web"),
    ("binding-job", facts(bindings=[bound(job=job(kind="batch"))]), INFO, "type batch"),
    ("binding-job", facts(bindings=[bound(job=job(Stop=True))]), INFO, "stopped"),
    (
        "binding-in-the-way",
        facts(bindings=[bound(job=job(group(task(Vault={"Role": "theirs"}))))]),
        ERROR,
        "has a vault block of its own",
    ),
    ("binding-in-the-way", facts(bindings=[bound(job=with_env(APP_PASS="x"))]), ERROR, "sets APP_PASS"),
    ("binding-in-the-way", facts(bindings=[bound(job=OTHER, binding=IN_WEB)]), ERROR, "no group web"),
    ("binding-secret", facts(bindings=[bound(secrets={"app": kv_state(fields=["user"])})]), ERROR, "no field password"),
    ("binding-secret", facts(bindings=[bound(secrets={"app": kv_state(2, deleted=[2])})]), ERROR, "is deleted"),
    ("pinned-version", facts(bindings=[pinned(kv_state(3, destroyed=[1]))]), ERROR, "gone"),
    ("pinned-version", facts(bindings=[pinned(kv_state(10))]), WARNING, "the oldest"),
    (
        "secret-age",
        facts(max_age_days=7, bindings=[bound(secrets={"app": kv_state(1)})]),
        WARNING,
        "was last changed 8 days ago",
    ),
    ("policy-altered", facts(vault={"policies": {POLICY: TEXT + "\n# mine"}}), WARNING, "somebody has edited it"),
    (
        "policy-excess",
        facts(vault={"policies": {POLICY: policy("secret/data/myapp", "secret/data/other")}}),
        WARNING,
        "read secret/data/other",
    ),
    (
        "policy-wildcard",
        facts(vault={"roles": {"ci": {"token_policies": ["wide"]}}, "policies": {"wide": WIDE}}),
        WARNING,
        "read on secret/*",
    ),
    ("policy-wildcard", facts(vault={"roles": {"ci": {"token_policies": ["root"]}}}), WARNING, "every right"),
    (
        "policy-wildcard",
        facts(
            vault={
                "roles": {"ci": {"token_policies": ["sys"]}},
                "policies": {"sys": '{"path": {"sys/policies/acl/x": {"capabilities": ["update"]}}}'},
            }
        ),
        WARNING,
        "update on sys/policies/acl/x",
    ),
    ("orphaned-policy", facts(bindings=[], absent={KEY: True}), WARNING, "does not exist any more"),
    ("orphaned-job", facts(nomad={"gone_jobs": {("default", "web"): True}}), WARNING, "there is no job web"),
    ("orphaned-role", facts(vault={"policies": {}}), WARNING, "no policy of ours names it"),
    ("orphaned-role", facts(vault={"roles": {}}), WARNING, "is not there"),
    (
        "orphaned-role",
        facts(vault={"roles": {ROLE: {"bound_audiences": ["vault.io"], "token_policies": [POLICY, f"{POLICY}x"]}}}),
        WARNING,
        "its tasks lack rights",
    ),
    (
        "orphaned-engine-role",
        facts(vault={"engine_roles": frozenset({"database/roles/nsb.default.app-db.x"})}),
        WARNING,
        "no policy of ours names it",
    ),
    (
        "orphaned-engine-role",
        facts(vault={"policies": {POLICY: WITH_ROLE}}),
        WARNING,
        "the engine role pki/roles/nsb.default.app-tls.x that its binding has made is not there",
    ),
    ("orphaned-approle", app_roles(app_roles={}), WARNING, f"the AppRole {APP_ROLE} that grants it is not there"),
    (
        "orphaned-approle",
        app_roles(app_roles={APP_ROLE: {}, "nsb.default.ghost": {"token_policies": ["root"]}}),
        WARNING,
        "somebody else has made it; it grants root",
    ),
    (
        "policy-wildcard",
        app_roles(app_roles={"nsb.default.ghost": {"token_policies": ["root"]}}),
        WARNING,
        "every right",
    ),
    ("approle-mount", app_roles(mounts={}), ERROR, "it is not there, and agents log in by it"),
    ("approle-mount", app_roles(mounts={"approle-nomad": AuthMount("userpass")}), ERROR, "of type userpass"),
    ("approle-mount", app_roles(app_roles={APP_ROLE: {}, "ci": {}}), WARNING, "roles of others are there: ci"),
    (
        "approle-mount",
        facts(bindings=[bound(binding=WISHES_APP_ROLE)], vault={"mounts": {}}),
        ERROR,
        "it is not there, and agents log in by it",
    ),
    (
        "vault-rights",
        app_roles(rights=False),
        WARNING,
        "it may not update auth/approle-nomad/role/+/secret-id: bindings with auth.method AppRole do not work",
    ),
    (
        "nomad-rights",
        app_roles(rights=False),
        ERROR,
        "nomad/jobs/*/vault-agent in namespace",
    ),
    ("literal-secret", facts(nomad={"jobs": [with_env(DB_PASSWORD="hunter2")]}), WARNING, "DB_PASSWORD looks like"),
    ("literal-secret", facts(job_files=[JobFile("a.hcl", with_env(DB_PASSWORD="hunter2"))]), WARNING, "looks like"),
]  # fmt: skip


def test_where_agents_log_in_by_app_role_and_all_is_well_nothing_is_found() -> None:
    found = [finding for one in examine(CHECKS, app_roles()) for finding in one.findings]
    assert found == []


def test_where_no_agent_does_neither_the_mount_nor_rights_for_it_are_asked_for() -> None:
    assert findings("approle-mount", facts()) == []
    assert findings("vault-rights", facts()) == []


def test_the_app_role_of_an_orphan_is_removed_from_its_own_mount() -> None:
    left = replace(app_roles(), bindings=[], absent={KEY: True})
    (finding,) = outcome("orphaned-policy", left).findings
    assert f"vault delete auth/approle-nomad/role/{APP_ROLE}" in finding.remedy


def test_who_removes_an_orphan_by_hand_removes_its_engine_roles_before_the_policy_that_tells_of_them() -> None:
    left = facts(bindings=[], absent={KEY: True}, vault={"policies": {POLICY: WITH_ROLE}})
    (finding,) = outcome("orphaned-policy", left).findings
    assert finding.remedy.splitlines()[1:] == [
        "vault delete pki/roles/nsb.default.app-tls.x",
        f"vault delete auth/jwt-nomad/role/{ROLE}",
        f"vault policy delete {POLICY}",
    ]


def remedy(name: str, **changes: Any) -> str:
    """What the check of that name says is to be done, for one binding."""
    (finding,) = outcome(name, facts(bindings=[bound(**changes)])).findings
    return finding.remedy


@pytest.mark.parametrize(
    ("secret", "command"),
    [
        (kv_state(fields=["user"]), "vault kv patch -mount=secret myapp password=-"),
        (kv_state(2, deleted=[2]), "vault kv undelete -versions=2 -mount=secret myapp"),
        (kv_state(2, destroyed=[2]), "vault kv put -mount=secret myapp @fields.json"),
    ],
)
def test_a_secret_that_cannot_be_used_comes_with_the_command_that_mends_it(secret: SecretState, command: str) -> None:
    assert remedy("binding-secret", secrets={"app": secret}).startswith(command)


@pytest.mark.parametrize(
    ("name", "found", "severity", "says"), FIRES, ids=[f"{one[0]}-{number}" for number, one in enumerate(FIRES)]
)
def test_a_check_fires_with_evidence_and_remedy(name: str, found: Facts, severity: Severity, says: str) -> None:
    made = findings(name, found)
    assert says in " / ".join(finding.message for finding in made)
    assert made[0].severity is severity
    for finding in made:
        assert finding.subject
        assert finding.evidence
        assert finding.remedy


def test_every_check_is_shown_to_fire() -> None:
    assert {one[0] for one in FIRES} == {check.name for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_is_silent_where_all_is_well(check: Any) -> None:
    made = outcome(check.name, facts())
    assert (made.findings, made.unknown, made.result) == ((), (), "ok")


def test_where_all_is_well_the_exit_code_is_0() -> None:
    outcomes = examine(CHECKS, facts())
    assert exit_code(outcomes) == 0
    assert summary(outcomes).startswith(f"{len(CHECKS)} checks, {len(CHECKS)} ok: 0 errors")


def nothing_known() -> Facts:
    """Every fact that can be unknown is."""
    changed = facts()
    for part in ("vault", "nomad", "tokens"):
        whole = getattr(changed, part)
        names = [field.name for field in fields(whole) if "Fact[" in str(field.type) or "Unknown" in str(field.type)]
        names = [name for name in names if name not in ("jobs_hidden", "gone_jobs")]
        changed = replace(changed, **{part: replace(whole, **dict.fromkeys(names, DENIED))})
    return replace(changed, bindings=DENIED)


# What is known without asking anybody.
_OF_SETTINGS = ("vault-tls", "nomad-tls")


@pytest.mark.parametrize("check", [one for one in CHECKS if one.name not in _OF_SETTINGS], ids=lambda check: check.name)
def test_a_check_that_cannot_be_made_never_says_ok(check: Any) -> None:
    made = outcome(check.name, nothing_known())
    assert made.result != "ok"


def test_a_right_that_is_missing_is_a_warning_and_what_nobody_asked_for_is_not() -> None:
    assert exit_code(examine(CHECKS, facts(vault={"audit": DENIED}))) == 2
    assert exit_code(examine(CHECKS, facts(bindings=Unknown("no bindings were given")))) == 0


def test_a_binding_of_which_a_part_is_unknown_is_not_ok() -> None:
    for changes in ({"job": DENIED}, {"secrets": {"app": DENIED}}):
        changed = facts(bindings=[bound(**changes)])
        results = {check.name: outcome(check.name, changed).result for check in CHECKS}
        assert "not made" in (results["binding-job"], results["binding-secret"])


def test_jobs_that_could_not_be_seen_are_spoken_of() -> None:
    hidden = facts(nomad={"jobs_hidden": DENIED})
    assert outcome("literal-secret", hidden).result == "not made"


def test_policies_of_bindings_of_another_source_are_left_open() -> None:
    made = outcome("orphaned-policy", facts(bindings=[], source="kubernetes"))
    assert made.findings == ()
    assert "default/app (nomad)" in made.unknown[0].why


def test_a_policy_that_is_kept_on_purpose_is_no_orphan() -> None:
    kept = {POLICY: policy("secret/data/myapp", retain=True)}
    assert findings("orphaned-policy", facts(bindings=[], absent={KEY: True}, vault={"policies": kept})) == []


@pytest.mark.parametrize(
    "text",
    [
        'path "secret/data/app" { capabilities = ["read"] }',
        'path "secret/data/{{identity.entity.aliases.x.metadata.nomad_job_id}}/*" { capabilities = ["read"] }',
        'path "secret/metadata/*" { capabilities = ["list"] }',
        'path "secret/*" { capabilities = ["deny"] }',
        '# path "secret/*" { capabilities = ["read"] }',
        'path "sys/leases/renew" { capabilities = ["update"] }',
        'path "kv/data/a+b" { capabilities = ["read"] }',
        "",
    ],
)
def test_a_policy_that_names_its_paths_has_no_wildcard(text: str) -> None:
    changed = facts(vault={"roles": {"ci": {"token_policies": ["p"]}}, "policies": {"p": text}})
    assert findings("policy-wildcard", changed) == []


@pytest.mark.parametrize(
    "text",
    [
        'path "secret/*" { capabilities = ["read"] }',
        'path "secret/data/+/db" { capabilities = ["read", "list"] }',
        'path "*" { policy = "write" }',
        'path "secret/data/app" { capabilities = ["sudo"] }',
        'path "auth/token/create" { capabilities = ["update"] }',
        'path "secret/*" {\n  allowed_parameters = { "x" = [] }\n  capabilities = ["read"]\n}',
    ],
)
def test_a_policy_that_is_wide_is_found_whatever_it_is_written_like(text: str) -> None:
    changed = facts(vault={"roles": {"ci": {"token_policies": ["p"]}}, "policies": {"p": text}})
    (finding,) = findings("policy-wildcard", changed)
    assert "role ci" in finding.message


def test_the_controllers_own_policy_is_no_wide_one() -> None:
    own = {"secretbinding": vault_policy(Scope())}
    changed = facts(vault={"roles": {"secretbinding": {"token_policies": ["secretbinding"]}}, "policies": own})
    assert findings("policy-wildcard", changed) == []


def test_slow_answers_are_no_skew() -> None:
    slow = Clock(100.0, 130.0, 128.0)
    assert findings("clock-skew", facts(vault={"clock": slow})) == []


def test_a_clock_that_is_ahead_is_called_so_on_whichever_side_it_is() -> None:
    ahead = findings("clock-skew", facts(nomad={"clock": Clock(100.0, 100.2, 140.0)}))
    assert {finding.message.split(" s ")[1] for finding in ahead} == {"ahead of this machine", "ahead of Vault"}


def test_a_node_that_is_down_is_not_reported() -> None:
    assert findings("nodes-without-vault", facts(nomad={"without_vault": [node(status="down")]})) == []


def test_a_root_token_and_a_management_token_prove_nothing_of_the_controllers_rights() -> None:
    changed = facts(
        tokens={
            "vault": token(policies=("root",)),
            "capabilities": {path: frozenset({"root"}) for path in capabilities()},
            "nomad": NomadToken("a", "x", "management"),
            "policies": [],
            "vault_named": True,
            "nomad_named": True,
        }
    )
    assert outcome("vault-excess", changed).result == "not made"
    assert outcome("nomad-excess", changed).result == "not made"
    assert outcome("vault-rights", changed).result == "ok"
    assert outcome("nomad-rights", changed).result == "ok"


@pytest.mark.parametrize(
    ("policies", "kind"), [(("root",), "management"), (("admin", "default"), "client"), ((), "client")]
)
def test_a_persons_own_tokens_are_not_judged_as_the_controllers(policies: tuple[str, ...], kind: str) -> None:
    changed = facts(
        tokens={
            "vault": token(policies=policies),
            "capabilities": {},
            "nomad": NomadToken("a", "x", kind, policies),
            "policies": [],
        }
    )
    for server in ("vault", "nomad"):
        for what in ("token", "rights", "excess"):
            found = outcome(f"{server}-{what}", changed)
            assert (found.result, found.severity) == ("not made", Severity.INFO)
            assert f"--controller-{server}-token-file" in found.unknown[0].remedy
    given = replace(changed, tokens=replace(changed.tokens, vault_named=True, nomad_named=True))
    assert outcome("vault-rights", given).result == "error"


def test_rights_in_nomad_are_looked_for_where_bindings_need_them() -> None:
    narrow = [replace(rules()[0], parsed={"Namespaces": [{**RULES["Namespaces"][0], "Name": "team-*"}]})]
    assert findings("nomad-rights", facts(tokens={"policies": narrow}, bindings=[bound(namespace="team-a")])) == []
    assert findings("nomad-rights", facts(tokens={"policies": narrow}, bindings=[bound(namespace="other")])) != []


def test_without_bindings_rights_in_nomad_are_judged_where_the_policies_give_any() -> None:
    narrow = [replace(rules()[0], parsed={"Namespaces": [{**RULES["Namespaces"][0], "Name": "team-*"}]})]
    nobody = Unknown("no bindings were given")
    assert findings("nomad-rights", facts(tokens={"policies": narrow}, bindings=nobody)) == []
    assert findings("nomad-rights", facts(tokens={"policies": []}, bindings=nobody)) != []


def test_a_job_with_our_part_is_not_in_our_own_way() -> None:
    changed = facts(bindings=[bound(job=injected(1))], nomad={"jobs": [injected(1)]})
    assert findings("binding-in-the-way", changed) == []
    assert findings("default-identity", changed) == []
    assert findings("literal-secret", changed) == []


def test_a_secret_that_was_made_again_is_not_the_version_that_the_job_reads() -> None:
    changed = facts(bindings=[bound(job=injected(1), secrets={"app": kv_state(1, era=3)})])
    assert "gone" in findings("pinned-version", changed)[0].message


def test_a_literal_secret_is_reported_without_a_word_of_its_value() -> None:
    changed = facts(nomad={"jobs": [with_env(DB_PASSWORD="hunter2-canary")]})
    shown = repr(examine(CHECKS, changed)) + str(to_object(examine(CHECKS, changed)))
    assert "canary" not in shown


def test_the_report_has_the_worst_first_and_one_block_for_one_reason() -> None:
    changed = facts(vault={"audit": {}, "leader": VaultLeader(True)}, bindings=Unknown("no bindings were given"))
    outcomes = examine(CHECKS, changed)
    shown = blocks(outcomes)
    assert [severity for severity, _ in shown] == [ERROR, WARNING]
    assert shown[0][1].splitlines()[0] == "ERROR    vault-leader: Vault at https://vault:8200"
    (left,) = [text for _, text in unmade(outcomes) if "no bindings were given" in text]
    assert "binding-job, binding-in-the-way" in left
    assert exit_code(outcomes) == 1


def test_the_object_counts_what_it_holds() -> None:
    made = to_object(examine(CHECKS, facts(vault={"audit": DENIED, "leader": VaultLeader(True)})))
    assert made["summary"] == {
        "checks": len(CHECKS),
        "ok": len(CHECKS) - 3,
        "notMade": 2,
        "errors": 1,
        "warnings": 0,
        "infos": 0,
    }
    one = next(check for check in made["checks"] if check["name"] == "vault-leader")
    assert set(one["findings"][0]) == {"severity", "subject", "message", "evidence", "remedy"}


def test_names_and_titles_are_in_a_shape_for_people() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.title.endswith(".") for check in CHECKS)


def test_ages_are_told_where_the_server_tells_them() -> None:
    old = facts(now=facts().now + timedelta(days=400))
    assert len(findings("secret-age", old)) == 1
    assert findings("secret-age", facts(bindings=[bound(binding=binding(kv("x")), secrets={"x": DENIED})])) == []
