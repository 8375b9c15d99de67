"""What a plan leaves for later: shown before anything is done, so that nobody is surprised by it."""

from dataclasses import replace

import pytest

from secretbinding.cli.forecast import later, replaced_at_once
from secretbinding.desired import BindingInput, Observed, desire
from secretbinding.desired.values import Policy
from secretbinding.engine.reconciler import Preview
from secretbinding.job.inject import same_job
from secretbinding.plan import DeletePolicy, DeleteRole, RegisterJob, WritePolicy, make_plan
from secretbinding.plan_text import describe
from secretbinding.render.policy import policy_text, read_policy
from tests.support.builders import INSTANCE, WORKLOAD, binding, given, group, job, kv, kv_state


def preview(observed: Observed, item: BindingInput) -> Preview:
    desired = desire(observed, [item], INSTANCE)
    return Preview(observed, desired, make_plan(observed, desired, [item], INSTANCE))


def with_secrets(observed: Observed, item: BindingInput) -> Observed:
    entries = item.binding.spec.secrets if item.binding is not None else ()
    return replace(observed, secrets={(item.key, entry.name): kv_state() for entry in entries})


def applied(observed: Observed, item: BindingInput) -> Observed:
    """The world once the plan was carried out, with an allocation that still runs the old version."""
    found = preview(with_secrets(observed, item), item).desired
    policies: dict[str, Policy | None] = {}
    for name, document in found.policies.items():
        text = policy_text(document)
        parsed = read_policy(text)
        assert parsed is not None
        policies[name] = Policy(text, *parsed)
    made = {**(found.job or {}), "Version": 1}
    old = {"ClientStatus": "running", "JobVersion": 0}
    return replace(observed, job=made, policies=policies, roles=dict(found.roles), allocations=[old])


def nothing_there() -> Observed:
    return Observed(WORKLOAD, region="global", job={**job(), "Version": 0})


def test_a_first_injection_leaves_nothing_for_later() -> None:
    item = given(binding())
    found = preview(with_secrets(nothing_there(), item), item)
    assert found.plan.registers
    assert later(found, [item], INSTANCE) == ()


def test_a_deletion_leaves_role_and_policy_for_later_in_this_order() -> None:
    item = given(binding())
    leaving = given(binding(), deleting=True)
    found = preview(applied(nothing_there(), item), leaving)
    assert found.plan.registers
    assert found.desired.job is not None
    assert not same_job(found.desired.job, found.observed.job or {})
    rest = later(found, [leaving], INSTANCE)
    assert [type(action) for action in rest] == [DeleteRole, DeletePolicy]
    assert all(describe(action).startswith("- ") for action in rest)


def test_a_right_that_is_no_longer_wanted_is_narrowed_later() -> None:
    item = given(binding(kv("app", path="old")))
    changed = given(binding(kv("app", path="new")))
    world = with_secrets(applied(nothing_there(), item), changed)
    found = preview(world, changed)
    widened = next(action for action in found.plan.actions if isinstance(action, WritePolicy))
    assert "secret/data/old" in widened.text
    assert "secret/data/new" in widened.text
    (narrowed,) = later(found, [changed], INSTANCE)
    assert isinstance(narrowed, WritePolicy)
    assert "secret/data/old" not in narrowed.text
    assert narrowed.before == widened.text


def test_when_nothing_is_due_nothing_is_left_for_later() -> None:
    item = given(binding())
    settled = replace(with_secrets(applied(nothing_there(), item), item), allocations=())
    found = preview(settled, item)
    assert found.plan.actions == ()
    assert later(found, [item], INSTANCE) == ()


@pytest.mark.parametrize(("parallel", "warned"), [(0, True), (1, False)])
def test_a_group_that_nomad_replaces_all_at_once_is_warned_of_by_name(parallel: int, warned: bool) -> None:
    item = given(binding())
    there = Observed(WORKLOAD, region="global", job={**job(group(Update={"MaxParallel": parallel})), "Version": 0})
    found = preview(with_secrets(there, item), item)
    (action,) = [action for action in found.plan.actions if isinstance(action, RegisterJob)]
    assert ("group web is replaced all at once" in replaced_at_once(action)) is warned
    assert replaced_at_once(RegisterJob(action.job, action.job, 0)) == "", "it starts nothing anew"
