"""Take away all that is ours, whether a binding is left or not: found by its marks, removed in the safe order."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from secretbinding.desired.values import BindingInput
from secretbinding.engine.orphans import let_in
from secretbinding.engine.reconciler import Preview, Reconciler
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import name_prefix
from secretbinding.ports import Nomad, Vault
from secretbinding.render.policy import PolicyDocument, read_policy
from secretbinding.status import Pass
from secretbinding.trail import asked

STATUSES = "nomad-vault/status/"


@dataclass(frozen=True, slots=True)
class Ours:
    """What carries our mark, or a name that only we give.

    Attributes:
        shares: by job, the bindings that have a part in it, or a policy whose roles let its tasks in.
        retained: policies that were left behind on purpose (`deletionPolicy: Retain`), which stay.
        foreign: policies with a name of ours whose text is not ours, which stay.
        roles: login roles with a name of ours.
        statuses: Nomad variables with statuses, and with leases of this instance, by namespace and path.
    """

    shares: Mapping[WorkloadKey, frozenset[BindingKey]] = field(default_factory=dict)
    retained: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    statuses: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A job that could not be cleaned, and why."""

    workload: WorkloadKey
    why: str


class Removal:
    """One instance, on both sides. Every method but `remove` raises `errors.ServiceError` subclasses.

    `retained` says whether what was left behind on purpose goes, too.
    """

    def __init__(
        self, vault: Vault, nomad: Nomad, reconciler: Reconciler, *, jwt_mount: str, retained: bool = False
    ) -> None:
        self._vault = vault
        self._nomad = nomad
        self._reconciler = reconciler
        self._jwt_mount = jwt_mount
        self._retained = retained

    def find(self) -> Ours:
        """Look through the policies of Vault and the jobs and variables of Nomad, all that the tokens may see."""
        instance = self._reconciler.instance
        prefix = name_prefix(instance)
        shares: dict[WorkloadKey, set[BindingKey]] = {}
        retained: dict[str, BindingKey] = {}
        foreign, others = [], False
        for name in sorted(self._vault.list_policies()):
            others = others or (name.startswith("nsb.") and not name.startswith(prefix))
            document = self._document(name, instance) if name.startswith(prefix) else None
            if name.startswith(prefix) and document is None:
                foreign.append(name)
            elif document is not None and document.retain and not self._retained:
                retained[name] = document.owner.key
            elif document is not None:
                for workload in {document.workload, *let_in(self._vault, self._jwt_mount, document)}:
                    shares.setdefault(workload, set()).add(document.owner.key)
        for stub in self._nomad.list_jobs("*"):
            workload = WorkloadKey(
                self._reconciler.connection, "", str(stub.get("Namespace") or "default"), str(stub["ID"])
            )
            if stub.get("ParentID"):
                continue
            job = self._nomad.job(workload.namespace, workload.job)
            keys = {placed.key for placed in placed_marks(job, instance)} - set(retained.values())
            known = next((one for one in shares if _same_job(one, workload)), workload)
            if keys:
                shares.setdefault(known, set()).update(keys)
        return Ours(
            {workload: frozenset(keys) for workload, keys in sorted(shares.items())},
            tuple(retained),
            tuple(foreign),
            tuple(sorted(name for name in self._vault.list_jwt_roles(self._jwt_mount) if name.startswith(prefix))),
            self._statuses(shares, others),
        )

    def preview(self, ours: Ours) -> Mapping[WorkloadKey, Preview]:
        """What a first pass would do, by job."""
        return {workload: self._reconciler.preview(workload, _inputs(keys)) for workload, keys in ours.shares.items()}

    def remove(
        self, ours: Ours, *, timeout_seconds: float, poll_seconds: float = 0.5, told: Callable[[WorkloadKey], None]
    ) -> Sequence[Left]:
        """Take it all away; `told` is called for each job that is done. Gives what is left when time ran out."""
        until = time.monotonic() + timeout_seconds
        pending = dict(ours.shares)
        left: dict[WorkloadKey, str] = {}
        while pending:
            for workload, keys in list(pending.items()):
                found = self._reconciler.run(workload, _inputs(keys))
                left[workload] = _what_is_left(found, keys)
                if not left[workload]:
                    del pending[workload], left[workload]
                    told(workload)
            if pending:
                if time.monotonic() >= until:
                    break
                time.sleep(poll_seconds)
        return [Left(workload, why) for workload, why in sorted(left.items())]

    def sweep(self, ours: Ours) -> Sequence[str]:
        """After `remove` left nothing: take away roles that no policy named, and statuses. Gives their names."""
        kept = {role for name in ours.retained for role in self._roles_of(name)}
        there = set(self._vault.list_jwt_roles(self._jwt_mount))
        gone = []
        for role in ours.roles:
            if role in there and role not in kept:
                self._vault.delete_jwt_role(self._jwt_mount, role)
                gone.append(f"role {role}")
        for namespace, path in ours.statuses:
            with asked(action=f"- variable {path}"):
                self._nomad.delete_variable(namespace, path)
            gone.append(f"variable {path} (namespace {namespace})")
        return gone

    def _document(self, name: str, instance: str) -> PolicyDocument | None:
        text = self._vault.read_policy(name)
        parsed = read_policy(text) if text is not None else None
        return parsed[0] if parsed is not None and parsed[0].owner.instance == instance else None

    def _roles_of(self, policy: str) -> Sequence[str]:
        document = self._document(policy, self._reconciler.instance)
        return document.roles if document is not None else ()

    def _statuses(self, shares: Mapping[WorkloadKey, set[BindingKey]], others: bool) -> tuple[tuple[str, str], ...]:
        """Statuses hold no mark: those of the bindings found, or all of them when no other instance is there. Leases
        are named after the instance."""
        _, rows = self._nomad.list_variables("*", STATUSES)
        own = {(key.tenant, STATUSES + key.name) for keys in shares.values() for key in keys if key.source == "nomad"}
        found = [place for row in rows if (place := (row.namespace, row.path)) in own or not others]
        for kind in ("leases", "members"):
            _, rows = self._nomad.list_variables("*", f"nomad-vault/{kind}/{self._reconciler.instance}/")
            found += [(row.namespace, row.path) for row in rows]
        return tuple(sorted(found))


def _inputs(keys: frozenset[BindingKey]) -> list[BindingInput]:
    return [BindingInput(key, None, deleting=True) for key in sorted(keys)]


def _same_job(one: WorkloadKey, other: WorkloadKey) -> bool:
    return replace(one, region="") == replace(other, region="")


def _what_is_left(found: Pass, keys: frozenset[BindingKey]) -> str:
    """Why a job is not done, "" when it is."""
    if found.error is not None:
        return found.error.message
    if found.desired is not None and found.desired.held is not None:
        return "its deployment without our part has failed; see Nomad, mend the job, and run it again"
    if found.plan is None or not keys <= found.plan.gone:
        return "its job is being registered without our part"
    return found.plan.waiting
