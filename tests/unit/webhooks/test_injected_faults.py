"""Whatever breaks inside of a webhook refuses what was asked, and shows nobody what it broke on."""

import http.client
import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from secretbinding.engine.admission import Admission as JobAdmission
from secretbinding.engine.policies import Guard, PolicyBoard
from secretbinding.errors import Unreachable
from secretbinding.models.key import WorkloadKey
from secretbinding.tenancy.verdict import UNDECIDED, Known
from secretbinding.webhooks import admission as module
from secretbinding.webhooks.admission import UNJUDGED, Admission
from secretbinding.webhooks.nacp import PATH, Listen, NacpWebhook, OnRefusal
from tests.support import builders as make
from tests.unit.engine.memory import INSTANCE, Process, Servers
from tests.unit.tenancy.builders import policy
from tests.unit.webhooks.test_admission import a_binding

Json = dict[str, Any]

VALUE = "hunter2-a-value"
KNOWN = Known(
    (policy(tenants=[{"labels": {"team": "money"}}], workloads=[{"namespaces": ["*"], "regions": ["global"]}]),)
)
ERRORS = [RuntimeError(VALUE), KeyError(VALUE), ValueError(VALUE), RecursionError(VALUE), MemoryError(VALUE)]


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


def admission(**parts: Callable[..., Any]) -> Admission:
    whole: dict[str, Callable[..., Any]] = {
        "known": lambda: KNOWN,
        "labels": lambda source, tenant: {"team": "money"},
        "region": lambda connection: "global",
        **parts,
    }
    return Admission(whole["known"], whole["labels"], whole["region"])


def test_without_a_fault_the_binding_of_these_tests_is_taken() -> None:
    assert admission().binding(a_binding()).refusal == ""


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["known", "labels", "region"])
def test_a_binding_is_refused_when_something_that_is_asked_breaks(part: str, error: Exception) -> None:
    with capture_logs() as lines:
        answer = admission(**{part: raising(error)}).binding(a_binding())
    assert answer.refusal == UNDECIDED
    assert VALUE not in repr(lines)
    assert lines[-1]["error_type"] == type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["parse_object", "verdict"])
def test_a_binding_is_refused_when_the_decision_itself_breaks(
    part: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, part, raising(error))
    with capture_logs() as lines:
        assert admission().binding(a_binding()).refusal == UNDECIDED
    assert VALUE not in repr(lines)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_policy_that_cannot_be_judged_is_refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "parse_policy_object", raising(error))
    with capture_logs() as lines:
        assert admission().policy(policy().to_manifest()).refusal == UNJUDGED
    assert VALUE not in repr(lines)


def test_a_change_of_finalizers_passes_whatever_is_broken() -> None:
    """Else a controller that is broken could not be uninstalled."""
    broken = admission(known=raising(RuntimeError(VALUE)))
    assert broken.binding(a_binding(finalizers=[]), a_binding()).refusal == ""


def test_a_region_that_nomad_does_not_tell_is_no_fault_of_the_controllers() -> None:
    told = admission(region=raising(Unreachable("no answer", system="nomad"))).binding(a_binding()).refusal
    assert "no policy allows" in told


class _Broken:
    """A server of which one method raises."""

    def __init__(self, server: Any, method: str, error: Exception) -> None:
        self._server, self._method, self._error = server, method, error

    def __getattr__(self, name: str) -> Any:
        return raising(self._error) if name == self._method else getattr(self._server, name)


def asked(
    *, vault: str = "", nomad: str = "", guard: Guard | None = None, error: Exception | None = None
) -> tuple[int, Json]:
    """What NACP is answered, by a controller of which a part breaks."""
    servers = Servers()
    servers.vault.put("app", "password")
    job = {**make.job(), "ID": "web", "Name": "web"}
    servers.nomad.add(job)
    servers.bind(make.binding(make.kv(path="app", env={"A": "password"}), name="app"))
    store = Process(servers).start().engine.store
    assert store.of_workload(WorkloadKey(store.connection, "", "default", "web"))
    told = error or RuntimeError(VALUE)
    decides = JobAdmission(
        _Broken(servers.vault, vault, told),  # type: ignore[arg-type]
        _Broken(servers.nomad, nomad, told),  # type: ignore[arg-type]
        store,
        instance=INSTANCE,
        jwt_mount="jwt-nomad",
        guard=guard,
    )
    webhook = NacpWebhook(Listen("127.0.0.1", 0), decides.admit, OnRefusal.REFUSE)
    webhook.start()
    connection = http.client.HTTPConnection("127.0.0.1", webhook.port, timeout=60)
    try:
        connection.request("POST", PATH, json.dumps({"job": {**job, "Namespace": "default"}}).encode())
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
        webhook.stop()


def test_without_a_fault_the_job_of_these_tests_gets_its_secrets() -> None:
    status, body = asked()
    assert (status, body["errors"]) == (200, [])
    assert body["patch"]


@pytest.mark.parametrize("error", ERRORS[:3], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("vault", "nomad"),
    [
        ("read_policy", ""),
        ("write_policy", ""),
        ("read_jwt_role", ""),
        ("write_jwt_role", ""),
        ("kv_metadata", ""),
        ("", "job"),
        ("", "versions"),
        ("", "deployments"),
    ],
)
def test_a_job_is_not_let_through_without_its_secrets_when_something_breaks(
    vault: str, nomad: str, error: Exception
) -> None:
    with capture_logs() as lines:
        status, body = asked(vault=vault, nomad=nomad, error=error)
    assert status == 500
    assert body == {"errors": ["secretbinding failed; its log says more"]}
    assert VALUE not in repr(lines)


def test_labels_that_break_the_policies_question_put_nothing_into_the_job() -> None:
    board = PolicyBoard(["a test"])
    board.deliver("a test", KNOWN.policies, ())
    with capture_logs() as lines:
        status, body = asked(guard=Guard(board, raising(RuntimeError(VALUE)), instance=INSTANCE))
    assert (status, body["patch"]) == (200, [])
    assert UNDECIDED in body["warnings"][0]
    assert VALUE not in repr((body, lines))
