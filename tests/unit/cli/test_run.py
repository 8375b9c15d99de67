"""Which sources `run` is asked for, and how it ends."""

import time
from unittest.mock import Mock

import pytest

from secretbinding.cli.options import SourceName
from secretbinding.cli.running import parse_policies_option, parse_sources, stop
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


def test_the_webhook_answers_until_the_end_since_it_is_asked_a_while_longer() -> None:
    order = Mock()
    began = time.monotonic()
    order.webhook.stop.side_effect = lambda: order.after(time.monotonic() - began)
    stop(order.controller, order.webhook, None, 0.2, ended=order.ended)
    assert [call[0] for call in order.mock_calls] == ["controller.stop", "webhook.stop", "after", "ended"]
    assert order.after.call_args[0][0] >= 0.2


def test_without_a_webhook_nothing_is_waited_for() -> None:
    began = time.monotonic()
    stop(Mock(), None, None, 60.0, ended=Mock())
    assert time.monotonic() - began < 30
