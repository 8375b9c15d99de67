"""A binding that its source cannot prepare stays as it is, and the other bindings of the job do not wait for it."""

from secretbinding.errors import Denied
from tests.unit.engine.memory import Process, Servers, of_one_job, placed


def refuse_finalizers(servers: Servers, name: str) -> None:
    def before(kind: str, of: str) -> None:
        if kind == "finalizer" and of == name:
            raise Denied("forbidden", system="kubernetes", operation="add the finalizer", status=403)

    servers.writes.before = before


def test_the_other_bindings_of_the_job_are_made_and_nothing_is_made_for_this_one() -> None:
    servers = of_one_job("bad", "good")
    refuse_finalizers(servers, "bad")
    Process(servers).start().run(12.0)
    assert placed(servers) == {"good"}
    assert servers.reason("good", "Ready") == "Ready"
    assert servers.reason("bad", "Ready") == "PermissionDenied"
    assert len(servers.vault.policies) == 1
    servers.writes.before = lambda kind, name: None
    Process(servers).start().run(12.0)
    assert placed(servers) == {"bad", "good"}


def test_what_it_has_in_the_job_and_in_vault_stays_when_its_finalizer_is_taken_away() -> None:
    servers = of_one_job("bad", "good")
    process = Process(servers).start()
    process.run(12.0)
    policies = dict(servers.vault.policies)
    servers.prepared.discard(next(key for key in servers.items if key.name == "bad"))
    refuse_finalizers(servers, "bad")
    servers.vault.put("good")
    process.run(60.0)
    assert placed(servers) == {"bad", "good"}
    assert servers.vault.policies == policies
    assert process.passes.total() < 40, "it is not tried each second"


def test_a_job_whose_only_binding_cannot_be_prepared_is_left_alone() -> None:
    servers = of_one_job("bad")
    refuse_finalizers(servers, "bad")
    Process(servers).start().run(5.0)
    assert servers.writes.external() == {}
