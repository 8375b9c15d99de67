"""A task's templates: render the first time, write the files, read env files, poll for changes."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretbinding.devstack.simulator.envfile import EnvFileError, parse_env_file
from secretbinding.devstack.simulator.template import Rendering, Secret, TemplateError, render
from secretbinding.devstack.simulator.vault import VaultClient, VaultError

Row = Mapping[str, Any]

RETRY_ATTEMPTS = 12
_RETRY_FIRST_SECONDS = 0.25
_RETRY_LIMIT_SECONDS = 60.0
_EVENT_AFTER_SECONDS = 3.0


class TemplatesError(Exception):
    """Rendering cannot go on: the task is killed, without a local restart. The text is the event's message."""


@dataclass(frozen=True, slots=True)
class Host:
    """What templates need of their task.

    Attributes:
        vault: where secrets are read.
        token: gives the task's current Vault token, empty without one.
        env: gives the task's environment.
        root: the task's directory; destinations are below it or, with `../alloc`, in the allocation's.
        wait: sleeps that many seconds; returns True when the task is to stop.
        event: emits a task event of type `Template`.
    """

    vault: VaultClient
    token: Callable[[], str]
    env: Callable[[], Mapping[str, str]]
    root: Path
    wait: Callable[[float], bool]
    event: Callable[[str], None]


class TemplateGroup:
    """The templates of a task with the same `Once`: Nomad runs one manager for each kind."""

    def __init__(self, templates: list[Row], host: Host) -> None:
        self._templates = templates
        self._host = host
        self._secrets: dict[str, Secret] = {}
        self._texts: dict[str, str] = {}
        self.uses_vault = False
        self.env: dict[str, str] = {}

    def first_render(self) -> bool:
        """Render all; blocks while something is missing. False when the task is to stop meanwhile.

        Raises `TemplatesError`.
        """
        if not self._templates:
            return True
        attempts, waited, told = 0, 0.0, False
        while True:
            renderings = self._pass()
            missing = sorted({one for rendering in renderings for one in rendering.missing})
            if not missing:
                self._write(renderings)
                return True
            failure = self._fetch(renderings)
            if failure is None and not any(one.startswith("kv.") for one in missing):
                continue
            attempts += 1
            if attempts > RETRY_ATTEMPTS and failure is not None:
                raise TemplatesError(f"Template failed: {failure}")
            pause = min(_RETRY_FIRST_SECONDS * 2 ** (attempts - 1), _RETRY_LIMIT_SECONDS)
            if not told:
                pause = min(pause, _EVENT_AFTER_SECONDS - waited)
            if self._host.wait(pause):
                return False
            waited += pause
            if not told and waited >= _EVENT_AFTER_SECONDS:
                told = True
                self._host.event(f"Missing: {', '.join(missing)}")

    def changed(self) -> list[Row]:
        """Read everything again and write what is different; returns the templates that changed.

        Raises `TemplatesError` when a secret cannot be read any more after all attempts.
        """
        used = list(self._secrets)
        for path in used:
            for attempt in range(RETRY_ATTEMPTS + 1):
                failure = self._read(path)
                if failure is None:
                    break
                if attempt == RETRY_ATTEMPTS:
                    raise TemplatesError(f"Template failed: {failure}")
                if self._host.wait(min(_RETRY_FIRST_SECONDS * 2**attempt, _RETRY_LIMIT_SECONDS)):
                    return []
        before = dict(self._texts)
        renderings = self._pass()
        if any(one.missing for one in renderings):
            return []
        self._write(renderings)
        return [one for one in self._templates if before.get(one["DestPath"]) != self._texts[one["DestPath"]]]

    def _pass(self) -> list[Rendering]:
        env = self._host.env()
        try:
            return [
                render(
                    self._source(template),
                    self._secrets,
                    env,
                    left=template["LeftDelim"],
                    right=template["RightDelim"],
                    error_on_missing_key=template["ErrMissingKey"],
                )
                for template in self._templates
            ]
        except TemplateError as error:
            raise TemplatesError(f"Template failed: (dynamic): {error}") from None

    def _source(self, template: Row) -> str:
        if template["EmbeddedTmpl"]:
            return str(template["EmbeddedTmpl"])
        try:
            return (self._host.root / str(template["SourcePath"])).read_text()
        except OSError as error:
            raise TemplatesError(f"Template failed: failed to read template: {error.strerror}") from None

    def _fetch(self, renderings: list[Rendering]) -> str | None:
        """Read all secrets that are missing; the text of a failure, None when all are there."""
        failure = None
        for path in dict.fromkeys(path for rendering in renderings for path in rendering.used):
            self.uses_vault = True
            if path not in self._secrets:
                failure = self._read(path) or failure
        return failure

    def _read(self, path: str) -> str | None:
        try:
            self._secrets[path] = self._host.vault.read(path, self._host.token())
        except VaultError as error:
            return f"vault.read({path}): vault.read({path}): {error}"
        return None

    def _write(self, renderings: list[Rendering]) -> None:
        for template, rendering in zip(self._templates, renderings, strict=True):
            target = destination(self._host.root, template["DestPath"], self._host.env())
            if self._texts.get(template["DestPath"]) == rendering.text:
                continue
            self._texts[template["DestPath"]] = rendering.text
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{random.randrange(1 << 30)}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(rendering.text)
            temporary.chmod(int(template["Perms"] or "0644", 8))
            temporary.replace(target)
        self.env = {}
        for template, rendering in zip(self._templates, renderings, strict=True):
            if template["Envvars"]:
                try:
                    self.env |= parse_env_file(rendering.text)
                except EnvFileError as error:
                    raise TemplatesError(
                        f"Template failed to read environment variables: error parsing env template "
                        f'"{template["DestPath"]}": {error}'
                    ) from None


def destination(root: Path, path: str, env: Mapping[str, str]) -> Path:
    """Where a template goes. Raises `TemplatesError` when it would leave the allocation's directory."""
    for name in ("NOMAD_TASK_DIR", "NOMAD_SECRETS_DIR", "NOMAD_ALLOC_DIR"):
        path = path.replace("${" + name + "}", env.get(name, ""))
    base = str(root.parent)
    full = os.path.normpath(path if path.startswith(base) else f"{root}/{path.lstrip('/')}")
    if not full.startswith(base + os.sep):
        raise TemplatesError("template destination path escapes alloc directory")
    return Path(full)
