"""The corpus and random manifests, judged by the CRD alone, without a server: as the model judges them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.errors import ManifestError
from secretbinding.models.crd import crd
from secretbinding.models.loading import parse_object
from tests.corpus import Bad, Good, bad, good
from tests.support.crdcheck import Judge
from tests.unit.models.manifests import Json, manifests

JUDGE = Judge(crd())
# Values that are wrong in one field, right in another: both judges must say the same of each.
SWAPS: list[Any] = ["", "a/../b", "A B", "x", "0s", "90s", "0600", "JWT", "v1", "secrets/x", 0, 7, -1, True, [], {}]
SWAPS += [["read"], {"A": "b"}, {"A-B": "c"}, "é", "a\n", "*", "{{", "Agent", "AppRole", "Signal", "Native", "sys/x"]
SWAPS += ["auth/jwt", "team/sys", "a/identity/oidc/x", "creds/auth", " x", "x /y", "a\u00adb", "a\U000e0041"]


def model_accepts(manifest: Json) -> bool:
    try:
        parse_object(manifest, source="files")
    except ManifestError:
        return False
    return True


@pytest.mark.parametrize("manifest", good(), ids=lambda manifest: manifest.name)
def test_a_good_manifest_is_accepted(manifest: Good) -> None:
    assert [JUDGE.faults(obj) for obj in manifest.objects()] == [[]]


@pytest.mark.parametrize(
    "manifest", [one for one in bad() if one.server != "not asked"], ids=lambda manifest: manifest.name
)
def test_a_bad_manifest_is_judged_as_its_head_says(manifest: Bad) -> None:
    (obj,) = manifest.objects()
    assert bool(JUDGE.faults(obj)) == (manifest.server == "rejects")


@settings(max_examples=25, deadline=None)
@given(manifests())
def test_a_legal_manifest_is_accepted_whatever_it_holds(manifest: Json) -> None:
    assert JUDGE.faults(manifest) == []


@settings(max_examples=60, deadline=None)
@given(manifests(), st.data())
def test_what_the_crd_refuses_the_model_refuses_and_what_the_model_refuses_the_crd_does(
    manifest: Json, data: st.DataObject
) -> None:
    entry = data.draw(st.sampled_from(manifest["spec"]["secrets"]))
    holders = [
        manifest["spec"],
        manifest["spec"]["workload"],
        entry,
        *(v for v in entry.values() if isinstance(v, dict)),
        *manifest["spec"].get("rotation", {}).get("generate", []),
    ]
    holder = data.draw(st.sampled_from(holders))
    holder[data.draw(st.sampled_from([*holder, "engine", "changeMode", "delivery", "fields", "rotateRoot"]))] = (
        data.draw(st.sampled_from(SWAPS))
    )
    assert (JUDGE.faults(manifest) == []) == model_accepts(manifest)


def a_manifest(workload: Json, **spec: Any) -> Json:
    base = {
        "workload": {"job": "app"} | workload,
        "secrets": [{"name": "one", "kv": {"mount": "secret", "path": "app"}, "env": {"A": "a"}}],
    }
    head = {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "app"}}
    return head | {"spec": base | spec}


FULL: Json = {"namespace": "prod", "region": "eu"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (a_manifest(FULL), a_manifest(FULL | {"job": "other"})),
        (a_manifest(FULL), a_manifest(FULL | {"namespace": "test"})),
        (a_manifest(FULL), a_manifest({"namespace": "prod"})),
        (a_manifest({}), a_manifest({"region": "eu"})),
        (a_manifest({}), a_manifest({"namespace": "default"})),
        (a_manifest({}), a_manifest({}, connection="second")),
        (a_manifest({}, connection="second"), a_manifest({})),
    ],
)
def test_the_job_and_its_place_cannot_change_not_even_by_leaving_them_out(old: Json, new: Json) -> None:
    (fault,) = JUDGE.faults(new, old)
    assert "immutable; delete this SecretBinding and create another" in fault


def test_everything_else_can_change() -> None:
    groups = {"groups": [{"name": "api"}]}
    assert JUDGE.faults(a_manifest(FULL | groups, suspend=True), a_manifest(FULL)) == []
