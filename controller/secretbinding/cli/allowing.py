"""What policies in files say of manifests in files, and the policies that would allow them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from secretbinding.errors import ManifestError, Problem, UsageError
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policies
from secretbinding.sources.files import Loaded
from secretbinding.sources.policies.files import read_files
from secretbinding.tenancy import Suggested, Target, Tenant, decide
from secretbinding.tenancy import suggested as least


def read_policies(paths: Sequence[str]) -> tuple[SecretBindingPolicy, ...]:
    """The policies of files and directories. Raises `ManifestError` with all problems, `UsageError` for a path that
    cannot be read."""
    try:
        texts = read_files(paths)
    except OSError as error:
        place = error.filename or ", ".join(paths)
        raise UsageError(f"{place} cannot be read", remedy="check the path and its permissions") from None
    found: list[SecretBindingPolicy] = []
    problems: list[Problem] = []
    for name, data in texts.items():
        try:
            found += parse_policies(data, file=name)
        except ManifestError as error:
            problems += error.problems
    if problems:
        raise ManifestError(problems)
    return tuple(found)


def whose(loaded: Loaded) -> tuple[Tenant, Target]:
    """Tenant and job of a manifest, as far as it says so. Labels and drivers are the servers' to tell: no labels are
    taken for given, and any driver is."""
    item, workload = loaded.item, loaded.binding.spec.workload
    target = Target(workload.namespace or item.nomad_namespace, workload.job, workload.region or "")
    target = replace(target, connection=loaded.binding.spec.connection or DEFAULT_CONNECTION)
    return Tenant(item.key.source, item.key.tenant), target


def refused(loaded: Loaded, policies: Sequence[SecretBindingPolicy]) -> Iterator[Problem]:
    """What policies do not allow of a manifest, each with its place; the last with the policy that would allow it."""
    tenant, target = whose(loaded)
    decision = decide(policies, tenant, loaded.binding, target)
    rule = least(tenant, loaded.binding, target, decision.refusals) if decision.refusals else Suggested()
    for index, refusal in enumerate(decision.refusals):
        last = index == len(decision.refusals) - 1
        what = "the rest of it" if rule.without else "it"
        head = f"this policy would allow {what}:\n" if rule.policy is not None else "no policy can be suggested:\n"
        shown = f"{head}{rule.text}".rstrip() if rule.text and last else ""
        yield loaded.problem(refusal.place, refusal.message, shown)


def suggested(found: Iterable[Loaded], policies: Sequence[SecretBindingPolicy]) -> Iterator[str]:
    """For each manifest the least policy that allows it, or what of it no policy allows yet; none for one that is
    allowed already."""
    for loaded in found:
        tenant, target = whose(loaded)
        decision = decide(policies, tenant, loaded.binding, target)
        rule = least(tenant, loaded.binding, target, decision.refusals) if decision.refusals else Suggested()
        if rule.text:
            yield rule.text
