"""Reads a rendered file as a program would that gets it: the shell, and the libraries for each format."""

import io
import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from secretbinding.models.binding import FileFormat

NASTY = {
    "plain": "secret",
    "empty": "",
    "quotes": 'it\'s "quoted" `id`',
    "shell": "$HOME $(id) `id` ${HOME} !x",
    "backslash": "a\\b\\n\\",
    "lines": "one\ntwo\r\nthree\n",
    "spaces": "  leading and trailing  ",
    "signs": "#!=:;,&<>|*?[]{}~%@-",
    "template": "{{ .Data }} }}{{",
    "unicode": "é ü ß \u20ac \u6f22 \U0001f600 \U0010ffff",
    "unseen": "\x7f\x85\xa0\u2028\u2029\ufeff\u200b\x01\x1b",
    "yaml": "yes: [no, 1e3, ~]",
}
"""Values that mean something else to some reader, unless they are quoted well."""


def read(file_format: FileFormat, text: str, names: Iterable[str]) -> Mapping[str, Any]:
    """The names and values that a reader gets; of a shell file, the variables of these names."""
    match file_format:
        case FileFormat.JSON:
            found = json.loads(text)
        case FileFormat.YAML:
            found = yaml.safe_load(text)
        case FileFormat.DOTENV:
            # It has no way to write `${X}` where it puts in the values of variables.
            found = dotenv_values(stream=io.StringIO(text), interpolate=False)
        case FileFormat.PROPERTIES:
            found = pytest.importorskip("javaproperties").loads(text.encode("latin-1"))
        case FileFormat.SHELL:
            found = _sourced(text, list(names))
    assert isinstance(found, dict)
    return found


def _sourced(text: str, names: list[str]) -> dict[str, str]:
    """What a shell has in its environment that has read the file, and nothing else happened."""
    script = text + "".join(f'\nprintf "%s\\0" "${{{name}}}"' for name in names)
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, check=True, env={"HOME": "/nowhere"})
    assert done.stderr == b""
    values = done.stdout.decode().split("\0")
    assert len(values) == len(names) + 1
    return dict(zip(names, values, strict=False))
