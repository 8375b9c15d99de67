"""The right to use a key of a transit engine: nothing is rendered, the task calls Vault itself."""

from collections.abc import Mapping, Sequence

from secretbinding.errors import Denied
from secretbinding.kinds.base import Changes, Fault, Pin, Right, SecretState, Subject, Use, denied, not_found, spec_of
from secretbinding.models.binding import SecretEntry, Transit
from secretbinding.models.kinds import TransitOperation
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json, Vault

# https://openbao.org/api-docs/secret/transit/: the paths below the mount, and what a policy has to allow there. With
# `create` besides, encryption would make a key that is not there.
_PATHS: Mapping[TransitOperation, tuple[str, str]] = {
    TransitOperation.ENCRYPT: ("encrypt", "update"),
    TransitOperation.DECRYPT: ("decrypt", "update"),
    TransitOperation.REWRAP: ("rewrap", "update"),
    TransitOperation.SIGN: ("sign", "update"),
    TransitOperation.VERIFY: ("verify", "update"),
    TransitOperation.HMAC: ("hmac", "update"),
    TransitOperation.DATA_KEY: ("datakey/plaintext", "update"),
    TransitOperation.WRAPPED_DATA_KEY: ("datakey/wrapped", "update"),
    TransitOperation.READ_KEY: ("keys", "read"),
}
# What a key says of itself (`<mount>/keys/<key>`), where an operation needs it.
_SUPPORT: Mapping[TransitOperation, str] = {
    TransitOperation.ENCRYPT: "supports_encryption",
    TransitOperation.DECRYPT: "supports_decryption",
    TransitOperation.REWRAP: "supports_decryption",
    TransitOperation.SIGN: "supports_signing",
    TransitOperation.DATA_KEY: "supports_encryption",
    TransitOperation.WRAPPED_DATA_KEY: "supports_encryption",
}


class TransitKind:
    """The `transit` entry."""

    name = "transit"
    changes: Changes | None = None

    def subject(self, entry: SecretEntry) -> Subject | None:
        return None

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Transit)
        try:
            key = vault.read_engine_config(f"{spec.mount}/keys/{spec.key}")
        except Denied as error:
            return denied(self.name, error)
        if key is None:
            return not_found(self.name, entry, f"{spec.mount} has no key {spec.key}", "key")
        return SecretState(engine=self.name, fault=_cannot(spec, key))

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Transit)
        paths = sorted(_PATHS[operation] for operation in set(spec.operations))
        return tuple(Right(f"{spec.mount}/{path}/{spec.key}", (capability,)) for path, capability in paths)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Use:
        spec = spec_of(entry, Transit)
        return Use(f"transit key {spec.key} of {spec.mount}", spec.token)


def _cannot(spec: Transit, key: Json) -> Fault | None:
    """The first operation that the key's type does not have."""
    for operation in spec.operations:
        if key.get(_SUPPORT.get(operation, "")) is False:
            message = f"key {spec.key} of {spec.mount} is of type {key.get('type')}, which does not allow {operation}"
            return Fault(Reason.SECRET_UNREADABLE, message)
    return None
