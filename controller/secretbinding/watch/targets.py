"""What is watched: the distinct secrets of all bindings, the looks that show them all, and what counts as a change."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from secretbinding.engine.store import Entry
from secretbinding.kinds.base import SecretState
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion

LIST_FROM = 4
"""How many watched secrets a folder holds at least for one list to replace their reads; a list costs more than one."""

# What a request to KV v2 that changes a secret has between the mount and the secret's path.
_CHANGING = frozenset({"data", "delete", "undelete", "destroy", "metadata"})


@dataclass(frozen=True, slots=True, order=True)
class WatchedSecret:
    """One KV v2 secret, however many bindings use it."""

    mount: str
    path: str

    @property
    def folder(self) -> "Folder":
        return Folder(self.mount, self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, order=True)
class Folder:
    """A folder of a KV v2 mount; `path` is empty for the mount's root."""

    mount: str
    path: str


Look = WatchedSecret | Folder
"""What one request shows: a secret, or all that lie directly in a folder."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the engine decides by: the versions that are kept, in order, with their creation times and whether they are
    deleted or destroyed, and how many are kept at most."""

    current: int
    max_versions: int
    versions: tuple[KvVersion, ...]


ABSENT = Seen(0, 0, ())
"""No such secret, or one without any version."""


def seen_in_metadata(metadata: KvMetadata | None) -> Seen:
    """What a look shows."""
    if metadata is None:
        return ABSENT
    return _seen(metadata.current, metadata.max_versions, metadata.versions)


def seen_by_engine(state: SecretState) -> Seen | None:
    """What a pass of the engine has seen; None when it saw nothing that can be compared."""
    if state.engine != "v2":
        return None
    if state.fault is not None:
        return ABSENT if state.fault.reason is Reason.SECRET_NOT_FOUND else None
    return _seen(state.current, state.max_versions, state.versions)


def _seen(current: int, max_versions: int, versions: Mapping[int, KvVersion]) -> Seen:
    if current == 0:
        return ABSENT
    return Seen(current, max_versions, tuple(versions[number] for number in sorted(versions)))


def secrets_of(entry: Entry) -> dict[str, WatchedSecret]:
    """The KV secrets of one binding by their names in it; none for a binding that is not to be made true."""
    item = entry.item
    if item.binding is None or item.deleting or item.binding.spec.suspend:
        return {}
    return {
        secret.name: WatchedSecret(secret.kv.mount, secret.kv.path)
        for secret in item.binding.spec.secrets
        if secret.kv is not None and secret.kv.engine != "v1"
    }


def watched(entries: Iterable[Entry]) -> dict[WatchedSecret, set[WorkloadKey]]:
    """The distinct KV secrets of all bindings that are to be made true, with the workloads that use each."""
    users: dict[WatchedSecret, set[WorkloadKey]] = {}
    for entry in entries:
        for secret in secrets_of(entry).values():
            users.setdefault(secret, set()).add(entry.workload)
    return users


def plan_looks(
    secrets: Iterable[WatchedSecret], listable: Callable[[Folder], bool]
) -> dict[Look, Collection[WatchedSecret]]:
    """The fewest requests that show all the secrets: one for each folder that holds enough of them and can be listed,
    and one for each other secret."""
    folders: dict[Folder, list[WatchedSecret]] = {}
    for secret in secrets:
        folders.setdefault(secret.folder, []).append(secret)
    looks: dict[Look, Collection[WatchedSecret]] = {}
    for folder, inside in folders.items():
        if len(inside) >= LIST_FROM and listable(folder):
            looks[folder] = frozenset(inside)
        else:
            looks.update({secret: (secret,) for secret in inside})
    return looks


def secrets_at(path: str) -> Iterator[WatchedSecret]:
    """The secrets that a changing request to `path` may be about: `a/data/b` is about `b` of the mount `a`, and since a
    mount may have slashes, `a/data/b/data/c` about two."""
    segments = path.split("/")
    for number, segment in enumerate(segments[:-1]):
        if number and segment in _CHANGING:
            yield WatchedSecret("/".join(segments[:number]), "/".join(segments[number + 1 :]))
