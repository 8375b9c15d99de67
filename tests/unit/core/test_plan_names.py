"""What an action changes is told by names: never by a value, a template or a text."""

import pytest

from secretbinding.engine_roles import DeleteEngineRole
from secretbinding.kinds import Right
from secretbinding.models.key import WorkloadKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.naming import Owner
from secretbinding.plan import Action, DeletePolicy, DeleteRole, UntagVersion, WritePolicy, WriteRole
from secretbinding.plan_names import askers, changed_conditions, changed_names
from secretbinding.render.policy import PolicyDocument, policy_text
from secretbinding.trail import is_change
from tests.support.builders import key

WORKLOAD = WorkloadKey("default", "", "payments", "web")


def policy(*paths: str, roles: tuple[str, ...] = (), retain: bool = False) -> str:
    rights = tuple(Right(path, ("read",)) for path in paths)
    return policy_text(PolicyDocument(Owner("i", key("mine")), WORKLOAD, rights, roles, retain=retain))


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (WritePolicy("p", policy("secret/data/a"), None), ("+path secret/data/a",)),
        (
            WritePolicy("p", policy("secret/data/b", roles=("r",)), policy("secret/data/a")),
            ("-path secret/data/a", "+path secret/data/b", "+roles"),
        ),
        (WritePolicy("p", policy("secret/data/a", retain=True), policy("secret/data/a")), ("+retain",)),
        (DeletePolicy("p", policy("secret/data/a")), ("-path secret/data/a",)),
        (DeletePolicy("p", "edited by hand"), ()),
        (WriteRole("r", {"token_period": 60, "user_claim": "sub"}, None), ("+token_period", "+user_claim")),
        (WriteRole("r", {"token_period": 60}, {"token_period": 30, "token_type": "x"}), ("~token_period",)),
        (DeleteRole("r", {"token_period": 30}), ("-token_period",)),
        (DeleteEngineRole("database/roles/r", {"creation_statements": "CREATE 'pw'"}), ("-creation_statements",)),
        (UntagVersion("t"), ()),
    ],
)
def test_what_comes_goes_or_is_another_one_is_named(action: Action, names: tuple[str, ...]) -> None:
    assert changed_names(action, "i") == names


def test_a_policy_is_its_own_bindings_and_a_role_all_of_the_workloads() -> None:
    others = [key("mine"), key("other")]
    assert askers(WritePolicy("p", policy("a"), None), "i", others) == ("files/team/mine",)
    assert askers(WriteRole("r", {}, None), "i", others) == ("files/team/mine", "files/team/other")


def test_of_a_status_conditions_are_named_with_their_reason_and_other_fields_by_name() -> None:
    old = SecretBindingStatus.read({"observedGeneration": 1, "conditions": []})
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "all well",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    new = SecretBindingStatus.read({"observedGeneration": 2, "conditions": [ready]})
    assert changed_conditions(old, new) == ("~Ready=True (Ready)", "~observedGeneration")
    assert changed_conditions(new, new) == ()


@pytest.mark.parametrize(
    ("label", "method", "what", "told"),
    [
        ("policy_write", "POST", "", True),
        ("something_new", "POST", "", True),
        ("policy_read", "GET", "", False),
        ("job_plan", "POST", "", False),
        ("token_renew", "POST", "", False),
        ("variable_write", "PUT", "write variable nomad-vault/status/web", True),
        ("variable_write", "PUT", "write variable nomad-vault/members/default/first", False),
    ],
)
def test_what_changes_nothing_of_others_leaves_no_line(label: str, method: str, what: str, told: bool) -> None:
    assert is_change(label, method, what) is told
