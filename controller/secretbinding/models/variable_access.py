"""Which Nomad variables the tasks of a job may read by their own identity, as a rule of the specification."""

from collections.abc import Iterator, Mapping
from typing import Any

from secretbinding.models.base import Fault, Rule, mapping, objects

_READABLE = "nomad/jobs"


def _variables_of_the_job(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """Variables that a workload identity may not read by itself (Nomad's `acl.matchingVariablesCapabilitySet`)."""
    workload = mapping(obj.get("workload"))
    job = workload.get("job")
    for index, entry in objects(obj.get("secrets")):
        spec = mapping(entry.get("nomadVariable"))
        path, namespace = spec.get("path"), spec.get("namespace")
        if spec.get("accessGranted") is True or not isinstance(path, str) or not isinstance(job, str):
            continue
        place = ("secrets", index, "nomadVariable")
        if namespace is not None and namespace != workload.get("namespace"):
            yield Fault((*place, "namespace"), f"tasks of job {job} may read variables of their own namespace only")
        elif path not in (_READABLE, f"{_READABLE}/{job}"):
            head = f"{_READABLE}/{job}/"
            group, _, task = path.removeprefix(head).partition("/")
            if not path.startswith(head) or not _only_tasks(workload.get("groups"), group, task):
                yield Fault((*place, "path"), f"not every task that gets it may read {path}")


def _only_tasks(groups: object, group: str, task: str) -> bool:
    """True when a raw list of groups selects nothing outside a group, or outside one task of it."""
    selected = [selector for _, selector in objects(groups)]
    return bool(selected) and all(
        selector.get("name") == group and (not task or selector.get("tasks") == [task]) for selector in selected
    )


OWN_VARIABLES = Rule(
    message="tasks may read nomad/jobs, nomad/jobs/<job>, and below that what bears the name of their group and"
    " task, in their own namespace",
    remedy="move the variable, name the group and tasks in workload.groups, or bind an ACL policy to the job"
    " (nomad acl policy apply -job) and set accessGranted",
    cel="self.secrets.all(s, !has(s.nomadVariable)"
    " || (has(s.nomadVariable.accessGranted) && s.nomadVariable.accessGranted)"
    " || ((!has(s.nomadVariable.__namespace__) || (has(self.workload.__namespace__)"
    " && s.nomadVariable.__namespace__ == self.workload.__namespace__))"
    f" && (s.nomadVariable.path == '{_READABLE}'"
    f" || (s.nomadVariable.path + '/').startsWith('{_READABLE}/' + self.workload.job + '/'))))",
    field=".secrets",
    check=_variables_of_the_job,
)
