"""Hand-written stanzas that a binding has taken over: nothing changes until something really does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from secretbinding.desired import BindingInput, Desired, desire
from secretbinding.desired.adopted import Adoption, read_adoption
from secretbinding.desired.adoption import dressed, propose, with_adoptions
from secretbinding.job.diff import job_diff
from secretbinding.job.marks import placed_marks
from secretbinding.models.reasons import Reason
from secretbinding.plan import Plan, RegisterJob, make_plan
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import INSTANCE
from tests.unit.core.world import World

VAULT = {"Role": "by-hand", "Cluster": "default", "Env": True, "DisableFile": False, "ChangeMode": "restart"}
ENV = make.template(
    "secrets/app.env",
    '{{ with secret "secret/data/myapp" }}\nAPP_PASS={{ .Data.data.password }}\n{{ end }}',
    Envvars=True,
)
FILE = make.template("secrets/app.json", '{{ with secret "secret/data/myapp" }}{{ .Data.data | toJSON }}{{ end }}')
OWN = make.template("local/own.conf", "plain")


def by_hand(*templates: Json, vault: Json | None = VAULT) -> Json:
    return make.job(make.group(make.task(Vault=vault, Templates=[*templates])))


class HandWorld(World):
    """A world whose passes see adoptions, as the reconciler's do."""

    def decide(self, bindings: Sequence[BindingInput]) -> tuple[Desired, Plan]:
        seen = dressed(self.observe(bindings), bindings, self.instance)
        desired = desire(seen, bindings, self.instance)
        return desired, make_plan(seen, desired, bindings, self.instance)

    def adopt(self, item: BindingInput) -> None:
        """What the command does."""
        assert item.binding is not None
        observed = self.observe([item])
        proposal = propose(item, item.binding, observed, self.instance)
        assert proposal.adoption is not None, proposal.fault
        seen = with_adoptions(observed, [item], {item.key: proposal.adoption}, self.instance)
        plan = make_plan(seen, desire(seen, [item], self.instance), [item], self.instance)
        assert not plan.registers
        for action in plan.actions:
            self._do(action)


def a_world(*templates: Json, version: int = 1, **job: Any) -> HandWorld:
    world = HandWorld()
    world.secrets["kv", "myapp"] = make.kv_state(version)
    world.user_registers({**by_hand(*(templates or (ENV, OWN))), **job})
    world.finish_deployment()
    return world


def binding(*more: make.Modifier) -> BindingInput:
    return make.given(make.binding(make.kv(), *more))


def registrations(world: World) -> int:
    return sum(isinstance(action, RegisterJob) for action in world.log)


def test_without_adoption_a_stanza_by_hand_is_a_conflict_and_stays() -> None:
    world = a_world()
    desired, plan = world.decide([binding()])
    (result,) = desired.results.values()
    assert result.fault is not None
    assert result.fault.reason is Reason.VAULT_BLOCK_CONFLICT
    assert not plan.registers


def test_adoption_makes_rights_and_leaves_the_job_alone() -> None:
    world = a_world()
    before = world.job
    world.adopt(binding())
    assert world.job == before
    assert world.policies
    assert world.roles
    world.settle([binding()])
    assert world.job == before
    assert registrations(world) == 0
    _, plan = world.decide([binding()])
    assert plan.actions == ()


def test_the_next_version_replaces_what_was_there_by_hand_and_leaves_the_rest() -> None:
    world = a_world()
    world.adopt(binding())
    world.secrets["kv", "myapp"] = make.kv_state(2)
    world.settle([binding()])
    assert registrations(world) == 1
    assert world.job is not None
    texts = [template["DestPath"] for template in make.templates_of(world.job)]
    assert "secrets/app.env" not in texts
    assert "local/own.conf" in texts
    assert {mark.mark.pin.version for mark in placed_marks(world.job, INSTANCE) if mark.mark.pin} == {2}
    assert make.find_task(world.job)["Vault"]["Role"] != "by-hand"
    assert "adopted" not in "".join(world.policies.values())


def test_the_plan_after_that_shows_what_by_hand_goes_and_nothing_of_its_text() -> None:
    world = a_world()
    world.adopt(binding())
    world.secrets["kv", "myapp"] = make.kv_state(2)
    _, plan = world.decide([binding()])
    (register,) = [action for action in plan.actions if isinstance(action, RegisterJob)]
    shown = job_diff(register.before, register.job, INSTANCE).splitlines()
    assert "task web/server: - vault block by hand, role by-hand" in shown
    assert "task web/server: - env template by hand at secrets/app.env" in shown
    assert not any("own.conf" in line for line in shown)


@pytest.mark.parametrize(
    "changed",
    [make.kv("more", path="myapp", env={"MORE": "username"}), make.workload_env(VAULT_ADDR="http://127.0.0.1:8200")],
)
def test_a_changed_binding_replaces_it_too(changed: make.Modifier) -> None:
    world = a_world()
    world.adopt(binding())
    world.settle([binding(changed)])
    assert registrations(world) == 1
    assert world.job is not None
    assert make.find_task(world.job)["Vault"]["Role"] != "by-hand"


def test_a_version_that_is_held_leaves_it_by_hand() -> None:
    world = a_world()
    world.adopt(binding())
    world.secrets["kv", "myapp"] = make.kv_state(2, fields=["other"])
    world.settle([binding()])
    assert registrations(world) == 0


def test_a_failed_roll_comes_back_to_what_was_there_by_hand_and_is_held() -> None:
    world = a_world()
    before = world.job
    assert before is not None
    world.adopt(binding())
    world.secrets["kv", "myapp"] = make.kv_state(2)
    world.run([binding()])
    world.run([binding()])
    world.finish_deployment(success=False)
    for _ in range(4):
        world.run([binding()])
    assert registrations(world) == 1
    assert world.job is not None
    assert make.find_task(world.job)["Vault"]["Role"] == "by-hand"
    world.secrets["kv", "myapp"] = make.kv_state(3)
    world.settle([binding()])
    assert registrations(world) == 2


def test_what_somebody_alters_after_the_adoption_is_his_again() -> None:
    world = a_world()
    world.adopt(binding())
    altered = {**ENV, "EmbeddedTmpl": "APP_PASS=other"}
    world.user_registers(by_hand(altered, OWN))
    world.finish_deployment()
    before = world.job
    desired, _ = world.decide([binding()])
    (result,) = desired.results.values()
    assert result.fault is not None
    world.settle([binding()])
    assert world.job == before


def test_a_binding_that_goes_leaves_the_stanza_as_it_is_and_takes_its_rights_along() -> None:
    world = a_world()
    before = world.job
    world.adopt(binding())
    world.settle([replace(binding(), deleting=True)])
    assert world.job == before
    assert world.policies == {}
    assert world.roles == {}


def test_a_suspended_binding_leaves_it() -> None:
    world = a_world()
    before = world.job
    world.adopt(binding())
    world.secrets["kv", "myapp"] = make.kv_state(2)
    world.settle([make.given(make.binding(make.kv()), suspended=True)])
    assert world.job == before


@pytest.mark.parametrize(
    ("templates", "vault", "reason", "words"),
    [
        ((ENV,), None, Reason.VAULT_BLOCK_CONFLICT, "no vault block by hand"),
        ((OWN,), VAULT, Reason.TEMPLATE_CONFLICT, "nothing by hand for APP_PASS"),
        (
            ({**ENV, "EmbeddedTmpl": "APP_PASS=a\nOTHER=b"},),
            VAULT,
            Reason.ENV_CONFLICT,
            "also sets OTHER",
        ),
    ],
)
def test_what_cannot_be_taken_over_as_a_whole_is_not_taken_over(
    templates: tuple[Json, ...], vault: Json | None, reason: Reason, words: str
) -> None:
    world = HandWorld()
    world.secrets["kv", "myapp"] = make.kv_state(1)
    world.user_registers(by_hand(*templates, vault=vault))
    item = binding()
    assert item.binding is not None
    found = propose(item, item.binding, world.observe([item]), INSTANCE)
    assert found.fault is not None
    assert found.fault.reason is reason
    assert words in found.fault.message


def test_files_are_taken_over_by_their_destination_however_it_is_written() -> None:
    world = a_world({**FILE, "DestPath": "${NOMAD_SECRETS_DIR}/app.json"}, OWN)
    item = make.given(make.binding(make.kv(files=[{"destination": "secrets/app.json"}])))
    world.adopt(item)
    world.settle([item])
    assert registrations(world) == 0
    world.secrets["kv", "myapp"] = make.kv_state(2)
    world.settle([item])
    assert world.job is not None
    destinations = [template["DestPath"] for template in make.templates_of(world.job)]
    assert sorted(destinations) == ["local/own.conf", "secrets/app.json"]


def test_an_adoption_is_read_back_as_it_was_written_and_anything_else_is_none() -> None:
    world = a_world()
    item = binding()
    assert item.binding is not None
    made = propose(item, item.binding, world.observe([item]), INSTANCE).adoption
    assert made is not None
    assert read_adoption(made.to_json()) == made
    for broken in (None, {}, [], {**made.to_json(), "tasks": [[1]]}, {**made.to_json(), "pins": {"a": "b"}}):
        assert read_adoption(broken) is None
    assert isinstance(made, Adoption)
