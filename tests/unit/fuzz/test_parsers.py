"""Whatever bytes come from outside, a parser takes them or raises the error that it says it raises, and no other."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secretbinding.adapters.calls import Answer, Call
from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.discovery.address import discovered
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.nomad.events import EventStream
from secretbinding.adapters.nomad.faults import judge as judge_nomad
from secretbinding.adapters.transport import Transport
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.adapters.vault.faults import judge as judge_vault
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.cli.jobfiles import parse_job
from secretbinding.desired.approles import STATE_ITEM, read_brought
from secretbinding.engine.admission import Admitted
from secretbinding.errors import ManifestError, ServiceError, UsageError
from secretbinding.generation import read_request
from secretbinding.job.inject import strip, user_state
from secretbinding.job.marks import part_state, placed_marks, renewals, share_states
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import parse_manifests
from secretbinding.models.policy_loading import parse_policies
from secretbinding.models.template_reads import reads_of
from secretbinding.models.template_syntax import template_faults, unknown_functions
from secretbinding.models.templates import TemplateSyntaxError, scan
from secretbinding.ops.doctor.checks import leftovers
from secretbinding.ports import Nomad, Variable
from secretbinding.render.policy import read_policy
from secretbinding.rotation import read_rotate_request
from secretbinding.sources.kubernetes.items import item_of
from secretbinding.sources.nomad import read_binding, read_status
from secretbinding.watch.audit_entries import changed_path
from secretbinding.watch.nomad_events import job_of
from secretbinding.webhooks.admission import Admission
from secretbinding.webhooks.nacp import BadRequest, OnRefusal, answer
from tests.support.fuzzing import FACTOR, cases
from tests.support.mutation import mutated, with_value
from tests.unit.engine.turmoil import live
from tests.unit.tenancy.builders import policy

_GOOD = sorted((Path(__file__).parents[2] / "corpus" / "good").glob("*.yaml"))
_CASES = 25


def text_of(body: bytes) -> str:
    """As Nomad's and Vault's JSON gives texts: with halves of surrogate pairs, if somebody sent them."""
    return body.decode("utf-8", "surrogateescape")


def a_site() -> tuple[Any, str]:
    """A job with a share of ours, and the policy that goes with it, as the engine made them."""
    site = live([("bind", "a", "j0", ("s0", "s1"))], {})
    (text,) = site.vault.policies.values()
    return site.nomad.jobs["j0"].job, text


JOB, POLICY = a_site()
MANIFESTS = [path.read_bytes() for path in _GOOD]
OBJECTS = [
    json.dumps({**found, "metadata": {**found["metadata"], "namespace": "team", "generation": 3}}).encode()
    for found in (yaml.safe_load(text) for text in MANIFESTS[:6])
    if isinstance(found, dict) and "spec" in found
]
STATUS = {
    "observedGeneration": 3,
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-03-02T12:00:00Z"}
    ],
    "secrets": [{"name": "app", "servingVersion": "3"}],
}
TEMPLATES = [
    str(one["EmbeddedTmpl"]).encode()
    for group in JOB["TaskGroups"]
    for task in group["Tasks"]
    for one in task["Templates"] or []
]
AUDIT = json.dumps(
    {
        "type": "response",
        "request": {"operation": "update", "path": "secret/data/app", "namespace": {"path": "team/"}},
    }
).encode()
EVENTS = json.dumps(
    {
        "Index": 7,
        "Events": [
            {"Topic": topic, "Type": "T", "Key": "j", "Namespace": "default", "Index": 7, "Payload": {topic: body}}
            for topic, body in (
                ("Job", {"ID": "j", "ParentID": ""}),
                ("Deployment", {"JobID": "j"}),
                ("Allocation", {"JobID": "j"}),
            )
        ],
    }
).encode()
BROUGHT = json.dumps(
    {
        "instance": "default",
        "role": "r",
        "tokens": [[0, "accessor", "2026-03-02T12:00:00+00:00", "limits", "2026-03-02T12:00:00+00:00"]],
        "spent": {"0": "2026-03-02T12:00:00+00:00"},
        "opened": {"0": "2026-03-02T12:00:00+00:00"},
        "waiting": [[0, *["2026-03-02T12:00:00+00:00"] * 3]],
        "latest": [[0, "accessor"]],
        "stolen": [[0, "2026-03-02T12:00:00+00:00", True]],
    }
).encode()


# -- what reads --------------------------------------------------------------------------------------------------------


def _variable(item: str, body: bytes) -> Variable:
    return Variable("team", "nomad-vault/bindings/app", 3, {item: text_of(body)})


def _as_job(body: bytes) -> None:
    job = dict(JOB)
    (group,) = job["TaskGroups"]
    (task,) = group["Tasks"]
    template = {**task["Templates"][0], "EmbeddedTmpl": text_of(body)}
    _read_job({**job, "TaskGroups": [{**group, "Tasks": [{**task, "Templates": [template]}]}]})


def _read_job(job: Any) -> None:
    for placed in placed_marks(job, "default"):
        str(placed.key)
    share_states(job, "default")
    renewals(job, "default")
    part_state(job, "default")
    user_state(job, "default")


def _template(body: bytes) -> None:
    text = text_of(body)
    list(template_faults(text))
    list(unknown_functions(text))
    for each in (scan, reads_of):
        with suppress(TemplateSyntaxError):
            found = each(text)
            list(found) if isinstance(found, Iterator) else list(found.lines())


def _admitted(job: Any) -> Admitted:
    _read_job(job)
    return Admitted(strip(job, "default").job)


class _Chunks:
    """A response that brings some bytes and then breaks off."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    def read1(self, amount: int) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    def shutdown(self) -> None:
        """Nothing is open."""

    close = release_conn = shutdown


def _stream(body: bytes) -> None:
    transport = NomadAdapter(NomadConnection(address="http://127.0.0.1:9"))._transport
    response = cast(Any, _Chunks(body[:20], body[20:], b"\n", EVENTS + b"\n"))
    for event in EventStream(transport, Call("events", "listen"), response, max_line_bytes=100_000):
        job_of(event)


def _review(body: bytes) -> None:
    obj = json.loads(body)
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        return  # The API server lets nothing else in.
    admission = Admission(None, lambda source, tenant: {}, lambda connection: "global")
    admission.binding(obj, {"spec": {}})
    admission.policy(obj)


def _object(body: bytes) -> None:
    obj = json.loads(body)
    if isinstance(obj, dict) and isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {"namespace": "team", "name": "app", "generation": 3}
        item_of({**obj, "status": STATUS}, "default")


def _requests(body: bytes) -> None:
    read_rotate_request(text_of(body))
    read_request(text_of(body))


@dataclass(frozen=True)
class Parser:
    """What reads bytes, what it may raise, and bytes that it takes."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    raises: tuple[type[Exception], ...] = ()


PARSERS = {
    "manifests in files": Parser(lambda body: parse_manifests(body), MANIFESTS, (ManifestError,)),
    "policies in files": Parser(
        lambda body: parse_policies(body),
        [yaml.safe_dump(policy().model_dump(mode="json", by_alias=True, exclude_none=True)).encode()],
        (ManifestError,),
    ),
    "bindings in variables": Parser(
        lambda body: read_binding(BindingKey("nomad", "team", "app"), _variable("manifest", body)), MANIFESTS
    ),
    "statuses in variables": Parser(lambda body: read_status(_variable("status", body)), [json.dumps(STATUS).encode()]),
    "secret-ids in variables": Parser(
        lambda body: read_brought(
            "p", 3, {STATE_ITEM: text_of(body), "wrapped_0": "token"}, datetime(2026, 3, 2, 12, tzinfo=UTC)
        ),
        [BROUGHT],
    ),
    "requests": Parser(_requests, [b"2026-03-02T12:00:00Z", b"2026-03-02T12:00:00+01:00 app other"]),
    "custom resources": Parser(_object, OBJECTS, (ValueError, RecursionError)),
    "admission reviews": Parser(_review, OBJECTS, (ValueError, RecursionError)),
    "audit entries": Parser(changed_path, [AUDIT, b"prefix " + AUDIT]),
    "event streams": Parser(_stream, [EVENTS, b"{}"], (ServiceError,)),
    "policies in Vault": Parser(lambda body: read_policy(text_of(body)), [POLICY.encode()]),
    "policies of others": Parser(
        lambda body: leftovers._paths(text_of(body)),
        [b'{"path": {"secret/*": {"capabilities": ["read"]}}}', POLICY.encode()],
    ),
    "marks in jobs": Parser(_as_job, TEMPLATES),
    "templates": Parser(_template, [*TEMPLATES, b"{{ range $i, $e := secrets `a` }}{{ $e | toJSON }}{{ end }}"]),
    "what NACP asks": Parser(
        lambda body: answer(body, _admitted, OnRefusal.REFUSE),
        [json.dumps({"job": JOB, "context": {"clientIP": "127.0.0.1"}}).encode()],
        (BadRequest,),
    ),
    "job files": Parser(
        lambda body: parse_job(
            "{" + text_of(body), file="f", nomad=cast(Nomad, None), variables="", namespace="default"
        ),
        [json.dumps({"Job": JOB}).encode()[1:]],
        (ManifestError, UsageError),
    ),
    "errors of Vault": Parser(
        lambda body: str(judge_vault(Call("a", "b"), 400, text_of(body))), [b'{"errors": ["permission denied"]}']
    ),
    "errors of Nomad": Parser(
        lambda body: str(judge_nomad(Call("job_register", "b"), 500, text_of(body))),
        [b"rpc error: Enforcing job modify index 7: job exists with conflicting index: 9"],
    ),
    "addresses": Parser(
        lambda body: discovered(body.decode("latin-1")),
        [b"srv+https://_vault._tcp.example.com?server=127.0.0.1:53", b"consul+http://127.0.0.1:8500/vault?tag=active"],
        (UsageError,),
    ),
}
_FEW = settings(
    max_examples=cases(_CASES),
    deadline=None,
    derandomize=FACTOR == 1,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
@given(data=st.data())
@_FEW
def test_a_parser_takes_whatever_it_is_given_or_raises_what_it_says(parser: Parser, data: st.DataObject) -> None:
    with suppress(*parser.raises):
        parser.read(data.draw(mutated(parser.seeds)))


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
def test_a_parser_takes_its_seeds(parser: Parser) -> None:
    """Or mutations of them would show nothing."""
    taken = 0
    for seed in parser.seeds:
        with suppress(*parser.raises):
            parser.read(seed)
            taken += 1
    assert taken or parser.raises == (ServiceError,), "a stream always breaks off in the end"


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
@pytest.mark.parametrize(
    "value", [b"[" * 5000, b"9" * 5000, b'"\\ud800"'], ids=["nested", "long number", "half a pair"]
)
def test_no_value_of_json_that_python_cannot_hold_breaks_a_parser(parser: Parser, value: bytes) -> None:
    seed = parser.seeds[0]
    for at in [at for at in range(len(seed)) if seed[at : at + 1] == b":"][:20]:
        with suppress(*parser.raises):
            parser.read(with_value(seed, at, value))


# -- answers -----------------------------------------------------------------------------------------------------------

_VAULT: dict[str, tuple[Callable[[VaultAdapter], object], Any]] = {
    "policy": (lambda vault: vault.read_policy("a"), {"data": {"name": "a", "policy": POLICY}}),
    "policies": (lambda vault: vault.list_policies(), {"data": {"keys": ["a", "b"]}}),
    "role": (lambda vault: vault.read_jwt_role("m", "a"), {"data": {"token_policies": ["a"]}}),
    "metadata": (
        lambda vault: vault.kv_metadata("m", "a"),
        {
            "data": {
                "current_version": 1,
                "max_versions": 0,
                "versions": {"1": {"created_time": "2026-03-02T12:00:00Z", "deletion_time": "", "destroyed": False}},
            }
        },
    ),
    "fields": (lambda vault: vault.kv_fields("m", "a", 1), {"data": {"subkeys": {"a": None, "b": {"c": None}}}}),
    "folder": (
        lambda vault: cast(ListingVaultAdapter, vault).kv_folder("m", "a"),
        {"data": {"keys": ["a"], "key_info": {"a": {"current_version": 1, "versions": {}}}}},
    ),
    "mount": (lambda vault: vault.kv_engine("m"), {"data": {"type": "kv", "options": {"version": "2"}}}),
    "static role": (
        lambda vault: vault.static_role("m", "a"),
        {"data": {"last_vault_rotation": "2026-03-02T12:00:00Z", "rotation_period": 3600}},
    ),
    "database role": (lambda vault: vault.database_role("m", "a"), {"data": {"default_ttl": 60, "max_ttl": 120}}),
    "pki role": (lambda vault: vault.pki_role("m", "a"), {"data": {"ttl": 60, "max_ttl": 0, "issuer_ref": "default"}}),
    "issuer": (lambda vault: vault.pki_issuer("m", "a"), {"data": {"certificate": "c", "ca_chain": ["c", "d"]}}),
    "health": (
        lambda vault: vault.health(),
        {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2", "cluster_name": "c"},
    ),
    "secret-id": (lambda vault: vault.new_secret_id("m", "a"), {"data": {"secret_id": "s", "secret_id_accessor": "a"}}),
    "wrapped": (
        lambda vault: vault.wrapped_secret_id("m", "a", 60),
        {
            "wrap_info": {
                "token": "t",
                "ttl": 60,
                "creation_time": "2026-03-02T12:00:00Z",
                "wrapped_accessor": "a",
                "creation_path": "auth/m/role/a/secret-id",
            }
        },
    ),
}
_NOMAD: dict[str, tuple[Callable[[NomadAdapter], object], Any]] = {
    "regions": (lambda nomad: nomad.region(), ["global"]),
    "job": (lambda nomad: nomad.job("default", "a"), {"ID": "a"}),
    "source": (lambda nomad: nomad.submission("default", "a", 1), {"Source": "s", "Format": "hcl2"}),
    "registered": (
        lambda nomad: nomad.register({"ID": "a"}, modify_index=3),
        {"EvalID": "e", "JobModifyIndex": 4, "Warnings": ""},
    ),
    "versions": (lambda nomad: nomad.versions("default", "a"), {"Versions": [{"Version": 1}, {"Version": 0}]}),
    "deployments": (lambda nomad: nomad.deployments("default", "a"), [{"CreateIndex": 4}, {"CreateIndex": 3}]),
    "allocations": (lambda nomad: nomad.allocations("default", "a"), [{"ID": "a"}]),
    "evaluations": (lambda nomad: nomad.evaluations("default", "a"), [{"ID": "a"}]),
    "jobs": (lambda nomad: nomad.list_jobs("default"), [{"ID": "a", "Namespace": "default"}]),
    "variables": (
        lambda nomad: nomad.list_variables("default", "p"),
        [{"Namespace": "default", "Path": "p/a", "ModifyIndex": 4}],
    ),
    "variable": (
        lambda nomad: nomad.read_variable("default", "p"),
        {"Namespace": "default", "Path": "p", "ModifyIndex": 4, "Items": {"a": "b"}},
    ),
    "own token": (lambda nomad: nomad.token_expiry(), {"ExpirationTime": "2026-03-02T12:00:00Z"}),
}
ANSWERS = {**{f"Vault: {name}": each for name, each in _VAULT.items()}, **{f"Nomad: {n}": e for n, e in _NOMAD.items()}}


@pytest.fixture(scope="module")
def adapters() -> Iterator[dict[str, Any]]:
    vault = ListingVaultAdapter(VaultConnection(address="http://127.0.0.1:9", token="t"))
    nomad = NomadAdapter(NomadConnection(address="http://127.0.0.1:9", token="t"))
    yield {"Vault": vault, "Nomad": nomad}
    vault.close()
    nomad.close()


@pytest.mark.parametrize("name", ANSWERS)
@given(data=st.data())
@settings(_FEW, max_examples=cases(10))
def test_whatever_a_server_answers_is_taken_or_is_a_service_error(
    adapters: dict[str, Any], name: str, data: st.DataObject
) -> None:
    ask, good = ANSWERS[name]
    body = data.draw(mutated([json.dumps(good).encode()]))
    adapter = adapters[name.partition(":")[0]]

    def answered(self: Transport, call: Call, *given: Any) -> Answer:
        return Answer(200, {"X-Nomad-Index": "7"}, body, self._system, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "_send", answered)
        with suppress(ServiceError):
            ask(adapter)


def test_the_answers_are_good_ones(adapters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (ask, good) in ANSWERS.items():

        def answered(self: Transport, call: Call, *given: Any, good: Any = good) -> Answer:
            return Answer(200, {"X-Nomad-Index": "7"}, json.dumps(good).encode(), self._system, call)

        monkeypatch.setattr(Transport, "_send", answered)
        assert ask(adapters[name.partition(":")[0]]) is not None, name
