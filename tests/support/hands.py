"""Those who work on jobs beside the controller: a person who edits them, a tool that puts its file back."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.world import World

_EDIT = "edit"
_PINS = "?version="


def edit_of(job: Mapping[str, Any]) -> int:
    """The number of the person's last edit that a job holds; 0 for none."""
    return int((job.get("Meta") or {}).get(_EDIT) or 0)


def pins_of(job: Mapping[str, Any]) -> frozenset[str]:
    """The versions of secrets that the job's templates name."""
    return frozenset(part.split('"', 1)[0].split("\\", 1)[0] for part in str(job).split(_PINS)[1:])


class History:
    """Every version that jobs have had, as often looked at as Nomad keeps them."""

    def __init__(self, world: World, names: Sequence[str]) -> None:
        self._world = world
        self._names = names
        self.seen: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in names}

    def look(self) -> None:
        for name in self._names:
            for job in self._world.versions(name):
                self.seen[name].setdefault(int(job["Version"]), job)

    def lost_edits(self) -> list[str]:
        """Where a version holds an older edit than the one before it."""
        return [
            f"{name}: edit {edit_of(before)} of version {before['Version']} is {edit_of(after)} in the next"
            for name, before, after in self._pairs()
            if edit_of(after) < edit_of(before)
        ]

    def doubles(self) -> list[str]:
        """Where a version is the same as the one before it."""
        return [
            f"{name}: version {after['Version']} changes nothing"
            for name, before, after in self._pairs()
            if _content(before) == _content(after)
        ]

    def _pairs(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        for name, versions in self.seen.items():
            for one, other in itertools.pairwise(sorted(versions)):
                if other == one + 1:
                    yield name, versions[one], versions[other]


def _content(job: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a registration can change here: our templates, and the person's edit."""
    templates = [
        one["EmbeddedTmpl"]
        for group in job["TaskGroups"]
        for task in group["Tasks"]
        for one in task.get("Templates") or []
    ]
    return (edit_of(job), templates)


class Person:
    """Edits jobs as a careful person does: on the version that was read, again when somebody was faster."""

    def __init__(self, world: World, names: Sequence[str]) -> None:
        self._world = world
        self._turn = itertools.cycle(names)
        self.edits = dict.fromkeys(names, 0)

    def edit(self) -> None:
        name = next(self._turn)
        wanted = self.edits[name] + 1
        for _ in range(50):
            job = self._world.job(name)
            meta = {**(job.get("Meta") or {}), _EDIT: str(wanted)}
            body = {"Job": {**job, "Meta": meta}, "EnforceIndex": True, "JobModifyIndex": job["JobModifyIndex"]}
            if self._world.api.put("/v1/jobs", body).status == 200:
                self.edits[name] = wanted
                return
        raise AssertionError(f"{name} moved fifty times while it was edited")


@contextmanager
def again_and_again(every_seconds: float, *acts: Callable[[], object]) -> Iterator[None]:
    """Do each of these in a thread of its own while the block runs. Raises the first error of any of them."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def work(act: Callable[[], object]) -> None:
        while not stopped.wait(every_seconds):
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - it is raised where the block ends
                errors.append(error)
                return

    threads = [threading.Thread(target=work, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def insisting(world: World, job: Mapping[str, Any]) -> Callable[[], None]:
    """A tool that registers the job as its file says, whenever it is another one."""

    def insist() -> None:
        if "nsb." in str(world.job(str(job["ID"]))):
            world.register(job)

    return insist
