"""Writes `base/controller.yaml`: the chart, rendered by Helm's own engine, without what only Helm has a use for.

python deploy/kustomize/render.py deploy/kustomize/base/controller.yaml
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).parents[2] / "charts" / "secretbinding"
NAMESPACE = "secretbinding"
VALUES: dict[str, Any] = {
    "vault": {"address": "https://vault.example.com:8200"},
    "nomad": {"address": "https://nomad.example.com:4646"},
    # So that an overlay needs to say no more than `replicas`.
    "election": {"enabled": True},
    "crds": {"enabled": False},
    # Its certificate would be a key in this file: the chart, or cert-manager, has the webhook.
    "webhook": {"enabled": False},
}
_OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")
_HEAD = "# Made from the chart by `make kustomize`: change overlays, not this file.\n"


def rendered() -> str:
    """The objects as one text."""
    texts = Chart.load(CHART).render(VALUES, name="secretbinding", namespace=NAMESPACE)
    made = [found for path, text in sorted(dict(texts).items()) if path.endswith(".yaml") for found in _objects(text)]
    return _HEAD + yaml.safe_dump_all(made, sort_keys=False, width=120)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for found in yaml.safe_load_all(text):
        annotations = (found or {}).get("metadata", {}).get("annotations") or {}
        if found and not any(name.startswith("helm.sh/hook") for name in annotations):
            _plain(found)
            yield found


def _plain(value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _plain(each)
    elif isinstance(value, dict):
        for name in _OF_HELM:
            value.pop(name, None)
        for each in value.values():
            _plain(each)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rendered(), encoding="utf-8")
