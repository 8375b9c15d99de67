"""Whatever happens in whatever order, and wherever the controller is killed: no task lacks a right, no edit of a user's
is lost, and in the end everything is as it would be without."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, register_random, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from secretbinding.engine import reconciler
from tests.support.fuzzing import FACTOR, cases
from tests.unit.engine.turmoil import FATES, JOBS, NAMES, SECRETS, STRICT, Turmoil, live

register_random(reconciler._CHANCE)

names, jobs, paths, editions = map(st.sampled_from, (NAMES, JOBS, SECRETS, range(1, 4)))
some_paths = st.lists(paths, min_size=1, max_size=2, unique=True).map(tuple)
bound = st.tuples(st.just("bind"), names, jobs, some_paths)
steps = st.one_of(
    bound,
    bound,
    st.tuples(st.just("unbind"), names),
    st.tuples(st.just("rotate"), paths),
    st.tuples(st.just("spoil"), paths),
    st.tuples(st.just("take_back"), paths),
    st.tuples(st.just("register"), jobs, editions),
    st.tuples(st.just("edit"), jobs, editions),
    st.tuples(st.just("purge"), jobs),
    st.tuples(st.just("allow"), st.sampled_from(sorted(STRICT))),
)
lives = st.builds(
    lambda first, then: [*first, *then],
    st.lists(bound, min_size=1, max_size=2),
    st.lists(steps, min_size=1, max_size=5),
)
fates = st.dictionaries(st.integers(1, 50), st.sampled_from(FATES), min_size=4, max_size=8)
_QUIET = settings(
    deadline=None,
    derandomize=FACTOR == 1,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("auto_revert", [True, False], ids=["reverting", "not reverting"])
@given(steps=lives, fates=fates)
@settings(_QUIET, max_examples=cases(5))
def test_a_controller_that_is_killed_or_not_answered_at_any_writes_leaves_what_it_would_have_left_otherwise(
    steps: Sequence[tuple[Any, ...]], fates: dict[int, str], auto_revert: bool
) -> None:
    wanted = live(steps, {}, auto_revert=auto_revert)
    found = live(steps, fates, auto_revert=auto_revert)
    event("died or was not answered", found.deaths)
    # Who is killed between a registration and the end of a failure's memory leaves it to the next registration.
    assert wanted.failures() <= found.failures()
    assert found.outcome() == wanted.outcome()


class Anything(RuleBasedStateMachine):
    """People, servers and the controller do what they like; what has to hold is looked at after each write."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Turmoil()

    @rule(name=names, job=jobs, paths=some_paths, suspend=st.sampled_from([False, False, False, True]))
    def bind(self, name: str, job: str, paths: tuple[str, ...], suspend: bool) -> None:
        self.site.do(("bind", name, job, paths, suspend))

    @precondition(lambda self: self.site.servers.items)
    @rule(step=steps)
    def happen(self, step: tuple[Any, ...]) -> None:
        self.site.do(step)

    @rule(system=st.sampled_from(["vault", "nomad"]))
    def outage(self, system: str) -> None:
        self.site.do(("outage", system))

    @precondition(lambda self: self.site.servers.items)
    @rule(name=names)
    def ask(self, name: str) -> None:
        self.site.do(("ask", name))

    @rule()
    def restart(self) -> None:
        self.site.do(("restart",))

    @precondition(lambda self: self.site.servers.items)
    @rule(ahead=st.integers(1, 6), fate=st.sampled_from(FATES))
    def doom(self, ahead: int, fate: str) -> None:
        """Something becomes of one of the next writes."""
        self.site.fates = {**self.site.fates, self.site.count + ahead: fate}

    def teardown(self) -> None:
        self.site.fates = {}
        self.site.settle()
        self.site.check_settled()
        for name in NAMES:
            self.site.do(("unbind", name))
        self.site.settle()
        self.site.check_gone()


TestAnything = Anything.TestCase
TestAnything.settings = settings(_QUIET, max_examples=cases(10), stateful_step_count=12)
