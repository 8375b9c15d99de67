"""What the files source tells the engine, from what the files hold and what was known: pure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.errors import Problem
from secretbinding.models.key import BindingKey
from secretbinding.sources.files.deciding import Decision, FileState, Known, decide, read_confirmation
from secretbinding.sources.files.watching import read_state
from tests.support.builders import manifest

NOTHING: frozenset[str] = frozenset()


def key(name: str, tenant: str = "default") -> BindingKey:
    return BindingKey("files", tenant, name)


def holding(path: str, *names: str, job: str = "web") -> FileState:
    """A file with valid manifests of these names."""
    text = json.dumps({"kind": "List", "items": [manifest(name=name, job=job) for name in names]})
    return read_state(text.encode(), path, "default")


def broken(path: str, *names: str, job: str = "web") -> FileState:
    """A file whose manifests can be told apart and break a rule."""
    items = [manifest(lambda made: made["spec"].update(nonsense=1), name=name, job=job) for name in names]
    return read_state(json.dumps({"kind": "List", "items": items}).encode(), path, "default")


def unreadable() -> FileState:
    return FileState(problems=(Problem("cannot be read"),), opaque=True)


def after(*states: dict[str, FileState], confirmed: frozenset[str] = NOTHING) -> Decision:
    """The decision for the last of several states of the files, one after another."""
    known: dict[BindingKey, Known] = {}
    for state in states:
        decision = decide(known, state, confirmed, "default")
        known = dict(decision.known)
    return decision


def test_a_new_binding_is_delivered_and_an_unchanged_one_is_not() -> None:
    files = {"a": holding("a", "one")}
    assert [item.key for item in after(files).changed] == [key("one")]
    assert after(files, files).changed == ()
    assert [item.key for item in after(files, {"a": holding("a", "one", job="other")}).changed] == [key("one")]


def test_a_binding_that_is_taken_out_of_a_readable_listing_is_gone() -> None:
    decision = after({"a": holding("a", "one", "two")}, {"a": holding("a", "one")})
    assert decision.vanished == (key("two"),)
    assert key("two") not in decision.known


def test_a_binding_that_moves_to_another_file_stays() -> None:
    decision = after({"a": holding("a", "one", "two")}, {"a": holding("a", "one"), "b": holding("b", "two")})
    assert (decision.vanished, decision.changed) == ((), ())


def test_an_empty_listing_deletes_nothing() -> None:
    decision = after({"a": holding("a", "one")}, {})
    assert (decision.vanished, decision.held) == ((), (key("one"),))
    assert "no manifest left" in decision.why


def test_a_large_drop_deletes_nothing() -> None:
    decision = after({"a": holding("a", "one", "two", "three", "four", "five")}, {"a": holding("a", "one", "two")})
    assert (decision.vanished, len(decision.held)) == ((), 3)
    assert decision.why == "3 of 5 bindings are gone at once"


def test_half_of_them_is_no_large_drop_and_neither_are_two_of_three() -> None:
    assert len(after({"a": holding("a", *"abcdef")}, {"a": holding("a", *"abc")}).vanished) == 3
    assert len(after({"a": holding("a", *"abc")}, {"a": holding("a", "a")}).vanished) == 2


def test_what_was_held_is_gone_once_it_is_confirmed_by_name_and_no_more() -> None:
    files = {"a": holding("a", "one", "two", "three", "four")}, {"a": holding("a", "one")}
    decision = after(*files, confirmed=frozenset({"default/two"}))
    assert decision.vanished == (key("two"),)
    assert decision.held == (key("four"), key("three"))
    assert len(after(*files, confirmed=frozenset({"*"})).vanished) == 3
    assert after({"a": holding("a", "one")}, {}, confirmed=frozenset({"*"})).vanished == (key("one"),)


def test_a_broken_manifest_keeps_its_binding_at_the_job_it_had() -> None:
    decision = after({"a": holding("a", "one")}, {"a": broken("a", "one", job="other")})
    (item,) = decision.changed
    assert (item.key, item.binding, item.job) == (key("one"), None, "web")
    assert "nonsense" in str(item.problems[0])
    assert decision.vanished == ()


def test_a_manifest_that_was_never_valid_is_known_by_the_job_it_names() -> None:
    (item,) = after({"a": broken("a", "one", job="other")}).changed
    assert (item.key, item.binding, item.job) == (key("one"), None, "other")


def test_a_file_is_taken_whole_or_not_at_all() -> None:
    text = json.dumps({"kind": "List", "items": [manifest(name="good"), {**manifest(name="bad"), "kind": "Other"}]})
    decision = after({"a": read_state(text.encode(), "a", "default")})
    assert {item.key for item in decision.changed if item.binding is None} == {key("good"), key("bad")}


def test_text_that_is_no_yaml_keeps_what_the_file_held() -> None:
    decision = after({"a": holding("a", "one")}, {"a": read_state(b"x: [", "a", "default")})
    (item,) = decision.changed
    assert (item.key, item.binding, item.job) == (key("one"), None, "web")
    assert not decision.complete


def test_a_mended_manifest_is_delivered_again() -> None:
    good = {"a": holding("a", "one")}
    (item,) = after(good, {"a": broken("a", "one")}, good).changed
    assert item.binding is not None


def test_while_one_file_cannot_be_told_apart_nothing_is_deleted_even_when_confirmed() -> None:
    states = {"a": holding("a", "one"), "b": holding("b", "two")}, {"b": unreadable()}
    decision = after(*states, confirmed=frozenset({"*"}))
    assert decision.vanished == ()
    assert key("one") in decision.held


def test_of_two_manifests_of_one_name_neither_is_followed() -> None:
    decision = after({"a": holding("a", "one")}, {"a": holding("a", "one"), "b": holding("b", "one", job="other")})
    (item,) = decision.changed
    assert (item.binding, item.job) == (None, "web")
    assert "twice" in str(item.problems[0])


def test_a_request_to_rotate_is_taken_from_the_annotation() -> None:
    at = "2026-01-01T00:00:00Z"
    made = manifest(lambda one: one["metadata"].update(annotations={"nomad-vault.io/rotate-requested-at": at}))
    (item,) = after({"a": read_state(json.dumps(made).encode(), "a", "default")}).changed
    assert item.rotate_requested_at == at


@pytest.mark.parametrize("text", ["default/one\n*\n", "  default/one # why\n\n#x\n*"])
def test_a_confirmation_has_a_name_a_line_and_comments(text: str) -> None:
    assert read_confirmation(text) == {"default/one", "*"}


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(NAMES, NAMES)
def test_every_known_binding_is_afterwards_known_or_told_to_be_gone(before: list[str], now: list[str]) -> None:
    first = {"a": holding("a", *before)} if before else {}
    second = {"a": holding("a", *now)} if now else {}
    decision = after(first, second)
    assert set(decision.known) | set(decision.vanished) >= {key(name) for name in before}
    assert not set(decision.vanished) & {key(name) for name in now}
    lost = set(before) - set(now)
    assert decision.vanished == () or (now and (len(lost) < 3 or 2 * len(lost) <= len(before)))
