"""The simulator's template engine, where a test against both servers would be too coarse."""

import pytest

from secretbinding.devstack.simulator.template import (
    Dependency,
    Secret,
    TemplateError,
    certificate_of,
    load_json,
    render,
    secret_of,
)


def secret(data: str) -> Secret:
    return secret_of({"request_id": "r", "data": {"data": load_json(data)}})


def printed(text: str, data: str = "{}") -> str:
    return render(text, {Dependency("a"): secret(data)}, {"HOME": "/here"}).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a {{- 1 -}} b", "a1b"),
        ("a {{/* c */}} b", "a  b"),
        ("a {{- /* c */ -}} b", "ab"),
        ('{{ env "HOME" }}{{ env "NONE" }}', "/here"),
        ("{{ if true }}a{{ else }}b{{ end }}", "a"),
        ("{{ if false }}a{{ else if true }}b{{ else }}c{{ end }}", "b"),
        ("{{ with 0 }}a{{ else with 1 }}b{{ . }}{{ end }}", "b1"),
        ("{{ range $i := 3 }}{{ $i }}{{ end }}", "012"),
        ('{{ range $i, $v := split "," "a,b,c" }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $v }}{{ end }}', "ac"),
        ('{{ range split "," "a,b,c" }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ end }}', "a"),
        ('{{ range split "" "" }}x{{ else }}none{{ end }}', "none"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ $y }}{{ end }}{{ $x }}", "32"),
        ('{{ "a" | printf "%s-%s" "b" }}', "b-a"),
        ('{{ (printf "%d" 3) | len }}', "1"),
        ("{{ -5 }} {{ 0x1F }} {{ 1.50 }} {{ 'a' }}", "-5 31 1.5 97"),
        ('{{ "\\u00e9\\n\\"" }}', 'é\n"'),
        ("{{ `a\\n` }}", "a\\n"),
    ],
)
def test_text_comes_out_as_go_prints_it(text: str, expected: str) -> None:
    assert printed(text) == expected


def test_secrets_that_are_not_known_are_missing_and_count_as_nothing() -> None:
    found = render('{{ with secret "x/y?version=3" }}a{{ else }}b{{ end }}{{ with secret "z" }}{{ end }}', {}, {})
    assert found.text == "b"
    assert found.missing == ["vault.read(x/y.v3)", "vault.read(z)"]
    assert found.used == [Dependency("x/y?version=3"), Dependency("z")]


def test_numbers_of_a_secret_keep_their_digits() -> None:
    data = '{"n": 12345678901234567890, "f": 1.10, "list": [1, 2.50]}'
    inside = "{{ .Data.data.n }} {{ .Data.data.f | toJSON }} {{ .Data.data.list | toJSON }}"
    assert printed('{{ with secret "a" }}' + inside + "{{ end }}", data) == "12345678901234567890 1.10 [1,2.50]"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{", "unclosed action"),
        ("{{ if true }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ }}", "missing value for command"),
        ('{{ "open }}', "unterminated quoted string"),
        ("{{/* open }}", "unclosed comment"),
        ("{{ nosuch }}", 'function "nosuch" not defined'),
        ("{{ $x }}", 'undefined variable "$x"'),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", 'undefined variable "$x"'),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ('{{ template "x" }}', "unexpected <template> in command"),
    ],
)
def test_a_template_that_does_not_parse_says_why(text: str, fault: str) -> None:
    with pytest.raises(TemplateError, match="parse: template: :1: ") as caught:
        printed(text)
    assert fault in str(caught.value)


def test_an_error_names_line_and_expression_but_no_value() -> None:
    text = 'x\n{{ with secret "a" }}{{ .Data.data.pass | parseInt }}{{ end }}'
    with pytest.raises(TemplateError) as caught:
        printed(text, '{"pass": "hunter2"}')
    assert "template: :2:" in str(caught.value)
    assert "<parseInt>" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/secret/data/app/"], "vault.read(secret/data/app)"),
        (["secret/data/app?version=7"], "vault.read(secret/data/app.v7)"),
        (["pki/issue/web", "ttl=1h", "common_name=a.example"], "vault.write(pki/issue/web -> f7f40165)"),
        (["pki/issue/web", " common_name = a.example ", "ttl=1h"], "vault.write(pki/issue/web -> f7f40165)"),
        (["pki/issue/web", ""], "vault.write(pki/issue/web -> da39a3ee)"),
    ],
)
def test_what_is_asked_of_vault_has_the_name_that_events_show(arguments: list[str], name: str) -> None:
    asked = Dependency.of(arguments)
    assert str(asked) == name
    assert asked.writes == (len(arguments) > 1)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ('secret "pki/issue/web" "ttl"', 'error calling secret: not k=v pair "ttl"'),
        ('secret "/"', 'error calling secret: vault.read: invalid format: ""'),
        ('pkiCert "pki/issue/web" "ttl"', 'error calling pkiCert: not k=v pair "ttl"'),
        ("secret 1", "error calling secret: wrong type for value; expected string; got int"),
    ],
)
def test_arguments_that_vault_could_not_take_are_refused(call: str, fault: str) -> None:
    with pytest.raises(TemplateError, match="execute: ") as caught:
        printed(f"{{{{ with {call} }}}}{{{{ end }}}}")
    assert str(caught.value).endswith(fault)


def test_a_certificate_has_its_parts_and_nothing_else() -> None:
    asked = Dependency.of(["pki/issue/web", "common_name=a"], "/here/cert.pem")
    pem = certificate_of("C", "K", ["A", "B"])

    def shown(inside: str) -> str:
        text = f'{{{{ with pkiCert "pki/issue/web" "common_name=a" }}}}{inside}{{{{ end }}}}'
        return render(text, {asked: pem}, {}, destination="/here/cert.pem").text

    assert shown("{{ .Cert }}{{ .Key }}{{ .CA }}{{ len .CAChain }}{{ .Data.Cert }}{{ . | toJSON }}") == (
        'CKA2C{"CA":"A","CAChain":["A","B"],"Cert":"C","Key":"K"}'
    )
    assert shown("{{ . }}") == "{C K A [A B]}"
    assert str(asked) == "vault.pki(pki/issue/web->/here/cert.pem)"
    with pytest.raises(TemplateError, match=r"can't evaluate field LeaseID in type dependency\.PemEncoded"):
        shown("{{ .LeaseID }}")
