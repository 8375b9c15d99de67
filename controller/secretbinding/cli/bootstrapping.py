"""`bootstrap`: set up a Vault and a Nomad for the controller."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding import __version__
from secretbinding.adapters.discovery import plain_address
from secretbinding.cli.connect import read_settings
from secretbinding.cli.console import emit, error, say
from secretbinding.cli.credentials import credential_files
from secretbinding.cli.options import Connection, MadeRoles, Mounts, duration, mounts_of
from secretbinding.cli.servers import Servers, servers
from secretbinding.errors import Denied, ServiceError, UsageError
from secretbinding.ops.bootstrap.controller_job import Driver
from secretbinding.ops.bootstrap.credentials import FileStep, Issuer, Store, needed, show_files
from secretbinding.ops.bootstrap.pasting import Surroundings
from secretbinding.ops.bootstrap.planning import Change, Plan, Step, describe, show
from secretbinding.ops.bootstrap.snippets import show as show_snippets
from secretbinding.ops.bootstrap.snippets import snippets
from secretbinding.ops.bootstrap.target import JWKS_PATH, Login, Target
from secretbinding.ops.product import product_of
from secretbinding.ops.rights import Scope, nomad_policy, vault_policy
from secretbinding.settings import Settings

if TYPE_CHECKING:
    from secretbinding.ops.bootstrap.applying import Bootstrap

CHANGES = 2


class Side(StrEnum):
    """Whose policy."""

    VAULT = "vault"
    NOMAD = "nomad"


def bootstrap(
    login: Annotated[
        Login,
        typer.Option(
            help="How the controller gets its token for Vault: a periodic token, its workload identity as a Nomad job, "
            "its service account in Kubernetes, or an AppRole."
        ),
    ] = Login.TOKEN,
    mount: Mounts = None,
    make_roles: MadeRoles = None,
    nomad_namespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE", help="Nomad namespace that bindings may name. May be repeated. [default: *, all]"
        ),
    ] = None,
    nomad_variables: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Nomad variables that bindings may take values from, such as nomad/jobs/*. May be repeated.",
            show_default=False,
        ),
    ] = None,
    jwks_url: Annotated[
        str,
        typer.Option(
            "--jwks-url",
            metavar="URL",
            help=f"Where Vault gets Nomad's signing keys from. [default: NOMAD_ADDR{JWKS_PATH}]",
            show_default=False,
        ),
    ] = "",
    oidc_discovery_url: Annotated[
        str,
        typer.Option(
            "--oidc-discovery-url",
            metavar="URL",
            help="Nomad's `server.oidc_issuer`: get the keys by OIDC discovery instead, and check the issuer.",
            show_default=False,
        ),
    ] = "",
    jwks_ca: Annotated[
        Path | None, typer.Option("--jwks-ca", metavar="FILE", help="Certificates that Vault trusts at that URL.")
    ] = None,
    default_role: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Also make a role for tasks with a bare `vault` block: each reads what lies below its Nomad namespace "
            "and job ID in the KV mounts. The controller does not need it.",
            show_default=False,
        ),
    ] = "",
    credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the controller's tokens there, one file each, readable by you alone. Without it none are made.",
        ),
    ] = None,
    wrap: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="Write Vault's token or secret ID response-wrapped, to be opened once within this time.",
            show_default=False,
        ),
    ] = 0.0,
    new_credentials: Annotated[
        bool, typer.Option("--new-credentials", help="Make new ones though they are there; the old ones stay valid.")
    ] = False,
    extra_policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another Vault policy for the controller's token, which you have made: rights that you add are there. "
            "May be repeated.",
        ),
    ] = None,
    token_period: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="How long the controller's token lives after each renewal. [default: 768h for --login token, else 1h]",
            show_default=False,
        ),
    ] = 0.0,
    job: Annotated[
        str,
        typer.Option(metavar="[NAMESPACE/]ID", help="The controller's own Nomad job, with --login nomad."),
    ] = "secretbinding",
    driver: Annotated[Driver, typer.Option(help="The driver of that job.")] = Driver.DOCKER,
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="The controller's image, for job or pod.")
    ] = f"secretbinding:{__version__}",
    command: Annotated[
        str, typer.Option(metavar="PATH", help="The controller's program on Nomad's clients, without docker.")
    ] = "secretbinding",
    service_account: Annotated[
        str,
        typer.Option(metavar="NAMESPACE/NAME", help="The controller's service account, with --login kubernetes."),
    ] = "secretbinding/secretbinding",
    kubernetes_mount: Annotated[str, typer.Option(metavar="MOUNT", help="The Kubernetes auth mount.")] = "kubernetes",
    kubernetes_host: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="The API server as Vault reaches it; leave it out when the mount is set up already.",
            show_default=False,
        ),
    ] = "",
    kubernetes_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates of the API server, for a Vault that does not run in that cluster itself."
        ),
    ] = None,
    approle_mount: Annotated[str, typer.Option(metavar="MOUNT", help="The AppRole auth mount.")] = "approle",
    replace_ids: Annotated[
        list[str] | None,
        typer.Option(
            "--replace",
            metavar="ID",
            help="Change this, though it is not ours or was edited by hand. The ID is what a conflict names. May be "
            "repeated.",
        ),
    ] = None,
    print_policy: Annotated[
        Side | None,
        typer.Option(
            help="Only print the controller's policy for Vault or Nomad, for other tools to write; asks no server.",
            show_default=False,
        ),
    ] = None,
    connection: Connection = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change, with the difference of each thing.")
    ] = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="With --dry-run: end with 2 when there are changes, 0 without."),
    ] = False,
) -> int:
    """Set up Vault and Nomad for the controller, and print what to do next, ready to paste.

    On Vault: the JWT auth mount with Nomad's signing keys, the controller's policy and the role by which it logs in. On
    Nomad: its ACL policy. Run it with an administrator's tokens in VAULT_TOKEN and NOMAD_TOKEN. A second run changes
    nothing; what is there, differs, and is not ours, is shown and left alone, and then nothing is changed at all.

    Examples:

      secretbinding bootstrap --dry-run

      secretbinding bootstrap --credentials ./secretbinding-credentials

      secretbinding bootstrap --login nomad --job platform/secretbinding --mount kv=secret --mount database=db

      secretbinding bootstrap --print-policy vault --mount kv=kv
    """
    settings = read_settings(connection)
    scope = Scope(
        instance=settings.controller.instance,
        jwt_mount=settings.controller.jwt_mount,
        election=settings.controller.election == "nomad",
        mounts=mounts_of(mount, make_roles),
        nomad_namespaces=tuple(nomad_namespace or ("*",)),
        nomad_variables=tuple(nomad_variables or ()),
    )
    if print_policy is not None:
        emit(vault_policy(scope) if print_policy is Side.VAULT else nomad_policy(scope))
        return 0
    store = Store(credentials, int(wrap)) if credentials is not None else None
    _check(store, new_credentials=new_credentials, wrap=wrap, dry_run=dry_run, detailed=detailed_exitcode)
    with servers(settings) as connected:
        target = _target(
            settings,
            connected,
            scope=scope,
            urls=(jwks_url, oidc_discovery_url),
            ca_pem=_read("--jwks-ca", jwks_ca),
            default_role=default_role,
            login=login,
            extra_policies=tuple(extra_policy or ()),
            token_period_seconds=int(token_period),
            job=job,
            service_account=service_account,
            kubernetes=(kubernetes_mount, kubernetes_host, _read("--kubernetes-ca", kubernetes_ca)),
            approle_mount=approle_mount,
        )
        around = _surroundings(settings, connected, store, driver, image, command)
        return _run(
            settings, connected, target, around, store, replace_ids or (), new_credentials, dry_run, detailed_exitcode
        )


def _check(store: Store | None, *, new_credentials: bool, wrap: float, dry_run: bool, detailed: bool) -> None:
    if store is None and (new_credentials or wrap):
        raise UsageError("--new-credentials and --wrap need a place", remedy="name a directory by --credentials")
    if detailed and not dry_run:
        raise UsageError("--detailed-exitcode goes with --dry-run", remedy="give both or neither")


def _target(
    settings: Settings,
    connected: Servers,
    *,
    scope: Scope,
    urls: tuple[str, str],
    ca_pem: str,
    default_role: str,
    login: Login,
    extra_policies: tuple[str, ...],
    token_period_seconds: int,
    job: str,
    service_account: str,
    kubernetes: tuple[str, str, str],
    approle_mount: str,
) -> Target:
    jwks_url, discovery_url = urls
    if not discovery_url:
        jwks_url = jwks_url or settings.nomad.address.rstrip("/") + JWKS_PATH
    account_namespace, slash, account = service_account.partition("/")
    if not slash:
        raise UsageError(f"{service_account!r} is no service account", remedy="write NAMESPACE/NAME")
    job_namespace, slash, job_id = job.rpartition("/")
    return Target(
        scope=scope,
        jwks_url=jwks_url,
        oidc_discovery_url=discovery_url,
        nomad_issuer=None if discovery_url else _issuer(connected),
        ca_pem=ca_pem,
        default_role=default_role,
        login=login,
        extra_policies=extra_policies,
        token_period_seconds=token_period_seconds,
        job_namespace=job_namespace if slash else "default",
        job=job_id,
        service_account=(account_namespace, account),
        kubernetes_mount=kubernetes[0],
        kubernetes_host=kubernetes[1],
        kubernetes_ca_pem=kubernetes[2],
        approle_mount=approle_mount,
        nomad_acl=connected.nomad.acl_enabled(),
    )


def _issuer(connected: Servers) -> str | None:
    try:
        return connected.nomad.issuer() or ""
    except ServiceError:
        return None


def _read(option: str, ca: Path | None) -> str:
    if ca is None:
        return ""
    try:
        return ca.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as failure:
        reason = (failure.strerror if isinstance(failure, OSError) else "") or "it is no PEM file"
        raise UsageError(f"{option} {ca} cannot be read: {reason.lower()}", remedy="check the path") from None


def _surroundings(
    settings: Settings, connected: Servers, store: Store | None, driver: Driver, image: str, command: str
) -> Surroundings:
    try:
        devices = tuple(connected.vault.audit_devices().values())
    except Denied:
        devices = ()
    return Surroundings(
        vault_address=plain_address(settings.vault.address),
        lookup=settings.vault.address,
        nomad_address=settings.nomad.address,
        vault_namespace=settings.vault.namespace,
        vault_ca=settings.vault.ca_cert,
        nomad_ca=settings.nomad.ca_cert,
        credentials=store.directory.absolute() if store is not None else None,
        wrapped=store is not None and store.wrap_seconds > 0,
        driver=driver,
        image=image,
        command=command,
        product=product_of(connected.vault.auth_mounts()),
        audited=any(device.type != "socket" for device in devices),
    )


def _run(
    settings: Settings,
    connected: Servers,
    target: Target,
    around: Surroundings,
    store: Store | None,
    replace_ids: Sequence[str],
    new_credentials: bool,
    dry_run: bool,
    detailed: bool,
) -> int:
    from secretbinding.ops.bootstrap.applying import Bootstrap

    both = Bootstrap(connected.vault, connected.nomad)
    plan = both.plan(target, replace_ids)
    files = credential_files(settings, target, store, renew=new_credentials)
    _check_replaced(plan, replace_ids)
    _say_what_is_off(target, store)
    if plan.conflicts or any(step.change is Change.CONFLICT for step in files):
        emit(show(plan) + show_files(files))
        error("something is in the way; nothing was changed")
        return 1
    if dry_run:
        emit(show(plan) + show_files(files))
        changes = bool(plan.changes) or any(step.change is not Change.KEEP for step in files)
        return CHANGES if changes and detailed else 0
    _apply(both, connected, target, replace_ids, files, store)
    emit(f"\n{show_snippets(snippets(target, around))}")
    return 0


def _apply(
    both: "Bootstrap",
    connected: Servers,
    target: Target,
    replace_ids: Sequence[str],
    files: tuple[FileStep, ...],
    store: Store | None,
) -> None:
    def told(step: Step) -> None:
        emit(describe(step))

    done = both.apply(target, replace_ids, told)
    issuer = Issuer(connected.vault, connected.nomad)
    for step in files if store is not None else ():
        issued = issuer.issue(target, step, store) if store is not None else None
        accessor = f" (accessor {issued.accessor})" if issued is not None and issued.accessor else ""
        emit(show_files((step,)).rstrip("\n") + accessor)
    kept = sum(step.change is Change.KEEP for step in done.steps)
    emit(f"{len(done.changes)} changed, {kept} as they should be")


def _check_replaced(plan: Plan, replace_ids: Sequence[str]) -> None:
    known = {step.item.id for step in plan.steps}
    for one in replace_ids:
        if one not in known:
            raise UsageError(f"--replace {one} names nothing", remedy=f"use one of {', '.join(sorted(known))}")


def _say_what_is_off(target: Target, store: Store | None) -> None:
    if not target.nomad_acl:
        say("Nomad has no ACLs: no policy and no token are needed, and whoever reaches it may do everything there")
    if store is None and needed(target):
        say("no credentials are made; name a directory for them by --credentials")
