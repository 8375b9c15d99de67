"""From text or an API's object to SecretBindingPolicies, or to every problem with its place and remedy."""

from collections.abc import Iterator, Mapping
from typing import Any

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.base import Path
from secretbinding.models.binding import API_VERSION
from secretbinding.models.loading import examine
from secretbinding.models.policy import POLICY_KIND, SecretBindingPolicy
from secretbinding.strictyaml import field_name, load


def parse_policies(data: bytes | str, *, file: str = "") -> list[SecretBindingPolicy]:
    """The policies of a YAML or JSON stream, in order; lists (`kind: List`, `SecretBindingPolicyList`) are opened.

    `file` is the name for messages. Raises `ManifestError` with all problems of all documents, each with its place.
    """
    problems: list[Problem] = []
    found: list[SecretBindingPolicy] = []
    documents = load(data, file=file)
    for document in documents:
        for prefix, obj in _members(document.value):
            depth = len(prefix)
            plain = {path[depth:]: text for path, text in document.plain.items() if path[:depth] == prefix}
            policy, faults = examine(SecretBindingPolicy, obj, plain, strict=True)
            for path, message, remedy in faults:
                line, column = document.place(prefix + path)
                problems.append(Problem(message, remedy, field_name(prefix + path), file, line, column))
            if policy is not None:
                found.append(policy)
    if not documents:
        problems.append(Problem("there is no manifest", f"write a document with kind: {POLICY_KIND}", "", file, 1, 1))
    if problems:
        raise ManifestError(sorted(problems, key=lambda problem: (problem.line, problem.column, problem.field)))
    return found


def parse_policy_object(obj: Mapping[str, Any], *, source: str) -> SecretBindingPolicy:
    """The policy that an API's object holds. Unknown metadata, and a missing kind or apiVersion, are tolerated. Raises
    `ManifestError` with all problems; `source` names the origin in them."""
    head = {"apiVersion": API_VERSION, "kind": POLICY_KIND}
    found, faults = examine(SecretBindingPolicy, {**head, **obj}, {}, strict=False)
    if found is None:
        raise ManifestError([Problem(message, remedy, field_name(path), source) for path, message, remedy in faults])
    return found


def _members(value: Any) -> Iterator[tuple[Path, Any]]:
    kind, items = (value.get("kind"), value.get("items")) if isinstance(value, dict) else (None, None)
    if kind in ("List", f"{POLICY_KIND}List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield ("items", index), item
    else:
        yield (), value
