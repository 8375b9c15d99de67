"""A manifest that cannot be read any more is judged by the terms of the last one that could be."""

import pytest

from secretbinding.kinds.base import RENEW, Right
from secretbinding.models.binding import SecretBinding
from secretbinding.models.policy import Choice, SecretBindingPolicy
from secretbinding.tenancy.terms import Terms, read_terms, terms_of
from secretbinding.tenancy.verdict import Known, Verdict, verdict
from tests.unit.tenancy.builders import API, PAYMENTS, Json, binding, deny, kv, policy, templated

OWN = (Right("secret/data/payments/app", ("read",)),)


def judged(bound: SecretBinding, *policies: SecretBindingPolicy, rights: tuple[Right, ...] = OWN) -> Verdict:
    """The verdict when the manifest has become invalid, by what the policy in Vault remembers of it."""
    remembered = read_terms(terms_of(bound).to_json())
    assert remembered == terms_of(bound)
    return verdict(Known(policies), PAYMENTS, None, API, rights=rights, terms=remembered)


NATIVE = {"rotation": {"strategy": "Native"}}
SCRIPT = {**kv(), "changeMode": "Script", "changeScript": {"command": "/bin/reload"}}
AGENT_FILES = {
    "name": "app",
    "kv": {"mount": "secret", "path": "payments/app"},
    "files": [{"destination": "../alloc/secrets/app"}],
}
CASES: list[tuple[str, SecretBinding, Json]] = [
    ("its script", binding(SCRIPT, **NATIVE), {"choices": ["script"]}),
    ("its delivery", binding(AGENT_FILES, delivery="Agent"), {"delivery": ["Agent"]}),
    (
        "how it logs in",
        binding(AGENT_FILES, delivery="Agent", auth={"method": "AppRole"}),
        {"delivery": ["Agent"], "auth": {"methods": ["AppRole"]}},
    ),
    (
        "what its agent runs",
        binding(AGENT_FILES, delivery="Agent", agent={"image": "vault:2"}),
        {"delivery": ["Agent"], "choices": ["image"]},
    ),
    ("what its template calls", templated('{{ key "a" }}'), {"templates": {"functions": ["key"]}}),
    ("that it may stay", binding(deletionPolicy="Retain"), {"retain": True}),
    (
        "what its template reads of others",
        templated('{{ with secret "secret/data/payments/other" }}{{ . }}{{ end }}'),
        {"secrets": [{"mounts": ["secret"], "paths": ["payments/app", "payments/other"]}]},
    ),
    (
        "what its template writes",
        templated('{{ with secret "secret/data/payments/app" "a=b" }}{{ . }}{{ end }}'),
        {"secrets": [{"mounts": ["secret"], "paths": ["payments/app"], "capabilities": ["read", "update"]}]},
    ),
]


@pytest.mark.parametrize(("what", "bound", "needed"), CASES, ids=[case[0] for case in CASES])
def test_what_it_was_given_stays_as_long_as_policies_allow_all_of_it(
    what: str, bound: SecretBinding, needed: Json
) -> None:
    without = {"secrets": [{"mounts": ["secret"], "paths": ["payments/app"]}]}
    assert judged(bound, policy(**needed)).fault is None
    assert judged(bound, policy(**without)).taken, what


@pytest.mark.parametrize(
    ("auth", "limit", "taken"),
    [
        ({"tokenPeriod": "2h"}, "1h", True),
        ({"tokenPeriod": "30m"}, "1h", False),
        ({"tokenMaxTTL": "2h"}, "1h", True),
        ({}, "1h", True),
        ({"tokenPeriod": "2h"}, None, False),
    ],
)
def test_how_long_its_tokens_live_is_judged_anew(auth: Json, limit: str | None, *, taken: bool) -> None:
    limited = policy(auth={"maxTTL": limit}) if limit is not None else policy()
    assert judged(binding(auth=auth), limited).taken is taken


def test_the_refusal_stays_while_rights_are_left_though_the_job_shows_the_script_no_more() -> None:
    bound = binding(SCRIPT, **NATIVE)
    shown = verdict(
        Known((policy(),)),
        PAYMENTS,
        None,
        API,
        rights=OWN,
        terms=terms_of(bound),
        choices=frozenset({Choice.SCRIPT}),
    )
    gone = verdict(Known((policy(),)), PAYMENTS, None, API, rights=OWN, terms=terms_of(bound))
    assert shown.taken
    assert gone.taken


def test_variables_alone_are_judged_by_their_terms_too() -> None:
    bound = binding({"name": "app", "nomadVariable": {"path": "x", "accessGranted": True}, "env": {"A": "a"}})
    retained = terms_of(bound.model_copy(update={"spec": binding(deletionPolicy="Retain").spec}))
    assert verdict(Known((policy(),)), PAYMENTS, None, API, terms=terms_of(bound)).fault is None
    found = verdict(Known((policy(),)), PAYMENTS, None, API, terms=retained)
    assert found.taken
    assert found.fault is not None
    assert found.fault.message.startswith("no policy allows tenant payments (kubernetes) deletionPolicy Retain for job")


def test_two_policies_may_allow_the_functions_of_two_secrets() -> None:
    bound = templated('{{ key "a" }}{{ range service "b" }}{{ .Address }}{{ end }}')
    keys = policy("keys", templates={"functions": ["key"]})
    services = policy("services", templates={"functions": ["service"]})
    assert judged(bound, keys, services).fault is None
    assert judged(bound, keys).taken


def test_of_a_policy_that_an_older_version_wrote_only_the_rights_are_judged() -> None:
    limited = Known((policy(auth={"maxTTL": "1h"}),))
    assert verdict(limited, PAYMENTS, None, API, rights=OWN).fault is None
    assert verdict(limited, PAYMENTS, None, API, rights=OWN, terms=Terms()).taken


def test_a_role_that_was_made_is_judged_by_its_mount_as_it_was_when_it_was_asked_for() -> None:
    rights = (Right("db/creds/nv-team-db", ("read",)), RENEW)
    making = policy(secrets=[{"kinds": ["database"], "mounts": ["db"], "paths": ["other"], "create": {}}])
    named = policy(secrets=[{"kinds": ["database"], "mounts": ["db"], "paths": ["other"]}])

    def found(rule: SecretBindingPolicy, *made: str) -> Verdict:
        return verdict(Known((rule,)), PAYMENTS, None, API, rights=rights, made=made)

    assert found(making, "db/roles/nv-team-db").fault is None
    assert found(named, "db/roles/nv-team-db").taken
    assert found(making, "db/roles/nv-other-db").taken
    assert found(making).taken


def test_a_deny_takes_it_whatever_the_terms() -> None:
    assert judged(binding(), policy(), deny()).taken


def test_what_it_took_over_by_hand_has_to_be_allowed_still() -> None:
    def found(rule: SecretBindingPolicy) -> Verdict:
        return verdict(Known((rule,)), PAYMENTS, None, API, rights=OWN, terms=terms_of(binding()), adopted=True)

    assert found(policy(adopt=True)).fault is None
    assert found(policy()).taken


@pytest.mark.parametrize(
    ("kind", "path", "taken"),
    [
        ("database", "secret/data/payments/app", False),
        ("database", "secret/creds/payments/app", True),
        ("kv", "secret/data/payments/app", True),
        ("generic", "secret/data/payments/app", False),
        ("generic", "secret/payments/app", True),
        ("nomadVariable", "secret/payments/app", False),
    ],
)
def test_a_deny_of_a_kind_takes_of_a_broken_manifest_what_it_would_take_of_a_good_one(
    kind: str, path: str, *, taken: bool
) -> None:
    everything = policy(secrets=[{"kinds": ["kv", "database", "generic"], "mounts": ["*"], "paths": ["*"]}])
    never = deny(secrets=[{"kinds": [kind], "mounts": ["*"], "paths": ["*"]}])
    rights = (Right(path, ("read",)),)
    assert judged(binding(), everything, rights=rights).fault is None
    assert judged(binding(), everything, never, rights=rights).taken is taken
