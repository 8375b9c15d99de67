"""Job files: JSON is read here, HCL by Nomad, and what is no job is refused with its place."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.cli.jobfiles import parse_job, variables_text
from secretbinding.errors import ManifestError, Rejected, UsageError
from secretbinding.ports import Nomad

JOB = {"ID": "web", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t"}]}]}


class Parser:
    """The part of Nomad that parses; remembers what it was given."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = answer
        self.given: tuple[str, str] | None = None

    def parse_hcl(self, text: str, variables: str = "") -> dict[str, Any]:
        self.given = (text, variables)
        if self.answer is None:
            raise Rejected("Nomad refused to parse a job file; Nomad says: input.hcl:1,1: no", system="nomad")
        return self.answer


def parse(text: str, nomad: Parser | None = None, variables: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    server = cast(Nomad, nomad or Parser())
    return parse_job(text, file="web.json", nomad=server, variables=variables, namespace="payments")


def test_a_bare_job_and_a_wrapped_one_are_the_same() -> None:
    assert parse(json.dumps(JOB))[0] == parse(json.dumps({"Job": JOB}))[0] == {**JOB, "Namespace": "payments"}


def test_what_stands_beside_a_wrapped_job_is_kept() -> None:
    assert parse(json.dumps({"Job": JOB, "PreserveCounts": True}))[1] == {"Job": JOB, "PreserveCounts": True}


@pytest.mark.parametrize(("said", "meant"), [("other", "other"), ("default", "default"), ("", "payments")])
def test_a_json_job_keeps_the_namespace_that_it_names(said: str, meant: str) -> None:
    assert parse(json.dumps({**JOB, "Namespace": said}))[0]["Namespace"] == meant


@pytest.mark.parametrize(("said", "meant"), [("other", "other"), ("default", "payments")])
def test_an_hcl_job_in_the_default_namespace_is_in_the_one_asked_for(said: str, meant: str) -> None:
    nomad = Parser({**JOB, "Namespace": said})
    assert parse('job "web" {}', nomad, 'a = "1"')[0]["Namespace"] == meant
    assert nomad.given == ('job "web" {}', 'a = "1"')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "web.json:1:2: not JSON"),
        ('{"Job": 3}', "web.json: the job has no `ID`"),
        ('{"ID": "web"}', "no `TaskGroups`"),
        ('{"ID": "web", "TaskGroups": [{}]}', "a task group has no `Name`"),
        ('{"ID": "web", "TaskGroups": [{"Name": "g"}]}', "task group g has no `Tasks`"),
        ('{"ID": "web", "TaskGroups": [{"Name": "g", "Tasks": [{}]}]}', "a task of group g has no `Name`"),
        ("[]", "web.json: the job has no `ID`"),
        ('{"Job": ' + "[" * 100_000, "web.json: not a job: nested too deeply"),
        ('{"Job": ' + "[" * 200 + "]" * 200 + "}", "web.json: not a job: nested too deeply"),
        ("no job", "web.json: Nomad refused to parse a job file; Nomad says: input.hcl:1,1: no"),
    ],
)
def test_what_is_no_job_is_refused_with_the_file(text: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"Templates": "x"}, "TaskGroups[0].Tasks[0].Templates: is not a list"),
        ({"Templates": ["x"]}, "TaskGroups[0].Tasks[0].Templates[0]: is not an object"),
        ({"Templates": [None]}, "TaskGroups[0].Tasks[0].Templates[0]: is null"),
        ({"Templates": [{"EmbeddedTmpl": 1}]}, "TaskGroups[0].Tasks[0].Templates[0].EmbeddedTmpl: is not a text"),
        ({"Templates": [{"Uid": True}]}, "TaskGroups[0].Tasks[0].Templates[0].Uid: is not a number"),
        ({"Vault": []}, "TaskGroups[0].Tasks[0].Vault: is not an object"),
        ({"Env": "x"}, "TaskGroups[0].Tasks[0].Env: is not an object"),
        ({"Identities": [{"Name": {}}]}, "TaskGroups[0].Tasks[0].Identities[0].Name: is not a text"),
    ],
)
def test_a_value_of_another_type_than_nomads_is_refused_with_its_field(task: dict[str, Any], told: str) -> None:
    job = {**JOB, "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", **task}]}]}
    with pytest.raises(ManifestError) as caught:
        parse(json.dumps(job))
    assert str(caught.value).startswith(f"web.json: {told}; give a job")


def test_what_nomad_writes_as_null_is_no_fault() -> None:
    task = {"Name": "t", "Templates": None, "Vault": None, "Env": None}
    job = {**JOB, "TaskGroups": [{"Name": "g", "Constraints": None, "Tasks": [task]}]}
    assert parse(json.dumps(job))[0]["TaskGroups"] == job["TaskGroups"]


def test_variables_are_texts_and_lists_stay_as_they_are() -> None:
    assert variables_text(["a=1.0", 'b=x "y"', "c=[1, 2]", "d="]) == 'a = "1.0"\nb = "x \\"y\\""\nc = [1, 2]\nd = ""'


def test_a_value_cannot_become_an_expression() -> None:
    assert variables_text(["a=${file(x)} %{if x}"]) == 'a = "$${file(x)} %%{if x}"'


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_any_printable_value_stays_on_its_line(value: str) -> None:
    if all(char.isprintable() for char in value) and not value.lstrip().startswith(("[", "{")):
        text = variables_text([f"a={value}"])
        assert text.count("\n") == 0
        assert json.loads(text.removeprefix("a = ")).replace("$${", "${").replace("%%{", "%{") == value


@pytest.mark.parametrize("assignment", ["a", "=x", "1a=x", "a b=x", "a=\x1b"])
def test_what_assigns_nothing_is_refused(assignment: str) -> None:
    with pytest.raises(UsageError):
        variables_text([assignment])
