"""HCL blocks of plain attributes, as text. Values are expressions that their writer has quoted."""

from collections.abc import Sequence

Attributes = Sequence[tuple[str, str]]


def block(name: str, values: Attributes, *inner: str) -> str:
    """A block with attributes, then further blocks, each after an empty line."""
    body = aligned(values) + "".join(f"\n{indented(one)}" for one in inner)
    return f"{name} {{\n{body.removeprefix(chr(10))}}}\n"


def aligned(values: Attributes) -> str:
    """Attributes below each other, indented by one step."""
    width = max((len(name) for name, _ in values), default=0)
    return "".join(f"  {name:<{width}} = {value}\n" for name, value in values)


def indented(text: str) -> str:
    """The text, one step further in."""
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))
