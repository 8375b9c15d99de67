"""What the specifications of all kinds of secrets have in common: which secret it is, and what running tasks need."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from secretbinding.models.base import Fault, Model
from secretbinding.models.text import quoted
from secretbinding.models.types import duration_seconds


@dataclass(frozen=True, slots=True)
class When:
    """A condition on a specification, told twice: as CEL for the API server and as a Python check.

    Attributes:
        cel: the condition where `{}` stands for the specification; empty for one that always holds.
        check: the same for a specification as JSON holds it.
    """

    cel: str
    check: Callable[[Mapping[str, Any]], bool]


ALWAYS = When("", lambda spec: True)
NEVER = When("false", lambda spec: False)


class KindSpec(Model, ABC):
    """The specification of one kind of secret, the value of its field in `spec.secrets[]`."""

    of_vault: ClassVar[bool] = True
    """Whether the task has to log in to Vault for it."""
    gives_fields: ClassVar[bool] = True
    """Whether there is something to put into variables and files; else the entry is a right, which tasks use by
    themselves."""
    token_lasts: ClassVar[When] = ALWAYS
    """When running tasks go on needing their Vault token, whatever the strategy: Nomad reads again, a lease hangs on
    it, or the task uses it itself."""
    ever_new: ClassVar[When] = NEVER
    """When Nomad, reading again, gets another value each time, every few minutes."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """What tells this secret from every other of its kind, as JSON values: not its version, nor its shape in the
        task."""

    def made_of(self) -> list[Any]:
        """What a role that is made for the entry cannot change: another value makes another role. Empty where none is
        made."""
        return []

    def named(self, role: str) -> Self:
        """The specification with the name of the engine's role that the binding has made for it (`create`); itself
        where it names one that is there."""
        return self


def given_twice(obj: Mapping[str, Any], field: str, what: str) -> Iterator[Fault]:
    """A fault for each member of a raw object's list that was there before."""
    listed = obj.get(field)
    seen: list[object] = []
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        if item in seen:
            yield Fault((field, index), f"{what} {quoted(str(item))} is given twice")
        seen.append(item)


def longer(obj: Mapping[str, Any], first: str, greatest: str) -> Iterator[Fault]:
    """A fault when one duration of a raw object is longer than the other."""
    low, high = duration_seconds(obj.get(first)), duration_seconds(obj.get(greatest))
    if low is not None and high is not None and low > high:
        yield Fault((first,), f"{first} is longer than {greatest}")
