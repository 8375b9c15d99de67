"""What `bootstrap` changes, keeps and leaves alone, by what is there."""

from typing import Any

import pytest

from secretbinding.errors import UsageError
from secretbinding.ops.bootstrap.desired import Item, Kind, desire
from secretbinding.ops.bootstrap.planning import Change, Found, Plan, make_plan, show
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.rights import Mount, Scope, vault_policy

JWKS = "http://nomad:4646/.well-known/jwks.json"
OTHER = "http://other:4646/.well-known/jwks.json"
MOUNT = "vault:auth/jwt-nomad"
CONFIG = "vault:auth/jwt-nomad/config"
POLICY = "vault:policy/secretbinding"
ROLE = "vault:auth/token/roles/secretbinding"
NOMAD = "nomad:policy/secretbinding"


def target(**changes: Any) -> Target:
    return Target(**{"jwks_url": JWKS, **changes})


def as_made(items: tuple[Item, ...]) -> dict[str, dict[str, Any] | None]:
    """The state of both servers after all of it was made, with what servers add."""
    return {item.id: {**item.wanted, "accessor": "x", "token_bound_cidrs": []} for item in items}


def plan(wanted: Target, found: Found, *replace: str) -> Plan:
    return make_plan(desire(wanted, "auth_jwt_1"), found, wanted.scope.instance, replace)


def changed(made: Plan) -> dict[str, Change]:
    return {step.item.id: step.change for step in made.steps if step.change is not Change.KEEP}


def test_on_empty_servers_everything_is_made_mounts_first() -> None:
    made = plan(target(), {})
    assert [step.item.id for step in made.steps] == [MOUNT, CONFIG, POLICY, ROLE, NOMAD]
    assert {step.change for step in made.steps} == {Change.CREATE}


@pytest.mark.parametrize("login", list(Login))
@pytest.mark.parametrize("default_role", ["", "nomad-workloads"])
def test_what_was_made_is_left_as_it_is(login: Login, default_role: str) -> None:
    wanted = target(login=login, default_role=default_role, kubernetes_host="https://k8s")
    made = plan(wanted, as_made(desire(wanted, "auth_jwt_1")))
    assert changed(made) == {}
    assert "\n+" not in show(made)


def test_without_acls_nothing_is_made_in_nomad() -> None:
    assert NOMAD not in changed(plan(target(nomad_acl=False), {}))


def test_a_policy_without_our_mark_is_a_conflict() -> None:
    found = {**as_made(desire(target(), "")), POLICY: {"policy": 'path "x" {}'}}
    made = plan(target(), found)
    assert changed(made) == {POLICY: Change.CONFLICT}
    assert f"--replace {POLICY}" in show(made)


def test_a_policy_of_ours_that_somebody_edited_is_a_conflict_and_one_that_is_outdated_is_not() -> None:
    before = as_made(desire(target(), ""))
    edited = {**before, POLICY: {"policy": vault_policy(Scope()) + "# mine\n"}}
    assert changed(plan(target(), edited)) == {POLICY: Change.CONFLICT}
    former = Scope(mounts=(Mount("kv", "other"),))
    outdated = {**before, POLICY: {"policy": vault_policy(former)}}
    assert changed(plan(target(), outdated)) == {POLICY: Change.UPDATE}


def test_a_policy_of_another_instance_is_a_conflict() -> None:
    wanted = target(scope=Scope(instance="blue"))
    found = {**as_made(desire(wanted, "")), "vault:policy/secretbinding-blue": {"policy": vault_policy(Scope())}}
    assert changed(plan(wanted, found)) == {"vault:policy/secretbinding-blue": Change.CONFLICT}


def test_what_is_named_is_replaced() -> None:
    found = {**as_made(desire(target(), "")), POLICY: {"policy": 'path "x" {}'}}
    assert changed(plan(target(), found, POLICY)) == {POLICY: Change.UPDATE}


def test_a_mount_of_somebody_elses_that_fits_is_used_as_it_is() -> None:
    found = {**as_made(desire(target(), "")), MOUNT: {"type": "jwt", "description": "Nomad"}}
    assert changed(plan(target(), found)) == {}


def test_a_mount_of_another_type_cannot_be_replaced() -> None:
    found = {**as_made(desire(target(), "")), MOUNT: {"type": "userpass", "description": ""}}
    made = plan(target(), found, MOUNT)
    assert changed(made) == {MOUNT: Change.CONFLICT}
    assert "give another mount" in show(made)


def test_keys_of_another_nomad_are_replaced_only_on_a_mount_that_is_ours() -> None:
    ours = as_made(desire(target(), ""))
    moved = {**ours, CONFIG: {**(ours[CONFIG] or {}), "jwks_url": OTHER}}
    assert changed(plan(target(), moved)) == {CONFIG: Change.UPDATE}
    foreign = {**moved, MOUNT: {"type": "jwt", "description": "CI"}}
    assert changed(plan(target(), foreign)) == {CONFIG: Change.CONFLICT}


def test_what_a_mount_was_told_besides_is_told_again_since_a_write_replaces_all_of_it() -> None:
    ours = as_made(desire(target(), ""))
    before = {**(ours[CONFIG] or {}), "jwks_url": OTHER, "bound_issuer": "http://nomad", "default_role": "x"}
    made = plan(target(), {**ours, CONFIG: before})
    body = next(step.body for step in made.steps if step.item.id == CONFIG)
    assert (body["bound_issuer"], body["default_role"], body["jwks_url"]) == ("http://nomad", "x", JWKS)
    assert "provider_config" not in body


def test_an_issuer_that_nomad_does_not_sign_is_cleared_on_our_mount_and_a_conflict_on_another() -> None:
    wanted = target(nomad_issuer="")
    ours = as_made(desire(wanted, ""))
    wrong = {**ours, CONFIG: {**(ours[CONFIG] or {}), "bound_issuer": "foo"}}
    made = plan(wanted, wrong)
    assert changed(made) == {CONFIG: Change.UPDATE}
    assert next(step.body for step in made.changes)["bound_issuer"] == ""
    assert '    -bound_issuer = "foo"\n' in show(made)
    assert changed(plan(wanted, {**wrong, MOUNT: {"type": "jwt", "description": "CI"}})) == {CONFIG: Change.CONFLICT}


def test_the_issuer_that_nomad_signs_stays_and_so_does_any_while_it_is_not_known() -> None:
    signed = "https://nomad.example.com"
    ours = as_made(desire(target(nomad_issuer=signed), ""))
    bound = {**ours, CONFIG: {**(ours[CONFIG] or {}), "bound_issuer": signed}}
    assert changed(plan(target(nomad_issuer=signed), bound)) == {}
    assert changed(plan(target(nomad_issuer=signed), ours)) == {}
    assert changed(plan(target(nomad_issuer=None), bound)) == {}
    moved = {**bound, CONFIG: {**(bound[CONFIG] or {}), "jwks_url": OTHER}}
    body = next(step.body for step in plan(target(nomad_issuer=signed), moved).changes)
    assert body["bound_issuer"] == signed


def test_discovery_clears_the_url_of_the_keys_and_binds_the_issuer() -> None:
    wanted = target(jwks_url="", oidc_discovery_url="https://nomad.example.com")
    body = next(item.wanted for item in desire(wanted, "") if item.id == CONFIG)
    assert (body["jwks_url"], body["bound_issuer"]) == ("", "https://nomad.example.com")


def test_a_role_is_ours_when_it_grants_nothing_but_our_policy() -> None:
    ours = as_made(desire(target(), ""))
    longer = {**ours, ROLE: {**(ours[ROLE] or {}), "token_period": 60}}
    assert changed(plan(target(), longer)) == {ROLE: Change.UPDATE}
    wider = {**ours, ROLE: {**(ours[ROLE] or {}), "allowed_policies": ["secretbinding", "admin"]}}
    assert changed(plan(target(), wider)) == {ROLE: Change.CONFLICT}
    unmarked = {**longer, POLICY: {"policy": "x"}}
    assert changed(plan(target(), unmarked)) == {ROLE: Change.CONFLICT, POLICY: Change.CONFLICT}


def test_further_policies_are_granted_beside_ours_and_one_that_nobody_asked_for_is_a_conflict() -> None:
    more = target(extra_policies=("generate",))
    ours = as_made(desire(target(), ""))
    assert changed(plan(more, ours)) == {ROLE: Change.UPDATE}
    assert changed(plan(target(), as_made(desire(more, "")))) == {ROLE: Change.CONFLICT}
    for login in Login:
        made = desire(target(login=login, extra_policies=("generate",)), "")
        assert any(["secretbinding", "generate"] in item.wanted.values() for item in made), login


def test_as_a_nomad_job_the_role_and_the_acl_policy_are_bound_to_that_job() -> None:
    items = {item.id: item.wanted for item in desire(target(login=Login.NOMAD, job_namespace="ops", job="sb"), "")}
    claims = items["vault:auth/jwt-nomad/role/secretbinding"]["bound_claims"]
    assert claims == {"nomad_namespace": "ops", "nomad_job_id": "sb"}
    assert items[NOMAD]["job"] == {"namespace": "ops", "job": "sb"}


def test_the_acl_policy_stays_attached_to_the_controllers_job_when_another_login_is_set_up() -> None:
    as_job = target(login=Login.NOMAD, job_namespace="ops", job="sb")
    before = {**as_made(desire(target(), "")), NOMAD: as_made(desire(as_job, ""))[NOMAD]}
    assert changed(plan(target(), before)) == {}
    more = target(scope=Scope(nomad_namespaces=("team",)))
    body = next(step.body for step in plan(more, before).changes if step.item.id == NOMAD)
    assert body["job"] == {"namespace": "ops", "job": "sb"}
    taken = plan(target(), before, NOMAD)
    assert changed(taken) == {NOMAD: Change.UPDATE}
    assert taken.changes[0].body["job"] == {}


def test_an_acl_policy_that_is_attached_to_another_job_is_a_conflict_that_names_the_job() -> None:
    as_job = target(login=Login.NOMAD, job_namespace="ops", job="sb")
    before = as_made(desire(as_job, ""))
    made = plan(target(login=Login.NOMAD, job="other"), before)
    assert changed(made)[NOMAD] is Change.CONFLICT
    assert "attached to the job ops/sb" in show(made)
    assert f"--replace {NOMAD}" in show(made)


def test_the_default_role_gives_each_task_what_lies_below_its_own_namespace_and_job() -> None:
    wanted = target(default_role="nomad-workloads", scope=Scope(mounts=(Mount("kv", "kv"),)))
    items = {item.id: item.wanted for item in desire(wanted, "auth_jwt_1")}
    text = items["vault:policy/nomad-workloads"]["policy"]
    alias = "identity.entity.aliases.auth_jwt_1.metadata"
    assert f'path "kv/data/{{{{{alias}.nomad_namespace}}}}/{{{{{alias}.nomad_job_id}}}}" {{' in text
    assert items[CONFIG]["default_role"] == "nomad-workloads"


def test_the_plan_shows_each_difference_line_by_line() -> None:
    ours = as_made(desire(target(), ""))
    shown = show(plan(target(), {**ours, CONFIG: {**(ours[CONFIG] or {}), "jwks_url": OTHER}}))
    assert f'    -jwks_url = "{OTHER}"\n    +jwks_url = "{JWKS}"\n' in shown
    assert "= Vault policy secretbinding\n" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"jwks_url": ""},
        {"oidc_discovery_url": "https://nomad"},
        {"jwks_url": "nomad:4646"},
        {"jwks_url": "http://user:pass@nomad/"},
        {"default_role": "Upper"},
        {"default_role": "nsb.default.x"},
        {"default_role": "secretbinding"},
        {"job": "a b"},
        {"extra_policies": ("root",)},
        {"extra_policies": ("a/b",)},
        {"job_namespace": ""},
        {"service_account": ("x", "")},
        {"approle_mount": "a/../b"},
        {"kubernetes_host": "k8s"},
    ],
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        target(**wrong)


def test_every_kind_of_thing_is_described() -> None:
    shown = show(plan(target(login=Login.APPROLE), {}))
    for kind in Kind:
        assert kind.value in shown
