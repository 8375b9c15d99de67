"""What a template's calls and a Deny of kinds reach: told by what the engines of Vault answer at which paths."""

import pytest
from hypothesis import given, settings

from secretbinding.models.loading import parse_object
from secretbinding.models.policy import SecretKind
from secretbinding.tenancy import suggested
from secretbinding.tenancy.demands import demands_of
from secretbinding.tenancy.shapes import may_be, name_in, splits
from tests.support.fuzzing import cases
from tests.unit.models.manifests import manifests
from tests.unit.tenancy.builders import API, PAYMENTS, Json, binding, deny, judged, policy, templated, told

EVERYTHING = policy(
    secrets=[
        {
            "kinds": [kind.value for kind in SecretKind if kind is not SecretKind.NOMAD_VARIABLE],
            "mounts": ["*"],
            "paths": ["*"],
        }
    ]
)


def one(kind: str, **spec: object) -> Json:
    return {"name": "app", kind: spec, "env": {"A": "a"}}


def never(*kinds: str) -> Json:
    return {"kinds": list(kinds), "mounts": ["*"], "paths": ["*"]}


DATABASE_IN_DISGUISE = [
    one("aws", mount="database", role="admin", maxTTL="1h"),
    one("azure", mount="database", role="admin", maxTTL="1h"),
    one("generic", mount="database", path="creds/admin"),
    one("generic", mount="database", path="static-creds/admin"),
    one("kv", mount="database", path="creds/admin", engine="v1"),
    one("kv", mount="database", path="creds/admin"),
    one("kv", mount="database/creds", path="admin", engine="v1"),
    one("kv", mount="database", path="config/main"),
    one("generic", mount="database", path="config/main"),
    one("generic", mount="anything", path="at/all"),
]


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("pki", one("ssh", mount="pki", role="web", type="Sign", publicKey="ssh-rsa AAAAB3Nz=")),
        ("pki", one("generic", mount="pki", path="issuer/default/issue/web", capabilities=["update"])),
        ("aws", one("database", mount="aws", staticRole="admin")),
        ("ssh", one("transit", mount="ssh", key="web", operations=["Sign"], token="Env")),
        ("transit", one("generic", mount="transit", path="export/encryption-key/k")),
    ],
)
def test_nor_a_deny_of_another_kind(kind: str, entry: Json) -> None:
    if "transit" in entry:
        entry = {name: value for name, value in entry.items() if name != "env"}
    everything = policy(
        secrets=[{**EVERYTHING.to_manifest()["spec"]["secrets"][0], "capabilities": ["read", "update"]}]
    )
    assert judged(binding(entry), everything).allowed
    assert judged(binding(entry), everything, deny(secrets=[never(kind)])).refusals[0].denied


@pytest.mark.parametrize("entry", DATABASE_IN_DISGUISE)
def test_a_deny_of_all_databases_is_passed_by_no_other_kind_that_reads_a_databases_path(entry: Json) -> None:
    assert judged(binding(entry), EVERYTHING).allowed
    assert judged(binding(entry), EVERYTHING, deny(secrets=[never("database")])).refusals[0].denied


def test_nor_by_a_template_that_reads_such_a_path() -> None:
    bound = templated('{{ with secret "database/creds/admin" }}{{ .Data.password }}{{ end }}')
    assert judged(bound, EVERYTHING).allowed
    assert not judged(bound, EVERYTHING, deny(secrets=[never("database")])).allowed


@pytest.mark.parametrize(
    ("kinds", "entry"),
    [
        (["database"], one("kv", mount="secret", path="app", engine="v2")),
        (["database"], one("pki", mount="pki", role="web", commonName="a")),
        (["database"], one("kv", mount="secret", path="team/app")),
        (["nomadVariable"], one("generic", mount="rabbitmq", path="creds/x")),
        (["database"], one("aws", mount="aws", role="x", sts=True)),
        (["pki"], one("database", mount="database", role="x")),
        (["pki", "gcp", "transit"], one("database", mount="database", role="x")),
    ],
)
def test_a_deny_of_all_of_a_kind_leaves_what_has_no_path_of_that_kind(kinds: list[str], entry: Json) -> None:
    assert judged(binding(entry), EVERYTHING, deny(secrets=[never(*kinds)])).allowed


@pytest.mark.parametrize(
    "entry",
    [
        one("aws", mount="kv1/team", role="prod", maxTTL="1h"),
        one("database", mount="kv1", role="prod"),
        one("generic", mount="kv1", path="prod"),
    ],
)
def test_a_deny_of_all_kv_secrets_holds_for_every_path_since_version_1_answers_at_any(entry: Json) -> None:
    assert not judged(binding(entry), EVERYTHING, deny(secrets=[never("kv")])).allowed


def test_who_names_the_mounts_of_a_kind_spares_the_other_engines() -> None:
    named = deny(secrets=[{"kinds": ["database"], "mounts": ["database", "pg-*"], "paths": ["*"]}])
    assert judged(binding(one("aws", mount="aws", role="x", maxTTL="1h")), EVERYTHING, named).allowed
    assert not judged(binding(one("aws", mount="pg-1", role="x", maxTTL="1h")), EVERYTHING, named).allowed


@settings(max_examples=cases(60), deadline=None)
@given(manifests())
def test_what_a_kind_asks_for_is_among_what_its_engine_is_known_to_give(manifest: Json) -> None:
    """A kind that is new, or asks at another path, has to be told of here too."""
    for demand in demands_of(parse_object(manifest, source="a test")):
        if demand.kind in ("generic", "nomadVariable") or demand.call or not demand.name:
            continue
        for path in demand.rights:
            assert may_be(demand.kind, path)
            rests = [rest for mount, rest in splits(path) if mount == demand.mount]
            assert demand.kind == "kv" or any(name_in(demand.kind, rest) for rest in rests), path


@pytest.mark.parametrize(
    ("kinds", "path"),
    [
        (["database"], "engine/config/payments-db"),
        (["database"], "engine/roles/payments-db"),
        (["database"], "engine/rotate-root/payments-db"),
        (["transit"], "engine/export/payments-db"),
        (["transit"], "engine/backup/payments-db"),
        (["transit"], "engine/export/encryption-key/payments-db"),
        (["pki"], "engine/creds/payments-db"),
        (["gcp"], "engine/roleset/payments-db"),
        (["gcp"], "engine/config/payments-db/token"),
        (["kv"], "engine/metadata/payments-db"),
        (["kv"], "engine/subkeys/payments-db"),
    ],
)
def test_a_rule_lets_templates_read_only_what_an_engine_of_its_kinds_gives(kinds: list[str], path: str) -> None:
    rule = {"kinds": kinds, "mounts": ["engine"], "paths": ["payments-*", "payments/*"]}
    bound = templated(f'{{{{ with secret "{path}" }}}}{{{{ . }}}}{{{{ end }}}}')
    assert path in told(judged(bound, policy(), policy("engine", secrets=[rule])))


@pytest.mark.parametrize("pattern", ["config/*", "*"])
def test_a_rule_for_an_engine_opens_none_of_its_configuration_to_templates(pattern: str) -> None:
    rule = {"kinds": ["database"], "mounts": ["engine"], "paths": [pattern]}
    bound = templated('{{ with secret "engine/config/main" }}{{ . }}{{ end }}')
    assert not judged(bound, policy(), policy("engine", secrets=[rule])).allowed


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("database", "engine/creds/payments-db"),
        ("database", "engine/static-creds/payments-db"),
        ("gcp", "engine/roleset/payments-db/token"),
        ("transit", "engine/keys/payments-db"),
        ("kv", "engine/data/payments-db"),
        ("kv", "engine/payments-db"),
    ],
)
def test_a_rule_lets_templates_read_what_an_engine_of_its_kind_gives(kind: str, path: str) -> None:
    rule = {"kinds": [kind], "mounts": ["engine"], "paths": ["payments-*"]}
    bound = templated(f'{{{{ with secret "{path}" }}}}{{{{ . }}}}{{{{ end }}}}')
    assert judged(bound, policy(), policy("engine", secrets=[rule])).allowed


WRITES = [
    '{{ with secret "secret/data/payments/other" "a=b" }}{{ . }}{{ end }}',
    '{{ with secret "secret/data/payments/other" "" }}{{ . }}{{ end }}',
    '{{ with secret "secret/data/payments/other" (print "a=" "b") }}{{ . }}{{ end }}',
    '{{ with "a=b" | secret "secret/data/payments/other" }}{{ . }}{{ end }}',
    "{{ (secret `secret/data/payments/other` `a=b`).Data }}",
    '{{ with $x := secret "secret/data/payments/other" "a=b" }}{{ $x }}{{ end }}',
    '{{ with secret "secret/data/payments/app" "a=b" }}{{ . }}{{ end }}',
    '{{ with secret "secret/payments/app" "a=b" }}{{ . }}{{ end }}',
    '{{ with pkiCert "secret/data/payments/other" }}{{ . }}{{ end }}',
]


@pytest.mark.parametrize("text", WRITES)
def test_a_template_that_writes_needs_the_capability_to_write(text: str) -> None:
    assert "the capabilities update" in told(judged(templated(text)))
    rule = {"mounts": ["secret"], "paths": ["{{tenant}}/*"], "capabilities": ["read", "update"]}
    assert judged(templated(text), policy(secrets=[rule])).allowed
    assert not judged(templated(text), policy(secrets=[{**rule, "capabilities": ["read"]}])).allowed


@pytest.mark.parametrize("text", WRITES)
def test_the_rule_that_is_suggested_for_a_template_that_writes_allows_it(text: str) -> None:
    rule = suggested(PAYMENTS, templated(text), API).policy
    assert rule is not None
    assert judged(templated(text), rule).allowed


@pytest.mark.parametrize(
    "text",
    [
        '{{ with secret "secret/data/payments/other" | toJSON }}{{ . }}{{ end }}',
        '{{ (secret "secret/data/payments/other").Data.data.a | toJSON }}',
        '{{ len (secret "secret/data/payments/other").Data.data }}',
    ],
)
def test_what_follows_a_call_in_a_pipeline_makes_no_write_of_it(text: str) -> None:
    assert judged(templated(text)).allowed


def test_what_a_binding_may_write_by_itself_its_template_may_write_too() -> None:
    def bound(capabilities: list[str]) -> Json:
        text = '{{ with secret "engine/payments-x" "a=b" }}{{ . }}{{ end }}'
        generic = {"mount": "engine", "path": "payments-x", "capabilities": capabilities}
        return {"name": "app", "generic": generic, "files": [{"destination": "secrets/a", "template": text}]}

    rule = {"kinds": ["generic"], "mounts": ["engine"], "paths": ["payments-*"]}
    writing = policy(secrets=[{**rule, "capabilities": ["read", "update"]}])
    assert judged(binding(bound(["read", "update"])), writing).allowed
    assert not judged(binding(bound(["read"])), policy(secrets=[rule])).allowed


def test_a_certificate_of_the_bindings_own_role_is_issued_by_its_template() -> None:
    text = '{{ with secret "pki/issue/web" "common_name=a" }}{{ . }}{{ end }}'
    entry = one("pki", mount="pki", role="web", commonName="a")
    del entry["env"]
    entry["files"] = [{"destination": "secrets/a", "template": text}]
    assert judged(binding(entry), policy(secrets=[{"kinds": ["pki"], "mounts": ["pki"], "paths": ["web"]}])).allowed
