"""As what a task sees a secret: all fields as variables, files, a right with its token, and no Vault at all."""

from dataclasses import replace
from typing import Any

import pytest

from secretbinding.desired import BindingInput
from secretbinding.job.inject import strip
from secretbinding.kinds import Pin, SecretState
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import INSTANCE, Modifier, binding, find_task, kv_state, templates_of
from tests.unit.core.world import World


def with_kv(fields: tuple[str, ...] = ("password", "username"), **versions: Any) -> World:
    world = World()
    world.secrets["kv", "app"] = kv_state(1, fields=fields, **versions)
    world.secrets["kv", "other"] = kv_state(1)
    world.secrets["transit", "app"] = SecretState("transit")
    world.secrets["nomadVariable", "nomad/jobs/web"] = SecretState("nomad", revision=Pin.revision("index-7"))
    world.user_registers(make.job())
    return world


def every_field(name: str = "app", *, path: str = "app", env: dict[str, str] | None = None, **wish: Any) -> Modifier:
    """A KV secret of which every field is a variable."""

    def add(made: Json) -> None:
        entry: Json = {"name": name, "kv": {"mount": "secret", "path": path}, "envFrom": wish}
        made["spec"]["secrets"].append(entry | ({"env": env} if env else {}))

    return add


def variables(world: World) -> dict[str, str]:
    """The variables of the job's one env template, and the field of each."""
    found = [one for one in templates_of(world.job or {}) if one["Envvars"]]
    lines = [line for one in found for line in one["EmbeddedTmpl"].split("\n") if "=" in line and "toJSON" in line]
    return {line.split("=", 1)[0]: line.rsplit(".Data.data", 1)[1].split("|")[0].strip() for line in lines}


def fault_of(world: World, item: BindingInput, *others: BindingInput) -> Reason | None:
    desired, _ = world.decide([item, *others])
    fault = desired.results[item.key].fault
    return fault.reason if fault is not None else None


# --- every field as a variable ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ({}, {"password": ".password", "username": ".username"}),
        ({"prefix": "DB_"}, {"DB_password": ".password", "DB_username": ".username"}),
        ({"prefix": "db_", "upperCase": True}, {"DB_PASSWORD": ".password", "DB_USERNAME": ".username"}),
    ],
)
def test_every_field_of_the_version_is_a_variable(wish: dict[str, Any], names: dict[str, str]) -> None:
    world = with_kv()
    world.settle([make.given(binding(every_field(**wish)))])
    assert variables(world) == names


def test_a_new_field_comes_with_the_roll_of_its_version_and_with_no_other() -> None:
    world = with_kv()
    item = make.given(binding(every_field()))
    world.settle([item])
    before = templates_of(world.job or {})
    assert world.run([item]).actions == ()
    world.secrets["kv", "app"] = kv_state(2, by_version={2: {"password": None, "username": None, "host": None}})
    world.settle([item])
    assert set(variables(world)) == {"password", "username", "host"}
    assert templates_of(world.job or {}) != before


def test_a_field_that_is_named_keeps_the_name_that_it_was_given() -> None:
    world = with_kv()
    world.settle([make.given(binding(every_field(env={"password": "username", "PASS": "password"})))])
    assert variables(world) == {"password": ".username", "username": ".username", "PASS": ".password"}


@pytest.mark.parametrize(
    ("fields", "wish", "words"),
    [
        (("ok", "not ok"), {}, "is no identifier"),
        (("1st",), {}, "is no identifier"),
        (("PATH",), {}, "must not be set by a binding"),
        (("path",), {"upperCase": True}, "must not be set by a binding"),
        (("D_PRELOAD",), {"prefix": "L"}, "must not be set by a binding"),
        (("a", "A"), {"upperCase": True}, "would both be A"),
    ],
)
def test_fields_that_cannot_be_variables_are_refused(fields: tuple[str, ...], wish: dict[str, Any], words: str) -> None:
    world = with_kv(fields)
    item = make.given(binding(every_field(**wish)))
    desired, plan = world.decide([item])
    fault = desired.results[item.key].fault
    assert fault is not None
    assert fault.reason is Reason.SECRET_UNREADABLE
    assert words in fault.message
    assert not plan.registers


def test_a_version_with_such_a_field_is_held_while_the_one_before_serves() -> None:
    world = with_kv()
    item = make.given(binding(every_field()))
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2, by_version={2: {"password": None, "db host": None}})
    desired, plan = world.decide([item])
    (decision,) = desired.results[item.key].secrets
    assert decision.hold is not None
    assert decision.hold.reason is Reason.SECRET_UNREADABLE
    assert plan.actions == ()


def test_an_object_is_no_variable() -> None:
    world = with_kv(by_version={1: {"password": None, "tls": {"key": None}}})
    item = make.given(binding(every_field()))
    assert fault_of(world, item) is Reason.SECRET_UNREADABLE


@pytest.mark.parametrize(
    ("modifier", "strategy"),
    [(every_field(), "Native"), (lambda made: made["spec"]["secrets"].append(GENERIC), "Rolling")],
    ids=["Nomad reads whatever version there is", "nobody knows the fields"],
)
def test_where_the_fields_are_not_known_beforehand_they_cannot_all_be_variables(
    modifier: Modifier, strategy: str
) -> None:
    world = with_kv()
    world.secrets["generic", "creds/x"] = SecretState("generic")
    item = make.given(binding(modifier, make.strategy(strategy)))
    assert fault_of(world, item) is Reason.UNSUPPORTED_KIND


GENERIC: Json = {"name": "any", "generic": {"mount": "aws", "path": "creds/x"}, "envFrom": {}}


def test_the_fields_of_an_engine_that_are_known_can_all_be_variables() -> None:
    world = with_kv()
    fields = {0: {"username": None, "password": None}}
    world.secrets["database", "app"] = SecretState("database", fields=fields, lease_seconds=60)
    entry: Json = {"name": "db", "database": {"mount": "database", "role": "app"}, "envFrom": {"prefix": "DB_"}}
    world.settle([make.given(binding(lambda made: made["spec"]["secrets"].append(entry)))])
    (template,) = templates_of(world.job or {})
    assert (
        "DB_password={{ .Data.password | toJSON }}\nDB_username={{ .Data.username | toJSON }}"
        in (template["EmbeddedTmpl"])
    )


def test_two_secrets_of_a_binding_whose_fields_meet_are_refused() -> None:
    world = with_kv()
    item = make.given(binding(every_field("one"), every_field("two", path="other")))
    assert fault_of(world, item) is Reason.DUPLICATE_TARGET
    apart = make.given(binding(every_field("one"), every_field("two", path="other", prefix="B_")))
    assert fault_of(world, apart) is None


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_two_bindings_whose_variables_meet_the_one_in_the_job_keeps_them(first: str) -> None:
    world = with_kv()
    items = {
        "a": make.given(binding(every_field(), name="a")),
        "b": make.given(binding(make.kv("app", path="other", env={"password": "password"}), name="b")),
    }
    world.settle([items[first]])
    other = items["b" if first == "a" else "a"]
    assert fault_of(world, other, items[first]) is Reason.DUPLICATE_TARGET
    assert fault_of(world, items[first], other) is None


def test_a_variable_of_the_tasks_own_is_in_the_way() -> None:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job(make.group(make.task(Env={"username": "mine"}))))
    assert fault_of(world, make.given(binding(every_field()))) is Reason.ENV_CONFLICT


def test_what_runs_stays_byte_for_byte_when_its_version_is_gone_and_its_fields_with_it() -> None:
    world = with_kv()
    item = make.given(binding(every_field(), name="a"))
    world.settle([item])
    before = templates_of(world.job or {})
    world.secrets["kv", "app"] = kv_state(1, destroyed=(1,))
    other = make.given(binding(make.kv("app", path="other", env={"password": "password"}), name="b"))
    desired, plan = world.decide([item, other])
    assert not plan.registers
    assert desired.results[other.key].fault is not None
    assert templates_of(world.job or {}) == before


# --- files ------------------------------------------------------------------------------------------------------------


def one_file(**file: Any) -> Modifier:
    return make.kv("app", path="app", files=[file])


def test_a_file_without_a_folder_goes_where_nothing_is_kept() -> None:
    world = with_kv()
    world.settle([make.given(binding(one_file(destination="app.conf", perms="0400", uid=1000, gid=7)))])
    (template,) = templates_of(world.job or {})
    assert template["DestPath"] == "secrets/app.conf"
    assert (template["Perms"], template["Uid"], template["Gid"]) == ("0400", 1000, 7)


def test_the_same_file_with_its_folder_written_out_changes_nothing() -> None:
    world = with_kv()
    world.settle([make.given(binding(one_file(destination="app.conf")))])
    assert world.run([make.given(binding(one_file(destination="secrets/app.conf")))]).actions == ()


def test_a_file_of_named_fields_needs_them_and_no_others() -> None:
    world = with_kv()
    named = {"destination": "a", "format": "Shell", "fields": {"PASS": "password"}}
    assert fault_of(world, make.given(binding(one_file(**named)))) is None
    lacking = {**named, "fields": {"PASS": "missing"}}
    item = make.given(binding(one_file(**lacking)))
    desired, _ = world.decide([item])
    fault = desired.results[item.key].fault
    assert fault is not None
    assert fault.reason is Reason.SECRET_FIELD_MISSING
    assert "secrets/a needs" in fault.message


@pytest.mark.parametrize("file_format", ["Dotenv", "Shell", "Properties"])
@pytest.mark.parametrize("named", [True, False])
def test_a_line_for_each_field_needs_names_that_are_known_or_given(file_format: str, named: bool) -> None:
    world = with_kv()
    world.secrets["generic", "creds/deploy"] = SecretState("generic")
    file: Json = {"destination": "a", "format": file_format} | ({"fields": {"A": "a"}} if named else {})
    item = make.given(binding(make.generic(files=[file])))
    assert fault_of(world, item) is (None if named else Reason.UNSUPPORTED_KIND)


def test_credentials_of_a_database_in_a_format_leave_out_what_changes_at_each_look() -> None:
    world = with_kv()
    fields = {0: {"username": None, "password": None}}
    world.secrets["database", "app"] = SecretState("database", fields=fields, revision=Pin(0, "x"), invalidates=True)
    entry: Json = {
        "name": "db",
        "database": {"mount": "database", "staticRole": "app"},
        "files": [{"destination": "db.yaml", "format": "Yaml"}],
    }
    world.settle([make.given(binding(lambda made: made["spec"]["secrets"].append(entry)))])
    (template,) = templates_of(world.job or {})
    assert "range" not in template["EmbeddedTmpl"]
    assert template["EmbeddedTmpl"].count('printf "%q" "') == 2


# --- a right, and its token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "env", "no_file", "expires", "mode"),
    [
        ("File", False, False, False, "noop"),
        ("Env", True, True, False, "restart"),
        ("Withheld", False, True, True, "noop"),
    ],
)
def test_a_right_that_tasks_use_by_themselves_brings_the_token_that_it_asks_for(
    token: str, env: bool, no_file: bool, expires: bool, mode: str
) -> None:
    world = with_kv()
    world.settle([make.given(binding(make.transit(token=token)))])
    vault = find_task(world.job or {})["Vault"]
    assert (vault["Env"], vault["DisableFile"], vault["AllowTokenExpiration"], vault["ChangeMode"]) == (
        env,
        no_file,
        expires,
        mode,
    )


def test_a_right_leaves_a_mark_in_the_job_and_is_given_back_without_a_trace() -> None:
    world = with_kv()
    before = strip(world.job or {}, INSTANCE).job
    item = make.given(binding(make.transit()))
    world.settle([item])
    (template,) = templates_of(world.job or {})
    assert template["DestPath"] == "secrets/nomad-vault/files/team/app/key.right"
    assert template["EmbeddedTmpl"].endswith('*/}}{{ "transit key app of transit" }}\n')
    assert world.rights_of(next(iter(world.roles))) == {"transit/encrypt/app"}
    world.settle([replace(item, binding=None, deleting=True)])
    assert strip(world.job or {}, INSTANCE).job["TaskGroups"] == before["TaskGroups"]
    assert (world.policies, world.roles) == ({}, {})


def test_another_operation_changes_the_policy_alone_and_another_key_the_job() -> None:
    world = with_kv()
    world.secrets["transit", "second"] = SecretState("transit")
    world.settle([make.given(binding(make.transit()))])
    versions = len(world.versions)
    world.settle([make.given(binding(make.transit(operations=["Encrypt", "Decrypt"])))])
    assert len(world.versions) == versions
    assert world.rights_of(next(iter(world.roles))) == {"transit/encrypt/app", "transit/decrypt/app"}
    world.settle([make.given(binding(make.transit(key="second")))])
    assert world.rights_of(next(iter(world.roles))) == {"transit/encrypt/second"}


def test_beside_a_frozen_right_the_task_keeps_its_token() -> None:
    world = with_kv()
    right = make.given(binding(make.transit(), name="a"))
    world.settle([right])
    other = make.given(binding(make.kv("app", path="app"), name="b"))
    world.settle([make.given(right.binding, suspended=True), other])
    vault = find_task(world.job or {})["Vault"]
    assert (vault["DisableFile"], vault["AllowTokenExpiration"]) == (False, False)


# --- no Vault ---------------------------------------------------------------------------------------------------------


def test_a_task_that_takes_nothing_from_vault_does_not_log_in_there() -> None:
    world = with_kv()
    item = make.given(binding(make.nomad_variable()))
    world.settle([item])
    task = find_task(world.job or {})
    assert task["Vault"] is None
    assert task["Identities"] is None
    assert world.roles == {}
    assert len(world.policies) == 1, "it remembers that the binding has something in the job"
    world.settle([replace(item, binding=None, deleting=True)])
    assert world.policies == {}
    assert templates_of(world.job or {}) == []


def test_a_vault_block_of_the_tasks_own_is_not_in_the_way_of_a_nomad_variable() -> None:
    world = with_kv()
    own = {"Role": "mine", "Cluster": "default"}
    world.user_registers(make.job(make.group(make.task(Vault=own))))
    assert fault_of(world, make.given(binding(make.nomad_variable()))) is None
    assert fault_of(world, make.given(binding(make.nomad_variable(), make.kv("app", path="app")))) is (
        Reason.VAULT_BLOCK_CONFLICT
    )


def test_another_index_of_a_variable_rolls_the_job_once() -> None:
    world = with_kv()
    item = make.given(binding(make.nomad_variable()))
    world.settle([item])
    versions = len(world.versions)
    assert world.run([item]).actions == ()
    world.secrets["nomadVariable", "nomad/jobs/web"] = SecretState("nomad", revision=Pin.revision("index-8"))
    world.settle([item])
    assert len(world.versions) == versions + 1
    (template,) = templates_of(world.job or {})
    assert template["Once"] is True
    assert '{{ with nomadVar "nomad/jobs/web" }}' in template["EmbeddedTmpl"]


def test_beside_a_binding_that_needs_vault_the_task_logs_in_and_stops_when_that_goes() -> None:
    world = with_kv()
    variable = make.given(binding(make.nomad_variable(), name="a"))
    secret = make.given(binding(make.kv("app", path="app"), name="b"))
    world.settle([variable, secret])
    assert find_task(world.job or {})["Vault"]
    world.settle([variable, replace(secret, binding=None, deleting=True)])
    task = find_task(world.job or {})
    assert (task["Vault"], task["Identities"], world.roles) == (None, None, {})
    assert len(templates_of(world.job or {})) == 1
