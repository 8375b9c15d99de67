"""`validate`: good manifests are named, bad ones get file, line, field and remedy."""

import re
from pathlib import Path

import pytest
import yaml

from tests.support.commandline import CommandLine
from tests.support.world import a_manifest

CORPUS = Path(__file__).parents[2] / "corpus"
GOOD = sorted((CORPUS / "good").glob("*.yaml"))
BAD = sorted((CORPUS / "bad").glob("*.yaml"))
EDITS = {
    "no YAML": ("kind: SecretBinding", "kind: [SecretBinding", r"error: f.yaml:\d+:\d+: not YAML"),
    "another kind": ("kind: SecretBinding", "kind: Secret", r"f.yaml:2:1: kind: .*Secret.*; write kind: SecretBinding"),
    "another version": ("v1alpha1", "v9", r"f.yaml:1:1: apiVersion: .*; write apiVersion: nomad-vault.io/v1alpha1"),
    "unknown field": ("mount: secret", "mont: secret", r"f.yaml:12:\d+: spec.secrets\[0\].kv.mont: .*mount"),
    "a key twice": ("name: b", "name: b\n  name: c", r"f.yaml:5:3: metadata.name: .*twice.*line 4"),
    "no kind of secret": ("kv: {mount: secret, path: myapp}", "{}", r"f.yaml:\d+:\d+: "),
    "an odd env name": ("DB_PASS: pass", "DB-PASS: pass", r"f.yaml:13:\d+: spec.secrets\[0\].env"),
    "a path with ..": ("path: myapp", "path: a/../b", r"f.yaml:12:\d+: spec.secrets\[0\].kv.path: .*\.\."),
    "a path with //": ("path: myapp", "path: a//b", r"f.yaml:12:\d+: spec.secrets\[0\].kv.path"),
    "a path with a wildcard": ("path: myapp", 'path: "a/*"', r"f.yaml:12:\d+: spec.secrets\[0\].kv.path"),
    "a path with braces": ("path: myapp", 'path: "{{x}}"', r"f.yaml:12:\d+: spec.secrets\[0\].kv.path"),
    "a path with a newline": ("path: myapp", 'path: "a\\nb"', r"f.yaml:12:\d+: spec.secrets\[0\].kv.path"),
}
TEXT = """\
apiVersion: nomad-vault.io/v1alpha1
kind: SecretBinding
metadata:
  name: b
  # a comment
spec:
  workload:
    # the job
    job: web
  secrets:
    - name: app
      kv: {mount: secret, path: myapp}
      env: {DB_PASS: pass}
"""


def write(directory: Path, name: str, *manifests: object) -> str:
    path = directory / name
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_every_good_manifest_of_the_corpus_is_valid(cli: CommandLine, path: Path) -> None:
    ran = cli("validate", "-f", str(path))
    assert (ran.code, ran.err) == (0, "")
    assert "is valid" in ran.out


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_bad_manifest_of_the_corpus_ends_with_1_and_a_place(cli: CommandLine, path: Path) -> None:
    ran = cli("validate", "-f", str(path))
    assert (ran.code, ran.out) == (1, "")
    assert all(re.match(rf"error: {re.escape(str(path))}(:\d+|: )", line) for line in ran.err.splitlines())


@pytest.mark.parametrize("name", EDITS)
def test_a_fault_is_told_with_file_line_field_and_remedy(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after, told = EDITS[name]
    assert before in TEXT
    Path("f.yaml").write_text(TEXT.replace(before, after))
    ran = cli("validate", "-f", "f.yaml")
    assert ran.code == 1
    assert re.search(told, ran.err), ran.err
    assert ";" in ran.err.splitlines()[0], "a remedy follows"


def test_all_faults_of_all_files_are_told_at_once(cli: CommandLine, tmp_path: Path) -> None:
    broken = a_manifest("one", "web", "a", env={"1BAD": "x"}, deletionPolicy="Perhaps")
    first, second = write(tmp_path, "a.yaml", broken), write(tmp_path, "b.yaml", {"kind": "Other"})
    ran = cli("validate", "-f", first, "-f", second)
    assert ran.code == 1
    assert {line.split(":")[1].strip() for line in ran.err.splitlines()} == {first, second}
    assert sum("a.yaml" in line for line in ran.err.splitlines()) == 2


def test_a_directory_stands_for_all_manifests_below_it(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / ".git").mkdir()
    write(tmp_path, "b.yml", a_manifest("two", "web", "a"))
    write(tmp_path / "team", "c.json", a_manifest("three", "web", "a"))
    write(tmp_path, "a.yaml", a_manifest("one", "web", "a"))
    (tmp_path / ".git" / "d.yaml").write_text("not: one of ours")
    (tmp_path / "README.md").write_text("nor this")
    ran = cli("validate", "-f", str(tmp_path))
    assert ran.code == 0
    assert [line.split()[-3] for line in ran.out.splitlines()] == ["default/one", "default/two", "default/three"]


def test_standard_input_is_read_for_a_dash(cli: CommandLine) -> None:
    assert cli("validate", "-f", "-", stdin=TEXT).out == "stdin:1: default/b is valid\n"


def test_a_binding_in_two_files_is_an_error_that_names_both(cli: CommandLine, tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", a_manifest("one", "web", "a"))
    again = {**a_manifest("one", "web", "b"), "metadata": {"name": "one", "namespace": "default"}}
    second = write(tmp_path, "b.yaml", again)
    ran = cli("validate", "-f", first, "-f", second)
    assert ran.code == 1
    assert f"error: {second}:" in ran.err
    assert f"first in {first}:" in ran.err


def test_a_missing_file_and_an_empty_directory_are_errors(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("validate", "-f", str(tmp_path / "no.yaml"), "-f", str(tmp_path))
    assert ran.code == 1
    assert "no.yaml: cannot be read: no such file or directory" in ran.err
    assert f"{tmp_path}: no *.yaml" in ran.err


def test_a_manifest_too_large_for_a_variable_is_refused_for_the_nomad_source_only(
    cli: CommandLine, tmp_path: Path
) -> None:
    files = [{"destination": f"secrets/{number}", "template": "x" * 9000} for number in range(8)]
    manifest = a_manifest("one", "web", "a")
    manifest["spec"]["secrets"][0]["files"] = files
    path = write(tmp_path, "large.yaml", manifest)
    assert cli("validate", "-f", path).code == 0
    ran = cli("validate", "-f", path, "--source", "nomad")
    assert ran.code == 1
    assert "a Nomad variable holds 65528" in ran.err


def test_control_characters_of_a_manifest_do_not_reach_the_terminal(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(TEXT.replace("job: web", 'job: "we\\e[31mb"'))
    assert "\x1b" not in cli("validate", "-f", str(path)).err


BOUND = """\
apiVersion: nomad-vault.io/v1alpha1
kind: SecretBinding
metadata: {name: api, namespace: payments}
spec:
  workload: {job: api, namespace: payments}
  secrets:
    - name: app
      kv: {mount: secret, path: payments/app}
      env: {A: a}
    - name: other
      kv: {mount: secret, path: billing/app}
      env: {B: b}
"""
FIRST_RULE = str(Path(__file__).parents[3] / "deploy" / "policies" / "first-rule.yaml")


def test_policies_are_asked_where_they_are_given_and_the_rule_is_shown(cli: CommandLine) -> None:
    ran = cli("validate", "-f", "-", "--source", "kubernetes", "--policies", FIRST_RULE, stdin=BOUND)
    assert ran.code == 1
    assert "stdin:11:7: spec.secrets[1].kv: no policy allows tenant payments (kubernetes) secret other" in ran.err
    assert "paths:\n    - billing/app" in ran.err
    assert "payments/app" not in ran.err


def test_the_suggested_policy_is_one_that_allows_the_manifest(cli: CommandLine, tmp_path: Path) -> None:
    shown = cli("validate", "-f", "-", "--source", "kubernetes", "--suggest-policy", stdin=BOUND)
    assert shown.code == 0
    (tmp_path / "rule.yaml").write_text(shown.out)
    ran = cli("validate", "-f", "-", "--source", "kubernetes", "--policies", str(tmp_path), stdin=BOUND)
    assert (ran.code, ran.err) == (0, "")
    more = cli(
        "validate", "-f", "-", "--source", "kubernetes", "--policies", FIRST_RULE, "--suggest-policy", stdin=BOUND
    )
    assert "billing/app" in more.out
    assert "payments/app" not in more.out


def test_a_policy_file_that_is_none_is_told_with_its_line(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text("apiVersion: nomad-vault.io/v1alpha1\nkind: SecretBindingPolicy\n")
    ran = cli("validate", "-f", "-", "--policies", str(tmp_path / "rule.yaml"), stdin=BOUND)
    assert ran.code == 1
    assert "rule.yaml" in ran.err
    gone = cli("validate", "-f", "-", "--policies", str(tmp_path / "gone.yaml"), stdin=BOUND)
    assert gone.code == 1
    assert "gone.yaml cannot be read" in gone.err
