"""Strict escaping wherever text crosses into HCL or a consul-template template."""

import json
import re

# What an HCL string or a Vault policy path gives a meaning of its own: quotes and escapes end the string,
# `*` and `+` are wildcards, braces are templating. The model refuses them; here they are refused again.
_UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\"'`\\{}*+?#%]")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def hcl_path(path: str) -> str:
    """A Vault path as an HCL string. Raises `ValueError` for a character that could mean anything else."""
    if not is_plain_path(path):
        raise ValueError(f"not a plain Vault path: {path!r}")
    return f'"{path}"'


def is_plain_path(path: str) -> bool:
    """True for a Vault path in which no character has a meaning of its own in a policy."""
    return bool(path) and _UNSAFE_IN_PATH.search(path) is None


def go_string(text: str) -> str:
    """Any text as a string literal of Go's template language.

    JSON's escapes are Go's as well, as long as characters beyond ASCII stand for themselves (JSON writes the higher
    ones as two surrogates, which Go refuses).
    """
    return json.dumps(text, ensure_ascii=False)


def is_identifier(name: str) -> bool:
    """True when a field can be written as `.name` in a template."""
    return _IDENTIFIER.match(name) is not None


def hcl_string(text: str) -> str:
    """Any text as a string of HCL version 1, in which Vault's agent is configured: JSON's escapes, and the dollar sign
    as one of them, since `${` begins an interpolation there."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\u0024")
