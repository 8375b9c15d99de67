"""`adopt`: take over what is in a job by hand, without a roll."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.cli.connect import clients, read_settings
from secretbinding.cli.console import emit
from secretbinding.cli.options import DryRun, Files, Namespace, SourceName
from secretbinding.errors import Denied, ManifestError, NotFound, Problem
from secretbinding.models.key import DEFAULT_CONNECTION, WorkloadKey
from secretbinding.render.role import role_policies
from secretbinding.sources.files import Loaded, load

if TYPE_CHECKING:
    from secretbinding.app import Clients
    from secretbinding.desired.adoption import Proposal
    from secretbinding.desired.values import Observed
    from secretbinding.engine.store import Entry
    from secretbinding.plan import Plan
    from secretbinding.settings import Settings


def adopt(
    filename: Files,
    source: Annotated[
        SourceName,
        typer.Option(help="Where the controller has, or will have, the bindings from, so that it knows its own."),
    ] = SourceName.FILES,
    namespace: Namespace = "default",
    dry_run: DryRun = False,
) -> int:
    """Take over the vault blocks and templates that a job has by hand for what the bindings give it, without a roll.

    Policy and role of the binding are made, and its policy remembers what was taken over; the job is not registered,
    and `plan` shows no changes. The next new version of a secret, or a change of the binding, puts the controller's own
    templates in their place, by a deployment as always. Take the stanzas out of the job file as well: whoever registers
    them again after that gets a conflict.

    Everything that a binding gives a task has to be there by hand: a template at each destination, and env templates
    that set each variable and no other. They have to read the same path, and each variable the same field.

    Examples:

      secretbinding adopt -f payments.yaml --dry-run

      secretbinding adopt -f payments.yaml --source nomad -n payments
    """
    from secretbinding.engine.store import Entry, connection_of, workload_of

    loaded = load(filename, nomad_namespace=namespace, source=source.value)
    by_workload: dict[WorkloadKey, list[tuple[Loaded, Entry]]] = {}
    for one in loaded:
        workload = workload_of(one.item, connection_of(one.item) or DEFAULT_CONNECTION)
        entry = Entry(one.item, workload, one.item.status)
        by_workload.setdefault(entry.workload, []).append((one, entry))
    settings = read_settings()
    with ExitStack() as stack:
        connected = {
            name: stack.enter_context(clients(settings.of(name)))
            for name in sorted({workload.connection for workload in by_workload})
        }
        work = [
            _Adopting(workload, entries, settings.of(workload.connection), connected[workload.connection])
            for workload, entries in sorted(by_workload.items())
        ]
        problems = [problem for each in work for problem in each.problems()]
        if problems:
            raise ManifestError(problems)
        for each in work:
            for line in each.lines():
                emit(line)
            if not dry_run:
                each.write()
    return 0


class _Adopting:
    """The bindings of one job."""

    def __init__(
        self,
        workload: WorkloadKey,
        entries: Sequence[tuple[Loaded, "Entry"]],
        settings: "Settings",
        connected: "Clients",
    ) -> None:
        from secretbinding.desired.adoption import propose
        from secretbinding.engine.observe import Observer

        own = settings.controller
        self._workload = workload
        self._entries = entries
        self._instance = own.instance
        self._jwt_mount = own.jwt_mount
        self._approle_mount = settings.agents().approle_mount
        self._connected = connected
        observer = Observer(
            connected.vault, connected.nomad, instance=own.instance, jwt_mount=own.jwt_mount, agents=settings.agents()
        )
        self._inputs = [entry.input for _, entry in entries]
        self._observed: Observed = observer.observe(workload, self._inputs)
        self._proposals: list[Proposal] = [
            propose(entry.input, one.binding, self._observed, own.instance) for one, entry in entries
        ]

    def problems(self) -> list[Problem]:
        """What stands in the way, at the places of the manifests."""
        found = [
            one.problem(("spec", "workload"), proposal.fault.message, "see `secretbinding adopt --help`")
            for (one, _), proposal in zip(self._entries, self._proposals, strict=True)
            if proposal.fault is not None
        ]
        if not found and self._plan().registers:
            one, _ = self._entries[0]
            told = "what is there by hand does not fit together with what is in the job already"
            found.append(one.problem(("spec", "workload"), told, "use `apply`, which rolls the job"))
        return found

    def lines(self) -> list[str]:
        """What is taken over, and what is of no use any more after the next roll."""
        lines: list[str] = []
        for (_, entry), proposal in zip(self._entries, self._proposals, strict=True):
            key = entry.item.key
            lines.append(f"{key.tenant}/{key.name}: job {self._workload.namespace}/{self._workload.job}")
            lines += [f"  adopted: {words}" for words in proposal.taken]
        lines += [f"  unused by this job after its next roll: {words}" for words in self._superseded()]
        return lines

    def write(self) -> None:
        """Make the policies and roles, and nothing else."""
        from secretbinding.engine.apply import Applier

        applier = Applier(
            self._connected.vault, self._connected.nomad, jwt_mount=self._jwt_mount, approle_mount=self._approle_mount
        )
        applier.apply(self._plan(), self._workload.namespace, self._workload.job)

    def _plan(self) -> "Plan":
        from secretbinding.desired import desire
        from secretbinding.desired.adoption import with_adoptions
        from secretbinding.plan import make_plan

        adoptions = {
            entry.item.key: proposal.adoption
            for (_, entry), proposal in zip(self._entries, self._proposals, strict=True)
            if proposal.adoption is not None
        }
        seen = with_adoptions(self._observed, self._inputs, adoptions, self._instance)
        desired = desire(seen, self._inputs, self._instance)
        return make_plan(seen, desired, self._inputs, self._instance)

    def _superseded(self) -> list[str]:
        names = {
            str(((task or {}).get("Vault") or {}).get("Role") or "")
            for group in (self._observed.job or {}).get("TaskGroups") or []
            for task in group.get("Tasks") or []
        }
        words: list[str] = []
        for name in sorted(names - {""}):
            try:
                role = self._connected.vault.read_jwt_role(self._jwt_mount, name)
            except (Denied, NotFound):
                role = None
            policies = role_policies(role)
            words.append(f"role {name}" + (f" with policies {', '.join(policies)}" if policies else ""))
        return words
