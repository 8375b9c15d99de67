"""HCL text to attributes and blocks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<newline>\n)
    |(?P<heredoc><<-?(?P<mark>\w+)[ \t]*\n)
    |(?P<string>"(?:\\.|\$\{[^}]*\}|[^"\\\n])*")
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)
    |(?P<mark2>[{}\[\](),=:])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class HclError(ValueError):
    """The text is not HCL, or HCL outside the subset; names the line."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A bare name such as `var.image`."""

    name: str
    line: int


@dataclass(slots=True)
class Body:
    """`attributes` by name, `blocks` in order."""

    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    """Where the name of each attribute stands, as in `Block.place`."""


@dataclass(slots=True)
class Block:
    kind: str
    labels: list[str]
    body: Body
    line: int
    place: str = ""
    """Where its kind stands, as Nomad's messages have it: `input.hcl:<line>,<first column>-<column after the last>`."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: Any
    line: int
    column: int = 0
    width: int = 0

    @property
    def place(self) -> str:
        return f"input.hcl:{self.line},{self.column}-{self.column + self.width}"


def parse_hcl(text: str) -> Body:
    """Raises `HclError`."""
    parser = _Parser(list(_tokens(text)))
    return parser.body(end="")


def _tokens(text: str) -> "list[_Token]":
    found: list[_Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise HclError(f"line {line}: unexpected character {text[position]!r}")
        kind = str(match.lastgroup) if match.lastgroup != "mark" else "heredoc"
        value: Any = match[0]
        end = match.end()
        if match["heredoc"]:
            kind = "string"
            value, end = _heredoc(text, match, line)
        elif kind == "string":
            value = _unescape(match[0][1:-1])
        elif kind == "number":
            value = float(value) if any(mark in value for mark in ".eE") else int(value)
        elif kind == "mark2":
            kind = value
        if kind != "space":
            column = position - text.rfind("\n", 0, position)
            found.append(_Token(kind, value, line, column, len(match[0])))
        line += text.count("\n", position, end)
        if match["heredoc"]:
            found.append(_Token("newline", "\n", line - 1))
        position = end
    found.append(_Token("end", "", line))
    return found


def _heredoc(text: str, match: re.Match[str], line: int) -> tuple[str, int]:
    close = re.compile(rf"^[ \t]*{re.escape(match['mark'])}[ \t]*$", re.MULTILINE).search(text, match.end())
    if close is None:
        raise HclError(f"line {line}: heredoc {match['mark']} is not closed")
    content = text[match.end() : close.start()]
    if match[0].startswith("<<-"):
        content = dedent(content)
    return content, min(close.end() + 1, len(text))


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[2]:
            return chr(int(match[2], 16))
        return _ESCAPES.get(match[1], match[0])

    return re.sub(r"\\(u([0-9a-fA-F]{4})|.)", one, text)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    def _peek(self, *, newlines: bool = True) -> _Token:
        if not newlines:
            while self._tokens[self._place].kind == "newline":
                self._place += 1
        return self._tokens[self._place]

    def _next(self, *kinds: str, newlines: bool = True) -> _Token:
        token = self._peek(newlines=newlines)
        if kinds and token.kind not in kinds:
            raise self._unexpected(token)
        self._place += 1
        return token

    def _unexpected(self, token: _Token) -> HclError:
        return HclError(
            f"line {token.line}: unexpected {token.value!r}" if token.value else f"line {token.line}: unexpected end"
        )

    def body(self, end: str) -> Body:
        body = Body()
        while True:
            token = self._peek(newlines=False)
            if token.kind == (end or "end"):
                self._place += 1
                return body
            name = self._next("word", "string")
            if self._peek().kind == "=":
                self._next()
                if name.value in body.attributes:
                    raise HclError(f"line {name.line}: attribute {name.value!r} is set twice")
                body.attributes[str(name.value)] = self._expression()
                body.places[str(name.value)] = name.place
                if self._peek().kind not in ("newline", "}", "end"):
                    raise self._unexpected(self._peek())
                continue
            labels = []
            while self._peek().kind in ("string", "word"):
                labels.append(str(self._next().value))
            self._next("{")
            body.blocks.append(Block(str(name.value), labels, self.body("}"), name.line, name.place))

    def _expression(self) -> Any:
        token = self._next("string", "number", "word", "[", "{", newlines=False)
        if token.kind in ("string", "number"):
            return token.value
        if token.kind == "word":
            constants = {"true": True, "false": False, "null": None}
            if token.value in constants:
                return constants[token.value]
            if self._peek().kind == "(":
                raise HclError(
                    f"line {token.line}: the function {token.value!r} is outside the simulator's subset of HCL"
                )
            return Reference(token.value, token.line)
        return self._list() if token.kind == "[" else self._object()

    def _list(self) -> list[Any]:
        items: list[Any] = []
        while self._peek(newlines=False).kind != "]":
            items.append(self._expression())
            if self._peek(newlines=False).kind != ",":
                break
            self._next()
        self._next("]", newlines=False)
        return items

    def _object(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while self._peek(newlines=False).kind != "}":
            key = self._next("word", "string", "number", newlines=False)
            self._next("=", ":")
            items[str(key.value)] = self._expression()
            if self._peek().kind == ",":
                self._next()
        self._next("}", newlines=False)
        return items


def resolve(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace references and `${var.x}`, `${local.x}` in texts. Raises `HclError` for an unknown one."""
    if isinstance(value, Reference):
        if value.name not in names:
            raise HclError(f"line {value.line}: {value.name} is not known")
        return names[value.name]
    if isinstance(value, list):
        return [resolve(one, names) for one in value]
    if isinstance(value, dict):
        return {key: resolve(one, names) for key, one in value.items()}
    if isinstance(value, str):
        return re.sub(r"\$\{((?:var|local)\.[\w-]+)\}", lambda match: _text(names, match[1]), value)
    return value


def _text(names: Mapping[str, Any], name: str) -> str:
    if name not in names:
        raise HclError(f"{name} is not known")
    value = names[name]
    return str(value).lower() if isinstance(value, bool) else str(value)
