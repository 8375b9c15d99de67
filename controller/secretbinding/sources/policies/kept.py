"""Policies by the thing that holds them: one that is broken now stays as it last was."""

from collections.abc import Callable, Mapping

import structlog

from secretbinding.errors import ManifestError
from secretbinding.models.policy import SecretBindingPolicy

_log = structlog.get_logger(__name__)


class Kept:
    """What one source knows. A policy that cannot be read any more keeps its last good form; one that never could is
    told, since it may be a Deny."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._good: dict[str, tuple[SecretBindingPolicy, ...]] = {}
        self._broken: dict[str, str] = {}

    def take(self, held: Mapping[str, Callable[[], list[SecretBindingPolicy]]]) -> None:
        """What the source holds now, by name: all of it, each with how it is parsed (raises `ManifestError`)."""
        good: dict[str, tuple[SecretBindingPolicy, ...]] = {}
        broken: dict[str, str] = {}
        for name, parse in held.items():
            try:
                good[name] = tuple(parse())
            except ManifestError as error:
                broken[name] = str(error)
                if name in self._good:
                    good[name] = self._good[name]
        for name, why in broken.items():
            if self._broken.get(name) != why:
                stays = "it stays as it was" if name in good else "nothing is decided until it can be read"
                _log.error(f"a policy cannot be used; {stays}", source=self._source, policy=name, problem=why)
        self._good, self._broken = good, broken

    @property
    def policies(self) -> tuple[SecretBindingPolicy, ...]:
        """All policies in their last good form, by name."""
        return tuple(policy for name in sorted(self._good) for policy in self._good[name])

    @property
    def unreadable(self) -> tuple[str, ...]:
        """What cannot be read and never could."""
        return tuple(sorted(set(self._broken) - set(self._good)))
