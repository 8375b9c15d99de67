"""Wakes the engine when a secret changes: looks at each distinct secret once an interval, and at once when told to."""

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

import structlog

from secretbinding.engine.store import Store
from secretbinding.errors import SecretBindingError, Unavailable, Unreachable
from secretbinding.kinds import Subject
from secretbinding.loops import Loop
from secretbinding.models.key import WorkloadKey
from secretbinding.status import Pass
from secretbinding.watch.folders import Folders
from secretbinding.watch.looking import WatchedVault, look_at
from secretbinding.watch.memory import Memory
from secretbinding.watch.pacing import RateLimit, Tempo
from secretbinding.watch.schedule import Prompt, Prompts, Rounds
from secretbinding.watch.seen import Sight, Told, seen_in_metadata, seen_in_state
from secretbinding.watch.targets import (
    Folder,
    Look,
    Targets,
    name_in_folder,
    plan_looks,
    subjects_of,
    targets_of,
)

_log = structlog.get_logger(__name__)

FIRST_LOOK_SECONDS = 30.0
"""A secret that is new here is looked at within this time, however long the interval is."""
COALESCE_SECONDS = 0.1
"""What is pushed within this time of the first word makes one look."""
EXPECTED_SECONDS = 0.5
"""How long after its time a change is looked for that the server makes by itself."""
PUSHED_PER_SECOND = 20.0
PUSHED_BURST = 100
REFUSED_SECONDS = 300.0
"""A secret that may not be looked at is looked at less and less often, down to this interval."""
_LIST_WASTE = 20
"""A list is not worth it when it brings more than this many secrets for each that is watched."""
_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 2.0


class SecretWatcher:
    """One look for each distinct secret, or folder of several, and interval.

    The measure of a change is what the engine itself has seen, pass by pass (`observed`): a change between the engine's
    read and the first look is found, and a start at which nothing has changed costs no second pass.

    Args:
        store: the bindings.
        on_change: gets the workloads that use a secret of which they have not seen the present state.
        interval_seconds: the time between two looks at one secret; they come up to a tenth earlier or later.
        namespace: the Vault namespace that the bindings' mounts are in.
        clock: seconds that never go back.
        now: the present time by the server's clock, for changes that it makes by itself.
    """

    def __init__(
        self,
        vault: WatchedVault,
        store: Store,
        on_change: Callable[[set[WorkloadKey]], None],
        *,
        interval_seconds: float,
        namespace: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
    ) -> None:
        self._vault = vault
        self._store = store
        self._on_change = on_change
        self._interval = interval_seconds
        self._prefix = f"{namespace.strip('/')}/" if namespace.strip("/") else ""
        self._clock = clock
        self._now = now
        self._rng = rng or random.Random()
        begin = clock()
        self._tempo = Tempo(interval_seconds, begin, self._rng)
        self._limit = RateLimit(PUSHED_PER_SECOND, PUSHED_BURST, begin)
        self._refresh_at = begin
        self._next_poll_at = begin
        self._answered_at = begin
        self._looks: dict[Look, Collection[Subject]] = {}
        self._rounds = Rounds()  # on the tempo's clock
        self._folders = Folders()
        self._known_changes = -1
        self._lock = threading.Lock()  # for what follows
        self._targets = Targets()
        self._memory = Memory()
        self._prompts = Prompts()
        self._unversioned: set[Subject] = set()
        self._stale = True
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._loop = Loop("secret-watch")
        self._thread = threading.Thread(target=self._run, name="secret-watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._loop.turned()
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a request that is under way is not waited for longer than two seconds."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def observed(self, workload: WorkloadKey, found: Pass) -> None:
        """Take what a pass of the engine has seen of the workload's secrets."""
        named = {
            (entry.item.key, name): subject
            for entry in self._store.of_workload(workload)
            for name, subject in subjects_of(entry).items()
        }
        for reference, state in found.observed.secrets.items():
            subject = named.get(reference)
            if subject is None:
                continue
            sight = seen_in_state(state)
            with self._lock:
                self._note_versions(subject, versioned=state.engine != "v1")
                if state.engine == "v1" or sight is None:
                    continue
                if not self._memory.engine_saw(subject, workload, sight):
                    self._push(subject)
                self._expect(subject, sight)

    def pushed(self, path: str) -> None:
        """A request has changed something at `path`, namespace included: look at once if it is about a watched
        secret."""
        if not path.startswith(self._prefix):
            return
        with self._lock:
            for subject in self._targets.about(path[len(self._prefix) :]):
                self._push(subject)

    def silent_seconds(self) -> float:
        """How long no look at a secret has been answered; 0 while no secret is watched."""
        return self._clock() - self._answered_at if self._looks else 0.0

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that live from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round from `start` to `stop`."""
        return (self._loop,)

    def step(self) -> float:
        """Make the one look that is due, if any; returns how many seconds may pass until the next step."""
        now = self._clock()
        if now >= self._refresh_at:
            self._refresh(now)
        rest = self._refresh_at - now
        if now < self._tempo.not_before:
            return min(rest, self._tempo.not_before - now)
        look = self._rounds.next()
        if look is not None:
            until = max(self._next_poll_at - now, self._tempo.seconds_until(self._rounds.due(look), now))
            if until <= 0:
                self._poll(look, now)
                return 0.0
            rest = min(rest, until)
        prompted, until = self._next_prompt(now)
        if prompted is not None:
            self._look_out_of_turn(*prompted)
            return 0.0
        return max(0.0, min(rest, until))

    # Told by others -------------------------------------------------------------------------------------------------

    def _note_versions(self, subject: Subject, *, versioned: bool) -> None:
        if versioned == (subject in self._unversioned):
            self._stale = True
            self._unversioned ^= {subject}

    def _push(self, subject: Subject) -> None:
        if self._prompts.push(subject, self._clock() + COALESCE_SECONDS):
            self._wake.set()

    def _expect(self, subject: Subject, sight: Sight) -> None:
        """Look when the server is going to change the secret by itself: nothing tells of that."""
        if isinstance(sight, Told) and sight.next_change is not None:
            until = max(0.0, (sight.next_change - self._now()).total_seconds())
            if self._prompts.expect(subject, sight.next_change, self._clock() + until + EXPECTED_SECONDS):
                self._wake.set()

    # Out of turn ----------------------------------------------------------------------------------------------------

    def _next_prompt(self, now: float) -> tuple[tuple[Subject, Prompt] | None, float]:
        """The look out of turn that may be made now, or how long there will be none."""
        with self._lock:
            found = self._prompts.next()
            if found is None:
                return None, self._interval
            until = found[1].when - now
            if until > 0:
                return None, until
            if not self._limit.take(now):
                return None, self._limit.seconds_until(now)
            return found, 0.0

    def _look_out_of_turn(self, subject: Subject, prompt: Prompt) -> None:
        with self._lock:
            self._prompts.take(subject, prompt)
            before = self._memory.last(subject)
        answered = self._read(subject)
        with self._lock:
            after = self._memory.last(subject)
            if not answered:
                self._prompts.again(subject, prompt, self._clock(), prompt.pauses)
            elif prompt.pauses and (before is None or before == after) and not prompt.answered_by(after):
                self._prompts.again(subject, prompt, self._clock() + prompt.pauses[0], prompt.pauses[1:])

    # In turn --------------------------------------------------------------------------------------------------------

    def _poll(self, look: Look, now: float) -> None:
        planned = self._tempo.planned(now)
        answered = self._list(look, self._looks[look]) if isinstance(look, Folder) else self._read(look)
        if look in self._rounds:
            pause = self._pause(look) * self._rng.uniform(0.9, 1.1) if answered else 0.0
            self._rounds.plan(look, planned + pause)
        done = self._clock()
        # What has piled up is worked off at a bounded rate, and half of the time at most is spent asking.
        spread = min(self._interval, FIRST_LOOK_SECONDS) * self._tempo.factor(done)
        gap = spread / max(1, len(self._rounds)) / 2
        self._next_poll_at = done + max(gap, done - now)

    def _pause(self, look: Look) -> float:
        """The time until the next look."""
        refusals = self._memory.refusals(look) if not isinstance(look, Folder) else 0
        return max(self._interval, min(REFUSED_SECONDS, self._interval * 2.0 ** min(refusals, 10)))

    def _read(self, subject: Subject) -> bool:
        """Look at one secret; False when the server is in trouble, so that it is to be tried again."""
        with self._lock:
            entry = self._targets.entries.get(subject)
        if entry is None:
            return True
        started = self._clock()
        try:
            sight = look_at(self._vault, subject, entry)
        except (Unavailable, Unreachable) as error:
            self._refused(error)
            return False
        if sight is None:
            with self._lock:
                self._memory.refused(subject)
            return True
        self._worked(started)
        self._take({subject: sight})
        return True

    def _list(self, folder: Folder, inside: Collection[Subject]) -> bool:
        """Look at a folder; when it cannot be listed, its secrets are looked at one by one from now on."""
        started = self._clock()
        try:
            found = self._vault.kv_folder(folder.mount, folder.path)
        except (Unavailable, Unreachable) as error:
            self._refused(error)
            return False
        except SecretBindingError as error:
            self._do_not_list(folder, str(error))
            return True
        self._worked(started)
        if found is None:
            with self._lock:
                there = self._memory.there(inside)
            # A folder of which nothing is left looks like a server without such lists.
            self._do_not_list(folder.mount if there else folder, "the server has no lists with metadata")
            return True
        self._take({subject: seen_in_metadata(found.get(name_in_folder(subject))) for subject in inside})
        if len(found) > _LIST_WASTE * len(inside):
            self._do_not_list(folder, f"it holds {len(found)} secrets, of which {len(inside)} are watched")
        return True

    def _do_not_list(self, what: Folder | str, why: str) -> None:
        self._folders.give_up(what, why, self._clock())
        with self._lock:
            self._stale = True
        self._refresh_at = self._clock()

    def _refused(self, error: SecretBindingError) -> None:
        now = self._clock()
        self._tempo.refused(now)
        pause = round(self._tempo.not_before - now, 1)
        _log.debug("secrets are looked at less often", error=error.reason, pause_seconds=pause)

    def _worked(self, started: float) -> None:
        now = self._answered_at = self._clock()
        self._tempo.worked(now, now - started)

    def _take(self, found: Mapping[Subject, Sight]) -> None:
        """Wake the workloads that have not seen what was found."""
        with self._lock:
            woken = self._memory.looked(found, self._targets.users)
            for subject, sight in found.items():
                self._expect(subject, sight)
        if woken and not self._stopping.is_set():
            self._on_change(woken)

    def _refresh(self, now: float) -> None:
        """Take the bindings as they are now: plan looks for what is new, forget what is gone."""
        self._refresh_at = now + min(_REFRESH_SECONDS, self._interval)
        changes = self._store.changes
        with self._lock:
            stale, self._stale = self._stale, False
            unversioned = frozenset(self._unversioned)
        if not (stale | self._folders.try_again(now) | (changes != self._known_changes)):
            return
        self._known_changes = changes
        targets = targets_of(self._store.snapshot(), unversioned)
        with self._lock:
            self._targets = targets
            self._memory.keep(targets.users)
            self._prompts.keep(targets.users)
        self._plan(plan_looks(targets.users, self._folders.listable), now)

    def _plan(self, looks: dict[Look, Collection[Subject]], now: float) -> None:
        known, self._looks = self._looks, looks
        if not known:
            self._answered_at = now
        for look in known.keys() - looks.keys():
            self._rounds.forget(look)
        planned = self._tempo.planned(now)
        for look, inside in looks.items():
            if look not in known or not set(inside) <= set(known[look]):
                soon = planned + self._rng.uniform(0, min(self._interval, FIRST_LOOK_SECONDS))
                self._rounds.plan(look, min(soon, self._rounds.due(look)) if look in self._rounds else soon)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                seconds = self.step()
                self._loop.turned(seconds)
            except Exception as error:  # noqa: BLE001 - a surprise must not end the watch; its text may hold anything
                _log.error("look failed", error=type(error).__name__)
                seconds = _REFRESH_SECONDS
            self._wake.wait(seconds)
