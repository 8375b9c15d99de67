"""A manifest's tenant is that of its place, whatever it says of itself."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import structlog.testing

from secretbinding.models.key import BindingKey
from secretbinding.sources.files import FilesSource, Tenants, watching
from secretbinding.sources.files.listing import Place, listing, read_inside
from tests.support.builders import manifest
from tests.unit.sources.test_files_source import Engine


def put(path: Path, name: str, namespace: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = manifest(name=name, job="web")
    if namespace is not None:
        made["metadata"]["namespace"] = namespace
    path.write_text(json.dumps(made))


def keys(engine: Engine) -> list[str]:
    return sorted(f"{item.key.tenant}/{item.key.name}" for item in engine.items.values())


def test_the_tenant_of_a_directory_is_the_one_that_was_configured(tmp_path: Path) -> None:
    put(tmp_path / "pay" / "a.yaml", "one")
    put(tmp_path / "pay" / "deeper" / "b.yaml", "two", "payments")
    put(tmp_path / "bill" / "c.yaml", "three")
    paths = [("payments", str(tmp_path / "pay")), ("", str(tmp_path / "bill"))]
    engine = Engine()
    FilesSource([path for _, path in paths], tenants=Tenants(paths)).scan(engine)
    assert keys(engine) == ["default/three", "payments/one", "payments/two"]


def test_each_directory_can_be_its_own_tenant_and_what_lies_beside_them_is_nobodys(tmp_path: Path) -> None:
    put(tmp_path / "payments" / "a.yaml", "one")
    put(tmp_path / "billing" / "x" / "b.yaml", "two")
    put(tmp_path / "stray.yaml", "stray")
    paths = [("*", str(tmp_path))]
    engine = Engine()
    FilesSource([str(tmp_path)], tenants=Tenants(paths)).scan(engine)
    assert keys(engine) == ["billing/two", "payments/one"]
    assert "listed files" in engine.told


@pytest.mark.parametrize("name", ["one", "other"])
def test_a_manifest_that_names_another_tenant_is_none_of_that_tenants(tmp_path: Path, name: str) -> None:
    put(tmp_path / "payments" / "a.yaml", "one")
    put(tmp_path / "billing" / "b.yaml", name, "payments")
    engine = Engine()
    FilesSource([str(tmp_path)], tenants=Tenants([("*", str(tmp_path))])).scan(engine)
    items = {f"{item.key.tenant}/{item.key.name}": item for item in engine.items.values()}
    assert items.get("payments/one") is not None or name == "one"
    (problem,) = next(item for item in engine.items.values() if item.key.tenant == "billing").problems
    assert "what is in this place is of tenant billing" in problem.message


def test_a_broken_manifest_cannot_hold_the_binding_of_another_tenant(tmp_path: Path) -> None:
    put(tmp_path / "payments" / "a.yaml", "one")
    source, engine = FilesSource([str(tmp_path)], tenants=Tenants([("*", str(tmp_path))])), Engine()
    source.scan(engine)
    (tmp_path / "billing").mkdir()
    broken = manifest(name="one", job="web")
    broken["metadata"]["namespace"] = "payments"
    broken["spec"]["suspend"] = "yes"
    (tmp_path / "billing" / "b.yaml").write_text(json.dumps(broken))
    (tmp_path / "payments" / "a.yaml").unlink()
    put(tmp_path / "payments" / "c.yaml", "three")
    engine.since()
    source.scan(engine)
    assert sorted(engine.since()) == ["+three", "-one", "?one"]


def test_with_open_tenancy_a_manifest_may_name_its_own(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "one", "payments")
    put(tmp_path / "b" / "b.yaml", "two", "billing")
    paths = [("", str(tmp_path)), ("money", str(tmp_path / "b"))]
    tenants = Tenants(paths, trusting=True)
    assert tenants.of(str(tmp_path / "a.yaml")) is None
    assert tenants.of(str(tmp_path / "b" / "b.yaml")) == "money"


def of_each(tmp_path: Path, *more: tuple[str, Path]) -> FilesSource:
    """Each directory of the path is its own tenant, besides those that are named."""
    paths = [("*", str(tmp_path)), *((tenant, str(path)) for tenant, path in more)]
    return FilesSource([path for _, path in paths], tenants=Tenants(paths))


def scanned(source: FilesSource, engine: Engine) -> tuple[list[str], str]:
    """What the engine was told by one more scan, and all that was logged."""
    engine.since()
    with structlog.testing.capture_logs() as logs:
        source.scan(engine)
    return sorted(engine.since()), "\n".join(str(entry) for entry in logs)


@pytest.mark.parametrize("target", ["../victim", "../victim/b.yaml", ".."])
def test_a_link_into_another_tenants_directory_takes_nothing_from_it(tmp_path: Path, target: str) -> None:
    put(tmp_path / "attacker" / "a.yaml", "own")
    put(tmp_path / "victim" / "b.yaml", "theirs")
    source, engine = of_each(tmp_path), Engine()
    source.scan(engine)
    (tmp_path / "attacker" / ("0.yaml" if target.endswith(".yaml") else "0")).symlink_to(target)
    told, logged = scanned(source, engine)
    assert told == []
    assert "link out of the directory of its tenant" in logged
    assert "theirs" not in logged
    put(tmp_path / "victim" / "c.yaml", "another")
    (tmp_path / "victim" / "b.yaml").unlink()
    assert scanned(source, engine)[0] == ["+another", "-theirs"]
    assert keys(engine) == ["attacker/own", "victim/another", "victim/theirs"]


def test_a_file_that_a_link_leads_to_outside_is_never_read(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kind: canary-kind\nmetadata: {name: canary-name}\n")
    put(tmp_path / "bindings" / "pay" / "a.yaml", "one")
    (tmp_path / "bindings" / "pay" / "b.yaml").symlink_to(kept)
    told, logged = scanned(of_each(tmp_path / "bindings"), Engine())
    assert told == ["+one"]
    assert "link out of the directory" in logged
    assert "canary" not in logged


@pytest.mark.parametrize("swap", ["file", "directory", "pipe"])
def test_a_link_that_is_put_there_between_listing_and_reading_is_not_followed(tmp_path: Path, swap: str) -> None:
    put(tmp_path / "secret" / "a.yaml", "canary")
    put(tmp_path / "all" / "pay" / "x" / "a.yaml", "one")
    path = tmp_path / "all" / "pay" / "x" / "a.yaml"
    place = listing([str(tmp_path / "all")], Tenants([("*", str(tmp_path / "all"))]))[str(path)]
    assert b"one" in read_inside(place, limit=9999)
    path.unlink()
    if swap == "file":
        path.symlink_to(tmp_path / "secret" / "a.yaml")
    elif swap == "pipe":
        os.mkfifo(path)
    else:
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=r"Not a directory|levels of symbolic links|no regular file"):
        read_inside(place, limit=9999)


def test_links_that_stay_in_the_tenants_directory_are_followed_as_those_of_a_mounted_config_map(tmp_path: Path) -> None:
    place = tmp_path / "pay"
    put(place / "..2026" / "a.yaml", "one")
    (place / "..data").symlink_to("..2026")
    (place / "a.yaml").symlink_to("..data/a.yaml")
    # Keys with a folder: the mount itself has links for the tenants.
    put(tmp_path / "..2027" / "bill" / "b.yaml", "two")
    (tmp_path / "..data").symlink_to("..2027")
    (tmp_path / "bill").symlink_to("..data/bill")
    engine = Engine()
    of_each(tmp_path).scan(engine)
    assert keys(engine) == ["bill/two", "pay/one"]


@pytest.mark.parametrize("target", ["elsewhere", "bindings/real", "bindings/real/deeper", "bindings", "nowhere"])
def test_a_tenants_directory_is_none_that_is_a_link_out_or_to_anothers(tmp_path: Path, target: str) -> None:
    put(tmp_path / "elsewhere" / "a.yaml", "outside")
    put(tmp_path / "bindings" / "real" / "deeper" / "b.yaml", "one")
    (tmp_path / "bindings" / "false").symlink_to(tmp_path / target)
    source, engine = of_each(tmp_path / "bindings"), Engine()
    told, logged = scanned(source, engine)
    assert told == ["+one", "listed files"]
    assert "/false" in logged
    assert keys(engine) == ["real/one"]
    assert not source.proves_absent(BindingKey("files", "false", "outside"))


def test_a_directory_that_is_configured_for_a_tenant_may_be_a_link_and_is_no_other_tenants(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.yaml", "one")
    (tmp_path / "link").symlink_to("elsewhere")
    put(tmp_path / "all" / "pay" / "b.yaml", "two")
    (tmp_path / "all" / "pay" / "c").symlink_to(tmp_path / "elsewhere")
    engine = Engine()
    of_each(tmp_path / "all", ("money", tmp_path / "link"), ("gold", tmp_path / "all" / "gold")).scan(engine)
    put(tmp_path / "all" / "gold" / "g.yaml", "three")
    of_each(tmp_path / "all", ("money", tmp_path / "link"), ("gold", tmp_path / "all" / "gold")).scan(engine)
    assert keys(engine) == ["gold/three", "money/one", "pay/two"]


DEEP = 1200


def obstruct(place: Path, how: str) -> None:
    if how == "dangling":
        (place / "z.yaml").symlink_to("nowhere")
    elif how == "circle":
        (place / "z").symlink_to("z")
    elif how == "no text":
        (place / "z.yaml").write_bytes(b"\xff: [")
    elif how == "nameless":
        (place / "z.yaml").write_text("kind: SecretBinding")
    else:
        for depth in range(1, DEEP + 1):
            os.mkdir(place / ("d/" * depth))


@pytest.mark.parametrize("how", ["dangling", "circle", "no text", "nameless", "deep"])
def test_what_a_tenant_puts_in_its_directory_holds_nothing_of_another(
    tmp_path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    put(tmp_path / "hostile" / "a.yaml", "own")
    put(tmp_path / "pay" / "b.yaml", "one")
    source, engine = of_each(tmp_path), Engine()
    if how == "deep":
        # What clears up after tests goes down by recursion, and is spared that.
        for depth in range(1, DEEP + 1):
            request.addfinalizer(partial(os.rmdir, tmp_path / "hostile" / ("d/" * depth)))
    obstruct(tmp_path / "hostile", how)
    source.scan(engine)
    assert sorted(engine.since()) == ["+one", "+own", "listed files"]
    (tmp_path / "pay" / "b.yaml").unlink()
    put(tmp_path / "pay" / "c.yaml", "two")
    (tmp_path / "hostile" / "a.yaml").unlink()
    told, _ = scanned(source, engine)
    if how == "deep":
        assert told == ["+two", "-one", "-own"], "a deep directory is no obstacle"
    else:
        assert told == ["+two", "-one"], "its own is held"
    assert source.proves_absent(BindingKey("files", "pay", "one"))
    assert source.proves_absent(BindingKey("files", "hostile", "own")) == (how == "deep")


def test_a_tenant_whose_files_never_keep_still_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "hostile" / "a.yaml", "own")
    put(tmp_path / "pay" / "b.yaml", "one")
    source, engine = of_each(tmp_path), Engine()
    source.scan(engine)
    read = watching.read_inside
    turns = iter(range(9999))

    def read_while_it_changes(place: Place, *, limit: int) -> bytes:
        put(tmp_path / "hostile" / "a.yaml", f"own{next(turns)}")
        os.utime(tmp_path / "hostile" / "a.yaml", ns=(1, next(turns)))
        return read(place, limit=limit)

    monkeypatch.setattr(watching, "read_inside", read_while_it_changes)
    put(tmp_path / "pay" / "c.yaml", "two")
    (tmp_path / "pay" / "b.yaml").unlink()
    told, logged = scanned(source, engine)
    assert told == ["+two", "-one", "?own"]
    assert "keep changing" in logged


def test_a_tenant_that_loses_many_bindings_holds_no_deletion_of_another(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / "hostile" / f"{number}.yaml", f"own{number}")
    put(tmp_path / "pay" / "a.yaml", "one")
    put(tmp_path / "pay" / "b.yaml", "two")
    source, engine = of_each(tmp_path), Engine()
    source.scan(engine)
    for number in range(5):
        (tmp_path / "hostile" / f"{number}.yaml").unlink()
    (tmp_path / "pay" / "b.yaml").unlink()
    told, logged = scanned(source, engine)
    assert told == ["-two"]
    assert "5 of 5 bindings are gone at once" in logged


def test_a_tenant_confirms_the_removal_of_nothing_but_its_own(tmp_path: Path) -> None:
    paths = [("pay", str(tmp_path / "pay")), ("bill", str(tmp_path / "bill"))]
    put(tmp_path / "pay" / "a.yaml", "one")
    put(tmp_path / "bill" / "b.yaml", "two")
    (tmp_path / "pay" / ".secretbinding-confirm-removal").write_text("*\nbill/three\n")
    os.mkfifo(tmp_path / "bill" / ".secretbinding-confirm-removal")
    source, engine = FilesSource([path for _, path in paths], tenants=Tenants(paths)), Engine()
    source.scan(engine)
    assert source.proves_absent(BindingKey("files", "pay", "three"))
    assert not source.proves_absent(BindingKey("files", "bill", "three"))


def test_a_files_name_writes_no_line_of_its_own_and_nothing_that_is_no_text(tmp_path: Path) -> None:
    put(tmp_path / "pay" / "a.yaml", "one")
    for content in ("kind: [", "kind: SecretBinding"):
        (tmp_path / "pay" / os.fsdecode(b"\xff\nAlert: x" + content[-1].encode() + b".yaml")).write_text(content)
    (tmp_path / "pay" / os.fsdecode(b"\xff\nAlert: link.yaml")).symlink_to("nowhere")
    _, logged = scanned(of_each(tmp_path), Engine())
    assert "Alert: x" in logged
    assert "\nAlert" not in logged
    logged.encode()
