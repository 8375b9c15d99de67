"""The event stream, and blocking queries on jobs."""

import threading
from collections.abc import Callable
from typing import Any

from secretbinding.devstack.api import Answer
from tests.conformance.nomad import Nomad, job

Json = dict[str, Any]


def read_events(
    nomad: Nomad, act: Callable[[], object], enough: Callable[[list[Json]], bool], **params: str | int
) -> list[Json]:
    """Subscribe, act once the first heartbeat came, and gather events until there are enough."""
    found: list[Json] = []
    acted = False
    stream = nomad.api.stream("/v1/event/stream", params=params, timeout_seconds=20)
    try:
        for batch in stream:
            if batch == {}:
                if not acted:
                    acted = True
                    act()
                continue
            for event in batch["Events"]:
                assert event["Index"] == batch["Index"]
                found.append(event)
            if enough(found):
                return found
    finally:
        stream.close()
    return found


def test_a_registration_and_its_deployment_are_told(nomad: Nomad, unique: str) -> None:
    def enough(found: list[Json]) -> bool:
        return any(
            one["Topic"] == "Deployment"
            and one["Payload"]["Deployment"]["JobID"] == unique
            and one["Payload"]["Deployment"]["Status"] == "successful"
            for one in found
        )

    found = read_events(nomad, lambda: nomad.register(job(unique)), enough, topic="*", namespace="default")
    mine = [one for one in found if one["Namespace"] == "default"]
    registered = next(one for one in mine if one["Topic"] == "Job" and one["Key"] == unique)
    assert registered["Type"] == "JobRegistered"
    assert registered["Payload"]["Job"]["ID"] == unique
    assert registered["Payload"]["Job"]["JobModifyIndex"] == registered["Index"]
    topics = {one["Topic"] for one in mine}
    assert {"Job", "Evaluation", "Allocation", "Deployment"} <= topics
    allocation = next(
        one["Payload"]["Allocation"]
        for one in mine
        if one["Topic"] == "Allocation" and one["Payload"]["Allocation"]["JobID"] == unique
    )
    assert "Job" not in allocation or allocation["Job"] is None


def test_a_topic_and_key_narrow_the_stream(nomad: Nomad, unique: str) -> None:
    def act() -> None:
        nomad.register(job(f"{unique}-other", count=0))
        nomad.register(job(unique, count=0))
        nomad.purge(unique)

    def purged(seen: list[Json]) -> bool:
        return bool(seen[-1]["Type"] == "JobDeregistered")

    found = read_events(nomad, act, purged, topic=f"Job:{unique}")
    assert {(one["Topic"], one["Key"]) for one in found} == {("Job", unique)}
    assert found[0]["Type"] == "JobRegistered"
    assert found[-1]["Payload"].get("Deleted") is True


def test_variables_are_told_without_their_items(nomad: Nomad, unique: str) -> None:
    def act() -> None:
        nomad.api.put(f"/v1/var/{unique}", {"Items": {"k": "hidden"}}).expect(200)

    found = read_events(nomad, act, lambda seen: len(seen) >= 1, topic=f"Variable:{unique}")
    assert (found[0]["Topic"], found[0]["Key"], found[0]["Namespace"]) == ("Variable", unique, "default")
    assert "hidden" not in str(found)


def test_a_stream_from_an_index_begins_with_what_is_still_there(nomad: Nomad, unique: str) -> None:
    first = nomad.register(job(unique, count=0))
    second = nomad.register({**job(unique, count=0), "Meta": {"a": "b"}})

    def reached(seen: list[Json]) -> bool:
        return bool(seen[-1]["Index"] >= second["JobModifyIndex"])

    found = read_events(nomad, lambda: None, reached, topic=f"Job:{unique}", index=first["JobModifyIndex"])
    registered = [one["Index"] for one in found if one["Type"] == "JobRegistered"]
    assert registered == [first["JobModifyIndex"], second["JobModifyIndex"]]


def test_a_blocking_read_of_a_job_returns_when_it_changes(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, count=0))
    nomad.wait("the job to settle", lambda: nomad.job(unique)["Status"] in ("dead", "running"))
    index = nomad.api.get(f"/v1/job/{unique}").index
    answers: list[Answer] = []
    waiter = threading.Thread(
        target=lambda: answers.append(nomad.api.get(f"/v1/job/{unique}", index=index, wait="20s"))
    )
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    nomad.register({**job(unique, count=0), "Meta": {"a": "b"}})
    waiter.join(5.0)
    assert answers[0].json()["Version"] == 1
    assert answers[0].index > index
