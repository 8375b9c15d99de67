"""The whole text of each template, and the shape in which Nomad gets it."""

from collections.abc import Mapping, Sequence

import pytest

from secretbinding.job.constraints import Keeps
from secretbinding.job.marks import read_mark, render_block
from secretbinding.kinds.base import Pin, Reading
from secretbinding.models.binding import FileFormat
from secretbinding.models.key import BindingKey
from secretbinding.models.template_syntax import check
from secretbinding.naming import Owner
from secretbinding.ports import Json
from secretbinding.render.formats import chosen, whole
from secretbinding.render.template import Change, TemplateBlock, secret_blocks, workload_env_block
from tests.support import builders as make
from tests.support.builders import created

KEY = BindingKey("files", "payments", "app")
PIN = Pin(7, created(7))
READING = Reading("secret/data/myapp?version=7", ".Data.data", polls=False)


def blocks(*, env: Mapping[str, str] | None = None, files: Sequence[Json] = ()) -> tuple[TemplateBlock, ...]:
    entry = make.binding(make.kv("app", env=env, files=files)).spec.secrets[0]
    return secret_blocks(KEY, entry, READING, PIN, Change(), {"password": None})


def test_variables_of_a_secret() -> None:
    (block,) = blocks(env={"DB_USER": "username", "DB_PASS": "db-pass"})
    assert block.body == (
        '\n{{ with secret "secret/data/myapp?version=7" }}\n'
        'DB_PASS={{ if not (sprig_hasKey .Data.data "db-pass") }}'
        '{{ sprig_fail "the secret has no field db-pass" }}{{ end }}'
        '{{ index .Data.data "db-pass" | toJSON }}\n'
        "DB_USER={{ .Data.data.username | toJSON }}\n"
        "{{ end }}\n"
    )
    assert (block.destination, block.env, block.once) == ("secrets/nomad-vault/files/payments/app/app.env", True, True)
    assert block.perms == "0600"


def test_plain_variables() -> None:
    block = workload_env_block(KEY, {"B": 'say "hi"\n', "A": "http://vault:8200"})
    assert block.body == '\nA={{ "http://vault:8200" | toJSON }}\nB={{ "say \\"hi\\"\\n" | toJSON }}\n'
    assert (block.env, block.once, block.of) == (True, True, "")


def test_files_in_each_form() -> None:
    files: list[Json] = [
        {"destination": "secrets/a", "template": "u={{ .Data.data.username }}\n", "perms": "0600", "uid": 0, "gid": 7},
        {"destination": "secrets/b", "template": "[[ .Data ]]", "leftDelimiter": "[[", "rightDelimiter": "]]"},
        {"destination": "secrets/c"},
        {"destination": "secrets/d", "format": "Dotenv"},
        {"destination": "e", "format": "Yaml"},
        {"destination": "secrets/f", "fields": {"u": "username"}},
    ]
    read = '{{ with secret "secret/data/myapp?version=7" }}'
    assert [(block.slot, block.body) for block in blocks(files=files)] == [
        ("file:app:secrets/a", read + "u={{ .Data.data.username }}\n{{ end }}"),
        ("file:app:secrets/b", '[[ with secret "secret/data/myapp?version=7" ]][[ .Data ]][[ end ]]'),
        ("file:app:secrets/c", read + "{{ .Data.data | toJSON }}\n{{ end }}"),
        ("file:app:secrets/d", read + chosen(FileFormat.DOTENV, ".Data.data", {"password": "password"}) + "{{ end }}"),
        ("file:app:secrets/e", read + whole(FileFormat.YAML, ".Data.data") + "{{ end }}"),
        ("file:app:secrets/f", read + '{ {{ "u" | toJSON }}:{{ .Data.data.username | toJSON }}}\n{{ end }}'),
    ]
    first, *_ = blocks(files=files)
    assert (first.perms, first.uid, first.gid) == ("0600", 0, 7)


@pytest.mark.parametrize(("text", "inside"), [("x{", 'x{{ "{" }}'), ("{", '{{ "{" }}'), ("{}", "{}"), ("x", "x")])
def test_a_text_that_ends_like_a_delimiter_is_closed(text: str, inside: str) -> None:
    (block,) = blocks(files=[{"destination": "secrets/a", "template": text}])
    assert block.body == f'{{{{ with secret "secret/data/myapp?version=7" }}}}{inside}{{{{ end }}}}'
    check(block.body)


def test_the_shape_that_nomad_gets() -> None:
    (block,) = blocks(env={"DB_PASS": "password"})
    template = render_block(block, Owner("default", KEY), ("identity",), Keeps(1, 0, "SIGHUP"))
    mark, closing, body = template.pop("EmbeddedTmpl").partition(" */}}")
    assert closing
    assert body == block.body
    assert mark == (
        '{{/* secretbinding {"adds":["identity"],"body":"3uicz3265xxq7vu5bbv23uspgg","instance":"default",'
        '"keeps":[1,0,"SIGHUP"],"name":"app","of":"xx75dlssxz3krjdfgd7krebpez","once":true,'
        '"pin":[7,"2026-01-01T00:07:00.000000Z"],"slot":"env:app","source":"files","tenant":"payments",'
        '"want":"jzr3enwlkbq6yga26qjqf6s3xt"}'
    )
    assert template == {
        "SourcePath": "",
        "DestPath": "secrets/nomad-vault/files/payments/app/app.env",
        "ChangeMode": "noop",
        "ChangeSignal": "",
        "ChangeScript": None,
        "Splay": 5_000_000_000,
        "Perms": "0600",
        "Uid": None,
        "Gid": None,
        "LeftDelim": "{{",
        "RightDelim": "}}",
        "Envvars": True,
        "VaultGrace": 0,
        "Wait": None,
        "ErrMissingKey": True,
        "Once": True,
    }


def test_a_mark_read_back_says_what_was_written() -> None:
    (block,) = blocks(env={"DB_PASS": "password"})
    owner = Owner("default", KEY)
    found = read_mark(render_block(block, owner, ("identity",), Keeps(1, 2, "SIGHUP")))
    assert found is not None
    mark, intact = found
    assert intact
    assert (mark.owner, mark.slot, mark.pin, mark.adds, mark.keeps) == (
        owner,
        "env:app",
        PIN,
        ("identity",),
        Keeps(1, 2, "SIGHUP"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{/* secretbinding nonsense */}}x",
        '{{/* secretbinding {"instance":"i"} */}}x',
        "{{/* secretbinding {} x",
        'some text {{/* secretbinding {"instance":"i","source":"files","tenant":"t","name":"n"} */}}',
        "plain",
        "",
    ],
)
def test_what_only_looks_like_a_mark_is_none(text: str) -> None:
    assert read_mark(make.template(text=text)) is None
    assert read_mark({"EmbeddedTmpl": None}) is None


def test_a_mark_is_known_as_ours_whatever_delimiters_somebody_gave_the_block() -> None:
    (block,) = blocks(env={"DB_PASS": "password"})
    template = render_block(block, Owner("default", KEY), (), Keeps())
    for change in ({"LeftDelim": "[["}, {"RightDelim": "]]"}, {"EmbeddedTmpl": "x" + template["EmbeddedTmpl"]}):
        found = read_mark({**template, **change})
        assert found is not None
        assert found[0].owner == Owner("default", KEY)
        assert not found[1]
