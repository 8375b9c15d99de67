"""Task states and their events, as an allocation shows them."""

from typing import Any

from secretbinding.devstack.simulator.state import now_nanos, timestamp

Json = dict[str, Any]

KEPT_EVENTS = 10

_EVENT: Json = {
    "Details": None,
    "DiskLimit": 0,
    "DisplayMessage": "",
    "DownloadError": "",
    "DriverError": "",
    "DriverMessage": "",
    "ExitCode": 0,
    "FailedSibling": "",
    "FailsTask": False,
    "GenericSource": "",
    "KillError": "",
    "KillReason": "",
    "KillTimeout": 0,
    "Message": "",
    "RestartReason": "",
    "SetupError": "",
    "Signal": 0,
    "StartDelay": 0,
    "TaskSignal": "",
    "TaskSignalReason": "",
    "Time": 0,
    "Type": "",
    "ValidationError": "",
    "VaultError": "",
}


def new_state() -> Json:
    """The state of a task that was just received."""
    return {
        "Events": [],
        "Failed": False,
        "FinishedAt": None,
        "LastRestart": None,
        "Paused": "",
        "Restarts": 0,
        "StartedAt": None,
        "State": "pending",
    }


def event(kind: str, message: str, **fields: Any) -> Json:
    """An event of a type (`Started`, `Killing`, ...) with its message; `fields` are fields of Nomad's `TaskEvent`."""
    details = {"message": message} if kind in ("Task Setup", "Alloc Unhealthy", "Task hook failed") else {}
    if fields.get("FailsTask"):
        details["fails_task"] = "true"
    return {**_EVENT, "Details": details, "DisplayMessage": message, "Time": now_nanos(), "Type": kind, **fields}


def add_event(state: Json, new: Json) -> None:
    """Append an event; the newest ten are kept. The list is replaced, so a reader's copy stays as it was."""
    state["Events"] = [*state["Events"], new][-KEPT_EVENTS:]


def started(state: Json) -> None:
    state["State"] = "running"
    state["StartedAt"] = timestamp(now_nanos())


def finished(state: Json, *, failed: bool) -> None:
    state["State"] = "dead"
    state["Failed"] = failed
    state["FinishedAt"] = timestamp(now_nanos())


def client_status(states: list[Json]) -> tuple[str, str]:
    """(`ClientStatus`, `ClientDescription`) of an allocation with these task states."""
    if any(one["Failed"] for one in states):
        return "failed", "Failed tasks"
    if any(one["State"] == "running" for one in states):
        return "running", "Tasks are running"
    if any(one["State"] == "pending" for one in states):
        return "pending", "No tasks have started"
    return "complete", "All tasks have completed"
