"""Functions of Go templates, of consul-template, and of sprig (with the prefix `sprig_`)."""

import base64
import hashlib
import json
import re
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from secretbinding.devstack.simulator.template.values import (
    JsonNumber,
    kind_name,
    quoted,
    text_of,
    to_json,
    truth,
    type_name,
)


class FunctionError(ValueError):
    """A function refused its arguments; never holds a value of a secret."""


def _plain(value: Any) -> str:
    """A string argument; numbers of secrets are not strings here, as in Go."""
    if type(value) is not str:
        raise FunctionError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _same(first: Any, second: Any) -> None:
    names = type_name(first), type_name(second)
    if names[0] != names[1] and None not in (first, second):
        raise FunctionError(f"incompatible types for comparison: {names[0]} and {names[1]}")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    for other in others:
        _same(first, other)
    return any(first == other for other in others)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        _same(first, second)
        if isinstance(first, bool | dict | list) or first is None:
            raise FunctionError("invalid type for comparison")
        return test(first, second)

    return compare


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if not isinstance(value, dict | list):
        raise FunctionError(f"len of type {type_name(value)}")
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise FunctionError("index of untyped nil")
        if isinstance(value, dict):
            value = value.get(_plain(key))
        elif isinstance(value, list | str):
            if not isinstance(key, int):
                raise FunctionError(f"cannot index slice/array with type {type_name(key)}")
            value = list(value.encode()) if isinstance(value, str) else value
            if not 0 <= key < len(value):
                raise FunctionError(f"index out of range: {key}")
            value = value[key]
        else:
            raise FunctionError(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


def _print(*values: Any) -> str:
    out = ""
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            out += " "
        out += text_of(value, nested=True)
    return out


def _printf(pattern: str, *values: Any) -> str:
    left = list(values)

    def one(match: re.Match[str]) -> str:
        verb = match[2]
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        value = left.pop(0)
        if verb == "T":
            return type_name(value)
        if verb == "q":
            return quoted(value if isinstance(value, str) else text_of(value))
        numeric = isinstance(value, int) and not isinstance(value, bool)
        if (verb == "d" and not numeric) or (verb == "s" and numeric):
            return f"%!{verb}({type_name(value)}={text_of(value, nested=True)})"
        text = f"{value:x}" if verb == "x" and numeric else text_of(value, nested=True)
        if match[1]:
            return ("%" + match[1] + "s") % text if not match[1].startswith("0") else text.rjust(int(match[1]), "0")
        return text

    return re.sub(r"%(-?\d*)([a-zA-Z%])", one, _plain(pattern))


def _fail(message: Any) -> str:
    raise FunctionError(text_of(message))


def _parse(kind: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        plain = _plain(text)
        try:
            return kind(plain or "0")
        except ValueError:
            raise FunctionError(f"{name}: invalid syntax") from None

    return parse


def _decode(text: str) -> str:
    try:
        return base64.b64decode(_plain(text), validate=True).decode("utf-8", "replace")
    except ValueError:
        raise FunctionError("base64Decode: illegal base64 data") from None


def _yaml(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "\n".join(f"{key}: {_yaml(item)}" for key, item in sorted(value.items()))
    return text_of(value) if isinstance(value, str) else to_json(value)


def _trim_space(text: str) -> str:
    return _plain(text).strip()


def _get(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key, "")


def _ternary(yes: Any, no: Any, test: bool) -> Any:
    return yes if test else no


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if truth(value)), None)


def _dict(*pairs: Any) -> dict[str, Any]:
    return {str(key): value for key, value in zip(pairs[::2], pairs[1::2], strict=False)}


def _string(value: Any) -> str:
    return str(value) if isinstance(value, JsonNumber) else text_of(value, nested=True)


def _now(pattern: str = "") -> str:
    now = datetime.now(UTC)
    return str(int(now.timestamp())) if pattern == "unix" else now.strftime("%Y-%m-%dT%H:%M:%SZ")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    # Go
    "eq": _eq,
    "ne": lambda first, second: not _eq(first, second),
    "lt": _compare(lambda first, second: first < second),
    "le": _compare(lambda first, second: first <= second),
    "gt": _compare(lambda first, second: first > second),
    "ge": _compare(lambda first, second: first >= second),
    "not": lambda value: not truth(value),
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(text_of(value, nested=True) for value in values) + "\n",
    "urlquery": lambda text: urllib.parse.quote_plus(_plain(text)),
    # consul-template
    "toJSON": to_json,
    "toJSONPretty": lambda value: to_json(value, indent=2),
    "toYAML": _yaml,
    "toUpper": lambda text: _plain(text).upper(),
    "toLower": lambda text: _plain(text).lower(),
    "toTitle": lambda text: _plain(text).title(),
    "trimSpace": _trim_space,
    "trimPrefix": lambda prefix, text: _plain(text).removeprefix(prefix),
    "trimSuffix": lambda suffix, text: _plain(text).removesuffix(suffix),
    "trim": lambda cut, text: _plain(text).strip(cut),
    "replaceAll": lambda old, new, text: _plain(text).replace(old, new),
    "regexReplaceAll": lambda pattern, new, text: re.sub(pattern, new.replace("$", "\\"), _plain(text)),
    "regexMatch": lambda pattern, text: re.search(pattern, _plain(text)) is not None,
    "split": lambda separator, text: _plain(text).split(separator) if separator else list(text),
    "join": lambda separator, items: separator.join(items),
    "contains": lambda item, items: item in items,
    "base64Encode": lambda text: base64.b64encode(_plain(text).encode()).decode(),
    "base64Decode": _decode,
    "base64URLEncode": lambda text: base64.urlsafe_b64encode(_plain(text).encode()).decode(),
    "sha256Hex": lambda text: hashlib.sha256(_plain(text).encode()).hexdigest(),
    "parseBool": lambda text: _plain(text) in ("1", "t", "T", "true", "TRUE", "True"),
    "parseInt": _parse(int, "parseInt"),
    "parseFloat": _parse(float, "parseFloat"),
    "parseJSON": lambda text: json.loads(_plain(text)) if text else {},
    "timestamp": _now,
    "indent": lambda count, text: "\n".join(" " * count + line for line in _plain(text).split("\n")),
    "add": lambda first, second: second + first,
    "subtract": lambda first, second: second - first,
    "multiply": lambda first, second: second * first,
    "divide": lambda first, second: int(second / first),
    "modulo": lambda first, second: second % first,
    # sprig
    "sprig_fail": _fail,
    "sprig_hasKey": lambda mapping, key: key in mapping,
    "sprig_get": _get,
    "sprig_kindIs": lambda kind, value: kind_name(value) == kind,
    "sprig_kindOf": kind_name,
    "sprig_typeIs": lambda name, value: type_name(value) == name,
    "sprig_typeOf": type_name,
    "sprig_quote": lambda *values: " ".join(json.dumps(_string(value), ensure_ascii=False) for value in values),
    "sprig_squote": lambda *values: " ".join(f"'{_string(value)}'" for value in values),
    "sprig_default": lambda fallback, value=None: value if truth(value) else fallback,
    "sprig_coalesce": _coalesce,
    "sprig_ternary": _ternary,
    "sprig_empty": lambda value: not truth(value),
    "sprig_toString": _string,
    "sprig_toJson": to_json,
    "sprig_upper": lambda text: text.upper(),
    "sprig_lower": lambda text: text.lower(),
    "sprig_trim": lambda text: text.strip(),
    "sprig_replace": lambda old, new, text: text.replace(old, new),
    "sprig_contains": lambda part, text: part in text,
    "sprig_b64enc": lambda text: base64.b64encode(text.encode()).decode(),
    "sprig_b64dec": _decode,
    "sprig_splitList": lambda separator, text: text.split(separator) if separator else list(text),
    "sprig_list": lambda *values: list(values),
    "sprig_dict": _dict,
    "sprig_nospace": lambda text: re.sub(r"\s", "", text),
    "sprig_sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
}
