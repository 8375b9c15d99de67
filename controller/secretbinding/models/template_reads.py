"""What a Go template reads of which secrets, followed through blocks and variables, as far as its text shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from secretbinding.models.template_syntax import check
from secretbinding.models.templates import Action, Token, TokenKind

# consul-template's functions that read a secret, or a variable of Nomad.
READERS = frozenset({"secret", "secrets", "pkiCert", "nomadVar", "nomadVarList", "nomadVarListSafe"})
# These print a value as it is, or quoted: whoever reads the file gets the same.
_FAITHFUL = frozenset({"toJSON", "toUnescapedJSON", "sprig_quote", "sprig_squote", "sprig_toString", "print"})
_TEXTS = (TokenKind.STRING, TokenKind.RAW_STRING)
_OPENING = ("if", "range", "with", "block", "define")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function that reads; `arguments` is None where one is not written out."""

    function: str
    arguments: tuple[str, ...] | None

    @property
    def path(self) -> str:
        """The first argument, without its query and the slashes around it; "" when it is not written out."""
        return self.arguments[0].partition("?")[0].strip("/") if self.arguments else ""

    @property
    def query(self) -> str:
        """What stands after the path's `?`."""
        return self.arguments[0].partition("?")[2] if self.arguments else ""

    def __str__(self) -> str:
        if self.arguments is None:
            return f"a path that {self.function} is given as an expression"
        return f"{self.function} {' '.join(self.arguments)}"


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression stands for: a field of what a call gave, a text as written, or (neither) nobody knows.

    Attributes:
        changed: the function that makes another value of it, "" when it is as it was read.
    """

    call: Call | None = None
    fields: tuple[str, ...] = ()
    text: str | None = None
    changed: str = ""


UNKNOWN = Value()


@dataclass(frozen=True, slots=True)
class Printed:
    """A piece of what is rendered: plain text, or the value of an action."""

    text: str = ""
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What a template reads (`calls`, each once) and prints (`pieces`, in the order of the text)."""

    calls: tuple[Call, ...]
    pieces: tuple[Printed, ...]

    def lines(self) -> Iterator[tuple[Printed, ...]]:
        """The pieces of each line of the text."""
        line: list[Printed] = []
        for piece in self.pieces:
            if piece.value is not None:
                line.append(piece)
                continue
            first, *more = piece.text.split("\n")
            line.append(Printed(first))
            for text in more:
                yield tuple(line)
                line = [Printed(text)]
        yield tuple(line)


def reads_of(text: str, left: str = "{{", right: str = "}}") -> Reads:
    """Follow a template. Raises `TemplateSyntaxError` for one that Go would not parse."""
    walk = _Walk()
    at, trimmed = 0, False
    for action in check(text, left, right):
        walk.plain(_trimmed(text[at : action.offset], trimmed, action.trim_left))
        at, trimmed = action.end, action.trim_right
        if action.comment is None:
            walk.take(action)
    walk.plain(_trimmed(text[at:], trimmed, False))
    return Reads(tuple(dict.fromkeys(walk.calls)), tuple(walk.pieces))


def _trimmed(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


@dataclass(slots=True)
class _Block:
    keyword: str
    outer: Value
    variables: Mapping[str, Value]


@dataclass(slots=True)
class _Walk:
    """Goes from action to action with what the dot and the variables stand for."""

    dot: Value = UNKNOWN
    variables: dict[str, Value] = field(default_factory=lambda: {"$": UNKNOWN})
    blocks: list[_Block] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    pieces: list[Printed] = field(default_factory=list)

    def plain(self, text: str) -> None:
        if text:
            self.pieces.append(Printed(text))

    def take(self, action: Action) -> None:
        keyword = action.keyword
        words = list(action.tokens)
        if keyword == "end":
            self._close()
            return
        if keyword == "else":
            self._otherwise(words)
            return
        if keyword in _OPENING:
            self.blocks.append(_Block(keyword, self.dot, dict(self.variables)))
            self._enter(keyword, self._pipeline(_after(words, keyword)))
            return
        if keyword:
            self._pipeline(_after(words, keyword))
            return
        declares = any(word.kind in (TokenKind.DECLARE, TokenKind.ASSIGN) for word in words)
        value = self._pipeline(words)
        if not declares:
            self.pieces.append(Printed(value=value))

    def _enter(self, keyword: str, value: Value) -> None:
        if keyword == "with":
            self.dot = value
        elif keyword != "if":
            # One after the other, or what is given when the template is used.
            self.dot = UNKNOWN

    def _close(self) -> None:
        block = self.blocks.pop()
        self.dot = block.outer
        # What was assigned in a block counts after it too, if the block was gone through.
        self.variables = {
            name: value if self.variables.get(name) == value else UNKNOWN for name, value in block.variables.items()
        }

    def _otherwise(self, words: list[Token]) -> None:
        block = self.blocks[-1]
        self.dot = block.outer
        rest = _after(words, "else")
        for keyword in ("if", "with"):
            if any(word.kind is TokenKind.KEYWORD and word.text == keyword for word in rest):
                self._enter(keyword, self._pipeline(_after(rest, keyword)))

    def _pipeline(self, words: list[Token]) -> Value:
        names: list[str] = []
        for position, word in enumerate(words):
            if word.kind in (TokenKind.DECLARE, TokenKind.ASSIGN):
                names = [each.text for each in words[:position] if each.kind is TokenKind.VARIABLE]
                words = words[position + 1 :]
                break
        value = self._stages(words)
        for name in names:
            self.variables[name] = value if len(names) == 1 else UNKNOWN
        return value

    def _stages(self, words: list[Token]) -> Value:
        value: Value | None = None
        for stage in _split(words):
            value = self._command(stage, value)
        return value if value is not None else UNKNOWN

    def _command(self, words: list[Token], given: Value | None) -> Value:
        operands = list(self._operands(words))
        first = words[0] if words else None
        if first is None or first.kind is not TokenKind.IDENTIFIER:
            return operands[0] if len(operands) == 1 and given is None else UNKNOWN
        arguments = [*operands[1:], *([given] if given is not None else [])]
        if first.text in READERS:
            texts = tuple(each.text for each in arguments if each.text is not None)
            call = Call(first.text, texts if texts and len(texts) == len(arguments) else None)
            self.calls.append(call)
            return Value(call)
        if first.text == "index" and arguments and arguments[0].call is not None:
            keys = [each.text for each in arguments[1:]]
            if all(key is not None for key in keys):
                held = arguments[0]
                return replace(held, fields=(*held.fields, *(key for key in keys if key is not None)))
        if first.text in _FAITHFUL and len(arguments) == 1:
            return arguments[0]
        source = next((each for each in arguments if each.call is not None), UNKNOWN)
        return replace(source, changed=source.changed or first.text)

    def _operands(self, words: list[Token]) -> Iterator[Value]:
        """The values of a command, a function's name being one as well."""
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word.kind is TokenKind.SPACE:
                continue
            value = UNKNOWN
            if word.kind is TokenKind.OPEN:
                end = _closing(words, at)
                value = self._pipeline(words[at:end])
                at = end + 1
            elif word.kind in _TEXTS:
                value = Value(text=word.value)
            elif word.kind is TokenKind.DOT:
                value = self.dot
            elif word.kind is TokenKind.FIELD:
                value = self.dot
                at -= 1
            elif word.kind is TokenKind.VARIABLE:
                value = self.variables.get(word.text, UNKNOWN)
            chain = _chain(words[at:])
            at += len(chain)
            yield replace(value, fields=(*value.fields, *chain)) if chain and value.call is not None else value


def _after(words: list[Token], keyword: str) -> list[Token]:
    """What follows a keyword."""
    for position, word in enumerate(words):
        if word.kind is TokenKind.KEYWORD and word.text == keyword:
            return words[position + 1 :]
    return words


def _chain(words: list[Token]) -> tuple[str, ...]:
    """The names of the fields that follow a value at once."""
    names: list[str] = []
    for word in words:
        if word.kind is not TokenKind.FIELD:
            break
        names.append(word.text.removeprefix("."))
    return tuple(names)


def _closing(words: list[Token], at: int) -> int:
    depth = 1
    while at < len(words):
        depth += {TokenKind.OPEN: 1, TokenKind.CLOSE: -1}.get(words[at].kind, 0)
        if depth == 0:
            return at
        at += 1
    return at


def _split(words: list[Token]) -> Iterator[list[Token]]:
    """The commands between the `|` of a pipeline, without the spaces around them."""
    stage: list[Token] = []
    depth = 0
    for word in words:
        depth += {TokenKind.OPEN: 1, TokenKind.CLOSE: -1}.get(word.kind, 0)
        if word.kind is TokenKind.PIPE and depth == 0:
            yield stage
            stage = []
        elif word.kind is not TokenKind.SPACE or stage:
            stage.append(word)
    yield stage
