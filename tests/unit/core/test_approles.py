"""Wrapped secret-ids: which are made when, and who is taken to have opened one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.desired.approles import Bringing, Brought, Seal, Wrapped, bring, read_brought
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.approle import AppRole
from secretbinding.models.key import WorkloadKey
from secretbinding.naming import app_role_name, is_app_role, is_app_role_of, role_name
from secretbinding.ports import Json
from secretbinding.render.approle import limits_digest, variable_path
from secretbinding.render.role import same_role

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMITS = AppRole()
PERIODIC = {"token_period": 1800, "token_ttl": 0, "token_max_ttl": 0}
PATH = "nomad/jobs/web/app/vault-agent"


START = NOW - timedelta(minutes=30)
"""When the agents here were started, where nothing else is said."""


def token(index: int = 0, seal: Seal = Seal.SEALED, *, hours: float = 20, sealed: datetime | None = None) -> Wrapped:
    """A token that was made when agents were started, and was last seen sealed half a minute ago."""
    seen = sealed or NOW - timedelta(seconds=30)
    ends = NOW + timedelta(hours=hours)
    return Wrapped(index, f"accessor-{index}", ends, limits_digest(LIMITS), seal, made=START, sealed=seen)


def there(*tokens: Wrapped, **changes: Any) -> Brought:
    return replace(Brought(PATH, 7, "test", "role", tuple(tokens), now=NOW), **changes)


def after_start(*allocations: str) -> dict[str, Any]:
    """These agents have opened one at their start."""
    opened = START + timedelta(seconds=2)
    return {"spent": dict.fromkeys(allocations, START), "opened": dict.fromkeys(allocations, opened)}


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def nanos(moment: datetime) -> int:
    return int((moment - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1)) * 1000


def state(*events: tuple[str, datetime], dead: bool = False) -> Json:
    """A task with these events of Nomad's, oldest first."""
    rows = [{"Type": kind, "Time": nanos(moment)} for kind, moment in events]
    return {"State": "dead" if dead else "running", "Restarts": 0, "Events": rows}


def allocation(
    name: str = "a", index: int = 0, *events: tuple[str, datetime], status: str = "running", **changes: Any
) -> Json:
    """An allocation whose agent has these events, else was started once and runs."""
    dead = status in ("complete", "failed")
    states = {AGENT_TASK: state(*(events or (("Started", START),)), dead=dead), "web": {}}
    row = {"ID": name, "Name": f"web.app[{index}]", "TaskGroup": "app", "ClientStatus": status, "TaskStates": states}
    return {**row, **changes}


def decided(
    brought: Brought,
    allocations: Sequence[Json] = (),
    *,
    count: int = 1,
    app_role: AppRole = LIMITS,
    limits: Mapping[str, Any] = PERIODIC,
    answered: datetime | None = None,
) -> Bringing:
    group = {"Name": "app", "Count": count}
    return bring(group, brought, "role", app_role, limits, allocations, answered, "approle", "test")


def made(found: Bringing) -> tuple[int, ...]:
    return found.action.make if found.action is not None else ()


def test_each_index_gets_one_before_the_first_allocation_is_there() -> None:
    assert made(decided(Brought(PATH, now=NOW), count=3)) == (0, 1, 2)


def test_nothing_is_written_while_all_are_sealed() -> None:
    assert decided(there(token(0), token(1)), count=2).action is None


def test_an_agents_login_accounts_for_its_start_and_is_followed_by_a_new_token() -> None:
    found = decided(there(token(0, Seal.USED)), [allocation()])
    assert made(found) == (0,)
    assert found.wanted.spent == {"a": START}
    assert found.wanted.stolen == ()


def settled(brought: Brought, allocations: Sequence[Json], **more: Any) -> Bringing:
    """What is decided when an opening has waited long enough for its start to become known."""
    first = decided(brought, allocations, **more)
    later = NOW + timedelta(seconds=10)
    return decided(replace(first.wanted, tokens=(), now=later), allocations, **more)


def stolen(found: Bringing) -> list[tuple[int, datetime, bool]]:
    return [(one.index, one.at, one.used) for one in found.wanted.stolen]


def test_a_token_that_was_opened_without_a_start_was_opened_by_somebody_else() -> None:
    brought = there(token(0, Seal.USED), **after_start("a"))
    found = decided(brought, [allocation()])
    assert made(found) == (0,)
    assert found.soon
    assert stolen(settled(brought, [allocation()])) == [(0, NOW, True)]


def test_an_opening_waits_a_moment_for_its_start_to_be_told_and_longer_where_the_client_is_cut_off() -> None:
    brought = there(token(0, Seal.USED), **after_start("a"))
    away = allocation(status="unknown")
    assert stolen(settled(brought, [away])) == []
    back = allocation("a", 0, ("Started", START), ("Terminated", ago(seconds=9)), ("Started", ago(seconds=8)))
    waiting = settled(brought, [away]).wanted
    assert stolen(decided(replace(waiting, now=NOW + timedelta(hours=1)), [back])) == []
    assert stolen(decided(replace(waiting, now=NOW + timedelta(hours=1)), [allocation()])) == [(0, NOW, True)]


def test_a_restart_accounts_for_another_token() -> None:
    again = ago(seconds=20)
    row = allocation("a", 0, ("Started", START), ("Restart Signaled", again), ("Terminated", again), ("Started", again))
    found = decided(there(token(0, Seal.USED), **after_start("a")), [row])
    assert found.wanted.waiting == ()
    assert found.wanted.spent == {"a": again}


# What Nomad 1.10 tells of an agent whose client was rebooted: it does not count as a restart.
REBOOTED = (
    ("Received", ago(minutes=31)),
    ("Task Setup", ago(minutes=31)),
    ("Started", START),
    ("Failed Restoring Task", ago(seconds=25)),
    ("Started", ago(seconds=20)),
)


def test_a_start_after_a_reboot_of_the_client_accounts_for_another_token() -> None:
    found = decided(there(token(0, Seal.USED), **after_start("a")), [allocation("a", 0, *REBOOTED)])
    assert found.wanted.waiting == ()
    assert found.wanted.spent == {"a": ago(seconds=20)}


def test_an_allocation_that_takes_the_place_of_another_accounts_for_its_own() -> None:
    rows = [allocation("a", status="complete"), allocation("b", 0, ("Started", ago(seconds=10)))]
    found = decided(there(token(0, Seal.USED), **after_start("a")), rows)
    assert found.wanted.waiting == ()
    assert found.wanted.spent == {"a": START, "b": ago(seconds=10)}


def test_an_allocation_of_another_index_accounts_for_nothing() -> None:
    found = settled(there(token(0, Seal.USED), token(1)), [allocation("b", 1)], count=2)
    assert [one.index for one in found.wanted.stolen] == [0]


DOWN = (
    ("Started", START),
    ("Terminated", ago(minutes=20)),
    ("Started", ago(minutes=19)),
    ("Terminated", ago(minutes=18)),
    ("Started", ago(minutes=17)),
    ("Terminated", ago(minutes=16)),
)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([allocation("a", 0, *DOWN)], id="an agent that was started and ended again"),
        pytest.param([allocation("a", 0, ("Started", START)), allocation("b", 0, *DOWN, status="failed")], id="failed"),
        pytest.param(
            [allocation("a"), allocation("b", status="complete", TaskStates=None)], id="stopped before it was set up"
        ),
        pytest.param(
            [allocation("a"), allocation("b", 0, ("Received", ago(minutes=9)), ("Driver Failure", ago(minutes=8)))],
            id="an image that cannot be pulled",
        ),
        pytest.param(
            [allocation("a"), allocation("b", status="lost", ModifyTime=nanos(ago(minutes=9)))], id="a client is lost"
        ),
    ],
)
def test_a_start_that_opened_nothing_accounts_for_nothing_later(rows: list[Json]) -> None:
    assert stolen(settled(there(token(0, Seal.USED), **after_start("a")), rows)) == [(0, NOW, True)]


def test_of_many_starts_while_nothing_could_be_opened_one_accounts_for_one_and_no_other_for_a_later_one() -> None:
    """Vault was away from minute 21 on, and answers again."""
    row = allocation("a", 0, *DOWN, ("Started", ago(minutes=2)))
    brought = there(token(0, Seal.USED, sealed=ago(minutes=21)), **after_start("a"))
    found = decided(brought, [row])
    assert found.wanted.waiting == ()

    def next_opened(minutes: float) -> Bringing:
        then = NOW + timedelta(minutes=minutes)
        fresh = replace(token(0, Seal.USED, sealed=then - timedelta(seconds=5)), made=NOW)
        return decided(replace(found.wanted, tokens=(fresh,), now=then), [row])

    # It may be that of the agent that runs, if an earlier run opened the first one. Then it comes soon.
    assert next_opened(1).wanted.waiting == ()
    assert len(next_opened(30).wanted.waiting) == 1


SEVERAL = AppRole(secret_id_num_uses=5)


def test_a_secret_id_that_is_good_for_more_logins_is_worth_nothing_once_its_opening_is_nobodys() -> None:
    taken = replace(token(0, Seal.USED), limits=limits_digest(SEVERAL))
    found = decided(there(taken, **after_start("a")), [allocation()], app_role=SEVERAL)
    assert found.action is not None
    assert found.action.destroy == ("accessor-0",)


def test_the_secret_id_of_an_agent_is_good_for_more_logins_until_the_next_one_is_opened() -> None:
    taken = replace(token(0, Seal.USED), limits=limits_digest(SEVERAL))
    first = decided(there(taken), [allocation()], app_role=SEVERAL)
    assert first.action is not None
    assert first.action.destroy == ()
    again = ago(seconds=5)
    row = allocation("a", 0, ("Started", START), ("Terminated", again), ("Started", again))
    second = replace(first.wanted, tokens=(replace(taken, accessor="accessor-next"),))
    found = decided(second, [row], app_role=SEVERAL)
    assert found.action is not None
    assert found.action.destroy == ("accessor-0",)
    assert found.wanted.latest == {0: "accessor-next"}
    fewer = decided(replace(found.wanted, tokens=()), [], app_role=SEVERAL, count=0)
    assert fewer.action is not None
    assert fewer.action.destroy == ("accessor-next",)


def test_one_that_is_good_for_one_login_is_not_remembered() -> None:
    assert decided(there(token(0, Seal.USED)), [allocation()]).wanted.latest == {}


def test_whoever_opens_one_just_before_the_agent_is_shown_by_the_agent_that_takes_another() -> None:
    first = decided(there(token(0, Seal.USED)), [allocation()])
    then = NOW + timedelta(seconds=30)
    second = replace(first.wanted, tokens=(replace(token(0, Seal.USED), made=NOW, sealed=NOW),), now=then)
    assert len(decided(second, [allocation()]).wanted.waiting) == 1


def test_an_agent_that_cannot_reach_vault_for_long_accounts_for_the_first_one_it_opens() -> None:
    row = allocation("a", 0, ("Started", ago(hours=9)))
    assert decided(there(token(0, Seal.USED)), [row]).wanted.waiting == ()


def test_a_start_whose_opening_was_seen_after_its_end_accounts_for_it_and_the_next_start_for_its_own() -> None:
    """The controller was away meanwhile."""
    row = allocation("a", 0, ("Started", ago(minutes=9)), ("Terminated", ago(minutes=8)), ("Started", ago(minutes=7)))
    found = decided(there(token(0, Seal.USED, sealed=ago(minutes=10))), [row]).wanted
    assert found.spent == {"a": ago(minutes=9)}
    fresh = replace(token(0, Seal.USED), made=NOW, sealed=None)
    again = decided(replace(found, tokens=(fresh,), now=NOW + timedelta(seconds=20)), [row]).wanted
    assert again.waiting == ()
    assert again.spent == {"a": ago(minutes=7)}


def test_one_that_is_opened_and_not_used_is_destroyed_and_does_not_count_as_the_agents() -> None:
    found = decided(there(token(0, Seal.UNUSED)), [allocation()])
    assert found.action is not None
    assert found.action.destroy == ("accessor-0",)
    assert [one.used for one in found.wanted.stolen] == [False]
    assert found.wanted.spent == {}


def test_one_that_was_opened_this_moment_is_waited_for() -> None:
    found = decided(there(token(0, Seal.OPENED)), [allocation()])
    assert found.action is None
    assert found.soon


def test_one_that_nobody_opens_is_replaced_when_a_third_of_its_time_is_left() -> None:
    assert decided(there(token(hours=8.1))).action is None
    found = decided(there(token(hours=7.9)))
    assert made(found) == (0,)
    assert found.action is not None
    assert found.action.destroy == ("accessor-0",)
    assert found.wanted.stolen == ()


def test_one_whose_time_is_over_is_replaced_and_no_finding() -> None:
    found = decided(there(token(0, Seal.EXPIRED, hours=-1), **after_start("a")), [allocation()])
    assert made(found) == (0,)
    assert found.wanted.stolen == ()


def test_other_limits_replace_all_of_them() -> None:
    assert made(decided(there(token(0), token(1)), count=2, app_role=AppRole(secret_id_num_uses=2))) == (0, 1)


def test_an_agent_whose_token_ends_logs_in_anew_without_a_start() -> None:
    ends = {"token_period": 0, "token_ttl": 600, "token_max_ttl": 3600}
    spent = {"a": START}
    earlier = there(token(0, Seal.USED), spent=spent, opened={"a": ago(minutes=50)})
    assert decided(earlier, [allocation()], limits=ends).wanted.waiting == ()
    just_now = there(token(0, Seal.USED), spent=spent, opened={"a": ago(minutes=5)})
    assert len(decided(just_now, [allocation()], limits=ends).wanted.waiting) == 1
    assert len(decided(earlier, [allocation()], limits=PERIODIC).wanted.waiting) == 1


def test_a_request_after_it_takes_a_finding_back() -> None:
    found = settled(there(token(0, Seal.USED), **after_start("a")), [allocation()]).wanted
    later = there(token(0), **after_start("a"), stolen=found.stolen)
    assert decided(later, [allocation()], answered=NOW - timedelta(1)).wanted.stolen == found.stolen
    assert decided(later, [allocation()], answered=NOW + timedelta(1)).wanted.stolen == ()


def test_indexes_that_are_gone_lose_theirs_and_running_ones_keep_it() -> None:
    found = decided(there(token(0), token(1), token(2)), [allocation("c", 1)], count=1)
    assert [one.index for one in found.wanted.tokens] == [0, 1]
    assert found.action is not None
    assert found.action.destroy == ("accessor-2",)


def test_the_variable_tells_again_what_it_was_told() -> None:
    opened = [token(0, Seal.USED), token(1), token(2, Seal.UNUSED)]
    rows = [allocation(), allocation("b", 1)]
    found = replace(decided(there(*opened, **after_start("a")), rows, count=3).wanted, latest={1: "accessor-9"})
    assert found.waiting
    assert found.stolen
    items = {"secretbinding": found.state_item(), "wrapped_1": "t"}
    assert read_brought(PATH, 7, items, NOW) == replace(found, tokens=(replace(token(1), sealed=None),))
    assert read_brought(PATH, 7, {"wrapped_1": "t"}, NOW).instance == ""
    assert read_brought(PATH, 7, {"secretbinding": "[]"}, NOW).instance == ""


def test_what_version_0_1_remembers_is_understood() -> None:
    expires, opened = (NOW + timedelta(hours=9)).isoformat(), NOW.isoformat()
    remembered = {
        "instance": "test",
        "role": "role",
        "tokens": [[0, "accessor-0", expires, limits_digest(LIMITS)]],
        "used": {"a": 1},
        "opened": {"a": opened},
        "stolen": [],
    }
    found = read_brought(PATH, 7, {"secretbinding": json.dumps(remembered), "wrapped_0": "t"}, NOW)
    assert found.instance == "test"
    assert decided(found, [allocation()]).action is None
    assert not decided(found, [allocation()]).soon
    taken = replace(found, tokens=(replace(found.tokens[0], seal=Seal.USED),))
    assert len(decided(taken, [allocation()]).wanted.waiting) == 1


def test_the_name_of_an_app_role_tells_what_it_is_and_of_which_job() -> None:
    web, other = WorkloadKey("default", "", "default", "web"), WorkloadKey("default", "", "default", "other")
    name = app_role_name("test", web, "app", AGENT_TASK)
    assert name.startswith("nsb.test.")
    assert name.rsplit(".", 2)[0] == "nsb.test"
    assert is_app_role(name)
    assert not is_app_role(role_name("test", web, "app", AGENT_TASK))
    assert is_app_role_of(name, web)
    assert not is_app_role_of(name, other)


@pytest.mark.parametrize(("job", "group"), [("a/b", "app"), ("web", "a.b"), ("web", "x" * 120), ("w b", "app")])
def test_a_job_whose_names_make_no_variable_has_none(job: str, group: str) -> None:
    assert variable_path(WorkloadKey("default", "", "default", job), group) is None


def test_a_network_is_the_same_however_vault_writes_it() -> None:
    wanted = {"role_id": "x", "token_bound_cidrs": ["10.0.0.0/16", "192.0.2.7/32"]}
    assert same_role({"token_bound_cidrs": ["192.0.2.7", "10.0.0.0/16"]}, wanted)
    assert not same_role({"token_bound_cidrs": ["192.0.2.8", "10.0.0.0/16"]}, wanted)
