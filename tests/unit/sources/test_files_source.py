"""The files source on a real directory: replaced files, swapped links, missing directories, and what it logs."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.base import SourceItem
from secretbinding.sources.files import FilesSource, load, watching
from secretbinding.sources.files.deciding import FileState
from secretbinding.sources.files.listing import files_below
from secretbinding.status.transitions import Transition
from tests.support.builders import manifest
from tests.support.world import wait_until


class Engine:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.items: dict[str, SourceItem] = {}

    def upsert(self, item: SourceItem) -> None:
        self.told.append(f"{'+' if item.binding is not None else '?'}{item.key.name}")
        self.items[item.key.name] = item

    def vanished(self, key: BindingKey) -> None:
        self.told.append(f"-{key.name}")

    def listed(self, source: str) -> None:
        self.told.append(f"listed {source}")

    def since(self) -> list[str]:
        """What it was told since it was last asked."""
        told, self.told = self.told, []
        return told


def put(path: Path, *names: str, job: str = "web") -> None:
    path.write_text(json.dumps({"kind": "List", "items": [manifest(name=name, job=job) for name in names]}))


def key(name: str) -> BindingKey:
    return BindingKey("files", "default", name)


def test_a_file_is_delivered_changed_and_taken_out(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one")
    put(tmp_path / "b.yaml", "two")
    source.scan(engine)
    assert engine.since() == ["+one", "+two", "listed files"]
    source.scan(engine)
    assert engine.since() == []
    put(tmp_path / "a.yaml", "one", job="mew")
    source.scan(engine)
    assert engine.since() == ["+one"]
    (tmp_path / "a.yaml").unlink()
    source.scan(engine)
    assert engine.since() == ["-one"]
    assert source.proves_absent(key("one"))


def test_a_rewritten_file_with_the_same_time_and_size_is_noticed_while_it_is_young(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    path = tmp_path / "a.yaml"
    put(path, "one", job="web")
    info = path.stat()
    source.scan(engine)
    put(path, "one", job="wob")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    source.scan(engine)
    assert engine.items["one"].binding is not None
    assert engine.items["one"].binding.spec.workload.job == "wob"


def test_a_file_that_is_only_touched_changes_nothing(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one")
    source.scan(engine)
    engine.since()
    os.utime(tmp_path / "a.yaml", ns=(1, 1))
    source.scan(engine)
    assert engine.since() == []


def test_the_link_of_a_mounted_config_map_is_followed_when_it_is_swapped(tmp_path: Path) -> None:
    """A ConfigMap's volume: `a.yaml` leads to `..data/a.yaml`, and `..data` to a directory that is replaced."""
    for number, names in (("1", ["one", "two"]), ("2", ["two", "three"])):
        (tmp_path / f"..{number}").mkdir()
        put(tmp_path / f"..{number}" / "a.yaml", *names)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    engine, source = Engine(), FilesSource([str(tmp_path)])
    source.scan(engine)
    assert engine.since() == ["+one", "+two", "listed files"]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    source.scan(engine)
    assert engine.since() == ["+three", "-one"]


def test_a_directory_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap of a link between two files must not show half of each tree."""
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        put(tmp_path / number / "a.yaml", f"a{number}")
        put(tmp_path / number / "b.yaml", f"b{number}")
    link = tmp_path / "now"
    link.symlink_to("1")
    swapped: list[bool] = []
    read: Callable[[bytes, str, str, str | None], FileState] = watching.read_state

    def read_and_swap(data: bytes, path: str, namespace: str, tenant: str | None) -> FileState:
        if not swapped:
            swapped.append(True)
            link.unlink()
            link.symlink_to("2")
        return read(data, path, namespace, tenant)

    monkeypatch.setattr(watching, "read_state", read_and_swap)
    engine = Engine()
    FilesSource([str(link)]).scan(engine)
    assert engine.since() == ["+a2", "+b2", "listed files"]


def test_a_missing_directory_concludes_nothing_and_is_an_error_once(tmp_path: Path) -> None:
    place = tmp_path / "bindings"
    place.mkdir()
    put(place / "a.yaml", "one")
    engine, source = Engine(), FilesSource([str(place)])
    source.scan(engine)
    engine.since()
    place.rename(tmp_path / "away")
    with structlog.testing.capture_logs() as logs:
        source.scan(engine)
        source.scan(engine)
    assert engine.since() == []
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "no such file or directory" in logs[0]["event"]
    assert not source.proves_absent(key("one"))
    (tmp_path / "away").rename(place)
    source.scan(engine)
    assert engine.since() == []


def test_an_emptied_directory_deletes_nothing_until_it_is_confirmed(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one")
    source.scan(engine)
    engine.since()
    (tmp_path / "a.yaml").unlink()
    with structlog.testing.capture_logs() as logs:
        source.scan(engine)
        source.scan(engine)
    assert engine.since() == []
    assert [(entry["log_level"], "default/one" in entry["event"]) for entry in logs] == [("error", True)]
    assert not source.proves_absent(key("one"))
    (tmp_path / ".secretbinding-confirm-removal").write_text("default/one\n")
    source.scan(engine)
    assert engine.since() == ["-one"]


def test_a_broken_file_is_logged_with_its_place_and_mended_again(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one")
    source.scan(engine)
    engine.since()
    (tmp_path / "a.yaml").write_text("kind: [")
    with structlog.testing.capture_logs() as logs:
        source.scan(engine)
        source.scan(engine)
    assert engine.since() == ["?one"]
    assert [entry["problem"].startswith(f"{tmp_path}/a.yaml:") for entry in logs] == [True]
    put(tmp_path / "a.yaml", "one")
    source.scan(engine)
    assert engine.since() == ["+one"]


def test_the_first_listing_is_complete_only_when_every_file_can_be_told_apart(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one")
    (tmp_path / "b.yaml").write_text("kind: [")
    source.scan(engine)
    assert engine.since() == ["+one"]
    (tmp_path / "b.yaml").unlink()
    source.scan(engine)
    assert engine.since() == ["listed files"]


def test_what_this_process_never_saw_is_not_taken_for_deleted_unless_it_is_named(tmp_path: Path) -> None:
    """After a restart, a binding that another file of the same instance was applied from looks the same."""
    put(tmp_path / "a.yaml", "one")
    engine, source = Engine(), FilesSource([str(tmp_path)])
    source.scan(engine)
    with structlog.testing.capture_logs() as logs:
        assert not source.proves_absent(key("stranger"))
        assert not source.proves_absent(key("stranger"))
    assert [(entry["log_level"], entry["binding"]) for entry in logs] == [("warning", "default/stranger")]
    (tmp_path / ".secretbinding-confirm-removal").write_text("*")
    source.scan(engine)
    assert source.proves_absent(key("stranger"))
    assert not source.proves_absent(key("one"))


def test_several_paths_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    put(tmp_path / "dir" / "a.yaml", "one")
    put(tmp_path / "single", "two")
    engine = Engine()
    FilesSource([str(tmp_path / "dir"), str(tmp_path / "single")]).scan(engine)
    assert sorted(engine.since()) == ["+one", "+two", "listed files"]


def test_links_in_a_circle_and_a_second_way_to_a_directory_count_once(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    put(tmp_path / "v1" / "a.yaml", "one")
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "v1" / "up").symlink_to("..")
    assert list(files_below(str(tmp_path))) == [str(tmp_path / "current" / "a.yaml")]


def test_a_named_pipe_in_the_directory_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert files_below(str(tmp_path)) == {}


def test_a_thread_of_its_own_delivers_until_it_is_stopped(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)], interval_seconds=0.02)
    put(tmp_path / "a.yaml", "one")
    source.start(engine)
    wait_until("the first delivery", lambda: "listed files" in engine.told)
    put(tmp_path / "b.yaml", "two")
    wait_until("the second", lambda: "+two" in engine.told)
    assert source.healthy(time.monotonic()) == ""
    assert "could not be listed" in source.healthy(time.monotonic() + 3600)
    source.stop()
    put(tmp_path / "c.yaml", "three")
    assert "+three" not in engine.told


def test_transitions_go_to_the_log_a_line_each(tmp_path: Path) -> None:
    source = FilesSource([str(tmp_path)])
    transitions = [Transition("Warning", Reason.JOB_NOT_FOUND, "no job"), Transition("Normal", Reason.READY, "")]
    with structlog.testing.capture_logs() as logs:
        source.report(key("one"), SecretBindingStatus(), transitions)
    assert logs == [
        {"event": "JobNotFound", "log_level": "warning", "binding": "default/one", "message": "no job"},
        {"event": "Ready", "log_level": "info", "binding": "default/one"},
    ]


def test_loading_keys_a_binding_as_its_source_does(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps({**manifest(name="one"), "metadata": {"name": "one", "namespace": "team"}}))
    assert load([str(path)])[0].item.key == BindingKey("files", "team", "one")
    assert load([str(path)], source="kubernetes")[0].item.key == BindingKey("kubernetes", "team", "one")
    put(path, "one")
    found = load([str(path)], source="nomad", nomad_namespace="payments")[0].item
    assert found.key == BindingKey("nomad", "default", "one"), "the Nomad namespace of its job"
    assert load([str(path)], nomad_namespace="payments")[0].item.nomad_namespace == "payments"


def test_what_is_missing_and_not_taken_for_gone_is_told(tmp_path: Path) -> None:
    engine, source = Engine(), FilesSource([str(tmp_path)])
    put(tmp_path / "a.yaml", "one", "two", "three")
    source.scan(engine)
    before = source.pulse()
    assert before.held == 0
    (tmp_path / "a.yaml").unlink()
    source.scan(engine)
    assert source.pulse().held == 3
    assert source.pulse().heard >= before.heard
    put(tmp_path / "a.yaml", "one", "two", "three")
    source.scan(engine)
    assert source.pulse().held == 0
