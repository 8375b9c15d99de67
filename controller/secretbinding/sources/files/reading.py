"""Manifest files: which ones a path means, and the bindings in them with their places."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.binding import KIND, SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import parse_manifests
from secretbinding.sources.base import SourceItem
from secretbinding.sources.files.listing import files_below, unreadable
from secretbinding.sources.files.tenants import DEFAULT_TENANT
from secretbinding.strictyaml import Document, Path, field_name
from secretbinding.strictyaml import load as load_yaml

NAME = "files"
STDIN = "-"
ROTATE_ANNOTATION = "nomad-vault.io/rotate-requested-at"
GENERATE_ANNOTATION = "nomad-vault.io/generate-requested-at"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One binding of a file, and where it stands there.

    `prefix` leads from the document to the manifest: empty, or `("items", n)` inside a list.
    """

    item: SourceItem
    binding: SecretBinding
    file: str
    document: Document
    prefix: Path

    def problem(self, path: Path, message: str, remedy: str = "") -> Problem:
        """A problem at a field of this manifest, with file, line and column."""
        line, column = self.document.place(self.prefix + path)
        return Problem(message, remedy, field_name(path), self.file, line, column)


def load(
    paths: Iterable[str],
    *,
    nomad_namespace: str = "default",
    source: str = NAME,
    stdin: Callable[[], bytes] = lambda: sys.stdin.buffer.read(),
) -> list[Loaded]:
    """The bindings of files, directories (see `listing.files_below`) and `-`, each once.

    `nomad_namespace` is the Nomad namespace of jobs whose manifest names none. `source` says as whose bindings they
    are keyed (`files`, `nomad` or `kubernetes`), and which limits apply. Raises `ManifestError` with the problems of
    all files: what cannot be read, what does not validate, and a binding that two files hold.
    """
    problems: list[Problem] = []
    found: list[Loaded] = []
    for name in _expanded(paths, problems):
        try:
            data = stdin() if name == STDIN else _read(name)
            file = "stdin" if name == STDIN else name
            found += bindings_of(data, file, nomad_namespace=nomad_namespace, source=source)
        except ManifestError as error:
            problems += error.problems
        except OSError as error:
            problems.append(unreadable(name, error))
    for first, second in duplicates(found):
        problems.append(second.problem(("metadata", "name"), *twice(first)))
    if problems:
        raise ManifestError(problems)
    return found


def bindings_of(
    data: bytes, file: str, *, nomad_namespace: str, source: str = NAME, tenant: str | None = None
) -> list[Loaded]:
    """The bindings of one file's text; of `tenant`, or where that is None, of the one that each names. Raises
    `ManifestError` with all its problems."""
    bindings = parse_manifests(data, file=file, source=source)
    places = manifests_in(load_yaml(data, file=file))
    found = [
        Loaded(_item(binding, source, nomad_namespace, tenant), binding, file, document, prefix)
        for binding, (document, prefix, _) in zip(bindings, places, strict=True)
    ]
    strange = [problem for loaded in found if tenant is not None for problem in _of_another(loaded, tenant)]
    if strange:
        raise ManifestError(strange)
    return found


def _of_another(loaded: Loaded, tenant: str) -> Iterator[Problem]:
    named = loaded.binding.metadata.namespace
    if not tenant:
        message = "the file is no tenant's: the directories beside it are"
        yield loaded.problem((), message, "move it into the directory of its tenant")
    elif named not in (None, tenant):
        message = f"the binding names tenant {named}, and what is in this place is of tenant {tenant}"
        yield loaded.problem(("metadata", "namespace"), message, "leave metadata.namespace out, or move the file")


def duplicates(found: Iterable[Loaded]) -> Iterator[tuple[Loaded, Loaded]]:
    """Pairs of bindings with the same key: the first one, and one that repeats it."""
    first: dict[BindingKey, Loaded] = {}
    for loaded in found:
        earlier = first.setdefault(loaded.item.key, loaded)
        if earlier is not loaded:
            yield earlier, loaded


def twice(first: Loaded) -> tuple[str, str]:
    """Message and remedy for a binding that repeats `first`."""
    key = first.item.key
    line, _ = first.document.place((*first.prefix, "metadata", "name"))
    return f"binding {key.tenant}/{key.name} is given twice, first in {first.file}:{line}", "remove one of the two"


def _expanded(paths: Iterable[str], problems: list[Problem]) -> Iterator[str]:
    """The files that the paths mean, each once."""
    names: dict[str, None] = {}
    for path in paths:
        if path == STDIN or not os.path.isdir(path):
            names[path] = None
            continue
        try:
            below = files_below(path)
        except OSError as error:
            problems.append(unreadable(error.filename or path, error))
            continue
        if not below:
            problems.append(Problem("no *.yaml, *.yml or *.json in this directory", "check the path", file=path))
        names.update(dict.fromkeys(below))
    yield from names


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def manifests_in(documents: Iterable[Document]) -> Iterator[tuple[Document, Path, Any]]:
    """Each manifest of a stream with its document and its path there, lists opened, in the order of
    `parse_manifests`."""
    for document in documents:
        value = document.value
        kind, items = (value.get("kind"), value.get("items")) if isinstance(value, dict) else (None, None)
        if kind in ("List", f"{KIND}List") and isinstance(items, list):
            for index, item in enumerate(items):
                yield document, ("items", index), item
        else:
            yield document, (), value


def _item(binding: SecretBinding, source: str, nomad_namespace: str, given: str | None) -> SourceItem:
    metadata, workload = binding.metadata, binding.spec.workload
    tenant = (metadata.namespace or DEFAULT_TENANT) if given is None else given
    if source == "nomad":
        # There the tenant is the Nomad namespace that the variable is kept in, which is the job's as well.
        tenant = metadata.namespace or workload.namespace or nomad_namespace
        nomad_namespace = tenant
    return SourceItem(
        BindingKey(source, tenant, metadata.name),
        binding,
        nomad_namespace,
        rotate_requested_at=metadata.annotations.get(ROTATE_ANNOTATION, ""),
        generate_requested_at=metadata.annotations.get(GENERATE_ANNOTATION, ""),
    )
