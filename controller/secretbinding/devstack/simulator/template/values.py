"""Values in a template and how Go prints, compares and encodes them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class JsonNumber(str):
    """A number of a secret: Go's `json.Number`, which is a kind of string and prints as it was written."""

    __slots__ = ()


FIELDS = ("RequestID", "LeaseID", "LeaseDuration", "Renewable", "Data", "Warnings", "Auth", "WrapInfo")
"""The fields of a secret that templates may ask for."""
PEM_FIELDS = ("Cert", "Key", "CA", "CAChain")
"""The same of a certificate."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What the function `secret` returns: `fields` has a value for each of `FIELDS`."""

    fields: Mapping[str, Any]
    type: str = "*dependency.Secret"


def certificate_of(cert: str, key: str, chain: list[str]) -> Secret:
    """What the function `pkiCert` returns: `.Cert`, `.Key`, `.CA` (the first of `.CAChain`), also under `.Data`."""
    fields = {"Cert": cert, "Key": key, "CA": chain[0] if chain else "", "CAChain": chain}
    inner = Secret(fields, "dependency.PemEncoded")
    return Secret({**fields, "Data": inner}, "dependency.PemEncoded")


class VariableItem(str):
    """One value of a Nomad variable; it has its key, and prints as it is."""

    __slots__ = ("key",)

    key: str

    @classmethod
    def of(cls, key: str, value: str) -> "VariableItem":
        item = cls(value)
        item.key = key
        return item


class VariableItems(dict[str, VariableItem]):
    """What the function `nomadVar` returns."""

    @classmethod
    def of(cls, items: Mapping[str, str]) -> "VariableItems":
        return cls({key: VariableItem.of(key, value) for key, value in items.items()})


def secret_of(body: Mapping[str, Any]) -> Secret:
    """The secret in an answer of Vault (`request_id`, `lease_id`, `data`, ...)."""
    keys = ("request_id", "lease_id", "lease_duration", "renewable", "data", "warnings", "auth", "wrap_info")
    values = dict(zip(FIELDS, (body.get(key) for key in keys), strict=True))
    values["LeaseDuration"] = int(values["LeaseDuration"] or 0)
    values["Renewable"] = bool(values["Renewable"])
    return Secret(values)


def load_json(text: str) -> Any:
    """JSON with numbers kept as they are written."""
    return json.loads(text, parse_int=JsonNumber, parse_float=JsonNumber)


def truth(value: Any) -> bool:
    """Whether a value is not empty, by Go's rules: a Secret is, 0 and "" and empty lists are not."""
    return bool(value) if not isinstance(value, Secret) else True


def type_name(value: Any) -> str:
    """Go's name of the type, `%T`."""
    match value:
        case None:
            return "<nil>"
        case JsonNumber():
            return "json.Number"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case dict():
            return "map[string]interface {}"
        case list():
            return "[]interface {}"
    return value.type if isinstance(value, Secret) else "interface {}"


def kind_name(value: Any) -> str:
    """Go's name of the kind. A number of a secret is of kind string."""
    names = {"<nil>": "invalid", "json.Number": "string", "map[string]interface {}": "map", "[]interface {}": "slice"}
    name = type_name(value)
    return names.get(name, "ptr" if name.startswith("*") else name)


def text_of(value: Any, *, nested: bool = False) -> str:
    """How an action prints a value, `%v`."""
    match value:
        case None:
            return "<nil>" if nested else "<no value>"
        case bool():
            return "true" if value else "false"
        case float():
            return go_float(value)
        case dict():
            return "map[" + " ".join(f"{key}:{text_of(value[key], nested=True)}" for key in sorted(value)) + "]"
        case list():
            return "[" + " ".join(text_of(one, nested=True) for one in value) + "]"
        case Secret(type="dependency.PemEncoded"):
            return "{" + " ".join(text_of(value.fields[name], nested=True) for name in PEM_FIELDS) + "}"
        case Secret():
            inner = [value.fields[name] for name in FIELDS[:5]]
            return "{" + " ".join(text_of(one, nested=True) for one in inner) + " <nil> <nil> <nil>}"
    return str(value)


_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def quoted(text: str) -> str:
    """Go's quoted text, `%q`."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _quoted(character: str) -> str:
    code = ord(character)
    if code in _ESCAPES:
        return "\\" + _ESCAPES[code]
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_float(value: float) -> str:
    """`%v` of a float: the shortest text, an exponent from 21 digits on."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)


def to_json(value: Any, indent: int | None = None) -> str:
    """Go's JSON: keys sorted, `<>&`, U+2028 and U+2029 escaped, other characters as they are."""
    if isinstance(value, Secret):
        value = {name: field for name, field in value.fields.items() if not isinstance(field, Secret)}
    text = _encode(value, indent, 0)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _encode(value: Any, indent: int | None, depth: int) -> str:
    if isinstance(value, JsonNumber):
        return str(value)
    if isinstance(value, float):
        return go_float(value)
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        separator = ": " if indent is not None else ":"
        parts = [
            json.dumps(key, ensure_ascii=False) + separator + _encode(value[key], indent, depth + 1)
            for key in sorted(value)
        ]
        opening, closing = "{", "}"
    else:
        parts = [_encode(one, indent, depth + 1) for one in value]
        opening, closing = "[", "]"
    if indent is None:
        return opening + ",".join(parts) + closing
    pad = "\n" + " " * (indent * (depth + 1))
    return opening + pad + ("," + pad).join(parts) + "\n" + " " * (indent * depth) + closing
