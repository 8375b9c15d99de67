"""`doctor`: find out what is wrong on both sides, and say what mends it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.adapters.discovery import plain_address
from secretbinding.cli.connect import kubernetes, read_settings
from secretbinding.cli.console import emit, emit_value, printable
from secretbinding.cli.jobfiles import parse_job
from secretbinding.cli.options import Connection, Mounts, SomeFiles, SourceName, mounts_of
from secretbinding.cli.servers import Servers, servers, with_tokens
from secretbinding.errors import Problem, SecretBindingError, UsageError
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey
from secretbinding.ops.doctor.facts import Endpoint, Fact, JobFile, Unknown
from secretbinding.ops.rights import Scope
from secretbinding.settings import Settings, VaultLogin
from secretbinding.sources.base import SourceItem

if TYPE_CHECKING:
    from secretbinding.adapters.nomad.admin import NomadAdminAdapter
    from secretbinding.ops.doctor.findings import Outcome

_COLORS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


class Form(StrEnum):
    """How the findings are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def doctor(
    filename: SomeFiles = None,
    source: Annotated[
        SourceName | None,
        typer.Option(
            envvar="SECRETBINDING_SOURCE",
            help="Also check the bindings that are kept there; files when -f is given. Only a source can tell which "
            "policies are left over.",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Nomad or Kubernetes namespace of the bindings, all when left out; with files, Nomad namespace of "
            "jobs whose manifest names none.",
            show_default=False,
        ),
    ] = None,
    job_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Also look for literal secrets in this job file. May be repeated."),
    ] = None,
    mount: Mounts = None,
    older_than_days: Annotated[
        int, typer.Option(min=1, help="Report secrets that were last changed longer ago than this.")
    ] = 90,
    controller_vault_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The controller's Vault token, whose rights are judged. [default: the one that asks, if it is that]",
            show_default=False,
        ),
    ] = None,
    controller_nomad_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The controller's Nomad token, whose rights are judged. [default: the one that asks, if it is that]",
            show_default=False,
        ),
    ] = None,
    connection: Connection = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave out a check by its name. May be repeated.")
    ] = None,
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print.")] = Form.TABLE,
) -> int:
    """Check Vault, Nomad, what joins them, the controller's rights, and each binding; say what mends what is wrong.

    It only reads. Run it with your own tokens: it asks for more than the controller may (Vault's sys/auth,
    sys/audit and sys/mounts, Nomad's agent:read and node:read), and says so where a right is missing.

    It ends with 1 when there is an error (or the command line is wrong), with 2 when there are only warnings, and with
    0 otherwise.

    Examples:

      secretbinding doctor

      secretbinding doctor --source nomad --controller-vault-token-file DIR/vault-token

      secretbinding doctor -f bindings/ --job-file app.nomad.hcl -o json
    """
    from secretbinding.ops.doctor.checks import CHECKS
    from secretbinding.ops.doctor.findings import examine
    from secretbinding.ops.doctor.gathering import Given, Reach, gather
    from secretbinding.ops.doctor.report import exit_code, to_object

    base = read_settings()
    settings = base.of(connection or base.connection)
    skipped = _skipped(skip or (), [check.name for check in CHECKS])
    with ExitStack() as stack:
        own = stack.enter_context(servers(settings, patient=False))
        judged, vault_from, nomad_from = _judged(
            stack, settings, own, controller_vault_token_file, controller_nomad_token_file
        )
        place = namespace or settings.nomad.namespace
        # Bindings in variables are the default connection's, whatever connection they name.
        keeping = own if settings is base else stack.enter_context(servers(base, patient=False))
        items, name, proves = _bindings(stack, source, filename or [], namespace, place, keeping.nomad)
        items = _of_connection(items, settings.connection)
        given = Given(
            scope=Scope(
                instance=settings.controller.instance,
                jwt_mount=settings.controller.jwt_mount,
                election=settings.controller.election == "nomad",
                mounts=mounts_of(mount, None),
            ),
            vault=Endpoint(
                "Vault",
                plain_address(settings.vault.address),
                not settings.vault.skip_verify,
                setting=settings.vault.address,
            ),
            nomad=Endpoint("Nomad", settings.nomad.address, not settings.nomad.skip_verify),
            vault_namespace=settings.vault.namespace,
            max_age_days=older_than_days,
            items=items,
            source=name,
            proves_absent=proves,
            approle_mount=settings.agent.approle_mount.strip("/"),
            job_files=[_job_file(path, own.nomad, place) for path in job_file or ()],
        )
        reach = Reach(
            vault=own.vault,
            vault_admin=own.vault,
            nomad=own.nomad,
            nomad_admin=own.nomad,
            judged_vault=judged.vault,
            judged_nomad=judged.nomad,
            vault_from=vault_from,
            nomad_from=nomad_from,
            keys=own.keys,
            vault_named=controller_vault_token_file is not None or settings.vault.login is not VaultLogin.TOKEN,
            nomad_named=controller_nomad_token_file is not None,
        )
        facts = gather(reach, given)
    outcomes = examine([check for check in CHECKS if check.name not in skipped], facts)
    if output is Form.TABLE:
        _print(outcomes)
    else:
        emit_value(to_object(outcomes), output.value)
    return exit_code(outcomes)


def _skipped(names: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    for name in names:
        if name not in known:
            raise UsageError(f"no check is named {name!r}", remedy=f"use one of {', '.join(known)}")
    return frozenset(names)


def _judged(
    stack: ExitStack, settings: Settings, own: Servers, vault_file: Path | None, nomad_file: Path | None
) -> tuple[Servers, str, str]:
    """The servers with the tokens whose rights are judged, and where these are from."""
    vault_from = str(settings.vault.token_file or "VAULT_TOKEN")
    nomad_from = str(settings.nomad.token_file or "NOMAD_TOKEN")
    if vault_file is None and nomad_file is None:
        return own, vault_from, nomad_from
    tokens = with_tokens(
        settings,
        vault=None if vault_file is None else _token(vault_file),
        nomad=None if nomad_file is None else _token(nomad_file),
    )
    judged = stack.enter_context(servers(tokens, patient=False))
    return judged, str(vault_file or vault_from), str(nomad_file or nomad_from)


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as failure:
        reason = (failure.strerror if isinstance(failure, OSError) else "") or "it is no text"
        raise UsageError(f"the token file {path} cannot be read: {reason.lower()}", remedy="check the path") from None
    if not token:
        raise UsageError(f"the token file {path} is empty", remedy="check the path")
    return token


def _bindings(
    stack: ExitStack,
    source: SourceName | None,
    filename: Sequence[str],
    namespace: str | None,
    place: str,
    nomad: "NomadAdminAdapter",
) -> tuple[Fact[Sequence[SourceItem]] | None, str, Callable[[BindingKey], bool] | None]:
    """The bindings, where they are from, and how to prove that one does not exist. What a server is the cause of is a
    finding of its own, as is a manifest that is not valid; a file that cannot be read is an error of the command
    line."""
    kept = source or (SourceName.FILES if filename else None)
    if kept is None:
        return None, "", None
    if (kept is SourceName.FILES) != bool(filename):
        raise UsageError("-f goes with --source files, and only with it", remedy="give both or neither")
    if kept is SourceName.FILES:
        from secretbinding.sources.files import examine

        return examine(filename, nomad_namespace=place), kept.value, None
    if kept is SourceName.NOMAD:
        from secretbinding.sources.nomad import NomadSource, list_bindings

        listed = _listed(lambda: _proven(list_bindings(nomad, namespace or "*"), nomad, place))
        return listed, kept.value, NomadSource(nomad).proves_absent
    return _of_kubernetes(stack, namespace, place)


def _of_connection(items: Fact[Sequence[SourceItem]] | None, connection: str) -> Fact[Sequence[SourceItem]] | None:
    """Those of a connection, and of the default one those whose manifest cannot be read."""
    from secretbinding.engine.store import connection_of

    if items is None or isinstance(items, Unknown):
        return items
    return [item for item in items if (connection_of(item) or DEFAULT_CONNECTION) == connection]


def _proven(items: Sequence[SourceItem], nomad: "NomadAdminAdapter", place: str) -> Sequence[SourceItem]:
    """The bindings; where there are none, only when the token may read them: Nomad lists none without the right, too.
    Raises `errors.Denied`."""
    from secretbinding.sources.nomad import BINDINGS

    if not items:
        nomad.read_variable(place, f"{BINDINGS}doctor")
    return items


def _of_kubernetes(
    stack: ExitStack, namespace: str | None, place: str
) -> tuple[Fact[Sequence[SourceItem]], str, Callable[[BindingKey], bool]]:
    from secretbinding.errors import NotFound
    from secretbinding.sources.kubernetes.items import item_of

    client = stack.enter_context(kubernetes())

    def absent(key: BindingKey) -> bool:
        try:
            client.get(key.tenant, key.name)
        except NotFound:
            return True
        return False

    wanted = "" if namespace in (None, "*") else str(namespace)
    listed = _listed(lambda: [item_of(obj, place) for obj in client.list(wanted)])
    return listed, SourceName.KUBERNETES.value, absent


def _listed(read: Callable[[], Sequence[SourceItem]]) -> Fact[Sequence[SourceItem]]:
    from secretbinding.ops.doctor.gathering.asking import ask

    return ask(read)


def _job_file(path: Path, nomad: "NomadAdminAdapter", namespace: str) -> JobFile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = (failure.strerror if isinstance(failure, OSError) else "") or "it is no text"
        raise UsageError(f"{path} cannot be read: {reason.lower()}", remedy="check the path") from None
    try:
        job, _ = parse_job(text, file=str(path), nomad=nomad, variables="", namespace=namespace)
    except SecretBindingError as failure:
        raise UsageError(str(Problem(str(failure), file=str(path)))) from None
    return JobFile(str(path), job)


def _print(outcomes: Sequence["Outcome"]) -> None:
    from rich.console import Console
    from rich.text import Text

    from secretbinding.ops.doctor.report import blocks, summary, unmade

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for severity, text in (*blocks(outcomes), *unmade(outcomes)):
        head, _, rest = printable(text).partition("\n")
        word = head[:8]
        line = Text(word, style=_COLORS[severity.value])
        line.append(f"{head[8:]}\n{rest}\n", style="not bold default")
        console.print(line)
    emit(summary(outcomes))
