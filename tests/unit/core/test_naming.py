"""Names are one-to-one with their owners and legal in Vault; marks survive any text."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import (
    INSTANCE_PATTERN,
    Owner,
    mark_json,
    name_prefix,
    owner_fields,
    owner_of,
    policy_name,
    read_mark_json,
    role_name,
    stable_digest,
)

LEGAL = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?\Z")
instances = st.from_regex(INSTANCE_PATTERN, fullmatch=True)
names = st.text(st.sampled_from("abAB01-._/~:äßİK é"), min_size=1, max_size=8) | st.text(min_size=1, max_size=300)
owners = st.builds(
    Owner, instances, st.builds(BindingKey, st.sampled_from(["kubernetes", "nomad", "files"]), names, names)
)
workloads = st.builds(WorkloadKey, names, names | st.just(""), names, names)
tasks = st.none() | st.tuples(names, names)


def role(instance: str, workload: WorkloadKey, ref: tuple[str, str] | None) -> str:
    return role_name(instance, workload, *(ref or (None, None)))


@given(owners, owners)
@example(Owner("i", BindingKey("files", "a-b", "c")), Owner("i", BindingKey("files", "a", "b-c")))
@example(Owner("i", BindingKey("files", "a.b", "c")), Owner("i", BindingKey("files", "a", "b.c")))
@example(Owner("i", BindingKey("files", "t", "A")), Owner("i", BindingKey("files", "t", "a")))
@example(Owner("i", BindingKey("files", "t", "a/b")), Owner("i", BindingKey("files", "t", "a-b")))
@example(Owner("i", BindingKey("files", "t", "K")), Owner("i", BindingKey("files", "t", "k")))
@example(Owner("i", BindingKey("files", "t", "a")), Owner("i", BindingKey("nomad", "t", "a")))
def test_two_owners_never_share_a_policy(one: Owner, other: Owner) -> None:
    assert (policy_name(one) == policy_name(other)) == (one == other)


@given(instances, workloads, tasks, instances, workloads, tasks)
@example("i", WorkloadKey("d", "", "n", "a-b"), ("g", "c"), "i", WorkloadKey("d", "", "n", "a"), ("g", "b-c"))
@example("i", WorkloadKey("d", "", "n", "a"), ("b-c", "d"), "i", WorkloadKey("d", "", "n", "a"), ("b", "c-d"))
@example("i", WorkloadKey("d", "", "n", "a/b"), None, "i", WorkloadKey("d", "", "n", "a.b"), None)
@example("i", WorkloadKey("d", "", "n", "Web"), None, "i", WorkloadKey("d", "", "n", "web"), None)
@example("i", WorkloadKey("d", "", "n", "a"), None, "i", WorkloadKey("d", "", "n", "a"), ("g", "t"))
def test_two_tasks_never_share_a_role(
    one: str, job: WorkloadKey, ref: tuple[str, str] | None, two: str, other: WorkloadKey, at: tuple[str, str] | None
) -> None:
    assert (role(one, job, ref) == role(two, other, at)) == ((one, job, ref) == (two, other, at))


@given(owners, workloads, tasks)
def test_names_are_what_vault_takes_and_bounded(
    owner: Owner, workload: WorkloadKey, ref: tuple[str, str] | None
) -> None:
    for name in (policy_name(owner), role(owner.instance, workload, ref)):
        assert LEGAL.match(name)
        assert len(name) < 128
        assert name.startswith(name_prefix(owner.instance))


@given(owners)
def test_a_policy_is_never_named_like_a_role(owner: Owner) -> None:
    workload = WorkloadKey(owner.instance, owner.key.source, owner.key.tenant, owner.key.name)
    assert policy_name(owner) != role_name(owner.instance, workload, None, None)


@given(instances, instances)
@example("a", "a-b")
@example("a", "ab")
def test_no_instances_names_begin_like_anothers(one: str, other: str) -> None:
    assert name_prefix(other).startswith(name_prefix(one)) == (one == other)


@pytest.mark.parametrize("bad", ["", "A", "a.b", "-a", "a-", "a" * 21, "a\n", "a/b", "ä"])
def test_an_instance_is_a_short_plain_word(bad: str) -> None:
    assert not INSTANCE_PATTERN.match(bad)


def test_names_are_the_same_on_every_release() -> None:
    owner = Owner("default", BindingKey("kubernetes", "payments", "payments-api"))
    assert policy_name(owner) == "nsb.default.payments-api.szl6lwxwco5am6cru5kbwmt5cs"
    workload = WorkloadKey("default", "", "default", "payments-api")
    assert role_name("default", workload, None, None) == "nsb.default.payments-api.qxfac4b7iowhe47igu5cjfycn2"
    assert role_name("default", workload, "api", "server").startswith("nsb.default.payments-api-server.")


@given(
    owners, st.dictionaries(st.sampled_from(["roles", "pin", "slot"]), st.text() | st.lists(st.text() | st.integers()))
)
@example(Owner("i", BindingKey("files", "*/", "a*/}}")), {"slot": "*/ }} {{"})
def test_a_mark_survives_any_text_and_cannot_end_its_comment(owner: Owner, more: dict[str, object]) -> None:
    text = mark_json({**more, **owner_fields(owner)})
    assert "*/" not in text
    assert "\n" not in text
    assert text.isascii()
    fields = read_mark_json(text)
    assert fields == {**more, **owner_fields(owner)}
    assert owner_of(fields) == owner


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{} {}"])
def test_a_text_that_is_no_object_is_no_mark(text: str) -> None:
    assert read_mark_json(text) is None


@pytest.mark.parametrize("field", ["instance", "source", "tenant", "name"])
@pytest.mark.parametrize("value", [None, "", 3])
def test_a_mark_without_a_whole_owner_is_nobodys(field: str, value: object) -> None:
    fields = {**owner_fields(Owner("i", BindingKey("files", "t", "n"))), field: value}
    assert owner_of(fields) is None


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert stable_digest({"a": 1, "b": [2]}) == stable_digest({"b": [2], "a": 1})
    assert stable_digest(["a", "b"]) != stable_digest(["ab"])
