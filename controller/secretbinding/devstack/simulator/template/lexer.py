"""Splits a Go template into text and actions, and an action into tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:\\.|[^"\\\n])*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:\\.|[^'\\\n])+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*)(?:\.\d*)?(?:[eE][+-]?\d+)?))
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<pipe>\|)
    |(?P<comma>,)
    |(?P<open>\()
    |(?P<close>\))
    |(?P<variable>\$\w*)
    |(?P<field>\.\w+)
    |(?P<dot>\.)
    |(?P<word>\w+)""",
    re.VERBOSE,
)
_SPACE = " \t\r\n"


class TemplateError(ValueError):
    """A template that cannot be parsed or executed; the text is in the words of Go's text/template."""


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is a group name of the pattern. `offset` counts characters from the template's start."""

    kind: str
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, or the inside of an action (`tokens` is then not None)."""

    text: str
    offset: int
    tokens: tuple[Token, ...] | None = None


def pieces(source: str, left: str = "{{", right: str = "}}") -> Iterator[Piece]:
    """Text and actions in order; comments are dropped, trim markers are applied. Raises `TemplateError`."""
    position, trim_next = 0, False
    while position < len(source):
        start = source.find(left, position)
        text = source[position : start if start >= 0 else len(source)]
        if trim_next:
            text = text.lstrip(_SPACE)
        if start < 0:
            if text:
                yield Piece(text, position)
            return
        inside = start + len(left)
        trimmed = source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(_SPACE)
        if trimmed:
            text = text.rstrip(_SPACE)
            inside += 2
        if text:
            yield Piece(text, position)
        # Go accepts a comment only directly after the delimiter or the trim marker.
        if source.startswith("/*", inside):
            end = source.find("*/", inside)
            if end < 0:
                raise TemplateError(f"template: :{line_of(source, inside)}: unclosed comment")
            after = end + 2
            trim_next = source[after : after + 2] in tuple(space + "-" for space in _SPACE)
            after += 2 if trim_next else 0
            if not source.startswith(right, after):
                raise TemplateError(f"template: :{line_of(source, inside)}: comment ends before closing delimiter")
            position = after + len(right)
            continue
        tokens, position, trim_next = _action(source, inside, right)
        yield Piece("", inside, tuple(tokens))


def line_of(source: str, offset: int) -> int:
    return source.count("\n", 0, offset) + 1


def _action(source: str, position: int, right: str) -> tuple[list[Token], int, bool]:
    tokens: list[Token] = []
    while True:
        for space in _SPACE:
            if source.startswith(space + "-" + right, position):
                return tokens, position + 2 + len(right), True
        if source.startswith(right, position):
            return tokens, position + len(right), False
        match = _TOKEN.match(source, position)
        if match is None or not match[0]:
            line = line_of(source, position)
            if position >= len(source):
                raise TemplateError(f"template: :{line}: unclosed action")
            if source[position] == '"':
                raise TemplateError(f"template: :{line}: unterminated quoted string")
            raise TemplateError(f'template: :{line}: unexpected "{source[position]}" in command')
        tokens.append(Token(str(match.lastgroup), match[0], position))
        position = match.end()
