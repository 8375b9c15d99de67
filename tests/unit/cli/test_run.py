"""Which sources `run` is asked for."""

import pytest

from secretbinding.cli.options import SourceName
from secretbinding.cli.running import parse_sources
from secretbinding.errors import UsageError


def test_several_paths_are_one_source_of_files() -> None:
    names, paths = parse_sources(["files=a", "nomad", "files=b=c", "nomad"])
    assert names == [SourceName.FILES, SourceName.NOMAD]
    assert paths == ["a", "b=c"]


@pytest.mark.parametrize("text", ["files", "files=", "nomad=x", "kubernetes=", "consul", ""])
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sources([text])
