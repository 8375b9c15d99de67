"""Asks Vault and Nomad whether they answer when nothing else has lately, and when our own tokens end."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from secretbinding.errors import (
    Denied,
    NoLeader,
    SecretBindingError,
    ServiceError,
    Unavailable,
    Unreachable,
    VaultSealed,
)
from secretbinding.loops import Loop
from secretbinding.metrics.parts import AskedNomad, AskedVault
from secretbinding.models.key import DEFAULT_CONNECTION

_log = structlog.get_logger(__name__)

VAULT, NOMAD = "vault", "nomad"
SYSTEMS = (VAULT, NOMAD)
INTERVAL_SECONDS = 15.0
TOKEN_SECONDS = 60.0
_FRESH = 4.0
"""An answer counts for so many intervals."""
_STOP_SECONDS = 2.0
# A plain ServiceError is an answer that is not the server's own: a proxy's, for one.
_NO_ANSWER = frozenset(kind.reason for kind in (Unreachable, Unavailable, VaultSealed, NoLeader, ServiceError))
# It answers while Vault is sealed.
_HEALTH = "health"


class ServerProbe:
    """Whatever request was answered counts, so that servers which are used anyway are asked nothing more than for the
    tokens, once a minute. `called` and `answering` may be called from any thread."""

    def __init__(
        self,
        vault: AskedVault,
        nomad: AskedNomad,
        *,
        connection: str = DEFAULT_CONNECTION,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._vault = vault
        self._nomad = nomad
        self._interval = interval_seconds
        self._clock = clock
        self._now = now
        self._answered: dict[str, float] = {}
        self._expiry: dict[str, datetime] = {}
        self._silenced: set[str] = set()
        self._tokens_at = clock()
        self._connection = connection
        self._told: dict[str, bool] = {}
        self._stopping = threading.Event()
        name = "server-probe" if connection == DEFAULT_CONNECTION else f"server-probe-{connection}"
        self._loop = Loop(name, clock=clock)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start asking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking; a request that is under way is not waited for longer than two seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round from `start` to `stop`."""
        return (self._loop,)

    def called(self, system: str, operation: str, outcome: str) -> None:
        """A request was answered, or not (`adapters.transport.OnCall`)."""
        if operation != _HEALTH and outcome not in _NO_ANSWER:
            self._answered[system] = self._clock()

    def answering(self, system: str) -> bool:
        """Whether a server has lately given an answer that it can only give when it works."""
        answered = self._answered.get(system)
        return answered is not None and self._clock() - answered <= _FRESH * self._interval

    def expiry(self, system: str) -> datetime | None:
        """When our token for a server ends, or has ended; None for never, and when it may not tell."""
        return self._expiry.get(system)

    def look(self) -> None:
        """Ask what is to be asked now."""
        for system, ask in ((VAULT, self._vault_works), (NOMAD, self._nomad_works)):
            now = self._clock()
            if now - self._answered.get(system, now - self._interval) < self._interval:
                continue
            try:
                if ask():
                    self._answered[system] = self._clock()
            except SecretBindingError as error:
                _log.debug("server does not answer", system=system, error=error.reason)
        self._tell()
        if self._clock() >= self._tokens_at:
            self._tokens_at = self._clock() + TOKEN_SECONDS
            self._look_up(VAULT, self._vault.token_expiry)
            self._look_up(NOMAD, self._nomad.token_expiry)

    def _tell(self) -> None:
        """A line whenever a server stops answering, and when it answers again."""
        for system in SYSTEMS:
            answering = self.answering(system)
            if answering == self._told.get(system, True):
                continue
            self._told[system] = answering
            if answering:
                _log.info("server answers again", system=system, connection=self._connection)
            else:
                _log.warning("server does not answer", system=system, connection=self._connection)

    def _vault_works(self) -> bool:
        health = self._vault.health()
        return health.initialized and not health.sealed

    def _nomad_works(self) -> bool:
        return bool(self._nomad.leader())

    def _look_up(self, system: str, ask: Callable[[], datetime | None]) -> None:
        try:
            expiry = ask()
        except Denied as error:
            known = self._expiry.get(system)
            if known is not None and known <= self._now() + timedelta(seconds=TOKEN_SECONDS):
                return  # A token that has ended tells nothing any more, and that it has is what has to be told.
            self._expiry.pop(system, None)
            if system not in self._silenced:
                self._silenced.add(system)
                _log.info(
                    "when the token ends cannot be told", system=system, connection=self._connection, error=str(error)
                )
            return
        except SecretBindingError:
            return  # What was known of it holds until it can be asked again.
        if expiry is None:
            self._expiry.pop(system, None)
        else:
            self._expiry[system] = expiry

    def _run(self) -> None:
        self._loop.turned()
        while not self._stopping.is_set():
            try:
                self.look()
                self._loop.turned(self._interval)
            except Exception as error:  # noqa: BLE001 - a surprise must not end the probe; its text may hold anything
                _log.error("server cannot be asked", error=type(error).__name__)
            self._stopping.wait(self._interval)
