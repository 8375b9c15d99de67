"""The watch over secrets: what it asks of Vault, how often, and whom it wakes; on a clock of the test's own."""

import random
import time
from dataclasses import replace
from threading import Event

import pytest

from secretbinding.engine.store import Store
from secretbinding.errors import Denied, NotFound, Rejected, Unavailable, Unreachable
from secretbinding.kinds.base import Fault, SecretState
from secretbinding.models.reasons import Reason
from secretbinding.watch.secrets import FIRST_LOOK_SECONDS, PUSHED_BURST, PUSHED_PER_SECOND, SecretWatcher
from tests.unit.watch.world import Watch, binding, metadata

BUSY = Unavailable("too many requests", system="vault", status=429)
GONE = Unreachable("no answer", system="vault")
FORBIDDEN = Denied("may not", system="vault", status=403)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_many_bindings_that_share_few_secrets_make_one_read_for_each_secret_and_interval(watch: Watch) -> None:
    for number in range(3):
        watch.vault.write(f"folder{number}/app", 1)
    watch.bind(*(binding(f"job{number}", f"folder{number % 3}/app") for number in range(60)))
    watch.run(60.0)
    watch.forget()
    watch.run(300.0)
    counts = [watch.vault.reads.count(f"secret/folder{number}/app") for number in range(3)]
    assert all(9 <= count <= 11 for count in counts)
    assert len(watch.vault.reads) == sum(counts)
    assert watch.vault.listed == []


def test_secrets_of_one_folder_make_one_list_for_each_interval(watch: Watch) -> None:
    for number in range(10):
        watch.vault.write(f"team/app{number}", 1)
    watch.bind(*(binding(f"job{number}", f"team/app{number % 10}") for number in range(50)))
    watch.run(60.0)
    watch.forget()
    watch.run(300.0)
    assert watch.vault.reads == []
    assert 9 <= len(watch.vault.listed) <= 11
    assert watch.woken == []


def test_reads_are_spread_over_the_interval(watch: Watch) -> None:
    for number in range(30):
        watch.vault.write(f"f{number}/app", 1)
    watch.bind(*(binding(f"job{number}", f"f{number}/app") for number in range(30)))
    watch.run(90.0)
    most = 0
    for _ in range(30):
        watch.forget()
        watch.run(1.0)
        most = max(most, len(watch.vault.reads))
    assert most <= 6


def test_a_start_at_which_nothing_changed_wakes_nobody(watch: Watch) -> None:
    watch.vault.write("app", 3)
    watch.bind(*(binding(f"job{number}", "app") for number in range(20)))
    watch.run(120.0)
    assert watch.vault.reads
    assert watch.woken == []


def test_a_change_between_the_engines_read_and_the_first_look_is_found(watch: Watch) -> None:
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"))
    watch.vault.write("app", 2)
    watch.run(31.0)
    assert watch.jobs_woken() == ["web"]


def test_a_change_between_the_first_look_and_an_engines_older_read_is_found(watch: Watch) -> None:
    watch.vault.write("app", 1)
    old = SecretState(engine="v2", current=1, versions=metadata(1).versions)
    watch.store.upsert(binding("web", "app"))
    watch.vault.write("app", 2)
    watch.run(31.0)
    assert watch.woken == []
    watch.engine_pass("web", s0=old)
    watch.run(1.0)
    assert watch.jobs_woken() == ["web"]


def test_a_job_whose_engine_pass_saw_the_change_does_not_hide_it_from_another_job(watch: Watch) -> None:
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"), binding("api", "app"))
    watch.vault.write("app", 2)
    watch.engine_pass("web")
    watch.run(31.0)
    assert watch.jobs_woken() == ["api"]


def test_a_long_interval_does_not_delay_the_first_look() -> None:
    watch = Watch(interval=3600.0)
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"))
    watch.vault.write("app", 2)
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    assert watch.jobs_woken() == ["web"]


def test_a_thousand_first_looks_take_no_longer_than_one(watch: Watch) -> None:
    watch = Watch(interval=3600.0)
    for number in range(1000):
        watch.vault.write(f"f{number}/app", 1)
    watch.bind(*(binding(f"job{number}", f"f{number}/app") for number in range(1000)))
    watch.run(FIRST_LOOK_SECONDS + 5.0)
    assert len(set(watch.vault.reads)) == 1000


@pytest.mark.parametrize("together", [1, 5], ids=["read", "list"])
def test_every_kind_of_change_wakes_its_users_once(watch: Watch, together: int) -> None:
    for number in range(together):
        watch.vault.write(f"app{number}", 3)
    watch.bind(*(binding(f"job{number}", f"app{number}") for number in range(together)))
    watch.run(40.0)
    steps = [
        metadata(4),
        metadata(4, deleted=[4]),
        metadata(4),
        metadata(4, destroyed=[1]),
        replace(metadata(4, destroyed=[1]), max_versions=3),
        None,
        metadata(1),
    ]
    for state in steps:
        watch.forget()
        if state is None:
            del watch.vault.secrets["secret", "app0"]
        else:
            watch.vault.secrets["secret", "app0"] = state
        watch.run(100.0)
        assert watch.jobs_woken() == ["job0"], state


def test_a_secret_that_is_written_for_the_first_time_wakes_its_users(watch: Watch) -> None:
    watch.bind(binding("web", "app"))
    watch.run(40.0)
    assert watch.woken == []
    watch.vault.write("app", 1)
    watch.run(40.0)
    assert watch.jobs_woken() == ["web"]


def test_metadata_without_a_version_is_no_secret_yet(watch: Watch) -> None:
    watch.bind(binding("web", "app"))
    watch.vault.write("app", 0)
    watch.run(100.0)
    assert watch.woken == []


def test_what_no_binding_uses_any_more_is_not_asked_for(watch: Watch) -> None:
    watch.bind(binding("web", "app"), binding("api", "other"))
    watch.run(40.0)
    watch.store.upsert(binding("web", "app", suspend=True))
    watch.store.upsert(replace(binding("api", "other"), deleting=True))
    watch.run(2.0)
    watch.forget()
    watch.run(300.0)
    assert watch.vault.reads == []


def test_a_mount_that_turns_out_to_have_version_1_is_not_asked_for(watch: Watch) -> None:
    watch.store.upsert(binding("web", "app"))
    watch.engine_pass("web", s0=SecretState(engine="v1"))
    watch.run(300.0)
    assert watch.vault.reads == []


# --- lists ------------------------------------------------------------------------------------------------------------


def a_folder(watch: Watch, size: int = 6) -> None:
    for number in range(size):
        watch.vault.write(f"team/app{number}", 1)
    watch.bind(*(binding(f"job{number}", f"team/app{number}") for number in range(size)))


def test_a_server_without_lists_is_asked_once_and_then_read_from(watch: Watch) -> None:
    watch.vault.lists = False
    a_folder(watch)
    for number in range(6):
        watch.vault.write(f"other/app{number}", 1)
    watch.bind(*(binding(f"more{number}", f"other/app{number}") for number in range(6)))
    watch.run(60.0)
    assert len(watch.vault.listed) == 1
    watch.vault.write("team/app3", 2)
    watch.run(40.0)
    assert watch.jobs_woken() == ["job3"]
    watch.forget()
    watch.run(300.0)
    assert watch.vault.listed == []
    assert 108 <= len(watch.vault.reads) <= 132


@pytest.mark.parametrize(
    "failure", [FORBIDDEN, Rejected("not allowed", system="vault", status=405), NotFound("?", system="vault")]
)
def test_a_folder_that_may_not_be_listed_is_read_one_by_one_and_tried_again_within_the_hour(
    watch: Watch, failure: Exception
) -> None:
    watch.vault.list_failure = failure
    a_folder(watch)
    watch.run(60.0)
    assert len(watch.vault.listed) == 1
    assert len(set(watch.vault.reads)) == 6
    watch.vault.list_failure = None
    watch.run(3700.0)
    watch.forget()
    watch.run(300.0)
    assert watch.vault.reads == []
    assert len(watch.vault.listed) >= 9


def test_a_folder_that_is_gone_wakes_its_users(watch: Watch) -> None:
    a_folder(watch)
    watch.run(60.0)
    watch.vault.secrets.clear()
    watch.run(100.0)
    assert watch.jobs_woken() == [f"job{number}" for number in range(6)]


def test_a_folder_full_of_other_secrets_is_read_one_by_one(watch: Watch) -> None:
    for number in range(500):
        watch.vault.write(f"team/other{number}", 1)
    a_folder(watch)
    watch.run(100.0)
    assert len(watch.vault.listed) == 1
    assert len(set(watch.vault.reads)) == 6


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [BUSY, GONE], ids=["429", "no answer"])
def test_a_server_in_trouble_is_asked_less_and_less_and_then_again(watch: Watch, failure: Exception) -> None:
    for number in range(30):
        watch.vault.write(f"f{number}/app", 1)
    watch.bind(*(binding(f"job{number}", f"f{number}/app") for number in range(30)))
    watch.run(60.0)
    watch.vault.failure = failure
    watch.forget()
    watch.run(300.0)
    assert 5 <= len(watch.vault.reads) <= 16
    watch.vault.failure = None
    watch.vault.write("f7/app", 2)
    watch.forget()
    watch.run(250.0)
    assert watch.jobs_woken() == ["job7"]
    assert len(watch.vault.reads) < 250
    watch.forget()
    watch.run(300.0)
    assert 270 <= len(watch.vault.reads) <= 330


def test_a_look_that_failed_is_repeated_when_the_pause_is_over_not_an_interval_later() -> None:
    watch = Watch(interval=600.0)
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"))
    watch.vault.failure = GONE
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    assert watch.vault.reads
    watch.vault.failure = None
    watch.forget()
    watch.run(60.0)
    assert watch.vault.reads == ["secret/app"]


def test_a_slow_server_is_busy_with_us_for_half_of_the_time_at_most(watch: Watch) -> None:
    for number in range(100):
        watch.vault.write(f"f{number}/app", 1)
    watch.bind(*(binding(f"job{number}", f"f{number}/app") for number in range(100)))
    watch.vault.seconds = 0.9
    watch.run(60.0)
    watch.forget()
    watch.run(300.0)
    assert len(watch.vault.reads) * 0.9 <= 155.0


def test_a_very_slow_server_is_asked_less_often_than_the_interval_says(watch: Watch) -> None:
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"))
    watch.vault.seconds = 5.0
    watch.run(300.0)
    watch.forget()
    watch.run(600.0)
    assert len(watch.vault.reads) <= 14


def test_a_right_that_is_given_later_wakes_the_users(watch: Watch) -> None:
    watch.vault.write("app", 1)
    denied = SecretState(engine="v2", fault=Fault(Reason.PERMISSION_DENIED, "may not"))
    watch.vault.failure = FORBIDDEN
    watch.store.upsert(binding("web", "app"))
    watch.engine_pass("web", s0=denied)
    watch.run(100.0)
    assert watch.woken == []
    watch.vault.failure = None
    watch.run(200.0)
    assert watch.jobs_woken() == ["web"]


# --- push -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hourly() -> Watch:
    """Polls once an hour, and has made its first looks."""
    watch = Watch(interval=3600.0)
    for number in range(3):
        watch.vault.write(f"app{number}", 1)
    watch.bind(*(binding(f"job{number}", f"app{number}") for number in range(3)))
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    watch.forget()
    return watch


def test_a_pushed_change_is_looked_at_within_a_fraction_of_a_second(hourly: Watch) -> None:
    hourly.vault.write("app1", 2)
    hourly.watcher.pushed("secret/data/app1")
    hourly.run(0.15)
    assert hourly.jobs_woken() == ["job1"]
    assert hourly.vault.reads == ["secret/app1"]


def test_what_is_pushed_within_a_tenth_of_a_second_makes_one_look(hourly: Watch) -> None:
    hourly.vault.write("app1", 5)
    for _ in range(50):
        hourly.watcher.pushed("secret/data/app1")
        hourly.watcher.pushed("secret/metadata/app1")
        hourly.run(0.001)
    hourly.run(30.0)
    assert hourly.vault.reads == ["secret/app1"]


def test_a_change_that_is_pushed_on_and_on_is_not_put_off(hourly: Watch) -> None:
    hourly.vault.write("app1", 2)
    for _ in range(30):
        hourly.watcher.pushed("secret/data/app1")
        hourly.run(0.01)
    assert hourly.jobs_woken() == ["job1"]


def test_what_nobody_watches_is_not_looked_at(hourly: Watch) -> None:
    for path in ("secret/data/other", "kv/data/app1", "secret/app1", "data/app1", "", "/", "secret/data/"):
        hourly.watcher.pushed(path)
    hourly.run(10.0)
    assert hourly.vault.reads == []


def test_a_push_that_came_before_its_change_was_to_be_seen_is_looked_at_once_more(hourly: Watch) -> None:
    hourly.watcher.pushed("secret/data/app1")
    hourly.run(0.5)
    assert hourly.woken == []
    hourly.vault.write("app1", 2)
    hourly.run(1.0)
    assert hourly.jobs_woken() == ["job1"]
    hourly.run(30.0)
    assert hourly.vault.reads == ["secret/app1"] * 2


def test_a_flood_of_pushes_makes_no_more_looks_than_the_limit_allows() -> None:
    watch = Watch(interval=3600.0)
    paths = [f"f{number}/app" for number in range(1000)]
    watch.bind(*(binding(f"job{number}", path) for number, path in enumerate(paths)))
    watch.run(FIRST_LOOK_SECONDS + 5.0)
    watch.forget()
    for _ in range(10):
        for path in paths:
            watch.watcher.pushed(f"secret/data/{path}")
        watch.run(1.0)
    assert len(watch.vault.reads) <= PUSHED_BURST + 10 * PUSHED_PER_SECOND + 10


def test_a_flood_of_pushes_does_not_keep_the_poll_from_its_work(watch: Watch) -> None:
    paths = [f"f{number}/app" for number in range(200)]
    watch.bind(*(binding(f"job{number}", path) for number, path in enumerate(paths)))
    watch.run(40.0)
    watch.vault.write("f199/app", 1)
    for _ in range(40):
        for path in paths[:100]:
            watch.watcher.pushed(f"secret/data/{path}")
        watch.run(1.0)
    assert watch.jobs_woken() == ["job199"]


def test_a_pushed_change_is_not_lost_when_the_server_is_in_trouble(hourly: Watch) -> None:
    hourly.vault.write("app1", 2)
    hourly.vault.failure = GONE
    hourly.watcher.pushed("secret/data/app1")
    hourly.run(20.0)
    assert len(hourly.vault.reads) <= 6
    hourly.vault.failure = None
    hourly.run(40.0)
    assert hourly.jobs_woken() == ["job1"]


@pytest.mark.parametrize(
    ("namespace", "path"), [("", "secret/data/app"), ("team", "team/secret/data/app"), ("a/b/", "a/b/secret/data/app")]
)
def test_a_pushed_path_counts_in_the_namespace_of_the_connection(namespace: str, path: str) -> None:
    watch = Watch(interval=3600.0, namespace=namespace)
    watch.bind(binding("web", "app"))
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    watch.forget()
    watch.watcher.pushed(f"elsewhere/{path}")
    watch.run(1.0)
    assert watch.vault.reads == []
    watch.watcher.pushed(path)
    watch.run(0.5)
    assert watch.vault.reads == ["secret/app"]


# --- the thread -------------------------------------------------------------------------------------------------------


class StuckVault:
    """Does not answer before it is let go."""

    def __init__(self) -> None:
        self.asked = Event()
        self.let_go = Event()

    def kv_metadata(self, mount: str, path: str) -> None:
        self.asked.set()
        self.let_go.wait(60.0)

    def kv_folder(self, mount: str, path: str) -> None:
        raise AssertionError


def test_stopping_does_not_wait_for_a_vault_that_does_not_answer() -> None:
    vault, store = StuckVault(), Store()
    store.upsert(binding("web", "app"))
    watcher = SecretWatcher(vault, store, lambda woken: None, interval_seconds=0.01, rng=random.Random(1))
    watcher.start()
    assert vault.asked.wait(10.0)
    started = time.monotonic()
    watcher.stop()
    assert time.monotonic() - started < 5.0
    vault.let_go.set()


class OddVault(StuckVault):
    """Fails in ways that nobody thought of, and then answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = Event()

    def kv_metadata(self, mount: str, path: str) -> None:
        if not self.asked.is_set():
            self.asked.set()
            raise ValueError("odd")
        self.answered.set()


def test_a_surprise_does_not_end_the_watch() -> None:
    vault, store = OddVault(), Store()
    store.upsert(binding("web", "app"))
    watcher = SecretWatcher(vault, store, lambda woken: None, interval_seconds=0.01)
    watcher.start()
    try:
        assert vault.answered.wait(10.0)
    finally:
        watcher.stop()


def test_how_long_no_look_was_answered_is_told_while_there_is_something_to_look_at(watch: Watch) -> None:
    watch.run(500.0)
    assert watch.watcher.silent_seconds() == 0, "there is nothing to look at"
    watch.vault.write("app", 1)
    watch.bind(binding("web", "app"))
    watch.run(120.0)
    assert watch.watcher.silent_seconds() < 40
    watch.vault.failure = GONE
    watch.run(300.0)
    assert watch.watcher.silent_seconds() > 260
    watch.vault.failure = None
    watch.run(120.0)
    assert watch.watcher.silent_seconds() < 120
