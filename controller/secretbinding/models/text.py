"""How a string field is constrained: its check, its words for people, and its schema in the CRD, told once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from secretbinding.models.base import TEXT_ERROR, VALIDATIONS

_SHOWN = 80
_MORE = "…"


def compile_re2(pattern: str) -> re.Pattern[str]:
    """A pattern of the CRD (RE2) for Python: ASCII classes, `$` is the very end only, `\\x{200b}` a character."""
    written = re.sub(r"\\x\{([0-9a-f]{4,5})\}", lambda found: f"\\U{int(found[1], 16):08x}", pattern)
    return re.compile(written.replace("$", r"\Z"), re.ASCII)


def quoted(text: str) -> str:
    """A user's text for a message: bounded, and control characters made visible."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "`" + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in shown) + "`"


def cut(text: str, most: int) -> str:
    """The text with at most `most` bytes of UTF-8, in which servers count, and a mark at its end where more was there.
    What no JSON can hold (lone surrogates) is replaced."""
    written = text.encode("utf-8", "replace")
    if len(written) <= most:
        return written.decode("utf-8")
    return written[: max(0, most - len(_MORE.encode()))].decode("utf-8", "ignore") + _MORE


@dataclass(frozen=True, slots=True)
class Never:
    """A pattern that must not occur in a text. `says` completes the sentence "<what> <value> ..."."""

    pattern: str
    says: str
    remedy: str = ""

    def validation(self, what: str, remedy: str) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        escaped = self.pattern.replace("\\", "\\\\").replace("'", "\\'")
        return {"rule": f"!self.matches('{escaped}')", "message": f"{what} {self.says}; {self.remedy or remedy}"}


@dataclass(frozen=True)
class Text:
    """Metadata for `Annotated[str, Text(...)]`: which strings are legal, and how to tell people.

    Attributes:
        what: what the text is, for the start of a message, such as `env name`.
        pattern: the CRD's pattern (RE2, anchored with `^` and `$`), empty for any text.
        says: completes "<what> <value> ..." when the pattern does not match.
        remedy: what to write instead.
        max_length, min_length: in code points, as the API server counts.
        bad: a character class; the first character of it is named in the message instead of `says`.
        never: patterns that must not occur; CEL rules in the CRD.
        test: a check that neither a pattern nor CEL can do; gives the message, None when the text is fine.
        shown: False for texts that are not repeated in a message.
    """

    what: str
    pattern: str = ""
    says: str = "is not valid"
    remedy: str = ""
    max_length: int = 256
    min_length: int = 1
    bad: str = ""
    never: tuple[Never, ...] = ()
    test: Callable[[str], str | None] | None = None
    shown: bool = True

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return compile_re2(self.pattern) if self.pattern else None

    @cached_property
    def _never(self) -> tuple[tuple[Never, re.Pattern[str]], ...]:
        return tuple((never, compile_re2(never.pattern)) for never in self.never)

    def complaint(self, value: str) -> tuple[str, str] | None:
        """(message, remedy) for a text that is not legal, None for one that is."""
        head = f"{self.what} {quoted(value)}" if self.shown and value else self.what
        if len(value) < self.min_length:
            return f"{self.what} is empty", self.remedy
        if len(value) > self.max_length:
            return (
                f"{head} has {len(value)} characters, the limit is {self.max_length}",
                f"use at most {self.max_length} characters",
            )
        if self._pattern is not None and not self._pattern.search(value):
            if self.bad and (found := compile_re2(f"[{self.bad}]").search(value)):
                return f"{head} must not hold {_named(found.group())}", self.remedy
            return f"{head} {self.says}", self.remedy
        for never, pattern in self._never:
            if pattern.search(value):
                return f"{head} {never.says}", never.remedy or self.remedy
        if self.test is not None and (message := self.test(value)):
            return message, self.remedy
        return None

    def check(self, value: str) -> str:
        """The text itself; raises pydantic's custom error of type `text` with `message` and `remedy`."""
        if found := self.complaint(value):
            message, remedy = found
            raise PydanticCustomError(TEXT_ERROR, "{message}; {remedy}", {"message": message, "remedy": remedy})
        return value

    def condition(self, variable: str) -> str:
        """The text's rules as one CEL condition on a variable: for keys of maps, and for texts of another type."""
        pattern = self.pattern.replace("\\", "\\\\")
        parts = [f"{variable}.size() <= {self.max_length}", f"{variable}.matches('{pattern}')"]
        nevers = (never.validation(self.what, self.remedy)["rule"] for never in self.never)
        parts += [rule.replace("!self.matches", f"!{variable}.matches") for rule in nevers]
        return " && ".join(parts)

    def schema(self) -> dict[str, Any]:
        """The structural schema of the text."""
        schema: dict[str, Any] = {"type": "string"}
        if self.min_length:
            schema["minLength"] = self.min_length
        schema["maxLength"] = self.max_length
        if self.pattern:
            schema["pattern"] = self.pattern
        if self.never:
            schema[VALIDATIONS] = [never.validation(self.what, self.remedy) for never in self.never]
        return schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self.schema()


def _named(char: str) -> str:
    named = {" ": "a space", "\n": "a line break", "\r": "a line break", "\t": "a tab", "`": "a backtick"}
    return named.get(char, f"`{char}`" if char.isprintable() else f"the character U+{ord(char):04X}")


@dataclass(frozen=True)
class Names:
    """Metadata for `Annotated[dict[str, V], Names(...)]`: which keys a map may have (CEL in the CRD)."""

    text: Text
    max_items: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        values = handler.generate_schema(get_args(source)[1])
        keys = core_schema.no_info_after_validator_function(self.text.check, core_schema.str_schema(strict=True))
        return core_schema.dict_schema(keys, values, strict=True, max_length=self.max_items)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        generated = handler(schema)
        values = generated["additionalProperties"]
        text = self.text
        pattern = text.pattern.replace("\\", "\\\\")
        says = f"{text.what} {text.says}; {text.remedy}"
        rules = [{"rule": f"self.all(k, k.size() <= {text.max_length} && k.matches('{pattern}'))", "message": says}]
        for never in text.never:
            entry = never.validation(text.what, text.remedy)
            rule = entry["rule"].replace("!self.matches", "!k.matches")
            rules.append({"rule": f"self.all(k, {rule})", "message": entry["message"]})
        return {"type": "object", "maxProperties": self.max_items, "additionalProperties": values, VALIDATIONS: rules}
