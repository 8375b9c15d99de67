"""Child processes of the development stack: start, wait until ready, stop with all their children, leave no orphan."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 5
_TAIL_BYTES = 4096

try:
    _LIBC: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True)
except OSError:
    _LIBC = None


class ProcessError(RuntimeError):
    """A child process did not start, ended early, or was not ready in time. The text names it, its log file and the
    last lines of that."""


# All children are started by one thread that lives as long as this process: the kernel sends the parent-death signal
# when the *thread* that started a child ends, so a short-lived thread would take its children with it.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.STDOUT,
    death_signal: signal.Signals = signal.SIGKILL,
    user: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session (and process group) of its own; it gets `death_signal` when this process dies.

    `stdout` and `stderr` are file descriptors. `user` is the uid and gid to run as, for programs that refuse root.
    Raises OSError when the program cannot be started.
    """

    def in_child() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)

    return _SPAWNER.submit(
        lambda: subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            # In the child only a C function that is already loaded is called.
            preexec_fn=in_child if _LIBC is not None else None,
        )
    ).result()


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group that `spawn` gave the child; no such group is success."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(int(sock.getsockname()[1]))
        return ports


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, interval_seconds: float = 0.05, what: str = "condition"
) -> None:
    """Poll until `condition` is true. Raises TimeoutError that names `what`."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_seconds:g} s")
        time.sleep(interval_seconds)


class ManagedProcess:
    """One server process that writes its output to `log_path`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        keep_stdout: bool = True,
        user: int | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log:
            stdout = log.fileno() if keep_stdout else subprocess.DEVNULL
            self._popen = spawn(
                argv, env=env, cwd=cwd, stdout=stdout, stderr=log.fileno(), death_signal=death_signal, user=user
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_ready(self, ready: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Wait until `ready` is true. Raises `ProcessError` when the process ends or the time is over."""

        def condition() -> bool:
            if not self.running:
                code = self._popen.returncode
                raise ProcessError(f"{self.name} ended with exit code {code} while starting; {self._told()}")
            return ready()

        try:
            wait_until(condition, timeout_seconds=timeout_seconds)
        except TimeoutError:
            raise ProcessError(f"{self.name} was not ready after {timeout_seconds:g} s; {self._told()}") from None

    def _told(self) -> str:
        """Where the log is, and its end: whoever stops the stack removes the file with it."""
        try:
            text = self.log_path.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = [line for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
        return "\n".join([f"the end of {self.log_path}:", *lines]) if lines else f"{self.log_path} is empty"

    def kill(self) -> None:
        """SIGKILL to the whole process group, and reap it."""
        signal_group(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after the grace, to the whole process group. Stopping twice is allowed."""
        if self.running:
            signal_group(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        self.kill()
