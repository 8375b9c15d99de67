"""The watch on Nomad variables: which lists are asked for, and whom a change wakes."""

from collections.abc import Iterable
from typing import Any

import pytest

from secretbinding.engine.store import Store
from secretbinding.errors import Unavailable
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import VariableMeta
from secretbinding.sources.base import SourceItem
from secretbinding.watch.variables import VariableWatcher, plan_lists
from tests.support import builders as make


class Lists:
    """Nomad's variables by namespace and path; their indexes."""

    def __init__(self) -> None:
        self.variables: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str]] = []
        self.fails = False

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Iterable[VariableMeta]]:
        self.asked.append((namespace, prefix))
        if self.fails:
            raise Unavailable("no", system="nomad")
        rows = sorted((key, index) for key, index in self.variables.items() if key[0] == namespace)
        return 1, [VariableMeta(where, path, at) for (where, path), at in rows if path.startswith(prefix)]


class Watch:
    """A watcher, what it was told, and whom it woke."""

    def __init__(self) -> None:
        self.nomad, self.store = Lists(), Store()
        self.woken: list[set[str]] = []
        self.now = 100.0
        self.watcher = VariableWatcher(
            self.nomad, self.store, self._wake, interval_seconds=3600.0, clock=lambda: self.now
        )

    def _wake(self, workloads: set[WorkloadKey]) -> None:
        self.woken.append({workload.job for workload in workloads})

    def bind(self, job: str, path: str, *, name: str = "", namespace: str = "default", **item: Any) -> None:
        made = make.binding(
            make.nomad_variable(path=path),
            make.spec(workload={"job": job, "namespace": namespace, "groups": [{"name": "g", "tasks": ["t"]}]}),
            name=name or job,
            job=job,
        )
        self.store.upsert(SourceItem(make.key(name or job), made, namespace, **item))

    def look(self) -> list[set[str]]:
        """Whom one look wakes."""
        self.woken.clear()
        self.watcher.look()
        return list(self.woken)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_change_wakes_the_jobs_that_use_the_variable_and_no_change_nobody(watch: Watch) -> None:
    watch.bind("a", "nomad/jobs")
    watch.bind("b", "nomad/jobs")
    watch.nomad.variables["default", "nomad/jobs"] = 7
    assert watch.look() == [{"a", "b"}], "it may have changed since the engine's pass"
    assert watch.look() == []
    watch.nomad.variables["default", "nomad/jobs"] = 8
    assert watch.look() == [{"a", "b"}]
    del watch.nomad.variables["default", "nomad/jobs"]
    assert watch.look() == [{"a", "b"}]
    assert watch.look() == []


def test_a_variable_that_is_not_there_is_told_once_and_again_when_it_comes(watch: Watch) -> None:
    watch.bind("a", "nomad/jobs/a")
    assert watch.look() == [{"a"}]
    assert watch.look() == []
    watch.nomad.variables["default", "nomad/jobs/a"] = 3
    assert watch.look() == [{"a"}]


def test_only_bindings_that_are_to_be_made_true_are_looked_at(watch: Watch) -> None:
    watch.bind("a", "nomad/jobs/a", deleting=True)
    assert watch.look() == []
    assert watch.nomad.asked == []


def test_a_list_that_cannot_be_had_is_no_change(watch: Watch) -> None:
    watch.bind("a", "nomad/jobs/a")
    watch.nomad.variables["default", "nomad/jobs/a"] = 3
    watch.look()
    watch.nomad.fails = True
    assert watch.watcher.look() is False
    watch.nomad.fails = False
    assert watch.look() == []


def test_the_same_path_in_two_namespaces_is_two_variables(watch: Watch) -> None:
    watch.bind("a", "nomad/jobs", namespace="one")
    watch.bind("b", "nomad/jobs", namespace="two")
    watch.nomad.variables = {("one", "nomad/jobs"): 1, ("two", "nomad/jobs"): 1}
    watch.look()
    watch.nomad.variables["two", "nomad/jobs"] = 2
    assert watch.look() == [{"b"}]


@pytest.mark.parametrize(
    ("variables", "lists"),
    [
        ([], []),
        ([("n", "a/x"), ("n", "a/y")], [("n", "a/x", ("a/x",)), ("n", "a/y", ("a/y",))]),
        (
            [("n", "nomad/jobs/b"), ("n", "nomad/jobs/a/g"), ("n", "nomad/jobs/a")],
            [("n", "nomad/jobs/", ("nomad/jobs/a", "nomad/jobs/a/g", "nomad/jobs/b"))],
        ),
        (
            [("n", "x"), ("n", "y"), ("n", "z"), ("m", "x")],
            [("m", "x", ("x",)), ("n", "x", ("x",)), ("n", "y", ("y",)), ("n", "z", ("z",))],
        ),
    ],
    ids=["none", "a few", "many below one path", "nothing in common"],
)
def test_many_variables_below_one_path_are_seen_with_one_list(
    variables: list[tuple[str, str]], lists: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    assert plan_lists(variables) == lists


def test_it_can_be_started_and_stopped(watch: Watch) -> None:
    watch.watcher.start()
    (thread,) = watch.watcher.threads
    assert thread.is_alive()
    watch.watcher.stop()
    assert not thread.is_alive()


def test_how_long_no_look_was_answered_is_told_while_there_is_something_to_look_at(watch: Watch) -> None:
    watch.now += 500
    assert watch.watcher.silent_seconds() == 0, "there is nothing to look at"
    watch.bind("a", "nomad/jobs")
    watch.nomad.fails = True
    watch.look()
    watch.now += 40
    assert watch.watcher.silent_seconds() == 40
    watch.nomad.fails = False
    watch.look()
    assert watch.watcher.silent_seconds() == 0
