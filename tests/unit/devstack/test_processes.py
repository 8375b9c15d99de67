"""Child processes: readiness, stopping, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secretbinding.devstack.processes import ManagedProcess, ProcessError, free_ports, wait_until

_PARENT = """
import sys, threading, time
from pathlib import Path
from secretbinding.devstack.processes import ManagedProcess

def begin():
    child = ManagedProcess("child", ["sleep", "3000"], log_path=Path(sys.argv[1]))
    print(child.pid, flush=True)

thread = threading.Thread(target=begin)
thread.start()
thread.join()
time.sleep(3000)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_ports_are_free_and_different() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3


def test_a_process_that_ends_early_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    process = ManagedProcess("bad", ["sh", "-c", "echo why; exit 3"], log_path=tmp_path / "log")
    with pytest.raises(ProcessError, match="bad ended with exit code 3 while starting"):
        process.wait_ready(lambda: False, timeout_seconds=10)
    assert (tmp_path / "log").read_text() == "why\n"
    process.stop()


def test_a_process_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    process = ManagedProcess("slow", ["sleep", "3000"], log_path=tmp_path / "log")
    with pytest.raises(ProcessError, match=r"slow was not ready after 0\.1 s"):
        process.wait_ready(lambda: False, timeout_seconds=0.1)
    process.stop()
    assert not alive(process.pid)


def test_stopping_ends_the_whole_process_group_even_when_it_ignores_the_signal(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 3000 & echo $! > child; wait; sleep 3000"
    process = ManagedProcess("stubborn", ["sh", "-c", script], log_path=tmp_path / "log", cwd=tmp_path)
    child = tmp_path / "child"
    wait_until(lambda: child.exists() and child.read_text().endswith("\n"), timeout_seconds=10)
    process.stop(grace_seconds=0.2)
    wait_until(lambda: not alive(process.pid) and not alive(int(child.read_text())), timeout_seconds=5)


def test_a_child_survives_the_thread_that_started_it_but_not_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not alive(pid), timeout_seconds=5, what="the end of the child")
