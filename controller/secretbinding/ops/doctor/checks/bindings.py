"""Checks of each binding: its manifest, its job, its secrets, and the versions that serve."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from secretbinding.errors import Problem
from secretbinding.job.inject import strip
from secretbinding.job.marks import placed_marks, serving_pins
from secretbinding.job.targets import find_task, job_fault, select_tasks, task_fault, variables_of
from secretbinding.kinds import SecretState
from secretbinding.models.binding import Kv, SecretEntry, Strategy
from secretbinding.ops.doctor.checks.remedies import mend, undelete, write
from secretbinding.ops.doctor.facts import BindingFacts, Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ports import Json
from secretbinding.rotation import decide_version


def _subject(one: BindingFacts) -> str:
    return f"binding {one.key.tenant}/{one.key.name}"


def _place(problem: Problem) -> str:
    """Where it stands: `app.yaml:7:3, spec.secrets[0].env`, as far as that is known."""
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    return ", ".join(part for part in (place or "its manifest", problem.field) if part)


def _strategy(one: BindingFacts) -> str:
    return one.binding.spec.rotation.strategy.value if one.binding is not None else Strategy.ROLLING.value


def _given(facts: Facts) -> tuple[list[BindingFacts], list[Unknown]]:
    """The bindings, or why there are none."""
    if isinstance(facts.bindings, Unknown):
        return [], [facts.bindings]
    return list(facts.bindings), []


@check("binding-invalid", "Every binding's manifest is valid.")
def invalid(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        for problem in one.problems:
            yield Finding(
                Severity.ERROR,
                _subject(one),
                problem.message,
                _place(problem),
                problem.remedy,
            )


@check("binding-job", "Every binding's job is there, and may be registered.")
def job(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        if one.binding is None:
            continue
        if isinstance(one.job, Unknown):
            yield one.job
            continue
        name = one.binding.spec.workload.job
        how = f"/v1/job/{name}?namespace={one.namespace}"
        if one.job is None:
            yield Finding(
                Severity.WARNING,
                _subject(one),
                f"Nomad has no job {name} in namespace {one.namespace}",
                f"{how}: 404",
                "nomad job run; policy and role are ready for it. Or correct spec.workload.job",
            )
            continue
        fault = job_fault(one.job)
        if fault is not None:
            yield Finding(
                Severity.INFO, _subject(one), fault.message, f"{how}: Type", "secretbinding inject -f BINDING JOBFILE"
            )
        elif one.job.get("Stop"):
            yield Finding(
                Severity.INFO,
                _subject(one),
                f"job {name} is stopped",
                f"{how}: Stop",
                "nomad job start, or delete the binding",
            )


@check("binding-in-the-way", "Nothing of the job's own stands where a binding has to write.")
def in_the_way(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        if one.binding is None or one.job is None:
            continue
        if isinstance(one.job, Unknown):
            yield one.job
            continue
        user: Json = strip(one.job, facts.scope.instance).job
        tasks, fault = select_tasks(user, one.binding.spec.workload.groups)
        faults = [fault] if fault is not None else []
        variables = variables_of(one.binding, _fields(one))
        for ref in tasks:
            task = find_task(user, ref)
            if task is not None:
                found = task_fault(task, ref, one.binding, variables, facts.scope.instance)
                faults += [found] if found is not None else []
        for each in faults:
            message, _, remedy = each.message.partition("; ")
            yield Finding(
                Severity.ERROR,
                _subject(one),
                message,
                f"the job {one.binding.spec.workload.job} as Nomad has it ({each.reason.value})",
                remedy or "correct spec.workload.groups, or the job",
            )


def _fields(one: BindingFacts) -> Mapping[str, Iterable[str] | None]:
    """The field names of each secret's newest version; None where they are not known."""
    states = {name: state for name, state in one.secrets.items() if not isinstance(state, Unknown)}
    return {name: states[name].fields.get(states[name].current) if name in states else None for name in one.secrets}


@check("binding-secret", "Every binding's secrets are there, with the fields that it uses.")
def secret(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        for entry in one.binding.spec.secrets if one.binding is not None else ():
            state = one.secrets.get(entry.name, Unknown("it was not looked at"))
            if isinstance(state, Unknown):
                yield state
                continue
            decision = decide_version(entry, state, None, strategy=_strategy(one))
            if decision.fault is not None:
                yield Finding(
                    Severity.ERROR,
                    f"{_subject(one)}, secret {entry.name}",
                    decision.fault.message,
                    f"Vault's metadata and field names ({decision.fault.reason.value})",
                    mend(entry, decision.fault.reason, _lacking(entry, state), _meant(entry, state)),
                )


def _meant(entry: SecretEntry, state: SecretState) -> int:
    """The version that a binding wants."""
    return (entry.source.version if isinstance(entry.source, Kv) else None) or state.current


def _lacking(entry: SecretEntry, state: SecretState) -> list[str]:
    """The fields that a binding uses and the version does not have."""
    used = {*(entry.env or {}).values(), *(name for item in entry.files for name in (item.fields or {}).values())}
    return sorted(used - set(state.fields.get(_meant(entry, state)) or ()))


@check("pinned-version", "Every version that a job reads can still be read, and is not about to be pruned.")
def pinned_version(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        if one.binding is None or one.job is None or isinstance(one.job, Unknown):
            continue
        serving = serving_pins(placed_marks(one.job, facts.scope.instance), one.key)
        for entry in one.binding.spec.secrets:
            state, pin = one.secrets.get(entry.name), serving.get(entry.name, (None, ""))[0]
            if pin is None or not pin.version or state is None or isinstance(state, Unknown) or state.fault is not None:
                continue
            decision = decide_version(entry, state, pin, strategy=_strategy(one))
            subject, how = f"{_subject(one)}, secret {entry.name}", "the job's templates; Vault's metadata"
            known = state.versions.get(pin.version)
            if known is None or not known.readable or known.created != pin.created:
                yield Finding(
                    Severity.ERROR,
                    subject,
                    f"the job reads version {pin.version}, which is gone: an allocation that starts anew fails",
                    how,
                    f"{_bring_back(entry, pin.version)}; the controller rolls to a new version at once",
                )
            elif decision.at_risk:
                yield Finding(
                    Severity.WARNING,
                    subject,
                    f"the job reads version {pin.version}, the oldest that Vault keeps: the next one prunes it",
                    how,
                    f"secretbinding rotate {one.key.name}, or raise max_versions of the secret or its mount",
                )


def _bring_back(entry: SecretEntry, version: int) -> str:
    back = f"{undelete(entry.source, version)}, or " if isinstance(entry.source, Kv) else ""
    return f"{back}{write(entry)}"


@check("secret-age", "No secret is older than `--older-than-days`.")
def secret_age(facts: Facts) -> Iterator[Finding | Unknown]:
    bindings, unknown = _given(facts)
    yield from unknown
    for one in bindings:
        for entry in one.binding.spec.secrets if one.binding is not None else ():
            state = one.secrets.get(entry.name)
            changed = None if state is None or isinstance(state, Unknown) else changed_at(state)
            if changed is not None and facts.now - changed > timedelta(days=facts.max_age_days):
                days = (facts.now - changed).days
                yield Finding(
                    Severity.WARNING,
                    f"{_subject(one)}, secret {entry.name}",
                    f"it was last changed {days} days ago",
                    f"Vault's metadata: {changed:%Y-%m-%d}",
                    f"{write(entry)}; the controller rolls the job",
                )


def changed_at(state: SecretState) -> datetime | None:
    """When a secret got its present value; None when the server does not tell."""
    version = state.versions.get(state.current)
    text = version.created if version is not None else ""
    if not text and state.revision is not None:
        text = state.revision.told
    try:
        # Python reads at most microseconds, Vault writes nanoseconds.
        return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    except ValueError:
        return None


CHECKS = (invalid, job, in_the_way, secret, pinned_version, secret_age)
