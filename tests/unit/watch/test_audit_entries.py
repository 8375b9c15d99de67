"""Audit entries: which path was changed, from whatever bytes arrive."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.watch.audit_entries import LINE_LIMIT, Lines, changed_path


def entry(
    path: str = "secret/data/team/app", operation: str = "update", *, namespace: str = "", **changes: Any
) -> dict[str, Any]:
    """An audit entry as OpenBao writes it, shortened."""
    inside = {"id": "xj5Elf", "path": namespace} if namespace else {"id": "root"}
    return {
        "time": "2026-01-01T00:00:00Z",
        "type": "response",
        "auth": {"client_token": "hmac-sha256:aa", "accessor": "hmac-sha256:bb"},
        "request": {"operation": operation, "mount_type": "kv", "namespace": inside, "path": path},
        "response": {"mount_type": "kv", "data": {"version": 2}},
        **changes,
    }


def line(*args: Any, **changes: Any) -> bytes:
    return json.dumps(entry(*args, **changes), separators=(",", ":")).encode()


@pytest.mark.parametrize("operation", ["create", "update", "patch", "delete"])
@pytest.mark.parametrize("verb", ["data", "delete", "undelete", "destroy", "metadata"])
def test_every_change_of_a_kv_secret_gives_its_path(verb: str, operation: str) -> None:
    assert changed_path(line(f"secret/{verb}/team/app", operation)) == f"secret/{verb}/team/app"


@pytest.mark.parametrize(
    "path",
    [
        "database/rotate-role/app",
        "database/static-roles/app",
        "database/roles/app",
        "pki/roles/web",
        "pki/root/generate/internal",
        "pki/root/rotate/exported",
        "pki/root/replace",
        "pki/root",
        "pki/issuers/import/bundle",
        "pki/issuer/default",
        "pki/config/issuers",
        "pki/config/ca",
        "pki/intermediate/set-signed",
    ],
)
def test_a_change_of_another_engine_that_may_show_gives_its_path(path: str) -> None:
    assert changed_path(line(f"team/{path}")) == f"team/{path}"


@pytest.mark.parametrize("operation", ["read", "list", "header", "help", "", "renew"])
def test_what_changes_nothing_gives_nothing(operation: str) -> None:
    assert changed_path(line(operation=operation)) is None


def test_a_request_is_not_yet_an_answer() -> None:
    assert changed_path(line(type="request")) is None


def test_a_refused_change_gives_nothing() -> None:
    assert changed_path(line(error="1 error occurred:\n\t* permission denied\n\n")) is None


def test_other_paths_give_nothing() -> None:
    assert changed_path(line("sys/audit/test")) is None
    assert changed_path(line("auth/token/create")) is None


def test_the_namespace_is_part_of_the_path() -> None:
    assert changed_path(line("kv/data/x", namespace="team/")) == "team/kv/data/x"
    assert changed_path(line("kv/data/x", namespace="a/b/")) == "a/b/kv/data/x"


def test_the_devices_prefix_is_skipped() -> None:
    assert changed_path(b"@cee: " + line()) == "secret/data/team/app"


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"{",
        b'"response" /data/',
        b'{"type":"response","request":["/data/"]}',
        b'{"type":"response","request":{"operation":"update","path":["/data/"]}}',
        b'{"type":"response","request":{"operation":["update"],"path":"a/data/b"}}',
        b'{"type":"response","request":{"operation":"update","path":"a/data/b","namespace":7}}'[:-1],
        b'["response","/data/"]',
        b'{"response":"/data/","a":' + b"[" * 100_000,
        b'{"response":"/data/","n":' + b"9" * 10_000 + b"}",
        b'\xff\xfe{"type":"response"/data/',
        b" " * 1000 + b'{"type":"response","request":{"operation":"update","path":"a/data/b"}}',
    ],
)
def test_garbage_gives_nothing(garbage: bytes) -> None:
    assert changed_path(garbage) is None


def test_an_odd_namespace_counts_as_none() -> None:
    odd = entry()
    odd["request"]["namespace"] = 7
    assert changed_path(json.dumps(odd).encode()) == "secret/data/team/app"


def test_a_path_that_is_too_long_to_be_one_gives_nothing() -> None:
    assert changed_path(line("secret/data/" + "a" * 3000)) is None


@given(st.binary(max_size=500))
def test_no_bytes_make_the_parser_fail(noise: bytes) -> None:
    changed_path(noise)
    changed_path(b'{"type":"response","request":{"path":"a/data/b"' + noise)
    changed_path(noise + line())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = ["type", "error", "request", "operation", "path", "namespace"]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON), st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_no_json_makes_the_parser_fail(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    found = changed_path(json.dumps({"hint": "/data/", "type": "response", "request": inner, **outer}).encode())
    assert found is None or found.endswith(str(inner["path"]))


@given(st.lists(st.binary(max_size=20).filter(lambda text: b"\n" not in text), max_size=10), st.data())
def test_lines_come_out_whole_however_they_arrive(texts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(text + b"\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    lines = Lines()
    found = [
        each
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for each in lines.feed(stream[start:end])
    ]
    assert found == texts


def test_a_line_without_end_is_dropped_and_the_next_one_is_heard() -> None:
    lines = Lines(limit=100)
    assert list(lines.feed(b"x" * 60)) == []
    assert list(lines.feed(b"x" * 60)) == []
    assert list(lines.feed(b"x" * 10_000)) == []
    assert list(lines.feed(b"x\nnext\n")) == [b"next"]


def test_the_longest_line_is_bounded() -> None:
    assert changed_path(line(error="") + b" " * LINE_LIMIT) is None
    assert list(Lines().feed(b"x" * (LINE_LIMIT + 1) + b"\ny\n")) == [b"y"]
