"""What is read of a workload while Nomad goes on."""

from collections.abc import Sequence
from typing import Any

from secretbinding.engine.observe import Observer
from secretbinding.models.key import WorkloadKey
from secretbinding.naming import role_name
from secretbinding.ports import Json
from tests.support.builders import INSTANCE, Modifier, binding, given, spec
from tests.support.world import a_job
from tests.unit.engine.memory import MemoryNomad, Servers

WEB = WorkloadKey("default", "", "default", "web")


class Reverting(MemoryNomad):
    """Fails the deployment, and goes back, between the reads of one look."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers.clocks, servers.writes)
        self.looks = 0
        self.at = 1

    def deployments(self, namespace: str, job_id: str) -> Sequence[Json]:
        self.looks += 1
        if self.looks == self.at:
            self.finish(success=False)
        return super().deployments(namespace, job_id)


def reverting(*, auto_revert: bool) -> Reverting:
    nomad = Reverting(Servers())
    job = a_job("web")
    nomad.add(job)
    nomad.jobs["web"].auto_revert = auto_revert
    nomad.finish()
    job["TaskGroups"][0]["Tasks"][0]["Env"] = {"NEW": "1"}
    nomad.add(job)
    return nomad


def look(nomad: Reverting) -> tuple[int, set[tuple[int, str]]]:
    observed = Observer(Servers().vault, nomad, instance=INSTANCE, jwt_mount="jwt-nomad").observe(WEB, [])
    assert observed.job is not None
    return observed.job["Version"], {(item["JobVersion"], item["Status"]) for item in observed.deployments}


def test_a_job_that_is_back_already_is_not_seen_as_it_was() -> None:
    nomad = reverting(auto_revert=True)
    version, deployments = look(nomad)
    assert version == 2
    assert (1, "failed") in deployments
    assert nomad.looks == 2


def test_a_failed_deployment_after_which_nothing_goes_back_is_looked_at_once() -> None:
    nomad = reverting(auto_revert=False)
    version, deployments = look(nomad)
    assert version == 1
    assert (1, "failed") in deployments
    assert nomad.looks == 1


def roles_read(*modifiers: Modifier, **given_as: Any) -> set[str]:
    nomad = MemoryNomad(Servers().clocks, [])
    nomad.add(a_job("web"))
    observer = Observer(Servers().vault, nomad, instance=INSTANCE, jwt_mount="jwt-nomad")
    return set(observer.observe(WEB, [given(binding(*modifiers), **given_as)]).roles)


def test_of_a_binding_of_the_whole_job_the_role_of_the_job_is_read_and_of_one_that_may_stay_all_that_may_be() -> None:
    job_role, own_role = role_name(INSTANCE, WEB, None, None), role_name(INSTANCE, WEB, "app", "web")
    assert roles_read() == {job_role}
    assert roles_read(suspended=True) == {job_role, own_role}
    groups = [{"name": "app", "tasks": ["web"]}]
    assert roles_read(spec(workload={"job": "web", "groups": groups})) == {own_role}
