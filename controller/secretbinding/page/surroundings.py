"""What the page asks the controller for, when somebody looks at it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey


class Answering(NamedTuple):
    """A check of `/readyz`; `problem` is "" when all is well."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Each is asked for anew with every page.

    Attributes:
        entries: the bindings of this controller, in no order.
        get: one of them, None when there is none.
        checks: whether sources, Vault and Nomad are heard.
        held: by source, how many bindings were gone at once, so that nothing of them is deleted.
        part: which part of all jobs this controller works on, in words; "" when it is alone.
    """

    entries: Callable[[], Sequence[Entry]]
    get: Callable[[BindingKey], Entry | None]
    checks: Callable[[], Sequence[Answering]] = lambda: ()
    held: Callable[[], Mapping[str, int]] = dict
    part: Callable[[], str] = lambda: ""
