"""KV secrets: version 2 with versions that a template can pin, version 1 without."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import Changes, Fault, Pin, Reading, Right, SecretState, Subject, spec_of
from secretbinding.models.binding import Kv, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault


class KvKind:
    """The `kv` entry."""

    name = "kv"
    changes: Changes | None = Changes(
        re.compile(r"(?:data|metadata|delete|undelete|destroy)/(?P<name>.+)"),
        ("/data/", "/metadata/", "/delete/", "/undelete/", "/destroy/"),
    )

    def subject(self, entry: SecretEntry) -> Subject | None:
        kv = spec_of(entry, Kv)
        return None if kv.engine == "v1" else Subject(self.name, kv.mount, kv.path)

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        kv = spec_of(entry, Kv)
        told = kv.engine or vault.kv_engine(kv.mount)
        if told == "v1":
            return SecretState(engine="v1")
        try:
            metadata = vault.kv_metadata(kv.mount, kv.path)
        except Denied as error:
            guess = "" if told else f"; where {kv.mount} is of version 1, say engine: v1"
            return SecretState(engine="v2", pinnable=True, fault=Fault(Reason.PERMISSION_DENIED, f"{error}{guess}"))
        if metadata is None or metadata.current == 0:
            message = f"no secret at {kv.mount}/{kv.path}; write one, or mend spec.secrets[{entry.name}].kv"
            return SecretState(engine="v2", pinnable=True, fault=Fault(Reason.SECRET_NOT_FOUND, message))
        wanted = {metadata.current, *versions}
        if kv.version is not None:
            wanted.add(kv.version)
        fields: dict[int, Mapping[str, Any]] = {}
        for number in sorted(wanted):
            version = metadata.versions.get(number)
            if version is not None and version.readable:
                try:
                    found = vault.kv_fields(kv.mount, kv.path, number)
                except Denied as error:
                    return SecretState(engine="v2", pinnable=True, fault=Fault(Reason.PERMISSION_DENIED, str(error)))
                if found is not None:
                    fields[number] = found
        return SecretState(
            engine="v2",
            pinnable=True,
            current=metadata.current,
            versions=dict(metadata.versions),
            fields=fields,
            max_versions=metadata.max_versions,
            mount_max_versions=vault.kv_max_versions(kv.mount),
        )

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        kv = spec_of(entry, Kv)
        path = f"{kv.mount}/{kv.path}" if state.engine == "v1" else f"{kv.mount}/data/{kv.path}"
        return (Right(path, ("read",)),)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        kv = spec_of(entry, Kv)
        if state.engine == "v1":
            return Reading(f"{kv.mount}/{kv.path}", ".Data", polls=True)
        path = f"{kv.mount}/data/{kv.path}"
        if pin is None:
            return Reading(path, ".Data.data", polls=True)
        return Reading(f"{path}?version={pin.version}", ".Data.data", polls=False)
