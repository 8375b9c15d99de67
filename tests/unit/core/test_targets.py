"""Which tasks a binding means."""

from typing import Any

import pytest

from secretbinding.job.targets import TaskRef, job_fault, named_tasks, normal_path, select_tasks, variables_in
from secretbinding.models.reasons import Reason
from tests.support import builders as make
from tests.support.builders import binding

JOB = make.job(
    make.group(make.task("server"), make.task("proxy", Lifecycle={"Hook": "prestart", "Sidecar": True}), name="api"),
    make.group(make.task("main"), make.task("late", Lifecycle={"Hook": "poststop"}), name="db"),
)


def select(*modifiers: Any) -> tuple[list[str], Reason | None, str]:
    groups = binding(*modifiers).spec.workload.groups
    tasks, fault = select_tasks(JOB, groups)
    return [f"{ref.group}/{ref.task}" for ref in tasks], fault.reason if fault else None, fault.message if fault else ""


def test_without_groups_the_main_tasks_of_every_group_are_meant() -> None:
    assert select()[0] == ["api/server", "db/main"]


def test_a_group_without_tasks_means_its_main_tasks() -> None:
    assert select(make.on_tasks("db"))[0] == ["db/main"]


def test_a_task_with_a_lifecycle_gets_secrets_when_it_is_named() -> None:
    assert select(make.on_tasks("api", "proxy"))[0] == ["api/proxy"]


def test_a_missing_group_or_task_is_named_with_those_that_are_there() -> None:
    tasks, reason, message = select(make.on_tasks("web"))
    assert (tasks, reason) == ([], Reason.GROUP_NOT_FOUND)
    assert message == "job web has no group web (it has: api, db); mend spec.workload.groups"
    tasks, reason, message = select(make.on_tasks("api", "web"))
    assert (tasks, reason) == ([], Reason.TASK_NOT_FOUND)
    assert message == "job web has no task api/web (it has: server, proxy); mend spec.workload.groups"


def test_tasks_that_are_named_outright_are_known_before_the_job() -> None:
    groups = binding(make.on_tasks("a", "x", "y"), make.on_tasks("b")).spec.workload.groups
    assert named_tasks(groups) == (TaskRef("a", "x"), TaskRef("a", "y"))
    assert named_tasks(None) == ()


@pytest.mark.parametrize("kind", ["service", "system", None])
def test_services_may_be_registered(kind: str | None) -> None:
    assert job_fault({**JOB, "Type": kind}) is None


def test_a_batch_job_is_pointed_to_inject() -> None:
    fault = job_fault(make.job(kind="batch"))
    assert fault is not None
    assert fault.reason is Reason.UNSUPPORTED_JOB_TYPE
    assert "secretbinding inject" in fault.message


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("local/x", "local/x"),
        ("./local//x", "local/x"),
        ("/local/x", "local/x"),
        ("local/./y/../x", "local/x"),
        ("${NOMAD_TASK_DIR}/x", "local/x"),
        ("${NOMAD_SECRETS_DIR}/x", "secrets/x"),
        ("${NOMAD_ALLOC_DIR}/data/x", "../alloc/data/x"),
        ("../alloc/x", "../alloc/x"),
        ("", ""),
    ],
)
def test_two_spellings_of_one_place_are_equal(path: str, normal: str) -> None:
    assert normal_path(path) == normal


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A=1\nB = 2\n", ("A", "B")),
        ("export A=1\n", ("A",)),
        ('{{ with secret "x" }}\nA={{ .Data.x }}\n{{ end }}', ("A",)),
        ("{{ if true }}A=1{{ end }}", ("A",)),
        ("{{ .Name }}A=1\n", ()),
        ("{{ range .x }}{{ .Key }}={{ .Value }}\n{{ end }}", ()),
        ("# A=1\n", ()),
        ('{{ index .Data "}}\nA=" }}', ("A",)),
        ("{{ broken \nA=1\n", ("A",)),
        ("A=1\n{{/* \nB=2\n */}}", ("A",)),
    ],
)
def test_variables_are_read_from_an_env_templates_text(text: str, names: tuple[str, ...]) -> None:
    assert variables_in(make.template(text=text, Envvars=True)) == names
    assert variables_in(make.template(text=text)) == ()


def test_variables_are_read_with_the_templates_own_delimiters() -> None:
    template = make.template(text="[[/* x */]]A=[[ .x ]]", Envvars=True, LeftDelim="[[", RightDelim="]]")
    assert variables_in(template) == ("A",)
