"""Where policies come from: what is broken stays as it was, what is out of sight is not gone."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from secretbinding.engine.policies import PolicyBoard
from secretbinding.errors import Denied
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policies
from secretbinding.ports import Nomad, Variable, VariableMeta
from secretbinding.sources.policies import FilePolicies, LabelBook, NomadPolicies
from tests.support.world import wait_until

Json = dict[str, Any]


class Sink:
    """What a source told last."""

    def __init__(self) -> None:
        self.names: list[str] | None = None
        self.unreadable: list[str] = []
        self.why = ""

    def deliver(self, source: str, policies: Sequence[SecretBindingPolicy], unreadable: Sequence[str]) -> None:
        self.names, self.unreadable = [policy.metadata.name for policy in policies], list(unreadable)

    def failed(self, source: str, why: str) -> None:
        self.why = why


def text(name: str, **spec: Any) -> str:
    body: Json = {
        "tenants": [{"names": ["*"]}],
        "workloads": [{"namespaces": ["*"]}],
        "secrets": [{"mounts": ["secret"], "paths": ["*"]}],
        **spec,
    }
    head = {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBindingPolicy"}
    return json.dumps({**head, "metadata": {"name": name}, "spec": body})


BROKEN = text("x", tenants=[])


def test_policies_in_files_come_change_and_go(tmp_path: Path) -> None:
    sink, source = Sink(), FilePolicies([str(tmp_path)])
    (tmp_path / "a.yaml").write_text(text("one"))
    source.scan(sink)
    assert sink.names == ["one"]
    (tmp_path / "a.yaml").write_text(text("two"))
    (tmp_path / "b.yaml").write_text(text("three"))
    source.scan(sink)
    assert sink.names == ["two", "three"]
    (tmp_path / "a.yaml").unlink()
    source.scan(sink)
    assert sink.names == ["three"]


def test_a_policy_that_breaks_stays_as_it_was_and_one_that_never_was_good_is_told(tmp_path: Path) -> None:
    sink, source = Sink(), FilePolicies([str(tmp_path)])
    (tmp_path / "a.yaml").write_text(text("one"))
    source.scan(sink)
    (tmp_path / "a.yaml").write_text(BROKEN)
    source.scan(sink)
    assert (sink.names, sink.unreadable) == (["one"], [])
    (tmp_path / "b.yaml").write_text(BROKEN)
    source.scan(sink)
    assert (sink.names, sink.unreadable) == (["one"], [str(tmp_path / "b.yaml")])


def test_a_directory_that_is_gone_takes_no_policy_with_it(tmp_path: Path) -> None:
    sink, source = Sink(), FilePolicies([str(tmp_path / "policies")])
    source.scan(sink)
    assert sink.names is None
    assert "cannot be read" in sink.why
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.yaml").write_text(text("one"))
    source.scan(sink)
    (tmp_path / "policies").rename(tmp_path / "elsewhere")
    source.scan(sink)
    assert sink.names == ["one"]


class Variables:
    """Nomad's variables, with rights to see them or without."""

    def __init__(self, **texts: str) -> None:
        self.texts = {f"nomad-vault/policies/{name}": body for name, body in texts.items()}
        self.blind = False

    def rows(self) -> list[VariableMeta]:
        found = [] if self.blind else sorted(self.texts)
        return [VariableMeta("own", path, zlib.crc32(self.texts[path].encode())) for path in found]

    def read_variable(self, namespace: str, path: str) -> Variable | None:
        if self.blind:
            raise Denied("no right", system="nomad")
        body = self.texts.get(path)
        items: Mapping[str, str] = {"manifest": body} if body is not None else {}
        return Variable("own", path, zlib.crc32(body.encode()), items) if body is not None else None


def nomad_source(variables: Variables) -> NomadPolicies:
    return NomadPolicies(cast(Nomad, variables), "own")


def test_policies_in_variables_come_change_and_go() -> None:
    variables, sink = Variables(a=text("one")), Sink()
    source = nomad_source(variables)
    source.take(sink, variables.rows())
    assert sink.names == ["one"]
    variables.texts["nomad-vault/policies/a"] = text("two")
    source.take(sink, variables.rows())
    assert sink.names == ["two"]
    variables.texts.clear()
    source.take(sink, variables.rows())
    assert sink.names == []


@pytest.mark.parametrize("texts", [{}, {"a": text("one")}])
def test_an_empty_list_for_lack_of_rights_is_not_taken_for_no_policies(texts: dict[str, str]) -> None:
    variables, sink = Variables(**texts), Sink()
    source = nomad_source(variables)
    source.take(sink, variables.rows())
    before = sink.names
    variables.blind = True
    with pytest.raises(Denied):
        source.take(sink, variables.rows())
    assert sink.names == before


def test_a_policy_that_is_there_and_not_listed_is_not_gone() -> None:
    variables, sink = Variables(a=text("one"), b=text("two")), Sink()
    source = nomad_source(variables)
    source.take(sink, variables.rows())
    with pytest.raises(Denied, match="is there and not listed"):
        source.take(sink, variables.rows()[:1])


def test_a_board_knows_nothing_until_every_source_has_delivered() -> None:
    changes: list[str] = []
    board = PolicyBoard(["files", "nomad"], lambda: changes.append("changed"))
    assert board.known().unknown == "the policies of files are not known yet"
    board.deliver("files", (), ())
    board.failed("nomad", "no leader")
    assert board.known().unknown == "the policies of nomad are not known yet: no leader"
    assert not board.wait(0.0)
    board.deliver("nomad", (), ())
    assert board.known().unknown == ""
    assert board.wait(0.0)
    changes.clear()
    board.deliver("nomad", (), ())
    assert changes == []
    board.deliver("nomad", (), ("broken",))
    assert board.known().unknown == "policy broken cannot be read, and may be a Deny"
    assert changes == ["changed"]


def test_policies_that_are_replaced_one_after_the_other_count_together() -> None:
    (one,), (two,) = parse_policies(text("one")), parse_policies(text("two"))
    seen: list[list[str]] = []
    board = PolicyBoard(["nomad"], settle_seconds=0.1)
    board.changed = lambda: seen.append([policy.metadata.name for policy in board.known().policies])
    board.deliver("nomad", (one,), ())
    board.deliver("nomad", (), ())
    assert [policy.metadata.name for policy in board.known().policies] == ["one"]
    board.deliver("nomad", (two,), ())
    wait_until("they count", lambda: seen == [["one"], ["two"]])
    board.deliver("nomad", (), ())
    board.deliver("nomad", (two,), ())
    board.stop()
    assert seen == [["one"], ["two"]]


def test_a_source_that_fails_later_keeps_what_it_delivered() -> None:
    board = PolicyBoard(["nomad"])
    board.deliver("nomad", (), ())
    board.failed("nomad", "no leader")
    assert board.known().unknown == ""


def test_labels_are_known_of_tenants_that_are_listed_and_none_are_had_by_files() -> None:
    listed: dict[str, dict[str, str]] = {"payments": {"team": "money"}}
    book = LabelBook({"kubernetes": lambda: listed}, lambda: True)
    assert book("kubernetes", "payments") is None
    assert book.look()
    assert not book.look()
    assert book("kubernetes", "payments") == {"team": "money"}
    assert book("kubernetes", "billing") is None
    assert book("files", "payments") == {}


def test_labels_that_cannot_be_listed_stay_as_they_were() -> None:
    refused = False

    def listed() -> dict[str, dict[str, str]]:
        if refused:
            raise Denied("no right", system="kubernetes")
        return {"payments": {"team": "money"}}

    book = LabelBook({"kubernetes": listed}, lambda: True)
    book.look()
    refused = True
    assert not book.look()
    assert book("kubernetes", "payments") == {"team": "money"}
