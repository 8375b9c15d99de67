"""`status`: how bindings are, from wherever their status is kept."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from secretbinding.cli.connect import clients, kubernetes, one_shot, read_settings
from secretbinding.cli.console import emit, emit_value, error, painter, say
from secretbinding.cli.options import (
    DEFAULT_TIMEOUT_SECONDS,
    Kept,
    Output,
    Place,
    SomeFiles,
    SourceName,
    Timeout,
    where,
)
from secretbinding.cli.progress import state_of
from secretbinding.cli.rows import Row, table, to_list
from secretbinding.errors import ManifestError, Unavailable, Unreachable, UsageError
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import identify
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.files import load

Reader = Callable[[], Sequence[Row]]

_WAIT_SECONDS = 1.0
_WATCH_SECONDS = 2.0


def status(
    name: Annotated[str | None, typer.Argument(help="Only the binding of this name.")] = None,
    source: Kept = None,
    filename: SomeFiles = None,
    namespace: Place = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TABLE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all are Ready; ends with 1 at --timeout.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and print each that changes.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> int:
    """Show the bindings and how they are.

    The controller writes the status of bindings in Kubernetes and in Nomad variables; for files it is found out now.

    Examples:

      secretbinding status --source nomad -n payments

      secretbinding status payments-api --source kubernetes -n payments --wait --timeout 10m

      secretbinding status -f bindings/ -o wide
    """
    kept = where(source, filename)
    if wait and watch:
        raise UsageError("--wait and --watch exclude each other", remedy="give one of them")
    with ExitStack() as stack:
        reader = _reader(stack, kept, filename or [], namespace, name)
        if watch:
            return _watch(reader, output)
        rows = _await(reader, timeout) if wait else reader()
    if name is not None and not rows:
        error(f"there is no binding {name} in the source {kept.value}; check name and namespace")
        return 1
    _print(rows, output)
    if not rows and output in (Output.TABLE, Output.WIDE):
        say("there are no bindings")
    late = [row for row in rows if not row.ready] if wait else []
    for row in late:
        error(f"{row.key.tenant}/{row.key.name} is not ready after {timeout:g}s ({state_of(row.status)})")
    return 1 if late or (wait and not rows) else 0


def _reader(
    stack: ExitStack, source: SourceName, filename: Sequence[str], namespace: str | None, name: str | None
) -> Reader:
    if source is SourceName.KUBERNETES:
        return _kubernetes_reader(stack, namespace, name)
    settings = read_settings()
    place = namespace or settings.nomad.namespace
    if source is SourceName.NOMAD:
        return _nomad_reader(stack, place, name)
    loaded = [one for one in load(filename, nomad_namespace=place) if name in (None, one.binding.metadata.name)]
    shot = stack.enter_context(one_shot([one.item for one in loaded]))
    jobs = {one.item.key: one.binding.spec.workload.job for one in loaded}
    return lambda: [Row(key, jobs[key], found) for key, found in sorted(shot.status_now().items())]


def _nomad_reader(stack: ExitStack, namespace: str, name: str | None) -> Reader:
    from secretbinding.sources.nomad import BINDINGS, MANIFEST_ITEM, STATUS, read_status
    from secretbinding.strictyaml import load as load_yaml

    nomad = stack.enter_context(clients(read_settings())).nomad

    def row(place: str, found: str) -> Row | None:
        binding = nomad.read_variable(place, BINDINGS + found)
        written = nomad.read_variable(place, STATUS + found)
        if binding is None and written is None:
            return None
        job = ""
        if binding is not None:
            try:
                documents = load_yaml(binding.items.get(MANIFEST_ITEM, ""))
            except ManifestError:
                documents = ()
            job = (identify(documents[0].value).job or "") if documents else ""
        status = read_status(written) if written is not None else SecretBindingStatus()
        return Row(BindingKey(SourceName.NOMAD.value, place, found), job, status)

    def read() -> list[Row]:
        if name is not None:
            one = row(namespace, name)
            return [one] if one is not None else []
        metas = {
            (meta.namespace, meta.path.removeprefix(prefix))
            for prefix in (BINDINGS, STATUS)
            for meta in nomad.list_variables(namespace, prefix)[1]
        }
        return [found for place, one in sorted(metas) if (found := row(place, one)) is not None]

    return read


def _kubernetes_reader(stack: ExitStack, namespace: str | None, name: str | None) -> Reader:
    from secretbinding.errors import NotFound

    client = stack.enter_context(kubernetes())
    place = namespace or client.credentials().namespace

    def row(obj: dict[str, Any]) -> Row:
        metadata = obj["metadata"]
        return Row(
            BindingKey(SourceName.KUBERNETES.value, metadata["namespace"], metadata["name"]),
            identify(obj).job or "",
            SecretBindingStatus.read(obj.get("status")),
            created=str(metadata.get("creationTimestamp") or ""),
        )

    def read() -> list[Row]:
        if name is None:
            return [row(obj) for obj in client.list("" if place == "*" else place)]
        try:
            return [row(client.get(place, name))]
        except NotFound:
            return []

    return read


def _await(reader: Reader, timeout_seconds: float) -> Sequence[Row]:
    deadline = time.monotonic() + timeout_seconds
    while True:
        rows = reader()
        if (rows and all(row.ready for row in rows)) or time.monotonic() >= deadline:
            return rows
        time.sleep(min(_WAIT_SECONDS, max(0.0, deadline - time.monotonic())))


def _watch(reader: Reader, output: Output) -> int:
    """Print all, then each that is new or changed, until interrupted. An outage is told once and waited out."""
    before: dict[BindingKey, Row] = {}
    first, trouble = True, ""
    while True:
        try:
            rows = {row.key: row for row in reader()}
            trouble = ""
        except (Unreachable, Unavailable) as failure:
            if first:
                raise
            if str(failure) != trouble:
                trouble = str(failure)
                error(trouble)
            time.sleep(_WATCH_SECONDS)
            continue
        changed = [row for key, row in rows.items() if before.get(key) != row]
        if changed or first:
            _print(changed, output, header=first)
        for key in before.keys() - rows.keys():
            say(f"{key.tenant}/{key.name} is gone")
        before, first = rows, False
        time.sleep(_WATCH_SECONDS)


def _print(rows: Sequence[Row], output: Output, *, header: bool = True) -> None:
    if output in (Output.JSON, Output.YAML):
        emit_value(to_list(rows), output.value)
    elif rows:
        emit(table(rows, datetime.now(UTC), wide=output is Output.WIDE, header=header, paint=painter()))
