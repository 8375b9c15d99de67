"""Manifest files for who looks for faults: one that is not valid keeps nobody from looking at the others."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import identify
from secretbinding.sources.base import SourceItem
from secretbinding.sources.files.listing import files_below, unreadable
from secretbinding.sources.files.reading import NAME, STDIN, load, manifests_in
from secretbinding.sources.files.tenants import DEFAULT_TENANT
from secretbinding.strictyaml import load as load_yaml


def examine(
    paths: Iterable[str], *, nomad_namespace: str, stdin: Callable[[], bytes] = lambda: sys.stdin.buffer.read()
) -> list[SourceItem]:
    """The bindings of files, directories and `-`. What does not validate is an item without a binding and with its
    problems; its name is the one that it gives, or its file's. Raises `ManifestError` when a path cannot be read or
    means no file.
    """
    found: dict[BindingKey, SourceItem] = {}
    for name in dict.fromkeys(name for path in paths for name in _files(path)):
        for item in _of_file(name, stdin, nomad_namespace):
            earlier = found.get(item.key)
            if earlier is None or earlier.binding is None:
                found[item.key] = (
                    item if earlier is None else replace(earlier, problems=earlier.problems + item.problems)
                )
            else:
                twice = Problem("the binding is given twice", "remove one of the two", "metadata.name", name)
                found[item.key] = replace(earlier, binding=None, problems=(*item.problems, twice))
    return list(found.values())


def _files(path: str) -> Sequence[str]:
    """The files that a path means."""
    try:
        names = [path] if path == STDIN or not os.path.isdir(path) else list(files_below(path))
    except OSError as error:
        raise ManifestError([unreadable(error.filename or path, error)]) from None
    if not names:
        raise ManifestError([Problem("no *.yaml, *.yml or *.json in this directory", "check the path", file=path)])
    return names


def _bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise ManifestError([unreadable(name, error)]) from None


def _of_file(name: str, stdin: Callable[[], bytes], nomad_namespace: str) -> Iterator[SourceItem]:
    data = stdin() if name == STDIN else _bytes(name)
    file = "stdin" if name == STDIN else name
    try:
        yield from _loaded(data, file, nomad_namespace)
        return
    except ManifestError as error:
        problems = error.problems
    try:
        documents = load_yaml(data, file=file)
    except ManifestError:
        documents = ()
    manifests = list(manifests_in(documents))
    starts = [document.place(prefix)[0] for document, prefix, _ in manifests]
    mine: list[list[Problem]] = [[] for _ in manifests]
    rest: list[Problem] = []
    for problem in problems:
        at = max((index for index, start in enumerate(starts) if start <= problem.line), default=None)
        (rest if at is None else mine[at]).append(problem)
    for (_, _, obj), wrong in zip(manifests, mine, strict=True):
        if not wrong:
            yield from _loaded(json.dumps(obj).encode(), file, nomad_namespace)
            continue
        identity = identify(obj)
        key = BindingKey(NAME, identity.namespace or DEFAULT_TENANT, identity.name or file)
        place = identity.job_namespace or nomad_namespace
        yield SourceItem(key, None, place, problems=tuple(wrong), job=identity.job or "")
    if rest:
        yield SourceItem(BindingKey(NAME, DEFAULT_TENANT, file), None, nomad_namespace, problems=tuple(rest))


def _loaded(data: bytes, file: str, nomad_namespace: str) -> list[SourceItem]:
    try:
        return [one.item for one in load([STDIN], nomad_namespace=nomad_namespace, stdin=lambda: data)]
    except ManifestError as error:
        raise ManifestError([replace(problem, file=file) for problem in error.problems]) from None
