"""A secret that Vault refuses to show for a moment: its job is looked at again soon, and less and less often."""

from secretbinding.errors import Denied
from tests.unit.engine.memory import Process, Servers, of_one_job


def refuse(servers: Servers, times: int) -> list[int]:
    """Have Vault refuse the pass's own look at the fields, as often as that; the watch's look at versions works. Gives
    how often it is still to be."""
    left = [times]
    show = servers.vault.kv_fields

    def kv_fields(mount: str, path: str, version: int) -> object:
        if left[0]:
            left[0] -= 1
            raise Denied("permission denied", system="vault", operation=f"read {path}", status=403)
        return show(mount, path, version)

    servers.vault.kv_fields = kv_fields  # type: ignore[method-assign, assignment]
    return left


def test_one_refusal_is_over_within_seconds() -> None:
    servers = of_one_job("web")
    refuse(servers, 1)
    process = Process(servers).start()
    process.run(0.4)
    assert servers.reason("web", "Ready") == "PermissionDenied"
    process.run(10.0)
    assert servers.reason("web", "Ready") == "Ready"


def test_one_refusal_of_a_new_version_is_over_within_seconds() -> None:
    servers = of_one_job("web")
    process = Process(servers).start()
    process.run(12.0)
    assert servers.reason("web", "Ready") == "Ready"
    left = refuse(servers, 1)
    servers.vault.put("web")
    process.engine.wake(process.engine.store.workloads())
    process.run(12.0)
    assert left == [0]
    assert servers.reason("web", "Ready") == "Ready"
    assert servers.nomad.pins("web") == {2}


def test_what_stays_refused_is_tried_less_and_less_often() -> None:
    servers = of_one_job("web")
    refuse(servers, 1000)
    process = Process(servers).start()
    process.run(600.0)
    assert servers.reason("web", "Ready") == "PermissionDenied"
    assert 5 <= process.passes.total() < 40
