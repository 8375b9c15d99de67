"""How long tokens of tasks live where a binding says nothing.

Those that nobody renews live as long as Vault allows, since a client agent that restarts needs them; those that Nomad
renews, and those of tasks that come and go, for half an hour.
"""

from typing import Any

import pytest

from secretbinding.ports import Json
from tests.support.builders import (
    Modifier,
    binding,
    generic,
    generic_state,
    given,
    job,
    kv,
    kv_state,
    spec,
    strategy,
    task,
    template,
)
from tests.support.builders import group as a_group
from tests.unit.core.world import World

HALF_AN_HOUR = 1800
AS_LONG_AS_MAY_BE = 32 * 24 * 3600


def periods(*modifiers: Modifier, sent: Json | None = None, **changes: Any) -> set[int]:
    """The periods of the roles of one binding."""
    world = World()
    world.secrets = {("kv", "myapp"): kv_state(1), ("generic", "creds/deploy"): generic_state()}
    if sent is not None:
        world.user_registers({**sent, **changes})
    world.run([given(binding(*modifiers))])
    return {role["token_period"] for role in world.roles.values()}


@pytest.mark.parametrize("kind", ["service", "system"])
def test_tokens_of_tasks_that_only_have_pinned_secrets_live_as_long_as_vault_allows(kind: str) -> None:
    assert periods(kv(), sent=job(kind=kind)) == {AS_LONG_AS_MAY_BE}


@pytest.mark.parametrize("modifiers", [(generic(),), (kv(), generic()), (kv(), strategy("Native"))])
def test_tokens_of_tasks_with_secrets_that_nomad_goes_on_reading_are_renewed_every_half_hour(
    modifiers: tuple[Modifier, ...],
) -> None:
    assert periods(*modifiers, sent=job()) == {HALF_AN_HOUR}


def test_so_are_those_of_a_task_whose_own_templates_make_ours_be_read_again() -> None:
    own = template("local/own.env", "A=b", Envvars=True)
    assert periods(kv(), sent=job(a_group(task(Templates=[own])))) == {HALF_AN_HOUR}


@pytest.mark.parametrize("changes", [{"Periodic": {"Enabled": True}}, {"ParameterizedJob": {"Payload": "optional"}}])
def test_tokens_of_tasks_that_come_and_go_end_soon(changes: Json) -> None:
    assert periods(kv(), sent=job(kind="batch"), **changes) == {HALF_AN_HOUR}


def test_a_role_that_is_made_before_its_job_is_not_written_again_when_the_job_comes() -> None:
    world = World()
    world.secrets = {("kv", "myapp"): kv_state(1)}
    bindings = [given(binding(kv()))]
    world.run(bindings)
    before = dict(world.roles)
    world.user_registers(job())
    world.settle(bindings)
    assert world.roles == before
    assert {role["token_period"] for role in before.values()} == {AS_LONG_AS_MAY_BE}


def test_what_the_binding_says_counts() -> None:
    assert periods(kv(), spec(auth={"tokenPeriod": "1h"}), sent=job()) == {3600}
