"""What a job's history says of the states of our part that were tried."""

from collections.abc import Mapping, Sequence

from secretbinding.desired.values import BindingInput, Observed
from secretbinding.job.inject import user_state
from secretbinding.job.marks import Placed, part_state, placed_marks, renewals, share_states
from secretbinding.models.key import BindingKey
from secretbinding.ports import Json
from secretbinding.rotation import FailedState, failed_states, good_version, last_stable, renewal_failed, suspected


class Past:
    """What the job's history says of the states that were tried."""

    def __init__(self, observed: Observed, bindings: Sequence[BindingInput], instance: str) -> None:
        job = observed.job
        self._instance = instance
        # Failures are dated by Nomad's clock.
        ahead = observed.gate.nomad_ahead
        asked = {item.key: item.rotate_requested_at for item in bindings}
        self._requests = {key: at + ahead if at is not None else None for key, at in asked.items()}
        self.requested = max((moment for moment in self._requests.values() if moment is not None), default=None)
        self.failures = failed_states(observed.versions, observed.deployments, instance) if job is not None else ()
        self.user = user_state(job, instance) if job is not None and self.failures else ""
        self._renewed = renewals(job, instance) if self.failures else {}
        self._wanted: frozenset[str] | None = None
        self._before: tuple[Placed, ...] | None = None
        current = part_state(job, instance) if self.failures else ""
        if any((failure.part, failure.user) == (current, self.user) for failure in self.failures):
            # A failed state is in the job still: what a binding goes back to is what it had before.
            good = good_job(observed, self.failures, current, instance)
            if good is not None and not rolling(observed.deployments):
                self._before = tuple(placed_marks(good, instance))

    def suspects(self, job: Json) -> dict[BindingKey, FailedState]:
        """The bindings whose share in `job` has failed before."""
        found: dict[BindingKey, FailedState] = {}
        if not self.failures:
            return found
        shares = share_states(job, self._instance)
        if self._wanted is None:
            self._wanted = frozenset(shares.values())
        # Shares that failed together are held as long as all of them are wanted: when one has changed, it may have been
        # the one, and the others get another try.
        holding = [failure for failure in self.failures if failure.suspects <= self._wanted]
        for key, share in shares.items():
            failure = suspected(holding, self.user, share, self._requests.get(key))
            if failure is not None and key in self._requests:
                found[key] = failure
        for key, (share, renewed) in renewals(job, self._instance).items():
            since = self._renewed.get(key, ("", ""))[1]
            if key in found or key not in self._requests or renewed <= since:
                continue
            failure = renewal_failed(self.failures, self.user, share, since, self._requests[key])
            if failure is not None:
                found[key] = failure
        return found

    def staying(self, placed: Sequence[Placed], failed: Mapping[BindingKey, FailedState]) -> tuple[Placed, ...]:
        """What is in the job, with what failed bindings had before in place of what they have."""
        if self._before is None:
            return tuple(placed)
        there = [item for item in placed if item.key not in failed]
        return (*there, *(item for item in self._before if item.key in failed))


def good_job(observed: Observed, failures: Sequence[FailedState], current: str, instance: str) -> Json | None:
    """The version to go back to; None when there is none, or when what is there (`current`) has worked later."""
    good = good_version(observed.versions, failures, observed.job, instance)
    if good is None or int(good.get("Version") or 0) < last_stable(observed.versions, current, instance):
        return None
    return good


def rolling(deployments: Sequence[Json]) -> bool:
    """True while the newest deployment has not come to its end."""
    return bool(deployments) and deployments[0].get("Status") not in ("successful", "failed", "cancelled")
