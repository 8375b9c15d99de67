"""Job files for `inject`: JSON, or HCL through Nomad's own parser."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from secretbinding.cli.jobshape import shape_faults
from secretbinding.errors import ManifestError, Problem, Rejected, UsageError
from secretbinding.ports import Json, Nomad

_KEEP_IN_HCL = ("\n", "\t")
_MAX_DEPTH = 100


def parse_job(text: str, *, file: str, nomad: Nomad, variables: str, namespace: str) -> tuple[Json, Json]:
    """The job of a file, and what stood around it (`{"Job": ...}` and its siblings; empty for a bare job).

    A job that does not say in which Nomad namespace it is, is in `namespace`. Nomad's parser answers `default` for such
    a job, so that `namespace` also replaces that of an HCL file. Raises `ManifestError` for what is no job.
    """
    if text.lstrip().startswith(("{", "[")):
        around = _json(text, file)
        inner = around.get("Job", around)
        job = dict(inner) if isinstance(inner, Mapping) else {}
        around = {} if inner is around else around
        job["Namespace"] = job.get("Namespace") or namespace
    else:
        try:
            job = dict(nomad.parse_hcl(text, variables))
        except Rejected as error:
            raise ManifestError([Problem(error.message, error.remedy or "correct the job file", file=file)]) from None
        around = {}
        job["Namespace"] = namespace if job.get("Namespace") in (None, "", "default") else job["Namespace"]
    remedy = "give a job in HCL, or in the JSON of Nomad's API"
    fault = _fault(job)
    if fault:
        raise ManifestError([Problem(fault, remedy, file=file)])
    problems = [Problem(message, remedy, field, file) for field, message in shape_faults(job)]
    if problems:
        raise ManifestError(problems)
    return job, around


def variables_text(assignments: Iterable[str]) -> str:
    """`name=value` pairs as the text of a variable file. Nomad converts texts to what a variable is declared as; lists
    and maps are passed on as they are. Raises `UsageError`."""
    lines: list[str] = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"-var {assignment!r} assigns nothing", remedy="write -var name=value")
        if value.lstrip().startswith(("[", "{")):
            lines.append(f"{name} = {value}")
        elif all(char.isprintable() or char in _KEEP_IN_HCL for char in value):
            quoted = json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
            lines.append(f"{name} = {quoted}")
        else:
            raise UsageError(f"the value of -var {name} holds a control character", remedy="remove it")
    return "\n".join(lines)


def _json(text: str, file: str) -> Json:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        problem = Problem(f"not JSON: {error.msg}", "correct it", "", file, error.lineno, error.colno)
        raise ManifestError([problem]) from None
    except ValueError:  # Python reads no number of more than 4,300 digits.
        raise ManifestError([Problem("not a job: a number is too long", "correct it", file=file)]) from None
    except RecursionError:
        raise ManifestError([Problem("not a job: nested too deeply", "correct it", file=file)]) from None
    if _depth_exceeds(value, _MAX_DEPTH):
        raise ManifestError([Problem("not a job: nested too deeply", "correct it", file=file)])
    return value if isinstance(value, dict) else {}


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _fault(job: Mapping[str, Any]) -> str:
    """What keeps a value from being a job, as far as an injection needs it."""
    if not isinstance(job.get("ID"), str) or not job["ID"]:
        return "the job has no `ID`"
    groups = job.get("TaskGroups")
    if not isinstance(groups, list) or not groups:
        return "the job has no `TaskGroups`"
    for group in groups:
        if not isinstance(group, Mapping) or not isinstance(group.get("Name"), str):
            return "a task group has no `Name`"
        tasks = group.get("Tasks")
        if not isinstance(tasks, list) or not tasks:
            return f"task group {group['Name']} has no `Tasks`"
        if not all(isinstance(task, Mapping) and isinstance(task.get("Name"), str) for task in tasks):
            return f"a task of group {group['Name']} has no `Name`"
    return ""
