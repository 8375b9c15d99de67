"""Where Vault refuses the policy of one binding, the others of the job go on, and this one is tried again."""

from secretbinding.errors import Denied
from secretbinding.naming import Owner, policy_name
from tests.unit.engine.memory import INSTANCE, Process, Servers, of_one_job, placed


def refuse_the_policy_of(servers: Servers, name: str) -> None:
    key = next(key for key in servers.items if key.name == name)
    policy = policy_name(Owner(INSTANCE, key))

    def before(kind: str, of: str) -> None:
        if kind.startswith("policy") and of == policy:
            raise Denied("permission denied", system="vault", operation=f"write policy {of}", status=403)

    servers.writes.before = before


def test_the_others_are_made_and_it_is_made_when_it_may_be() -> None:
    servers = of_one_job("bad", "good")
    refuse_the_policy_of(servers, "bad")
    process = Process(servers).start()
    process.run(12.0)
    assert placed(servers) == {"good"}
    assert servers.reason("good", "Ready") == "Ready"
    assert servers.reason("bad", "Ready") == "PermissionDenied"
    servers.writes.before = lambda kind, name: None
    process.run(40.0)
    assert placed(servers) == {"bad", "good"}
    assert servers.reason("bad", "Ready") == "Ready"


def test_the_others_rotate_and_what_it_has_stays() -> None:
    servers = of_one_job("bad", "good")
    process = Process(servers).start()
    process.run(12.0)
    servers.vault.policies.pop(policy_name(Owner(INSTANCE, next(key for key in servers.items if key.name == "bad"))))
    refuse_the_policy_of(servers, "bad")
    servers.vault.put("good")
    process.run(60.0)
    assert placed(servers) == {"bad", "good"}
    assert servers.nomad.pins("web") == {1, 2}
    assert servers.reason("good", "RotationHealthy") == "UpToDate"
    assert servers.reason("bad", "VaultSynced") == "PermissionDenied"


def test_what_stays_refused_is_tried_less_and_less_often() -> None:
    servers = of_one_job("bad", "good")
    refuse_the_policy_of(servers, "bad")
    process = Process(servers).start()
    process.run(600.0)
    assert servers.reason("bad", "Ready") == "PermissionDenied"
    assert process.passes.total() < 40
