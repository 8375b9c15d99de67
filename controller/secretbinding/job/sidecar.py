"""The tasks of the Vault Agent sidecar, and how they are told from a user's own."""

from collections.abc import Mapping
from typing import Any

from secretbinding.job.marks import read_mark
from secretbinding.models.agent import AGENT_TASK, WAIT_TASK
from secretbinding.ports import Json
from secretbinding.render.agent import CONFIGURATION, IDENTITY, JWT, Sidecar
from secretbinding.render.role import AUDIENCE

_SECOND = 1_000_000_000
_IDENTITY_TTL = 3600 * _SECOND
_IN_CONTAINERS = ("docker", "podman")
_SLOT = "agent"
# What Nomad itself adds to a task, or what is compared on its own.
_APART = ("Templates", "Identities")
# Where a task must have just what we say; elsewhere the server may have more to say.
_EXACT = ("Config", "Env")


def agent_task(sidecar: Sidecar) -> Json:
    """The task that runs the agent, in the shape of Nomad's API, without its templates. It is restarted for as long as
    it takes: what is rendered serves on meanwhile, and no other task ends for it."""
    configuration = CONFIGURATION.removeprefix("local/")
    argv = [sidecar.command, "agent", f"-config=${{NOMAD_TASK_DIR}}/{configuration}", *sidecar.args]
    task = _task(AGENT_TASK, sidecar, argv)
    task["Lifecycle"] = {"Hook": "prestart", "Sidecar": True}
    task["RestartPolicy"] = {"Attempts": 10, "Interval": 60 * _SECOND, "Delay": 2 * _SECOND, "Mode": "delay"}
    task["Resources"] = {"CPU": sidecar.cpu, "MemoryMB": sidecar.memory, "MemoryMaxMB": sidecar.memory_max}
    if sidecar.server.namespace:
        task["Env"] = {"VAULT_NAMESPACE": sidecar.server.namespace}
    if sidecar.login.method == JWT:
        task["Identities"] = [_identity()]
    return task


def wait_task(sidecar: Sidecar) -> Json:
    """The task that ends when the files are there: Nomad starts the main tasks after it, while a sidecar only has to
    run."""
    task = _task(WAIT_TASK, sidecar, ["/bin/sh", "${NOMAD_TASK_DIR}/wait.sh"])
    task["Lifecycle"] = {"Hook": "prestart", "Sidecar": False}
    task["Resources"] = {"CPU": 10, "MemoryMB": 16, "MemoryMaxMB": 0}
    return task


def _task(name: str, sidecar: Sidecar, argv: list[str]) -> Json:
    program, *args = argv
    config: Json = {"command": program, "args": args}
    if sidecar.driver in _IN_CONTAINERS:
        config = {"image": sidecar.image, "entrypoint": [program], "args": args}
    return {
        "Name": name,
        "Driver": sidecar.driver,
        "User": sidecar.user,
        "Config": config,
        "Env": {},
        # Nomad wants a group's disk to be larger than the logs of each of its tasks.
        "LogConfig": {"MaxFiles": 2, "MaxFileSizeMB": 2},
        "KillTimeout": 5 * _SECOND,
    }


def _identity() -> Json:
    return {
        "Name": IDENTITY,
        "Audience": [AUDIENCE],
        "Env": False,
        "File": True,
        "Filepath": "",
        "ServiceName": "",
        "ChangeMode": "",
        "ChangeSignal": "",
        "TTL": _IDENTITY_TTL,
    }


def is_sidecar(task: Mapping[str, Any], instance: str | None = None) -> bool:
    """True for a task that is ours as a whole, of `instance` where that is given: it has one of our names, and a mark
    for what only such a task has. A user's own task of that name has none."""
    if task.get("Name") not in (AGENT_TASK, WAIT_TASK):
        return False
    marks = (read_mark(template) for template in task.get("Templates") or [])
    return any(
        found is not None and found[0].slot.startswith(_SLOT) and instance in (None, found[0].owner.instance)
        for found in marks
    )


def own_task_in_the_way(group: Mapping[str, Any]) -> str:
    """The name of a task of a user's own group that a sidecar of ours would need, "" when there is none."""
    names = {str(task.get("Name")) for task in group.get("Tasks") or []}
    return next((name for name in (AGENT_TASK, WAIT_TASK) if name in names), "")


def bare(task: Json) -> Json:
    """A task of ours without its templates."""
    return {name: value for name, value in task.items() if name != "Templates"}


def same_task(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """True when a task that is there says all that is wanted, whatever else the server put in; templates and
    identities are compared on their own."""
    return all(
        _plain(there.get(name)) == _plain(value) if name in _EXACT else _within(value, there.get(name))
        for name, value in wanted.items()
        if name not in _APART
    )


def _within(wanted: Any, there: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(there, dict):
        return all(_within(value, there.get(name)) for name, value in wanted.items())
    return bool(_plain(wanted) == _plain(there))


def _plain(value: Any) -> Any:
    """What Nomad writes in two ways: null, or nothing at all."""
    return None if value in ("", {}, []) or value is None or value == 0 else value
