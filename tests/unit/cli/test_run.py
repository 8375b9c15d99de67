"""Which sources `run` is asked for."""

import pytest

from secretbinding.cli.options import SourceName
from secretbinding.cli.running import parse_policies_option, parse_sources
from secretbinding.errors import UsageError


def test_several_paths_are_one_source_of_files() -> None:
    names, paths = parse_sources(["files=a", "nomad", "files=b=c", "nomad"])
    assert names == [SourceName.FILES, SourceName.NOMAD]
    assert paths == [("", "a"), ("", "b=c")]


def test_a_tenant_stands_before_the_path_of_its_files() -> None:
    names, paths = parse_sources(["files:payments=a", "files:*=/b:c=d"])
    assert names == [SourceName.FILES]
    assert paths == [("payments", "a"), ("*", "/b:c=d")]


def test_policies_come_from_where_bindings_come_from_but_never_from_their_files() -> None:
    sources = [SourceName.NOMAD, SourceName.FILES]
    assert parse_policies_option(None, sources) == ([SourceName.NOMAD], [])
    assert parse_policies_option(["files=p", "kubernetes"], sources) == (
        [SourceName.FILES, SourceName.KUBERNETES],
        ["p"],
    )


@pytest.mark.parametrize("text", ["consul", "files", "nomad=x", "files:*=x"])
def test_what_is_no_place_of_policies_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policies_option([text], [])


@pytest.mark.parametrize(
    "text", ["files", "files=", "nomad=x", "kubernetes=", "consul", "", "files:=x", "files:a/b=x", "nomad:a"]
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sources([text])
