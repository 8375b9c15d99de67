"""`rotate`: ask for a roll now, wherever the binding is kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from secretbinding.cli.changes import converge
from secretbinding.cli.connect import clients, kubernetes, read_settings
from secretbinding.cli.console import emit
from secretbinding.cli.options import DEFAULT_TIMEOUT_SECONDS, Kept, Place, SomeFiles, SourceName, Timeout, where
from secretbinding.errors import Conflict, ManifestError, NotFound, UsageError
from secretbinding.generation import read_request
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.sources.files import load
from secretbinding.sources.files.reading import GENERATE_ANNOTATION, ROTATE_ANNOTATION

_WRITE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for, as texts: a roll at a time, or new values at a time, with the secrets if not all are meant."""

    rotate: str
    generate: tuple[str, ...] = ()

    def items(self, rotate: str, generate: str) -> dict[str, str]:
        """The request under the names that a source has for it."""
        return {generate: " ".join(self.generate)} if self.generate else {rotate: self.rotate}

    def joined(self, waiting: str, handled: str | None, binding: SecretBinding | None) -> "_Request":
        """This request, for new values of what an earlier one still waits for as well: there is place for one text.

        `waiting` is the earlier one's text, `handled` the text that the status answers. Names that the binding does not
        generate any more are left out.
        """
        earlier = read_request(waiting)
        if not self.generate or earlier is None or waiting == handled:
            return self
        moment, *names = self.generate
        if not names or not earlier.secrets:
            return replace(self, generate=(moment,))
        known = {entry.secret for entry in binding.spec.rotation.generate} if binding is not None else earlier.secrets
        kept = (name for name in earlier.secrets if name in known)
        return replace(self, generate=(moment, *dict.fromkeys((*kept, *names))))

    def refusal(self, binding: SecretBinding) -> tuple[str, str] | None:
        """Message and remedy when new values are asked for that the binding says nothing of."""
        if not self.generate:
            return None
        known = [entry.secret for entry in binding.spec.rotation.generate]
        unknown = [name for name in self.generate[1:] if name not in known]
        if known and not unknown:
            return None
        what = f"no new value of {', '.join(unknown) or 'any secret'} can be made"
        has = f" (it has: {', '.join(known)})" if known else ""
        return what, f"name it in spec.rotation.generate{has}"


def rotate(
    name: Annotated[str | None, typer.Argument(help="The binding; left out with -f, which names it.")] = None,
    source: Kept = None,
    filename: SomeFiles = None,
    namespace: Place = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Ask for new values, of all secrets in spec.rotation.generate."),
    ] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", help="With --generate: only of this secret. May be repeated."),
    ] = None,
) -> int:
    """Roll to the newest version now: one that waits for a person (strategy Manual), or one whose deployment failed.

    With --generate, have new values made first (spec.rotation.generate); the job gets them, whatever its strategy.

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
    # New values bring their roll with them. A roll of what there is now would come before, and be one too many.
    request = _Request(rotate="", generate=(moment, *(secret or ()))) if generate else _Request(rotate=moment)
    if kept is SourceName.FILES:
        return _files(filename or [], namespace, name, request, timeout)
    if name is None:
        raise UsageError("the binding is not named", remedy="give its NAME")
    ask = _ask_nomad if kept is SourceName.NOMAD else _ask_kubernetes
    place = ask(namespace, name, request)
    emit(f"{place}/{name}: asked at {moment}")
    return 0


def _files(
    filename: list[str], namespace: str | None, name: str | None, request: _Request, timeout_seconds: float
) -> int:
    place = namespace or read_settings().nomad.namespace
    loaded = [one for one in load(filename, nomad_namespace=place) if name in (None, one.binding.metadata.name)]
    if not loaded:
        raise UsageError(f"no manifest holds a binding {name}", remedy="check the name")
    for one in loaded:
        if refusal := request.refusal(one.binding):
            raise ManifestError([one.problem(("spec", "rotation"), *refusal)])
    generate = " ".join(request.generate)
    items = [replace(one.item, rotate_requested_at=request.rotate, generate_requested_at=generate) for one in loaded]
    return converge(loaded, items, timeout_seconds=timeout_seconds)


def _ask_nomad(namespace: str | None, name: str, request: _Request) -> str:
    from secretbinding.sources.nomad import (
        BINDINGS,
        GENERATE_ITEM,
        REQUEST_ITEM,
        REQUESTS,
        STATUS,
        read_binding,
        read_status,
    )
    from secretbinding.sources.nomad import NAME as NOMAD

    settings = read_settings()
    place = namespace or settings.nomad.namespace
    with clients(settings) as connected:
        variable = connected.nomad.read_variable(place, BINDINGS + name)
        if variable is None:
            raise NotFound(
                f"there is no variable {BINDINGS}{name} in Nomad namespace {place}",
                system="nomad",
                remedy="check name and namespace",
            )
        binding = read_binding(BindingKey(NOMAD, place, name), variable).binding
        _check(request, binding)

        def write() -> None:
            found = connected.nomad.read_variable(place, REQUESTS + name)
            items = dict(found.items) if found is not None else {}
            asked = request
            if waiting := items.get(GENERATE_ITEM, "") if request.generate else "":
                # Read after the request: one that is answered meanwhile is seen as such.
                told = connected.nomad.read_variable(place, STATUS + name)
                handled = read_status(told).last_handled_generate_at if told is not None else None
                asked = request.joined(waiting, handled, binding)
            items |= asked.items(REQUEST_ITEM, GENERATE_ITEM)
            connected.nomad.write_variable(
                place, REQUESTS + name, items, cas=found.modify_index if found is not None else 0
            )

        _over_what_was_read(write)
    return place


def _ask_kubernetes(namespace: str | None, name: str, request: _Request) -> str:
    from secretbinding.sources.kubernetes.items import item_of

    with kubernetes() as client:
        place = namespace or client.credentials().namespace

        def write() -> None:
            asked, version = request, ""
            if request.generate:
                found = client.get(place, name)
                item, version = item_of(found, ""), found["metadata"]["resourceVersion"]
                _check(request, item.binding)
                asked = request.joined(item.generate_requested_at, item.status.last_handled_generate_at, item.binding)
            client.annotate(place, name, asked.items(ROTATE_ANNOTATION, GENERATE_ANNOTATION), version)

        _over_what_was_read(write)
    return place


def _over_what_was_read(write: Callable[[], None]) -> None:
    """Read and write again while others write between; raises `Conflict` when they keep doing so."""
    for left in reversed(range(_WRITE_ATTEMPTS)):
        try:
            write()
        except Conflict:
            if not left:
                raise
        else:
            return


def _check(request: _Request, binding: SecretBinding | None) -> None:
    """Raises `UsageError` for new values that the binding says nothing of. Of one that does not validate nothing is
    known; its status tells why."""
    refusal = request.refusal(binding) if binding is not None else None
    if refusal is not None:
        raise UsageError(refusal[0], remedy=refusal[1])
