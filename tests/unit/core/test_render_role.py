"""A role lets exactly the right tasks in, with the shortest of the asked lifetimes."""

from typing import Any

import pytest

from secretbinding.models.binding import Auth
from secretbinding.models.key import WorkloadKey
from secretbinding.render.role import (
    RoleBinding,
    TokenLimits,
    join_limits,
    role_body,
    role_limits,
    role_policies,
    same_role,
)

JOB = WorkloadKey("default", "", "prod", "team/web:1")


def auth(**times: str) -> Auth:
    return Auth.model_validate(times)


def test_the_role_of_a_task_is_bound_to_group_and_task_by_its_subject() -> None:
    body = role_body(RoleBinding(JOB, "api", "server", "global"), ["p2", "p1"], TokenLimits(period=600))
    assert body == {
        "role_type": "jwt",
        "bound_audiences": ["vault.io"],
        "user_claim": "sub",
        "bound_claims": {"nomad_namespace": "prod", "nomad_job_id": "team/web:1", "nomad_task": "server"},
        "bound_claims_type": "string",
        "bound_subject": "global:prod:team/web:1:api:server:vault_default",
        "claim_mappings": {
            "nomad_namespace": "nomad_namespace",
            "nomad_job_id": "nomad_job_id",
            "nomad_task": "nomad_task",
        },
        "token_type": "service",
        "token_policies": ["p1", "p2"],
        "token_period": 600,
        "token_ttl": 0,
        "token_max_ttl": 0,
    }


def test_the_role_of_a_whole_job_is_bound_to_namespace_and_job() -> None:
    body = role_body(RoleBinding(JOB), ["p"], TokenLimits())
    assert body["bound_claims"] == {"nomad_namespace": "prod", "nomad_job_id": "team/web:1"}
    assert "bound_subject" not in body


def test_without_a_known_region_there_is_no_subject_to_bind() -> None:
    body = role_body(RoleBinding(JOB, "api", "server", ""), ["p"], TokenLimits())
    assert "bound_subject" not in body
    assert body["bound_claims"]["nomad_task"] == "server"


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        ([], TokenLimits(period=1800)),
        ([{}], TokenLimits(period=1800)),
        ([{"tokenPeriod": "10m"}], TokenLimits(period=600)),
        ([{"tokenPeriod": "10m"}, {}], TokenLimits(period=600)),
        ([{"tokenPeriod": "1h"}, {}], TokenLimits(period=1800)),
        ([{"tokenTTL": "5m"}], TokenLimits(period=0, ttl=300)),
        ([{"tokenMaxTTL": "2h"}], TokenLimits(period=0, max_ttl=7200)),
        ([{"tokenTTL": "5m", "tokenMaxTTL": "2h"}, {"tokenTTL": "1m"}], TokenLimits(period=0, ttl=60, max_ttl=7200)),
        ([{"tokenTTL": "5m", "tokenMaxTTL": "2h"}, {"tokenPeriod": "10m"}], TokenLimits(period=300)),
        ([{"tokenMaxTTL": "2h"}, {"tokenPeriod": "10m"}], TokenLimits(period=600)),
    ],
)
def test_a_token_that_bindings_share_lives_as_long_as_the_shortest_asks(
    asked: list[dict[str, str]], limits: TokenLimits
) -> None:
    assert join_limits([auth(**times) for times in asked]) == limits
    assert join_limits([auth(**times) for times in reversed(asked)]) == limits


@pytest.mark.parametrize("there", [TokenLimits(period=60), TokenLimits(period=0, ttl=60, max_ttl=90)])
def test_limits_of_a_binding_that_stays_as_it_is_stay(there: TokenLimits) -> None:
    assert join_limits([], there) == there
    assert join_limits([auth()], TokenLimits(period=60)) == TokenLimits(period=60)


def test_a_lifetime_below_a_second_is_not_taken_for_none() -> None:
    assert join_limits([auth(tokenPeriod="500ms")]).period == 1


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ({}, True),
        ({"token_num_uses": 0, "oidc_scopes": None}, True),
        ({"token_policies": ["b", "a"]}, True),
        ({"token_policies": ["a"]}, False),
        ({"token_policies": None}, False),
        ({"bound_claims": {"nomad_namespace": "other"}}, False),
        ({"bound_claims_type": "glob"}, False),
        ({"token_period": 60}, False),
        ({"user_claim": "nomad_job_id"}, False),
    ],
)
def test_of_what_the_server_answers_only_what_we_set_is_compared(answer: dict[str, Any], same: bool) -> None:
    body = role_body(RoleBinding(JOB), ["a", "b"], TokenLimits())
    assert same_role({**body, **answer}, body) is same


def test_limits_and_policies_are_read_from_a_role() -> None:
    body = role_body(RoleBinding(JOB), ["b", "a"], TokenLimits(period=7))
    assert role_limits(body) == TokenLimits(period=7)
    assert role_limits(None) is None
    assert role_policies(body) == ("a", "b")
    assert role_policies(None) == role_policies({"token_policies": None}) == ()
