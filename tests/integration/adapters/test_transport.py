"""The transport: what is tried again and what never, time limits, pools, and what metrics are told."""

import dataclasses
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from secretbinding.adapters.connection import NomadConnection, TokenFile, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.errors import (
    Conflict,
    NoLeader,
    Rejected,
    ServiceError,
    Unavailable,
    Unreachable,
    UsageError,
    VaultSealed,
)

from .misbehaving import Misbehaving, drip, half, misbehaving, reply, reset

POLICY = {"data": {"name": "app", "policy": "text"}}
JOB = {"ID": "app", "Namespace": "default"}
QUICK: dict[str, Any] = {"timeout_seconds": 2.0, "connect_timeout_seconds": 2.0, "retry_seconds": 5.0}


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


@pytest.fixture
def vault(server: Misbehaving) -> VaultAdapter:
    return VaultAdapter(VaultConnection(address=server.address, token="t", **QUICK))


@pytest.fixture
def nomad(server: Misbehaving) -> NomadAdapter:
    return NomadAdapter(NomadConnection(address=server.address, token="t", **QUICK))


@pytest.mark.parametrize("fault", [reset, half, reply(502), reply(503), reply(412, {"errors": []}), reply(500)])
def test_a_read_is_tried_again_after_a_passing_fault(server: Misbehaving, vault: VaultAdapter, fault: Any) -> None:
    server.script = [fault, fault, reply(200, POLICY)]
    assert vault.read_policy("app") == "text"
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [reset, reply(502)])
def test_writing_a_policy_is_tried_again_since_twice_is_the_same_as_once(
    server: Misbehaving, vault: VaultAdapter, fault: Any
) -> None:
    server.script = [fault, reply(204)]
    vault.write_policy("app", "text")
    assert [request.body for request in server.requests] == [b'{"policy":"text"}'] * 2


def test_a_deletion_is_tried_again(server: Misbehaving, nomad: NomadAdapter) -> None:
    server.script = [reset, reply(204)]
    nomad.delete_variable("default", "a")
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [reset, half, reply(502)])
def test_a_registration_whose_answer_was_lost_is_not_sent_again(
    server: Misbehaving, nomad: NomadAdapter, fault: Any
) -> None:
    server.script = [fault, reply(200, {"EvalID": "e", "JobModifyIndex": 2})]
    with pytest.raises((Unreachable, Unavailable)) as caught:
        nomad.register(JOB, modify_index=1)
    assert caught.value.transient
    assert len(server.requests) == 1


def test_a_variable_write_with_cas_whose_answer_was_lost_is_not_sent_again(
    server: Misbehaving, nomad: NomadAdapter
) -> None:
    server.script = [reset, reply(409, {})]
    with pytest.raises(Unreachable):
        nomad.write_variable("default", "a", {"k": "v"}, cas=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [reply(429, b"slow down"), reply(500, b"No cluster leader")])
def test_a_registration_that_was_not_applied_is_sent_again(
    server: Misbehaving, nomad: NomadAdapter, fault: Any
) -> None:
    server.script = [fault, reply(200, {"EvalID": "e", "JobModifyIndex": 2})]
    assert nomad.register(JOB, modify_index=1).job_modify_index == 2


def test_nothing_else_of_the_4xx_is_tried_again(server: Misbehaving, vault: VaultAdapter) -> None:
    for status in (400, 401, 403, 405, 409, 413, 422):
        server.script = [reply(status, {"errors": ["no"]})]
        server.requests.clear()
        with pytest.raises(ServiceError):
            vault.read_policy("app")
        assert len(server.requests) == 1


def test_retry_after_is_waited_for(server: Misbehaving, vault: VaultAdapter) -> None:
    server.script = [reply(429, {"errors": ["quota"]}, Retry_After="1"), reply(200, POLICY)]
    started = time.monotonic()
    assert vault.read_policy("app") == "text"
    assert time.monotonic() - started >= 1.0


def test_a_retry_after_beyond_the_budget_is_an_error_at_once(server: Misbehaving, vault: VaultAdapter) -> None:
    server.script = [reply(429, {"errors": ["quota"]}, Retry_After="60")]
    with pytest.raises(Unavailable):
        vault.read_policy("app")
    assert len(server.requests) == 1


def test_retries_are_bounded_in_number(server: Misbehaving, nomad: NomadAdapter) -> None:
    server.script = [reply(500, b"No cluster leader")]
    with pytest.raises(NoLeader, match="nomad server members"):
        nomad.job("default", "app")
    assert len(server.requests) == 4


def test_retries_are_bounded_in_time(server: Misbehaving) -> None:
    patient = VaultConnection(address=server.address, retry_attempts=1000, retry_seconds=1.0)
    server.script = [reply(502)]
    started = time.monotonic()
    with pytest.raises(Unavailable):
        VaultAdapter(patient).read_policy("app")
    assert time.monotonic() - started < 5.0


def test_no_retry_when_the_budget_is_zero(server: Misbehaving) -> None:
    server.script = [reply(502)]
    with pytest.raises(Unavailable):
        VaultAdapter(VaultConnection(address=server.address, retry_seconds=0.0)).read_policy("app")
    assert len(server.requests) == 1


def test_a_sealed_vault_is_an_error_at_once(server: Misbehaving, vault: VaultAdapter) -> None:
    server.script = [reply(503, {"errors": ["Vault is sealed"]})]
    with pytest.raises(VaultSealed, match="unseal"):
        vault.read_policy("app")
    assert len(server.requests) == 1


def test_a_silent_server_is_unreachable_after_the_read_time_limit(server: Misbehaving) -> None:
    server.script = [server.silent]
    adapter = VaultAdapter(VaultConnection(address=server.address, timeout_seconds=0.3, retry_seconds=0.0))
    with pytest.raises(Unreachable, match="silent for too long"):
        adapter.read_policy("app")


@pytest.mark.parametrize("slowly", [drip(), drip(head=True)], ids=["body", "head"])
def test_an_answer_that_drips_in_is_unreachable_when_its_time_is_over(server: Misbehaving, slowly: Any) -> None:
    server.script = [slowly]
    limits: dict[str, Any] = {"timeout_seconds": 1.0, "answer_seconds": 0.6, "retry_seconds": 0.0}
    for adapter in (
        VaultAdapter(VaultConnection(address=server.address, **limits)).list_policies,
        lambda: NomadAdapter(NomadConnection(address=server.address, **limits)).job("default", "app"),
    ):
        started = time.monotonic()
        with pytest.raises(Unreachable, match="its answer took too long"):
            adapter()
        assert 0.5 < time.monotonic() - started < 5.0


def test_an_answer_that_drips_in_is_asked_for_again_within_the_time_for_retries(server: Misbehaving) -> None:
    server.script = [drip(), drip()]
    limits: dict[str, Any] = {"timeout_seconds": 1.0, "answer_seconds": 0.3, "retry_seconds": 1.5}
    started = time.monotonic()
    with pytest.raises(Unreachable, match="its answer took too long"):
        VaultAdapter(VaultConnection(address=server.address, **limits)).list_policies()
    assert time.monotonic() - started < 5.0
    assert len(server.requests) > 1


def test_a_connection_is_used_again_after_an_answer_in_time(server: Misbehaving) -> None:
    adapter = VaultAdapter(VaultConnection(address=server.address, timeout_seconds=2.0, answer_seconds=0.5))
    server.script = [reply(200, POLICY)]
    for _ in range(4):
        assert adapter.read_policy("app") == "text"
        threading.Event().wait(0.2)
    assert server.connections == 1


def test_a_blocking_query_has_its_wait_beside_the_time_for_an_answer(server: Misbehaving) -> None:
    def late(handler: Any) -> None:
        threading.Event().wait(0.8)
        reply(200, [], X_Nomad_Index="9")(handler)

    server.script = [late]
    adapter = NomadAdapter(NomadConnection(address=server.address, timeout_seconds=5.0, answer_seconds=0.5))
    assert adapter.list_variables("default", "a", index=5, wait_seconds=2.0)[0] == 9


def test_a_refused_connection_is_unreachable_and_says_what_to_check() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        adapter = NomadAdapter(NomadConnection(address=address, retry_seconds=0.5))
        with pytest.raises(Unreachable, match=r"connection refused\); check that it runs and that NOMAD_ADDR is right"):
            adapter.job("default", "app")


def test_an_unknown_host_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"vault\.invalid"):
        VaultAdapter(VaultConnection(address="http://vault.invalid:8200", retry_seconds=0.0)).read_policy("app")


def test_a_registration_always_demands_the_index_that_was_read(server: Misbehaving, nomad: NomadAdapter) -> None:
    server.script = [reply(200, {"EvalID": "e", "JobModifyIndex": 8})]
    for index in (0, 7):
        nomad.register(JOB, modify_index=index)
        sent = json.loads(server.requests[-1].body)
        assert (sent["EnforceIndex"], sent["JobModifyIndex"]) == (True, index)


def pauses(server: Misbehaving, fault: Any) -> list[float]:
    """The seconds between first and second attempt of sixteen calls at once, all failing alike."""

    def one(_: int) -> float:
        ends: list[tuple[float, float]] = []
        adapter = VaultAdapter(
            VaultConnection(address=server.address), on_call=lambda *call: ends.append((time.monotonic(), call[2]))
        )
        with pytest.raises(ServiceError):
            adapter.read_policy("app")
        first, (second, seconds) = ends[0][0], ends[1]
        return second - seconds - first

    server.script = [fault]
    with ThreadPoolExecutor(16) as workers:
        return sorted(workers.map(one, range(16)))


def test_the_pauses_before_a_retry_differ_so_that_clients_do_not_come_back_all_at_once(server: Misbehaving) -> None:
    found = pauses(server, reply(502))
    assert found[-1] - found[0] > 0.1
    assert found[0] >= 0.05


def test_the_pauses_that_a_server_asks_for_differ_too(server: Misbehaving) -> None:
    found = pauses(server, reply(429, {"errors": ["quota"]}, Retry_After="3"))
    assert found[0] >= 3.0
    assert found[-1] - found[0] > 0.1


def test_sixteen_threads_share_as_many_connections_as_the_pool_has(server: Misbehaving) -> None:
    adapter = VaultAdapter(VaultConnection(address=server.address, pool_size=4))
    server.script = [reply(200, POLICY)]
    with ThreadPoolExecutor(16) as workers:
        assert set(workers.map(adapter.read_policy, ["app"] * 400)) == {"text"}
    assert len(server.requests) == 400
    assert server.connections <= 4


def test_blocking_queries_leave_the_connections_of_ordinary_calls_alone(server: Misbehaving) -> None:
    adapter = NomadAdapter(NomadConnection(address=server.address, pool_size=1, long_pool_size=1, retry_seconds=0.0))
    server.script = [server.silent, reply(404, b"job not found")]
    with ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(adapter.list_variables, "default", "a", index=5, wait_seconds=30.0)
        deadline = time.monotonic() + 10
        while not server.requests and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert adapter.job("default", "app") is None
        assert not waiting.done()
        server.released.set()
        with pytest.raises(Unreachable):
            waiting.result(timeout=10)


def test_metrics_are_told_of_each_attempt_with_bounded_words(server: Misbehaving) -> None:
    calls: list[tuple[str, str, float, str]] = []
    vault = VaultAdapter(VaultConnection(address=server.address), on_call=lambda *call: calls.append(call))
    server.script = [reset, reply(502), reply(200, POLICY)]
    vault.read_policy("secret/of/somebody")
    server.script = [reply(404, {"errors": []})]
    vault.read_policy("secret/of/somebody")
    assert Counter((system, operation, outcome) for system, operation, _, outcome in calls) == {
        ("vault", "policy_read", "Unreachable"): 1,
        ("vault", "policy_read", "Unavailable"): 1,
        ("vault", "policy_read", "Success"): 1,
        ("vault", "policy_read", "NotFound"): 1,
    }
    assert all(0 <= seconds < 5 for _, _, seconds, _ in calls)


def test_the_token_of_a_file_is_taken_anew_for_each_request(server: Misbehaving, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    adapter = NomadAdapter(NomadConnection(address=server.address, token=TokenFile(path)))
    server.script = [reply(404, b"job not found")]
    adapter.job("default", "app")
    (tmp_path / "new").write_text("second-token")
    (tmp_path / "new").replace(path)
    adapter.job("default", "app")
    assert [request.headers["X-Nomad-Token"] for request in server.requests] == ["first", "second-token"]


def test_a_token_file_that_is_not_there_yet_is_a_passing_error(server: Misbehaving, tmp_path: Path) -> None:
    adapter = NomadAdapter(NomadConnection(address=server.address, token=TokenFile(tmp_path / "token")))
    with pytest.raises(Unavailable, match="token for Nomad cannot be read") as caught:
        adapter.job("default", "app")
    assert caught.value.transient
    assert server.requests == []


def test_without_a_token_no_token_header_is_sent_whatever_the_environment_says(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "VAULT_TOKEN": "opensesame",
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_NAMESPACE": "elsewhere",
        "NOMAD_TOKEN": "opensesame",
        "NOMAD_ADDR": "http://127.0.0.1:1",
        "NOMAD_NAMESPACE": "elsewhere",
        "NOMAD_REGION": "elsewhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    server.script = [reply(404, {"errors": []}), reply(404, b"job not found")]
    VaultAdapter(VaultConnection(address=server.address)).read_policy("app")
    NomadAdapter(NomadConnection(address=server.address)).job("default", "app")
    vault, nomad = server.requests
    assert {"X-Vault-Token", "X-Vault-Namespace", "X-Nomad-Token"}.isdisjoint({*vault.headers, *nomad.headers})
    assert nomad.target == "/v1/job/app?namespace=default"


def test_an_address_behind_a_path_and_a_namespace_of_vault(server: Misbehaving) -> None:
    connection = VaultConnection(address=f"{server.address}/behind/a/proxy/", token="t", namespace="team/a")
    server.script = [reply(200, POLICY)]
    VaultAdapter(connection).read_policy("app")
    (request,) = server.requests
    assert request.target == "/behind/a/proxy/v1/sys/policies/acl/app"
    assert request.headers["X-Vault-Namespace"] == "team/a"
    assert request.headers["X-Vault-Request"] == "true"


def test_a_conflicting_write_of_a_variable_is_a_conflict(server: Misbehaving, nomad: NomadAdapter) -> None:
    server.script = [reply(409, {"Path": "a", "Items": {"k": "opensesame"}})]
    with pytest.raises(Conflict):
        nomad.write_variable("default", "a", {"k": "v"}, cas=1)


def test_all_pages_of_a_list_of_variables_are_read(server: Misbehaving, nomad: NomadAdapter) -> None:
    def row(path: str) -> dict[str, Any]:
        return {"Namespace": "default", "Path": path, "ModifyIndex": 7}

    server.script = [
        reply(200, [row("a")], X_Nomad_Index="9", X_Nomad_NextToken="default.b"),
        reply(200, [row("b")], X_Nomad_Index="11"),
    ]
    index, rows = nomad.list_variables("default", "", index=5, wait_seconds=2.5)
    assert (index, [each.path for each in rows]) == (9, ["a", "b"])
    first, second = (request.target for request in server.requests)
    assert "index=5" in first
    assert "wait=2500ms" in first
    assert "next_token=default.b" in second
    assert "wait" not in second


def test_the_only_region_is_the_region_and_several_are_a_question_to_the_user(server: Misbehaving) -> None:
    connection = NomadConnection(address=server.address)
    server.script = [reply(200, ["eu"])]
    assert NomadAdapter(connection).region() == "eu"
    assert NomadAdapter(dataclasses.replace(connection, region="us")).region() == "us"
    server.script = [reply(200, ["eu", "us"])]
    with pytest.raises(UsageError, match="set NOMAD_REGION"):
        NomadAdapter(connection).region()


def test_a_path_in_vault_that_steps_out_of_itself_is_refused_without_asking(
    server: Misbehaving, vault: VaultAdapter
) -> None:
    for path in ("../x", "a/../b", "a//b", "/a", "a/", ".", "a\nb", ""):
        with pytest.raises(Rejected):
            vault.kv_metadata("secret", path)
        with pytest.raises(Rejected):
            vault.write_policy(path, "text")
        with pytest.raises(Rejected):
            vault.write_jwt_role("jwt", path, {})
    assert server.requests == []
