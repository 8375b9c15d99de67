"""Roles of secrets engines that bindings have made: names, order, drift, and their end."""

from dataclasses import replace
from typing import Any

import pytest

from secretbinding.desired import desire
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole, unused_roles, without_refused
from secretbinding.kinds import EngineRole, Fault, Pin, SecretState, engine_role, with_role_names
from secretbinding.models.binding import SecretBinding
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, engine_role_name
from secretbinding.plan import DeletePolicy, DeleteRole, RegisterJob, WritePolicy, WriteRole, make_plan
from secretbinding.plan_text import describe, details
from secretbinding.render.engine_role import same_engine_role
from tests.support import builders as make
from tests.support.builders import INSTANCE, Modifier, binding, kv_state
from tests.unit.core.world import World

FIELDS = {0: {"username": None, "password": None}}
STATEMENTS = ["CREATE ROLE x"]


def created(**create: Any) -> Modifier:
    """A database entry whose role is made for it."""
    return make.database(create={"connection": "main", **(create or {"creationStatements": STATEMENTS})})


def static(**create: Any) -> Modifier:
    return created(username="app", rotationPeriod="24h", **create)


def a_world(*, state: SecretState | None = None) -> World:
    world = World()
    world.secrets["database", "made"] = state or SecretState("database", fields=FIELDS, lease_seconds=3600.0)
    world.secrets["database", "app"] = SecretState("database", fields=FIELDS, lease_seconds=3600.0)
    world.secrets["pki", "made"] = SecretState("pki", fields=FIELDS, revision=Pin.revision("issuer"))
    world.secrets["kv", "myapp"] = kv_state(1)
    world.user_registers(make.job())
    return world


def role_of(made: SecretBinding) -> EngineRole:
    named = with_role_names(made, Owner(INSTANCE, make.key(made.metadata.name)))
    found = engine_role(named.spec.secrets[0])
    assert found is not None
    return found


# --- names and bodies -------------------------------------------------------------------------------------------------


def test_a_name_belongs_to_one_entry_of_one_binding_of_one_instance() -> None:
    owners = [Owner("a", make.key("x")), Owner("b", make.key("x")), Owner("a", make.key("y"))]
    owners.append(Owner("a", make.key("x", tenant="other")))
    names = {engine_role_name(owner, secret, ["database"]) for owner in owners for secret in ("one", "two")}
    assert len(names) == 8
    assert engine_role_name(owners[0], "one", ["database"]).startswith("nsb.a.x-one.")
    assert engine_role_name(owners[0], "one", ["database"]) != engine_role_name(owners[0], "one", ["pki"])


def test_what_a_static_role_cannot_change_makes_another_role_and_the_rest_does_not() -> None:
    same = [role_of(binding(static())), role_of(binding(static(rotationStatements=["x"])))]
    other = [
        role_of(binding(created(username="b", rotationPeriod="24h"))),
        role_of(binding(make.database(create={"connection": "x", "username": "app", "rotationPeriod": "24h"}))),
    ]
    assert same[0].path == same[1].path
    assert same[0].digest != same[1].digest
    assert len({same[0].path, *(one.path for one in other)}) == 3


def test_the_name_is_used_wherever_a_role_that_is_there_would_be() -> None:
    named = with_role_names(binding(created()), Owner(INSTANCE, make.key()))
    spec = named.spec.secrets[0].database
    assert spec is not None
    assert spec.role == role_of(binding(created())).path.removeprefix("database/roles/")
    assert with_role_names(binding(make.database()), Owner(INSTANCE, make.key())) == binding(make.database())


def test_everything_of_a_role_is_set_so_that_nothing_somebody_else_sets_stays() -> None:
    assert role_of(binding(created())).body == {
        "db_name": "main",
        "creation_statements": STATEMENTS,
        "revocation_statements": [],
        "rollback_statements": [],
        "renew_statements": [],
        "default_ttl": 0,
        "max_ttl": 0,
    }
    certificate = role_of(binding(make.pki(role=None, create={"allowedDomains": ["b.test", "a.test"]}))).body
    assert certificate["allowed_domains"] == ["a.test", "b.test"]
    assert (certificate["key_type"], certificate["key_bits"]) == ("rsa", 2048)
    widening = ["allow_any_name", "allow_subdomains", "allow_bare_domains", "allow_glob_domains", "allow_localhost"]
    widening += ["allow_wildcard_certificates", "allow_ip_sans", "code_signing_flag", "allowed_domains_template"]
    assert [certificate[name] for name in widening] == [False] * len(widening)


ROLE = EngineRole("x", {"on": True, "off": False, "ttl": 3600, "none": 0, "texts": ["b", "a"], "name": "main"})


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ({"on": True, "off": False, "ttl": 3600, "none": 0, "texts": ["a", "b"], "name": "main", "own": 1}, True),
        ({"on": True, "ttl": "1h0m0s", "texts": ["b", "a"], "name": "main"}, True),
        ({"on": True, "off": None, "ttl": 3600, "none": "0s", "texts": ["b", "a"], "name": "main"}, True),
        ({"on": True, "off": True, "ttl": 3600, "texts": ["b", "a"], "name": "main"}, False),
        ({"on": False, "ttl": 3600, "texts": ["b", "a"], "name": "main"}, False),
        ({"on": True, "ttl": 7200, "texts": ["b", "a"], "name": "main"}, False),
        ({"on": True, "ttl": 3600, "none": 60, "texts": ["b", "a"], "name": "main"}, False),
        ({"on": True, "ttl": 3600, "texts": ["a"], "name": "main"}, False),
        ({"on": True, "ttl": 3600, "texts": None, "name": "main"}, False),
        ({"on": True, "ttl": 3600, "texts": ["b", "a"], "name": "other"}, False),
        ({}, False),
    ],
)
def test_a_role_is_compared_by_what_is_set_in_whatever_form_the_engine_writes_it(
    answer: dict[str, Any], same: bool
) -> None:
    assert same_engine_role(answer, ROLE) is same


def test_what_no_binding_says_is_to_be_as_the_engine_makes_it_where_the_engine_has_it() -> None:
    certificate = role_of(binding(make.pki(role=None, create={"allowedDomains": ["a.test"]})))
    fresh = {**certificate.body, **certificate.untouched, "not_before_duration": 30}
    assert same_engine_role(fresh, certificate)
    older = {name: value for name, value in fresh.items() if name not in ("cn_validations", "not_before")}
    assert same_engine_role(older, certificate)
    altered: dict[str, Any] = {
        "ext_key_usage": ["CodeSigning"],
        "ext_key_usage_oids": ["1.3.6.1.5.5.7.3.3"],
        "key_usage": ["CertSign", "DigitalSignature"],
        "not_after": "2029-01-01T00:00:00Z",
        "cn_validations": ["disabled"],
        "policy_identifiers": ["1.2.3.4"],
        "organization": ["admins"],
        "no_store": True,
    }
    for name, value in altered.items():
        assert not same_engine_role({**fresh, name: value}, certificate), name


def test_what_is_to_be_as_the_engine_makes_it_is_no_part_of_what_a_job_gets() -> None:
    certificate = role_of(binding(make.pki(role=None, create={"allowedDomains": ["a.test"]})))
    assert replace(certificate, untouched={}).digest == certificate.digest


# --- reconciled -------------------------------------------------------------------------------------------------------


def test_the_role_comes_after_the_policy_that_remembers_it_and_before_the_job() -> None:
    world = a_world()
    plan = world.run([make.given(binding(created()))])
    assert [type(action) for action in plan.actions] == [WritePolicy, WriteEngineRole, WriteRole, RegisterJob]
    (path,) = world.engine_roles
    assert f'"{path.replace("/roles/", "/creds/")}"' in next(iter(world.policies.values()))


def test_a_role_that_is_as_it_should_be_is_not_written_and_one_that_was_altered_is_mended_without_a_roll() -> None:
    world = a_world()
    item = make.given(binding(created()))
    world.settle([item])
    assert world.run([item]).actions == ()
    (path,) = world.engine_roles
    world.engine_roles[path]["creation_statements"] = ["CREATE SUPERUSER"]
    (action,) = world.run([item]).actions
    assert isinstance(action, WriteEngineRole)
    assert world.engine_roles[path]["creation_statements"] == STATEMENTS
    assert world.run([item]).actions == ()


def test_another_definition_changes_the_role_and_rolls_the_job_which_gets_what_it_gives_now() -> None:
    world = a_world()
    world.settle([make.given(binding(created()))])
    (path,) = world.engine_roles
    version = len(world.versions)
    plan = world.settle([make.given(binding(created(creationStatements=["CREATE ROLE y"])))])
    assert plan.actions == ()
    assert list(world.engine_roles) == [path]
    assert len(world.versions) == version + 1


@pytest.mark.parametrize(
    "changed",
    [make.database(role="app"), make.kv("app"), static()],
    ids=["names a role", "another kind", "a static role"],
)
def test_a_role_that_the_binding_wants_no_more_goes_when_no_allocation_can_need_it(changed: Modifier) -> None:
    world = a_world()
    world.settle([make.given(binding(created()))])
    (path,) = world.engine_roles
    item = make.given(binding(changed))
    plan = world.run([item])
    assert path in world.engine_roles
    assert plan.waiting
    world.settle([item])
    assert path not in world.engine_roles


def test_with_the_binding_goes_its_role_after_the_job_and_before_the_policy() -> None:
    world = a_world()
    item = make.given(binding(created()))
    world.settle([item])
    going = replace(item, binding=None, deleting=True)
    world.log.clear()
    world.settle([going])
    kinds = [type(action) for action in world.log]
    assert kinds == [RegisterJob, DeleteEngineRole, DeleteRole, DeletePolicy]
    assert world.engine_roles == {}


def test_a_suspended_binding_keeps_its_role_as_it_is() -> None:
    world = a_world()
    item = make.given(binding(created()))
    world.settle([item])
    before = dict(world.engine_roles)
    world.settle([make.given(binding(static()), suspended=True)])
    assert world.engine_roles == before


def test_a_binding_that_names_another_job_keeps_its_role() -> None:
    world = a_world()
    item = make.given(binding(created()))
    world.settle([item])
    moved = replace(item, binding=None, deleting=True, moved=True)
    _, plan = world.decide([moved])
    assert not any(isinstance(action, DeleteEngineRole) for action in plan.actions)


def test_a_role_without_our_prefix_is_never_deleted_whatever_a_mark_says() -> None:
    world = a_world()
    item = make.given(binding(created()))
    world.settle([item])
    (name,) = world.policies
    (path,) = world.engine_roles
    observed = world.observe([replace(item, binding=None, deleting=True)])
    policy = observed.policies[name]
    assert policy is not None
    assert policy.document is not None
    desired, _ = world.decide([replace(item, binding=None, deleting=True)])
    forged = replace(policy.document, engine_roles=(path, "database/roles/payments", "database/roles/nsb.other.x"))
    known = {**observed.engine_roles, "database/roles/payments": {"a": 1}, "database/roles/nsb.other.x": {"a": 1}}
    found = unused_roles(replace(observed, engine_roles=known), desired, [forged], INSTANCE)
    assert [action.path for action in found] == [path]


def test_a_role_whose_write_was_refused_is_its_own_bindings_fault_and_is_not_tried_again_in_this_pass() -> None:
    world = a_world()
    refused, sound = make.given(binding(created(), name="a")), make.given(binding(make.kv("app"), name="b"))
    path = role_of(binding(created(), name="a")).path
    fault = Fault(Reason.PERMISSION_DENIED, "may not write it")
    bindings = [refused, sound]
    observed = without_refused(world.observe(bindings), bindings, {path: fault})
    desired = desire(observed, bindings, INSTANCE)
    plan = make_plan(observed, desired, bindings, INSTANCE)
    assert desired.results[refused.key].fault == fault
    assert desired.results[sound.key].fault is None
    assert not any(isinstance(action, WriteEngineRole) for action in plan.actions)
    assert plan.registers


def test_a_reader_sees_which_role_and_what_of_it_changes() -> None:
    role = EngineRole("database/roles/nsb.x", {"max_ttl": 3600, "db_name": "main"})
    made, changed = WriteEngineRole(role, None), WriteEngineRole(role, {"max_ttl": 60, "db_name": "main", "own": 1})
    gone = DeleteEngineRole("database/roles/nsb.x", {})
    assert [describe(action) for action in (made, changed, gone)] == [
        "+ engine role database/roles/nsb.x",
        "~ engine role database/roles/nsb.x",
        "- engine role database/roles/nsb.x",
    ]
    assert "-max_ttl = 60\n+max_ttl = 3600" in details(changed)
    assert "own" not in details(changed)
