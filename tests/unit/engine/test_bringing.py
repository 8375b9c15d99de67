"""What is looked up of wrapped secret-ids, and what is remembered of them between two looks."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from secretbinding.desired.approles import STATE_ITEM, BringSecretIds, Brought, Seal, Wrapped
from secretbinding.engine.bringing import Bringer
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import WrappedSecretId

MADE = datetime(2026, 5, 1, 12, tzinfo=UTC)
WEB = WorkloadKey("default", "", "default", "web")


@dataclass
class Servers:
    """A Vault and a Nomad with one wrapping token in one variable."""

    now: datetime = MADE
    sealed: bool = True
    uses: int | None = 1
    asked: list[tuple[str, str]] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)

    def present(self) -> datetime:
        return self.now

    def is_sealed(self, token: SecretStr, mount: str, role: str) -> bool:
        self.asked.append((mount, role))
        return self.sealed

    def secret_id_uses(self, mount: str, role: str, accessor: str) -> int | None:
        return self.uses

    def read_variable(self, namespace: str, path: str) -> Any:
        token = Wrapped(0, "accessor", MADE + timedelta(hours=24), "limits", made=MADE)
        if self.written:
            return Variable(8, self.written)
        items = {"wrapped_0": "t", STATE_ITEM: Brought(path, 7, "test", "role", (token,), now=MADE).state_item()}
        return Variable(7, items)

    def wrapped_secret_id(self, mount: str, role: str, seconds: int) -> Any:
        return WrappedSecretId(SecretStr("wrapping"), "accessor", MADE + timedelta(hours=24))

    def write_variable(self, namespace: str, path: str, items: dict[str, str], *, cas: int) -> None:
        self.written = dict(items)

    def drop_secret_id(self, mount: str, role: str, accessor: str) -> None:
        raise AssertionError("nothing is to be destroyed")


@dataclass(frozen=True)
class Variable:
    modify_index: int
    items: dict[str, str]


def look(bringer: Bringer) -> Wrapped:
    (token,) = bringer.look(WEB, ["app"], {"role": {"secret_id_num_uses": 1}}, "test", everywhere=False)["app"].tokens
    return token


def test_when_a_token_was_last_seen_sealed_is_known_when_it_is_opened() -> None:
    servers: Any = Servers()
    bringer = Bringer(servers, servers, mount="approle-nomad")
    for minutes in (1, 2):
        servers.now = MADE + timedelta(minutes=minutes)
        assert look(bringer).sealed == servers.now
    servers.sealed, servers.uses, servers.now = False, None, MADE + timedelta(minutes=3)
    opened = look(bringer)
    assert (opened.seal, opened.sealed) == (Seal.USED, MADE + timedelta(minutes=2))
    assert look(bringer) == opened, "a pass that failed afterwards has lost nothing"
    assert servers.asked[-1] == ("approle-nomad", "role")


def test_a_controller_that_has_just_started_knows_when_the_token_was_made() -> None:
    servers: Any = Servers(sealed=False, uses=None, now=MADE + timedelta(hours=1))
    found = look(Bringer(servers, servers, mount="approle-nomad"))
    assert found == replace(found, seal=Seal.USED, made=MADE, sealed=None)


def test_another_sealed_token_in_the_place_of_one_that_was_brought_does_not_count_as_sealed() -> None:
    servers: Any = Servers()
    bringer = Bringer(servers, servers, mount="approle-nomad")
    wanted = Brought("path", 7, "test", "role", now=MADE)
    bringer.bring(BringSecretIds("app", "approle-nomad", 60, "limits", (0,), (), wanted), "default")
    assert "wrapping" not in servers.written[STATE_ITEM]
    assert look(bringer).seal is Seal.SEALED
    servers.written["wrapped_0"] = "that of another index, or an earlier one"
    servers.uses = None
    assert look(bringer).seal is Seal.USED
