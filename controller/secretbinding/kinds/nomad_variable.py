"""Values of a Nomad variable: read by the task's own identity, without Vault."""

from collections.abc import Sequence

from secretbinding.errors import Denied
from secretbinding.kinds.base import Changes, Fault, Pin, Reading, Right, SecretState, Subject, denied, spec_of
from secretbinding.models.binding import NomadVariable, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import Nomad, Vault

_ENGINE = "nomad"


class NomadVariableKind:
    """The `nomadVariable` entry. What it names is no secret of Vault's, so that `observe_in` does the looking."""

    name = "nomadVariable"
    changes: Changes | None = None

    def subject(self, entry: SecretEntry) -> Subject | None:
        return None

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        return SecretState(engine=_ENGINE)

    def observe_in(self, entry: SecretEntry, nomad: Nomad, namespace: str) -> SecretState:
        """The variable's ModifyIndex is its revision. It stands in a list of variables, which shows no values; a list
        without a right to it is empty, so that absence is not told from a missing right."""
        spec = spec_of(entry, NomadVariable)
        where = spec.namespace or namespace
        try:
            _, rows = nomad.list_variables(where, spec.path)
        except Denied as error:
            return denied(_ENGINE, error)
        index = next((row.modify_index for row in rows if row.path == spec.path), None)
        if index is None:
            message = (
                f"no variable {spec.path} in Nomad namespace {where} that the controller may list; write it, or give "
                "the controller's token the right (variables: list)"
            )
            return SecretState(engine=_ENGINE, fault=Fault(Reason.SECRET_NOT_FOUND, message))
        return SecretState(engine=_ENGINE, revision=Pin.revision(f"index-{index}"))

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        return ()

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        """Read once in the life of an allocation where the controller rolls the job for another value: read again, a
        file would have it at once in all allocations, before any of them has proven healthy with it."""
        spec = spec_of(entry, NomadVariable)
        path = spec.path if spec.namespace is None else f"{spec.path}@{spec.namespace}"
        return Reading(path, ".ItemsMap", polls=pin is None, followed=True, function="nomadVar")
