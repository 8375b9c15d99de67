"""Base and overlays of kustomize: the chart's own objects, valid whatever an overlay changes."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import kubernetes_validate.utils
import pytest
import yaml

from tests.chart.rendering import PROJECT, Json

KUSTOMIZE = PROJECT / "deploy" / "kustomize"
KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no `kubectl`: nothing builds the overlays")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", KUSTOMIZE / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(place: str) -> list[Json]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(KUSTOMIZE / place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return list(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def controller(objects: list[Json]) -> Json:
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    return deployment


def env(objects: list[Json]) -> dict[str, str]:
    container = controller(objects)["spec"]["template"]["spec"]["containers"][0]
    return {row["name"]: row["value"] for row in container["env"]}


def test_the_base_is_what_the_chart_makes_and_holds_no_key() -> None:
    text = (KUSTOMIZE / "base" / "controller.yaml").read_text()
    assert text == generator().rendered(), "run `make kustomize`"
    assert "kind: Secret\n" not in text
    assert "PRIVATE" not in text


@pytest.mark.parametrize("place", ["base", *(f"overlays/{path.name}" for path in (KUSTOMIZE / "overlays").iterdir())])
def test_each_is_built_into_valid_objects_of_one_namespace(place: str) -> None:
    objects = built(place)
    for one in objects:
        if one["kind"] != "CustomResourceDefinition":
            kubernetes_validate.utils.validate(one, "1.33.1", strict=True)
        assert one["metadata"].get("namespace", "secretbinding") == "secretbinding"
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert len(names) == len(objects)
    assert ("CustomResourceDefinition", "secretbindings.nomad-vault.io") in names
    assert ("Namespace", "secretbinding") in names


def test_production_has_two_of_an_image_of_its_own_at_its_own_servers() -> None:
    objects = built("overlays/production")
    deployment = controller(objects)
    assert deployment["spec"]["replicas"] == 2
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example.com/platform/secretbinding:0.1.0"
    mounted = Path(env(objects)["NOMAD_TOKEN_FILE"]).parent
    assert str(mounted) in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert env(objects)["VAULT_ADDR"] == "https://vault.internal:8200"
    assert env(objects)["SECRETBINDING_ELECTION"] == "kubernetes", "two that do not agree would both work"


def test_only_the_one_for_one_team_opens_everything() -> None:
    assert {place: env(built(place))["SECRETBINDING_TENANCY"] for place in ("base", "overlays/production")} == {
        "base": "policies",
        "overlays/production": "policies",
    }
    assert env(built("overlays/one-team"))["SECRETBINDING_TENANCY"] == "open"
