"""What a source of bindings gives to the engine, and what it gets back."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from secretbinding.errors import Problem
from secretbinding.loops import Loop
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.status.transitions import Transition


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One binding as a source has it now.

    Attributes:
        key: `source` is the source's name, `tenant` the namespace that the binding lives in.
        binding: None when the manifest does not validate; `problems` says why then.
        nomad_namespace: the Nomad namespace of the job when the manifest names none.
        refused: the reason to show for a binding that is None.
        job: for a manifest that does not validate: the job that it names, as far as that can be read, else "".
        generation: the source's number of this specification (metadata.generation, a variable's ModifyIndex).
        deleting: somebody wants it gone; the engine calls `Source.gone` when nothing of it is left.
        rotate_requested_at: the text of the request as it was made (RFC 3339), "" when there is none.
        generate_requested_at: the text of a request for new values: a time, then names of secrets if not all are meant.
        status: the status as it was last written; used for transition times only, never trusted.
    """

    key: BindingKey
    binding: SecretBinding | None
    nomad_namespace: str
    problems: tuple[Problem, ...] = ()
    refused: Reason = Reason.INVALID_MANIFEST
    job: str = ""
    generation: int = 0
    deleting: bool = False
    rotate_requested_at: str = ""
    generate_requested_at: str = ""
    status: SecretBindingStatus = field(default_factory=SecretBindingStatus)


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a source is doing.

    Attributes:
        heard: when it last heard its server, or read its files, all of them (`time.monotonic()`); when it was started,
            as long as it has not.
        held: how many bindings are out of its sight though it does not take them for gone.
        threads: its own, which live from `start` to `stop`.
        loops: what comes round in them.
    """

    heard: float
    held: int
    threads: tuple[threading.Thread, ...]
    loops: tuple[Loop, ...] = ()


class Sink(Protocol):
    """What the engine offers to sources. Every method returns at once and may be called from any thread."""

    def upsert(self, item: SourceItem) -> None:
        """A binding is there, new or changed, or on its way out (`deleting`)."""

    def vanished(self, key: BindingKey) -> None:
        """A binding is gone without having been asked for first, and the source has *proven* that it is gone, not
        merely out of sight. The engine takes its share out and then calls `Source.gone`."""

    def listed(self, source: str) -> None:
        """A complete listing of the source has been delivered. Until then nothing of that source is taken for
        orphaned."""


class Source(Protocol):
    """One place where bindings come from. `report` and `gone` are called by the engine's workers, from any thread; what
    they raise (`errors.ServiceError`) is retried by the engine with the next pass."""

    name: str

    def start(self, sink: Sink) -> None:
        """Begin to deliver bindings, in threads of the source's own; returns at once."""

    def stop(self) -> None:
        """Stop delivering; returns when the source's threads have ended."""

    def report(self, key: BindingKey, status: SecretBindingStatus, transitions: Sequence[Transition]) -> None:
        """Write a status that differs from the last one; called only then."""

    def prepare(self, key: BindingKey) -> None:
        """Called before anything is made for a binding, in every pass: the place for a finalizer. Cheap when there is
        nothing to do."""

    def gone(self, key: BindingKey) -> None:
        """Nothing is left of a binding that was `deleting` or had `vanished`: remove the finalizer, the status."""

    def proves_absent(self, key: BindingKey) -> bool:
        """True when the source can prove, by asking for just this one, that the binding does not exist."""

    def healthy(self, now: float) -> str:
        """`""` while the source hears its server, else a sentence that says since when not; `now` is
        `time.monotonic()`."""

    def pulse(self) -> Pulse:
        """How it is doing, for metrics and health checks. Cheap, and from any thread."""
