"""Which tasks of a job a binding means, and what stands in its way there."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.job.inject import is_our_vault
from secretbinding.kinds.base import Fault
from secretbinding.models.binding import Delivery, GroupSelector, SecretBinding
from secretbinding.models.reasons import Reason
from secretbinding.models.templates import TemplateSyntaxError, scan
from secretbinding.ports import Json
from secretbinding.render.template import variables_of_entry

REGISTERED_TYPES = ("service", "system")
# A line that sets a variable, as Nomad reads the file of an env template.
_VARIABLE = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=", re.MULTILINE)
_DIRECTORIES = {"${NOMAD_SECRETS_DIR}": "secrets", "${NOMAD_TASK_DIR}": "local", "${NOMAD_ALLOC_DIR}": "../alloc"}


@dataclass(frozen=True, slots=True, order=True)
class TaskRef:
    """One task of a job."""

    group: str
    task: str


def job_fault(job: Json) -> Fault | None:
    """Why a job may not be registered by us at all; None when it may.

    Registering a changed `batch` or `sysbatch` job runs finished work again and starts running work over. Children of
    a periodic or parameterized job are made later, from what the parent says then.
    """
    kind = str(job.get("Type") or "service")
    if kind in REGISTERED_TYPES or job.get("Periodic") or job.get("ParameterizedJob"):
        return None
    message = (
        f"job {job.get('ID')} is of type {kind}, which is never registered again because its work would run again; "
        "render the job file with `secretbinding inject` before it is registered"
    )
    return Fault(Reason.UNSUPPORTED_JOB_TYPE, message)


def select_tasks(job: Json, selectors: Sequence[GroupSelector] | None) -> tuple[tuple[TaskRef, ...], Fault | None]:
    """The tasks that `spec.workload.groups` means, in the job's order; a fault names the first that is missing."""
    groups = {str(group["Name"]): group for group in job.get("TaskGroups") or []}
    if selectors is None:
        tasks = tuple(TaskRef(name, task) for name, group in groups.items() for task in _main_tasks(group))
        return tasks, None
    selected: list[TaskRef] = []
    for selector in selectors:
        group = groups.get(selector.name)
        if group is None:
            return (), Fault(Reason.GROUP_NOT_FOUND, _missing("group", selector.name, job, groups))
        known = [str(task["Name"]) for task in group.get("Tasks") or []]
        for task in selector.tasks if selector.tasks is not None else _main_tasks(group):
            if task not in known:
                return (), Fault(Reason.TASK_NOT_FOUND, _missing(f"task {selector.name}/", task, job, known))
            selected.append(TaskRef(selector.name, task))
    return tuple(dict.fromkeys(selected)), None


def named_tasks(selectors: Sequence[GroupSelector] | None) -> tuple[TaskRef, ...]:
    """The tasks that a binding names outright, known before the job is."""
    return tuple(TaskRef(selector.name, task) for selector in selectors or () for task in selector.tasks or ())


def find_task(job: Json, ref: TaskRef) -> Json | None:
    """The task as it stands in the job."""
    for group in job.get("TaskGroups") or []:
        if group["Name"] == ref.group:
            for task in group.get("Tasks") or []:
                if task["Name"] == ref.task:
                    found: Json = task
                    return found
    return None


def task_fault(
    task: Json, ref: TaskRef, binding: SecretBinding, variables: Iterable[str], instance: str
) -> Fault | None:
    """What the user's own job holds that a binding would have to overwrite; None when nothing does.

    `task` is the user's, our part taken out; `variables` are those that the binding sets.
    """
    place = f"task {ref.group}/{ref.task}"
    vault = task.get("Vault") if needs_vault(binding) else None
    if vault and not is_our_vault(vault, instance):
        role = vault.get("Role") or "default"
        message = f"{place} has a vault block of its own (role {role}); take it out of the job, or have it adopted"
        return Fault(Reason.VAULT_BLOCK_CONFLICT, message)
    own_paths = {normal_path(str(template.get("DestPath") or "")) for template in task.get("Templates") or []}
    for entry in binding.spec.secrets:
        for target in entry.files or ():
            if normal_path(target.path) in own_paths:
                message = f"{place} has a template of its own at {target.path}; choose another destination"
                return Fault(Reason.TEMPLATE_CONFLICT, message)
    own_variables: Mapping[str, str] = task.get("Env") or {}
    rendered = {name for template in task.get("Templates") or [] for name in variables_in(template)}
    for variable in variables:
        if variable in own_variables or variable in rendered:
            where = "env block" if variable in own_variables else "env template"
            message = f"{place} sets {variable} in its own {where}; take it out there, or name it otherwise here"
            return Fault(Reason.ENV_CONFLICT, message)
    return None


def needs_vault(binding: SecretBinding) -> bool:
    """True when its tasks have to log in to Vault. An agent does so for them."""
    by_themselves = binding.spec.delivery is Delivery.TEMPLATE
    return by_themselves and any(entry.source.of_vault for entry in binding.spec.secrets)


def variables_of(binding: SecretBinding, fields: Mapping[str, Iterable[str] | None]) -> tuple[str, ...]:
    """Every environment variable that a binding sets, one as often as it does. `fields` are the names of the fields
    that are read, by the names of the secrets; None where nobody knows them."""
    secrets = [name for entry in binding.spec.secrets for name in variables_of_entry(entry, fields.get(entry.name))]
    return (*secrets, *binding.spec.workload.env)


def variables_in(template: Json) -> tuple[str, ...]:
    """The variables that an env template sets, as far as its text shows: names that an action writes are not known."""
    text = template.get("EmbeddedTmpl")
    if not template.get("Envvars") or not isinstance(text, str):
        return ()
    left, right = template.get("LeftDelim") or "{{", template.get("RightDelim") or "}}"
    plain, at = "", 0
    try:
        for action in scan(text, left, right):
            # What an action prints is some character of no name; what only steers prints nothing.
            shown = "" if action.comment is not None or action.keyword else "\0"
            plain += text[at : action.offset] + shown
            at = action.end
    except TemplateSyntaxError:
        plain, at = "", 0
    return tuple(_VARIABLE.findall(plain + text[at:]))


def destinations_of(binding: SecretBinding) -> tuple[str, ...]:
    """Every file that a binding renders, in the form in which two spellings of one place are equal."""
    return tuple(normal_path(target.path) for entry in binding.spec.secrets for target in entry.files or ())


def _main_tasks(group: Json) -> list[str]:
    return [str(task["Name"]) for task in group.get("Tasks") or [] if not task.get("Lifecycle")]


def _missing(what: str, name: str, job: Json, known: object) -> str:
    names = ", ".join(str(item) for item in known) if isinstance(known, (list, dict)) else ""
    glue = "" if what.endswith("/") else " "
    return f"job {job.get('ID')} has no {what}{glue}{name} (it has: {names or 'none'}); mend spec.workload.groups"


def normal_path(path: str) -> str:
    """A template's destination in the form in which two spellings of one place are equal."""
    for variable, folder in _DIRECTORIES.items():
        path = path.replace(variable, folder)
    normal = posixpath.normpath(path.lstrip("/") or ".")
    return "" if normal == "." else normal
