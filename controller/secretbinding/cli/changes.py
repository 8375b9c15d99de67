"""`plan`, `apply` and `delete`: what a set of manifests changes, and changing it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.cli.connect import one_shot
from secretbinding.cli.console import emit, error, say
from secretbinding.cli.findings import findings
from secretbinding.cli.options import DEFAULT_TIMEOUT_SECONDS, DryRun, Files, Namespace, Timeout
from secretbinding.cli.progress import Progress, state_of
from secretbinding.errors import Problem
from secretbinding.models.binding import DeletionPolicy
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan import Rights
from secretbinding.sources.base import SourceItem
from secretbinding.sources.files import Loaded, load

if TYPE_CHECKING:
    from secretbinding.engine.oneshot import OneShots, Outcome
    from secretbinding.engine.reconciler import Preview

CHANGES = 2


def plan(
    filename: Files,
    namespace: Namespace = "default",
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="End with 2 when there are changes, 0 when there are none.")
    ] = False,
) -> int:
    """Show what `apply` would do, in its order, with the difference of each policy, role and job. Changes nothing.

    Examples:

      secretbinding plan -f payments.yaml

      secretbinding plan -f bindings/ --detailed-exitcode
    """
    loaded = load(filename, nomad_namespace=namespace)
    return _plan(loaded, [one.item for one in loaded], detailed_exitcode=detailed_exitcode)


def apply(
    filename: Files,
    namespace: Namespace = "default",
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    detach: Annotated[
        bool, typer.Option("--detach", help="End as soon as the jobs are registered, without waiting for them.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Make policies, roles and jobs as the manifests say, and wait until the deployments have succeeded.

    Nothing is ever pruned: bindings that are not in the manifests stay as they are. `delete` removes.

    Examples:

      secretbinding apply -f payments.yaml

      secretbinding apply -f bindings/ --timeout 15m

      kustomize build . | secretbinding apply -f -
    """
    loaded = load(filename, nomad_namespace=namespace)
    items = [one.item for one in loaded]
    if dry_run:
        return _plan(loaded, items)
    return converge(loaded, items, timeout_seconds=timeout, detach=detach)


def delete(
    filename: Files,
    namespace: Namespace = "default",
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    dry_run: DryRun = False,
) -> int:
    """Take the bindings' secrets out of their jobs again, and their roles and policies out of Vault.

    Roles and policies go when the jobs' deployments have succeeded, so that nothing can need them any more. The job is
    given back as it was. A binding whose deletionPolicy is Retain is left as it is.

    Examples:

      secretbinding delete -f payments.yaml --dry-run

      secretbinding delete -f payments.yaml
    """
    loaded = load(filename, nomad_namespace=namespace)
    leaving = [one for one in loaded if one.binding.spec.deletion_policy is not DeletionPolicy.RETAIN]
    for one in loaded:
        if one not in leaving:
            say(f"{_name(one.item.key)}: everything stays, since its deletionPolicy is Retain")
    items = [replace(one.item, deleting=True) for one in leaving]
    if dry_run:
        return _plan(leaving, items)
    return converge(leaving, items, timeout_seconds=timeout)


def converge(
    loaded: Sequence[Loaded], items: Sequence[SourceItem], *, timeout_seconds: float, detach: bool = False
) -> int:
    """Work on the bindings until each has come to its end; returns the exit code, 1 when any did not get there."""
    progress = Progress({one.item.key: one.binding.spec.workload.job for one in loaded})
    with one_shot(items, progress.did) as shot, progress:
        outcomes = shot.converge(timeout_seconds=timeout_seconds, wait=not detach, on_change=progress.changed)
    problems = [
        problem for one in loaded for problem in _conclude(one, outcomes[one.item.key], timeout_seconds, detach)
    ]
    _tell(problems)
    return 1 if problems else 0


def _conclude(one: Loaded, outcome: "Outcome", timeout_seconds: float, detach: bool) -> Sequence[Problem]:
    """Prints a binding's success, and gives what is to be told otherwise."""
    name, state = _name(one.item.key), state_of(outcome.status)
    if outcome.gone:
        emit(f"{name}: deleted")
        return ()
    problems = findings(one, outcome.status)
    if problems:
        return problems
    if outcome.succeeded or (detach and outcome.done):
        emit(f"{name}: {'registered' if detach else state}{_facts(outcome.status)}")
        return ()
    if outcome.done:
        return [Problem(f"{name}: {state}")]
    late = f"{name}: not finished after {timeout_seconds:g}s ({state})"
    return [Problem(late, "what was begun goes on; run the command again, or give it a longer --timeout")]


def _tell(problems: Iterable[Problem]) -> None:
    """Each problem once: what a server refuses, it refuses to every binding."""
    for text in dict.fromkeys(str(problem) for problem in problems):
        error(text)


def _facts(status: SecretBindingStatus) -> str:
    facts = [f"job {status.job.id} version {status.job.version}"] if status.job is not None else []
    facts += [f"{one.name} version {one.serving_version}" for one in status.secrets if one.serving_version]
    return f" ({', '.join(facts)})" if facts else ""


def _plan(loaded: Sequence[Loaded], items: Sequence[SourceItem], *, detailed_exitcode: bool = False) -> int:
    with one_shot(items) as shot:
        previews = shot.preview()
        shown = [_shown(shot, workload, previews[workload]) for workload in sorted(previews)]
        statuses = shot.judge(previews)
        to_be_made = {
            item.key
            for workload, preview in previews.items()
            if any(isinstance(action, Rights) for action in preview.plan.actions)
            for item in shot.inputs(workload)
        }
    for text in shown:
        emit(text)
    problems = [
        problem
        for one in loaded
        for problem in findings(one, statuses[one.item.key], to_be_made=one.item.key in to_be_made)
    ]
    _tell(problems)
    if problems:
        return 1
    changes = any(preview.plan.actions for preview in previews.values())
    return CHANGES if changes and detailed_exitcode else 0


def _shown(shot: "OneShots", workload: WorkloadKey, preview: "Preview") -> str:
    from secretbinding.cli.forecast import later, replaced_at_once
    from secretbinding.plan_text import describe, show_plan

    bindings = shot.inputs(workload)
    names = ", ".join(_name(item.key) for item in bindings)
    place = "" if workload.connection == DEFAULT_CONNECTION else f" of connection {workload.connection}"
    lines = [f"job {workload.namespace}/{workload.job}{place} ({names})"]
    lines.append(show_plan(preview.plan) if preview.plan.actions else "no changes")
    lines += [text for action in preview.plan.actions if (text := replaced_at_once(action))]
    rest = later(preview, bindings, shot.instance_of(workload))
    if rest:
        lines.append("later, when no allocation and no revert can need them:")
        lines += [f"  {describe(action)}" for action in rest]
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"


def _name(key: BindingKey) -> str:
    return f"{key.tenant}/{key.name}"
