"""The pages for people say what the code does."""

import re
from pathlib import Path

import pytest
import yaml

from secretbinding.metrics.catalogue import CATALOGUE
from secretbinding.models.loading import parse_manifests
from secretbinding.models.policy_loading import parse_policies
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.ops.bootstrap import snippets
from secretbinding.ops.bootstrap.snippets import Surroundings
from secretbinding.ops.bootstrap.target import Target
from secretbinding.ops.doctor.checks import CHECKS
from secretbinding.settings import ControllerSettings

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("deploy/**/*.md")])


def table(page: Path) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.read_text(), re.MULTILINE))


def test_every_condition_and_reason_stands_on_its_page_with_its_meaning() -> None:
    meant = {word.value: word.meaning for kind in (ConditionType, Reason) for word in kind}
    assert table(ROOT / "deploy" / "reasons.md") == meant


def test_every_check_of_doctor_stands_on_its_page_with_what_is_well_then() -> None:
    found = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", (ROOT / "deploy" / "doctor.md").read_text(), re.MULTILINE)
    assert found == [(check.name, check.title) for check in CHECKS]


@pytest.mark.parametrize("block", ["client_block", "server_block", "older_block"])
def test_the_blocks_on_the_page_are_those_that_bootstrap_prints(block: str) -> None:
    target = Target(jwks_url="http://127.0.0.1:4646/.well-known/jwks.json")
    around = Surroundings("http://127.0.0.1:8200", "http://127.0.0.1:4646")
    texts = {
        "client_block": snippets.client_block(target, around),
        "server_block": snippets.server_block(),
        "older_block": snippets.older_block(around),
    }
    assert f"```hcl\n{texts[block]}```" in (ROOT / "deploy" / "bootstrap.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_manifests_on_the_pages_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        if "kind: SecretBindingPolicy" in block:
            assert parse_policies(block, file=page.name)
        elif "kind: SecretBinding" in block:
            assert parse_manifests(block, file=page.name)


def test_the_first_rule_on_the_page_is_the_shipped_one() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "policies" / "first-rule.yaml").read_text())
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy" / "tenancy.md").read_text(), re.DOTALL)
    assert shipped in [yaml.safe_load(block) for block in blocks]
    printed = snippets.first_rule(Target(jwks_url="http://127.0.0.1:4646/.well-known/jwks.json"))
    assert yaml.safe_load(printed.text) == shipped


def test_every_setting_of_tenancy_and_admission_stands_on_a_page() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    for name in ControllerSettings.model_fields:
        if name.startswith(("tenancy", "policy_", "label_", "admission_")):
            word = name.removeprefix("admission_").upper() if name.startswith("admission_") else name.upper()
            assert f"_{word}" in pages, name


def test_every_metric_stands_on_its_page_as_it_is_exposed() -> None:
    row = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| (.*?) \| (.*) \|$", re.MULTILINE)
    told = row.findall((ROOT / "deploy" / "metrics.md").read_text())
    exposed = [
        (metric.name, metric.kind.value, ", ".join(f"`{label}`" for label in metric.labels), metric.meaning)
        for metric in CATALOGUE
    ]
    assert told == exposed


def test_every_metric_that_the_pages_name_is_one_that_there_is() -> None:
    known = {metric.name for metric in CATALOGUE}
    for page in PAGES:
        named = set(re.findall(r"`(secretbinding_[a-z_]+)[`{]", page.read_text()))
        assert named <= known, page.name
