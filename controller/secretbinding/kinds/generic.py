"""Any secrets engine by its path: a read that a template makes, without versions."""

from collections.abc import Sequence

from secretbinding.kinds.base import Changes, Pin, Reading, Right, SecretState, Subject, spec_of
from secretbinding.models.binding import Generic, SecretEntry
from secretbinding.ports import Vault


class GenericKind:
    """The `generic` entry."""

    name = "generic"
    changes: Changes | None = None

    def subject(self, entry: SecretEntry) -> Subject | None:
        return None

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Generic)
        return SecretState(engine=self.name, lease_seconds=spec.max_ttl.seconds if spec.max_ttl is not None else 0.0)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Generic)
        return (Right(f"{spec.mount}/{spec.path}", tuple(sorted(set(spec.capabilities)))),)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = spec_of(entry, Generic)
        return Reading(f"{spec.mount}/{spec.path}", ".Data", polls=True, leased=True)
