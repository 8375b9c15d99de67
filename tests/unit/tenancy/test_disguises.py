"""No text leads to another secret than the one that the policies were asked about."""

import copy
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.tenancy import Target, patterns, suggested
from secretbinding.tenancy.calls import plain_path
from secretbinding.tenancy.patterns import KV_API
from tests.support.fuzzing import cases
from tests.unit.tenancy.builders import API, PAYMENTS, Json, binding, judged, kv, policy, templated, told

WORDS = sorted(KV_API)
# What means something in a URL, among names.
_PIECES = st.sampled_from(
    [*"/:?#@%;&[]=.\\ ", "//", "%2f", "%3A", "x", "http", "secret", "data", "pay-x", "é", "list=true"]
)
WRITTEN = st.lists(_PIECES, min_size=1, max_size=9).map("".join)
ANYTHING = policy(secrets=[{"kinds": ["kv", "generic", "database", "pki"], "mounts": ["*"], "paths": ["*"]}])


@settings(max_examples=cases(400), deadline=None)
@given(st.one_of(WRITTEN, st.text(max_size=20)))
def test_a_path_that_a_template_asks_for_is_the_one_that_is_judged(written: str) -> None:
    judged_path = plain_path(written)
    if judged_path is None:
        return
    url = urlsplit(written.strip().strip("/"))
    assert (url.scheme, url.netloc, url.fragment) == ("", "", "")
    assert url.path == judged_path
    assert url.query == "" or url.query.startswith("version=")


@pytest.mark.parametrize(
    "written",
    [
        "pay-x:/database/creds/admin",
        "x:secret/data/admin/root",
        "secret:x@secret/data/admin",
        "//host/secret/data/admin",
        "secret/%64ata/admin",
        "secret/data/admin#x",
        "secret/data/admin?list=true",
        "secret/data/payments/app?list=true",
        "//secret/data/payments/app",
    ],
)
def test_a_path_that_is_read_as_a_url_has_to_be_named_as_a_computed_one(written: str) -> None:
    bound = templated(f'{{{{ with secret "{written}" }}}}{{{{ .Data.a }}}}{{{{ end }}}}')
    assert "templates that call secret" in told(judged(bound, ANYTHING))
    named = policy(secrets=[{"mounts": ["*"], "paths": ["*"]}], templates={"functions": ["secret"]})
    assert judged(bound, named).allowed


@pytest.mark.parametrize("path", ["data/victim/app", "a/data/x", "victim/app"])
@pytest.mark.parametrize("mount", ["secret", "secret/data", "a"])
def test_a_suggested_rule_means_no_other_secret_with_another_engine_of_kv(path: str, mount: str) -> None:
    for word in WORDS:
        manifest = kv(path.replace("data", word), mount=mount.replace("data", word), engine="v2")
        rule = suggested(PAYMENTS, binding(manifest), API).policy
        if rule is None:
            continue
        other = copy.deepcopy(manifest)
        other["kv"]["engine"] = "v1"
        joined = f"{manifest['kv']['mount']}/{manifest['kv']['path']}"
        assert not judged(binding(other), rule).allowed or KV_API.isdisjoint(joined.split("/"))


def test_what_is_left_out_of_a_suggestion_says_what_to_do() -> None:
    found = suggested(PAYMENTS, binding(kv("data/victim/app", engine="v2")), API)
    assert found.policy is None
    assert "name the secret otherwise" in found.text


def test_nor_does_one_for_what_a_template_reads() -> None:
    bound = templated('{{ with secret "secret/data/data/victim/app" }}{{ .Data.data.a }}{{ end }}')
    rule = suggested(PAYMENTS, bound, API).policy
    assert rule is not None
    assert judged(bound, rule).allowed
    assert not judged(binding(kv("data/victim/app", engine="v1")), rule).allowed


@pytest.mark.parametrize("pattern", ["*", "sec*", "secret/*", "*/*", "secret/{{tenant}}", "secret/{{tenant}}/*"])
@pytest.mark.parametrize("word", WORDS)
def test_no_wildcard_for_mounts_reaches_into_the_api_of_a_kv_engine(pattern: str, word: str) -> None:
    mount = f"secret/{word}/other"
    tenant = type(PAYMENTS)("kubernetes", word)
    entries: list[Json] = [
        {"kv": {"mount": mount, "path": f"{word}/app", "engine": "v1"}},
        {"kv": {"mount": mount, "path": f"{word}/app"}},
        {"generic": {"mount": mount, "path": "pay/app"}},
        {"database": {"mount": mount, "role": "pay-x"}},
    ]
    kinds = ["kv", "generic", "database"]
    rule = policy(secrets=[{"kinds": kinds, "mounts": [pattern], "paths": ["*"]}])
    for entry in entries:
        bound = binding({"name": "app", **entry, "env": {"A": "a"}})
        assert not judged(bound, rule, tenant=tenant, target=Target(word, "api")).allowed


def test_nor_by_what_a_template_reads() -> None:
    bound = templated('{{ with secret "secret/data/other/payments/app" }}{{ .Data.data.a }}{{ end }}')
    rule = policy(secrets=[{"kinds": ["kv", "generic"], "mounts": ["*"], "paths": ["{{tenant}}/*"]}])
    assert not judged(bound, rule).allowed


@settings(max_examples=cases(200), deadline=None)
@given(
    st.lists(st.sampled_from([*WORDS, "a", "secret"]), min_size=1, max_size=4).map("/".join),
    st.lists(st.sampled_from(["*", "{{tenant}}", "a", "secret", "data", "da*"]), min_size=1, max_size=4).map("/".join),
    st.sampled_from([*WORDS, "a"]),
)
def test_a_word_of_that_api_in_a_mount_is_written_in_the_pattern(mount: str, pattern: str, tenant: str) -> None:
    if patterns.matches_mount([pattern], mount, tenant):
        assert KV_API.intersection(mount.split("/")[1:]) <= set(pattern.split("/"))


def test_a_mount_of_such_a_name_can_be_written() -> None:
    bound = binding({"name": "app", "kv": {"mount": "team/data", "path": "payments/app"}, "env": {"A": "a"}})
    assert judged(bound, policy(secrets=[{"mounts": ["team/data"], "paths": ["{{tenant}}/*"]}])).allowed
    assert judged(bound, policy(secrets=[{"mounts": ["*/data"], "paths": ["{{tenant}}/*"]}])).allowed
