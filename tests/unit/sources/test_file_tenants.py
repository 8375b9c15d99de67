"""A manifest's tenant is that of its place, whatever it says of itself."""

import json
from pathlib import Path

import pytest

from secretbinding.sources.files import FilesSource, Tenants
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
