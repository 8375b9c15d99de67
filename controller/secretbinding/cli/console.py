"""What is printed where: data to standard output, everything said to people to standard error."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import yaml
from rich.console import Console
from rich.style import Style
from rich.text import Text

from secretbinding.errors import ManifestError, SecretBindingError, UsageError

DEBUG = "SECRETBINDING_DEBUG"
_TOKENS = ("VAULT_TOKEN", "BAO_TOKEN", "NOMAD_TOKEN")


def stderr() -> Console:
    """Standard error, for people. Not wrapped; colors only on a terminal without NO_COLOR."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def emit(text: str) -> None:
    """Data, as it is. Raises `UsageError` when there is no standard output, OSError when it cannot be written."""
    # None is what Python makes of a standard output that is not open.
    if sys.stdout is None:
        raise UsageError("standard output is closed", remedy="leave it open, or send it to a file")
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()


def emit_value(value: Any, form: str) -> None:
    """Data as `json` or `yaml`."""
    if form == "json":
        emit(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        emit(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def painter() -> Callable[[str, str], str]:
    """Gives data a style, where standard output is a terminal that shows colors and NO_COLOR is not set."""
    console = Console(file=sys.stdout)
    if console.no_color or console.color_system is None:
        return lambda text, style: text
    return lambda text, style: Style.parse(style).render(text)


def say(text: str, *, style: str = "") -> None:
    """A line for people."""
    stderr().print(Text(printable(text), style=style))


def error(text: str) -> None:
    """An error line for people."""
    line = Text("error: ", style="bold red")
    line.append(printable(text), style="not bold default")
    stderr().print(line)


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor: servers and manifests may hold anything."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text)


def report(failure: SecretBindingError) -> None:
    """An error raised on purpose: a line for each problem of a manifest, else one."""
    if isinstance(failure, ManifestError):
        for problem in failure.problems:
            error(str(problem))
    else:
        error(str(failure))


def report_unexpected(failure: Exception) -> None:
    """A fault of our own: where it is, without its text, which may hold anything. With `SECRETBINDING_DEBUG=1` the
    whole traceback, in which tokens are blotted out."""
    if os.environ.get(DEBUG):
        stderr().print(Text(_blotted("".join(traceback.format_exception(failure)))))
    frames = traceback.extract_tb(failure.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    error(f"unexpected {type(failure).__name__}{place}, a fault in secretbinding; set {DEBUG}=1 to see the traceback")


def _blotted(text: str) -> str:
    for name in _TOKENS:
        token = os.environ.get(name)
        if token:
            text = text.replace(token, "***")
    return text
