"""`inject`: a job file with its secrets, before anybody registers it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.cli.connect import clients, read_settings
from secretbinding.cli.console import say
from secretbinding.cli.findings import findings
from secretbinding.cli.jobfiles import parse_job, variables_text
from secretbinding.cli.options import Files, Namespace, SourceName
from secretbinding.cli.writing import destination
from secretbinding.desired import desire
from secretbinding.desired.approles import BringSecretIds
from secretbinding.errors import Conflict, ManifestError, Problem, UsageError
from secretbinding.job.inject import strip
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import DEFAULT_CONNECTION, WorkloadKey
from secretbinding.plan import Action, Plan, Rights, make_plan
from secretbinding.ports import Json
from secretbinding.sources.files import Loaded, load
from secretbinding.status import Pass, compute_status

if TYPE_CHECKING:
    from secretbinding.app import Clients
    from secretbinding.engine.store import Entry
    from secretbinding.settings import Settings

_MOST_CONFLICTS = 5


def inject(
    job_file: Annotated[str, typer.Argument(metavar="JOBFILE", help="Job in HCL or JSON; - for standard input.")],
    filename: Files,
    source: Annotated[
        SourceName,
        typer.Option(
            help="Where the controller has the bindings from, so that it recognizes its own work. Bindings that only "
            "this command line knows are of `files`."
        ),
    ] = SourceName.FILES,
    namespace: Namespace = "default",
    var: Annotated[
        list[str] | None,
        typer.Option("--var", "-var", metavar="NAME=VALUE", help="Variable of an HCL job. May be repeated."),
    ] = None,
    rights: Annotated[
        bool,
        typer.Option(
            "--rights/--no-rights",
            help="Write policy and role too, and bring secret-ids to agents that log in by AppRole. Nomad does not "
            "repeat a failed login: without them the job's first allocation fails. --no-rights when the controller "
            "has the binding already.",
        ),
    ] = True,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write here.")] = None,
) -> int:
    """Put the secrets of bindings into a job file, so that it is registered once, with them.

    The result is `{"Job": ...}` as Nomad's API takes it. This is the way for batch jobs, which the controller never
    registers, and for pipelines that own the registration: the controller finds its work done.

    Examples:

      secretbinding inject -f payments.yaml payments.nomad.hcl | nomad job run -json -

      secretbinding inject -f report.yaml -var image=report:7 report.nomad.hcl -o report.json
    """
    if job_file == "-" and "-" in filename:
        raise UsageError("job and bindings cannot both come from standard input", remedy="give a file for one of them")
    loaded = load(filename, nomad_namespace=namespace, source=source.value)
    settings = read_settings(_connection(loaded))
    with destination(output) as target, clients(settings) as connected:
        text = _read(job_file)
        variables = variables_text(var or ())
        job, around = parse_job(text, file=job_file, nomad=connected.nomad, variables=variables, namespace=namespace)
        entries, workload = _meant(loaded, job, job_file, settings)
        conflicts = 0
        while True:
            injection = make_injection(job, entries, workload, settings, connected)
            result = json.dumps({**around, "Job": injection.job}, indent=2, ensure_ascii=False) + "\n"
            target.prepare(result)
            try:
                # What was made may tell more, such as when the password of a new static role was rotated.
                if not rights or _write_rights(injection, workload, settings, connected):
                    break
            except Conflict:
                # A running controller brings secret-ids to the same variable; most often nothing is left to do.
                conflicts += 1
                if conflicts == _MOST_CONFLICTS:
                    raise
        target.finish(result)
    return 0


@dataclass(frozen=True, slots=True)
class Injection:
    """The job with its secrets, and what has to be there before it is registered: rights, and what its agents log in
    with."""

    job: Json
    rights: tuple[Action, ...]


def make_injection(
    job: Json,
    entries: Sequence[tuple[Loaded, "Entry"]],
    workload: WorkloadKey,
    settings: "Settings",
    connected: "Clients",
) -> Injection:
    """Nothing is written. Raises `ManifestError` with what stands in the bindings' way, `ServiceError` subclasses."""
    from secretbinding.engine.observe import Observer

    instance = settings.controller.instance
    inputs = [entry.input for _, entry in entries]
    # The type of a job matters only to those who register it. `global` is what Nomad's parser puts for a region that
    # the file does not name.
    seen = {**job, "Type": "service", "Region": "" if job.get("Region") in (None, "global") else job["Region"]}
    observer = Observer(
        connected.vault,
        connected.nomad,
        instance=instance,
        jwt_mount=settings.controller.jwt_mount,
        agents=settings.agents(),
    )
    observed = observer.with_job(workload, inputs, seen)
    if any(brought.modify_index for brought in observed.brought.values()):
        # Who opened the secret-ids that are there: without the allocations it would be somebody else.
        running = connected.nomad.allocations(workload.namespace, workload.job)
        observed = replace(observed, allocations=running)
    desired = desire(observed, inputs, instance)
    # Compared with the job as it is without our part, the injection is always due, and so no right is ever taken away.
    without = replace(observed, job=strip(seen, instance).job)
    plan = make_plan(without, desired, inputs, instance)
    looked = Pass(instance, observed, desired, plan, registered=True)
    placed = {mark.key for mark in placed_marks(desired.job, instance)}
    problems: list[Problem] = []
    for loaded, entry in entries:
        found = findings(loaded, compute_status(entry.input, looked, entry.status, datetime.now(UTC)))
        if not found and loaded.item.key not in placed:
            path = ("spec", "workload", "groups")
            told = "the binding is suspended" if loaded.binding.spec.suspend else "no task of the job takes the secrets"
            found = [loaded.problem(path, told, "name the tasks in spec.workload.groups, and unset spec.suspend")]
        problems += found
    if problems or desired.job is None:
        raise ManifestError(problems or [Problem("nothing can be injected")])
    made = {**job, "TaskGroups": desired.job["TaskGroups"]}
    return Injection(made, tuple(action for action in plan.actions if isinstance(action, Rights | BringSecretIds)))


def _connection(loaded: Sequence[Loaded]) -> str | None:
    """The connection that the bindings name: a job has one Vault."""
    named = {one.binding.spec.connection or DEFAULT_CONNECTION for one in loaded}
    if len(named) > 1:
        raise UsageError(
            f"the bindings name several connections: {', '.join(sorted(named))}", remedy="give those of one at a time"
        )
    return next(iter(named), None)


def _meant(
    loaded: Sequence[Loaded], job: Json, file: str, settings: "Settings"
) -> tuple[list[tuple[Loaded, "Entry"]], WorkloadKey]:
    """The bindings that name the job of the file."""
    from secretbinding.engine.store import Entry, with_names, workload_of

    named: dict[WorkloadKey, list[tuple[Loaded, Entry]]] = {}
    for one in loaded:
        workload = workload_of(one.item, settings.connection)
        if workload is not None and (workload.namespace, workload.job) == (job["Namespace"], job["ID"]):
            entry = Entry(with_names(one.item, settings.controller.instance), workload, one.item.status)
            named.setdefault(workload, []).append((one, entry))
    if len(named) == 1:
        ((workload, entries),) = named.items()
        return entries, workload
    label = f"job {job['ID']} of Nomad namespace {job['Namespace']}"
    if named:
        raise UsageError(f"the bindings of {label} name different regions", remedy="give the same spec.workload.region")
    problems = [
        one.problem(
            ("spec", "workload", "job"),
            f"the binding is for job {one.binding.spec.workload.job}"
            f" of Nomad namespace {one.binding.spec.workload.namespace or one.item.nomad_namespace},"
            f" and {file} holds {label}",
            "correct spec.workload, or give -n",
        )
        for one in loaded
    ]
    raise ManifestError(problems or [Problem(f"no binding is given for {label}", file=file)])


def _write_rights(injection: Injection, workload: WorkloadKey, settings: "Settings", connected: "Clients") -> bool:
    """False when what was made tells more, so that the job has to be rendered anew. Raises `ManifestError` when a role
    of an engine is refused."""
    from secretbinding.engine.apply import Applier
    from secretbinding.plan_text import describe

    applier = Applier(
        connected.vault,
        connected.nomad,
        jwt_mount=settings.controller.jwt_mount,
        approle_mount=settings.agent.approle_mount.strip("/"),
        on_action=lambda action: say(describe(action)),
    )
    done = applier.apply(Plan(injection.rights), workload.namespace, workload.job)
    if applier.refused:
        raise ManifestError([Problem(fault.message) for fault in applier.refused.values()])
    return done


def _read(job_file: str) -> str:
    try:
        if job_file == "-":
            return sys.stdin.read()
        with open(job_file, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UsageError(f"{job_file} cannot be read: {reason}", remedy="check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{job_file} is not UTF-8", remedy="save it as UTF-8") from None
