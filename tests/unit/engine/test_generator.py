"""New values are made once, over what was seen; what fails is remembered, told, and never ends a pass."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from secretbinding.engine.generator import Generator
from secretbinding.errors import Conflict, Denied, NotFound, SecretBindingError, Unreachable
from secretbinding.generation import ABSENT, KV, ROOT, STATIC_ROLE, GenerateValue, Target, Tried
from secretbinding.models.binding import Generate
from secretbinding.models.reasons import Reason
from secretbinding.ports import SecretId, StaticRole
from tests.support import builders as make

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
KEY = make.key()
VALUE = "hunter2-from-vault"
_NOTHING = Tried(Generate(secret="app"), NOW, NOW)


class Writes:
    """A Vault that takes writes. `fails` is raised by each of them, `refuses` by those to KV."""

    def __init__(
        self,
        fails: SecretBindingError | None = None,
        rotated: str = "then",
        refuses: SecretBindingError | None = None,
    ) -> None:
        self.fails, self.rotated, self.refuses = fails, rotated, refuses
        self.log: list[tuple[Any, ...]] = []

    def _did(self, *what: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.log.append(what)

    def patch_kv(self, mount: str, path: str, fields: Mapping[str, SecretStr], *, seen: int) -> int:
        if self.refuses is not None:
            raise self.refuses
        self._did("patch", mount, path, {name: value.get_secret_value() for name, value in fields.items()}, seen)
        return seen + 1

    def generate_password(self, policy: str) -> SecretStr:
        self._did("password", policy)
        return SecretStr(VALUE)

    def new_secret_id(self, mount: str, role: str) -> SecretId:
        self._did("secret-id", mount, role)
        return SecretId(SecretStr(VALUE), "accessor")

    def drop_secret_id(self, mount: str, role: str, accessor: str) -> None:
        self._did("drop", mount, role, accessor)

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        return StaticRole(self.rotated)

    def rotate_static_role(self, mount: str, name: str) -> None:
        self._did("rotate", mount, name)
        self.rotated = "now"

    def rotate_root(self, mount: str, connection: str) -> None:
        self._did("root", mount, connection)

    def write_policy(self, name: str, text: str) -> None:
        self._did("policy", name, text)


def action(kind: str = KV, *, seen: str = "3", answer: tuple[str, str] | None = None, **entry: Any) -> GenerateValue:
    fields = ("password",) if kind == KV else ()
    wanted = Generate(secret="app", fields=fields, **entry)
    return GenerateValue(KEY, wanted, Target(kind, "secret", "myapp"), seen, NOW, requested=True, answer=answer)


def generator(vault: Any, clock: Callable[[], float] = lambda: 0.0) -> Generator:
    return Generator(vault, now=lambda: NOW, clock=clock)


def test_a_value_is_written_over_the_version_that_was_seen() -> None:
    vault = Writes()
    made = generator(vault).make(action(length=40))
    ((what, mount, path, fields, seen),) = vault.log
    assert (what, mount, path, seen) == ("patch", "secret", "myapp", 3)
    assert len(fields["password"]) == 40
    assert fields["password"].isalnum()
    (told,) = made
    assert told.message == "version 4 of secret app was made (password), on request of 2026-03-10T12:00:00Z"


def test_two_values_are_never_the_same() -> None:
    vault = Writes()
    for _ in range(50):
        generator(vault).make(action())
    assert len({row[3]["password"] for row in vault.log}) == 50


@pytest.mark.parametrize(
    "way", [{"password_policy": "strong"}, {"secret_id_of": {"mount": "approle", "role": "app"}}], ids=["policy", "id"]
)
def test_a_value_that_vault_makes_goes_into_the_field(way: dict[str, Any]) -> None:
    vault = Writes()
    generator(vault).make(action(**way))
    assert vault.log[-1][3] == {"password": VALUE}


def test_a_static_role_that_was_rotated_since_it_was_seen_is_left_alone() -> None:
    vault = Writes(rotated="now")
    found = generator(vault)
    assert found.make(action(STATIC_ROLE, seen="then")) == ()
    assert vault.log == []
    assert generator(Writes()).make(action(STATIC_ROLE, seen="then")) != ()


def test_a_root_password_is_made_before_its_request_is_remembered() -> None:
    vault = Writes()
    generator(vault).make(action(ROOT, answer=("policy", "text")))
    assert [row[0] for row in vault.log] == ["root", "policy"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Denied("no right", system="vault"), Reason.PERMISSION_DENIED),
        (NotFound("no policy", system="vault"), Reason.GENERATION_FAILED),
        (Unreachable("no answer", system="vault"), Reason.VAULT_UNREACHABLE),
    ],
)
def test_what_fails_is_remembered_with_its_reason_and_repeated_later_and_later(
    error: SecretBindingError, reason: Reason
) -> None:
    found = generator(Writes(error))
    waits: list[timedelta] = []
    for _ in range(12):
        assert found.make(action()) == (), "nothing is raised"
        tried = found.attempts().tried[KEY, "app"]
        assert tried.fault is not None
        assert tried.fault.reason is reason
        waits.append(tried.retry_at - NOW)
    assert waits[0] == timedelta(seconds=5)
    assert waits[-1] == timedelta(minutes=10)
    assert waits == sorted(waits)


def test_a_write_of_somebody_else_is_no_fault_and_is_looked_at_soon() -> None:
    found = generator(Writes(Conflict("changed meanwhile", system="vault")))
    assert found.make(action()) == ()
    tried = found.attempts().tried[KEY, "app"]
    assert tried.fault is None
    assert tried.retry_at - NOW == timedelta(seconds=1)


def test_somebody_who_is_the_first_to_write_again_and_again_is_told_of() -> None:
    found = generator(Writes(Conflict("changed meanwhile", system="vault")))
    for _ in range(5):
        assert found.attempts().tried.get((KEY, "app"), _NOTHING).fault is None
        found.make(action())
    fault = found.attempts().tried[KEY, "app"].fault
    assert fault is not None
    assert fault.reason is Reason.GENERATION_FAILED


def test_what_failed_is_forgotten_when_its_time_has_come_so_that_it_is_tried_again() -> None:
    moment = [100.0]
    found = generator(Writes(Denied("no right", system="vault")), clock=lambda: moment[0])
    found.make(action())
    assert found.attempts().tried != {}
    moment[0] += 5.0
    assert found.attempts().tried == {}
    found.make(action())
    moment[0] += 9.0
    assert found.attempts().tried != {}
    moment[0] += 1.0
    assert found.attempts().tried == {}


def test_another_moment_is_no_repetition_of_the_one_that_failed() -> None:
    found = generator(Writes(Denied("no right", system="vault")))
    for _ in range(4):
        found.make(action())
    found.make(replace(action(), due=NOW + timedelta(hours=1)))
    assert found.attempts().tried[KEY, "app"].retry_at == NOW + timedelta(seconds=5)


def test_of_many_who_want_one_password_anew_for_one_moment_one_has_it_made() -> None:
    vault = Writes()
    found = generator(vault)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: found.make(action(STATIC_ROLE, seen="then")), range(8)))
    assert len([one for one in made if one]) == 1
    assert vault.log == [("rotate", "secret", "myapp")]
    assert found.attempts().tried == {}


def test_a_secret_that_is_gone_again_is_made_again() -> None:
    vault = Writes()
    found = generator(vault)
    found.make(action(seen=ABSENT))
    found.make(action(seen=ABSENT))
    assert [row[4] for row in vault.log] == [0, 0]
    assert found.make(action()) == ()


@pytest.mark.parametrize("refusal", [Denied("no", system="vault"), Conflict("changed", system="vault")])
def test_a_secret_id_that_finds_no_place_is_destroyed(refusal: SecretBindingError) -> None:
    vault = Writes(refuses=refusal)
    of = {"secret_id_of": {"mount": "approle", "role": "payments"}}
    assert generator(vault).make(action(**of)) == ()
    assert vault.log == [("secret-id", "approle", "payments"), ("drop", "approle", "payments", "accessor")]


def test_a_secret_id_that_may_have_found_its_place_is_kept() -> None:
    vault = Writes(refuses=Unreachable("no answer", system="vault"))
    of = {"secret_id_of": {"mount": "approle", "role": "payments"}}
    assert generator(vault).make(action(**of)) == ()
    assert vault.log == [("secret-id", "approle", "payments")]


def of_two(first: GenerateValue, **entry: Any) -> GenerateValue:
    """Two entries of one secret, the second of which is due an hour earlier."""
    second = replace(first, entry=Generate(secret="tok", **entry), due=NOW - timedelta(hours=1), requested=False)
    return replace(first, also=(second,))


def test_all_entries_of_one_secret_are_written_at_once_and_each_is_told() -> None:
    vault = Writes()
    found = generator(vault)
    made = found.make(of_two(action(length=40), fields=("token", "password"), length=16))
    ((_, _, _, fields, seen),) = vault.log
    assert {name: len(value) for name, value in fields.items()} == {"password": 40, "token": 16}
    assert seen == 3
    assert [(one.secret, one.message) for one in made] == [
        ("app", "version 4 of secret app was made (password), on request of 2026-03-10T12:00:00Z"),
        ("tok", "version 4 of secret tok was made (token, password), by schedule of 2026-03-10T11:00:00Z"),
    ]
    attempts, target = found.attempts(), Target(KV, "secret", "myapp")
    assert (attempts.answered, attempts.served) == ({target: NOW}, {target: NOW - timedelta(hours=1)})


def test_where_one_value_cannot_be_made_none_is_written_and_every_entry_says_so() -> None:
    vault = Writes(Denied("no right to the password policy", system="vault"))
    found = generator(vault)
    assert found.make(of_two(action(), fields=("token",), password_policy="strong")) == ()
    assert vault.log == []
    faults = {name: tried.fault for (_, name), tried in found.attempts().tried.items()}
    assert {name: fault.message for name, fault in faults.items() if fault is not None} == {
        "app": "no new value of app: no right to the password policy",
        "tok": "no new value of tok: no right to the password policy",
    }


def test_of_two_secret_ids_the_first_is_destroyed_when_the_second_is_refused() -> None:
    vault = Writes()
    refused = NotFound("no such role", system="vault")

    def new_secret_id(mount: str, role: str) -> SecretId:
        if role == "other":
            raise refused
        return SecretId(SecretStr(VALUE), "accessor")

    vault.new_secret_id = new_secret_id  # type: ignore[method-assign]
    two = of_two(
        action(secret_id_of={"mount": "approle", "role": "app"}),
        fields=("token",),
        secret_id_of={"mount": "approle", "role": "other"},
    )
    assert generator(vault).make(two) == ()
    assert vault.log == [("drop", "approle", "app", "accessor")]


def test_what_worked_is_remembered_as_served_and_clears_what_failed() -> None:
    vault = Writes(Denied("no right", system="vault"))
    found = generator(vault)
    found.make(action())
    vault.fails = None
    found.make(action())
    assert found.attempts().tried == {}
    assert found.attempts().answered == {Target(KV, "secret", "myapp"): NOW}


def test_what_was_made_by_a_schedule_is_remembered_apart_from_requests_whose_clock_may_be_another() -> None:
    vault = Writes()
    found = generator(vault)
    tick = replace(action(), requested=False, due=NOW - timedelta(days=6))
    assert found.make(action())
    assert found.make(tick)
    attempts, target = found.attempts(), Target(KV, "secret", "myapp")
    assert (attempts.answered, attempts.served) == ({target: NOW}, {target: tick.due})
    assert found.make(tick) == ()


def test_no_value_is_in_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    vault = Writes()
    made = generator(vault).make(action(password_policy="strong"))
    assert VALUE not in repr(made) + repr(generator(vault).attempts()) + caplog.text


def test_a_root_password_is_made_once_for_a_request_though_that_cannot_be_remembered() -> None:
    class Remembers(Writes):
        denied = True

        def write_policy(self, name: str, text: str) -> None:
            if self.denied:
                raise Denied("no", system="vault", operation="write policy", status=403)
            super().write_policy(name, text)

    vault = Remembers()
    found = generator(vault)
    wanted = action(ROOT, answer=("own", "text"))
    for _ in range(3):
        assert found.make(wanted) == ()
    assert vault.log == [("root", "secret", "myapp")]
    (tried,) = found.attempts().tried.values()
    assert tried.fault is not None
    assert tried.fault.reason is Reason.PERMISSION_DENIED
    assert "was made anew" in tried.fault.message
    vault.denied = False
    assert len(found.make(wanted)) == 1
    assert vault.log == [("root", "secret", "myapp"), ("policy", "own", "text")]
    found.make(replace(wanted, due=NOW + timedelta(hours=1)))
    assert vault.log.count(("root", "secret", "myapp")) == 2, "another request"
