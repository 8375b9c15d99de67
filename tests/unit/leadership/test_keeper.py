"""The keeper of shards: what it takes, what ends by itself, what it gives back."""

from collections.abc import Callable, Collection, Mapping

import pytest

from secretbinding.errors import Unreachable
from secretbinding.leadership import Callbacks, Keeper, shard_of
from secretbinding.models.key import WorkloadKey

SECONDS = 10.0
WEB = WorkloadKey("default", "", "default", "web")


class Server:
    """What a server of leases knows; `now` is everybody's clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slow = 0.0
        self.away = False
        self.holders: dict[str, tuple[str, float]] = {}
        self.members: dict[str, str] = {}

    def clock(self) -> float:
        return self.now

    def check(self) -> None:
        self.now += self.slow
        if self.away:
            raise Unreachable("away", system="nomad", operation="take")


class OneSide:
    """`ports.Leases` of one controller on that server."""

    def __init__(self, server: Server, identity: str) -> None:
        self._server = server
        self.identity = identity
        self.seconds = SECONDS
        self._beats = 0

    def take(self, name: str) -> bool:
        self._server.check()
        holder, until = self._server.holders.get(name, ("", 0.0))
        if holder != self.identity and self._server.now < until:
            return False
        self._server.holders[name] = (self.identity, self._server.now + SECONDS)
        return True

    def give(self, name: str) -> None:
        self._server.check()
        if self._server.holders.get(name, ("",))[0] == self.identity:
            del self._server.holders[name]

    def beat(self) -> None:
        self._server.check()
        self._beats += 1
        self._server.members[self.identity] = str(self._beats)

    def beats(self) -> Mapping[str, str]:
        self._server.check()
        return dict(self._server.members)

    def leave(self, identity: str) -> None:
        self._server.check()
        self._server.members.pop(identity, None)


class Side:
    """A keeper, and what it told."""

    def __init__(self, server: Server, identity: str, total: int) -> None:
        self.gained: list[set[int]] = []
        self.lost: list[set[int]] = []
        self.working: set[WorkloadKey] = set()
        callbacks = Callbacks(self._gained, self._lost, self._busy)
        self.keeper = Keeper(OneSide(server, identity), total=total, callbacks=callbacks, clock=server.clock)

    def _gained(self, shards: Collection[int]) -> None:
        self.gained.append(set(shards))

    def _lost(self, shards: Collection[int]) -> None:
        self.lost.append(set(shards))

    def _busy(self, of: Callable[[WorkloadKey], bool]) -> bool:
        return any(of(workload) for workload in self.working)

    def look(self) -> frozenset[int]:
        self.keeper.look()
        return self.keeper.held()


@pytest.fixture
def server() -> Server:
    return Server()


def test_one_of_two_leads_and_the_other_takes_over_when_it_stops_renewing(server: Server) -> None:
    one, other = Side(server, "one", 1), Side(server, "other", 1)
    assert (one.look(), other.look()) == ({0}, set())
    assert one.keeper.owns(WEB)
    assert not other.keeper.owns(WEB)
    for _ in range(5):
        server.now += 4.0
        assert (one.look(), other.look()) == ({0}, set())
    server.now += 9.9
    assert other.look() == set()
    server.now += 0.1
    assert other.look() == {0}
    assert not one.keeper.owns(WEB), "without having heard of it"
    assert one.look() == set()
    assert (one.gained, one.lost, other.gained) == ([{0}], [{0}], [{0}])


def test_what_cannot_be_renewed_is_held_to_its_end_and_not_longer(server: Server) -> None:
    one = Side(server, "one", 1)
    one.look()
    server.away = True
    server.now = 9.0
    assert not one.keeper.look()
    assert one.keeper.owns(WEB)
    assert one.lost == []
    server.now = 10.0
    assert not one.keeper.owns(WEB)
    assert not one.keeper.look()
    assert one.lost == [{0}]
    server.away = False
    assert one.look() == {0}
    assert one.gained == [{0}, {0}]


@pytest.mark.parametrize(("late", "slow"), [(10.5, 0.0), (9.0, 1.5)], ids=["late", "slow"])
def test_what_had_ended_when_it_was_renewed_counts_as_gained_anew(server: Server, late: float, slow: float) -> None:
    """Jobs that came up in between were left to others."""
    one = Side(server, "one", 1)
    one.look()
    server.now, server.slow = late, slow
    assert one.look() == {0}
    assert one.gained == [{0}, {0}]
    server.slow = 0.0
    server.now += 1.0
    one.look()
    assert one.gained == [{0}, {0}], "and no more than that"


def test_who_stops_gives_back_at_once(server: Server) -> None:
    one, other = Side(server, "one", 1), Side(server, "other", 1)
    one.look()
    one.keeper.stop()
    assert not one.keeper.owns(WEB)
    assert other.look() == {0}


def test_a_server_that_is_away_does_not_keep_from_stopping(server: Server) -> None:
    one = Side(server, "one", 4)
    one.look()
    server.away = True
    one.keeper.stop()
    assert one.keeper.held() == set()


def test_shards_are_shared_by_those_who_take_part_and_never_held_twice(server: Server) -> None:
    sides = [Side(server, name, 6) for name in ("a", "b", "c")]

    def looked(*who: Side) -> None:
        for side in who:
            side.look()
        held = [shard for side in sides for shard in side.keeper.held()]
        assert len(held) == len(set(held))

    looked(sides[0])
    assert sides[0].keeper.held() == set(range(6))
    for _ in range(3):
        looked(*sides)
    assert [len(side.keeper.held()) for side in sides] == [2, 2, 2]
    sides[2].keeper.stop()
    for _ in range(3):
        looked(*sides[:2])
    assert [len(side.keeper.held()) for side in sides] == [3, 3, 0]
    # One that dies without a word.
    for _ in range(6):
        server.now += 3.0
        looked(sides[0])
    assert [len(side.keeper.held()) for side in sides] == [6, 0, 0]


def test_a_shard_is_given_up_when_the_pass_that_is_under_way_has_ended(server: Server) -> None:
    one, other = Side(server, "a", 2), Side(server, "b", 2)
    one.look()
    one.working = {WorkloadKey("default", "", "default", f"job-{number}") for number in range(10)}
    other.look()
    for _ in range(2):
        one.look()
        other.look()
    (moving,) = set(range(2)) - one.keeper.held()
    assert not any(one.keeper.owns(job) for job in one.working if shard_of(job, 2) == moving), "nothing more begins"
    assert other.keeper.held() == set()
    one.working = set()
    one.look()
    assert other.look() == {moving}


def test_who_has_been_gone_for_long_is_struck_off_the_list(server: Server) -> None:
    one = Side(server, "one", 2)
    server.members["dead"] = "7"
    for _ in range(130):
        one.look()
        server.now += 5.0
    assert set(server.members) == {"one"}
    assert one.keeper.held() == {0, 1}


def test_how_long_the_server_has_been_silent_is_known(server: Server) -> None:
    one = Side(server, "one", 1)
    one.look()
    server.away, server.now = True, 7.0
    one.look()
    assert one.keeper.silent_seconds() == 7.0
