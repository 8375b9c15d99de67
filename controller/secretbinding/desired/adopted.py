"""What a binding has taken over of a job's hand-written stanzas, as its policy's mark remembers it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.kinds.base import Pin
from secretbinding.ports import Json


@dataclass(frozen=True, slots=True)
class TakenTask:
    """What of one task was taken over: digests of its Vault block and of templates."""

    group: str
    task: str
    vault: str
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a binding has taken over, as its policy's mark remembers it.

    Attributes:
        tasks: where, and what exactly: what somebody has altered since is not taken over any more.
        pins: the version or revision of each secret at that time: what counts as serving.
        share: digest of what the binding would have had in the job then: as long as it would be the same now, nothing
            has to change.
    """

    tasks: tuple[TakenTask, ...]
    pins: Mapping[str, Pin] = field(default_factory=dict)
    share: str = ""

    def to_json(self) -> Json:
        """As it stands in a mark."""
        return {
            "tasks": [[item.group, item.task, item.vault, list(item.templates)] for item in self.tasks],
            "pins": {name: [pin.version, pin.created] for name, pin in sorted(self.pins.items())},
            "share": self.share,
        }


def read_adoption(value: Any) -> Adoption | None:
    """The way back; None for what is none, or was altered beyond reading."""
    match value:
        case {"tasks": list(tasks), "pins": dict(pins), "share": str(share)}:
            pass
        case _:
            return None
    taken: list[TakenTask] = []
    for row in tasks:
        match row:
            case [str(group), str(task), str(vault), list(templates)]:
                taken.append(TakenTask(group, task, vault, tuple(str(item) for item in templates)))
            case _:
                return None
    known: dict[str, Pin] = {}
    for name, row in pins.items():
        match row:
            case [int(version), str(created)]:
                known[str(name)] = Pin(version, created)
            case _:
                return None
    return Adoption(tuple(taken), known, share)
