"""Wrapped secret-ids: which are made when, and who is taken to have opened one."""

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


def token(index: int = 0, seal: Seal = Seal.SEALED, *, hours: float = 20) -> Wrapped:
    return Wrapped(index, f"accessor-{index}", NOW + timedelta(hours=hours), limits_digest(LIMITS), seal)


def there(*tokens: Wrapped, **changes: Any) -> Brought:
    return replace(Brought(PATH, 7, "test", "role", tuple(tokens), now=NOW), **changes)


def allocation(name: str = "a", index: int = 0, *, restarts: int = 0, status: str = "running") -> Json:
    states = {AGENT_TASK: {"Restarts": restarts}, "web": {}}
    row = {"ID": name, "Name": f"web.app[{index}]", "TaskGroup": "app", "ClientStatus": status, "TaskStates": states}
    return {**row, "CreateIndex": ord(name)}


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
    assert found.wanted.used == {"a": 1}
    assert found.wanted.stolen == ()


def test_a_token_that_was_opened_without_a_start_was_opened_by_somebody_else() -> None:
    found = decided(there(token(0, Seal.USED), used={"a": 1}), [allocation()])
    assert [(one.index, one.at, one.used) for one in found.wanted.stolen] == [(0, NOW, True)]
    assert made(found) == (0,)


def test_a_restart_accounts_for_another_token() -> None:
    found = decided(there(token(0, Seal.USED), used={"a": 1}), [allocation(restarts=1)])
    assert found.wanted.stolen == ()
    assert found.wanted.used == {"a": 2}


def test_an_allocation_that_takes_the_place_of_another_accounts_for_its_own() -> None:
    rows = [allocation("a", status="complete"), allocation("b")]
    found = decided(there(token(0, Seal.USED), used={"a": 1}), rows)
    assert found.wanted.stolen == ()
    assert found.wanted.used == {"a": 1, "b": 1}


def test_an_allocation_of_another_index_accounts_for_nothing() -> None:
    found = decided(there(token(0, Seal.USED), token(1)), [allocation("b", 1)], count=2)
    assert [one.index for one in found.wanted.stolen] == [0]


def test_one_that_is_opened_and_not_used_is_destroyed_and_does_not_count_as_the_agents() -> None:
    found = decided(there(token(0, Seal.UNUSED)), [allocation()])
    assert found.action is not None
    assert found.action.destroy == ("accessor-0",)
    assert [one.used for one in found.wanted.stolen] == [False]
    assert found.wanted.used == {}


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
    found = decided(there(token(0, Seal.EXPIRED, hours=-1), used={"a": 1}), [allocation()])
    assert made(found) == (0,)
    assert found.wanted.stolen == ()


def test_other_limits_replace_all_of_them() -> None:
    assert made(decided(there(token(0), token(1)), count=2, app_role=AppRole(secret_id_num_uses=2))) == (0, 1)


def test_an_agent_whose_token_ends_logs_in_anew_without_a_start() -> None:
    ends = {"token_period": 0, "token_ttl": 600, "token_max_ttl": 3600}
    earlier = there(token(0, Seal.USED), used={"a": 1}, opened={"a": NOW - timedelta(minutes=50)})
    assert decided(earlier, [allocation()], limits=ends).wanted.stolen == ()
    just_now = there(token(0, Seal.USED), used={"a": 1}, opened={"a": NOW - timedelta(minutes=5)})
    assert len(decided(just_now, [allocation()], limits=ends).wanted.stolen) == 1
    assert len(decided(earlier, [allocation()], limits=PERIODIC).wanted.stolen) == 1


def test_a_request_after_it_takes_a_finding_back() -> None:
    stolen = decided(there(token(0, Seal.USED), used={"a": 1}), [allocation()]).wanted.stolen
    later = there(token(0), used={"a": 1}, stolen=stolen)
    assert decided(later, [allocation()], answered=NOW - timedelta(1)).wanted.stolen == stolen
    assert decided(later, [allocation()], answered=NOW + timedelta(1)).wanted.stolen == ()


def test_indexes_that_are_gone_lose_theirs_and_running_ones_keep_it() -> None:
    found = decided(there(token(0), token(1), token(2)), [allocation("c", 1)], count=1)
    assert [one.index for one in found.wanted.tokens] == [0, 1]
    assert found.action is not None
    assert found.action.destroy == ("accessor-2",)


def test_the_variable_tells_again_what_it_was_told() -> None:
    found = decided(there(token(0, Seal.USED), token(1), used={"a": 1}), [allocation()], count=2).wanted
    items = {"secretbinding": found.state_item(), "wrapped_1": "t"}
    assert read_brought(PATH, 7, items, NOW) == found
    assert read_brought(PATH, 7, {"wrapped_1": "t"}, NOW).instance == ""
    assert read_brought(PATH, 7, {"secretbinding": "[]"}, NOW).instance == ""


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
