"""Which error an answer is: decided from the status and the server's text alone."""

import json

import pytest

from secretbinding.adapters.nomad.faults import judge as judge_nomad
from secretbinding.adapters.transport import Call
from secretbinding.adapters.vault.faults import judge as judge_vault
from secretbinding.errors import (
    Conflict,
    Denied,
    NoLeader,
    NotFound,
    Rejected,
    ServiceError,
    Unavailable,
    VaultSealed,
)

VALIDATION = "1 error occurred:\n\t* Task group g validation failed: 1 error occurred:\n\t* Missing task driver"


def errors(*texts: str) -> str:
    return json.dumps({"errors": list(texts)})


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, errors("a user claim must be defined on the role"), Rejected),
        (403, errors("permission denied"), Denied),
        (404, errors(), NotFound),
        (404, errors('no handler for route "kv/metadata/a". route entry not found.'), NotFound),
        (404, json.dumps({"data": {"subkeys": None}}), NotFound),
        (404, errors("namespace not found"), Rejected),
        (404, "<html>404 Not Found</html>", ServiceError),
        (404, "404 page not found", ServiceError),
        (405, errors("unsupported operation"), Rejected),
        (412, errors("required index state not present"), Unavailable),
        (429, errors("request path: rate limit quota exceeded"), Unavailable),
        (500, errors("internal error"), Unavailable),
        (502, "<html>Bad Gateway</html>", Unavailable),
        (503, errors("Vault is sealed"), VaultSealed),
        (503, "<html>503 Service Unavailable</html>", Unavailable),
    ],
)
def test_vaults_answers(status: int, text: str, kind: type[ServiceError]) -> None:
    error = judge_vault(Call("role_read", "read role app of jwt"), status, text)
    assert type(error) is kind
    assert error.system == "vault"
    assert "read role app of jwt" in str(error)


def test_no_route_to_the_policies_means_that_it_is_not_vault_and_not_that_the_policy_is_absent() -> None:
    text = errors('no handler for route "sys/policies/acl/app". route entry not found.')
    assert type(judge_vault(Call("policy_read", "read policy app"), 404, text)) is ServiceError


@pytest.mark.parametrize(
    ("label", "status", "text", "kind"),
    [
        ("job_read", 400, "Invalid index", Rejected),
        ("job_read", 403, "Permission denied", Denied),
        ("job_read", 403, "ACL token not found", Denied),
        ("job_read", 500, "rpc error: ACL token expired", Denied),
        ("job_register", 403, "Job registration, dispatch, and scale are disabled by the scheduler", Denied),
        ("job_read", 404, "job not found", NotFound),
        ("job_read", 404, "404 page not found", ServiceError),
        ("job_read", 404, "<html>404 Not Found</html>", ServiceError),
        ("variable_write", 409, '{"Items": {"password": "opensesame"}}', Conflict),
        ("job_read", 429, "Your IP is issuing too many concurrent connections", Unavailable),
        ("job_read", 500, "No cluster leader", NoLeader),
        ("job_register", 500, "rpc error: No cluster leader", NoLeader),
        ("job_register", 500, "Enforcing job modify index 7: job exists with conflicting index: 9", Conflict),
        ("job_register", 500, "rpc error: Enforcing job modify index 0: job already exists", Conflict),
        ("job_register", 500, VALIDATION, Rejected),
        ("job_plan", 500, f"rpc error: {VALIDATION}", Rejected),
        ("job_register", 500, "cannot update job from type service to batch", Rejected),
        ("job_register", 500, "rpc error: EOF", Unavailable),
        ("job_register", 500, "leadership lost while committing log", Unavailable),
        ("job_register", 500, "2 errors occurred:\n\t* check timeout must be more than 1s", Rejected),
        ("job_read", 500, "something else", Unavailable),
        ("job_register", 502, "Bad Gateway", Unavailable),
        ("job_read", 500, "No path to region", Unavailable),
        ("version_untag", 500, 'tag "v" not found on job "app"', NotFound),
        ("version_tag", 500, 'job "app" version 7 not found', NotFound),
        ("version_tag", 500, 'tag "v" already exists on a different version of job "app"', Rejected),
    ],
)
def test_nomads_answers(label: str, status: int, text: str, kind: type[ServiceError]) -> None:
    error = judge_nomad(Call(label, "do it to job app", absent="job not found"), status, text)
    assert type(error) is kind
    assert error.system == "nomad"
    assert "opensesame" not in str(error)


def test_nomads_own_words_reach_the_reader_without_the_rpc_prefix() -> None:
    error = judge_nomad(Call("variable_write", "write variable a"), 400, "rpc error: RPC Error:: 400,too large")
    assert "Nomad says: too large" in str(error)


def test_a_denial_names_the_path_and_the_capability_and_the_line_to_add() -> None:
    call = Call("x", "x", denied="the token may not read p, which needs `read`", grant='add `path "p"` to its policy')
    for error in (judge_vault(call, 403, errors("permission denied")), judge_nomad(call, 403, "Permission denied")):
        assert error.message == call.denied
        assert error.remedy.startswith(call.grant)
