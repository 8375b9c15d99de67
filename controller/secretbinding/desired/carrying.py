"""What a job had from us before its user registered it without, so that what waits goes on waiting. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from secretbinding.desired.decisions import state_of
from secretbinding.desired.values import BindingInput, Observed
from secretbinding.job.carry import carried_over
from secretbinding.job.marks import part_state, placed_marks, serving_pins
from secretbinding.job.targets import job_fault
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.template import secret_identity
from secretbinding.rotation import failed_parts, failed_states


def lacks_our_part(observed: Observed, instance: str) -> bool:
    """True for a job that we may register and that has nothing from us, as its job file says."""
    job = observed.job
    if job is None or job.get("Stop") or job_fault(job) is not None:
        return False
    return not any(placed_marks(job, instance))


def may_have_had_it(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> bool:
    """True when the job's history can tell of an older version to go on with: a binding that the job lacks is known in
    Vault from before, and a secret of its has more than one version."""
    if not lacks_our_part(observed, instance):
        return False
    return any(
        _is_known(observed, item, instance)
        and any(
            state_of(observed, item.key, entry).current > 1
            for entry in (item.binding.spec.secrets if item.binding is not None else ())
        )
        for item in bindings
    )


def carried(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> Observed:
    """The workload as the decisions are to see it: its job with what the last version that had our part, and did not
    fail with it, had for the given bindings. The same workload where there is nothing to carry over.

    A binding whose policy is not there yet is injected for the first time, whatever an earlier one of its name had. A
    version that can no longer be read is not put back.
    """
    job = observed.job
    if job is None or not lacks_our_part(observed, instance):
        return observed
    known = [item for item in bindings if _is_known(observed, item, instance)]
    there = _last_with(observed, {item.key for item in known}, instance) if known else None
    if there is None:
        return observed
    keys = {item.key for item in known if _readable(observed, item, there, instance)}
    virtual = carried_over(there, job, instance, keys)
    if not any(placed_marks(virtual, instance)):
        return observed
    return replace(observed, job=virtual, carried=True)


def _is_known(observed: Observed, item: BindingInput, instance: str) -> bool:
    """True for a binding that is to be made true and was there before this pass."""
    if item.deleting or item.frozen is not None or item.binding is None:
        return False
    owner = Owner(instance, item.key)
    policy = observed.policies.get(policy_name(owner))
    document = policy.document if policy is not None else None
    return document is not None and document.owner == owner and document.workload == observed.workload


def _last_with(observed: Observed, keys: set[BindingKey], instance: str) -> Json | None:
    """The newest version of the job that has something for one of the bindings and did not fail."""
    failures = failed_states(observed.versions, observed.deployments, instance)
    bad = failed_parts(observed.versions, failures, instance)
    newest_first = sorted(observed.versions, key=lambda job: int(job.get("Version") or 0), reverse=True)
    for version in newest_first:
        there = any(mark.key in keys for mark in placed_marks(version, instance))
        if there and part_state(version, instance) not in bad:
            return version
    return None


def _readable(observed: Observed, item: BindingInput, there: Json, instance: str) -> bool:
    """True when a task that starts now gets what that version of the job says."""
    pins = serving_pins(placed_marks(there, instance), item.key)
    for entry in item.binding.spec.secrets if item.binding is not None else ():
        state = state_of(observed, item.key, entry)
        pin, of = pins.get(entry.name, (None, ""))
        if pin is None or not state.pinnable or of != secret_identity(entry):
            continue
        version = state.versions.get(pin.version)
        if version is None or version.created != pin.created or not version.readable:
            return False
    return True
