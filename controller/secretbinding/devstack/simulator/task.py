"""Runs one task: hooks (identity, Vault, templates), the process itself, restarts, the end."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from secretbinding.devstack.processes import signal_group, spawn
from secretbinding.devstack.simulator.change_script import run_change_script
from secretbinding.devstack.simulator.durations import format_duration
from secretbinding.devstack.simulator.identity import Identities
from secretbinding.devstack.simulator.state import now_nanos, timestamp
from secretbinding.devstack.simulator.taskenv import ConfigError, base_env, interpolate, interpolated
from secretbinding.devstack.simulator.taskstate import add_event, event, finished, new_state, started
from secretbinding.devstack.simulator.tasktoken import TaskToken, TokenError
from secretbinding.devstack.simulator.templating import Host, TemplateGroup, TemplatesError
from secretbinding.devstack.simulator.timers import Timer, Timers
from secretbinding.devstack.simulator.vault import VaultClient

_CHANCE = random.Random()

Json = dict[str, Any]
Row = Mapping[str, Any]

_RUNNABLE = ("raw_exec", "exec")


class TaskRunner:
    """One task of an allocation, in a thread of its own.

    `changed` is called after every change of `state` (a `TaskState` as the API shows it).
    """

    def __init__(
        self,
        row: Row,
        group: Row,
        task: Row,
        root: Path,
        *,
        vault: VaultClient,
        identities: Identities,
        timers: Timers,
        poll_seconds: float,
        variable: Callable[[Row, Row, str, str], Mapping[str, str] | None],
        changed: Callable[[], None],
    ) -> None:
        self.task = task
        self.state = new_state()
        self._row, self._group, self._root = row, group, root
        self._directory = root / task["Name"]
        self._vault, self._identities, self._timers = vault, identities, timers
        self._poll_seconds = poll_seconds
        self._variable = variable
        self._changed = changed
        self._wake = threading.Condition()
        self._killed = False
        self._fails = False
        self._restart_asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_timer: Timer | None = None
        self._token = TaskToken(row, task, vault, identities, self._directory, timers, self._token_event)
        self._template_env: dict[str, str] = {}
        self._restarts: list[float] = []
        self._thread = threading.Thread(target=self._run, name=f"task-{task['Name']}", daemon=True)

    @property
    def name(self) -> str:
        return str(self.task["Name"])

    @property
    def hook(self) -> str:
        return str((self.task["Lifecycle"] or {}).get("Hook") or "")

    @property
    def sidecar(self) -> bool:
        return bool((self.task["Lifecycle"] or {}).get("Sidecar"))

    def received(self) -> None:
        """Show the task before it may start; the caller reports it."""
        add_event(self.state, event("Received", "Task received by client"))

    def start(self) -> None:
        self._thread.start()

    def updated(self, row: Row, group: Row, task: Row) -> None:
        """Take over an in-place update; the process goes on."""
        self._row, self._group, self.task = row, group, task

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def kill(self, reason: Json | None = None, *, fails: bool = False) -> None:
        """End the task for good: signal, SIGKILL after the kill timeout. Killing twice is allowed."""
        with self._wake:
            if self._killed or self.state["State"] == "dead":
                return
            self._killed, self._fails = True, self._fails or fails
            process = self._process
            if reason is not None:
                add_event(self.state, reason)
            if process is not None:
                wait = format_duration(self.task["KillTimeout"])
                if reason is None:
                    text = f"Sent interrupt. Waiting {wait} before force killing"
                    add_event(self.state, event("Killing", text, KillTimeout=self.task["KillTimeout"]))
                self._terminate(process)
            self._wake.notify_all()
        self._changed()

    def kill_now(self) -> None:
        """SIGKILL without waiting, when the simulator stops."""
        with self._wake:
            self._killed = True
            if self._process is not None:
                signal_group(self._process.pid, signal.SIGKILL)
            self._wake.notify_all()

    def restart(self, reason: Json) -> None:
        """Restart in place; counts for no restart policy."""
        with self._wake:
            if self._killed or self._process is None:
                return
            self._restart_asked = True
            add_event(self.state, reason)
            self._terminate(self._process)
        self._changed()

    def send_signal(self, name: str, reason: Json) -> None:
        with self._wake:
            if self._process is not None:
                add_event(self.state, reason)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, _number(name))
        self._changed()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failed = True
        try:
            failed = self._loop() if self._prepare() else self._fails
        finally:
            self._token.stop()
            with self._wake:
                finished(self.state, failed=failed or self._fails)
            self._changed()

    def _prepare(self) -> bool:
        if self._killed:
            return False
        self._emit(event("Task Setup", "Building Task Directory", Message="Building Task Directory"))
        for name in ("local", "secrets", "private", "tmp"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        self._write_identities()
        try:
            if not self._token.login(self._wait):
                return False
            return self._render()
        except TokenError as error:
            self.kill(event("Killing", f"Vault: {error}", FailsTask=True), fails=True)
            self._emit(event("Task hook failed", f"vault: {str(error).split(': ', 1)[-1]}"))
        except TemplatesError as error:
            self.kill(event("Killing", str(error), FailsTask=True), fails=True)
        return False

    def _write_identities(self) -> None:
        for identity in self.task["Identities"] or []:
            if identity["File"]:
                path = self._directory / (identity["Filepath"] or f"secrets/nomad_{identity['Name']}.jwt")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._identities.sign(self._row, self.task, identity))

    def _render(self) -> bool:
        templates = self.task["Templates"] or []
        host = Host(
            self._vault,
            lambda namespace, path: self._variable(self._row, self.task, namespace, path),
            lambda: self._token.value,
            self._env,
            self._directory,
            self._wait,
            lambda text: self._emit(event("Template", text)),
        )
        once = TemplateGroup([one for one in templates if one["Once"]], host, self._poll_seconds)
        watched = TemplateGroup([one for one in templates if not one["Once"]], host, self._poll_seconds)
        if not once.first_render() or not watched.first_render():
            return False
        # Nomad runs both managers at once, and each replaces the other's variables: the one that is ready last wins.
        # Here it is the one that had to ask Vault, and the watched one where they are alike.
        groups = [one for one, kind in ((once, True), (watched, False)) if any(t["Once"] is kind for t in templates)]
        groups.sort(key=lambda one: one.uses_vault)
        self._template_env = dict(groups[-1].env) if groups else {}
        if watched.uses_vault:
            threading.Thread(target=self._follow, args=(watched,), name="templates", daemon=True).start()
        return True

    def _follow(self, watched: TemplateGroup) -> None:
        """Take over what changes, and act on it in another thread: leases are kept alive during a splay."""
        changes: SimpleQueue[list[Row] | None] = SimpleQueue()
        threading.Thread(target=self._react_to, args=(changes,), name="template-changes", daemon=True).start()
        try:
            for changed in watched.changes():
                self._template_env = dict(watched.env)
                changes.put(changed)
        except TemplatesError as error:
            self.kill(event("Killing", str(error), FailsTask=True), fails=True)
        finally:
            changes.put(None)

    def _react_to(self, changes: SimpleQueue[list[Row] | None]) -> None:
        while (changed := changes.get()) is not None:
            self._react(changed)

    def _react(self, changed: list[Row]) -> None:
        acting = [one for one in changed if one["ChangeMode"] != "noop"]
        if not acting or self._wait(_CHANCE.uniform(0.0, max(one["Splay"] for one in acting) / 1e9)):
            return
        if any(one["ChangeMode"] == "restart" for one in acting):
            self.restart(event("Restart Signaled", "Template with change_mode restart re-rendered"))
            return
        for name in {one["ChangeSignal"] for one in acting if one["ChangeMode"] == "signal"}:
            self.send_signal(name, event("Signaling", "Template re-rendered", TaskSignal=name))
        for script in [one["ChangeScript"] for one in acting if one["ChangeMode"] == "script"]:
            worked, text = run_change_script(script, self._env(), self._directory)
            self._emit(event("Task hook message" if worked else "Task hook failed", text))
            if not worked and script["FailOnError"]:
                self.kill(event("Killing", "Template script failed, task is being killed", FailsTask=True), fails=True)

    def _loop(self) -> bool:
        """Run until the end; True when the task failed."""
        while not self._killed:
            code, number = self._once()
            if self._killed:
                if self._process is None and not self._fails:
                    self._emit(event("Killed", "Task successfully killed"))
                return self._fails
            if self._restart_asked:
                self._restart_asked = False
                self._count_restart()
                continue
            verdict = self._after(code, number)
            if verdict is not None:
                return verdict
        return self._fails

    def _once(self) -> tuple[int, int]:
        """Start the process and wait for its end: (exit code, signal)."""
        try:
            process = self._spawn()
        except ConfigError as error:
            self._emit(event("Failed Validation", str(error), ValidationError=str(error), FailsTask=True))
            return 1, 0
        except (OSError, ValueError) as error:
            text = f"rpc error: code = Unknown desc = {error}"
            self._emit(event("Driver Failure", text, DriverError=text, FailsTask=False))
            return 1, 0
        if process is None:
            return 0, 0
        self._changed()
        status = process.wait()
        signal_group(process.pid, signal.SIGKILL)
        with self._wake:
            self._process = None
            if self._kill_timer is not None:
                self._kill_timer.cancel()
                self._kill_timer = None
            code, number = (status, 0) if status >= 0 else (128 - status, -status)
            text = f"Exit Code: {code}" + (f", Signal: {number}" if number else "")
            ended = event("Terminated", text, ExitCode=code, Signal=number)
            ended["Details"] = {"exit_code": str(code), "oom_killed": "false", "signal": str(number)}
            add_event(self.state, ended)
            self.state["State"] = "pending"
        return code, number

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        if self.task["Driver"] not in _RUNNABLE:
            raise ValueError(f"driver {self.task['Driver']} is not there")
        env = self._env()
        config = interpolated(self.task["Config"] or {}, env, self._row["NodeName"])
        command = str(config.get("command") or "")
        found = command if "/" in command else shutil.which(command, path=env.get("PATH"))
        if not found:
            raise FileNotFoundError(f"failed to launch command: exec: {command!r}: executable file not found in $PATH")
        local = self._directory / found.lstrip("/")
        argv = [
            str(local) if not os.path.isabs(found) and local.exists() else found,
            *map(str, config.get("args") or []),
        ]
        logs = self._root / "alloc" / "logs"
        with contextlib.ExitStack() as stack:
            out = stack.enter_context((logs / f"{self.name}.stdout.0").open("ab"))
            err = stack.enter_context((logs / f"{self.name}.stderr.0").open("ab"))
            with self._wake:
                if self._killed:
                    return None
                self._process = spawn(argv, env=env, cwd=self._directory, stdout=out.fileno(), stderr=err.fileno())
                started(self.state)
                add_event(self.state, event("Started", "Task started by client"))
                return self._process

    def _after(self, code: int, number: int) -> bool | None:
        """What follows an end by itself: None to run again, else whether the task failed."""
        ran_well = code == 0 and number == 0
        finite = self._row["Job"]["Type"] in ("batch", "sysbatch") or (self.hook and not self.sidecar)
        if ran_well and finite:
            return False
        policy = self.task["RestartPolicy"]
        now = time.monotonic()
        self._restarts = [one for one in self._restarts if now - one < policy["Interval"] / 1e9]
        delay = policy["Delay"] / 1e9 * _CHANCE.uniform(1.0, 1.25)
        reason = "Restart within policy"
        if policy["Attempts"] == 0 or len(self._restarts) >= policy["Attempts"]:
            interval = format_duration(policy["Interval"])
            reason = (
                "Policy allows no restarts"
                if policy["Attempts"] == 0
                else f"Exceeded allowed attempts {policy['Attempts']} in interval {interval} and mode is "
                f'"{policy["Mode"]}"'
            )
            if policy["Mode"] != "delay":
                refused = event("Not Restarting", reason, RestartReason=reason, FailsTask=True)
                refused["Details"]["restart_reason"] = reason
                self._emit(refused)
                return True
            delay = policy["Interval"] / 1e9 - (now - self._restarts[0]) if self._restarts else policy["Interval"] / 1e9
        self._restarts.append(now)
        nanos = int(delay * 1e9)
        again = event(
            "Restarting", f"Task restarting in {format_duration(nanos)}", RestartReason=reason, StartDelay=nanos
        )
        again["Details"] = {"restart_reason": reason, "start_delay": str(nanos)}
        with self._wake:
            self._count_restart()
        self._emit(again)
        self._wait(delay)
        return None

    def _count_restart(self) -> None:
        self.state["Restarts"] += 1
        self.state["LastRestart"] = timestamp(now_nanos())

    def _env(self) -> dict[str, str]:
        env = base_env(self._row, self.task, self._group, self._root)
        env |= {key: interpolate(value, env, self._row["NodeName"]) for key, value in (self.task["Env"] or {}).items()}
        env |= self._template_env
        for identity in self.task["Identities"] or []:
            if identity["Env"]:
                env[f"NOMAD_TOKEN_{identity['Name']}"] = self._identities.sign(self._row, self.task, identity)
        if self.task["Vault"] is not None and self.task["Vault"]["Env"] and self._token.value:
            env["VAULT_TOKEN"] = self._token.value
        return env

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _emit(self, new: Json) -> None:
        with self._wake:
            add_event(self.state, new)
        self._changed()

    def _wait(self, seconds: float) -> bool:
        """Sleep; True when the task is to stop."""
        with self._wake:
            self._wake.wait_for(lambda: self._killed or self.state["State"] == "dead", seconds)
            return self._killed or self.state["State"] == "dead"

    def _terminate(self, process: subprocess.Popen[bytes]) -> None:
        # The signal goes to the process alone, as Nomad's executor sends it; the rest of the group dies with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, _number(self.task["KillSignal"] or "SIGINT"))
        self._kill_timer = self._timers.after(
            self.task["KillTimeout"] / 1e9, lambda: signal_group(process.pid, signal.SIGKILL)
        )

    def _token_event(self, kind: str, text: str) -> None:
        """The token was replaced, or could not be: what the Vault block's change mode asks for."""
        if kind == "failed":
            self.kill(event("Killing", f"Vault: {text}", FailsTask=True), fails=True)
        elif self.task["Vault"]["ChangeMode"] == "restart":
            self.restart(event("Restart Signaled", text))
        elif self.task["Vault"]["ChangeMode"] == "signal":
            name = self.task["Vault"]["ChangeSignal"]
            self.send_signal(name, event("Signaling", text, TaskSignal=name))


def _number(name: str) -> int:
    return int(getattr(signal, name, signal.SIGINT))
