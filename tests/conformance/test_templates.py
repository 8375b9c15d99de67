"""Templates: what text comes out, what a task sees of it, what stops the task."""

import json
from typing import Any

from tests.conformance.nomad import Nomad, env_template, events, file_template, job, say, task, vault_task

NASTY = "<>&\"'\n$ \\ é #\t`{{"
SECRET: dict[str, Any] = {
    "s": NASTY,
    "i": 42,
    "f": 1.5,
    "big": 123456789,
    "t": True,
    "nothing": None,
    "empty": "",
    "list": ["a", 1, {"x": 1}],
    "map": {"b": 2, "a": "x"},
    "db-pass": "dashed",
}

# Expression, what it prints. All inside `with secret ...`.
PRINTED = [
    (".Data.data.s", NASTY),
    (".Data.data.s | toJSON", '"\\u003c\\u003e\\u0026\\"\'\\n$ \\\\ é #\\t`{{"'),
    (".Data.data.i", "42"),
    (".Data.data.i | toJSON", "42"),
    (".Data.data.f", "1.5"),
    (".Data.data.big", "123456789"),
    (".Data.data.t", "true"),
    (".Data.data.nothing", "<no value>"),
    (".Data.data.nothing | toJSON", "null"),
    (".Data.data.empty | toJSON", '""'),
    (".Data.data.list", "[a 1 map[x:1]]"),
    (".Data.data.list | toJSON", '["a",1,{"x":1}]'),
    (".Data.data.map", "map[a:x b:2]"),
    (".Data.data.map | toJSON", '{"a":"x","b":2}'),
    (".Data.data.map.a", "x"),
    ('index .Data.data "db-pass" | toJSON', '"dashed"'),
    ('index .Data.data "missing"', "<no value>"),
    ('index .Data.data "missing" | toJSON', "null"),
    ('sprig_hasKey .Data.data "s"', "true"),
    ('sprig_hasKey .Data.data "missing"', "false"),
    ('sprig_kindIs "string" .Data.data.s', "true"),
    ('sprig_kindIs "string" .Data.data.i', "true"),
    ('sprig_typeIs "string" .Data.data.s', "true"),
    ('sprig_typeIs "string" .Data.data.i', "false"),
    ("sprig_typeOf .Data.data.i", "json.Number"),
    ("sprig_typeOf .Data.data.t", "bool"),
    ('if sprig_hasKey .Data.data "missing" }}a{{ else if .Data.data.t }}b{{ else }}c{{ end', "b"),
    ("range $k, $v := .Data.data.map }}{{ $k }}={{ $v }};{{ end", "a=x;b=2;"),
    ("range .Data.data.list }}[{{ . }}]{{ end", "[a][1][map[x:1]]"),
    ("$x := .Data.data.i }}{{ $x }}{{ $x = 7 }}{{ $x", "427"),
    ('printf "%s-%d-%v-%q" "a" 3 true "q"', 'a-3-true-"q"'),
    ("`raw\\t` | len", "5"),
    ('"x\\ty"', "x\ty"),
    ('"a" | base64Encode', "YQ=="),
    ("and 1 0", "0"),
    ('or 0 "x"', "x"),
    ("not true", "false"),
    ('eq "a" "b" "a"', "true"),
    ("len .Data.data.list", "3"),
    (".Data.metadata.version", "1"),
    ('env "NOMAD_TASK_NAME"', "t"),
]

# Expression, the end of the error.
REFUSED = [
    (".Data.data.missing", 'map has no entry for key "missing"'),
    (".Data.data.missing | toJSON", 'map has no entry for key "missing"'),
    ('sprig_fail "boom"', "error calling sprig_fail: boom"),
    (
        'if not (sprig_hasKey .Data.data "x") }}{{ sprig_fail "x is missing" }}{{ end',
        "error calling sprig_fail: x is missing",
    ),
    ("nosuch 1", 'function "nosuch" not defined'),
    ("$y", 'undefined variable "$y"'),
    ("eq .Data.data.i 42", "incompatible types for comparison: json.Number and int"),
    ("index .Data.data.list 9", "error calling index: index out of range: 9"),
    (".Nope", "can't evaluate field Nope in type *dependency.Secret"),
]
MARK = "\n=====\n"


def wrapped(path: str, expression: str) -> str:
    return f'{{{{ with secret "secret/data/{path}" }}}}{{{{ {expression} }}}}{{{{ end }}}}'


def test_expressions_print_what_consul_template_prints(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, SECRET)
    nomad.grant(unique, unique)
    cases = PRINTED
    text = MARK.join(wrapped(unique, expression) for expression, _ in cases)
    nomad.register(job(unique, vault_task(unique, [file_template(text, ErrMissingKey=True)])))
    printed = nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out").split(MARK)
    assert dict(zip([one for one, _ in cases], printed, strict=True)) == dict(cases)


def test_comments_and_trim_markers_leave_nothing(nomad: Nomad, unique: str) -> None:
    text = '{{/* owned by x: {"a": 1} */}}a  {{- /* c */ -}}  b\n{{- "c" -}}\n d{{ if true -}}  e  {{- end }}'
    nomad.register(job(unique, task(Templates=[file_template(text)])))
    assert nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out") == "abcde"


def test_other_delimiters_may_be_used(nomad: Nomad, unique: str) -> None:
    template = file_template('[[ "x" ]]{{ y }}', LeftDelim="[[", RightDelim="]]")
    nomad.register(job(unique, task(Templates=[template])))
    assert nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out") == "x{{ y }}"


def test_a_template_that_cannot_be_executed_fails_the_allocation_at_once(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, SECRET)
    nomad.grant(unique, unique)
    for place, (expression, _) in enumerate(REFUSED):
        template = file_template(wrapped(unique, expression), ErrMissingKey=True)
        nomad.register(job(f"{unique}-{place}", vault_task(unique, [template])))
    seen = {}
    for place, (expression, _) in enumerate(REFUSED):
        failed = nomad.wait_allocation(f"{unique}-{place}", "failed")
        message = dict(events(failed))["Killing"]
        assert message.startswith("Template failed: (dynamic): ")
        seen[expression] = message
    assert {
        expression: message[-len(end) :] for (expression, end), message in zip(REFUSED, seen.values(), strict=True)
    } == dict(REFUSED)


def test_without_error_on_missing_key_no_value_reaches_the_task(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, {"a": "1"})
    nomad.grant(unique, unique)
    nomad.register(job(unique, vault_task(unique, [file_template(wrapped(unique, ".Data.data.missing"))])))
    assert nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out") == "<no value>"


def test_the_first_pass_runs_before_any_secret_was_read(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, {"a": "1"})
    nomad.grant(unique, unique)
    texts = (
        '{{ with secret "%s" }}x{{ else }}{{ sprig_fail "none" }}{{ end }}',
        '{{ (secret "%s").Data.data.a }}',
    )
    for place, text in enumerate(texts):
        template = file_template(text % f"secret/data/{unique}", ErrMissingKey=True)
        nomad.register(job(f"{unique}-{place}", vault_task(unique, [template])))
    for place in range(len(texts)):
        failed = nomad.wait_allocation(f"{unique}-{place}", "failed")
        assert dict(events(failed))["Killing"].startswith("Template failed: (dynamic): execute: ")


def test_nasty_values_survive_an_env_template_through_to_json(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, {"s": NASTY, "i": 42, "t": True})
    nomad.grant(unique, unique)
    lines = "".join(f"V_{name.upper()}={{{{ .Data.data.{name} | toJSON }}}}\n" for name in ("s", "i", "t"))
    text = f'{{{{ with secret "secret/data/{unique}" }}}}{lines}{{{{ end }}}}'
    script = say("cat /proc/$$/environ; echo")
    nomad.register(job(unique, vault_task(unique, [env_template(text)], script)))
    environ = dict(one.split("=", 1) for one in nomad.said(unique).split("\0") if "=" in one)
    assert (environ["V_S"], environ["V_I"], environ["V_T"]) == (NASTY, "42", "true")


ENV_LINES = [
    ("A=plain", "plain"),
    ("B = spaced out  ", "spaced out"),
    ("export C=exported", "exported"),
    ("D=before # comment", "before"),
    ('E="quoted # kept" # comment', "quoted # kept"),
    ("F='single \\n $x'", "single \\n $x"),
    ('G="tab\\tnew\\nu\\u00e9 \\ud83d\\ude00"', "tab\tnew\nué 😀"),
    ("H=", ""),
    ('I=a"b"c', "abc"),
    ("# J=no", None),
]


def test_env_files_are_read_by_nomads_rules(nomad: Nomad, unique: str) -> None:
    text = "\n".join(line for line, _ in ENV_LINES) + "\n\n"
    script = say("cat /proc/$$/environ; echo")
    nomad.register(job(unique, task(script, Templates=[env_template(text)])))
    environ = dict(one.split("=", 1) for one in nomad.said(unique).split("\0") if "=" in one)
    expected = {"ABCDEFGHI"[place]: value for place, (_, value) in enumerate(ENV_LINES) if value is not None}
    assert {name: environ.get(name) for name in expected} == expected
    assert "J" not in environ


def test_a_bad_env_file_fails_the_allocation(nomad: Nomad, unique: str) -> None:
    lines = ("no separator", 'A="open', "1A=x", 'A="\\q"')
    for place, line in enumerate(lines):
        nomad.register(job(f"{unique}-{place}", task(Templates=[env_template(line + "\n")])))
    for place in range(len(lines)):
        failed = nomad.wait_allocation(f"{unique}-{place}", "failed")
        message = dict(events(failed))["Killing"]
        assert message.startswith("Template failed to read environment variables: error parsing env template")
        assert "error on line 1" in message


def test_env_templates_of_both_kinds_do_not_add_up(nomad: Nomad, unique: str) -> None:
    """Nomad runs one manager for `Once` templates and one for the others; the last to finish replaces all variables."""
    nomad.stack.openbao.put_secret(unique, {"a": "1"})
    nomad.grant(unique, unique)
    ours = env_template(f'{{{{ with secret "secret/data/{unique}" }}}}OURS={{{{ .Data.data.a }}}}\n{{{{ end }}}}')
    theirs = env_template("THEIRS=1\n", DestPath="local/theirs.env", Once=False)
    script = say("echo $OURS-$THEIRS")
    nomad.register(job(unique, vault_task(unique, [ours, theirs], script)))
    nomad.register(job(f"{unique}-alike", vault_task(unique, [ours, {**theirs, "Once": True}], script)))
    assert nomad.said(unique) in ("1-\n", "-1\n")
    assert nomad.said(f"{unique}-alike") == "1-1\n"


def test_a_template_overrides_the_tasks_own_env(nomad: Nomad, unique: str) -> None:
    one = task(
        say("echo $A $B"),
        Env={"A": "job", "B": "${NOMAD_JOB_ID}"},
        Templates=[env_template("A=template\n")],
    )
    nomad.register(job(unique, one))
    assert nomad.said(unique) == f"template {unique}\n"


def test_destination_and_permissions_are_as_asked(nomad: Nomad, unique: str) -> None:
    templates = [
        file_template("a", DestPath="local/deep/er", Perms="0640"),
        file_template("b", DestPath="${NOMAD_SECRETS_DIR}/b"),
        file_template("c", DestPath="../alloc/data/c"),
    ]
    script = say("stat -c %a local/deep/er; cat local/deep/er secrets/b ../alloc/data/c; echo")
    nomad.register(job(unique, task(script, Templates=templates)))
    assert nomad.said(unique) == "640\nabc\n"


def test_the_file_api_answers_errors_as_content_and_keeps_secrets(nomad: Nomad, unique: str) -> None:
    templates = [file_template("x"), file_template("hidden", DestPath="secrets/x")]
    nomad.register(job(unique, task(Templates=templates)))
    running = nomad.wait_allocation(unique, "running")
    assert nomad.file(running, "t/local/out") == "x"
    assert nomad.file(running, "t/secrets/x") == "Reading secret file prohibited: t/secrets/x"
    assert nomad.file(running, "t/local/none").endswith("t/local/none: no such file or directory")
    listing = nomad.api.get(f"/v1/client/fs/ls/{running['ID']}", path="t/local").expect(200).json()
    assert [(one["Name"], one["IsDir"], one["Size"]) for one in listing] == [("out", False, 1)]
    unknown = nomad.api.get(f"/v1/client/fs/logs/{running['ID']}", task="none", type="stdout", plain="true")
    assert (unknown.status, unknown.text) == (400, 'unknown task name "none"')


def test_json_in_a_template_is_what_json_says(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, SECRET)
    nomad.grant(unique, unique)
    nomad.register(job(unique, vault_task(unique, [file_template(wrapped(unique, ".Data.data | toJSON"))])))
    assert json.loads(nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out")) == SECRET


def test_a_deleted_version_leaves_the_task_waiting_until_it_is_back(nomad: Nomad, unique: str) -> None:
    vault = nomad.stack.openbao
    vault.put_secret(unique, {"a": "1"})
    vault.api.put(f"/v1/secret/delete/{unique}", {"versions": [1]}).expect(200, 204)
    nomad.grant(unique, unique)
    text = f'{{{{ with secret "secret/data/{unique}?version=1" }}}}{{{{ .Data.data.a }}}}{{{{ end }}}}'
    nomad.register(job(unique, vault_task(unique, [file_template(text)])))
    nomad.wait_event(unique, f"Missing: vault.read(secret/data/{unique}.v1)")
    vault.api.put(f"/v1/secret/undelete/{unique}", {"versions": [1]}).expect(200, 204)
    running = nomad.wait_allocation(unique, "running")
    assert nomad.file(running, "t/local/out") == "1"
