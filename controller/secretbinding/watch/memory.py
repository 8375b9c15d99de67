"""Who has seen what of which secret: the measure of a change is what the engine itself has seen, job by job."""

from collections.abc import Collection, Mapping, Set

from secretbinding.kinds import Subject
from secretbinding.models.key import WorkloadKey
from secretbinding.watch.seen import ABSENT, Sight


class Memory:
    """Not thread-safe. Told of the passes of the engine and of looks, it says whom a change concerns."""

    def __init__(self) -> None:
        self._looked: dict[Subject, Sight] = {}
        self._engine: dict[Subject, dict[WorkloadKey, Sight]] = {}
        self._refused: dict[Subject, int] = {}

    def last(self, subject: Subject) -> Sight | None:
        """What the last look at a secret has shown, None when there was none."""
        return self._looked.get(subject)

    def refusals(self, subject: Subject) -> int:
        """How many looks at a secret in a row were refused."""
        return self._refused.get(subject, 0)

    def there(self, subjects: Collection[Subject]) -> bool:
        """Whether any of these secrets was there when somebody last saw it."""
        return any(
            sight != ABSENT
            for subject in subjects
            for sight in (self._looked.get(subject, ABSENT), *self._engine.get(subject, {}).values())
        )

    def engine_saw(self, subject: Subject, workload: WorkloadKey, sight: Sight) -> bool:
        """A pass over a job has seen this. False when that is not what a look has shown, the first time that the job is
        heard of: which of the two is older cannot be told then."""
        known = self._engine.setdefault(subject, {})
        first = workload not in known
        known[workload] = sight
        return not first or self._looked.get(subject, sight) == sight

    def refused(self, subject: Subject) -> None:
        """A look was refused."""
        self._refused[subject] = self._refused.get(subject, 0) + 1

    def looked(self, found: Mapping[Subject, Sight], users: Mapping[Subject, Set[WorkloadKey]]) -> set[WorkloadKey]:
        """Looks have shown this: the jobs that have seen something else, each told once, and those of a secret that
        could not be looked at before. A pass that fails is the engine's to repeat."""
        concerned: set[WorkloadKey] = set()
        for subject, sight in found.items():
            before = self._looked.get(subject, sight)
            self._looked[subject] = sight
            if self._refused.pop(subject, 0):
                concerned |= users.get(subject, set())
            known = self._engine.get(subject, {})
            for workload in users.get(subject, set()):
                if known.get(workload, before) != sight:
                    concerned.add(workload)
                if workload in known:
                    known[workload] = sight
        return concerned

    def keep(self, users: Mapping[Subject, Set[WorkloadKey]]) -> None:
        """Forget all other secrets and jobs."""
        self._looked = {subject: sight for subject, sight in self._looked.items() if subject in users}
        self._refused = {subject: count for subject, count in self._refused.items() if subject in users}
        self._engine = {
            subject: {workload: sight for workload, sight in known.items() if workload in users[subject]}
            for subject, known in self._engine.items()
            if subject in users
        }
