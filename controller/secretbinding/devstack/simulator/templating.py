"""A task's templates: render the first time, write the files, read env files, follow their secrets."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretbinding.devstack.simulator.certificates import certificate_in
from secretbinding.devstack.simulator.envfile import EnvFileError, parse_env_file
from secretbinding.devstack.simulator.leases import (
    Renewal,
    certificate_seconds,
    read_again_seconds,
    renewal_of,
    rotates_now,
)
from secretbinding.devstack.simulator.template import (
    Dependency,
    Rendering,
    Secret,
    TemplateError,
    VariableItems,
    render,
)
from secretbinding.devstack.simulator.vault import VaultClient, VaultError

Row = Mapping[str, Any]

RETRY_ATTEMPTS = 12
_RETRY_FIRST_SECONDS = 0.25
_RETRY_LIMIT_SECONDS = 60.0
_EVENT_AFTER_SECONDS = 3.0
_VARIABLES_SECONDS = 0.2
"""How often the variables of running tasks are looked at; Nomad's clients wait for a change of them."""
_WAIT = {"Min": 5 * 10**9, "Max": 240 * 10**9}
# Each answer counts as a change, whatever is in it, and a template is rendered when there was none for the least wait:
# it has to be shorter than the time between two reads. So the real agent of the devstack is told, too.
_SHORT_WAIT = {"Min": 10**8, "Max": 5 * 10**8}
"""How long a template whose secrets have changed waits for further changes, in nanoseconds, where it does not say so
itself (`Wait`): Nomad's default for its clients."""


class TemplatesError(Exception):
    """Rendering cannot go on: the task is killed, without a local restart. The text is the event's message."""


@dataclass(frozen=True, slots=True)
class Host:
    """What templates need of their task.

    Attributes:
        vault: where secrets are read.
        variable: gives the items of a Nomad variable (namespace, path) that the task may read, None for others.
        token: gives the task's current Vault token, empty without one.
        env: gives the task's environment.
        root: the task's directory; destinations are below it or, with `../alloc`, in the allocation's.
        wait: sleeps that many seconds; returns True when the task is to stop.
        event: emits a task event of type `Template`.
    """

    vault: VaultClient
    variable: Callable[[str, str], Mapping[str, str] | None]
    token: Callable[[], str]
    env: Callable[[], Mapping[str, str]]
    root: Path
    wait: Callable[[float], bool]
    event: Callable[[str], None]


@dataclass(slots=True)
class _Held:
    """A secret that was read, and when something is to be done about it, on the monotonic clock."""

    secret: Secret | VariableItems
    due: float
    renewal: Renewal | None = None
    failures: int = 0


@dataclass(slots=True)
class _Pending:
    """A template whose secrets have changed: when it is rendered anew, at the latest, and when next."""

    latest: float
    due: float


class TemplateGroup:
    """The templates of a task with the same `Once`: Nomad runs one manager for each kind."""

    def __init__(self, templates: list[Row], host: Host, poll_seconds: float) -> None:
        """`poll_seconds` is how often secrets are read again that have no lease and do not end."""
        self._templates = templates
        self._host = host
        self._poll_seconds = poll_seconds
        self._wait = _SHORT_WAIT if poll_seconds * 1e9 <= _WAIT["Min"] else _WAIT
        self._held: dict[Dependency, _Held] = {}
        self._texts: dict[str, str] = {}
        self._used: dict[str, list[Dependency]] = {}
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
            renderings = [self._render(template) for template in self._templates]
            missing = sorted({one for rendering in renderings for one in rendering.missing})
            if not missing:
                self._write(self._templates, renderings)
                return True
            failure = self._fetch(renderings)
            if failure is None and not any(self._waits_for(one, renderings) for one in missing):
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

    def _waits_for(self, missing: str, renderings: list[Rendering]) -> bool:
        """True for what is not there yet: a key of Consul's, which the simulator has none of, or a Nomad variable."""
        if missing.startswith("kv."):
            return True
        asked = (one for rendering in renderings for one in rendering.used if str(one) == missing)
        return any(one.namespace and one not in self._held for one in asked)

    def changes(self) -> Iterator[list[Row]]:
        """Keep leases alive and read secrets again when it is time, until the task is to stop; each time that files
        were written anew, gives their templates.

        Raises `TemplatesError` when a secret cannot be read any more after all attempts.
        """
        pending: dict[str, _Pending] = {}
        while self._held:
            due = min([held.due for held in self._held.values()] + [one.due for one in pending.values()])
            if self._host.wait(max(0.0, due - time.monotonic())):
                return
            now = time.monotonic()
            for asked, held in list(self._held.items()):
                if held.due <= now and self._look_after(asked, held):
                    self._note_change(asked, pending)
            ready = [
                one for one in self._templates if one["DestPath"] in pending and pending[one["DestPath"]].due <= now
            ]
            for template in ready:
                del pending[template["DestPath"]]
            changed = self._render_again(ready)
            if changed:
                yield changed

    def _note_change(self, asked: Dependency, pending: dict[str, _Pending]) -> None:
        now = time.monotonic()
        for template in self._templates:
            if asked in self._used[template["DestPath"]]:
                wait = template["Wait"] or self._wait
                latest = (
                    pending[template["DestPath"]].latest if template["DestPath"] in pending else now + wait["Max"] / 1e9
                )
                pending[template["DestPath"]] = _Pending(latest, min(latest, now + wait["Min"] / 1e9))

    def _look_after(self, asked: Dependency, held: _Held) -> bool:
        """Renew the secret's lease, or read it again; True when it was read."""
        if asked.namespace:
            return self._read_variable(asked)
        if held.renewal is not None and self._renew(held, held.renewal):
            return False
        failure = self._read(asked)
        if failure is None:
            return True
        held.failures += 1
        if held.failures > RETRY_ATTEMPTS:
            raise TemplatesError(f"Template failed: {failure}")
        held.renewal = None
        held.due = time.monotonic() + min(_RETRY_FIRST_SECONDS * 2 ** (held.failures - 1), _RETRY_LIMIT_SECONDS)
        return False

    def _renew(self, held: _Held, renewal: Renewal) -> bool:
        """False when the secret is to be read anew."""
        pause: float | None = None
        if not renewal.refused:
            try:
                seconds = self._host.vault.renew_lease(renewal.lease, self._host.token())
                pause = renewal.renewed(seconds, time.monotonic())
            except VaultError as error:
                if error.status != 403:
                    return False
                renewal.refused = True
        if renewal.refused:
            pause = renewal.not_renewed(time.monotonic())
        if pause is None:
            return False
        held.due = time.monotonic() + pause
        return True

    def _render_again(self, templates: list[Row]) -> list[Row]:
        """Render and write templates; those whose text is another one than before."""
        renderings = {template["DestPath"]: self._render(template) for template in templates}
        self._fetch(list(renderings.values()))
        ready = [one for one in templates if not renderings[one["DestPath"]].missing]
        before = dict(self._texts)
        self._write(ready, [renderings[one["DestPath"]] for one in ready])
        return [one for one in ready if before.get(one["DestPath"]) != self._texts[one["DestPath"]]]

    def _render(self, template: Row) -> Rendering:
        env = self._host.env()
        try:
            return render(
                self._source(template),
                {asked: held.secret for asked, held in self._held.items()},
                env,
                left=template["LeftDelim"],
                right=template["RightDelim"],
                error_on_missing_key=template["ErrMissingKey"],
                destination=str(destination(self._host.root, template["DestPath"], env)),
            )
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
        for asked in dict.fromkeys(asked for rendering in renderings for asked in rendering.used):
            self.uses_vault = True
            if asked not in self._held:
                failure = self._read(asked) or failure
        return failure

    def _read(self, asked: Dependency) -> str | None:
        """Read a secret and hold it; the text of a failure."""
        if asked.namespace:
            self._read_variable(asked)
            return None
        if asked.certificate:
            return self._read_certificate(asked)
        try:
            secret = self._host.vault.fetch(asked, self._host.token())
        except VaultError as error:
            return f"{asked}: {asked}: {error}"
        if rotates_now(secret):
            return "vault rotating secret returned ttl=0, will retry"
        now = time.monotonic()
        renewal = renewal_of(secret, now)
        due = now if renewal is not None else now + read_again_seconds(secret, self._poll_seconds)
        self._held[asked] = _Held(secret, due, renewal)
        return None

    def _read_variable(self, asked: Dependency) -> bool:
        """Hold the variable as it is now, where it is there; True when it is another one than before."""
        items = self._host.variable(asked.namespace, asked.path)
        before = self._held.get(asked)
        if items is None:
            if before is not None:
                before.due = time.monotonic() + _VARIABLES_SECONDS
            return False
        now = VariableItems.of(items)
        self._held[asked] = _Held(now, time.monotonic() + _VARIABLES_SECONDS)
        return before is not None and before.secret != now

    def _read_certificate(self, asked: Dependency) -> str | None:
        """The certificate that the file holds, while it is good; else a new one."""
        try:
            found = certificate_in([Path(asked.certificate).read_text()])
        except OSError:
            found = None
        if found is None or certificate_seconds(found.begins, found.ends) <= 0:
            try:
                issued = self._host.vault.fetch(asked, self._host.token()).fields["Data"]
            except VaultError as error:
                return f"{asked}: {error}"
            chain = issued.get("ca_chain") or []
            found = certificate_in([*(text for text in issued.values() if isinstance(text, str)), *chain])
        if found is None:
            return f"{asked}: no certificate"
        seconds = certificate_seconds(found.begins, found.ends)
        self._held[asked] = _Held(found.secret, time.monotonic() + max(seconds, _RETRY_FIRST_SECONDS))
        return None

    def _write(self, templates: list[Row], renderings: list[Rendering]) -> None:
        """Write the files whose text is another one; read the variables of all env files."""
        for template, rendering in zip(templates, renderings, strict=True):
            self._used[template["DestPath"]] = rendering.used
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
            uid, gid = (-1 if template[name] is None else template[name] for name in ("Uid", "Gid"))
            try:
                os.chown(temporary, uid, gid)
            except OSError as error:
                temporary.unlink()
                raise TemplatesError(f"Template failed: {target}: {(error.strerror or '').lower()}") from None
            temporary.replace(target)
        self.env = {}
        for template in self._templates:
            if template["Envvars"]:
                try:
                    self.env |= parse_env_file(self._texts[template["DestPath"]])
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
