"""The strict YAML reader."""

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding import strictyaml
from secretbinding.errors import ManifestError, Problem
from secretbinding.strictyaml import Limits, dump, field_name, load

TEXTS = st.text(st.characters(codec="utf-8"))
# YAML has a limit of 1,024 characters for a key.
KEYS = st.text(st.characters(codec="utf-8"), max_size=40)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: which one is there depends on how PyYAML was built."""
    loader = getattr(yaml, "CSafeLoader", None) if request.param == "C" else yaml.SafeLoader
    if loader is None:
        pytest.skip("this PyYAML has no C parser")
    monkeypatch.setattr(strictyaml, "_LOADER", loader)


def value_of(text: str | bytes) -> Any:
    (document,) = load(text)
    return document.value


def problems_of(text: str | bytes, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        load(text, **options)
    return caught.value.problems


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "2024-01-01", "12:30:00", "2024-01-01T00:00:00Z", "0b11", "1_000", "="]
)
def test_words_that_older_yaml_reads_as_something_else_are_texts(word: str) -> None:
    assert value_of(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("0600", 600),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
    ],
)
def test_plain_words_are_read_by_the_core_schema_of_yaml_1_2(word: str, value: object) -> None:
    assert value_of(f"a: {word}") == {"a": value}


def test_quoted_and_tagged_words_are_texts() -> None:
    assert value_of("[\"1\", 'true', !!str 5, ! 6, '~']") == ["1", "true", "5", "6", "~"]


def test_every_value_has_its_place_and_a_member_of_a_map_that_of_its_key() -> None:
    (document,) = load("a: 1\nb:\n  - x\n  - {c: y}\n")
    assert document.places == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", 0): (3, 5),
        ("b", 1): (4, 5),
        ("b", 1, "c"): (4, 6),
    }


def test_the_place_of_something_absent_is_that_of_the_nearest_thing_around_it() -> None:
    (document,) = load("a:\n  b: {c: 1}\n")
    assert document.place(("a", "b", "x", 3)) == (2, 3)


def test_the_text_of_an_unquoted_number_is_kept() -> None:
    (document,) = load("a: 0600\n")
    assert document.plain == {("a",): "0600"}


def test_documents_keep_their_lines_within_the_stream() -> None:
    first, second = load("a: 1\n---\n---\n# nothing\n---\nb: 2\n")
    assert (first.value, second.value) == ({"a": 1}, {"b": 2})
    assert second.place(("b",)) == (6, 1)


def test_every_duplicate_key_is_told_with_both_lines() -> None:
    found = problems_of("a: 1\nb: {c: 1, c: 2}\na: 3\n", file="x.yaml")
    assert [str(problem) for problem in found] == [
        "x.yaml:2:11: b.c: the key `c` is given twice, first in line 2; remove one of them",
        "x.yaml:3:1: a: the key `a` is given twice, first in line 1; remove one of them",
    ]


def test_an_alias_stands_for_its_anchor() -> None:
    assert value_of("a: &x [1, {b: 2}]\nc: *x\n") == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


def test_an_anchor_is_known_in_its_own_document_only() -> None:
    assert "no anchor `&x`" in problems_of("a: &x 1\n---\nb: *x\n")[0].message


def test_an_anchor_that_contains_itself_is_refused() -> None:
    assert problems_of("&a [*a]")


def test_aliases_that_stand_for_too_much_are_refused_before_anything_grows() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 60))
    assert "aliases stand for more than" in problems_of(text)[0].message


@pytest.mark.parametrize("deep", ["[" * 100_000, "a: " * 5 + "\n", "- " * 5_000 + "x", "{a: " * 5_000])
def test_deep_nesting_is_refused_and_exhausts_nothing(deep: str) -> None:
    assert problems_of(deep)


def test_a_text_over_the_limit_is_refused_before_it_is_read() -> None:
    assert "the limit is 10" in problems_of("a: [" + "x" * 10, limits=Limits(max_bytes=10))[0].message


@pytest.mark.parametrize("text", [b"\xff\xfea", b"a: \xc3\x28", "a: \udc80", "a: b\x00", "a: \x07", "\x1b[31m: x"])
def test_what_is_no_plain_text_is_refused_with_its_line(text: str | bytes) -> None:
    (problem,) = problems_of(text)
    assert problem.line == 1


def test_an_escape_that_is_half_a_character_is_refused() -> None:
    assert problems_of('a: "\\ud800"')


def test_a_byte_order_mark_is_ignored() -> None:
    assert value_of("\ufeffa: 1\n".encode()) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["a: !!python/name:os.system", "a: !!binary aGk=", "a: !!set {b}", "a: !env X", "!!timestamp a: 1", "!x {a: 1}"],
)
def test_tags_are_refused_and_construct_nothing(text: str) -> None:
    assert "tag" in problems_of(text)[0].message


@pytest.mark.parametrize(
    "text", ["1: a", "true: a", "~: a", "1.5: a", "? [a]\n: b", "? {a: b}\n: c", "&x a: 1\n*x : 2"]
)
def test_a_key_that_is_no_plain_text_is_refused(text: str) -> None:
    assert problems_of(text)


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "1e999", ".inf", "-.INF", ".nan", "0x" + "f" * 17])
def test_a_number_that_json_or_an_api_server_cannot_carry_is_refused(number: str) -> None:
    assert "no number that JSON can carry" in problems_of(f"a: {number}")[0].message


def test_paths_are_written_as_people_write_them() -> None:
    assert field_name(("spec", "secrets", 0, "env", "a/b", "c\n")) == 'spec.secrets[0].env["a/b"]["c\\u000a"]'


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_means_the_same_as_to_a_json_parser(value: Any) -> None:
    documents = load(json.dumps(value))
    assert [document.value for document in documents] == ([] if value is None else [value])


@settings(deadline=None)
@given(JSON_VALUES.filter(lambda value: value is not None))
def test_what_is_written_means_the_same_here_and_to_an_older_reader(value: Any) -> None:
    text = dump(value)
    assert [document.value for document in load(text)] == [value]
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize("word", ["08", "1e3", "0o7", "yes", "12:30:00", "2024-01-01", "~", "", "<<", "=", "a: b", "#"])
def test_a_word_that_could_be_misread_is_written_in_quotes(word: str) -> None:
    assert dump([word]).removeprefix("- ")[0] in "'\""


def test_a_text_of_several_lines_is_written_as_a_block() -> None:
    assert dump({"a": "one\ntwo\n"}) == "a: |\n  one\n  two\n"


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#,? \n\t\\~01.<=")))
def test_any_text_gives_documents_or_problems_and_nothing_else(text: str) -> None:
    with contextlib.suppress(ManifestError):
        for document in load(text):
            assert json.loads(json.dumps(document.value, allow_nan=False)) == document.value


@given(st.binary(max_size=64))
def test_any_bytes_give_documents_or_problems_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ManifestError):
        load(data)
