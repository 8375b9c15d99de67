"""What NACP asks, and what it is answered."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.desired import Desired
from secretbinding.engine.admission import Admitted, told_of
from secretbinding.engine.policies import Judged
from secretbinding.errors import UsageError
from secretbinding.kinds import Fault
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json
from secretbinding.webhooks.nacp import PATH, BadRequest, Listen, NacpWebhook, OnRefusal, answer
from tests.support import builders as make

JOB = make.job()
GIVEN = {**JOB, "TaskGroups": [{**JOB["TaskGroups"][0], "Meta": {"given": "yes"}}]}


def ask(admitted: Admitted, on_refusal: OnRefusal = OnRefusal.REFUSE, **body: Any) -> Json:
    sent = json.dumps({"job": JOB, "context": {"clientIP": "127.0.0.1"}, **body}).encode()
    return answer(sent, lambda job: admitted, on_refusal)


def test_a_job_with_bindings_gets_its_groups_by_one_patch() -> None:
    assert ask(Admitted(GIVEN)) == {
        "patch": [{"op": "add", "path": "/TaskGroups", "value": GIVEN["TaskGroups"]}],
        "warnings": [],
        "errors": [],
    }


def test_a_job_that_needs_nothing_is_let_through() -> None:
    assert ask(Admitted(JOB)) == {"patch": [], "warnings": [], "errors": []}


def test_a_binding_that_cannot_be_put_in_ends_the_registration_or_is_a_warning() -> None:
    refused = Admitted(GIVEN, ("SecretBinding app: no secret",))
    told = ["secretbinding: SecretBinding app: no secret"]
    assert ask(refused) == {"patch": [], "warnings": [], "errors": told}
    warned = ask(refused, OnRefusal.WARN)
    assert warned["warnings"] == told
    assert warned["errors"] == []
    assert warned["patch"]


def test_a_binding_that_policies_refuse_or_that_is_invalid_ends_nobodys_registration() -> None:
    """Anybody can write one that names somebody else's job."""
    evil, mine = (make.given(make.binding(make.kv(), name=name)) for name in ("evil", "mine"))
    broken = make.given(name="broken", invalid=True)
    judged = Judged((), {evil.key: Fault(Reason.REFUSED_BY_POLICY, "no policy allows it")}, frozenset({evil.key}))
    found = told_of(Desired(None, {}, {}, {}), (broken, mine), (evil,), judged)
    assert [str(mine.key) in line for line in found.refusals] == [True]
    assert len(found.warnings) == 2
    said = ask(Admitted(GIVEN, (), found.warnings))
    assert said["errors"] == []
    assert said["patch"]
    assert said["warnings"] == [f"secretbinding: {line}" for line in found.warnings]


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps).map(str.encode)
)
def test_whatever_is_sent_is_answered_or_refused_and_nothing_else_is_raised(body: bytes) -> None:
    with pytest.raises(BadRequest):
        answer(body, lambda job: Admitted(job), OnRefusal.REFUSE)


@pytest.mark.parametrize(
    "body",
    [
        {"job": None},
        {"job": []},
        {"job": {}},
        {"job": {"ID": 7}},
        {"job": {"ID": ""}},
        {"job": {"ID": "a", "TaskGroups": 3}},
    ],
)
def test_a_question_without_a_job_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        ask(Admitted(JOB), **body)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([None], "TaskGroups[0] of the job is no object"),
        ([{"Tasks": []}], "TaskGroups[0] of the job has no Name"),
        ([{"Name": 3}], "TaskGroups[0] of the job has no Name"),
        ([{"Name": "a", "Tasks": ["x"]}], "TaskGroups[0].Tasks[0] of the job is no object"),
        ([{"Name": "a", "Tasks": "x"}], "TaskGroups[0].Tasks of the job is no list"),
        ([{"Name": "a", "Tasks": [{}]}], "TaskGroups[0].Tasks[0] of the job has no Name"),
        (
            [{"Name": "a", "Tasks": [{"Name": "b", "Templates": [None]}]}],
            "TaskGroups[0].Tasks[0].Templates[0] of the job is no object",
        ),
        ([{"Name": "a", "Tasks": [{"Name": "b", "Vault": "x"}]}], "TaskGroups[0].Tasks[0].Vault of the job is no obj"),
    ],
)
def test_a_job_of_another_shape_is_refused_with_its_place(groups: list[Any], words: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(words)):
        ask(Admitted(JOB), job={"ID": "a", "TaskGroups": groups})


@contextmanager
def serving(admit: Callable[[Json], Admitted] = lambda job: Admitted(GIVEN), **listen: Path) -> Iterator[NacpWebhook]:
    webhook = NacpWebhook(Listen("127.0.0.1", 0, **listen), admit, OnRefusal.REFUSE)
    webhook.start()
    try:
        yield webhook
    finally:
        webhook.stop()


def post(connection: http.client.HTTPConnection, body: bytes, path: str = PATH, **headers: str) -> tuple[int, Json]:
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_one_connection_asks_many_times() -> None:
    with serving() as webhook:
        connection = http.client.HTTPConnection("127.0.0.1", webhook.port, timeout=5)
        for _ in range(3):
            status, body = post(connection, json.dumps({"job": JOB}).encode())
            assert status == 200
            assert body["patch"]
        connection.request("PUT", PATH, json.dumps({"job": JOB}))
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/", b"{}", {}, 404),
        (PATH, b"{", {}, 400),
        (PATH, b"", {"Content-Length": "99999999999"}, 413),
        (PATH, b"", {"Content-Length": "-1"}, 411),
    ],
)
def test_what_is_no_question_is_refused_in_words(path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    with serving() as webhook:
        connection = http.client.HTTPConnection("127.0.0.1", webhook.port, timeout=5)
        found, told = post(connection, body, path, **headers)
        assert found == status
        assert told["errors"]
        connection.close()


def test_a_surprise_is_told_without_its_text_and_does_not_end_the_service() -> None:
    def fails(job: Json) -> Admitted:
        raise RuntimeError("hunter2")

    with serving(fails) as webhook:
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", webhook.port, timeout=5)
            status, body = post(connection, json.dumps({"job": JOB}).encode())
            assert status == 500
            assert "hunter2" not in str(body)
            connection.close()


def test_a_connection_that_says_nothing_does_not_hold_up_the_others(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = written(authority, tmp_path)
    with serving(**certificate) as webhook, socket.create_connection(("127.0.0.1", webhook.port)):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        connection = http.client.HTTPSConnection("localhost", webhook.port, timeout=5, context=context)
        assert post(connection, json.dumps({"job": JOB}).encode())[0] == 200
        connection.close()


def test_with_a_client_authority_nobody_without_its_certificate_is_answered(tmp_path: Path) -> None:
    authority, client = trustme.CA(), trustme.CA()
    trusted = tmp_path / "client-ca.pem"
    client.cert_pem.write_to_path(trusted)
    with serving(**written(authority, tmp_path), client_ca=trusted) as webhook:
        for known in (False, True):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            if known:
                client.issue_cert("nacp.example.com").configure_cert(context)
            connection = http.client.HTTPSConnection("localhost", webhook.port, timeout=5, context=context)
            if known:
                assert post(connection, json.dumps({"job": JOB}).encode())[0] == 200
            else:
                with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                    post(connection, json.dumps({"job": JOB}).encode())
            connection.close()


def written(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    made = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    return {"certificate": certificate, "key": key}


def test_an_address_that_is_taken_and_a_certificate_that_is_none_are_said_at_the_start(tmp_path: Path) -> None:
    with serving() as webhook:
        other = NacpWebhook(Listen("127.0.0.1", webhook.port), lambda job: Admitted(job), OnRefusal.REFUSE)
        with pytest.raises(UsageError, match="SECRETBINDING_NACP_LISTEN"):
            other.start()
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    with pytest.raises(UsageError, match="SECRETBINDING_NACP_CERT"):
        NacpWebhook(Listen("127.0.0.1", 0, wrong, wrong), lambda job: Admitted(job), OnRefusal.REFUSE).start()
