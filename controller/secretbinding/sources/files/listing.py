"""What lies in the watched paths and whose it is. Nobody's directory says anything of what is another's."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.errors import Problem
from secretbinding.sources.files.tenants import EACH, Tenants, is_tenant

SUFFIXES = (".yaml", ".yml", ".json")

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A manifest file, or what stands where one might be and cannot be looked at.

    Attributes:
        tenant: whose it is: None where its manifests may say so, "" when it is nobody's.
        signature: its modification time (ns), size and inode.
        real: its path without symbolic links.
        border: the real directory that it was found to lie in, "" when it may lie anywhere.
        problem: why it is not read; then the three above are empty.
    """

    tenant: str | None = None
    signature: Signature = (0, 0, 0)
    real: str = ""
    border: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class _Root:
    """A path that begins what is one tenant's. In a `confined` one no link may lead out; a `shallow` one ends where its
    directories begin."""

    path: str
    real: str
    tenant: str | None
    confined: bool = False
    shallow: bool = False


def listing(paths: Sequence[str], tenants: Tenants) -> dict[str, Place]:
    """All manifest files (`*.yaml`, `*.yml`, `*.json`) of the paths by name, directories with their subdirectories.

    Names that begin with a dot are left out (`.git`, and the directories behind a mounted ConfigMap). Each path, and
    each directory of one whose directories are tenants, is walked by itself: symbolic links are followed, and what is
    reached in two ways counts once in it. A link out of a directory with a named tenant, or into what is another's, and
    what cannot be looked at, are places with a problem. Raises `OSError` when no path at all can be listed.
    """
    found: dict[str, Place] = {}
    roots, failed = _roots(paths, tenants, found)
    reals = {root.real: root for root in roots}
    for root in roots:
        try:
            found |= _below(root, roots, reals)
        except OSError as error:
            failed.append((root, error))
    if failed and not {root.path for root in roots} - {root.path for root, _ in failed}:
        raise failed[0][1]
    for root, failure in failed:
        # Whose manifests are in a directory of tenants, nobody knows who cannot look.
        tenant = None if tenants.are_directories(root.path) else root.tenant
        found[root.path] = Place(tenant, problem=unreadable(root.path, failure))
    return found


def _roots(
    paths: Sequence[str], tenants: Tenants, found: dict[str, Place]
) -> tuple[list[_Root], list[tuple[_Root, OSError]]]:
    """The roots in the order of the paths; in `found`, the tenants' directories that are none."""
    roots: list[_Root] = []
    failed: list[tuple[_Root, OSError]] = []
    given = {os.path.abspath(path) for path in paths}
    for path in paths:
        real = os.path.realpath(path)
        if not tenants.are_directories(path) or not os.path.isdir(path):
            tenant = tenants.of(path)
            roots.append(_Root(path, real, tenant, confined=tenants.names(path) and os.path.isdir(path)))
            continue
        whole = _Root(path, real, "", confined=True, shallow=True)
        roots.append(whole)
        try:
            entries = [entry for entry in sorted(os.listdir(path)) if not entry.startswith(".")]
        except OSError as error:
            failed.append((whole, error))
            continue
        made = [os.path.join(real, entry) for entry in entries]
        taken = {place for place in made if not os.path.islink(place)}
        for entry in entries:
            place = os.path.join(path, entry)
            tenant = entry if is_tenant(entry) and entry != EACH else ""
            target = os.path.realpath(place)
            link = os.path.islink(place)
            if os.path.abspath(place) in given or (not os.path.isdir(place) and not link):
                continue
            if link and not os.path.isdir(place):
                if not place.endswith(SUFFIXES):
                    found[place] = Place(tenant, problem=_leads_nowhere(place))
            elif link and (target == real or not inside(target, real) or any(inside(target, one) for one in taken)):
                found[place] = Place(tenant, problem=_leads_out(place))
            else:
                roots.append(_Root(place, target, tenant, confined=True))
    return roots, failed


def _below(
    root: _Root, roots: Sequence[_Root], reals: Mapping[str, _Root], *, strict: bool = False
) -> dict[str, Place]:
    """The places of one root. Raises `OSError` when it cannot be listed itself, or, if `strict`, any part of it."""
    files: dict[str, Place] = {}
    there = os.stat(root.path)
    if not stat.S_ISDIR(there.st_mode):
        return {root.path: Place(root.tenant, signature(there), root.real)}
    seen: set[tuple[int, int]] = {(there.st_dev, there.st_ino)}
    todo = list(reversed(list(_entries(root.path, root.real))))
    while todo:
        path, real = todo.pop()
        if root.shallow and not path.endswith(SUFFIXES):
            continue
        try:
            link = os.path.islink(path)
            if link:
                real = os.path.realpath(path)
            info = os.stat(path)
            is_directory = stat.S_ISDIR(info.st_mode)
            if not is_directory and (not stat.S_ISREG(info.st_mode) or not path.endswith(SUFFIXES)):
                continue
            if (is_directory and root.shallow) or (not link and reals.get(real, root).real != root.real):
                continue
            if link and not _may_lead(root, real, roots):
                files[path] = Place(root.tenant, problem=_leads_out(path))
                continue
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            if is_directory:
                todo += reversed(list(_entries(path, real)))
            else:
                border = root.real if inside(real, root.real) else ""
                files[path] = Place(root.tenant, signature(info), real, border)
        except OSError as error:
            if strict:
                raise
            if os.path.lexists(path):
                problem = _leads_nowhere(path) if os.path.islink(path) else unreadable(path, error)
                files[path] = Place(root.tenant, problem=problem)
    return files


def _entries(path: str, real: str) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(path)):
        if not name.startswith("."):
            yield os.path.join(path, name), os.path.join(real, name)


def _may_lead(root: _Root, real: str, roots: Sequence[_Root]) -> bool:
    """Whether a link of a root may lead there: what lies in several roots is of the innermost."""
    owner = max((one.real for one in roots if inside(real, one.real)), key=len, default=None)
    return owner == root.real or (owner is None and not root.confined)


def inside(place: str, directory: str) -> bool:
    """Whether a real path is a directory's, or that directory."""
    return place == directory or place.startswith(directory.rstrip(os.sep) + os.sep)


def read_inside(place: Place, *, limit: int) -> bytes:
    """The first `limit` bytes of a file that was listed. A link that was put into its path since then is not followed:
    who writes in the directory cannot have another file read. Raises `OSError`, also for what is no regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if not place.border:
        return _read(os.open(place.real, flags), place.real, limit)
    *directories, name = os.path.relpath(place.real, place.border).split(os.sep)
    at = os.open(place.border, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for directory in directories:
            inner = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        opened = os.open(name, flags | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)
    return _read(opened, place.real, limit)


def _read(opened: int, path: str, limit: int) -> bytes:
    with open(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(0, "no regular file", path)
        return file.read(limit)


def signature(info: os.stat_result) -> Signature:
    """What changes when a file is written or replaced."""
    return info.st_mtime_ns, info.st_size, info.st_ino


def unreadable(name: str, error: OSError) -> Problem:
    """The problem of a file or directory that cannot be read."""
    reason = (error.strerror or type(error).__name__).lower()
    return Problem(f"cannot be read: {reason}", "check the path and its permissions", file=printable(name))


def _leads_nowhere(path: str) -> Problem:
    return Problem("is a link that leads nowhere", "mend or remove it", file=printable(path))


def _leads_out(path: str) -> Problem:
    message = "is a link out of the directory of its tenant, and is not followed"
    return Problem(
        message, "put the file there itself, or name its directory with --source files:TENANT=", file=printable(path)
    )


def printable(path: str) -> str:
    """A path for people: what is no UTF-8 in it, or would begin another line, is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)


def files_below(directory: str) -> dict[str, Signature]:
    """All manifest files below a directory of one's own, as in `listing`, in order, each with its signature. Raises
    `OSError` when any part of it cannot be listed."""
    root = _Root(directory, os.path.realpath(directory), None)
    found = _below(root, [root], {root.real: root}, strict=True)
    return {path: place.signature for path, place in found.items()}
