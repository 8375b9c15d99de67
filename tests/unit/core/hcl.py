"""A reader of the HCL that policies are written in, by HCL's own rules: strict, so that nothing hides in a string."""

import re

_TOKEN = re.compile(
    r"(?P<space>[ \t\n]+)|(?P<comment>\#[^\n]*)|(?P<word>[a-z_]+)|(?P<mark>[{}=\[\],])"
    r'|(?P<string>"(?:[^"\\\n$%]|\\.|[$%](?!\{))*")'
)


def read_policy_hcl(text: str) -> dict[str, set[str]]:
    """The capabilities by path. Raises `ValueError` for anything but path blocks, and for a path given twice."""
    tokens = _tokens(text)
    found: dict[str, set[str]] = {}
    while tokens:
        _take(tokens, "path")
        path = _string(tokens)
        for expected in ("{", "capabilities", "=", "["):
            _take(tokens, expected)
        words = {_string(tokens)}
        while tokens[0] == ",":
            tokens.pop(0)
            words.add(_string(tokens))
        for expected in ("]", "}"):
            _take(tokens, expected)
        if path in found:
            raise ValueError(f"{path} is given twice")
        found[path] = words
    return found


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"no token at {text[at : at + 20]!r}")
        if match.lastgroup not in ("space", "comment"):
            tokens.append(match.group())
        at = match.end()
    return tokens


def _take(tokens: list[str], expected: str) -> None:
    if not tokens or tokens[0] != expected:
        raise ValueError(f"expected {expected}, found {tokens[:1]}")
    tokens.pop(0)


def _string(tokens: list[str]) -> str:
    if not tokens or not tokens[0].startswith('"'):
        raise ValueError(f"expected a string, found {tokens[:1]}")
    body = tokens.pop(0)[1:-1]
    if "\\" in body:
        raise ValueError(f"an escape in {body!r}")
    return body
