"""No two static roles take one user of a database: each would make the other's password worthless."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from secretbinding.errors import Denied
from secretbinding.kinds import SecretState, with_role_names
from secretbinding.kinds.base import Fault
from secretbinding.kinds.database import rival_fault, takes_a_user
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner
from secretbinding.ports import StaticUser, Vault
from tests.support import builders as make
from tests.support.builders import INSTANCE

APP = StaticUser("main", "app")
ABSENT, THERE = SecretState("database"), SecretState("database", made={"db_name": "main", "username": "app"})


class Users:
    """A database engine with these static roles; None for one that may not be listed."""

    def __init__(self, roles: Mapping[str, StaticUser] | None) -> None:
        self._roles = roles

    def static_users(self, mount: str) -> Mapping[str, StaticUser]:
        if self._roles is None:
            raise Denied("may not list", system="vault")
        return self._roles


def an_entry(**create: Any) -> SecretEntry:
    given = create or {"username": "app", "rotationPeriod": "24h"}
    binding = make.binding(make.database(create={"connection": "main", **given}))
    return with_role_names(binding, Owner(INSTANCE, make.key())).spec.secrets[0]


OWN = str(an_entry().database and an_entry().database.static_role)  # type: ignore[union-attr]


def fault(
    roles: Mapping[str, StaticUser] | None, state: SecretState = ABSENT, going: frozenset[str] = frozenset()
) -> Fault | None:
    return rival_fault(an_entry(), state, cast(Vault, Users(roles)), going)


@pytest.mark.parametrize("other", ["by-hand", "nsb.test.a.b", "nsb.zz.a.b"])
def test_a_user_that_another_role_has_is_not_taken(other: str) -> None:
    found = fault({other: APP})
    assert found is not None
    assert found.reason is Reason.ROLE_CONFLICT
    assert other in found.message
    assert "spec.secrets[db].database.create.username" in found.message


def test_another_user_or_connection_and_the_role_itself_are_no_rivals() -> None:
    others = {"a": StaticUser("main", "other"), "b": StaticUser("second", "app")}
    assert fault(others) is None
    assert fault({**others, OWN: APP}, THERE) is None
    assert fault({}) is None


def test_the_role_that_the_binding_itself_had_before_is_no_rival() -> None:
    assert fault({"nsb.test.old.x": APP}, going=frozenset({"database/static-roles/nsb.test.old.x"})) is None


def test_of_two_that_are_there_one_keeps_the_user() -> None:
    assert OWN.startswith("nsb.test.")
    assert fault({OWN: APP, "nsb.test.a": APP}, THERE) is not None
    assert fault({OWN: APP, "nsb.zz.z": APP}, THERE) is None
    assert fault({OWN: APP, "zz-by-hand": APP}, THERE) is not None


def test_without_the_right_to_look_no_user_is_taken_and_what_is_there_stays() -> None:
    found = fault(None)
    assert found is not None
    assert found.reason is Reason.PERMISSION_DENIED
    assert fault(None, THERE) is None


def test_only_a_static_role_takes_a_user() -> None:
    assert takes_a_user(an_entry())
    assert not takes_a_user(an_entry(creationStatements=["CREATE ROLE x"]))
