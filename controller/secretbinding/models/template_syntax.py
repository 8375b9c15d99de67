"""Whether the actions of a Go template make sense together: blocks, pipelines and variables."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from secretbinding.models.functions import is_function, similar
from secretbinding.models.templates import Action, TemplateSyntaxError, Token, TokenKind, position, scan

_BLOCKS = ("if", "range", "with", "block", "define")
_LITERALS = (TokenKind.STRING, TokenKind.RAW_STRING, TokenKind.CHAR, TokenKind.NUMBER, TokenKind.BOOL)
_OPERANDS = (*_LITERALS, TokenKind.IDENTIFIER, TokenKind.FIELD, TokenKind.VARIABLE, TokenKind.DOT, TokenKind.OPEN)


@dataclass(frozen=True, slots=True)
class TemplateFault:
    """Why a template does not parse. `line` and `column` count from 1 within the template."""

    message: str
    remedy: str
    line: int
    column: int


def template_faults(text: str, left: str = "{{", right: str = "}}") -> Iterator[TemplateFault]:
    """The first fault of a template by the rules of Go's text/template; nothing for a good one.

    Names of functions are not looked at; see `unknown_functions`.
    """
    try:
        check(text, left, right)
    except TemplateSyntaxError as error:
        line, column = position(text, error.offset)
        yield TemplateFault(error.message, error.remedy, line, column)


def unknown_functions(text: str, left: str = "{{", right: str = "}}") -> Iterator[TemplateFault]:
    """A fault for each call of a function that Nomad's templates do not know; nothing where the template does not
    parse."""
    try:
        called = [token for action in check(text, left, right) for token in action.functions]
    except TemplateSyntaxError:
        return
    for token in called:
        if not is_function(token.text):
            line, column = position(text, token.offset)
            meant = similar(token.text)
            remedy = f"write `{meant}`" if meant else "use one of consul-template's or Go's, or `sprig_` and its name"
            yield TemplateFault(f"there is no function `{token.text}`", remedy, line, column)


@lru_cache(maxsize=128)
def check(text: str, left: str = "{{", right: str = "}}") -> tuple[Action, ...]:
    """The actions of a template that parses; raises `TemplateSyntaxError` otherwise."""
    actions: list[Action] = []
    nesting = _Nesting()
    for action in scan(text, left, right):
        actions.append(action)
        if action.comment is None:
            nesting.take(action)
    nesting.close()
    return tuple(actions)


@dataclass(slots=True)
class _Block:
    keyword: str
    offset: int
    variables: int
    saw_else: bool = False
    # An `else if` or `else with` is a block of its own, which the same `end` closes.
    chained: bool = False


class _Nesting:
    """Follows blocks and variables from action to action."""

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.variables = ["$"]
        self.scopes: list[list[str]] = []

    def take(self, action: Action) -> None:
        keyword = action.keyword
        pipeline = _Pipeline(action, self)
        if keyword in _BLOCKS:
            self._open(keyword, action, pipeline)
        elif keyword == "else":
            self._else(action, pipeline)
        elif keyword == "end":
            pipeline.nothing_more()
            self._end(action)
        elif keyword in ("break", "continue"):
            pipeline.nothing_more()
            if not self._in_range():
                raise TemplateSyntaxError(f"`{keyword}` outside of `range`", action.offset, "remove it")
        elif keyword == "template":
            pipeline.name()
            if not pipeline.done:
                pipeline.read("template")
        else:
            pipeline.read("command")

    def close(self) -> None:
        """The end of the text: every block has to be closed."""
        if self.blocks:
            block = next(block for block in reversed(self.blocks) if not block.chained)
            raise TemplateSyntaxError(f"the `{block.keyword}` has no `end`", block.offset, "add the missing `end`")

    def _in_range(self) -> bool:
        for block in reversed(self.blocks):
            if block.keyword == "range":
                # Go counts a range as left in its else part.
                return not block.saw_else or self._in_outer_range(block)
            if block.keyword in ("define", "block"):
                return False
        return False

    def _in_outer_range(self, inner: _Block) -> bool:
        for block in reversed(self.blocks[: self.blocks.index(inner)]):
            if block.keyword == "range" and not block.saw_else:
                return True
            if block.keyword in ("define", "block"):
                return False
        return False

    def _open(self, keyword: str, action: Action, pipeline: "_Pipeline") -> None:
        if keyword == "define" and self.blocks:
            raise TemplateSyntaxError("`define` inside another block", action.offset, "move it to the top level")
        block = _Block(keyword, action.offset, len(self.variables))
        if keyword in ("define", "block"):
            pipeline.name()
        if keyword == "define":
            pipeline.nothing_more()
        else:
            pipeline.read(keyword)
        if keyword in ("define", "block"):
            self.scopes.append(self.variables)
            self.variables = ["$"]
        self.blocks.append(block)

    def _else(self, action: Action, pipeline: "_Pipeline") -> None:
        block = self.blocks[-1] if self.blocks else None
        if block is None or block.keyword in ("define", "block") or block.saw_else:
            raise TemplateSyntaxError("`else` without `if`, `with` or `range`", action.offset, "remove it")
        block.saw_else = True
        follows = pipeline.keyword()
        if follows and (follows != block.keyword or follows == "range"):
            raise TemplateSyntaxError(
                f"`else {follows}` in a block of `{block.keyword}`", action.offset, "close the block first"
            )
        if follows:
            chained = _Block(follows, action.offset, len(self.variables), chained=True)
            pipeline.read(follows)
            self.blocks.append(chained)
        else:
            pipeline.nothing_more()

    def _end(self, action: Action) -> None:
        if not self.blocks:
            raise TemplateSyntaxError("`end` without a block", action.offset, "remove it, or add the missing block")
        while self.blocks:
            block = self.blocks.pop()
            if block.keyword in ("define", "block"):
                self.variables = self.scopes.pop()
            del self.variables[block.variables :]
            if not block.chained:
                return


class _Pipeline:
    """Reads the tokens of one action: declarations, commands and operands."""

    def __init__(self, action: Action, nesting: _Nesting) -> None:
        self.action = action
        self.nesting = nesting
        self.tokens = action.tokens
        self.at = 0
        self._skip_spaces()
        if action.keyword and action.keyword != "nil":
            self.at += 1

    @property
    def done(self) -> bool:
        """Whether nothing but spaces is left."""
        self._skip_spaces()
        return self.at >= len(self.tokens)

    def _skip_spaces(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at].kind is TokenKind.SPACE:
            self.at += 1

    def _peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _fail(self, message: str, remedy: str) -> TemplateSyntaxError:
        token = self._peek()
        return TemplateSyntaxError(message, token.offset if token else self.action.offset, remedy)

    def nothing_more(self) -> None:
        """The action is complete."""
        if not self.done:
            raise self._fail(f"`{self.tokens[self.at].text}` does not belong in this action", "remove it")

    def name(self) -> None:
        """The name of a template, as a string."""
        self._skip_spaces()
        token = self._peek()
        if token is None or token.kind not in (TokenKind.STRING, TokenKind.RAW_STRING):
            raise self._fail(f"`{self.action.keyword}` needs a name", "write the name in quotes")
        self.at += 1

    def keyword(self) -> str:
        """The keyword that comes next, if one does (`if` or `with` after `else`)."""
        self._skip_spaces()
        token = self._peek()
        if token is None or token.kind is not TokenKind.KEYWORD or token.text not in ("if", "with", "range"):
            return ""
        self.at += 1
        return token.text

    def read(self, context: str, depth: int = 0) -> None:
        """A whole pipeline, up to the end of the action or the closing parenthesis (which is taken)."""
        self._declarations(context)
        stages = 0
        while True:
            self._skip_spaces()
            token = self._peek()
            if token is None or token.kind is TokenKind.CLOSE:
                if stages == 0:
                    raise self._fail(f"a value is missing for {context}", "write what it is about")
                if token is not None and depth:
                    self.at += 1
                return
            if not _is_operand(token):
                raise self._fail(f"`{token.text}` cannot stand here", "write a value or a function")
            if stages and token.kind in (*_LITERALS, TokenKind.DOT, TokenKind.KEYWORD):
                raise self._fail(f"`{token.text}` is no function", "only a function can follow a `|`")
            self._command()
            stages += 1

    def _declarations(self, context: str) -> None:
        count = 0
        while True:
            self._skip_spaces()
            token = self._peek()
            if token is None or token.kind is not TokenKind.VARIABLE:
                return
            ahead = self.at + 1
            while ahead < len(self.tokens) and self.tokens[ahead].kind is TokenKind.SPACE:
                ahead += 1
            follows = self.tokens[ahead].kind if ahead < len(self.tokens) else None
            if follows in (TokenKind.DECLARE, TokenKind.ASSIGN):
                self.nesting.variables.append(token.text)
                self.at = ahead + 1
                return
            if follows is TokenKind.COMMA:
                self.at = ahead + 1
                count += 1
                self.nesting.variables.append(token.text)
                self._skip_spaces()
                second = self._peek()
                if context != "range" or count > 1:
                    raise self._fail("too many variables are declared", "only `range` declares two")
                if second is not None and second.kind not in (TokenKind.VARIABLE, TokenKind.CLOSE):
                    raise self._fail("`range` can only declare variables", "write `range $i, $v := ...`")
                continue
            return

    def _command(self) -> None:
        """Operands, each separated by a space, up to a `|` (which is taken) or the end of the pipeline."""
        while True:
            self._operand()
            token = self._peek()
            if token is None or token.kind is TokenKind.CLOSE:
                return
            if token.kind is TokenKind.SPACE:
                self._skip_spaces()
                token = self._peek()
                if token is None or token.kind is TokenKind.CLOSE:
                    return
                if _is_operand(token):
                    continue
            if token.kind is TokenKind.PIPE:
                self.at += 1
                return
            raise self._fail(f"`{token.text}` cannot stand here", "separate values by spaces")

    def _operand(self) -> None:
        token = self._peek()
        if token is None:
            raise self._fail("a value is missing", "write a value or a function")
        self.at += 1
        if token.kind is TokenKind.OPEN:
            self.read("a parenthesis", 1)
        elif token.kind is TokenKind.VARIABLE and token.text not in self.nesting.variables:
            raise TemplateSyntaxError(
                f"the variable `{token.text}` is not declared", token.offset, f"declare it with `{token.text} := ...`"
            )
        follows = self._peek()
        if follows is None or follows.kind is not TokenKind.FIELD:
            return
        if token.kind in (*_LITERALS, TokenKind.DOT) or token.text == "nil":
            raise self._fail(f"`{follows.text}` cannot follow `{token.text}`", "separate them by a space")
        while (follows := self._peek()) is not None and follows.kind is TokenKind.FIELD:
            self.at += 1


def _is_operand(token: Token) -> bool:
    return token.kind in _OPERANDS or (token.kind is TokenKind.KEYWORD and token.text == "nil")
