"""What replaces running tasks, what does not, and how `plan` says so beforehand."""

from collections.abc import Callable
from typing import Any

from tests.conformance.nomad import SECOND, Nomad, changed, job, task

Json = dict[str, Any]

DESTRUCTIVE: dict[str, Callable[[Json, Json], None]] = {
    "env": lambda _, one: one.update(Env={"A": "2"}),
    "template": lambda _, one: one["Templates"][0].update(EmbeddedTmpl="{{/* x */}}y"),
    "vault": lambda _, one: one.update(Vault={"Role": "other"}),
    "config": lambda _, one: one["Config"].update(args=["-c", "exec sleep 2000"]),
    "group meta": lambda group, _: group.update(Meta={"revision": "2"}),
    "task meta": lambda _, one: one.update(Meta={"revision": "2"}),
    "identities": lambda _, one: one.update(Identities=[{"Name": "x", "Audience": ["x"]}]),
    "resources": lambda _, one: one["Resources"].update(MemoryMB=11),
}
IN_PLACE: dict[str, Callable[[Json, Json], None]] = {
    "constraints": lambda group, _: group.update(
        Constraints=[{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "linux"}]
    ),
    "update": lambda group, _: group["Update"].update(MaxParallel=3),
    "restart": lambda group, _: group["RestartPolicy"].update(Delay=3 * SECOND),
    "kill timeout": lambda _, one: one.update(KillTimeout=3 * SECOND),
}


def base(job_id: str) -> Json:
    templates = [{"EmbeddedTmpl": "x", "DestPath": "local/x", "ChangeMode": "noop"}]
    return job(job_id, task(Env={"A": "1"}, Templates=templates))


def test_plan_tells_whether_a_change_replaces_running_tasks(nomad: Nomad, unique: str) -> None:
    nomad.register(base(unique))
    nomad.wait_allocation(unique, "running")
    seen: dict[str, list[str]] = {}
    for name, change in {**DESTRUCTIVE, **IN_PLACE}.items():
        planned = nomad.plan(changed(base(unique), change))
        assert planned["Diff"]["Type"] == "Edited", name
        counts = planned["Annotations"]["DesiredTGUpdates"]["g"]
        seen[name] = [kind for kind, count in counts.items() if count]
    replacing = {name: ["DestructiveUpdate"] for name in DESTRUCTIVE}
    assert seen == {**replacing, **{name: ["InPlaceUpdate"] for name in IN_PLACE}}
    assert nomad.job(unique)["Version"] == 0


def test_job_meta_replaces_the_tasks_of_every_group(nomad: Nomad, unique: str) -> None:
    two = base(unique)
    two["TaskGroups"].append({**two["TaskGroups"][0], "Name": "h"})
    nomad.register(two)
    nomad.wait("two allocations", lambda: len(nomad.running(unique)) == 2)
    counts = nomad.plan({**two, "Meta": {"a": "b"}})["Annotations"]["DesiredTGUpdates"]
    assert (counts["g"]["DestructiveUpdate"], counts["h"]["DestructiveUpdate"]) == (1, 1)


def test_a_plan_without_a_change_is_empty(nomad: Nomad, unique: str) -> None:
    nomad.register(base(unique))
    nomad.wait_allocation(unique, "running")
    planned = nomad.plan(base(unique))
    counts = planned["Annotations"]["DesiredTGUpdates"]["g"]
    # Registered is the accessor of whose token did it, and a plan has none: to the scheduler that is another job.
    assert nomad.job(unique)["NomadTokenID"]
    assert {name: count for name, count in counts.items() if count} == {"InPlaceUpdate": 1}
    assert planned["Diff"]["Type"] == "None"
    assert planned["JobModifyIndex"] == nomad.job(unique)["JobModifyIndex"]


def test_a_plan_shows_the_fields_that_change(nomad: Nomad, unique: str) -> None:
    nomad.register(base(unique))
    nomad.wait_allocation(unique, "running")
    diff = nomad.plan(changed(base(unique), DESTRUCTIVE["env"]))["Diff"]["TaskGroups"][0]
    assert (diff["Type"], diff["Updates"]) == ("Edited", {"create/destroy update": 1})
    assert diff["Tasks"][0]["Fields"] == [
        {"Annotations": None, "Name": "Env[A]", "New": "2", "Old": "1", "Type": "Edited"}
    ]
    assert diff["Tasks"][0]["Annotations"] == ["forces create/destroy update"]


def test_a_plan_shows_which_template_changes_by_its_destination(nomad: Nomad, unique: str) -> None:
    nomad.register(base(unique))
    diff = nomad.plan(changed(base(unique), DESTRUCTIVE["template"]))["Diff"]["TaskGroups"][0]["Tasks"][0]
    assert [(one["Name"], one["Type"]) for one in diff["Objects"]] == [("Template", "Edited")]
    fields = [(one["Name"], one["New"]) for one in diff["Objects"][0]["Fields"] if one["Type"] != "None"]
    assert fields == [("EmbeddedTmpl", "{{/* x */}}y")]


def test_a_plan_for_a_new_job_places_its_allocations(nomad: Nomad, unique: str) -> None:
    planned = nomad.plan(job(unique, count=2))
    assert planned["Annotations"]["DesiredTGUpdates"]["g"]["Place"] == 2
    assert planned["Diff"]["Type"] == "Added"
    assert planned["JobModifyIndex"] == 0


def test_an_in_place_update_keeps_the_process_and_makes_a_deployment(nomad: Nomad, unique: str) -> None:
    nomad.register(base(unique))
    nomad.wait_deployed(unique, 0)
    before = nomad.running(unique)[0]
    nomad.register(changed(base(unique), IN_PLACE["constraints"]))
    nomad.wait_deployed(unique, 1)
    after = nomad.running(unique)[0]
    assert after["ID"] == before["ID"]
    assert (before["JobVersion"], after["JobVersion"]) == (0, 1)
    assert after["TaskStates"]["t"]["StartedAt"] == before["TaskStates"]["t"]["StartedAt"]


def test_a_larger_count_adds_a_smaller_one_removes_the_highest(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, count=1))
    nomad.wait_deployed(unique, 0)
    first = nomad.running(unique)[0]["ID"]
    nomad.register(job(unique, count=3))
    nomad.wait_deployed(unique, 1)
    assert [one["Name"] for one in nomad.running(unique)] == [f"{unique}.g[{place}]" for place in range(3)]
    nomad.register(job(unique, count=1))
    nomad.wait("one allocation", lambda: [one["ID"] for one in nomad.running(unique)] == [first])
