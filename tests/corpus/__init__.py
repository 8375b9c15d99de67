"""Good and bad manifests, judged alike by the model, the CRD's rules, and a real API server.

A bad manifest begins with three comment lines: `field` and `message` of the one problem that the model finds, and what
the server does with it: `rejects`, `accepts` (only the model sees the fault), or `not asked` (a fault of the text, or a
stream of several documents). A comment `# <-` marks the line that the problem names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretbinding.strictyaml import load

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Good:
    """A manifest that everybody accepts."""

    name: str
    data: bytes

    def objects(self) -> list[Mapping[str, Any]]:
        """The documents, as an API takes them."""
        return [document.value for document in load(self.data)]


@dataclass(frozen=True, slots=True)
class Bad(Good):
    """A manifest with one fault."""

    field: str
    message: str
    server: str
    line: int


def good() -> list[Good]:
    """All good manifests, by name."""
    return [Good(path.stem, path.read_bytes()) for path in sorted((_HERE / "good").glob("*.yaml"))]


def bad() -> list[Bad]:
    """All bad manifests, by name."""
    return [_bad(path) for path in sorted((_HERE / "bad").glob("*.yaml"))]


def _bad(path: Path) -> Bad:
    lines = path.read_text().splitlines()
    head = [line.removeprefix("# ").partition(":") for line in lines[:3]]
    assert [name for name, _, _ in head] == ["field", "message", "server"], path.name
    field, message, server = (text.strip() for _, _, text in head)
    marked = [number for number, line in enumerate(lines, 1) if "# <-" in line]
    return Bad(path.stem, path.read_bytes(), field, message, server, marked[0] if marked else 0)
