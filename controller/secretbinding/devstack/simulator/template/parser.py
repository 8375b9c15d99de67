"""Parses a Go template into a tree."""

import ast
from dataclasses import dataclass, field
from typing import Any

from secretbinding.devstack.simulator.template.lexer import Piece, TemplateError, Token, line_of, pieces


@dataclass(slots=True)
class Operand:
    """A value in a command: `kind` is constant, dot, field, variable, function or pipeline.

    `value` is the constant, the name, or the inner pipeline; `fields` are the names chained after it.
    """

    kind: str
    value: Any
    fields: list[str]
    offset: int
    text: str


@dataclass(slots=True)
class Pipeline:
    """`$a, $b := command | command`."""

    commands: list[list[Operand]]
    names: list[str]
    declare: bool
    text: str


@dataclass(slots=True)
class Node:
    """`kind` is text, action, if, with, range, break or continue."""

    kind: str
    offset: int
    text: str = ""
    pipe: Pipeline | None = None
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


def parse(source: str, functions: frozenset[str], left: str = "{{", right: str = "}}") -> list[Node]:
    """The tree. Raises `TemplateError` as Go does, for an unknown function or variable too."""
    return _Parser(source, functions, left, right).run()


class _Parser:
    def __init__(self, source: str, functions: frozenset[str], left: str, right: str) -> None:
        self._source = source
        self._functions = functions
        self._pieces: list[Piece] = list(pieces(source, left or "{{", right or "}}"))
        self._place = 0
        self._variables = ["$"]
        self._loops = 0

    def run(self) -> list[Node]:
        nodes, end = self._list()
        if end is not None:
            raise self._error(end[1], f"unexpected {{{{{end[0]}}}}}")
        return nodes

    def _error(self, offset: int, text: str) -> TemplateError:
        return TemplateError(f"template: :{line_of(self._source, offset)}: {text}")

    def _list(self) -> tuple[list[Node], tuple[str, int, list[Token]] | None]:
        """Nodes up to an `end` or `else`, and that word with the tokens after it."""
        nodes: list[Node] = []
        while self._place < len(self._pieces):
            piece = self._pieces[self._place]
            self._place += 1
            if piece.tokens is None:
                nodes.append(Node("text", piece.offset, piece.text))
                continue
            tokens = list(piece.tokens)
            while tokens and tokens[0].kind == "space":
                tokens.pop(0)
            if not tokens:
                raise self._error(piece.offset, "missing value for command")
            word = tokens[0].text if tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                return nodes, (word, piece.offset, tokens[1:])
            if word in ("if", "with", "range"):
                nodes.append(self._block(word, tokens[1:], piece.offset))
            elif word in ("break", "continue"):
                if not self._loops:
                    raise self._error(piece.offset, f"{{{{{word}}}}} outside {{{{range}}}}")
                nodes.append(Node(word, piece.offset))
            elif word in ("define", "block", "template"):
                raise self._error(piece.offset, f"unexpected <{word}> in command")
            else:
                nodes.append(Node("action", piece.offset, pipe=_Tokens(self, tokens).pipeline()))
        return nodes, None

    def _block(self, word: str, tokens: list[Token], offset: int) -> Node:
        known = len(self._variables)
        node = Node(word, offset, pipe=_Tokens(self, tokens).pipeline(in_range=word == "range"))
        self._loops += word == "range"
        node.body, end = self._list()
        self._loops -= word == "range"
        if end is not None and end[0] == "else":
            del self._variables[known + len(node.pipe.names if node.pipe else []) :]
            rest = [token for token in end[2] if token.kind != "space"]
            if rest and rest[0].text in ("if", "with"):
                after = end[2][end[2].index(rest[0]) + 1 :]
                node.otherwise = [self._block(rest[0].text, after, end[1])]
                end = ("end", end[1], [])
            else:
                node.otherwise, end = self._list()
        if end is None:
            raise self._error(len(self._source), "unexpected EOF")
        if end[0] != "end":
            raise self._error(end[1], f"expected end; found {{{{{end[0]}}}}}")
        del self._variables[known:]
        return node

    def declare(self, name: str) -> None:
        self._variables.append(name)

    def check_variable(self, token: Token) -> None:
        if token.text not in self._variables:
            raise self._error(token.offset, f'undefined variable "{token.text}"')

    def check_function(self, token: Token) -> None:
        if token.text not in self._functions:
            raise self._error(token.offset, f'function "{token.text}" not defined')

    def unexpected(self, token: Token | None) -> TemplateError:
        if token is None:
            return self._error(len(self._source), "missing value for command")
        return self._error(token.offset, f'unexpected "{token.text}" in command')


class _Tokens:
    """Recursive descent over the tokens of one action."""

    def __init__(self, parser: _Parser, tokens: list[Token]) -> None:
        self._parser = parser
        self._tokens = tokens
        self._place = 0

    def _peek(self, skip_space: bool = True) -> Token | None:
        place = self._place
        while skip_space and place < len(self._tokens) and self._tokens[place].kind == "space":
            place += 1
        if skip_space:
            self._place = place
        return self._tokens[place] if place < len(self._tokens) else None

    def _next(self) -> Token:
        token = self._peek()
        if token is None:
            raise self._parser.unexpected(None)
        self._place += 1
        return token

    def pipeline(self, *, in_range: bool = False, inner: bool = False) -> Pipeline:
        names, declare = self._names(in_range)
        start = self._place
        commands = [self._command()]
        while (token := self._peek()) is not None and token.kind == "pipe":
            self._next()
            commands.append(self._command())
        token = self._peek()
        if token is not None and not (inner and token.kind == "close"):
            raise self._parser.unexpected(token)
        for name in names if declare else []:
            self._parser.declare(name)
        text = "".join(token.text for token in self._tokens[start : self._place]).strip()
        return Pipeline(commands, names, declare, text)

    def _names(self, in_range: bool) -> tuple[list[str], bool]:
        solid = [token for token in self._tokens[self._place :] if token.kind != "space"]
        count = 0
        if len(solid) >= 2 and solid[0].kind == "variable" and solid[1].kind in ("declare", "assign"):
            count = 1
        elif (
            in_range
            and len(solid) >= 4
            and [token.kind for token in solid[:3]] == ["variable", "comma", "variable"]
            and solid[3].kind in ("declare", "assign")
        ):
            count = 2
        if not count:
            return [], False
        operator = solid[1] if count == 1 else solid[3]
        names = [solid[0]] if count == 1 else [solid[0], solid[2]]
        if operator.kind == "assign":
            for name in names:
                self._parser.check_variable(name)
        self._place = self._tokens.index(operator) + 1
        return [name.text for name in names], operator.kind == "declare"

    def _command(self) -> list[Operand]:
        operands: list[Operand] = []
        while (token := self._peek()) is not None and token.kind not in ("pipe", "close"):
            operands.append(self._operand())
        if not operands:
            raise self._parser.unexpected(self._peek())
        return operands

    def _operand(self) -> Operand:
        start = self._place
        token = self._next()
        start = self._place - 1
        fields: list[str] = []
        kind, value = self._value(token)
        if token.kind == "field":
            fields.append(token.text[1:])
        while (after := self._peek(skip_space=False)) is not None and after.kind == "field":
            self._place += 1
            fields.append(after.text[1:])
        text = "".join(one.text for one in self._tokens[start : self._place])
        return Operand(kind, value, fields, token.offset, text)

    def _value(self, token: Token) -> tuple[str, Any]:
        match token.kind:
            case "string":
                return "constant", unquote(token.text)
            case "raw":
                return "constant", token.text[1:-1]
            case "char":
                return "constant", ord(ast.literal_eval(token.text))
            case "number":
                return "constant", _number(token.text)
            case "field":
                return "field", None
            case "dot":
                return "dot", None
            case "variable":
                self._parser.check_variable(token)
                return "variable", token.text
            case "open":
                inner = self.pipeline(inner=True)
                if self._peek() is None or self._next().kind != "close":
                    raise self._parser.unexpected(None)
                return "pipeline", inner
            case "word" if token.text in ("true", "false", "nil"):
                return "constant", {"true": True, "false": False, "nil": None}[token.text]
            case "word":
                self._parser.check_function(token)
                return "function", token.text
        raise self._parser.unexpected(token)


def _number(text: str) -> int | float:
    digits = text.replace("_", "")
    if digits.lower().lstrip("+-").startswith(("0x", "0b", "0o")):
        return int(digits, 0)
    if any(mark in digits for mark in ".eE"):
        number = float(digits)
        return int(number) if number.is_integer() and "." not in digits else number
    return int(digits)


def unquote(text: str) -> str:
    """A Go string in double quotes."""
    result: list[str] = []
    place = 1
    simple = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
    while place < len(text) - 1:
        if text[place] != "\\":
            result.append(text[place])
            place += 1
            continue
        mark = text[place + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(mark, 0)
        if width:
            result.append(chr(int(text[place + 2 : place + 2 + width], 16)))
            place += 2 + width
        elif mark.isdigit():
            result.append(chr(int(text[place + 1 : place + 4], 8)))
            place += 4
        else:
            result.append(simple.get(mark, mark))
            place += 2
    return "".join(result)
