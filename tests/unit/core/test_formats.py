"""Files in well-known formats: whatever a secret holds, a real reader of the format gets just that."""

import string
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secretbinding.devstack.simulator.template import Dependency, TemplateError, load_json, render, secret_of
from secretbinding.devstack.simulator.template.values import to_json
from secretbinding.models.binding import FileFormat
from secretbinding.models.template_syntax import check
from secretbinding.render.formats import chosen, whole
from tests.support.readers import NASTY, read

FORMATS = list(FileFormat)
# A value of a secret that Nomad can render into a file: UTF-8, and no U+0000, which no variable can hold.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
identifiers = st.text(string.ascii_letters + "_", min_size=1, max_size=8)
# What no name of a field or in a file has (the model refuses it) is left out.
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]), min_size=1, max_size=12)


def rendered(text: str, data: Mapping[str, Any]) -> str:
    """What Nomad would write for a template's text, with this data in the secret."""
    asked = Dependency.of(["kv/app"])
    source = f'{{{{ with secret "kv/app" }}}}{text}{{{{ end }}}}'
    check(source)
    numbers = load_json(to_json(dict(data)))
    return render(source, {asked: secret_of({"data": numbers})}, {}, error_on_missing_key=True).text


@pytest.mark.parametrize("file_format", FORMATS)
def test_values_that_mean_something_to_a_reader_reach_it_as_they_are(file_format: FileFormat) -> None:
    text = rendered(chosen(file_format, ".Data", {name: name for name in NASTY}), NASTY)
    assert read(file_format, text, NASTY) == NASTY


@pytest.mark.parametrize("file_format", FORMATS)
@settings(max_examples=60, deadline=None)
@given(value=texts)
@example("'")
@example("\\'")
@example("\\")
@example("\r")
@example("\ud7ff\ue000\U00010000")
@example("\u07ff\u0800\uffff")
def test_any_value_reaches_a_reader_as_it_is(file_format: FileFormat, value: str) -> None:
    text = rendered(chosen(file_format, ".Data", {"A": "a", "B": "b", "C": "a"}), {"a": value, "b": "end"})
    assert read(file_format, text, ["A", "B", "C"]) == {"A": value, "B": "end", "C": value}


@settings(deadline=None)
@given(st.sampled_from([FileFormat.JSON, FileFormat.YAML, FileFormat.PROPERTIES]), names, names)
@example(FileFormat.PROPERTIES, "a b=c:#!\\", "}}{{")
@example(FileFormat.JSON, "{{", '"')
@example(FileFormat.YAML, "{{ ~", "\U0001f600")
def test_any_name_reaches_a_reader_as_it_is(file_format: FileFormat, name: str, field: str) -> None:
    text = rendered(chosen(file_format, ".Data", {name: field}), {field: "value"})
    assert read(file_format, text, []) == {name: "value"}


@pytest.mark.parametrize("file_format", [FileFormat.JSON, FileFormat.YAML])
@settings(deadline=None)
@given(data=st.dictionaries(names, texts | st.integers(-999, 999) | st.booleans() | st.none(), max_size=5))
@example({})
@example({"list": ["a", {"b": 1}], "map": {"x": "y"}})
def test_all_fields_reach_a_reader_with_their_types(file_format: FileFormat, data: dict[str, Any]) -> None:
    assert read(file_format, rendered(whole(file_format, ".Data"), data), []) == data


@pytest.mark.parametrize(
    ("value", "shown"), [(7, "7"), (True, "true"), (None, "null"), ({"a": ["b"]}, '{"a":["b"]}'), ("7", "7")]
)
@pytest.mark.parametrize("file_format", [FileFormat.DOTENV, FileFormat.SHELL, FileFormat.PROPERTIES])
def test_what_is_no_text_is_written_as_json_where_all_values_are_texts(
    file_format: FileFormat, value: Any, shown: str
) -> None:
    text = rendered(chosen(file_format, ".Data", {"A": "a"}), {"a": value})
    assert read(file_format, text, ["A"]) == {"A": shown}


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("field", ["missing", "is-missing"])
def test_a_field_that_is_missing_renders_no_file(file_format: FileFormat, field: str) -> None:
    with pytest.raises(TemplateError, match="missing"):
        rendered(chosen(file_format, ".Data", {"A": field}), {"a": "x"})


def test_a_field_that_a_kind_need_not_give_is_left_out() -> None:
    text = chosen(FileFormat.SHELL, ".Data", {"A": "a", "chain": "chain"}, frozenset({"chain"}))
    assert rendered(text, {"a": "x"}) == "export A='x'\n"
    assert rendered(text, {"a": "x", "chain": ["y"]}) == "export A='x'\nexport chain='[\"y\"]'\n"


@pytest.mark.parametrize(
    ("file_format", "text"),
    [
        (FileFormat.SHELL, "export PASS='it'\\''s'\nexport USER='app'\n"),
        (FileFormat.DOTENV, "PASS=\"it's\"\nUSER='app'\n"),
        (FileFormat.PROPERTIES, "PASS=it's\nUSER=app\n"),
        (FileFormat.YAML, '"PASS": "it\'s"\n"USER": "app"\n'),
        (FileFormat.JSON, '{ "PASS":"it\'s","USER":"app"}\n'),
    ],
)
def test_how_each_format_looks(file_format: FileFormat, text: str) -> None:
    fields = {"USER": "username", "PASS": "password"}
    assert rendered(chosen(file_format, ".Data", fields), {"username": "app", "password": "it's"}) == text
