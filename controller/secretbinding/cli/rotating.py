"""`rotate`: ask for a roll now, wherever the binding is kept."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from secretbinding.cli.changes import converge
from secretbinding.cli.connect import clients, kubernetes, read_settings
from secretbinding.cli.console import emit
from secretbinding.cli.options import DEFAULT_TIMEOUT_SECONDS, Kept, Place, SomeFiles, SourceName, Timeout, where
from secretbinding.errors import NotFound, UsageError
from secretbinding.sources.files import load
from secretbinding.sources.files.reading import ROTATE_ANNOTATION


def rotate(
    name: Annotated[str | None, typer.Argument(help="The binding; left out with -f, which names it.")] = None,
    source: Kept = None,
    filename: SomeFiles = None,
    namespace: Place = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> int:
    """Roll to the newest version now: one that waits for a person (strategy Manual), or one whose deployment failed.

    With files the roll is made and waited for; elsewhere the controller is asked: `status --watch` shows the answer.

    Examples:

      secretbinding rotate payments-api --source nomad -n payments

      secretbinding rotate payments-api --source kubernetes -n payments

      secretbinding rotate -f payments.yaml
    """
    kept = where(source, filename)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kept is SourceName.FILES:
        return _files(filename or [], namespace, name, moment, timeout)
    if name is None:
        raise UsageError("the binding is not named", remedy="give its NAME")
    ask = _ask_nomad if kept is SourceName.NOMAD else _ask_kubernetes
    place = ask(namespace, name, moment)
    emit(f"{place}/{name}: asked at {moment}")
    return 0


def _files(filename: list[str], namespace: str | None, name: str | None, moment: str, timeout_seconds: float) -> int:
    place = namespace or read_settings().nomad.namespace
    loaded = [one for one in load(filename, nomad_namespace=place) if name in (None, one.binding.metadata.name)]
    if not loaded:
        raise UsageError(f"no manifest holds a binding {name}", remedy="check the name")
    items = [replace(one.item, rotate_requested_at=moment) for one in loaded]
    return converge(loaded, items, timeout_seconds=timeout_seconds)


def _ask_nomad(namespace: str | None, name: str, moment: str) -> str:
    from secretbinding.sources.nomad import BINDINGS, REQUEST_ITEM, REQUESTS

    settings = read_settings()
    place = namespace or settings.nomad.namespace
    with clients(settings) as connected:
        if connected.nomad.read_variable(place, BINDINGS + name) is None:
            raise NotFound(
                f"there is no variable {BINDINGS}{name} in Nomad namespace {place}",
                system="nomad",
                remedy="check name and namespace",
            )
        connected.nomad.write_variable(place, REQUESTS + name, {REQUEST_ITEM: moment})
    return place


def _ask_kubernetes(namespace: str | None, name: str, moment: str) -> str:
    with kubernetes() as client:
        place = namespace or client.credentials().namespace
        client.annotate(place, name, {ROTATE_ANNOTATION: moment})
    return place
