"""Versions of a job: how many are kept, tags, submissions, reverting."""

from typing import Any

from secretbinding.devstack.api import Answer, quoted
from tests.conformance.nomad import Nomad, job


def version(job_id: str, number: int, count: int = 0) -> dict[str, Any]:
    """Version `number` of a job, different from all others in its meta."""
    return {**job(job_id, count=count), "Meta": {"version": str(number)}}


def tag(nomad: Nomad, job_id: str, number: int, name: str) -> Answer:
    body = {"Version": number, "Description": f"about {name}"}
    return nomad.api.put(f"/v1/job/{quoted(job_id)}/versions/{quoted(name)}/tag", body)


def kept(nomad: Nomad, job_id: str) -> list[int]:
    return [one["Version"] for one in nomad.versions(job_id)]


def test_six_versions_are_kept_newest_first(nomad: Nomad, unique: str) -> None:
    for number in range(8):
        nomad.register(version(unique, number))
    assert kept(nomad, unique) == [7, 6, 5, 4, 3, 2]
    assert nomad.versions(unique)[0]["Meta"] == {"version": "7"}


def test_a_tagged_version_outlives_the_limit_without_counting(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    nomad.register(version(unique, 1))
    before = nomad.job(unique)
    tag(nomad, unique, 0, "failed-abc").expect(200)
    assert nomad.job(unique)["JobModifyIndex"] == before["JobModifyIndex"]
    for number in range(2, 9):
        nomad.register(version(unique, number))
    assert kept(nomad, unique) == [8, 7, 6, 5, 4, 3, 0]
    tagged = nomad.versions(unique)[-1]
    assert tagged["VersionTag"]["Name"] == "failed-abc"
    assert tagged["VersionTag"]["Description"] == "about failed-abc"


def test_tagging_makes_no_evaluation(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    nomad.register(version(unique, 1))
    path = f"/v1/job/{unique}/evaluations"
    before = {one["ID"] for one in nomad.api.get(path).json()}
    tag(nomad, unique, 0, "x").expect(200)
    assert {one["ID"] for one in nomad.api.get(path).json()} == before


def test_a_tag_is_unique_within_a_job_and_can_be_taken_away(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    nomad.register(version(unique, 1))
    nomad.register(version(unique, 2))
    tag(nomad, unique, 0, "x").expect(200)
    again = tag(nomad, unique, 1, "x")
    assert (again.status, again.text) == (500, f'tag "x" already exists on a different version of job "{unique}"')
    nomad.api.delete(f"/v1/job/{unique}/versions/x/tag").expect(200)
    assert [one["VersionTag"] for one in nomad.versions(unique)] == [None, None, None]
    tag(nomad, unique, 1, "x").expect(200)


def test_a_tag_for_a_version_that_is_not_there_is_refused(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    for job_id, number in ((unique, 9), (f"{unique}-none", 0)):
        refused = tag(nomad, job_id, number, "x")
        assert (refused.status, refused.text) == (500, f'job "{job_id}" version {number} not found')


def test_a_tag_that_is_not_there_cannot_be_taken_away(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    for job_id in (unique, f"{unique}-none"):
        refused = nomad.api.delete(f"/v1/job/{job_id}/versions/nope/tag")
        assert (refused.status, refused.text) == (500, f'tag "nope" not found on job "{job_id}"')


def test_while_the_current_version_is_tagged_the_same_job_makes_a_new_version(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    tag(nomad, unique, 0, "x").expect(200)
    nomad.register(version(unique, 0))
    assert [(one["Version"], one["VersionTag"] is None) for one in nomad.versions(unique)] == [(1, True), (0, False)]


def test_the_source_is_carried_from_the_version_that_the_sent_job_names(nomad: Nomad, unique: str) -> None:
    def source(number: int) -> str:
        return str(nomad.api.get(f"/v1/job/{unique}/submission", version=number).expect(200).json()["Source"])

    nomad.register(version(unique, 0), Submission={"Source": "zero", "Format": "hcl2"})
    nomad.register(version(unique, 1))
    nomad.register(version(unique, 2), Submission={"Source": "two", "Format": "hcl2"})
    nomad.register({**nomad.job(unique), "Meta": {"version": "3"}})
    assert [source(number) for number in range(4)] == ["zero", "zero", "two", "two"]


def test_the_source_of_a_version_is_kept_with_it(nomad: Nomad, unique: str) -> None:
    submission = {"Source": 'job "x" {}', "Format": "hcl2", "VariableFlags": {"a": "1"}, "Variables": "b = 2"}
    nomad.register(version(unique, 0), Submission=submission)
    found = nomad.api.get(f"/v1/job/{unique}/submission", version=0).expect(200).json()
    assert {name: found[name] for name in submission} == submission
    assert (found["JobID"], found["Namespace"], found["Version"]) == (unique, "default", 0)
    missing = nomad.api.get(f"/v1/job/{unique}/submission", version=1)
    assert (missing.status, missing.text) == (404, "job source not found")
    unsaid = nomad.api.get(f"/v1/job/{unique}/submission")
    assert (unsaid.status, unsaid.text) == (400, "Unable to parse job submission version parameter")


def test_reverting_makes_a_new_version_with_the_old_content_and_source(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0), Submission={"Source": "zero", "Format": "hcl2"})
    nomad.register(version(unique, 1))
    nomad.api.put(f"/v1/job/{unique}/revert", {"JobID": unique, "JobVersion": 0}).expect(200)
    stored = nomad.job(unique)
    assert (stored["Version"], stored["Meta"]) == (2, {"version": "0"})
    assert nomad.api.get(f"/v1/job/{unique}/submission", version=2).expect(200).json()["Source"] == "zero"


def test_reverting_to_the_current_version_is_refused(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    answer = nomad.api.put(f"/v1/job/{unique}/revert", {"JobID": unique, "JobVersion": 0})
    assert (answer.status, answer.text) == (500, "can't revert to current version")


def test_reverting_to_what_is_not_there_is_refused(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    answer = nomad.api.put(f"/v1/job/{unique}/revert", {"JobID": unique, "JobVersion": 9})
    assert (answer.status, answer.text) == (500, f'job "{unique}" in namespace "default" at version 9 not found')
    none = f"{unique}-none"
    answer = nomad.api.put(f"/v1/job/{none}/revert", {"JobID": none, "JobVersion": 0})
    assert (answer.status, answer.text) == (500, f'job "{none}" not found')


def test_a_request_about_a_version_names_the_job_that_its_path_names(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    for what in ("revert", "stable"):
        answer = nomad.api.put(f"/v1/job/{unique}/{what}", {"JobID": f"{unique}-other", "JobVersion": 0})
        assert (answer.status, answer.text) == (400, "Job ID does not match")
        answer = nomad.api.put(f"/v1/job/{unique}/{what}", {"JobVersion": 0})
        assert (answer.status, answer.text) == (400, "JobID must be specified")


def test_a_version_that_is_not_there_is_not_made_stable(nomad: Nomad, unique: str) -> None:
    nomad.register(version(unique, 0))
    for job_id in (unique, f"{unique}-none"):
        answer = nomad.api.put(f"/v1/job/{job_id}/stable", {"JobID": job_id, "JobVersion": 9, "Stable": True})
        assert (answer.status, answer.text) == (500, f'job "{job_id}" in namespace "default" at version 9 not found')


def test_a_version_becomes_stable_by_a_successful_deployment_without_a_new_job_modify_index(
    nomad: Nomad, unique: str
) -> None:
    answer = nomad.register(version(unique, 0, count=1))
    assert nomad.job(unique)["Stable"] is False
    nomad.wait_deployed(unique)
    stored = nomad.job(unique)
    assert (stored["Stable"], stored["JobModifyIndex"]) == (True, answer["JobModifyIndex"])
    assert stored["ModifyIndex"] > stored["JobModifyIndex"]
