"""A template by hand is taken over only where it reads what the binding would read in its place."""

from typing import Any

import pytest

from secretbinding.desired.adoption import Proposal, propose
from secretbinding.models.reasons import Reason
from secretbinding.models.template_reads import reads_of
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import INSTANCE
from tests.unit.core.world import World

VAULT = {"Role": "by-hand", "Cluster": "default", "Env": True, "DisableFile": False, "ChangeMode": "restart"}


def proposed(text: str, *modifiers: make.Modifier, current: int = 3, **template: Any) -> Proposal:
    """What `adopt` would do with one template by hand of a job, beside one secret of KV version 2."""
    world = World()
    world.secrets["kv", "myapp"] = make.kv_state(current)
    world.secrets["kv", "other"] = make.kv_state(current)
    made: Json = make.template("secrets/app.env", text, **{"Envvars": True, **template})
    world.user_registers(make.job(make.group(make.task(Vault=VAULT, Templates=[made]))))
    item = make.given(make.binding(*(modifiers or (make.kv(env={"DB_USER": "username"}),))))
    assert item.binding is not None
    return propose(item, item.binding, world.observe([item]), INSTANCE)


def env(read: str, value: str) -> str:
    return f"{{{{ with secret {read} }}}}\nDB_USER={value}\n{{{{ end }}}}"


AD = '"secret/data/myapp"'
USER = "{{ .Data.data.username }}"


@pytest.mark.parametrize(
    "text",
    [
        env(AD, USER),
        env('"secret/myapp"', USER),
        env('"/secret/data/myapp"', USER),
        env('"secret/data/myapp?version=3"', USER),
        env("`secret/data/myapp`", '"{{ .Data.data.username }}"'),
        env(AD, "{{ .Data.data.username | toJSON }}"),
        env(AD, '{{ index .Data.data "username" }}'),
        env(AD, "{{ index .Data.data `username` | toJSON }}"),
        "DB_USER={{ (secret " + AD + ").Data.data.username }}",
        "{{ with $s := secret " + AD + " }}{{ with $s.Data.data }}export DB_USER={{ .username }}{{ end }}{{ end }}",
        "{{ $s := secret " + AD + " -}}\nDB_USER={{ $s.Data.data.username -}}\n",
        "{{ with secret " + AD + " -}}\n# a comment\nDB_USER={{ .Data.data.username }}\n{{- end }}",
        "{{ with secret " + AD + " }}{{ if .Data.data.username }}DB_USER={{ .Data.data.username }}{{ end }}{{ end }}",
    ],
)
def test_every_spelling_of_the_same_field_is_taken_over(text: str) -> None:
    assert proposed(text).fault is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (env('"secret/data/other"', USER), "reads secret secret/data/other, and the binding reads secret/data/myapp"),
        (env('"kv/data/myapp"', USER), "reads secret kv/data/myapp"),
        (env(AD, "{{ .Data.data.password }}"), "sets DB_USER to Data.data.password of secret/data/myapp"),
        (env(AD, "{{ .Data.username }}"), "sets DB_USER to Data.username of secret/data/myapp"),
        (env(AD, '{{ index .Data.data "password" }}'), "sets DB_USER to Data.data.password"),
        (env(AD, "{{ .Data.data.username | toUpper }}"), "sets DB_USER to a value that toUpper makes"),
        (env(AD, "app-{{ .Data.data.username }}"), "to text around it"),
        (env(AD, "{{ .Data.data.username }}{{ .Data.data.password }}"), "more than one field"),
        (env(AD, "amy"), "more than one field, or to text around it"),
        (env(AD, '{{ env "HOME" }}'), "its text does not show"),
        (env('(printf "secret/data/%s" "myapp")', USER), "given as an expression"),
        (env('"secret/data/myapp?version=2"', USER), "the binding reads version 3"),
        (env(AD, USER) + '{{ with secret "secret/data/other" }}{{ end }}', "reads secret secret/data/other"),
        (env(AD, USER) + '{{ with nomadVar "nomad/jobs/web" }}{{ end }}', "reads nomadVar nomad/jobs/web"),
        ("{{ with secret " + AD + " }}{{ range .Data.data }}\nDB_USER={{ .username }}{{ end }}{{ end }}", "not show"),
        ("DB_USER={{ with secret", "does not parse"),
    ],
)
def test_another_path_field_or_version_is_refused_with_the_difference(text: str, words: str) -> None:
    found = proposed(text)
    assert found.adoption is None
    assert found.fault is not None
    assert found.fault.reason in (Reason.ENV_CONFLICT, Reason.TEMPLATE_CONFLICT)
    assert words in found.fault.message


def test_a_version_by_hand_is_refused_where_the_binding_follows_the_newest() -> None:
    binding = (make.kv(env={"DB_USER": "username"}), make.strategy("Native"))
    assert proposed(env(AD, USER), *binding).fault is None
    found = proposed(env('"secret/data/myapp?version=3"', USER), *binding)
    assert found.fault is not None
    assert "whatever is newest" in found.fault.message


def test_a_version_that_the_binding_names_has_to_be_the_one_that_is_read() -> None:
    old = make.kv(env={"DB_USER": "username"}, version=2)
    assert proposed(env('"secret/data/myapp?version=2"', USER), old).fault is None
    found = proposed(env(AD, USER), old)
    assert found.fault is not None
    assert "reads the newest version" in found.fault.message


FILE = make.kv(files=[{"destination": "secrets/app.env", "format": "Dotenv"}])


@pytest.mark.parametrize(
    ("text", "template", "words"),
    [
        ('{{ with secret "secret/data/other" }}x{{ end }}', {}, "reads secret secret/data/other"),
        ("{{ with secret " + AD + ' }}{{ end }}{{ secret "kv/more" }}', {}, "reads secret kv/more"),
        ("plain", {}, "reads no secret"),
        ("", {"SourcePath": "local/app.tpl"}, "in a file of its own"),
        ("{{ with secret " + AD + " }}{{ .Data.data | toJSON }}{{ end }}", {"Envvars": True}, "env = true"),
    ],
)
def test_a_file_by_hand_has_to_read_the_secret_of_the_binding_and_no_other(
    text: str, template: Json, words: str
) -> None:
    found = proposed(text, FILE, **{"Envvars": False, **template})
    assert found.fault is not None
    assert words in found.fault.message
    read = "{{ with secret " + AD + " }}{{ .Data.data | toJSON }}{{ end }}"
    assert proposed(read, FILE, Envvars=False).fault is None


def test_a_plain_variable_by_hand_has_to_be_the_one_of_the_binding() -> None:
    plain = make.workload_env(VAULT_ADDR="http://127.0.0.1:8200")
    both = env(AD, USER) + "\nVAULT_ADDR=%s\n"
    with_secret = make.kv(env={"DB_USER": "username"})
    assert proposed(both % '"http://127.0.0.1:8200"', with_secret, plain).fault is None
    found = proposed(both % "http://127.0.0.9:8200", with_secret, plain)
    assert found.fault is not None
    assert "VAULT_ADDR" in found.fault.message


def test_a_template_is_followed_with_delimiters_of_its_own() -> None:
    reads = reads_of('[[ with secret "a/b" ]]X=[[ .Data.c ]][[ end ]]', "[[", "]]")
    assert [str(call) for call in reads.calls] == ["secret a/b"]
    assert [piece.value.fields for piece in reads.pieces if piece.value is not None] == [("Data", "c")]
