"""Whether a secret has the fields that a binding uses, and names that fit where it puts them; never their values."""

from collections.abc import Iterator, Mapping
from typing import Any

from secretbinding.kinds.base import Fault
from secretbinding.models.binding import SecretEntry
from secretbinding.models.files import LINE_FORMATS, VARIABLE_FORMATS
from secretbinding.models.reasons import Reason
from secretbinding.models.types import ENV_NAME


def needs_names(entry: SecretEntry) -> str:
    """What of an entry can be made only when the names of all fields are known beforehand, "" when nothing is."""
    if entry.env_from is not None:
        return "envFrom"
    return next(
        (f"format {item.format}" for item in entry.files if item.format in LINE_FORMATS and not item.fields), ""
    )


def unknown_names(entry: SecretEntry) -> Fault:
    """The fault of an entry that needs names which nobody knows."""
    message = (
        f"secret {entry.name}: {needs_names(entry)} needs field names that are known beforehand, as those of a version "
        "of a KV v2 secret are, and those of most engines; name the fields (env, or fields of the file), or use Json, "
        "Yaml or a template"
    )
    return Fault(Reason.UNSUPPORTED_KIND, message)


def unfit(entry: SecretEntry, fields: Mapping[str, Any], label: str) -> Fault | None:
    """Why a version with these fields (names, with a mapping for an object) cannot be used."""
    return next(_odd_names(entry, fields, label), None) or next(_lacking(entry, fields, label), None)


def _odd_names(entry: SecretEntry, fields: Mapping[str, Any], label: str) -> Iterator[Fault]:
    """Fields of which all are taken, and that cannot be."""
    if any(item.format in VARIABLE_FORMATS and not item.fields for item in entry.files):
        for name in sorted(fields):
            if complaint := ENV_NAME.complaint(name):
                message = f"{label} has a field {name!r}, which cannot be a variable in a file: {complaint[0]}"
                yield Fault(Reason.SECRET_UNREADABLE, message)
    if entry.env_from is None:
        return
    from_field: dict[str, str] = {}
    for name in sorted(fields):
        variable = entry.env_from.variable(name)
        if complaint := ENV_NAME.complaint(variable):
            message = f"{label} has a field {name!r}, which envFrom cannot make a variable of: {complaint[0]}"
            yield Fault(Reason.SECRET_UNREADABLE, message)
        elif isinstance(fields[name], Mapping):
            message = (
                f"{label} has a field {name}, which is an object or a list; name the others in env instead of envFrom"
            )
            yield Fault(Reason.SECRET_UNREADABLE, message)
        elif variable in from_field:
            message = f"{label}: fields {from_field[variable]} and {name} would both be {variable} by envFrom"
            yield Fault(Reason.SECRET_UNREADABLE, message)
        from_field[variable] = name


def _lacking(entry: SecretEntry, fields: Mapping[str, Any], label: str) -> Iterator[Fault]:
    """Variables for which a secret has no plain field, and files for which it has none at all."""
    wanted = [(variable, source) for variable, source in sorted((entry.env or {}).items())]
    wanted += [(item.path, source) for item in entry.files for source in sorted((item.fields or {}).values())]
    variables = entry.env or {}
    for user, source in wanted:
        if source not in fields:
            message = (
                f"{label} has no field {source}, which {user} needs (it has: {', '.join(sorted(fields)) or 'none'})"
            )
            yield Fault(Reason.SECRET_FIELD_MISSING, message)
        elif user in variables and isinstance(fields[source], Mapping):
            message = f"field {source} of {label}, which {user} needs, is an object; an env variable takes plain text"
            yield Fault(Reason.SECRET_FIELD_MISSING, message)
