"""A task's Vault token: log in with the workload identity, write the file, renew, log in again."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secretbinding.devstack.simulator.identity import Identities
from secretbinding.devstack.simulator.timers import Timer, Timers
from secretbinding.devstack.simulator.vault import VaultClient, VaultError

Row = Mapping[str, Any]

_BACKOFF_SECONDS = 5.0
_BACKOFF_LIMIT_SECONDS = 180.0


class TokenError(Exception):
    """Vault refused the login: the allocation fails, nothing is tried again."""


class TaskToken:
    """`value` is the current token, empty without a Vault block.

    `tell` is called with (`new`, message) after a token was replaced, with (`failed`, message) when none can be had.
    """

    def __init__(
        self,
        row: Row,
        task: Row,
        vault: VaultClient,
        identities: Identities,
        directory: Path,
        timers: Timers,
        tell: Callable[[str, str], None],
    ) -> None:
        self.value = ""
        self._row, self._task, self._vault, self._identities = row, task, vault, identities
        self._directory, self._timers, self._tell = directory, timers, tell
        self._timer: Timer | None = None
        self._stopped = False

    def login(self, wait: Callable[[float], bool]) -> bool:
        """Get the first token; blocks while Vault does not answer, and where the task has no identity for Vault.

        False when the task is to stop meanwhile (`wait` says so). Raises `TokenError`.
        """
        block = self._task["Vault"]
        if block is None:
            return True
        attempt = 0
        while True:
            identity = self._identity()
            if identity is not None:
                try:
                    self._derive(block, identity)
                    return True
                except VaultError as error:
                    if not error.recoverable:
                        raise TokenError(
                            "failed to derive vault token: failed to derive Vault token for identity "
                            f"{identity['Name']}: {error}"
                        ) from None
            if wait(min(_BACKOFF_SECONDS * 2**attempt, _BACKOFF_LIMIT_SECONDS)):
                return False
            attempt += 1

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _identity(self) -> Row | None:
        name = f"vault_{self._task['Vault']['Cluster']}"
        return next((one for one in self._task["Identities"] or [] if one["Name"] == name), None)

    def _derive(self, block: Row, identity: Row) -> None:
        login = self._vault.login(block["Role"], self._identities.sign(self._row, self._task, identity))
        self.value = login.token
        place = "private" if block["DisableFile"] else "secrets"
        path = self._directory / place / "vault_token"
        path.write_text(login.token)
        if login.renewable and not block["AllowTokenExpiration"]:
            self._plan(login.lease_seconds)

    def _plan(self, lease_seconds: int) -> None:
        if not self._stopped:
            self._timer = self._timers.after(
                lease_seconds / 2, lambda: threading.Thread(target=self._renew, daemon=True).start()
            )

    def _renew(self) -> None:
        """Renew; when Vault refuses, log in again, as Nomad's client does."""
        if self._stopped:
            return
        try:
            self._plan(self._vault.renew(self.value))
            return
        except VaultError as error:
            if error.recoverable:
                self._timer = self._timers.after(
                    _BACKOFF_SECONDS, lambda: threading.Thread(target=self._renew, daemon=True).start()
                )
                return
        identity = self._identity()
        try:
            if identity is not None:
                self._derive(self._task["Vault"], identity)
                self._tell("new", "Vault: new Vault token acquired")
        except VaultError as error:
            self._tell("failed", f"failed to derive vault token: {error}")
