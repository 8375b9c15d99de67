"""What a task sees of a secret that changes while it runs, by its template's change mode."""

from typing import Any

import pytest

from tests.conformance.nomad import SECOND, Nomad, events, job, vault_task
from tests.support.servers import Stack

Json = dict[str, Any]

# A line for each start, and one for each signal.
RECORD = (
    "trap 'echo signal $(cat local/out) >> local/seen' HUP; echo start $(cat local/out) >> local/seen; "
    "while true; do sleep 0.05; done"
)


@pytest.fixture
def stack(cluster: Stack) -> Stack:
    return cluster


def run(nomad: Nomad, unique: str, **template: Any) -> Json:
    """Start a task that reads version `one` of a secret into `local/out`; its allocation."""
    nomad.stack.openbao.put_secret(unique, {"value": "one"})
    nomad.grant(unique, unique)
    text = f'{{{{ with secret "secret/data/{unique}" }}}}{{{{ .Data.data.value }}}}{{{{ end }}}}'
    watched = {"EmbeddedTmpl": text, "DestPath": "local/out", "Splay": 0, **template}
    nomad.register(job(unique, vault_task(unique, [watched], RECORD)))
    nomad.wait("the start", lambda: seen(nomad, unique) == ["start one"])
    found: Json = nomad.running(unique)[0]
    nomad.stack.openbao.put_secret(unique, {"value": "two"})
    nomad.wait("the new file", lambda: nomad.file(found, "t/local/out") == "two")
    return found


def seen(nomad: Nomad, unique: str) -> list[str]:
    rows = nomad.running(unique)
    text = nomad.file(rows[0], "t/local/seen") if rows else ""
    return [] if "no such file" in text else text.splitlines()


def wait_said(nomad: Nomad, unique: str, kind: str, message: str) -> None:
    """Nomad's servers hear of a task's events a moment after they happened."""
    nomad.wait(f"the event {message}", lambda: (kind, message) in events(nomad.allocations(unique)[0]))


def test_restart_starts_the_task_anew_in_place(nomad: Nomad, unique: str) -> None:
    before = run(nomad, unique, ChangeMode="restart")
    nomad.wait("the restart", lambda: seen(nomad, unique) == ["start one", "start two"])
    assert [one["ID"] for one in nomad.allocations(unique)] == [before["ID"]]
    wait_said(nomad, unique, "Restart Signaled", "Template with change_mode restart re-rendered")
    nomad.wait("the count", lambda: nomad.allocations(unique)[0]["TaskStates"]["t"]["Restarts"] == 1)


def test_signal_tells_the_task_that_goes_on(nomad: Nomad, unique: str) -> None:
    run(nomad, unique, ChangeMode="signal", ChangeSignal="SIGHUP")
    nomad.wait("the signal", lambda: seen(nomad, unique) == ["start one", "signal two"])
    wait_said(nomad, unique, "Signaling", "Template re-rendered")
    assert nomad.allocations(unique)[0]["TaskStates"]["t"]["Restarts"] == 0


def test_noop_changes_the_file_and_nothing_else(nomad: Nomad, unique: str) -> None:
    run(nomad, unique, ChangeMode="noop")
    assert seen(nomad, unique) == ["start one"]
    assert nomad.allocations(unique)[0]["TaskStates"]["t"]["Restarts"] == 0


def script(text: str, **fields: Any) -> Json:
    return {"Command": "/bin/sh", "Args": ["-c", text], "Timeout": 5 * SECOND, "FailOnError": False, **fields}


def test_a_script_runs_in_the_tasks_directory_with_its_environment(nomad: Nomad, unique: str) -> None:
    ran = script('echo script $NOMAD_TASK_NAME $(cat local/out) >> "$NOMAD_TASK_DIR/seen"')
    run(nomad, unique, ChangeMode="script", ChangeScript=ran)
    nomad.wait("the script", lambda: seen(nomad, unique) == ["start one", "script t two"])
    message = f"Template successfully ran script /bin/sh with arguments: [-c {ran['Args'][1]}]. Exit code: 0"
    wait_said(nomad, unique, "Task hook message", message)


def test_a_script_that_fails_is_told_and_kills_the_task_only_where_it_is_to(nomad: Nomad, unique: str) -> None:
    run(nomad, unique, ChangeMode="script", ChangeScript=script("exit 7"))
    message = "Template ran script /bin/sh with arguments [-c exit 7] on change but it exited with code: 7"
    wait_said(nomad, unique, "Task hook failed", message)
    assert seen(nomad, unique) == ["start one"]


def test_a_script_that_must_not_fail_takes_the_task_with_it(nomad: Nomad, unique: str) -> None:
    run(nomad, unique, ChangeMode="script", ChangeScript=script("exit 7", FailOnError=True))
    wait_said(nomad, unique, "Killing", "Template script failed, task is being killed")
    nomad.wait_allocation(unique, "failed", 0)
