"""Policies in files and directories, looked at every few seconds."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from secretbinding.engine.policies import PolicySink
from secretbinding.loops import Loop
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policies
from secretbinding.sources.files.listing import files_below
from secretbinding.sources.policies.kept import Kept

_log = structlog.get_logger(__name__)

NAME = "files"


def read_files(paths: Sequence[str]) -> dict[str, bytes]:
    """The text of every policy file of the paths, by its name. Raises `OSError` when any of them cannot be read: then
    nothing may be concluded."""
    names: dict[str, None] = {}
    for path in paths:
        names.update(dict.fromkeys(files_below(path)) if os.path.isdir(path) else {path: None})
    found: dict[str, bytes] = {}
    for name in names:
        with open(name, "rb") as file:
            found[name] = file.read()
    return found


class FilePolicies:
    """Policies in the given files and directories. As long as any of them cannot be read, what was read last stays."""

    name = NAME

    def __init__(self, paths: Sequence[str], *, interval_seconds: float = 2.0) -> None:
        self._paths = tuple(paths)
        self._interval_seconds = interval_seconds
        self._read: dict[str, bytes] | None = None
        self._kept = Kept(NAME)
        self._trouble = ""
        self._stopping = threading.Event()
        self._sink: PolicySink | None = None
        self._loop = Loop("policies-files")
        self._thread = threading.Thread(target=self._run, name="policies-files", daemon=True)

    def start(self, sink: PolicySink) -> None:
        self._sink = sink
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round in it."""
        return (self._loop,)

    def scan(self, sink: PolicySink) -> None:
        """Look once, and tell what is there where it is another thing than before."""
        try:
            # Twice, so that files that are being replaced are seen all as they were, or all as they are.
            found = read_files(self._paths)
            if found != read_files(self._paths):
                return
        except OSError as error:
            why = f"{error.filename or ', '.join(self._paths)} cannot be read: {error.strerror or type(error).__name__}"
            if why != self._trouble:
                _log.error("policies cannot be read, and stay as they are", error=why)
            self._trouble = why
            sink.failed(NAME, why)
            return
        self._trouble = ""
        if found == self._read:
            return
        self._read = found
        held: dict[str, Callable[[], list[SecretBindingPolicy]]] = {
            name: partial(parse_policies, data, file=name) for name, data in found.items()
        }
        self._kept.take(held)
        sink.deliver(NAME, self._kept.policies, self._kept.unreadable)

    def _run(self) -> None:
        self._loop.turned()
        while self._sink is not None and not self._stopping.is_set():
            self.scan(self._sink)
            self._loop.turned(self._interval_seconds)
            self._stopping.wait(self._interval_seconds)
