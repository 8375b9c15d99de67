"""The acts of the demo, in order; each checks what it shows."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from urllib3.exceptions import HTTPError

from secretbinding.app import make_reconciler
from secretbinding.devstack.api import ApiError
from secretbinding.devstack.demo.stage import JOB, NAMESPACE, DemoError, Stage, Watcher, own_environment, wait_for
from secretbinding.devstack.processes import ProcessError
from secretbinding.engine.oneshot import OneShot
from secretbinding.errors import SecretBindingError
from secretbinding.job.diff import job_diff, policy_diff, role_diff
from secretbinding.logs import configure
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import parse_manifests
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.plan import RegisterJob, WritePolicy, WriteRole
from secretbinding.sources.base import SourceItem

_FIRST = "app first-password"
_SECOND = "app second-password"
_LAST = "app fifth-password"
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_BOOKKEEPING = (
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
    "Version",
    "SubmitTime",
    "Stable",
    "Status",
    "StatusDescription",
)


class Narrator:
    """Tells the story on a terminal with a spinner, elsewhere in plain lines."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._started = time.monotonic()

    def act(self, title: str) -> None:
        """A heading."""
        self._console.print(f"\n[bold]{title}[/bold]")

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """One step: what is being done, then what came of it and how long it took. The block calls the function it is
        given to say what was seen."""
        started = time.monotonic()
        seen: list[str] = []
        with Status(f"{text} ...", console=self._console, spinner="dots"):
            yield seen.append
        took = time.monotonic() - started
        note = escape(f": {seen[-1]}") if seen else ""
        self._console.print(f"  [green]ok[/green] {took:5.1f} s  {text}{note}", markup=True, soft_wrap=True)

    def show(self, text: str) -> None:
        """A block of text, such as a diff."""
        for line in text.rstrip().splitlines():
            colour = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            self._console.print(f"      {line}", style=colour, markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(f"  {text}", markup=False, soft_wrap=True)

    def end(self) -> None:
        """The closing line."""
        self._console.print(f"\nAll of it happened, in {time.monotonic() - self._started:.1f} s.")

    def fail(self, text: str) -> None:
        """What went wrong."""
        self._console.print(f"\n[red]error:[/red] {escape(text)}", soft_wrap=True)


def main(*, keep: bool = False) -> int:
    """Run the demo; 0 when everything happened that should, 1 when something did not, 130 when SIGINT or SIGTERM ended
    it before its end. With `keep` the servers stay until one of the two comes. Nothing is left behind in any case."""
    # What the controller would log is told by the story itself; errors still show.
    configure("ERROR", "text")
    before = {number: signal.signal(number, _interrupt) for number in _STOPPING}
    try:
        with own_environment():
            return _tell(Narrator(), keep=keep)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(narrator: Narrator, *, keep: bool) -> int:
    stage: Stage | None = None
    try:
        stage = Stage()
        _play(stage, narrator, keep=keep)
        narrator.end()
        if keep:
            _stay(stage, narrator)
    except (DemoError, ApiError, HTTPError, ProcessError, SecretBindingError) as error:
        narrator.fail(str(error))
        return 1
    except KeyboardInterrupt:
        narrator.fail("interrupted")
        return 130
    finally:
        # A second signal must not leave half of it behind.
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if stage is not None:
            stage.stop()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _play(stage: Stage, narrator: Narrator, *, keep: bool) -> None:
    narrator.act("Servers")
    with narrator.step("OpenBao (Vault's API), in memory") as seen:
        stage.start_openbao()
        seen(stage.openbao.address)
    with narrator.step("Nomad") as seen:
        stage.start_nomad()
        kind = stage.nomad.kind if stage.nomad is not None else ""
        label = "a real agent" if kind == "nomad" else "the simulator, since no `nomad` is on PATH"
        seen(f"{label}, {stage.api.address}")
    original = _before(stage, narrator)
    _bind(stage, narrator)
    _rotate(stage, narrator)
    _missing_field(stage, narrator)
    _bad_secret(stage, narrator)
    _unbind(stage, narrator, original)
    if keep:
        _bind_again(stage, narrator)


def _before(stage: Stage, narrator: Narrator) -> dict[str, Any]:
    narrator.act("a. A secret in Vault, and a job that knows nothing of Vault")
    with narrator.step("write secret/myapp (username, password)"):
        stage.openbao.put_secret(JOB, {"username": "app", "password": "first-password"})
    with narrator.step("register the job myapp, two allocations") as seen:
        stage.register(_file("myapp.nomad.hcl"))
        wait_for("both allocations run", lambda: len(stage.seen()) == 2, timeout_seconds=30)
        _wait_deployment(stage)
        seen("its tasks see no DB_USER and no DB_PASS")
    if any(stage.seen().values()):
        raise DemoError("the job has secrets before it was bound")
    return stage.job()


def _bind(stage: Stage, narrator: Narrator) -> None:
    narrator.act("b. A SecretBinding")
    manifest = _file("myapp.yaml")
    with narrator.step(
        "write the first rule (Nomad variable nomad-vault/policies/first-rule): without one, no binding"
    ):
        stage.put_policy(_file("policy.yaml"))
    narrator.show(_file("policy.yaml").partition("spec:\n")[2])
    if stage.controller is None:
        stage.start_controller()
    _show_plan(stage, narrator, manifest)
    _declare(stage, narrator, _FIRST)


def _declare(stage: Stage, narrator: Narrator, value: str) -> None:
    """Declare the binding, and wait until it is Ready, both tasks see the value and the deployment has succeeded."""
    manifest = _file("myapp.yaml")
    with narrator.step("declare it (Nomad variable nomad-vault/bindings/myapp); the controller rolls it out") as seen:
        stage.put_binding(manifest)
        wait_for(
            "the binding is Ready", lambda: _reason(stage, ConditionType.READY) == Reason.READY, timeout_seconds=40
        )
        wait_for(f"both see `{value}`", lambda: list(stage.seen().values()) == [value] * 2, timeout_seconds=40)
        _wait_deployment(stage)
        seen(f"Ready; both tasks see `{value}`")


def _bind_again(stage: Stage, narrator: Narrator) -> None:
    narrator.act("f. Bound again, to stay")
    with narrator.step("write version 5 of secret/myapp, a good one"):
        stage.openbao.put_secret(JOB, {"username": "app", "password": "fifth-password"})
    _declare(stage, narrator, _LAST)


def _show_plan(stage: Stage, narrator: Narrator, manifest: str) -> None:
    if stage.settings is None or stage.clients is None:
        raise DemoError("the controller is not started")
    key = BindingKey("nomad", NAMESPACE, JOB)
    item = SourceItem(key, parse_manifests(manifest, file="myapp.yaml", source="nomad")[0], NAMESPACE)
    for preview in OneShot(make_reconciler(stage.settings, stage.clients), [item]).preview().values():
        for action in preview.plan.actions:
            if isinstance(action, WritePolicy):
                narrator.say(f"policy {action.name}")
                narrator.show(policy_diff(action.before, action.text))
            elif isinstance(action, WriteRole):
                narrator.say(f"JWT role {action.name}")
                narrator.show(role_diff(action.before, action.body))
            elif isinstance(action, RegisterJob):
                narrator.say(f"job {JOB}")
                narrator.show(job_diff(action.before, action.job, stage.settings.controller.instance))


def _rotate(stage: Stage, narrator: Narrator) -> None:
    narrator.act("c. A rotation: a new version is written")
    before = set(stage.seen())
    with Watcher(stage) as watcher:
        with narrator.step("write version 2 of secret/myapp; the controller sees it and registers the job") as seen:
            stage.openbao.put_secret(JOB, {"username": "app", "password": "second-password"})
            took = wait_for("the job is registered anew", lambda: _pinned(stage) == "2", timeout_seconds=20)
            seen(f"registered {took:.2f} s after the write")
        with narrator.step("the first allocation is replaced, the other one still serves version 1") as seen:
            wait_for(
                "one task sees the new value while the other one sees the old",
                lambda: watcher.together(_FIRST, _SECOND),
                timeout_seconds=30,
            )
            seen("one sees version 2, one version 1, as the job's update block says")
        with narrator.step("the second follows when the first is healthy") as seen:
            wait_for("both see the new value", lambda: list(stage.seen().values()) == [_SECOND] * 2, timeout_seconds=30)
            _wait_deployment(stage)
            wait_for("the status says so", lambda: _serving(stage) == "2", timeout_seconds=20)
            seen("both see version 2; status: servingVersion 2, RotationHealthy UpToDate")
    if before & set(stage.seen()):
        raise DemoError("an allocation was not replaced")
    least = watcher.fewest(_FIRST, _SECOND)
    if least < 1:
        raise DemoError("there was a moment at which no allocation served the secret")
    _say_served(narrator, watcher, least, "version 1 or 2")


def _say_served(narrator: Narrator, watcher: Watcher, least: int, what: str) -> None:
    narrator.say(f"   at each of {len(watcher.moments)} looks at least {least} of 2 allocations served {what}")


def _missing_field(stage: Stage, narrator: Narrator) -> None:
    narrator.act("d. Two bad rotations")
    before = (stage.job()["Version"], set(stage.seen()))
    with narrator.step("version 3 lacks the field `password`: refused before anything rolls") as seen:
        stage.openbao.put_secret(JOB, {"username": "app", "passwd": "third-password"})
        wait_for(
            "the status says SecretFieldMissing",
            lambda: _reason(stage, ConditionType.ROTATION_HEALTHY) == Reason.SECRET_FIELD_MISSING,
            timeout_seconds=20,
        )
        seen(_message(stage, ConditionType.ROTATION_HEALTHY))
    if (stage.job()["Version"], set(stage.seen())) != before:
        raise DemoError("the job was touched for a version that lacks a field")


def _bad_secret(stage: Stage, narrator: Narrator) -> None:
    with (
        Watcher(stage) as watcher,
        narrator.step("version 4 makes the task fail: rolled, the deployment fails, Nomad reverts") as seen,
    ):
        stage.openbao.put_secret(JOB, {"username": "app", "password": "broken"})
        wait_for(
            "the status says DeploymentReverted",
            lambda: _reason(stage, ConditionType.ROTATION_HEALTHY) == Reason.DEPLOYMENT_REVERTED,
            timeout_seconds=60,
        )
        if "failed" not in stage.deployment_states():
            raise DemoError("no deployment of Nomad's failed")
        wait_for("the job pins version 2 again", lambda: _pinned(stage) == "2", timeout_seconds=40)
        wait_for("both see version 2", lambda: list(stage.seen().values()) == [_SECOND] * 2, timeout_seconds=40)
        _wait_deployment(stage)
        seen(_message(stage, ConditionType.ROTATION_HEALTHY))
    least = watcher.fewest(_SECOND)
    if least < 1:
        raise DemoError("there was a moment at which no allocation served the old version")
    _say_served(narrator, watcher, least, "version 2; version 4 is not tried again")


def _unbind(stage: Stage, narrator: Narrator, original: dict[str, Any]) -> None:
    narrator.act("e. The binding is deleted")
    with narrator.step("the job is given back, then role and policy go") as seen:
        stage.delete_binding()
        wait_for("policies and roles are gone", lambda: not _ours(stage), timeout_seconds=60)
        wait_for("the status is gone", lambda: stage.status() is None, timeout_seconds=20)
        _wait_deployment(stage)
        seen("no policy and no role of ours is left")
    with narrator.step("the job is exactly as in (a)"):
        now = stage.job()
        changed = [name for name in original if name not in _BOOKKEEPING and original[name] != now.get(name)]
        if changed or set(original) != set(now):
            raise DemoError(f"the job is not as it was: {', '.join(changed)} differ")
        if any(stage.seen().values()):
            raise DemoError("a task still sees the secret")


def _stay(stage: Stage, narrator: Narrator) -> None:
    narrator.act("Everything is left running; interrupt (Ctrl-C) to stop it")
    narrator.say(f"export VAULT_ADDR={stage.openbao.address} VAULT_TOKEN={stage.openbao.root_token}")
    narrator.say(f"export NOMAD_ADDR={stage.api.address}")
    narrator.say("secretbinding status --source nomad")
    sys.stdout.flush()
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        narrator.say("stopping")


def _file(name: str) -> str:
    return files("secretbinding.devstack.demo").joinpath(name).read_text(encoding="utf-8")


def _reason(stage: Stage, kind: ConditionType) -> str:
    status = stage.status()
    condition = status.condition(kind) if status is not None else None
    return condition.reason if condition is not None else ""


def _message(stage: Stage, kind: ConditionType) -> str:
    status = stage.status()
    condition = status.condition(kind) if status is not None else None
    return condition.message if condition is not None else ""


def _serving(stage: Stage) -> str:
    status = stage.status()
    return (status.secrets[0].serving_version or "") if status is not None and status.secrets else ""


def _pinned(stage: Stage) -> str:
    """The version that the job's template reads."""
    task = stage.job()["TaskGroups"][0]["Tasks"][0]
    for template in task.get("Templates") or []:
        _, found, rest = str(template["EmbeddedTmpl"]).partition("?version=")
        if found:
            return rest.partition('"')[0]
    return ""


def _wait_deployment(stage: Stage) -> None:
    wait_for("the deployment succeeded", lambda: stage.deployment().get("Status") == "successful", timeout_seconds=40)


def _ours(stage: Stage) -> list[str]:
    if stage.clients is None or stage.settings is None:
        return []
    vault, mount = stage.clients.vault, stage.settings.controller.jwt_mount
    names = [*vault.list_policies(), *vault.list_jwt_roles(mount)]
    return [name for name in names if name.startswith("nsb.")]
