"""The scanner of Go templates, and the check that their actions make sense together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.models.template_syntax import check, template_faults, unknown_functions
from secretbinding.models.templates import TemplateSyntaxError, TokenKind, scan

# Pieces that are legal and balanced, each on its own. What a real Go parser says of such texts was compared.
GOOD = [
    "plain text } } without actions",
    "{{ . }}",
    "{{.Data.data.password}}",
    "{{- .A -}}",
    '{{ with secret "secret/data/app?version=7" }}{{ .Data.data.password | toJSON }}{{ end }}',
    "{{ range $key, $value := .Data.data }}{{ $key }}={{ $value }}\n{{ else }}none{{ end }}",
    "{{ if and (eq .A 1) (not .B) }}a{{ else if .C }}b{{ else }}c{{ end }}",
    "{{ with .A }}a{{ else with .B }}b{{ end }}",
    "{{ range .L }}{{ if . }}{{ break }}{{ else }}{{ continue }}{{ end }}{{ end }}",
    '{{ define "part" }}{{ . }}{{ end }}{{ template "part" .A }}{{ template `part` }}',
    '{{ block "other" . }}{{ $ }}{{ end }}',
    "{{ $x := 1 }}{{ $x = 2 }}{{ $x }}",
    '{{ (index .Data.data "db-pass").X | printf "%s" }}',
    "{{ printf \"%d %c\\n\" 0x1F 'x' }}{{ `raw }} {{` }}{{ 1_000 }}{{ 1.5e3 }}{{ -1 }}{{ 1+2i }}{{ '\\'' }}",
    "{{/* a comment }} with {{ braces */}}",
    "{{- /* trimmed */ -}}",
    "{{ true }}",
    '{{ print\n  "over"\n  "lines"\n}}',
    "{{ print nil }}",
    'Grüße {{ "世界 😀 \\u00e9 \\x41 \\101" }}',
    "{{ größe .Ünïcode }}",
]
BAD = {
    "{{": "the action is not closed",
    "{{ .A": "the action is not closed",
    "{{ .A }": "`}` has no meaning",
    "{{ }}": "a value is missing",
    "{{ if }}a{{ end }}": "a value is missing for if",
    "{{ if .A }}a": "the `if` has no `end`",
    "{{ if .A }}{{ range .B }}{{ end }}": "the `if` has no `end`",
    "{{ if .A }}{{ else if .B }}": "the `if` has no `end`",
    "{{ end }}": "`end` without a block",
    "{{ else }}": "`else` without",
    "{{ if .A }}{{ else }}{{ else }}{{ end }}": "`else` without",
    "{{ range .A }}{{ else if .B }}{{ end }}": "`else if` in a block of `range`",
    "{{ break }}": "`break` outside of `range`",
    "{{ range .A }}{{ else }}{{ continue }}{{ end }}": "`continue` outside of `range`",
    '{{ if .A }}{{ define "x" }}{{ end }}{{ end }}': "`define` inside another block",
    "{{ define x }}{{ end }}": "`define` needs a name",
    "{{ template }}": "`template` needs a name",
    "{{ end .A }}": "does not belong in this action",
    "{{ (.A }}": "a `(` is not closed",
    "{{ .A) }}": "a `)` has no `(`",
    "{{ () }}": "a value is missing for a parenthesis",
    '{{ "a }}': "the string is not closed",
    '{{ "a\nb" }}': "the string is not closed",
    "{{ `a }}": "the raw string is not closed",
    "{{ 'ab' }}": "a character stands in single quotes alone",
    '{{ "\\q" }}': "`\\q` is no escape",
    '{{ "\\ud800" }}': "is no escape",
    "{{/* a }}": "the comment is not closed",
    "{{/* a */ b }}": "the comment is not followed by `}}`",
    "{{ .Data.db-pass }}": "`-` cannot follow `.db`",
    "{{ $x }}": "the variable `$x` is not declared",
    "{{ if .A }}{{ $x := 1 }}{{ end }}{{ $x }}": "the variable `$x` is not declared",
    "{{ 1x }}": "is no number",
    "{{ 08 }}": "is no number",
    "{{ 1.A }}": "is no number",
    '{{ "a".A }}': "cannot follow",
    '{{ "a""b" }}': "cannot stand here",
    "{{ .A | 1 }}": "`1` is no function",
    "{{ | .A }}": "`|` cannot stand here",
    "{{ $a, $b := .A }}": "too many variables",
    "{{ # }}": "`#` has no meaning",
}

ANYTHING = st.text(st.sampled_from("{}-/*\"'`\\|().$:=, \n\t0a1Fx_é#")) | st.text()
DELIMITERS = st.sampled_from([("{{", "}}"), ("[[", "]]"), ("<%", "%>")])


@pytest.mark.parametrize("text", GOOD)
def test_a_template_that_go_parses_has_no_fault(text: str) -> None:
    assert list(template_faults(text)) == []


@pytest.mark.parametrize("text", BAD)
def test_a_template_that_go_refuses_has_a_fault_with_a_remedy(text: str) -> None:
    (fault,) = template_faults(text)
    assert BAD[text] in fault.message
    assert fault.remedy


def test_a_fault_names_its_line_and_column() -> None:
    (fault,) = template_faults("first\nsecond {{ .A }}\n  {{ if .B }}\n")
    assert (fault.line, fault.column) == (3, 3)


def test_other_delimiters_make_the_usual_ones_plain_text() -> None:
    assert [action.keyword for action in check("{{ if [[ if .A ]] }} [[ end ]]", "[[", "]]")] == ["if", "end"]


def test_an_action_tells_its_keyword_functions_and_strings() -> None:
    (action,) = scan('{{- with secret "a/b" `c` | index (env "X") -}}')
    assert action.keyword == "with"
    assert [token.text for token in action.functions] == ["secret", "index", "env"]
    assert [token.value for token in action.strings] == ["a/b", "c", "X"]
    assert (action.trim_left, action.trim_right) == (True, True)


def test_a_string_tells_what_it_stands_for() -> None:
    (action,) = scan('{{ print "\\x73\\u0065\\143ret" }}')
    assert action.strings[0].value == "secret"


def test_bytes_that_are_no_unicode_are_told_apart() -> None:
    (action,) = scan('{{ "\\xff" }}')
    assert action.strings[0].value.encode("utf-8", "surrogateescape") == b"\xff"


def test_a_function_in_a_string_or_a_comment_is_none() -> None:
    actions = list(scan('{{ "secret" }}{{/* secret "x" */}}{{ .secret }}{{ $secret }}'))
    assert [token.text for action in actions for token in action.functions] == []
    assert actions[1].comment == ' secret "x" '


def test_tokens_tell_where_they_stand() -> None:
    text = 'x {{ .A | printf "%s" }} y'
    for token in next(scan(text)).tokens:
        assert text[token.offset : token.offset + len(token.text)] == token.text


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("{{ nosuchfunc . }}", "there is no function `nosuchfunc`", "use one of consul-template's"),
        ("{{ .A | tojson }}", "there is no function `tojson`", "write `toJSON`"),
        ("{{ if (b64enc .A) }}{{ end }}", "there is no function `b64enc`", "`sprig_` and its name"),
    ],
)
def test_a_function_that_nomad_does_not_know_is_a_fault(text: str, message: str, remedy: str) -> None:
    (fault,) = unknown_functions(f"first\n  {text}")
    assert fault.message == message
    assert remedy in fault.remedy
    assert fault.line == 2


@pytest.mark.parametrize(
    "text",
    [
        '{{ with secret "a" }}{{ .Data.x | sprig_b64enc | toJSON }}{{ end }}',
        "{{ and 1 (not .A) | html | printf `%s` | slice 1 }}",
        '{{ nomadVarListSafe "a" | spew_dump }}{{ plugin "x" }}',
        "{{ nosuchfunc",
    ],
)
def test_a_function_that_nomad_knows_and_a_template_that_does_not_parse_are_none(text: str) -> None:
    assert list(unknown_functions(text)) == []


@given(ANYTHING, DELIMITERS)
def test_any_text_has_at_most_one_fault_and_never_fails_otherwise(text: str, delimiters: tuple[str, str]) -> None:
    assert len(list(template_faults(text, *delimiters))) <= 1


@given(ANYTHING)
def test_any_action_is_told_without_a_gap(inside: str) -> None:
    text = "before {{" + inside + "}} after"
    try:
        actions = list(scan(text))
    except TemplateSyntaxError:
        return
    for action in actions:
        at = action.tokens[0].offset if action.tokens else action.end
        for token in action.tokens:
            assert token.offset == at
            at += len(token.text)


@given(st.lists(st.sampled_from(GOOD), max_size=6), st.text(st.characters(exclude_characters="{[")))
def test_good_pieces_make_a_good_whole(pieces: list[str], between: str) -> None:
    assert list(template_faults(between.join(pieces))) == []


@given(st.lists(st.sampled_from(["if .A", "with .B", "range .C"]), min_size=1, max_size=8))
def test_blocks_balance_exactly(blocks: list[str]) -> None:
    opened = "".join(f"{{{{ {block} }}}}x" for block in blocks)
    assert list(template_faults(opened + "{{ end }}" * len(blocks))) == []
    assert list(template_faults(opened + "{{ end }}" * (len(blocks) - 1)))
    assert list(template_faults(opened + "{{ end }}" * (len(blocks) + 1)))


@given(st.text())
def test_a_text_without_a_left_delimiter_is_one_text(text: str) -> None:
    assert list(scan(text.replace("{{", ""))) == []


@given(st.text(st.characters(codec="utf-8")))
def test_a_quoted_string_comes_back_as_it_was(text: str) -> None:
    quoted = "".join(f"\\U{ord(char):08x}" if char in '"\\\n' or not char.isprintable() else char for char in text)
    (action,) = scan('{{ print "' + quoted + '" }}')
    (token,) = action.strings
    assert (token.kind, token.value) == (TokenKind.STRING, text)
