"""What the sidecars of a job read and log in with, taken from their templates' texts."""

import re
from collections.abc import Iterator

from secretbinding.job.marks import read_mark
from secretbinding.job.sidecar import is_sidecar
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.templates import scan
from secretbinding.ports import Json


def agents_of(job: Json) -> Iterator[tuple[str, Json]]:
    """Each sidecar's group and the agent's task."""
    for group in job["TaskGroups"]:
        for task in group["Tasks"]:
            if task["Name"] == AGENT_TASK and is_sidecar(task):
                yield group["Name"], task


def text_of(task: Json, slot: str) -> str:
    """The text of the task's template with that slot, without its mark; raises `LookupError` when there is none."""
    for template in task["Templates"] or []:
        found = read_mark(template)
        if found is not None and found[0].slot == slot:
            _, _, body = template["EmbeddedTmpl"].partition(f" */{template['RightDelim']}")
            return str(body)
    raise LookupError(slot)


def configuration(task: Json) -> str:
    """The part of the agent's configuration that all bindings of the group share."""
    return text_of(task, "agent")


def role_of(task: Json) -> str:
    """The JWT role in an agent's configuration."""
    found = re.search(r'^ *role = "([^"]+)"$', configuration(task), re.MULTILINE)
    assert found is not None
    return found[1]


def agent_reads(task: Json) -> set[str]:
    """The paths that an agent's templates read, queries cut off."""
    paths: set[str] = set()
    for template in task["Templates"] or []:
        found = read_mark(template)
        if found is None or not found[0].slot.startswith("file:"):
            continue
        for action in scan(text_of(task, found[0].slot), "{{", "}}"):
            if action.keyword == "with" and action.functions and action.functions[0].text == "secret":
                paths.add(action.strings[0].value.partition("?")[0])
    return paths
