"""A roll that a server refuses is told where people look for rolls."""

from collections.abc import Callable

from secretbinding.errors import Denied, SecretBindingError, Unreachable
from tests.support.builders import binding, job, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import Process, Servers


def serving(**rotation: str) -> tuple[Servers, Process]:
    servers = Servers()
    servers.nomad.add({**job(), "ID": "j", "Name": "j"})
    servers.vault.put("app")
    servers.bind(binding(kv("app", path="app"), with_spec(rotation=rotation), name="b", job="j"))
    servers.nomad.finish()
    process = Process(servers).start()
    process.run(15.0)
    assert servers.reason("b", "RotationHealthy") == "UpToDate"
    return servers, process


def failing(error: Callable[[], SecretBindingError]) -> Callable[[str, str], None]:
    def fail(kind: str, name: str) -> None:
        if kind in ("registration", "policy"):
            raise error()

    return fail


def denied() -> SecretBindingError:
    return Denied("may not", system="nomad", operation="register job j", status=403)


def unreachable() -> SecretBindingError:
    return Unreachable("no answer", system="nomad", operation="register job j")


def test_a_refused_roll_is_told_with_its_reason_and_gone_when_it_has_come_through() -> None:
    servers, process = serving()
    servers.writes.before = failing(denied)
    servers.vault.put("app")
    process.run(60.0)
    condition = servers.status("b").condition("RotationHealthy")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "PermissionDenied")
    assert condition.message == "version 2 of app cannot be rolled: may not; version 1 serves"
    (secret,) = servers.status("b").secrets
    assert (secret.serving_version, secret.wanted_version) == ("1", "2")
    servers.writes.before = lambda kind, name: None
    process.run(400.0)
    assert servers.reason("b", "RotationHealthy") == "UpToDate"
    assert servers.nomad.pins("j") == {2}


def test_a_roll_that_nobody_answers_keeps_what_was_told() -> None:
    servers, process = serving()
    servers.writes.before = failing(unreachable)
    servers.vault.put("app")
    process.run(60.0)
    assert servers.reason("b", "RotationHealthy") == "UpToDate"


def test_a_refused_write_while_no_roll_is_due_says_nothing_of_rolls() -> None:
    servers, process = serving(strategy="Manual")
    servers.writes.before = failing(denied)
    servers.vault.put("app")
    process.run(60.0)
    assert servers.reason("b", "RotationHealthy") == "ManualRotationPending"
