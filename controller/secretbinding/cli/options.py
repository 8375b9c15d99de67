"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import durationpy
import typer

from secretbinding.errors import UsageError
from secretbinding.ops.rights import Mount


class SourceName(StrEnum):
    """Where a binding is kept."""

    FILES = "files"
    NOMAD = "nomad"
    KUBERNETES = "kubernetes"


class Output(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


DEFAULT_TIMEOUT_SECONDS = 300.0


def duration(text: str | float) -> float:
    """Seconds from a Go duration such as `90s`, `5m` or `1h30m`. Seconds, as a default gives them, stay as they are."""
    if not isinstance(text, str):
        return text
    try:
        seconds = float(durationpy.from_str(text).total_seconds())
    except (durationpy.DurationError, ValueError):
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 5m or 1h30m") from None
    if seconds < 0:
        raise typer.BadParameter("a duration is not negative")
    return seconds


def _one_namespace(text: str) -> str:
    if text == "*":
        raise typer.BadParameter("`*` is no single namespace")
    return text


Files = Annotated[
    list[str],
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE|DIR|-",
        help="Manifest file, directory (every *.yaml, *.yml and *.json below it, but names that begin with a dot), "
        "or - for standard input. May be repeated.",
    ),
]

SomeFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE|DIR|-",
        help="Manifest file, directory or - for standard input, with --source files. May be repeated.",
    ),
]

Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        envvar="NOMAD_NAMESPACE",
        callback=_one_namespace,
        help="Nomad namespace of jobs whose manifest names none.",
    ),
]

Kept = Annotated[
    SourceName | None,
    typer.Option(
        "--source",
        envvar="SECRETBINDING_SOURCE",
        help="Where the bindings are kept; files when -f is given.",
        show_default=False,
    ),
]

Place = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Nomad or Kubernetes namespace of the bindings; with files, Nomad namespace of jobs whose manifest names "
        "none. NOMAD_NAMESPACE or the kubeconfig's when left out.",
        show_default=False,
    ),
]

Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=duration,
        metavar="DURATION",
        show_default="5m",
        help="How long to wait, such as 90s, 5m or 1h30m.",
    ),
]

Connection = Annotated[
    str | None,
    typer.Option(
        "--connection",
        metavar="NAME",
        help="The named connection whose Vault and Nomad are meant (SECRETBINDING_CONNECTIONS); the default one's when "
        "left out.",
        show_default=False,
    ),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, as `plan` does.")]


Mounts = Annotated[
    list[str] | None,
    typer.Option(
        "--mount",
        metavar="KIND=PATH",
        help="Secrets engine that bindings may use, such as database=db. May be repeated. [default: kv=secret]",
        show_default=False,
    ),
]

MadeRoles = Annotated[
    list[str] | None,
    typer.Option(
        "--make-roles",
        metavar="KIND=PATH",
        help="The same, and bindings may have roles made for them there (`create`). May be repeated.",
        show_default=False,
    ),
]


def mounts_of(texts: list[str] | None, making: list[str] | None) -> tuple[Mount, ...]:
    """The mounts that both options name, each once. Raises `UsageError`."""
    found: dict[tuple[str, str], Mount] = {}
    for makes, given in ((False, texts or []), (True, making or [])):
        for text in given:
            kind, equals, path = text.partition("=")
            if not equals:
                raise UsageError(f"{text!r} is no mount", remedy="write KIND=PATH, such as kv=secret")
            found[kind, path] = Mount(kind, path, makes)
    return tuple(found.values()) if texts or making else (Mount("kv", "secret"),)


def where(kept: SourceName | None, filename: list[str] | None) -> SourceName:
    """The source that a command means. Raises `UsageError` when that cannot be told."""
    source = kept or (SourceName.FILES if filename else None)
    if source is None:
        raise UsageError("it is not said where the bindings are", remedy="give -f, or --source nomad or kubernetes")
    if (source is SourceName.FILES) != bool(filename):
        raise UsageError("-f goes with --source files, and only with it", remedy="give both or neither")
    return source
