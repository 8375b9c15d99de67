"""What policies allow: each secret as a whole by one of them, and nothing that a Deny means."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.agent_settings import CHOICES
from secretbinding.kinds.base import RENEW, Right
from secretbinding.models.loading import parse_object
from secretbinding.models.policy import Choice, SecretKind
from secretbinding.models.policy_loading import parse_policies
from secretbinding.models.secrets import KINDS
from secretbinding.tenancy import Target, Tenant, decide, decide_rights, policy_text, suggestion
from tests.support.fuzzing import cases
from tests.unit.models.manifests import Json, manifests
from tests.unit.tenancy.builders import API, PAYMENTS, binding, deny, judged, kv, policy, templated, told


def test_the_common_rule_gives_a_tenant_its_own_secrets_in_its_own_namespace() -> None:
    assert judged(binding()).allowed


def test_without_a_policy_nothing_is_allowed() -> None:
    assert "no policy allows tenant payments (kubernetes) secret app" in told(decide((), PAYMENTS, binding(), API))


def test_another_tenants_path_is_refused_with_the_nearest_policy() -> None:
    assert told(judged(binding(kv("billing/app")))).endswith("policy own does not allow this secret")


def test_another_tenants_namespace_is_refused() -> None:
    assert "policy own does not allow job billing/api" in told(
        judged(binding(), target=replace(API, namespace="billing"))
    )


def test_one_refused_secret_refuses_only_what_it_is_about() -> None:
    decision = judged(binding(kv(), {**kv("billing/app"), "name": "other", "env": {"B": "b"}}))
    assert [refusal.place for refusal in decision.refusals] == [("spec", "secrets", 1, "kv")]


def test_policies_add_up_secret_by_secret() -> None:
    shared = policy("shared", secrets=[{"mounts": ["secret"], "paths": ["shared/*"]}])
    both = binding(kv(), {**kv("shared/ca"), "name": "ca", "env": {"B": "b"}})
    assert not judged(both).allowed
    assert judged(both, policy(), shared).allowed


def test_what_two_policies_allow_by_halves_is_not_allowed() -> None:
    """One gives the secret to another namespace, the other gives this namespace another secret."""
    secret = policy("a", workloads=[{"namespaces": ["elsewhere"]}])
    place = policy("b", secrets=[{"mounts": ["secret"], "paths": ["other/*"]}])
    assert not judged(binding(), secret, place).allowed


def test_a_deny_wins_over_whatever_allows() -> None:
    decision = judged(binding(), policy(), deny())
    assert "policy no denies" in told(decision)
    assert decision.refusals[0].denied


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"kv": {"mount": "secret", "path": "prod/db"}}, "as it is written"),
        ({"kv": {"mount": "secret", "path": "Prod/db"}}, "in another case"),
        ({"kv": {"mount": "secret", "path": "data/prod/db", "engine": "v1"}}, "said to be of version 1"),
        ({"generic": {"mount": "secret", "path": "data/prod/db"}}, "by its path in the API"),
        ({"generic": {"mount": "secret/data", "path": "prod/db"}}, "with the path's first part as mount"),
    ],
)
def test_a_denied_secret_is_denied_however_it_is_written(entry: Json, why: str) -> None:
    all_of_it = policy(secrets=[{"kinds": ["kv", "generic"], "mounts": ["*", "*/data"], "paths": ["*"]}])
    never = deny(secrets=[{"mounts": ["secret"], "paths": ["prod/*"]}])
    assert judged(binding({"name": "app", **entry, "env": {"A": "a"}}), all_of_it).allowed
    assert not judged(binding({"name": "app", **entry, "env": {"A": "a"}}), all_of_it, never).allowed, why


@pytest.mark.parametrize("first", ["data", "metadata", "subkeys", "config"])
def test_a_tenant_that_is_named_like_a_part_of_vaults_api_gets_nobody_elses_secret(first: str) -> None:
    tenant = Tenant("kubernetes", first)
    own = policy(secrets=[{"kinds": ["kv", "generic"], "mounts": ["secret"], "paths": ["{{tenant}}/*"]}])
    target = Target(first, "api")
    for entry in (
        {"kv": {"mount": "secret", "path": f"{first}/billing/app", "engine": "v1"}},
        {"generic": {"mount": "secret", "path": f"{first}/billing/app"}},
    ):
        assert not judged(
            binding({"name": "app", **entry, "env": {"A": "a"}}), own, tenant=tenant, target=target
        ).allowed
    assert judged(binding(kv(f"{first}/app")), own, tenant=tenant, target=target).allowed


def test_a_wildcard_in_a_tenants_name_is_none() -> None:
    assert not judged(binding(kv("billing/app")), tenant=Tenant("files", "*"), target=Target("*", "api")).allowed


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("app", "app", True),
        ("app", "app2", False),
        ("app/*", "app/a/b", True),
        ("app/*", "app", False),
        ("*/app", "team/app", True),
        ("*/app", "team/a/app", False),
        ("team-*/x", "team-a/x", True),
        ("a.b", "axb", False),
        ("*", "a/b/c", True),
    ],
)
def test_a_star_is_a_segments_part_and_at_the_end_everything(pattern: str, path: str, *, fits: bool) -> None:
    assert judged(binding(kv(path)), policy(secrets=[{"mounts": ["secret"], "paths": [pattern]}])).allowed is fits


def test_generic_has_to_be_named_and_is_then_for_reading_only() -> None:
    entry = {"name": "app", "generic": {"mount": "secret", "path": "payments/x"}, "env": {"A": "a"}}
    wider = {**entry, "generic": {**entry["generic"], "capabilities": ["read", "update"]}}
    named = policy(secrets=[{"kinds": ["generic"], "mounts": ["secret"], "paths": ["{{tenant}}/*"]}])
    assert not judged(binding(entry)).allowed
    assert judged(binding(entry), named).allowed
    assert "the capabilities update" in told(judged(binding(wider), named))


def test_capabilities_limit_every_kind() -> None:
    entry = {"name": "app", "pki": {"mount": "pki", "role": "web", "commonName": "a"}, "env": {"A": "a"}}
    rules: Json = {"mounts": ["pki"], "paths": ["web"]}
    assert judged(binding(entry), policy(secrets=[rules])).allowed
    assert "the capabilities update" in told(
        judged(binding(entry), policy(secrets=[{**rules, "capabilities": ["read"]}]))
    )


def test_labels_choose_tenants() -> None:
    money = policy(tenants=[{"labels": {"team": "money"}}])
    assert judged(binding(), money).allowed
    assert not judged(binding(), money, tenant=replace(PAYMENTS, labels={"team": "other"})).allowed
    assert not judged(binding(), money, tenant=replace(PAYMENTS, labels={})).allowed


def test_labels_that_are_not_known_decide_nothing_where_a_policy_asks_for_labels() -> None:
    unknown = replace(PAYMENTS, labels=None)
    for chosen in (policy(tenants=[{"labels": {"team": "money"}}]), deny(tenants=[{"labels": {"team": "money"}}])):
        decision = judged(binding(), policy("other"), chosen, tenant=unknown)
        assert decision.unknown == "the labels of tenant payments (kubernetes) are not known"
    assert judged(binding(), tenant=unknown).allowed


def test_a_policy_for_one_source_says_nothing_of_another() -> None:
    only = policy(tenants=[{"sources": ["nomad"], "names": ["*"]}])
    assert not judged(binding(), only).allowed
    assert judged(binding(), only, tenant=replace(PAYMENTS, source="nomad")).allowed


def test_every_task_has_to_run_by_an_allowed_driver_once_the_job_is_known() -> None:
    docker = policy(workloads=[{"namespaces": ["*"], "drivers": ["docker", "podman"]}])
    assert judged(binding(), docker, target=replace(API, drivers=None)).allowed
    mixed = replace(API, drivers=frozenset({"docker", "raw_exec"}))
    assert "tasks of driver docker, raw_exec" in told(judged(binding(), docker, target=mixed))
    never = deny(workloads=[{"namespaces": ["*"], "drivers": ["raw_exec"]}])
    assert not judged(binding(), policy(), never, target=mixed).allowed
    assert judged(binding(), policy(), never).allowed


@pytest.mark.parametrize(
    ("spec", "limits", "lacking"),
    [
        ({"delivery": "Agent"}, {}, "delivery Agent"),
        ({"delivery": "Agent"}, {"delivery": ["Agent"]}, ""),
        ({"delivery": "Agent", "auth": {"method": "AppRole"}}, {"delivery": ["Agent"]}, "auth.method AppRole"),
        ({"auth": {"tokenPeriod": "2h"}}, {"auth": {"maxTTL": "1h"}}, "tokens of more than 1h"),
        ({"auth": {"tokenPeriod": "1h"}}, {"auth": {"maxTTL": "1h"}}, ""),
        ({}, {"auth": {"maxTTL": "1h"}}, "tokens without a tokenPeriod or tokenMaxTTL of at most 1h"),
        ({"auth": {"tokenTTL": "1m"}}, {"auth": {"maxTTL": "1h"}}, "tokens without a tokenPeriod or tokenMaxTTL"),
    ],
)
def test_limits_hold_for_all_that_a_binding_asks_for(spec: Json, limits: Json, lacking: str) -> None:
    entry = {"name": "app", "kv": {"mount": "secret", "path": "payments/app", "engine": "v2"}}
    place = "../alloc/secrets/app" if spec.get("delivery") == "Agent" else "secrets/app"
    decision = judged(binding({**entry, "files": [{"destination": place}]}, **spec), policy(**limits))
    assert decision.allowed == (lacking == "")
    assert lacking in told(decision)


def test_a_script_is_a_choice_that_has_to_be_allowed() -> None:
    entry = {**kv(), "changeMode": "Script", "changeScript": {"command": "/bin/reload"}}
    native = binding(entry, rotation={"strategy": "Native"})
    assert "a choice of script" in told(judged(native))
    assert judged(native, policy(choices=["script"])).allowed


@pytest.mark.parametrize(
    ("agent", "choices"),
    [
        ({}, []),
        ({"memory": 64, "wait": False}, []),
        ({"image": "vault:2"}, ["image"]),
        (
            {"driver": "raw_exec", "command": "/bin/x", "args": ["-a"], "user": "root"},
            ["args", "command", "driver", "user"],
        ),
    ],
)
def test_what_a_sidecar_runs_is_a_choice_and_what_it_needs_is_none(agent: Json, choices: list[str]) -> None:
    files = [{"destination": "../alloc/secrets/app"}]
    entry = {"name": "app", "kv": {"mount": "secret", "path": "payments/app"}, "files": files}
    bound = binding(entry, delivery="Agent", agent=agent)
    refused = told(judged(bound, policy(delivery=["Agent"])))
    assert refused.endswith(f"a choice of {', '.join(choices)}") if choices else refused == ""
    assert judged(bound, policy(delivery=["Agent"], choices=choices)).allowed


def test_where_an_agent_logs_in_is_a_choice_since_its_identity_is_that_of_all_bindings_of_the_group() -> None:
    files = [{"destination": "../alloc/secrets/app"}]
    entry = {"name": "app", "kv": {"mount": "secret", "path": "payments/app"}, "files": files}
    workload = {"job": "api", "env": {"VAULT_ADDR": "http://elsewhere:8200"}}
    allowed = policy(delivery=["Template", "Agent"])
    assert judged(binding(workload=workload), allowed).allowed, "Nomad's client logs in where Nomad says"
    agent = binding(entry, delivery="Agent", workload=workload)
    assert "a choice of server" in told(judged(agent, allowed))
    assert judged(agent, policy(delivery=["Agent"], choices=["server"])).allowed


def test_taking_over_by_hand_has_to_be_allowed() -> None:
    assert "taking over" in told(decide([policy()], PAYMENTS, binding(), API, adopted=True))
    assert decide([policy(adopt=True)], PAYMENTS, binding(), API, adopted=True).allowed


def test_what_is_to_stay_when_the_binding_goes_has_to_be_allowed() -> None:
    stays = binding(deletionPolicy="Retain")
    assert "deletionPolicy Retain" in told(judged(stays))
    assert judged(stays, policy(retain=True)).allowed


def test_a_variable_of_another_namespace_is_one_of_a_namespace_that_the_policy_names() -> None:
    spec = {"path": "shared/x", "namespace": "common", "accessGranted": True}
    entry = binding({"name": "app", "nomadVariable": spec, "env": {"A": "a"}})
    rules: Json = {"secrets": [{"kinds": ["nomadVariable"], "paths": ["shared/*"]}]}
    assert "variables of namespace common" in told(judged(entry, policy(**rules)))
    both = [{"namespaces": ["{{tenant}}", "common"]}]
    assert judged(entry, policy(**rules, workloads=both)).allowed


def made(**create: Any) -> Json:
    statements = {"connection": "main", "creationStatements": ["SELECT 1"], "maxTTL": "1h", **create}
    return {"name": "db", "database": {"mount": "db", "create": statements}, "env": {"A": "username"}}


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        (None, "roles that are made for a binding"),
        ({"connections": ["other"]}, "roles of connection main"),
        ({"connections": ["main"], "maxTTL": "30m"}, "roles without a maxTTL of at most 30m"),
        ({"connections": ["main"], "maxTTL": "1h"}, ""),
    ],
)
def test_roles_are_made_only_of_named_connections_and_within_the_limit(rules: Json | None, lacking: str) -> None:
    secrets: Json = {"mounts": ["db"], "paths": ["*"], **({"create": rules} if rules is not None else {})}
    decision = judged(binding(made()), policy(secrets=[secrets]))
    assert decision.allowed == (lacking == "")
    assert lacking in told(decision)


def test_a_static_role_is_made_only_of_a_named_user() -> None:
    static = {"connection": "main", "username": "root", "rotationPeriod": "1h"}
    entry = {"name": "db", "database": {"mount": "db", "create": static}, "env": {"A": "username"}}
    rules = {"mounts": ["db"], "paths": ["*"], "create": {"connections": ["main"], "users": ["app-*"]}}
    assert "a static role of user root" in told(judged(binding(entry), policy(secrets=[rules])))


@pytest.mark.parametrize(
    ("create", "lacking"),
    [
        ({"allowedDomains": ["api.payments.example.com"]}, ""),
        ({"allowedDomains": ["*.payments.example.com"], "allowGlobDomains": True}, ""),
        ({"allowedDomains": ["example.com"], "allowSubdomains": True}, "roles for domain example.com"),
        ({"allowedDomains": ["*.example.com"], "allowGlobDomains": True}, "roles for domain *.example.com"),
        ({"allowIpSans": True}, "roles for IP addresses"),
        ({"allowedUriSans": ["spiffe://x"]}, "roles for URI spiffe://x"),
        ({"issuer": "root"}, "roles of issuer root"),
    ],
)
def test_a_pki_role_issues_only_for_named_domains(create: Json, lacking: str) -> None:
    entry = {"name": "tls", "pki": {"mount": "pki", "commonName": "a", "create": create}, "env": {"A": "a"}}
    rules = {"mounts": ["pki"], "paths": ["*"], "create": {"domains": ["*.{{tenant}}.example.com"]}}
    decision = judged(binding(entry), policy(secrets=[rules]))
    assert decision.allowed == (lacking == "")
    assert lacking in told(decision)


def test_new_values_have_to_be_allowed_and_what_reaches_further_by_name() -> None:
    generate = {"rotation": {"generate": [{"secret": "app", "fields": ["a"]}]}}
    asked = {"rotation": {"generate": [{"secret": "app", "fields": ["a"], "secretIdOf": {"mount": "r", "role": "x"}}]}}
    rules: Json = {"mounts": ["secret"], "paths": ["{{tenant}}/*"]}
    assert "new values" in told(judged(binding(**generate)))
    assert judged(binding(**generate), policy(secrets=[{**rules, "generate": {}}])).allowed
    assert "secret-ids of AppRole r/x" in told(judged(binding(**asked), policy(secrets=[{**rules, "generate": {}}])))
    assert judged(binding(**asked), policy(secrets=[{**rules, "generate": {"secretIdsOf": ["r/*"]}}])).allowed


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ('{{ with secret "secret/data/payments/app" }}{{ .Data.data.a | toJSON }}{{ end }}', ""),
        ('{{ with secret "secret/payments/app" }}{{ .Data.data.a }}{{ end }}', ""),
        ('{{ with secret "secret/data/payments/app?version=2" }}{{ .Data.data.a }}{{ end }}', ""),
        ('{{ with secret "secret/data/payments/other" }}{{ .Data.data.a }}{{ end }}', ""),
        ('{{ with secret "secret/data/billing/app" }}{{ .Data.data.a }}{{ end }}', "secret/data/billing/app"),
        ('{{ with secret "secret/data/payments/../billing/app" }}{{ . }}{{ end }}', "templates that call secret"),
        ('{{ with secret (print "secret/data/billing" "/app") }}{{ . }}{{ end }}', "templates that call secret"),
        ('{{ with "secret/data/billing/app" | secret }}{{ . }}{{ end }}', "templates that call secret"),
        ("{{ with secret `secret/data/billing/app` }}{{ . }}{{ end }}", "secret/data/billing/app"),
        ('{{ with secret "secret/d\\u0061ta/billing/app" }}{{ . }}{{ end }}', "secret/data/billing/app"),
        ('{{ key "billing/x" }}', "templates that call key"),
        ('{{ file "/etc/passwd" }}', "templates that call file"),
        ('{{/* key "x" */}}key "x" {{ `key "x"` }}', ""),
        ('{{ env "NOMAD_ALLOC_ID" }}', ""),
        ('{{ env "AWS_SECRET_ACCESS_KEY" }}', "templates that call env"),
        ('{{ env "NOMAD_TOKEN" }}', "templates that call env"),
        ('{{ sprig_env "HOME" }}', "templates that call sprig_env"),
        ('{{ sprig_upper "a" }}', ""),
        ('{{ define "x" }}{{ plugin "id" }}{{ end }}{{ executeTemplate "x" }}', "executeTemplate, plugin"),
        ('{{ if (file "/etc/passwd") }}a{{ end }}', "templates that call file"),
        ('{{ range ls "a" }}{{ .Key }}{{ end }}', "templates that call ls"),
    ],
)
def test_templates_reach_only_the_bindings_own_secrets_and_what_a_policy_names(text: str, lacking: str) -> None:
    decision = judged(templated(text))
    assert decision.allowed == (lacking == ""), told(decision)
    assert lacking in told(decision)


def test_a_function_that_a_policy_names_may_be_called() -> None:
    calls = templated('{{ range service "db" }}{{ .Address }}{{ key "a" }}{{ end }}')
    assert "templates that call key" in told(judged(calls, policy(templates={"functions": ["service"]})))
    assert judged(calls, policy(templates={"functions": ["key", "service"]})).allowed


def test_functions_are_found_between_other_delimiters_too() -> None:
    text = '[[ key "a" ]]{{ file "x" }}'
    decision = judged(templated(text, leftDelimiter="[[", rightDelimiter="]]"))
    assert "templates that call key" in told(decision)
    assert "file" not in told(decision)


def test_rights_of_a_manifest_that_cannot_be_read_any_more_are_judged_by_their_paths() -> None:
    def rights(*paths: str) -> bool:
        named = policy(secrets=[{"mounts": ["secret", "database"], "paths": ["{{tenant}}/*", "{{tenant}}-rw"]}])
        return decide_rights([named], PAYMENTS, API, [*(Right(path, ("read",)) for path in paths), RENEW]).allowed

    assert rights("secret/data/payments/app", "database/creds/payments-rw")
    assert not rights("secret/data/payments/app", "secret/data/billing/app")
    assert not rights("database/creds/billing-rw")


@settings(max_examples=cases(60), deadline=None)
@given(manifests(), st.booleans())
def test_the_rule_that_a_refusal_shows_allows_just_that_binding(manifest: Json, adopted: bool) -> None:
    bound = parse_object(manifest, source="a test")
    tenant, target = Tenant("nomad", "team-a"), Target("team-a", bound.spec.workload.job)
    refused = decide((), tenant, bound, target, adopted=adopted)
    assert refused.refusals
    shown = suggestion(tenant, bound, target, refused.refusals, adopted=adopted)
    assert shown is not None
    (pasted,) = parse_policies(policy_text(shown))
    assert pasted == shown
    assert decide([pasted], tenant, bound, target, adopted=adopted).allowed
    assert not decide([pasted], replace(tenant, name="team-b"), bound, target, adopted=adopted).allowed
    assert not decide([pasted], tenant, bound, replace(target, namespace="team-b"), adopted=adopted).allowed


def test_every_choice_of_a_sidecar_can_be_named_by_a_policy_as_by_the_settings() -> None:
    assert {choice.value for choice in Choice} >= set(CHOICES)


def test_every_kind_of_secret_can_be_named() -> None:
    assert {kind.value for kind in SecretKind} == set(KINDS)


@pytest.mark.parametrize(
    ("engine", "called", "allowed"),
    [
        ({}, "secret/data/data/app", True),
        ({}, "secret/data/app", False),
        ({"engine": "v2"}, "secret/data/app", False),
        ({"engine": "v2"}, "secret/data/data/app", True),
    ],
)
def test_a_path_that_a_template_would_read_as_another_secrets_is_not_the_bindings_own(
    engine: Json, called: str, *, allowed: bool
) -> None:
    files = [{"destination": "secrets/x", "template": f'{{{{ secret "{called}" }}}}'}]
    entry = {"name": "app", "kv": {"mount": "secret", "path": "data/app", **engine}, "files": files}
    own = policy(secrets=[{"mounts": ["secret"], "paths": ["data/*"]}], tenants=[{"names": ["data"]}])
    tenant, target = Tenant("kubernetes", "data"), Target("data", "api")
    assert judged(binding(entry), own, tenant=tenant, target=target).allowed is allowed


FAR = replace(API, connection="eu")


def test_a_policy_that_names_no_connection_is_about_the_default_one() -> None:
    assert judged(binding()).allowed
    refused = judged(binding(), target=FAR)
    assert told(refused) == (
        "no policy allows tenant payments (kubernetes) secret app (kv secret/payments/app) for job payments/api of "
        "connection eu; policy own does not allow connection eu"
    )


@pytest.mark.parametrize("connections", [["eu"], ["e*"], ["*"], ["default", "eu"]])
def test_a_policy_names_the_connections_that_it_is_about(connections: list[str]) -> None:
    rule = policy(workloads=[{"namespaces": ["*"], "connections": connections}])
    assert judged(binding(), rule, target=FAR).allowed
    assert judged(binding(), rule).allowed == ("default" in connections or "*" in connections)


def test_a_deny_that_names_no_connection_is_about_all_of_them() -> None:
    rule = policy(workloads=[{"namespaces": ["*"], "connections": ["*"]}])
    everywhere, there = deny(), deny(workloads=[{"namespaces": ["*"], "connections": ["eu"]}])
    assert not judged(binding(), rule, everywhere, target=FAR).allowed
    assert not judged(binding(), rule, there, target=FAR).allowed
    assert judged(binding(), rule, there).allowed


def test_the_suggested_policy_allows_the_connection_and_no_other() -> None:
    rule = suggestion(PAYMENTS, binding(), FAR, judged(binding(), target=FAR).refusals)
    assert rule is not None
    assert judged(binding(), rule, target=FAR).allowed
    assert not judged(binding(), rule).allowed
