"""What is watched: the distinct secrets of all bindings, the looks that show them all, and what a request is about."""

from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field

from secretbinding.engine.store import Entry
from secretbinding.kinds import KINDS, Subject
from secretbinding.models.binding import SecretEntry
from secretbinding.models.key import WorkloadKey

LIST_FROM = 4
"""How many watched secrets a folder holds at least for one list to replace their reads; a list costs more than one."""


@dataclass(frozen=True, slots=True, order=True)
class Folder:
    """A folder of a KV v2 mount; `path` is empty for the mount's root."""

    mount: str
    path: str


Look = Subject | Folder
"""What is asked for at once: one secret, or all KV v2 secrets that lie directly in a folder."""


@dataclass(slots=True)
class Targets:
    """The distinct secrets, and by each: the workloads that use it, and an entry that names it.

    `names` has them by kind and mount, and then by name.
    """

    users: dict[Subject, set[WorkloadKey]] = field(default_factory=dict)
    entries: dict[Subject, SecretEntry] = field(default_factory=dict)
    names: dict[tuple[str, str], dict[str, list[Subject]]] = field(default_factory=dict)

    def add(self, subject: Subject, entry: SecretEntry, workload: WorkloadKey) -> None:
        """A workload uses the secret."""
        users = self.users.get(subject)
        if users is not None:
            users.add(workload)
            return
        self.users[subject] = {workload}
        self.entries[subject] = entry
        self.names.setdefault((subject.kind, subject.mount), {}).setdefault(subject.name, []).append(subject)

    def about(self, path: str) -> Iterator[Subject]:
        """The secrets that a changing request to `path` may be about. A mount may have slashes in its path, so that
        each beginning of the path may be one."""
        segments = path.split("/")
        for number in range(1, len(segments)):
            mount, below = "/".join(segments[:number]), "/".join(segments[number:])
            for kind in KINDS.values():
                named = self.names.get((kind.name, mount))
                match = kind.changes.pattern.fullmatch(below) if named and kind.changes is not None else None
                if named is None or match is None:
                    continue
                name = match["name"]
                for found in named.values() if name is None else (named.get(name, []),):
                    yield from found


def subjects_of(entry: Entry) -> dict[str, Subject]:
    """What is looked at for one binding, by the names of its secrets; nothing for one that is not to be made true."""
    item = entry.item
    if item.binding is None or item.deleting or item.binding.spec.suspend:
        return {}
    found = {secret.name: _subject(secret) for secret in item.binding.spec.secrets}
    return {name: subject for name, subject in found.items() if subject is not None}


def targets_of(entries: Iterable[Entry], unversioned: Set[Subject]) -> Targets:
    """The distinct secrets of all bindings that are to be made true, less those that turned out to have no versions."""
    targets = Targets()
    for entry in entries:
        item = entry.item
        if item.binding is None or item.deleting or item.binding.spec.suspend:
            continue
        for secret in item.binding.spec.secrets:
            subject = _subject(secret)
            if subject is not None and subject not in unversioned:
                targets.add(subject, secret, entry.workload)
    return targets


def _subject(secret: SecretEntry) -> Subject | None:
    kind = KINDS.get(secret.kind_name)
    return kind.subject(secret) if kind is not None else None


def folder_of(subject: Subject) -> Folder:
    """The folder that a KV secret lies in."""
    return Folder(subject.mount, subject.name.rpartition("/")[0])


def name_in_folder(subject: Subject) -> str:
    """The last segment of a KV secret's path."""
    return subject.name.rpartition("/")[2]


def plan_looks(subjects: Iterable[Subject], listable: Callable[[Folder], bool]) -> dict[Look, Collection[Subject]]:
    """The fewest looks that show all the secrets: one for each folder that holds enough of them and can be listed, and
    one for each other secret."""
    folders: dict[Folder, list[Subject]] = {}
    looks: dict[Look, Collection[Subject]] = {}
    for subject in subjects:
        if subject.kind == "kv":
            folders.setdefault(folder_of(subject), []).append(subject)
        else:
            looks[subject] = (subject,)
    for folder, inside in folders.items():
        if len(inside) >= LIST_FROM and listable(folder):
            looks[folder] = frozenset(inside)
        else:
            looks.update({subject: (subject,) for subject in inside})
    return looks
