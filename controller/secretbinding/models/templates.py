"""Go template texts: a scanner for their actions, and the faults that it finds."""
from collections.abc import Iterator
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class TemplateFault:
    message: str
    remedy: str
    line: int
    column: int


def template_faults(text: str, left: str = "{{", right: str = "}}") -> Iterator[TemplateFault]:
    return iter(())
