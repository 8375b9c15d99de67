"""Reads a rendered env template as Nomad does: comments, `export`, single and double quotes, JSON escapes."""

import re

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*")
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_SPACE = " \t\r\n\v\f\x85\xa0"


class EnvFileError(ValueError):
    """A line that Nomad cannot read. Names the line and the fault, never the value."""


def parse_env_file(text: str) -> dict[str, str]:
    """Variables in the order of the lines; the last of two equal names wins. Raises `EnvFileError`."""
    result: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(_SPACE)
        if not line or line.startswith("#"):
            continue
        try:
            key, value = _line(line)
        except EnvFileError as error:
            raise EnvFileError(f"error on line {number}: {error}") from None
        result[key] = value
    return result


def _line(line: str) -> tuple[str, str]:
    key, separator, value = line.partition("=")
    if not separator:
        raise EnvFileError("missing =")
    key, value = key.strip(_SPACE), value.strip(_SPACE)
    if len(key) > len("export "):
        key = key.removeprefix("export ")
    if not key:
        raise EnvFileError("empty key")
    if not _KEY.fullmatch(key):
        raise EnvFileError("key characters must be [A-Za-z0-9/_.]")
    return key, _value(value)


def _value(text: str) -> str:
    """The value with quotes and escapes resolved; an unquoted `#` begins a comment."""
    out: list[str] = []
    significant, place, quote = 0, 0, ""
    while place < len(text):
        character = text[place]
        place += 1
        if ord(character) < 32:
            raise EnvFileError(f"0x{ord(character):02x} is an invalid value character")
        if not quote:
            if character == "#":
                return "".join(out[:significant])
            if character in "\"'":
                quote = character
                continue
            out.append(character)
            significant = significant if character in " \t" else len(out)
        elif character == quote:
            quote = ""
        elif quote == '"' and character == "\\":
            decoded, place = _escape(text, place)
            out.append(decoded)
            significant = len(out)
        else:
            out.append(character)
            significant = len(out)
    if quote:
        raise EnvFileError(f"unmatched {quote}")
    return "".join(out)


def _escape(text: str, place: int) -> tuple[str, int]:
    if place >= len(text):
        raise EnvFileError("incomplete escape sequence")
    mark = text[place]
    if mark != "u":
        if mark not in _SIMPLE:
            raise EnvFileError(f"invalid escape sequence: {mark if mark.isascii() else 'multibyte'}")
        return _SIMPLE[mark], place + 1
    first = _hex(text, place + 1)
    place += 5
    if 0xD800 <= first < 0xDC00:
        if text[place : place + 2] != "\\u":
            raise EnvFileError("incomplete Unicode surrogate pair")
        second = _hex(text, place + 2)
        return chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)), place + 6
    return chr(first), place


def _hex(text: str, place: int) -> int:
    digits = text[place : place + 4]
    if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
        raise EnvFileError("incomplete hex sequence")
    return int(digits, 16)
