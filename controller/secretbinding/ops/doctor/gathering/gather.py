"""Everything that `doctor` looks at, put together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from secretbinding.errors import NotFound, SecretBindingError
from secretbinding.job.marks import placed_marks
from secretbinding.kinds import KINDS, Fault, SecretState, look, with_role_names
from secretbinding.models.binding import SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner
from secretbinding.ops.approle_rights import app_role_rights
from secretbinding.ops.doctor.facts import (
    BindingFacts,
    Endpoint,
    Fact,
    Facts,
    JobFile,
    NomadFacts,
    TokenFacts,
    Unknown,
    VaultFacts,
)
from secretbinding.ops.doctor.gathering.asking import ask, ask_each, known, unknown
from secretbinding.ops.doctor.gathering.servers import nomad_facts, vault_facts
from secretbinding.ops.engines import ENGINES
from secretbinding.ops.ports import AclPolicy, Keys, NomadAdmin, NomadToken, VaultAdmin
from secretbinding.ops.rights import Mount, Scope, vault_excess, vault_rights
from secretbinding.ports import Json, Nomad, Vault
from secretbinding.render.policy import PolicyDocument, read_policy
from secretbinding.sources.base import SourceItem


@dataclass(frozen=True, slots=True)
class Reach:
    """The servers, with the tokens of whoever runs `doctor`, and with those whose rights are judged.

    `vault_from` and `nomad_from` say where the latter are from, `vault_named` and `nomad_named` whether they were given
    as the controller's.
    """

    vault: Vault
    vault_admin: VaultAdmin
    nomad: Nomad
    nomad_admin: NomadAdmin
    judged_vault: VaultAdmin
    judged_nomad: NomadAdmin
    vault_from: str
    nomad_from: str
    keys: Keys
    vault_named: bool = False
    nomad_named: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What `doctor` was given.

    Attributes:
        scope: whose rights are looked for. Mounts that bindings use are added to it.
        items: the bindings; None when none were given.
        source: where they are from.
        approle_mount: the AppRole auth mount for agents.
        proves_absent: whether the source can prove that a binding does not exist; None where that means nothing.
    """

    scope: Scope
    vault: Endpoint
    nomad: Endpoint
    vault_namespace: str = ""
    max_age_days: int = 90
    items: Fact[Sequence[SourceItem]] | None = None
    source: str = ""
    proves_absent: Callable[[BindingKey], bool] | None = None
    job_files: Sequence[JobFile] = field(default=())
    approle_mount: str = "approle-nomad"


def gather(reach: Reach, given: Given) -> Facts:
    """Ask all there is to ask. Raises nothing that a server is the cause of."""
    vault = vault_facts(
        reach.vault,
        reach.vault_admin,
        given.vault,
        given.vault_namespace,
        given.scope,
        reach.keys,
        approle_mount=given.approle_mount,
    )
    nomad = nomad_facts(reach.nomad, reach.nomad_admin, given.nomad, vault.health)
    scope = _widened(given)
    answers = not isinstance(vault.leader, Unknown), not isinstance(nomad.leader, Unknown)
    return Facts(
        scope=scope,
        now=datetime.now(UTC),
        max_age_days=given.max_age_days,
        vault=vault,
        nomad=replace(nomad, gone_jobs=_gone_jobs(reach.nomad, nomad, vault, scope.instance)),
        tokens=_tokens(reach, scope, given.approle_mount, *answers),
        source=given.source,
        bindings=_bindings(reach, given, *answers),
        absent=_absent(given, vault),
        job_files=given.job_files,
    )


def _widened(given: Given) -> Scope:
    """The scope with the mounts and namespaces of the bindings."""
    items = given.items if given.items is not None and not isinstance(given.items, Unknown) else ()
    mounts = {(mount.kind, mount.path): mount for mount in given.scope.mounts}
    variables = dict.fromkeys(given.scope.nomad_variables)
    for entry in (entry for item in items if item.binding for entry in item.binding.spec.secrets):
        spec: Any = getattr(entry, entry.kind_name)
        kind = "kv1" if getattr(spec, "engine", None) == "v1" else entry.kind_name
        if kind in ENGINES:
            makes = getattr(spec, "create", None) is not None
            place = (kind, str(spec.mount))
            before = mounts.get(place)
            mounts[place] = Mount(*place, makes or (before is not None and before.makes))
        elif kind == "nomadVariable":
            variables[str(spec.path)] = None
    return replace(given.scope, mounts=tuple(mounts.values()), nomad_variables=tuple(variables))


def _tokens(reach: Reach, scope: Scope, approle_mount: str, vault_answers: bool, nomad_answers: bool) -> TokenFacts:
    away = Unknown("Vault does not answer", "see the finding about that")
    paths = [right.probe for right in (*vault_rights(scope), *app_role_rights(approle_mount))]
    paths += [excess.path for excess in vault_excess(scope)]
    nomad_away = Unknown("Nomad does not answer", "see the finding about that")
    nomad = ask(reach.judged_nomad.own_token) if nomad_answers else nomad_away
    return TokenFacts(
        vault_from=reach.vault_from,
        vault=ask(reach.judged_vault.own_token) if vault_answers else away,
        capabilities=ask(lambda: reach.judged_vault.own_capabilities(paths)) if vault_answers else away,
        nomad_from=reach.nomad_from,
        nomad=nomad,
        policies=_nomad_policies(reach, nomad),
        vault_named=reach.vault_named,
        nomad_named=reach.nomad_named,
    )


def _nomad_policies(reach: Reach, token: Fact[NomadToken | None]) -> Fact[Sequence[AclPolicy]]:
    """The policies of the token, by the token itself: it may always read its own."""
    if isinstance(token, Unknown):
        return token
    if token is None or token.type == "management":
        return ()
    if token.roles:
        return Unknown(
            f"the token has the roles {', '.join(token.roles)}, whose policies it does not tell",
            "give the token its policies directly, or judge it by hand (nomad acl role info)",
        )
    found = known(ask_each(token.policies, reach.judged_nomad.acl_policy))
    if isinstance(found, Unknown):
        return found
    return [policy for policy in found.values() if policy is not None]


def _bindings(reach: Reach, given: Given, vault_answers: bool, nomad_answers: bool) -> Fact[Sequence[BindingFacts]]:
    if given.items is None:
        return Unknown("no bindings were given", "give -f, or --source nomad or kubernetes")
    if isinstance(given.items, Unknown):
        return given.items
    items = {item.key: item for item in given.items}
    found = ask_each(items, lambda key: _binding(reach, given, items[key], vault_answers, nomad_answers))
    return [facts for facts in found.values() if not isinstance(facts, Unknown)]


def _binding(reach: Reach, given: Given, item: SourceItem, vault_answers: bool, nomad_answers: bool) -> BindingFacts:
    if item.binding is None:
        return BindingFacts(item.key, None, item.nomad_namespace, None, problems=item.problems)
    binding = with_role_names(item.binding, Owner(given.scope.instance, item.key))
    workload = binding.spec.workload
    namespace = workload.namespace or item.nomad_namespace
    job: Fact[Json | None] = Unknown("Nomad does not answer", "see the finding about that")
    if nomad_answers:
        job = ask(lambda: reach.nomad.job(namespace, workload.job))
    pinned = _pinned(job, given.scope.instance, item.key)
    secrets: dict[str, Fact[SecretState]] = {}
    for entry in binding.spec.secrets:
        secrets[entry.name] = Unknown("Vault does not answer", "see the finding about that")
        if vault_answers:
            secrets[entry.name] = _secret(reach, entry, namespace, pinned.get(entry.name, ()))
    return BindingFacts(item.key, binding, namespace, job, secrets, item.problems)


def _pinned(job: Fact[Json | None], instance: str, key: BindingKey) -> Mapping[str, Sequence[int]]:
    """The versions that a binding's part of a job reads, by the secret's name."""
    found: dict[str, set[int]] = {}
    for placed in placed_marks(None if isinstance(job, Unknown) else job, instance):
        if placed.key == key and placed.mark.pin is not None and placed.mark.pin.version:
            found.setdefault(placed.mark.secret, set()).add(placed.mark.pin.version)
    return {name: sorted(versions) for name, versions in found.items()}


def _secret(reach: Reach, entry: SecretEntry, namespace: str, versions: Sequence[int]) -> Fact[SecretState]:
    if entry.kind_name not in KINDS:
        return Unknown(f"this release knows no secrets of kind {entry.kind_name}")
    try:
        state = look(entry, reach.vault, reach.nomad, namespace, versions)
    except NotFound as error:
        return SecretState(engine=entry.kind_name, fault=Fault(Reason.MOUNT_NOT_FOUND, str(error)))
    except SecretBindingError as error:
        return unknown(error)
    if state.fault is not None and state.fault.reason is Reason.PERMISSION_DENIED:
        # Of the token that asks, which is not the controller's.
        message, _, remedy = state.fault.message.partition("; ")
        return Unknown(message, remedy, denied=True)
    return state


def _documents(vault: VaultFacts, instance: str) -> Iterator[PolicyDocument]:
    """What the policies of our instance say of themselves."""
    for text in () if isinstance(vault.policies, Unknown) else vault.policies.values():
        found = read_policy(text) if text is not None else None
        if found is not None and found[0].owner.instance == instance:
            yield found[0]


def _gone_jobs(
    nomad: Nomad, facts: NomadFacts, vault: VaultFacts, instance: str
) -> Mapping[tuple[str, str], Fact[bool]]:
    """Each job that a policy of ours is for and that no list shows, asked for by itself: only a 404 proves anything."""
    if isinstance(facts.jobs, Unknown):
        return {}
    seen = {(str(job.get("Namespace")), str(job.get("ID"))) for job in facts.jobs}
    workloads = [document.workload for document in _documents(vault, instance) if document.workload.job]
    places = {(workload.namespace, workload.job) for workload in workloads} - seen
    return ask_each(sorted(places), lambda place: nomad.job(*place) is None)


def _absent(given: Given, vault: VaultFacts) -> Mapping[BindingKey, Fact[bool]]:
    """For owners of our policies that the source did not list: what it says when it is asked for just them."""
    proves = given.proves_absent
    if proves is None:
        return {}
    listed = given.items if given.items is not None and not isinstance(given.items, Unknown) else ()
    keys = {item.key for item in listed}
    owners = dict.fromkeys(document.owner.key for document in _documents(vault, given.scope.instance))
    asked = [key for key in owners if key.source == given.source and key not in keys]
    return ask_each(asked, proves)
