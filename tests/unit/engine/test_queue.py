"""The queue of workloads: each once, urgent first, one worker at a time for each."""

import threading

import pytest

from secretbinding.engine.queue import Backlog, Priority, WorkQueue
from secretbinding.models.key import WorkloadKey


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def workload(name: str) -> WorkloadKey:
    return WorkloadKey("default", "", "default", name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock)


def take_all(queue: WorkQueue) -> list[str]:
    names = []
    while (key := queue.get(timeout=0)) is not None:
        names.append(key.job)
        queue.done(key)
    return names


def test_a_workload_that_is_added_many_times_is_handed_out_once(queue: WorkQueue) -> None:
    for _ in range(5):
        queue.add(workload("a"))
    assert take_all(queue) == ["a"]


def test_a_users_change_overtakes_a_thousand_resyncs(queue: WorkQueue) -> None:
    for number in range(1000):
        queue.add(workload(f"resync-{number}"), Priority.RESYNC)
    queue.add(workload("changed"), Priority.CHANGE)
    assert take_all(queue)[0] == "changed"


def test_equal_priorities_come_in_the_order_in_which_they_were_added(queue: WorkQueue, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        queue.add(workload(name))
        clock.now += 0.001
    assert take_all(queue) == ["a", "b", "c"]


def test_a_workload_waits_for_its_date(queue: WorkQueue, clock: Clock) -> None:
    queue.add(workload("later"), after=10)
    assert take_all(queue) == []
    clock.now += 10
    assert take_all(queue) == ["later"]


def test_an_earlier_date_replaces_a_later_one_and_a_later_one_replaces_nothing(queue: WorkQueue, clock: Clock) -> None:
    queue.add(workload("a"), after=10)
    queue.add(workload("a"), after=1)
    queue.add(workload("a"), after=100)
    clock.now += 1
    assert take_all(queue) == ["a"]
    clock.now += 1000
    assert take_all(queue) == []


def test_a_resync_that_becomes_a_change_is_as_urgent_as_a_change(queue: WorkQueue) -> None:
    queue.add(workload("a"), Priority.RESYNC)
    queue.add(workload("b"), Priority.RESYNC)
    queue.add(workload("b"), Priority.CHANGE)
    assert take_all(queue) == ["b", "a"]


def test_a_workload_is_with_one_worker_at_a_time_and_comes_again_when_it_was_added_meanwhile(queue: WorkQueue) -> None:
    queue.add(workload("a"))
    key = queue.get(timeout=0)
    assert key == workload("a")
    queue.add(workload("a"))
    assert queue.get(timeout=0) is None
    queue.done(key)
    assert take_all(queue) == ["a"]


def test_depth_counts_what_is_due_and_idle_looks_ahead(queue: WorkQueue, clock: Clock) -> None:
    queue.add(workload("now"))
    queue.add(workload("later"), after=60)
    assert queue.depth() == 1
    take_all(queue)
    assert queue.depth() == 0
    assert queue.idle(within=30)
    assert not queue.idle(within=90)


def test_closing_wakes_every_waiting_worker(queue: WorkQueue) -> None:
    taken: list[WorkloadKey | None] = []
    threads = [threading.Thread(target=lambda: taken.append(queue.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(timeout=5)
    assert taken == [None] * 4


def test_many_workers_share_ten_thousand_workloads_without_losing_or_doubling_one() -> None:
    queue = WorkQueue()
    for number in range(10_000):
        queue.add(workload(str(number)))
    taken: list[str] = []

    def work() -> None:
        while (key := queue.get(timeout=0)) is not None:
            taken.append(key.job)
            queue.done(key)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(taken, key=int) == [str(number) for number in range(10_000)]


def test_the_backlog_is_told_by_priority_with_the_age_of_its_oldest(clock: Clock, queue: WorkQueue) -> None:
    queue.add(workload("changed"), Priority.CHANGE)
    clock.now += 3
    queue.add(workload("later"), Priority.CHANGE)
    queue.add(workload("stale"), Priority.RESYNC)
    queue.add(workload("not yet"), Priority.RESYNC, after=60)
    clock.now += 2
    assert queue.backlog() == {
        Priority.CHANGE: Backlog(2, 5.0),
        Priority.PROGRESS: Backlog(),
        Priority.RESYNC: Backlog(1, 2.0),
    }


def test_whoever_asks_is_told_how_long_a_workload_waited_for_a_worker(clock: Clock) -> None:
    taken: list[tuple[Priority, float]] = []
    queue = WorkQueue(clock, on_taken=lambda priority, seconds: taken.append((priority, seconds)))
    queue.add(workload("a"), Priority.RESYNC, after=10)
    clock.now += 14
    assert queue.get() == workload("a")
    assert taken == [(Priority.RESYNC, 4.0)]


def test_a_worker_that_does_not_come_to_an_end_shows(clock: Clock, queue: WorkQueue) -> None:
    assert queue.busy() == (0, 0.0)
    queue.add(workload("a"))
    queue.add(workload("b"))
    queue.get()
    clock.now += 100
    queue.get()
    clock.now += 7
    assert queue.busy() == (2, 107.0)
    queue.done(workload("a"))
    assert queue.busy() == (1, 7.0)


def test_a_queue_is_stalled_for_as_long_as_something_is_due_and_nothing_is_handed_out(
    clock: Clock, queue: WorkQueue
) -> None:
    clock.now += 500
    assert queue.stalled_seconds() == 0.0, "nothing is due"
    queue.add(workload("a"))
    queue.add(workload("b"))
    clock.now += 30
    assert queue.stalled_seconds() == 30.0
    queue.get()
    assert queue.stalled_seconds() == 0.0
    clock.now += 5
    assert queue.stalled_seconds() == 5.0
