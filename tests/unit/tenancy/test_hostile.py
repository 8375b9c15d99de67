"""A manifest that is made to break the decision is refused like any other, and hinders nobody beside it."""

from dataclasses import replace

import pytest

from secretbinding.models.policy import Choice, SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policies
from secretbinding.models.reasons import Reason
from secretbinding.models.status import MESSAGE_LENGTH, Condition, ConditionStatus, FailedState
from secretbinding.tenancy import decide, suggested
from secretbinding.tenancy.verdict import Known, verdict
from tests.unit.tenancy.builders import API, PAYMENTS, Json, binding, deny, judged, policy, templated

NOBODY = policy("nobody", tenants=[{"names": ["nobody"]}])


def read(path: str) -> str:
    """A template that reads a path."""
    return f'{{{{ if false }}}}{{{{ with secret "{path}" }}}}{{{{ end }}}}{{{{ end }}}}'


HOSTILE = {
    "an unseen character": read("secret/data/payments\\u200b"),
    "a wide space": read("secret/data/payments\\u3000x"),
    "a byte that is no text": read("secret/data/payments\\xff"),
    "a long path": read(f"secret/data/{'x' * 600}"),
    "no path below the mount": read("secret"),
    "many paths": "".join(read(f"secret/data/other/{index}") for index in range(70)),
    "many mounts": "".join(read(f"m{index}/data/other") for index in range(70)),
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_refused_and_what_it_has_is_taken(template: str) -> None:
    found = verdict(Known((NOBODY,)), PAYMENTS, templated(template), API)
    assert found.taken
    assert found.fault is not None
    assert found.fault.reason is Reason.REFUSED_BY_POLICY
    assert len(found.fault.message) < 20_000


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_what_is_suggested_for_it_is_a_policy_that_can_be_read(template: str) -> None:
    bound = templated(template)
    rule = suggested(PAYMENTS, bound, API, decide((NOBODY,), PAYMENTS, bound, API).refusals)
    assert rule.policy is not None
    assert parse_policies(rule.text) == [rule.policy]


def test_the_first_ten_refusals_are_told_and_the_number_of_the_rest() -> None:
    bound = templated("".join(read(f"secret/data/other/{index}") for index in range(30)))
    found = verdict(Known((NOBODY,)), PAYMENTS, bound, API)
    assert found.fault is not None
    assert "; and 21 more\n" in found.fault.message


@pytest.mark.parametrize("text", ["x" * 40_000 + "\ud800", "ß" * 40_000, "€" * 40_000, "\U0001f511" * 40_000])
def test_a_message_of_any_length_fits_into_a_status(text: str) -> None:
    made = Condition(
        type="Ready",
        status=ConditionStatus.FALSE,
        reason="RefusedByPolicy",
        message=text,
        last_transition_time="2026-01-31T02:00:00Z",
    )
    assert MESSAGE_LENGTH - 4 <= len(made.message.encode()) <= MESSAGE_LENGTH
    assert made.message.rstrip("…") == made.message[:-1]
    assert text.startswith(made.message[:-1])


def test_what_nomad_says_of_a_failure_fits_into_a_status_whatever_it_says() -> None:
    assert len((FailedState(state="x", message="ß" * 5_000).message or "").encode()) <= 1024


@pytest.mark.parametrize(
    ("never", "entry"),
    [
        ({"kinds": ["kv"], "mounts": ["secret"], "paths": ["x/*"]}, {"mount": "secret/data/x", "role": "x"}),
        ({"kinds": ["kv"], "mounts": ["*"], "paths": ["*"]}, {"mount": "secret/data/x", "role": "x"}),
        ({"kinds": ["database"], "mounts": ["database"], "paths": ["admin"]}, {"mount": "database", "role": "admin"}),
    ],
)
def test_a_deny_of_one_kind_is_not_passed_by_another_that_reads_the_same_path(never: Json, entry: Json) -> None:
    everything = policy(secrets=[{"mounts": ["*", "*/data/*"], "paths": ["*"]}])
    bound = binding({"name": "app", "aws": {**entry, "maxTTL": "1h"}, "env": {"A": "access_key"}})
    assert judged(bound, everything).allowed
    assert judged(bound, everything, deny(secrets=[never])).refusals[0].denied


def test_a_deny_of_all_of_a_kind_leaves_the_others() -> None:
    everything = policy(secrets=[{"mounts": ["*"], "paths": ["*"]}])
    bound = binding({"name": "app", "aws": {"mount": "aws", "role": "x", "maxTTL": "1h"}, "env": {"A": "access_key"}})
    assert judged(bound, everything, deny(secrets=[{"kinds": ["pki"], "mounts": ["*"], "paths": ["*"]}])).allowed


def test_nothing_is_suggested_for_a_path_that_is_a_whole_mount() -> None:
    rule = suggested(PAYMENTS, templated(read("secret")), API)
    assert rule.policy is not None
    assert [one.paths for one in rule.policy.spec.secrets] == [("payments/app",)]
    assert "Left out: `secret`" in rule.text


@pytest.mark.parametrize("job", ["*", "w*", "web'", "{{tenant}}"])
def test_nothing_is_suggested_for_a_job_whose_name_means_others_too(job: str) -> None:
    rule = suggested(PAYMENTS, binding(), replace(API, job=job))
    assert rule.policy is None
    assert "without saying others too" in rule.text


def test_the_suggestion_names_the_drivers_of_the_job() -> None:
    rule = suggested(PAYMENTS, binding(), API).policy
    assert rule is not None
    assert decide((rule,), PAYMENTS, binding(), API).allowed
    assert not decide((rule,), PAYMENTS, binding(), replace(API, drivers=frozenset({"raw_exec"}))).allowed


def test_a_variable_of_another_namespace_opens_no_job_there() -> None:
    bound = binding(
        {
            "name": "app",
            "nomadVariable": {"namespace": "shared", "path": "app", "accessGranted": True},
            "env": {"A": "a"},
        }
    )
    rule = suggested(PAYMENTS, bound, API).policy
    assert rule is not None
    assert decide((rule,), PAYMENTS, bound, API).allowed
    assert not decide((rule,), PAYMENTS, bound, replace(API, namespace="shared")).allowed


@pytest.mark.parametrize(
    ("policies", "taken"),
    [
        ((policy(),), False),
        ((NOBODY,), True),
        ((policy(workloads=[{"namespaces": ["elsewhere"]}]),), True),
        ((policy(), deny()), True),
        ((policy(), deny(secrets=[{"mounts": ["secret"], "paths": ["x"]}])), False),
    ],
)
def test_an_invalid_manifest_without_rights_in_vault_stays_only_where_something_is_allowed(
    policies: tuple[SecretBindingPolicy, ...], taken: bool
) -> None:
    """Such as one of Nomad's variables alone."""
    assert verdict(Known(policies), PAYMENTS, None, API).taken is taken


@pytest.mark.parametrize("name", ["NOMAD_TOKEN", "NOMAD_HTTP_AUTH", "NOMAD_LICENSE", "NOMAD_UNIX_ADDR", "HOME"])
def test_a_template_reads_no_variable_of_the_clients_environment(name: str) -> None:
    assert not judged(templated(f'{{{{ env "{name}" }}}}')).allowed


@pytest.mark.parametrize(
    "name", ["NOMAD_ALLOC_ID", "NOMAD_JOB_NAME", "NOMAD_PORT_http", "NOMAD_META_team", "NOMAD_SECRETS_DIR"]
)
def test_a_template_reads_what_nomad_sets_for_the_task(name: str) -> None:
    assert judged(templated(f'{{{{ env "{name}" }}}}')).allowed


def test_an_invalid_manifest_whose_job_runs_its_script_stays_only_where_scripts_are_allowed() -> None:
    shown = frozenset({Choice.SCRIPT})
    assert verdict(Known((policy(),)), PAYMENTS, None, API, choices=shown).taken
    assert not verdict(Known((policy(choices=["script"]),)), PAYMENTS, None, API, choices=shown).taken
