"""What is read of a custom resource, and what is not read again."""

from copy import deepcopy
from typing import Any

import pytest

from secretbinding.sources.kubernetes.items import item_of, sight_of
from tests.support.kubernetes import a_binding


def an_object(**metadata: Any) -> dict[str, Any]:
    found = a_binding("team", "web")
    found["metadata"] |= {"uid": "one", "resourceVersion": "5", "generation": 1, **metadata}
    return found


def seen(obj: dict[str, Any]) -> Any:
    return sight_of(obj, 0.0, item_of(obj, "default"))


def test_a_spec_of_the_same_generation_is_not_read_again() -> None:
    sight = seen(an_object())
    again = item_of(an_object(resourceVersion="6", finalizers=["x"]), "default", sight)
    assert again.binding is sight.binding


@pytest.mark.parametrize(
    "metadata", [{"generation": 2}, {"uid": "other"}, {"labels": {"a": "b"}}, {"annotations": {"a": "b"}}]
)
def test_another_object_or_whatever_changes_the_binding_is_read(metadata: dict[str, Any]) -> None:
    sight = seen(an_object())
    changed = an_object(**metadata)
    changed["spec"]["workload"]["job"] = "other"
    read = item_of(changed, "default", sight)
    assert read.binding is not None
    assert read.binding.spec.workload.job == "other"
    assert read == item_of(changed, "default")


def test_without_a_generation_nothing_is_taken_for_known() -> None:
    plain = an_object(generation=0)
    changed = deepcopy(plain)
    changed["spec"]["workload"]["job"] = "other"
    read = item_of(changed, "default", seen(plain))
    assert read.binding is not None
    assert read.binding.spec.workload.job == "other"
