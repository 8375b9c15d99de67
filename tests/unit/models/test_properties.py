"""What holds for every manifest: nothing accepted can break out, and writing out loses nothing."""

import json
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
import re2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from secretbinding.errors import ManifestError
from secretbinding.models.crd import object_schema
from secretbinding.models.files import file_path
from secretbinding.models.loading import parse_manifests, parse_object
from secretbinding.models.text import compile_re2
from secretbinding.models.types import (
    Destination,
    Duration,
    EnvMap,
    JobId,
    Mount,
    VaultPath,
)
from secretbinding.strictyaml import dump
from tests.unit.models.manifests import DESTINATIONS, DURATIONS, ENV_NAMES, PATHS, Json, manifests

# Mostly what breaks out of something, so that few letters are needed to find a hole.
NASTY = st.text(
    st.sampled_from("ab/._-:$ \t\n\r\x00\x7f\x85\u200b\u2028\u202e\"'`{}\\*+?#%&|<>()[]^~!é") | st.characters()
)


def accepts(annotation: Any) -> Callable[[object], bool]:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def accepted(value: object) -> bool:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    return accepted


accepts_path, accepts_mount, accepts_destination = accepts(VaultPath), accepts(Mount), accepts(Destination)
accepts_env, accepts_duration, accepts_job = accepts(EnvMap), accepts(Duration), accepts(JobId)


def breaks_out(text: str) -> bool:
    """Whether a text could end a quoted string, an action or a line, in HCL, consul-template, JSON or an env file."""
    return len(text.splitlines()) > 1 or any(char in text for char in "\"'`\\{}\n\r\x00\x1b\u202e")


@given(NASTY | PATHS)
@example("a/../b")
@example("a//b")
@example("a\n")
def test_no_path_or_mount_that_is_accepted_can_break_out_or_climb(text: str) -> None:
    for accepted in (accepts_path, accepts_mount):
        if accepted(text):
            assert not breaks_out(text)
            assert not any(char in text for char in "*+?#%")
            assert not {"", ".", ".."} & set(text.split("/"))
            assert "${" not in text


@given(NASTY.map(lambda text: f"secrets/{text}") | DESTINATIONS | NASTY)
@example("secrets/../../etc/passwd")
@example("../alloc/../x")
def test_no_destination_that_is_accepted_can_break_out_or_leave_the_directories(text: str) -> None:
    if accepts_destination(text):
        assert not breaks_out(text)
        assert "$" not in text
        top, _, rest = file_path(text).removeprefix("../").partition("/")
        assert top in (("alloc",) if text.startswith("../") else ("secrets", "local"))
        assert rest
        assert not {"", ".", ".."} & set(rest.split("/"))


@given(st.text(st.sampled_from(string.printable) | st.characters(), max_size=8) | ENV_NAMES)
@example("A\n")
@example("é")
def test_an_env_name_that_is_accepted_is_an_ascii_identifier_of_the_users_own(name: str) -> None:
    if accepts_env({name: "field"}):
        assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII)
        assert not name.startswith(("LD_", "NOMAD_"))


@given(NASTY)
def test_a_job_id_that_is_accepted_holds_no_space_and_nothing_unseen(text: str) -> None:
    if accepts_job(text):
        assert not any(char in text for char in " \t\n\r\x00\x7f\x85\xa0\u200b\u2028\u202e\ufeff")


@given(PATHS, DESTINATIONS, ENV_NAMES)
def test_usual_paths_destinations_and_names_are_accepted(path: str, destination: str, name: str) -> None:
    assume(not path.startswith(("sys", "cubbyhole")))
    assert accepts_path(path)
    assert accepts_mount(path)
    assert accepts_destination(destination)
    assert accepts_env({name: "field"})


@given(st.text(st.sampled_from("0123456789hms. -+µud")))
def test_a_duration_that_is_accepted_has_a_length(text: str) -> None:
    if accepts_duration(text):
        assert Duration(text).seconds >= 0


@given(st.lists(st.tuples(st.integers(0, 99999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=3))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    unit = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    duration = Duration.parse("".join(f"{number}{name}" for number, name in parts))
    assert duration.seconds == pytest.approx(sum(number * unit[name] for number, name in parts))


@settings(deadline=None)
@given(manifests())
def test_a_legal_manifest_is_accepted_and_comes_back_from_its_own_text_unchanged(manifest: Json) -> None:
    (binding,) = parse_manifests(json.dumps(manifest))
    text = dump(binding.to_manifest())
    assert parse_manifests(text) == [binding]
    assert parse_object(binding.to_manifest(), source="kubernetes") == binding


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, member in members for place in ((*path, key), *places(member, (*path, key)))]


def with_changed(manifest: Json, path: tuple[Any, ...], value: Any) -> Json:
    """A copy with another value at a path."""
    changed: Json = json.loads(json.dumps(manifest))
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@settings(deadline=None)
@given(manifests(), st.data())
def test_whatever_stands_where_it_does_not_belong_gives_problems_in_words_and_never_another_failure(
    manifest: Json, data: st.DataObject
) -> None:
    changed = with_changed(manifest, data.draw(st.sampled_from(places(manifest))), data.draw(JSON_VALUES))
    try:
        parse_object(changed, source="kubernetes")
    except ManifestError as error:
        for problem in error.problems:
            assert problem.remedy
            assert "Input should" not in problem.message
            assert "Value error" not in problem.message


def patterns(schema: Any) -> set[str]:
    """All patterns in a schema."""
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*(patterns(value) for value in schema.values()))
    return set().union(*(patterns(value) for value in schema)) if isinstance(schema, list) else set()


@pytest.mark.parametrize("pattern", sorted(patterns(object_schema())))
@given(text=NASTY | st.text(st.characters(codec="utf-8")) | DURATIONS | PATHS)
def test_a_pattern_means_the_same_to_the_model_and_to_the_api_server(pattern: str, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert bool(compile_re2(pattern).search(text)) == bool(re2.search(pattern, text))
