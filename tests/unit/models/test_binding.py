"""The model as code uses it: construction, kinds, durations, identities."""

from typing import Any

import pytest
from pydantic import ValidationError

from secretbinding.models.binding import (
    Auth,
    Database,
    Generic,
    Kv,
    Metadata,
    Pki,
    SecretBinding,
    SecretEntry,
    Spec,
    Workload,
)
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.types import Duration


def an_entry(name: str = "one", **changes: Any) -> SecretEntry:
    values: dict[str, Any] = {"name": name, "kv": Kv(mount="secret", path="app"), "env": {name.upper(): "a"}} | changes
    return SecretEntry.model_validate(values)


def a_binding(*entries: SecretEntry) -> SecretBinding:
    return SecretBinding(metadata=Metadata(name="app"), spec=Spec(workload=Workload(job="app"), secrets=entries))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("kv", Kv(mount="secret", path="app")),
        ("database", Database(mount="database", role="app")),
        ("pki", Pki(mount="pki", role="web", common_name="a.example.com")),
        ("generic", Generic(mount="aws", path="creds/app")),
    ],
)
def test_an_entry_knows_its_kind(kind: str, value: object) -> None:
    changes: dict[str, Any] = {"kv": None, kind: value}
    entry = an_entry(**changes)
    assert (entry.kind_name, entry.source) == (kind, value)


def test_a_binding_built_in_code_obeys_the_rules_between_fields_too() -> None:
    with pytest.raises(ValidationError, match="none of env, envFrom, files is set"):
        an_entry(env=None)
    with pytest.raises(ValidationError, match="used twice"):
        a_binding(an_entry("one"), an_entry("one"))


def test_a_binding_cannot_be_changed() -> None:
    spec: Any = a_binding(an_entry()).spec
    with pytest.raises(ValidationError):
        spec.suspend = True


def test_snake_case_is_for_code_and_camel_case_for_manifests() -> None:
    auth = Auth(token_period=Duration("30m"))
    assert auth.to_json() == {"tokenPeriod": "30m"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0.0), ("250ms", 0.25), ("90s", 90.0), ("1h30m", 5400.0), ("1m1m", 120.0)]
)
def test_a_duration_keeps_its_text_and_tells_its_seconds(text: str, seconds: float) -> None:
    duration = Duration.parse(text)
    assert (duration, duration.seconds) == (text, seconds)


def test_keys_order_by_their_parts_and_read_as_paths() -> None:
    first, second = BindingKey("files", "a", "z"), BindingKey("files", "b", "a")
    assert first < second
    assert str(first) == "files/a/z"
    assert str(WorkloadKey("default", "", "prod", "shop/web")) == "default/prod/shop/web"
