"""A status that cannot be written is tried again later and later, and what there is to do is done meanwhile."""

from secretbinding.errors import Denied, Problem
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.sources.base import SourceItem
from tests.unit.engine.memory import MemorySource, Process, Servers, of_one_job


def refuse_statuses(servers: Servers) -> None:
    def before(kind: str, of: str) -> None:
        if kind == "status":
            raise Denied("forbidden", system="kubernetes", operation="write the status", status=403)

    servers.writes.before = before


def test_it_is_tried_less_and_less_often() -> None:
    servers = of_one_job("app")
    refuse_statuses(servers)
    process = Process(servers).start()
    process.run(60.0)
    first = process.passes.total()
    assert first < 30
    process.run(600.0)
    assert process.passes.total() - first < 20


def test_the_job_gets_its_secrets_all_the_same_and_a_new_version() -> None:
    servers = of_one_job("app")
    refuse_statuses(servers)
    process = Process(servers).start()
    process.run(30.0)
    assert servers.nomad.pins("web") == {1}
    servers.vault.put("app")
    process.run(120.0)
    assert servers.nomad.pins("web") == {2}


def test_once_it_can_be_written_it_is_and_the_pace_is_as_before() -> None:
    servers = of_one_job("app")
    refuse_statuses(servers)
    process = Process(servers).start()
    process.run(120.0)
    servers.writes.before = lambda kind, name: None
    process.run(400.0)
    assert servers.reason("app", "Ready") == Reason.READY
    before = process.passes.total()
    refuse_statuses(servers)
    servers.vault.put("app")
    process.run(35.0)
    assert process.passes.total() - before > 3, "the first of new failures is tried again at once"


def test_that_of_a_manifest_too_broken_to_name_a_job_is_tried_again_too() -> None:
    servers = Servers()
    key = BindingKey(MemorySource.name, "team", "broken")
    servers.items[key] = SourceItem(key, None, "default", problems=(Problem("no mapping", "write one"),))
    refuse_statuses(servers)
    process = Process(servers).start()
    process.run(30.0)
    assert 2 < process.passes.total() < 20
    servers.writes.before = lambda kind, name: None
    process.run(60.0)
    assert servers.reason("broken", "Ready") == Reason.INVALID_MANIFEST
