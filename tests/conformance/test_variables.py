"""Nomad variables: items, check-and-set, listing, blocking queries, limits, locks."""

import threading
import time
from typing import Any

import pytest

from secretbinding.devstack.api import Answer, quoted
from tests.conformance.nomad import Nomad

Json = dict[str, Any]


def put(nomad: Nomad, path: str, items: Any, **params: str | int) -> Answer:
    return nomad.api.put(f"/v1/var/{path}", {"Items": items}, **params)


def test_a_variable_is_read_as_written(nomad: Nomad, unique: str) -> None:
    written = put(nomad, f"{unique}/a", {"k": "v é\n"}).expect(200).json()
    read = nomad.api.get(f"/v1/var/{unique}/a").expect(200)
    assert read.json() == written
    assert sorted(written) == ["CreateIndex", "CreateTime", "Items", "ModifyIndex", "ModifyTime", "Namespace", "Path"]
    assert (written["Items"], written["Namespace"], written["Path"]) == ({"k": "v é\n"}, "default", f"{unique}/a")
    assert read.index == written["ModifyIndex"] == written["CreateIndex"]


def test_a_variable_that_is_not_there_is_not_found(nomad: Nomad, unique: str) -> None:
    answer = nomad.api.get(f"/v1/var/{unique}/none")
    assert (answer.status, answer.text) == (404, "variable not found")
    assert nomad.api.delete(f"/v1/var/{unique}/none").status == 204


def test_writing_replaces_all_items(nomad: Nomad, unique: str) -> None:
    first = put(nomad, unique, {"a": "1", "b": "2"}).expect(200).json()
    second = put(nomad, unique, {"b": "3"}).expect(200).json()
    assert second["Items"] == {"b": "3"}
    assert second["CreateIndex"] == first["CreateIndex"]
    assert second["ModifyIndex"] > first["ModifyIndex"]


def test_check_and_set_answers_409_with_the_value_that_is_there(nomad: Nomad, unique: str) -> None:
    first = put(nomad, unique, {"a": "1"}, cas=0).expect(200).json()
    refused = put(nomad, unique, {"a": "2"}, cas=0)
    assert refused.status == 409
    assert refused.json() == first
    put(nomad, unique, {"a": "2"}, cas=first["ModifyIndex"]).expect(200)
    stale = put(nomad, unique, {"a": "3"}, cas=first["ModifyIndex"])
    assert (stale.status, stale.json()["Items"]) == (409, {"a": "2"})


def test_check_and_set_on_nothing_answers_409_with_an_empty_variable(nomad: Nomad, unique: str) -> None:
    refused = put(nomad, unique, {"a": "1"}, cas=7)
    assert refused.status == 409
    assert (refused.json()["ModifyIndex"], refused.json()["Path"]) == (0, unique)


def test_deleting_obeys_check_and_set(nomad: Nomad, unique: str) -> None:
    first = put(nomad, unique, {"a": "1"}).expect(200).json()
    assert nomad.api.delete(f"/v1/var/{unique}", cas=first["ModifyIndex"] + 1).status == 409
    assert nomad.api.delete(f"/v1/var/{unique}", cas=first["ModifyIndex"]).status == 204
    assert nomad.api.get(f"/v1/var/{unique}").status == 404


@pytest.mark.parametrize("path", ["with.dot", "with space", "a" * 129, "with@at", "é"])
def test_paths_outside_the_rule_are_refused(nomad: Nomad, path: str) -> None:
    answer = put(nomad, quoted(path), {"a": "1"})
    assert (answer.status, answer.text) == (400, f'RPC Error:: 400,invalid path "{path}"')


def test_the_reserved_directory_is_refused(nomad: Nomad) -> None:
    rule = (
        'only paths at "nomad/jobs" or "nomad/job-templates" and below are valid paths under the top-level "nomad" '
        "directory"
    )
    answer = put(nomad, "nomad/other", {"a": "1"})
    assert (answer.status, answer.text) == (400, f"RPC Error:: 400,{rule}")


@pytest.mark.parametrize("items", [{}, None])
def test_a_variable_without_items_is_refused(nomad: Nomad, unique: str, items: Json | None) -> None:
    answer = put(nomad, unique, items)
    assert (answer.status, answer.text) == (400, "variable missing required Items object")


def test_items_are_limited_to_64_kib(nomad: Nomad, unique: str) -> None:
    put(nomad, unique, {"a": "x" * 65535}).expect(200)
    answer = put(nomad, unique, {"a": "x" * 65536})
    assert (answer.status, answer.text) == (400, "RPC Error:: 400,variables are limited to 64KiB in total size")


def test_items_must_be_strings(nomad: Nomad, unique: str) -> None:
    for value, kind in ((1, "number"), (True, "bool"), ([], "array"), ({}, "object")):
        answer = put(nomad, unique, {"a": value})
        fault = f"json: cannot unmarshal {kind} into Go struct field VariableDecrypted.Items of type string"
        assert (answer.status, answer.text) == (400, fault)


def test_a_check_and_set_without_a_number_is_refused(nomad: Nomad, unique: str) -> None:
    fault = 'can not parse cas: strconv.ParseUint: parsing "x": invalid syntax'
    for answer in (put(nomad, unique, {"a": "1"}, cas="x"), nomad.api.delete(f"/v1/var/{unique}", cas="x")):
        assert (answer.status, answer.text) == (400, fault)


def test_a_listing_shows_metadata_by_prefix_and_never_items(nomad: Nomad, unique: str) -> None:
    for name in ("b", "a", "c/d"):
        put(nomad, f"{unique}/{name}", {"k": "v"}).expect(200)
    put(nomad, f"{unique}x", {"k": "v"}).expect(200)
    rows = nomad.api.get("/v1/vars", prefix=f"{unique}/").expect(200).json()
    assert [one["Path"] for one in rows] == [f"{unique}/a", f"{unique}/b", f"{unique}/c/d"]
    assert sorted(rows[0]) == ["CreateIndex", "CreateTime", "ModifyIndex", "ModifyTime", "Namespace", "Path"]
    assert nomad.api.get("/v1/vars", prefix=f"{unique}-none").expect(200).json() == []


def test_a_listing_is_paged_on_request(nomad: Nomad, unique: str) -> None:
    for name in "abc":
        put(nomad, f"{unique}/{name}", {"k": "v"}).expect(200)
    first = nomad.api.get("/v1/vars", prefix=f"{unique}/", per_page=2).expect(200)
    token = first.headers["X-Nomad-NextToken"]
    second = nomad.api.get("/v1/vars", prefix=f"{unique}/", per_page=2, next_token=token).expect(200)
    assert [one["Path"] for one in first.json() + second.json()] == [f"{unique}/{name}" for name in "abc"]
    assert "X-Nomad-NextToken" not in second.headers


def test_a_blocking_listing_returns_when_a_variable_below_it_changes(nomad: Nomad, unique: str) -> None:
    put(nomad, f"{unique}/a", {"k": "1"}).expect(200)
    index = nomad.api.get("/v1/vars", prefix=f"{unique}/").index
    answers: list[Answer] = []

    def wait() -> None:
        params: dict[str, str | int] = {"prefix": f"{unique}/", "index": index, "wait": "20s"}
        answers.append(nomad.api.request("GET", "/v1/vars", params=params, timeout_seconds=30))

    waiter = threading.Thread(target=wait)
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive(), "it has to wait"
    written = put(nomad, f"{unique}/b", {"k": "1"}).expect(200).json()
    waiter.join(5.0)
    assert not waiter.is_alive()
    assert answers[0].index >= written["ModifyIndex"]
    assert [one["Path"] for one in answers[0].json()] == [f"{unique}/a", f"{unique}/b"]


def test_a_blocking_listing_returns_unchanged_when_its_time_is_over(nomad: Nomad, unique: str) -> None:
    put(nomad, f"{unique}/a", {"k": "1"}).expect(200)
    index = nomad.api.get("/v1/vars", prefix=f"{unique}/").index
    begun = time.monotonic()
    answer = nomad.api.get("/v1/vars", prefix=f"{unique}/", index=index, wait="200ms").expect(200)
    assert time.monotonic() - begun >= 0.2
    assert answer.index == index


def test_a_lock_is_held_by_one_until_it_is_released(nomad: Nomad, unique: str) -> None:
    path = f"/v1/var/{unique}"
    body: Json = {"Path": unique, "Items": {"holder": "one"}, "Lock": {"TTL": "10s", "LockDelay": "1s"}}
    taken = nomad.api.put(f"{path}?lock-acquire", body).expect(200).json()
    lock = taken["Lock"]["ID"]
    nothing = dict.fromkeys(("CreateIndex", "CreateTime", "ModifyIndex", "ModifyTime"), 0)
    for refused in (
        nomad.api.put(f"{path}?lock-acquire", body),
        put(nomad, unique, {"holder": "thief"}),
        nomad.api.put(f"{path}?lock-release", {"Path": unique, "Lock": {"ID": "wrong"}}),
        nomad.api.delete(path),
    ):
        assert (refused.status, refused.json()) == (409, {**nothing, "Namespace": "default", "Path": unique})
    nomad.api.put(f"{path}?lock-renew", {"Path": unique, "Lock": {"ID": lock}}).expect(200)
    wrong = nomad.api.put(f"{path}?lock-renew", {"Path": unique, "Lock": {"ID": "wrong"}})
    assert (wrong.status, wrong.text) == (409, "attempting to modify locked variable")
    assert nomad.api.get(path).expect(200).json()["Items"] == {"holder": "one"}
    nomad.api.put(f"{path}?lock-release", {"Path": unique, "Lock": {"ID": lock}}).expect(200)
    again = nomad.api.put(f"{path}?lock-acquire", body).expect(200).json()
    assert again["Lock"]["ID"] != lock


@pytest.mark.parametrize("ttl", ["5s", "25h"])
def test_a_locks_time_to_live_is_bounded(nomad: Nomad, unique: str, ttl: str) -> None:
    body = {"Path": unique, "Items": {"a": "1"}, "Lock": {"TTL": ttl}}
    refused = nomad.api.put(f"/v1/var/{unique}?lock-acquire", body)
    fault = "1 error occurred:\n\t* TTL must be between 10 seconds and 24 hours\n\n"
    assert (refused.status, refused.text) == (400, f"RPC Error:: 400,{fault}")


def test_a_lock_on_a_variable_that_is_not_there_is_neither_renewed_nor_released(nomad: Nomad, unique: str) -> None:
    body = {"Path": unique, "Lock": {"ID": "any"}}
    for what, status in (("renew", 404), ("release", 500)):
        refused = nomad.api.put(f"/v1/var/{unique}?lock-{what}", body)
        assert (refused.status, refused.text) == (status, "variable doesn't exist")
    refused = nomad.api.put(f"/v1/var/{unique}?lock-release", {"Path": unique})
    assert (refused.status, refused.text) == (400, "RPC Error:: 400,missing lock information")
