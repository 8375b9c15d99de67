"""The controller's rights: one list, the policies made from it, and what must never be in them."""

import itertools
import re
from pathlib import Path

import pytest

from secretbinding.errors import UsageError
from secretbinding.ops.engines import ENGINES
from secretbinding.ops.rights import (
    Mount,
    Scope,
    nomad_policy,
    read_mark,
    vault_excess,
    vault_policy,
    vault_rights,
)
from secretbinding.ops.shipped import files

# Every kind of engine, with all that can be asked for.
EVERYTHING = Scope(
    mounts=tuple(Mount(kind, f"mount-{kind}", bool(engine.makes)) for kind, engine in ENGINES.items()),
    nomad_variables=("nomad/jobs/*",),
)
DEPLOY = Path(__file__).parents[3] / "deploy"


def paths_of(text: str) -> dict[str, set[str]]:
    found = re.findall(r'^path "([^"]+)" \{\n  capabilities = \[([^\]]*)\]', text, re.MULTILINE)
    return {path: set(re.findall(r'"([a-z]+)"', capabilities)) for path, capabilities in found}


def covers(pattern: str, path: str) -> bool:
    """As Vault matches: `*` at the end is anything, `+` one segment."""
    head = re.escape(pattern).replace(r"\+", "[^/]+").replace(r"\*", ".*")
    return re.fullmatch(head, path) is not None


@pytest.mark.parametrize("name", files())
def test_the_shipped_policies_are_made_from_the_list(name: str) -> None:
    assert (DEPLOY / name).read_text() == files()[name], "run `make policies`"


def test_every_kind_of_engine_is_in_the_shipped_policies() -> None:
    granted = {path for name in ("vault-policy.hcl", "vault-policy-engines.hcl") for path in paths_of(files()[name])}
    for kind, engine in ENGINES.items():
        mount = {"kv": "secret", "kv1": "kv"}.get(kind, kind)
        for line in (*engine.lines, *engine.makes):
            assert line.path.replace("{mount}", mount).replace("{prefix}", "nsb.default.") in granted, kind


def test_each_path_has_a_comment_of_its_own() -> None:
    lines = vault_policy(EVERYTHING).splitlines()
    for before, line in itertools.pairwise(lines):
        assert not line.startswith("path ") or before.startswith("# ")


def test_each_capability_in_nomad_has_a_comment_of_its_own() -> None:
    lines = nomad_policy(EVERYTHING).splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r'\s+("[a-z-]+",|path )', line):
            assert before.strip().startswith("# ")


def test_instance_mounts_and_namespaces_appear_where_they_belong() -> None:
    scope = Scope(
        instance="blue",
        jwt_mount="nomad/jwt",
        mounts=(Mount("kv", "kv"), Mount("kv", "team/kv"), Mount("pki", "ca", makes=True)),
        nomad_namespaces=("team-*", "default"),
    )
    assert set(paths_of(vault_policy(scope))) == {
        "sys/policies/acl/nsb.blue.*",
        "sys/policies/acl",
        "auth/nomad/jwt/role/nsb.blue.*",
        "sys/internal/ui/mounts/*",
        "kv/metadata/*",
        "kv/subkeys/*",
        "kv/detailed-metadata/*",
        "kv/config",
        "team/kv/metadata/*",
        "team/kv/subkeys/*",
        "team/kv/detailed-metadata/*",
        "team/kv/config",
        "ca/roles/*",
        "ca/roles/nsb.blue.*",
        "sys/mounts/ca/tune",
        "auth/token/lookup-self",
        "auth/token/renew-self",
        "auth/token/revoke-self",
        "sys/capabilities-self",
    }
    assert re.findall(r'^namespace "([^"]+)"', nomad_policy(scope), re.MULTILINE) == ["team-*", "default"]
    assert scope.name == "secretbinding-blue"


def test_every_probe_is_covered_by_its_own_path() -> None:
    for right in vault_rights(EVERYTHING):
        assert covers(right.path, right.probe), right


def test_no_path_gives_what_the_controller_must_not_have() -> None:
    granted = paths_of(vault_policy(EVERYTHING))
    for excess in vault_excess(EVERYTHING):
        for path, capabilities in granted.items():
            assert not (covers(path, excess.path) and capabilities & set(excess.capabilities)), (path, excess)


def test_the_controller_cannot_write_its_own_policy_or_role() -> None:
    scope = Scope(instance="blue")
    own = [f"sys/policies/acl/{scope.name}", f"auth/jwt-nomad/role/{scope.name}"]
    assert not any(covers(right.path, path) for right in vault_rights(scope) for path in own)


def test_the_mark_tells_the_instance_and_whether_the_text_was_edited() -> None:
    text = vault_policy(Scope(instance="blue"))
    mark = read_mark(text)
    assert mark is not None
    assert (mark.instance, mark.intact) == ("blue", True)
    edited = read_mark(text + 'path "x" {}\n')
    assert edited is not None
    assert (edited.instance, edited.intact) == ("blue", False)
    for foreign in ("", 'path "x" {}\n', "# secretbinding nonsense\n", '# secretbinding {"instance":"blue"}\n'):
        assert read_mark(foreign) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance": "Blue"},
        {"instance": "a.b"},
        {"jwt_mount": 'x"'},
        {"jwt_mount": ""},
        {"mounts": (Mount("kv", "a/../b"),)},
        {"mounts": (Mount("kv", "secret/"),)},
        {"mounts": (Mount("kv", "sec*"),)},
        {"mounts": (Mount("database", "a\nb"),)},
        {"mounts": (Mount("pki", "+"),)},
        {"mounts": (Mount("generic", "a"),)},
        {"mounts": (Mount("kv", "secret", makes=True),)},
        {"nomad_variables": ("a*b",)},
        {"nomad_variables": ('a"',)},
        {"nomad_namespaces": ('a"',)},
        {"nomad_namespaces": ()},
    ],
)
def test_what_must_not_stand_in_a_policy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Scope(**wrong)
