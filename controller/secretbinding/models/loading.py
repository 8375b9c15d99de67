"""From text or an API's object to SecretBindings, or to a list of every problem with its place and remedy."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.base import RULES_CHECKED, Model, Path
from secretbinding.models.binding import API_VERSION, KIND, SecretBinding
from secretbinding.models.explain import explain, nearest, rule_faults
from secretbinding.models.text import quoted
from secretbinding.strictyaml import field_name, load

# Of Nomad's API (structs.maxVariableSize): names and values of all items of a variable, in bytes.
VARIABLE_LIMIT = 64 * 1024
MANIFEST_ITEM = "manifest"

# metav1.ObjectMeta, whose unknown fields the API server's strict validation refuses as well.
_METADATA_FIELDS = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
# Maps whose members are people's own names: a null in them is a mistake, not an absent field.
_FREE_MAPS = ("env", "fields", "labels", "annotations")


class Identity(NamedTuple):
    """What can be read of an object, whether it is valid or not; None for what cannot."""

    name: str | None
    namespace: str | None
    connection: str | None
    job: str | None
    job_namespace: str | None
    region: str | None


def parse_manifests(data: bytes | str, *, file: str = "", source: str = "files") -> list[SecretBinding]:
    """The bindings of a YAML or JSON stream, in order; lists (`kind: List`, `SecretBindingList`) are opened.

    `file` is the name for messages. With `source="nomad"`, the text must fit in a Nomad variable. Raises
    `ManifestError` with all problems of all documents, sorted by place, each with line and column.
    """
    if source == "nomad":
        check_variable_size(data, file=file)
    documents = load(data, file=file)
    problems: list[Problem] = []
    bindings: list[SecretBinding] = []
    seen: dict[tuple[str, str], int] = {}
    for document in documents:
        for prefix, obj in _members(document.value):

            def problem(
                path: Path, message: str, remedy: str, prefix: Path = prefix, place: Callable[..., Any] = document.place
            ) -> Problem:
                line, column = place(prefix + path)
                return Problem(message, remedy, field_name(prefix + path), file, line, column)

            depth = len(prefix)
            plain = {path[depth:]: text for path, text in document.plain.items() if path[:depth] == prefix}
            found, faults = examine(SecretBinding, obj, plain, strict=True)
            problems += [problem(*fault) for fault in faults]
            identity = identify(obj)
            if identity.name is not None:
                key = (identity.namespace or "", identity.name)
                line = document.place((*prefix, "metadata", "name"))[0]
                if key in seen:
                    told = f"a binding {quoted(identity.name)} is given twice, first in line {seen[key]}"
                    problems.append(problem(("metadata", "name"), told, "give each binding its own name"))
                else:
                    seen[key] = line
            if found is not None:
                bindings.append(found)
    if not documents:
        problems.append(Problem("there is no manifest", f"write a document with kind: {KIND}", "", file, 1, 1))
    if problems:
        raise ManifestError(sorted(problems, key=lambda problem: (problem.line, problem.column, problem.field)))
    return bindings


def parse_object(obj: Mapping[str, Any], *, source: str) -> SecretBinding:
    """The binding that an API's object holds. Status, unknown metadata, and a missing kind or apiVersion (as in the
    members of a list) are tolerated. Raises `ManifestError` with all problems, without lines; `source` names the origin
    in them."""
    kind = {"apiVersion": API_VERSION, "kind": KIND}
    found, faults = examine(SecretBinding, {**kind, **obj} if isinstance(obj, Mapping) else obj, {}, strict=False)
    if found is None:
        raise ManifestError([Problem(message, remedy, field_name(path), source) for path, message, remedy in faults])
    return found


def check_variable_size(manifest: bytes | str, *, file: str = "") -> None:
    """Raises `ManifestError` when the manifest does not fit in a Nomad variable (item `manifest`)."""
    size = len(manifest if isinstance(manifest, bytes) else manifest.encode("utf-8", "surrogatepass"))
    limit = VARIABLE_LIMIT - len(MANIFEST_ITEM)
    if size > limit:
        message = f"the manifest has {size} bytes, a Nomad variable holds {limit}"
        remedy = "split it into several bindings of the same job, or shorten its templates"
        raise ManifestError([Problem(message, remedy, "", file)])


def identify(obj: object) -> Identity:
    """The identity of an object that may not be valid, so that what belongs to it can be held."""
    metadata, spec = _text_members(obj, "metadata"), _text_members(obj, "spec")
    workload = _text_members(obj.get("spec") if isinstance(obj, Mapping) else None, "workload")
    return Identity(
        name=metadata.get("name"),
        namespace=metadata.get("namespace"),
        connection=spec.get("connection"),
        job=workload.get("job"),
        job_namespace=workload.get("namespace"),
        region=workload.get("region"),
    )


def _text_members(obj: object, member: str) -> dict[str, str]:
    inner = obj.get(member) if isinstance(obj, Mapping) else None
    if not isinstance(inner, Mapping):
        return {}
    return {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, str) and value}


def _members(value: Any) -> Iterator[tuple[Path, Any]]:
    """The manifests in a document, each with its path."""
    kind, items = (value.get("kind"), value.get("items")) if isinstance(value, dict) else (None, None)
    if kind in ("List", f"{KIND}List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield ("items", index), item
    else:
        yield (), value


_Fault = tuple[Path, str, str]
M = TypeVar("M", bound=Model)


def examine(model: type[M], obj: Any, plain: Mapping[Path, str], *, strict: bool) -> tuple[M | None, list[_Fault]]:
    """The binding, or another manifest, (None when there is none) and all faults of one object: path, message, remedy.
    `plain` is the source text of unquoted values that are no texts; with `strict`, unknown metadata is a fault."""
    if not isinstance(obj, Mapping):
        return None, [((), "a manifest is a map with apiVersion, kind, metadata and spec", "look at the indentation")]
    faults = list(_wrong_type(obj, model.__name__))
    if faults:
        return None, faults
    body = {key: _without_nulls(value, key) for key, value in obj.items() if key != "status" and value is not None}
    if strict and isinstance(metadata := body.get("metadata"), dict):
        for name in metadata:
            if name not in _METADATA_FIELDS:
                remedy = nearest(name, _METADATA_FIELDS) or "remove it, or move it to labels or annotations"
                faults.append((("metadata", name), f"unknown field {quoted(name)}", remedy))
    faults += [(path, fault.message, fault.remedy) for path, fault in rule_faults(model, body)]
    try:
        text = json.dumps(body, allow_nan=False)
        found = model.model_validate_json(text, by_alias=True, by_name=False, context=RULES_CHECKED)
    except ValidationError as error:
        return None, faults + list(explain(error, plain, model))
    except ValueError:
        return None, [*faults, ((), "the object holds a number that JSON cannot carry", "remove it")]
    return (None if faults else found), faults


def _wrong_type(obj: Mapping[str, Any], kind: str) -> Iterator[_Fault]:
    for name, wanted in (("apiVersion", API_VERSION), ("kind", kind)):
        given = obj.get(name)
        if given is None:
            yield (name,), f"`{name}` is missing", f"write {name}: {wanted}"
        elif given != wanted:
            shown = quoted(given) if isinstance(given, str) else "this value"
            yield (name,), f"{name} {shown} is not known here", f"write {name}: {wanted}"


def _without_nulls(value: Any, key: str | int) -> Any:
    """The value without the fields that are null, which mean the same as absent ones, as for the API server."""
    if isinstance(value, Mapping):
        if key in _FREE_MAPS:
            return dict(value)
        return {name: _without_nulls(member, name) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(member, index) for index, member in enumerate(value)]
    return value
