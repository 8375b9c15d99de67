"""How jobs are divided into shards, and shards among the controllers that take part."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from secretbinding.leadership.shards import Roll, assigned, shard_of
from secretbinding.models.key import WorkloadKey

MEMBERS = st.sets(st.from_regex(r"\A[a-z0-9-]{1,12}\Z"), min_size=1, max_size=9)


def job(name: str, namespace: str = "default") -> WorkloadKey:
    return WorkloadKey("default", "", namespace, name)


def test_a_job_stays_in_its_shard_in_every_process_and_release() -> None:
    assert [shard_of(job(name), 16) for name in ("web", "api", "a/b")] == [8, 7, 7]
    assert shard_of(job("web", "other"), 16) != shard_of(job("web"), 16)
    assert shard_of(job("web"), 1) == 0


def test_jobs_are_spread_evenly_over_shards() -> None:
    counts = Counter(shard_of(job(f"job-{number}"), 8) for number in range(8000))
    assert set(counts) == set(range(8))
    assert max(counts.values()) < 1.15 * min(counts.values())


@given(members=MEMBERS, total=st.integers(1, 64))
def test_every_shard_has_one_holder_and_nobody_more_than_its_part(members: set[str], total: int) -> None:
    found = assigned(members, total)
    assert set(found) == set(range(total))
    assert set(found.values()) <= members
    assert max(Counter(found.values()).values()) <= -(-total // len(members))
    assert found == assigned(sorted(members, reverse=True), total), "in whatever order they are named"


@given(members=MEMBERS, total=st.integers(1, 64))
def test_when_one_more_comes_little_more_changes_hands_than_it_takes(members: set[str], total: int) -> None:
    before, after = assigned(members, total), assigned(members | {"one-more-member"}, total)
    taken = sum(1 for name in after.values() if name == "one-more-member")
    moved = sum(1 for shard in before if before[shard] != after[shard])
    assert moved <= taken + len(members) + total // 2


def test_nobody_holds_anything_when_nobody_takes_part() -> None:
    assert assigned((), 4) == {}


def test_who_has_not_been_seen_to_beat_for_a_while_is_gone_and_may_come_again() -> None:
    roll = Roll(10.0)
    assert roll.note({"a": "1", "b": "1"}, 0.0) == {"a", "b"}
    assert roll.note({"a": "2", "b": "1"}, 9.0) == {"a", "b"}
    assert roll.note({"a": "2", "b": "1"}, 10.0) == {"a"}
    assert roll.long_gone(10.0, 10.0) == {"b"}
    assert roll.note({"a": "2", "b": "2"}, 18.0) == {"a", "b"}
    assert roll.note({"b": "2"}, 18.5) == {"b"}, "who has left is gone at once"
