"""`rotate`: ask for a roll now, wherever the binding is kept."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from secretbinding.cli.changes import converge
from secretbinding.cli.connect import clients, kubernetes, read_settings
from secretbinding.cli.console import emit
from secretbinding.cli.options import DEFAULT_TIMEOUT_SECONDS, Kept, Place, SomeFiles, SourceName, Timeout, where
from secretbinding.errors import ManifestError, NotFound, UsageError
from secretbinding.sources.files import Loaded, load
from secretbinding.sources.files.reading import GENERATE_ANNOTATION, ROTATE_ANNOTATION


def rotate(
    name: Annotated[str | None, typer.Argument(help="The binding; left out with -f, which names it.")] = None,
    source: Kept = None,
    filename: SomeFiles = None,
    namespace: Place = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Have new values made first, of all secrets in spec.rotation.generate."),
    ] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", help="With --generate: only of this secret. May be repeated."),
    ] = None,
) -> int:
    """Roll to the newest version now: one that waits for a person (strategy Manual), or one whose deployment failed.

    With files the roll is made and waited for; elsewhere the controller is asked: `status --watch` shows the answer.

    Examples:

      secretbinding rotate payments-api --source nomad -n payments

      secretbinding rotate payments-api --source kubernetes -n payments

      secretbinding rotate -f payments.yaml

      secretbinding rotate payments-api --source nomad -n payments --generate --secret db
    """
    if secret and not generate:
        raise UsageError("--secret is for new values only", remedy="give --generate too")
    kept = where(source, filename)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    request = " ".join([moment, *(secret or [])]) if generate else ""
    if kept is SourceName.FILES:
        return _files(filename or [], namespace, name, moment, request, timeout)
    if name is None:
        raise UsageError("the binding is not named", remedy="give its NAME")
    ask = _ask_nomad if kept is SourceName.NOMAD else _ask_kubernetes
    place = ask(namespace, name, moment, request)
    emit(f"{place}/{name}: asked at {moment}")
    return 0


def _files(
    filename: list[str], namespace: str | None, name: str | None, moment: str, request: str, timeout_seconds: float
) -> int:
    place = namespace or read_settings().nomad.namespace
    loaded = [one for one in load(filename, nomad_namespace=place) if name in (None, one.binding.metadata.name)]
    if not loaded:
        raise UsageError(f"no manifest holds a binding {name}", remedy="check the name")
    for one in loaded:
        _check(request, one)
    items = [replace(one.item, rotate_requested_at=moment, generate_requested_at=request) for one in loaded]
    return converge(loaded, items, timeout_seconds=timeout_seconds)


def _check(request: str, one: Loaded) -> None:
    """Raises `ManifestError` when new values are asked for that the manifest says nothing of."""
    wanted = [entry.secret for entry in one.binding.spec.rotation.generate]
    asked = request.split()[1:] or (wanted if request else [])
    missing = [name for name in asked if name not in wanted]
    if missing or (request and not wanted):
        told = f"no new value of {', '.join(missing) or 'any secret'} can be made"
        remedy = "name it in spec.rotation.generate"
        raise ManifestError([one.problem(("spec", "rotation"), told, remedy)])


def _ask_nomad(namespace: str | None, name: str, moment: str, request: str) -> str:
    from secretbinding.sources.nomad import BINDINGS, GENERATE_ITEM, REQUEST_ITEM, REQUESTS

    settings = read_settings()
    place = namespace or settings.nomad.namespace
    with clients(settings) as connected:
        if connected.nomad.read_variable(place, BINDINGS + name) is None:
            raise NotFound(
                f"there is no variable {BINDINGS}{name} in Nomad namespace {place}",
                system="nomad",
                remedy="check name and namespace",
            )
        items = {REQUEST_ITEM: moment, **({GENERATE_ITEM: request} if request else {})}
        connected.nomad.write_variable(place, REQUESTS + name, items)
    return place


def _ask_kubernetes(namespace: str | None, name: str, moment: str, request: str) -> str:
    with kubernetes() as client:
        place = namespace or client.credentials().namespace
        client.annotate(place, name, {ROTATE_ANNOTATION: moment, **({GENERATE_ANNOTATION: request} if request else {})})
    return place
