"""A tool that registers the same job without its secrets, again and again: who deploys is no such tool."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.desired import BindingInput, Observed
from secretbinding.desired.fighting import LOSSES, PAUSE, Fight, fight
from secretbinding.gate import Gate
from tests.support import builders as make
from tests.support.builders import INSTANCE, WORKLOAD, binding, kv_state
from tests.unit.core.world import World

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ITEM = make.given(binding(make.kv("app", path="app")))


def with_ours() -> Any:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job())
    world.settle([ITEM])
    return world.job


OURS, THEIRS = with_ours(), make.job()


def history(*gaps: float, theirs: Sequence[Any] = (THEIRS,) * 9) -> list[Any]:
    """Ours and theirs by turns; `gaps` are the seconds between each and the one before."""
    found, at = [], START
    for number, gap in enumerate((0.0, *gaps)):
        at += timedelta(seconds=gap)
        job = copy.deepcopy(theirs[number // 2] if number % 2 else OURS)
        found.append(job | {"Version": number, "SubmitTime": int(at.timestamp() * 1_000_000_000)})
    return found


def found(versions: list[Any], later: float = 1.0, item: BindingInput = ITEM, **gate: Any) -> Fight | None:
    last = datetime.fromtimestamp(versions[-1]["SubmitTime"] / 1_000_000_000, tz=UTC)
    gates = Gate(now=last + timedelta(seconds=later), **gate)
    return fight(Observed(WORKLOAD, job=versions[-1], versions=versions, gate=gates), [item], INSTANCE)


def test_the_third_time_in_a_row_is_a_fight_and_our_turn_comes_after_a_pause() -> None:
    versions = history(10, 2, 10, 2, 10)
    told = found(versions)
    assert told is not None
    assert told.until == told.last + PAUSE
    assert "rotate" in told.fault().message
    assert found(versions, PAUSE.total_seconds() - 1) is not None
    assert found(versions, PAUSE.total_seconds()) is None
    assert LOSSES == 3


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param(history(10, 2, 10), id="twice"),
        pytest.param(history(10, 2, 10, 2, 400), id="long after us"),
        pytest.param(history(10, 900, 10, 900, 10), id="over half an hour"),
        pytest.param(history(10, 2, 10, 2, 10, 2), id="our part is in the job"),
        pytest.param(
            history(10, 2, 10, 2, 10, theirs=[make.job(Meta={"build": str(number)}) for number in range(9)]),
            id="another build each time",
        ),
    ],
)
def test_who_deploys_or_came_by_twice_is_no_fight(versions: list[Any]) -> None:
    assert found(versions) is None


def test_a_request_after_the_last_time_ends_the_pause_and_one_before_does_not() -> None:
    versions = history(10, 2, 10, 2, 10)
    last = START + timedelta(seconds=34)
    for seconds, paused in ((-1, True), (0.5, False)):
        asked = replace(ITEM, rotate_requested_at=last + timedelta(seconds=seconds))
        assert (found(versions, item=asked) is not None) is paused


def test_what_we_took_out_ourselves_is_no_fight_nor_is_a_binding_that_leaves() -> None:
    versions = history(10, 2, 10, 2, 10)
    last = START + timedelta(seconds=34)
    observed = Observed(WORKLOAD, job=versions[-1], versions=versions, gate=Gate(now=last + timedelta(seconds=1)))
    assert fight(observed, [ITEM], INSTANCE) is not None
    assert fight(observed, [ITEM], INSTANCE, since=last) is None
    assert fight(observed, [replace(ITEM, deleting=True)], INSTANCE) is None


def test_times_of_nomad_are_read_by_its_own_clock() -> None:
    versions = history(10, 2, 10, 2, 10)
    ahead = timedelta(hours=1)
    told = found(versions, 1.0 - ahead.total_seconds(), nomad_ahead=ahead)
    assert told is not None
    assert told.until == told.last - ahead + PAUSE


def test_one_shot_commands_fight_nobody() -> None:
    versions = history(10, 2, 10, 2, 10)
    assert fight(Observed(WORKLOAD, job=versions[-1], versions=versions), [ITEM], INSTANCE) is None
