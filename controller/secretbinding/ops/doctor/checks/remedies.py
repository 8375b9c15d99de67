"""Commands that mend a secret, ready to paste. No value is part of one: it would stay in a shell's history. Pure."""

import shlex

from secretbinding.models.binding import Kv, SecretEntry
from secretbinding.models.reasons import Reason


def mend(entry: SecretEntry, reason: Reason, fields: list[str], version: int) -> str:
    """What to do about a secret that is in no state to be used. `fields` are those of the binding that it lacks, or all
    that the binding uses; `version` is the one that is meant."""
    source = entry.source
    correct = f"correct spec.secrets[{entry.name}].{entry.kind_name} in the binding"
    if not isinstance(source, Kv):
        return f"make it in the engine, or {correct}"
    if reason is Reason.SECRET_FIELD_MISSING and fields and not _old(source):
        return f"vault kv patch {_path(source)} {shlex.quote(fields[0])}=- (reads the value), or {correct}"
    if reason is Reason.SECRET_VERSION_DELETED:
        return f"{undelete(source, version)}, or write a new version: {write(entry)}"
    if reason in (Reason.SECRET_NOT_FOUND, Reason.SECRET_VERSION_DESTROYED, Reason.SECRET_FIELD_MISSING):
        return f"{write(entry)}, or {correct}"
    return f"see `vault kv metadata get {_path(source)}`, or {correct}"


def undelete(source: Kv, version: int) -> str:
    """The command that brings back a version."""
    return f"vault kv undelete -versions={version} {_path(source)}"


def write(entry: SecretEntry) -> str:
    """The command that writes a new version, its fields in a file."""
    if isinstance(entry.source, Kv):
        return f"vault kv put {_path(entry.source)} @fields.json"
    return "have the engine make new ones"


def _path(source: Kv) -> str:
    return f"-mount={shlex.quote(source.mount)} {shlex.quote(source.path)}"


def _old(source: Kv) -> bool:
    return source.engine is not None and source.engine.value == "v1"
