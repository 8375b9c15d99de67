"""Go template texts (as consul-template reads them), split into actions and tokens with their positions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})
_SPACES = " \t\r\n"
_COMMENT_OPEN = "/*"
_COMMENT_CLOSE = "*/"
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-3][0-7]{2})|x(?P<byte>[0-9A-Fa-f]{2})|u(?P<short>[0-9A-Fa-f]{4})|U(?P<long>[0-9A-Fa-f]{8})"
    r"|(?P<plain>[abfnrtv\\\"']))"
)
_NUMBER = re.compile(
    r"[+-]?(?:"
    r"0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?"
    r"|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?"
    r")i?"
)
_DIGITS = "[0-9](?:_?[0-9])*"
_WELL_FORMED = re.compile(
    rf"(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    r"|0[xX](?:_?[0-9a-fA-F])*\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?[pP][+-]?[0-9]+"
    rf"|(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?)\Z"
)


class TokenKind(Enum):
    """What a token of an action is."""

    IDENTIFIER = auto()
    """A name without mark: always the name of a function."""
    KEYWORD = auto()
    BOOL = auto()
    FIELD = auto()
    """`.Name`, the dot included."""
    VARIABLE = auto()
    """`$` or `$name`."""
    DOT = auto()
    STRING = auto()
    RAW_STRING = auto()
    CHAR = auto()
    NUMBER = auto()
    PIPE = auto()
    OPEN = auto()
    CLOSE = auto()
    DECLARE = auto()
    ASSIGN = auto()
    COMMA = auto()
    SPACE = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `text` as written, `offset` in the template. `value` is what a string stands for; bytes in it that
    are not UTF-8 appear as lone surrogates (Python's `surrogateescape`)."""

    kind: TokenKind
    text: str
    offset: int
    value: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One `{{ ... }}`. `comment` is the comment's text when it is one, and then there are no tokens.

    `offset` is that of the left delimiter, `end` the one after the right delimiter.
    """

    tokens: tuple[Token, ...]
    offset: int
    end: int
    comment: str | None = None
    trim_left: bool = False
    trim_right: bool = False

    @property
    def words(self) -> tuple[Token, ...]:
        """The tokens without spaces."""
        return tuple(token for token in self.tokens if token.kind is not TokenKind.SPACE)

    @property
    def keyword(self) -> str:
        """`if`, `range`, `end` and so on; empty for a plain pipeline."""
        first = next(iter(self.words), None)
        return first.text if first is not None and first.kind is TokenKind.KEYWORD else ""

    @property
    def functions(self) -> tuple[Token, ...]:
        """Every function that the action calls, in their order in the text."""
        return tuple(token for token in self.tokens if token.kind is TokenKind.IDENTIFIER)

    @property
    def strings(self) -> tuple[Token, ...]:
        """Every string in the action, whatever its quotes."""
        return tuple(token for token in self.tokens if token.kind in (TokenKind.STRING, TokenKind.RAW_STRING))


class TemplateSyntaxError(ValueError):
    """A template that Go would not parse. `offset` says where in the text."""

    def __init__(self, message: str, offset: int, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.remedy = remedy


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset in a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def scan(text: str, left: str = "{{", right: str = "}}") -> Iterator[Action]:
    """The actions of a template, in order, by the rules of Go's text/template (and its default delimiters).

    Raises `TemplateSyntaxError` at the first thing that is no token. Whether the tokens make sense together is
    `template_syntax`'s part.
    """
    at = 0
    while (start := text.find(left, at)) >= 0:
        action = _Scanner(text, left, right, start).action()
        yield action
        at = action.end


class _Scanner:
    """Reads one action, from its left delimiter on."""

    def __init__(self, text: str, left: str, right: str, start: int) -> None:
        self.text = text
        self.right = right
        self.start = start
        self.at = start + len(left)
        self.tokens: list[Token] = []
        self.depth = 0

    def action(self) -> Action:
        trim_left = self.text[self.at : self.at + 1] == "-" and self._is_space(self.at + 1)
        body = self.at + 2 if trim_left else self.at
        if self.text.startswith(_COMMENT_OPEN, body):
            return self._comment(body, trim_left)
        # The space after the trim mark is a token like any other; it separates nothing.
        self.at = body
        while True:
            end, trim_right = self._right_delimiter(self.at)
            if end:
                if self.depth:
                    raise TemplateSyntaxError("a `(` is not closed", self.at, "add the missing `)`")
                return Action(tuple(self.tokens), self.start, end, None, trim_left, trim_right)
            self._token()

    def _comment(self, body: int, trim_left: bool) -> Action:
        close = self.text.find(_COMMENT_CLOSE, body + len(_COMMENT_OPEN))
        if close < 0:
            raise TemplateSyntaxError("the comment is not closed", self.start, f"end it with `*/{self.right}`")
        end, trim_right = self._right_delimiter(close + len(_COMMENT_CLOSE))
        if not end:
            raise TemplateSyntaxError(
                f"the comment is not followed by `{self.right}`", close, "a comment is an action of its own"
            )
        comment = self.text[body + len(_COMMENT_OPEN) : close]
        return Action((), self.start, end, comment, trim_left, trim_right)

    def _is_space(self, at: int) -> bool:
        return self.text[at : at + 1] != "" and self.text[at] in _SPACES

    def _right_delimiter(self, at: int) -> tuple[int, bool]:
        """The offset after a right delimiter that begins at `at` (0 if there is none), and whether it trims."""
        if self._is_space(at) and self.text[at + 1 : at + 2] == "-" and self.text.startswith(self.right, at + 2):
            return at + 2 + len(self.right), True
        if self.text.startswith(self.right, at):
            return at + len(self.right), False
        return 0, False

    def _emit(self, kind: TokenKind, end: int, value: str = "") -> None:
        self.tokens.append(Token(kind, self.text[self.at : end], self.at, value))
        self.at = end

    def _token(self) -> None:
        if self.at >= len(self.text):
            raise TemplateSyntaxError("the action is not closed", self.start, f"end it with `{self.right}`")
        char = self.text[self.at]
        single = {
            "|": TokenKind.PIPE,
            ",": TokenKind.COMMA,
            "=": TokenKind.ASSIGN,
            "(": TokenKind.OPEN,
            ")": TokenKind.CLOSE,
        }.get(char)
        if char in _SPACES:
            self._space()
        elif single is not None:
            self.depth += {"(": 1, ")": -1}.get(char, 0)
            if self.depth < 0:
                raise TemplateSyntaxError("a `)` has no `(`", self.at, "remove it, or add the missing `(`")
            self._emit(single, self.at + 1)
        elif self.text.startswith(":=", self.at):
            self._emit(TokenKind.DECLARE, self.at + 2)
        elif char in "\"'":
            self._quoted(char)
        elif char == "`":
            self._raw()
        elif char == "$" or (char == "." and not "0" <= self.text[self.at + 1 : self.at + 2] <= "9"):
            self._name(TokenKind.VARIABLE if char == "$" else TokenKind.FIELD)
        elif char in "+-." or "0" <= char <= "9":
            self._number()
        elif _is_word(char):
            self._name(TokenKind.IDENTIFIER)
        else:
            raise TemplateSyntaxError(
                f"{_named(char)} has no meaning in an action", self.at, "quote it, or move it out of the action"
            )

    def _space(self) -> None:
        end = self.at
        while self._is_space(end):
            # A trimming right delimiter takes the last space before its dash.
            if self._right_delimiter(end)[1]:
                break
            end += 1
        if end > self.at:
            self._emit(TokenKind.SPACE, end)

    def _quoted(self, quote: str) -> None:
        end = self.at + 1
        what = "string" if quote == '"' else "character"
        while True:
            char = self.text[end : end + 1]
            if char in ("", "\n"):
                raise TemplateSyntaxError(f"the {what} is not closed", self.at, f"end it with {quote} in the same line")
            if char == quote:
                break
            if char == "\\":
                end += 1
                if self.text[end : end + 1] in ("", "\n"):
                    continue
            end += 1
        value = _unquoted(self.text[self.at + 1 : end], quote, self.at + 1)
        if quote == "'" and len(value) != 1:
            raise TemplateSyntaxError("a character stands in single quotes alone", self.at, "use double quotes")
        self._emit(TokenKind.STRING if quote == '"' else TokenKind.CHAR, end + 1, value)

    def _raw(self) -> None:
        end = self.text.find("`", self.at + 1)
        if end < 0:
            raise TemplateSyntaxError("the raw string is not closed", self.at, "end it with a backtick")
        # Go drops carriage returns from raw strings.
        self._emit(TokenKind.RAW_STRING, end + 1, self.text[self.at + 1 : end].replace("\r", ""))

    def _name(self, kind: TokenKind) -> None:
        end = self.at + (kind is not TokenKind.IDENTIFIER)
        while end < len(self.text) and _is_word(self.text[end]):
            end += 1
        if not self._ends_word(end):
            raise TemplateSyntaxError(
                f"{_named(self.text[end])} cannot follow `{self.text[self.at : end]}`",
                end,
                "separate them by a space; names that are no identifiers need `index`",
            )
        word = self.text[self.at : end]
        if word == ".":
            kind = TokenKind.DOT
        elif kind is TokenKind.IDENTIFIER and word in KEYWORDS:
            kind = TokenKind.KEYWORD
        elif kind is TokenKind.IDENTIFIER and word in ("true", "false"):
            kind = TokenKind.BOOL
        self._emit(kind, end)

    def _ends_word(self, at: int) -> bool:
        if at >= len(self.text) or self.text[at] in _SPACES + ".,|:()":
            return True
        return self.text.startswith(self.right, at)

    def _number(self) -> None:
        found = _NUMBER.match(self.text, self.at)
        end = found.end() if found else self.at
        parts = [self.text[self.at : end]]
        if self.text[end : end + 1] in ("+", "-") and (second := _NUMBER.match(self.text, end)):
            parts.append(second.group())
            end = second.end()
        text = self.text[self.at : end]
        follows = self.text[end : end + 1]
        # Two parts are a complex number, whose second one is imaginary.
        good = all(map(_well_formed, parts)) and (len(parts) == 1 or (parts[1][-1] == "i" and parts[0][-1] != "i"))
        if not good or (follows and _is_word(follows)):
            raise TemplateSyntaxError(f"`{text}{follows}` is no number", self.at, "quote it if it is a text")
        self._emit(TokenKind.NUMBER, end)


def _is_word(char: str) -> bool:
    # Go counts letters and decimal digits (categories L and Nd); Python's isalpha is L, isdecimal is Nd.
    return char == "_" or char.isalpha() or char.isdecimal()


def _well_formed(number: str) -> bool:
    unsigned = number[1:] if number[:1] in ("+", "-") else number
    # A number of digits alone that begins with 0 is octal in Go.
    octal = re.fullmatch("0[0-9_]+", unsigned) is None or re.search("[89]", unsigned) is None
    return octal and _WELL_FORMED.match(unsigned.removesuffix("i")) is not None


def _named(char: str) -> str:
    return f"`{char}`" if char.isprintable() else f"the character U+{ord(char):04X}"


def _unquoted(body: str, quote: str, offset: int) -> str:
    """What a quoted string stands for, by Go's rules (strconv.Unquote)."""
    made = bytearray()
    at = 0
    while at < len(body):
        if body[at] != "\\":
            made += body[at].encode("utf-8", "surrogatepass")
            at += 1
            continue
        found = _ESCAPE.match(body, at)
        other = {'"': "\\'", "'": '\\"'}[quote]
        code = 0
        if found and (digits := found["short"] or found["long"]):
            code = int(digits, 16)
        if not found or found.group() == other or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            shown = body[at : at + 2]
            raise TemplateSyntaxError(f"`{shown}` is no escape", offset + at, "double the backslash")
        if found["plain"]:
            made.append(_ESCAPES[found["plain"]])
        elif found["byte"] or found["octal"]:
            made.append(int(found["byte"], 16) if found["byte"] else int(found["octal"], 8))
        else:
            made += chr(code).encode()
        at = found.end()
    return made.decode("utf-8", "surrogateescape")
