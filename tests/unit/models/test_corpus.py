"""The corpus of manifests, judged by the model."""

import json

import pytest

from secretbinding.errors import ManifestError
from secretbinding.models.loading import parse_manifests
from tests.corpus import Bad, Good, bad, good


@pytest.mark.parametrize("manifest", good(), ids=lambda manifest: manifest.name)
def test_a_good_manifest_is_accepted(manifest: Good) -> None:
    assert parse_manifests(manifest.data, file=f"{manifest.name}.yaml")


@pytest.mark.parametrize("manifest", bad(), ids=lambda manifest: manifest.name)
def test_a_bad_manifest_gets_one_problem_that_names_file_line_field_and_remedy(manifest: Bad) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifests(manifest.data, file=f"{manifest.name}.yaml")
    (problem,) = caught.value.problems
    assert problem.file == f"{manifest.name}.yaml"
    assert problem.field == manifest.field
    assert manifest.message in f"{problem.message}; {problem.remedy}"
    assert problem.remedy
    assert problem.line > 0
    assert problem.line == manifest.line or not manifest.line


@pytest.mark.parametrize("manifest", good(), ids=lambda manifest: manifest.name)
def test_a_good_manifest_that_is_written_out_and_read_again_is_the_same(manifest: Good) -> None:
    for binding in parse_manifests(manifest.data):
        (again,) = parse_manifests(json.dumps(binding.to_manifest()))
        assert again == binding
