"""Which secrets are watched, and which of them a request is about."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.engine.store import Store
from secretbinding.kinds import KINDS, Subject
from secretbinding.sources.base import SourceItem
from secretbinding.watch.audit_entries import changed_path
from secretbinding.watch.targets import Targets, targets_of
from tests.unit.watch.test_audit_entries import line
from tests.unit.watch.world import binding, of_kind


def targets(*items: SourceItem) -> Targets:
    store = Store()
    for item in items:
        store.upsert(item)
    return targets_of(store.snapshot(), frozenset())


def about(path: str, *items: SourceItem) -> list[str]:
    return sorted(f"{found.mount}:{found.name}" for found in targets(*items).about(path))


STATIC = of_kind("static", "database", mount="database", staticRole="app")
DYNAMIC = of_kind("dynamic", "database", mount="database", role="reader")
WEB = of_kind("web", "pki", mount="team/pki", role="web", commonName="a.example")
OTHER = of_kind("other", "pki", mount="team/pki", role="other", commonName="a.example")


def test_bindings_that_ask_for_the_same_make_one_target() -> None:
    found = targets(
        *(of_kind(f"d{number}", "database", mount="database", staticRole="app") for number in range(5)),
        *(of_kind(f"p{number}", "pki", mount="pki", role="web", commonName=f"{number}.example") for number in range(5)),
    )
    assert sorted(found.users) == [Subject("database", "database", "app", "static"), Subject("pki", "pki", "web")]
    assert [len(users) for users in found.users.values()] == [5, 5]


def test_what_the_answer_depends_on_makes_another_target() -> None:
    lives = ({}, {"ttl": "1h"}, {"ttl": "60m"}, {"ttl": "2h"})
    found = targets(
        *(of_kind(f"p{n}", "pki", mount="pki", role="web", commonName="a.b", **more) for n, more in enumerate(lives))
    )
    assert len(found.users) == 3


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("generic", {"mount": "aws", "path": "creds/app"}),
        ("generic", {"mount": "aws", "path": "creds/app", "maxTTL": "1h"}),
        ("kv", {"mount": "old", "path": "app", "engine": "v1"}),
    ],
)
def test_what_tells_nothing_is_no_target(kind: str, fields: dict[str, Any]) -> None:
    assert targets(of_kind("a", kind, **fields)).users == {}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("secret/data/team/app", ["secret:team/app"]),
        ("secret/metadata/team/app", ["secret:team/app"]),
        ("secret/data/team", []),
        ("other/data/team/app", []),
        ("database/rotate-role/app", ["database:app"]),
        ("database/static-roles/app", ["database:app"]),
        ("database/roles/reader", ["database:reader"]),
        ("database/rotate-root/postgres", []),
        ("database/static-roles/nobody", []),
        ("database/config/postgres", []),
        ("team/pki/roles/web", ["team/pki:web"]),
        ("team/pki/root/rotate/internal", ["team/pki:other", "team/pki:web"]),
        ("team/pki/root/generate/internal", ["team/pki:other", "team/pki:web"]),
        ("team/pki/root/replace", ["team/pki:other", "team/pki:web"]),
        ("team/pki/root", ["team/pki:other", "team/pki:web"]),
        ("team/pki/issuers/import/bundle", ["team/pki:other", "team/pki:web"]),
        ("team/pki/issuer/default", ["team/pki:other", "team/pki:web"]),
        ("team/pki/config/issuers", ["team/pki:other", "team/pki:web"]),
        ("team/pki/intermediate/set-signed", ["team/pki:other", "team/pki:web"]),
        ("pki/config/issuers", []),
        ("team/pki/issue/web", []),
        ("team/pki/issuer/default/issue/web", []),
        ("team/pki/issuer/default/sign/web", []),
        ("team/pki/root/sign-intermediate", []),
        ("team/pki/config/urls", []),
        ("team/pki/revoke", []),
    ],
)
def test_a_request_is_about_the_secrets_that_it_may_change_and_no_others(path: str, found: list[str]) -> None:
    assert about(path, binding("kv", "team/app"), STATIC, DYNAMIC, WEB, OTHER) == found


def test_the_same_path_may_be_about_secrets_of_several_mounts() -> None:
    items = [
        of_kind("one", "kv", mount="a", path="b/data/c"),
        of_kind("two", "kv", mount="a/data/b", path="c"),
    ]
    assert about("a/data/b/data/c", *items) == ["a/data/b:c", "a:b/data/c"]


@given(st.text(max_size=60))
def test_no_path_makes_the_reading_fail(path: str) -> None:
    assert about(path, binding("kv", "team/app"), STATIC, WEB) == []


_KINDS = [kind for kind in KINDS.values() if kind.changes is not None]


@given(st.data())
def test_each_path_of_a_change_holds_a_hint_so_that_its_audit_entry_is_read(data: st.DataObject) -> None:
    changes = data.draw(st.sampled_from([kind.changes for kind in _KINDS if kind.changes is not None]))
    pattern = re.compile(changes.pattern.pattern.replace(".+", "[a-z]+").replace("[^/]+", "[a-z]+"), re.ASCII)
    below = data.draw(st.from_regex(pattern, fullmatch=True))
    path = f"mount/{below}"
    assert any(hint in path for hint in changes.hints)
    assert changed_path(line(path)) == path
