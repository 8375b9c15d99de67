"""From what the files hold now, and what was known, to what the engine is told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from secretbinding.errors import Problem
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import Identity
from secretbinding.sources.base import SourceItem
from secretbinding.sources.files.reading import NAME, Loaded, duplicates, twice
from secretbinding.sources.files.tenants import DEFAULT_TENANT

CONFIRMATION = ".secretbinding-confirm-removal"
_LARGE_DROP = 3


@dataclass(frozen=True, slots=True)
class FileState:
    """What one file was found to hold.

    Attributes:
        loaded: its bindings; none when there are problems, since a file is taken whole or not at all.
        identities: with problems: the manifests in it as far as they can be told apart.
        opaque: with problems: it cannot be told which bindings are in it.
        tenant: whose its manifests are; None where each may say so itself.
    """

    loaded: tuple[Loaded, ...] = ()
    problems: tuple[Problem, ...] = ()
    identities: tuple[Identity, ...] = ()
    opaque: bool = False
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A binding that the engine was told of, the file it was in, and how it was while it was valid."""

    item: SourceItem
    file: str
    good: SourceItem | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell the engine.

    Attributes:
        known: all bindings that the engine knows afterwards.
        changed: those to deliver, because they are new or different.
        vanished: those proven gone.
        held: those that are missing, and nothing is deleted.
        why: why they are held, "" when none are.
        complete: the listing tells of every binding that there is, but for tenants in `unsure`.
        unsure: tenants of which some file cannot be read: what is missing of them may be in it.
    """

    known: Mapping[BindingKey, Known]
    changed: tuple[SourceItem, ...] = ()
    vanished: tuple[BindingKey, ...] = ()
    held: tuple[BindingKey, ...] = ()
    why: str = ""
    complete: bool = True
    unsure: frozenset[str] = frozenset()


def decide(
    known: Mapping[BindingKey, Known], files: Mapping[str, FileState], confirmed: frozenset[str], nomad_namespace: str
) -> Decision:
    """Compare the files with what is known.

    A binding whose file has a problem stays as it is, with the problem for its status. One that is in no file any more
    is gone, unless some file of its tenant cannot be read, the listing is empty, or at least three bindings, and more
    than half of them, are missing at once, of the tenant or of all whose tenants have lost no such part: then those are
    held, but for the `confirmed` ones (`tenant/name`, `tenant/*`, `*` for all). A tenant cannot hold another's.
    """
    wanted = _wanted(known, files, nomad_namespace)
    opaque = {state.tenant: file for file, state in sorted(files.items(), reverse=True) if state.opaque}
    missing = sorted(set(known) - set(wanted))
    why = _why_held(missing, known, wanted, opaque)
    sure = {key for key in missing if None not in opaque and key.tenant not in opaque}
    held = [key for key in missing if key in why and not (key in sure and is_confirmed(key, confirmed))]
    after = {**wanted, **{key: known[key] for key in held}}
    changed = tuple(entry.item for key, entry in wanted.items() if key not in known or known[key].item != entry.item)
    vanished = tuple(key for key in missing if key not in held)
    reasons = "; ".join(dict.fromkeys(why[key] for key in held))
    unsure = frozenset(tenant for tenant in opaque if tenant)
    tenants = {state.tenant for state in files.values() if state.tenant}
    complete = None not in opaque and (not unsure or bool(tenants - unsure))
    return Decision(after, changed, vanished, tuple(held), reasons, complete, unsure)


def is_confirmed(key: BindingKey, confirmed: frozenset[str]) -> bool:
    """Whether somebody has confirmed in writing that the binding may be removed."""
    return bool({"*", f"{key.tenant}/*", f"{key.tenant}/{key.name}"} & confirmed)


def read_confirmation(text: str, tenant: str | None = None) -> frozenset[str]:
    """The lines of a confirmation file: `tenant/name` or `*`; blank lines and what follows a `#` do not count. In the
    directory of a `tenant` nothing is confirmed but what is of that tenant."""
    lines = {line.partition("#")[0].strip() for line in text.splitlines()} - {""}
    if tenant is None:
        return frozenset(lines)
    own = {f"{tenant}/*"} if "*" in lines else set()
    return frozenset(own | {line for line in lines if line.startswith(f"{tenant}/")})


def _why_held(
    missing: Sequence[BindingKey],
    known: Mapping[BindingKey, Known],
    wanted: Mapping[BindingKey, Known],
    opaque: Mapping[str | None, str],
) -> dict[BindingKey, str]:
    """Why each missing binding is held that is."""
    if None in opaque:
        return dict.fromkeys(missing, _might_hold(opaque[None]))
    why = {key: _might_hold(opaque[key.tenant]) for key in missing if key.tenant in opaque}
    if not wanted:
        return dict.fromkeys(missing, "there is no manifest left at all") | why
    # First each tenant by itself, so that one that loses much does not hold what another has taken out.
    tenants = {key.tenant for key in missing} - set(opaque)
    for tenant in sorted(tenants):
        lost = [key for key in missing if key.tenant == tenant]
        if text := _large(len(lost), sum(key.tenant == tenant for key in known)):
            why |= dict.fromkeys(lost, text)
            tenants.discard(tenant)
    rest = [key for key in missing if key.tenant in tenants]
    left_out = {key.tenant for key in why}
    if text := _large(len(rest), sum(key.tenant not in left_out for key in known)):
        why |= dict.fromkeys(rest, text)
    return why


def _might_hold(file: str) -> str:
    return f"{file} cannot be read as manifests, and might hold them"


def _large(count: int, before: int) -> str:
    """Why so many that are gone at once are held, "" when they are not."""
    return f"{count} of {before} bindings are gone at once" if count >= _LARGE_DROP and 2 * count > before else ""


def _wanted(
    known: Mapping[BindingKey, Known], files: Mapping[str, FileState], nomad_namespace: str
) -> dict[BindingKey, Known]:
    wanted: dict[BindingKey, Known] = {}
    found = [loaded for state in files.values() for loaded in state.loaded]
    for loaded in found:
        wanted.setdefault(loaded.item.key, Known(loaded.item, loaded.file, loaded.item))
    for first, second in duplicates(found):
        # Which of the two is meant cannot be told, so neither is followed.
        problem = second.problem(("metadata", "name"), *twice(first))
        wanted[first.item.key] = _invalid(first.item.key, known, (problem,), first.file, "", nomad_namespace)
    for file, state in files.items():
        if not state.problems:
            continue
        for identity in state.identities:
            if identity.name is not None:
                tenant = (identity.namespace or DEFAULT_TENANT) if state.tenant is None else state.tenant
                key = BindingKey(NAME, tenant, identity.name)
                place = identity.job_namespace or nomad_namespace
                wanted.setdefault(key, _invalid(key, known, state.problems, file, identity.job or "", place))
        for key, entry in known.items():
            if entry.file == file:
                wanted.setdefault(key, _invalid(key, known, state.problems, file, "", nomad_namespace))
    return wanted


def _invalid(
    key: BindingKey,
    known: Mapping[BindingKey, Known],
    problems: tuple[Problem, ...],
    file: str,
    job: str,
    nomad_namespace: str,
) -> Known:
    """A binding that stays as it is because its manifest cannot be used: at the job that it named while it was valid,
    else at the one that the manifest seems to name."""
    before = known.get(key)
    good = before.good if before is not None else None
    if good is not None and good.binding is not None:
        workload = good.binding.spec.workload
        place = workload.namespace or good.nomad_namespace
        frozen = replace(good, binding=None, problems=problems, job=workload.job, nomad_namespace=place)
        return Known(frozen, file, good)
    return Known(SourceItem(key, None, nomad_namespace, problems=problems, job=job), file, good)
