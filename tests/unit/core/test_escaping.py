"""Whatever a manifest may hold, it cannot break out of policy, template or mark."""

import json
import re
import string
from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secretbinding.desired.compute import desire
from secretbinding.job.marks import read_mark
from secretbinding.models.binding import FileFormat, Generic, Kv, SecretBinding
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import Action, TokenKind, scan
from secretbinding.models.types import ENV_NAME, FIELD_NAME, Destination, Mount, VaultPath
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.policy import policy_text
from secretbinding.render.text import go_string, is_identifier
from tests.support import builders as make
from tests.support.builders import INSTANCE, generic_state, kv_state, templates_of
from tests.support.fuzzing import cases
from tests.unit.core.hcl import read_policy_hcl
from tests.unit.core.world import World

NASTY = "ab/{}\"'`\\$%*.:;=|&<>()[]#~ -_äß€😀\u00a0"


DESTINATION, MOUNT, VAULT_PATH = (get_args(kind)[1] for kind in (Destination, Mount, VaultPath))


def legal(text: Any, max_size: int = 12) -> st.SearchStrategy[str]:
    """Texts that the model accepts, with many characters that mean something somewhere."""
    raw = st.text(st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=max_size)
    return raw.filter(lambda value: text.complaint(value) is None)


mounts, paths = legal(MOUNT), legal(VAULT_PATH)
fields = legal(FIELD_NAME, 256) | st.sampled_from(
    ['a"b', "a}}b", "{{ end }}", "*/}}", "a b", "a\\", "`", "$x", "db-pass"]
)
variables = legal(ENV_NAME) | st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda value: ENV_NAME.complaint(value) is None
)
destinations = st.builds(lambda root, rest: f"{root}/{rest}", st.sampled_from(["secrets", "local"]), paths)
env_maps = st.dictionaries(variables, fields, min_size=1, max_size=4)
field_maps = st.dictionaries(fields, fields, min_size=1, max_size=4)
values = st.text(max_size=30).filter(lambda value: "\0" not in value)
bodies = st.lists(
    st.sampled_from(
        [
            "{{ .Data.data.password }}",
            '{{ index .Data.data "a}}b" }}',
            "{{/* a comment */}}",
            "plain\n",
            "{",
            "}",
            "{{ if .x }}y{{ end }}",
            "{{- with .y }}z{{ end -}}",
            '{{ secret "other/path" }}',
            "$",
            "EOT\n",
            "{{ `raw }} ` }}",
            "*/",
            "/*",
            "#",
            '{{ define "t" }}x{{ end }}',
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)
delimiters = st.sampled_from(
    [None, ("[[", "]]"), ("<%", "%>"), ("{", "}"), ("/*", "*/"), ("s", "t"), ('"', '"'), ("((", "))")]
)


@st.composite
def manifests(draw: st.DrawFn) -> SecretBinding:
    """A binding of one secret that the model accepts."""
    kind = draw(st.sampled_from(["kv", "generic"]))
    entry: Json = {
        "name": draw(st.sampled_from(["app", "workload-env", "a"])),
        kind: {"mount": draw(mounts), "path": draw(paths)},
    }
    if kind == "generic":
        words = draw(st.lists(st.sampled_from(["read", "list", "update"]), unique=True, min_size=1))
        entry["generic"]["capabilities"] = words
    if draw(st.booleans()):
        entry["env"] = draw(env_maps)
        if kind == "kv" and draw(st.booleans()):
            entry["envFrom"] = {"prefix": "ALL_", "upperCase": draw(st.booleans())}
    else:
        file: Json = {"destination": draw(destinations)}
        pair = draw(delimiters)
        if draw(st.booleans()) or pair:
            file["template"] = draw(bodies)
            if pair:
                file["template"] = file["template"].replace("{{", pair[0]).replace("}}", pair[1])
                file["leftDelimiter"], file["rightDelimiter"] = pair
        else:
            file["format"] = draw(st.sampled_from([str(one) for one in FileFormat]))
            if draw(st.booleans()):
                file["fields"] = draw(env_maps if file["format"] in ("Dotenv", "Shell") else field_maps)
        entry["files"] = [file]
    made = make.manifest()
    made["spec"]["secrets"] = [entry]
    taken = set(entry.get("env", ()))
    made["spec"]["workload"]["env"] = {
        k: v for k, v in draw(st.dictionaries(variables, values, max_size=2)).items() if k not in taken
    }
    try:
        return SecretBinding.model_validate_json(json.dumps(made))
    except ValidationError:
        assume(False)
        raise


def injected(made: SecretBinding) -> tuple[World, Any]:
    """A job with the binding's share, and what was decided."""
    world = World()
    world.user_registers(make.job())
    entry = made.spec.secrets[0]
    files = [field for target in entry.files for field in (target.fields or {}).values()]
    names = (*(entry.env or {}).values(), *files)
    assert isinstance(entry.source, Kv | Generic)
    world.secrets["kv", entry.source.path] = kv_state(7, fields=names)
    world.secrets["generic", entry.source.path] = generic_state()
    item = make.given(made)
    return world, desire(world.observe([item]), [item], INSTANCE)


def parse(template: Json) -> Sequence[Action]:
    return check(template["EmbeddedTmpl"], template["LeftDelim"], template["RightDelim"])


@settings(max_examples=cases(300))
@given(manifests())
def test_the_policy_grants_exactly_the_secrets_path(made: SecretBinding) -> None:
    _, desired = injected(made)
    document = desired.policies[policy_name(Owner(INSTANCE, make.key()))]
    entry = made.spec.secrets[0]
    if entry.kv is not None:
        wanted = {f"{entry.kv.mount}/data/{entry.kv.path}": {"read"}}
    else:
        assert entry.generic is not None
        wanted = {f"{entry.generic.mount}/{entry.generic.path}": {str(word) for word in entry.generic.capabilities}}
    assert read_policy_hcl(policy_text(document)) == wanted


@settings(max_examples=cases(300))
@given(manifests())
def test_templates_hold_exactly_the_expected_actions(made: SecretBinding) -> None:
    _, desired = injected(made)
    entry = made.spec.secrets[0]
    if desired.results[make.key()].fault is not None:
        # Refused as a whole: its own text does not parse where it has to stand, or the names of its fields are not
        # known, or not those of variables.
        assert entry.files or entry.env_from is not None
        assert templates_of(desired.job) == []
        return
    source = entry.kv or entry.generic
    assert source is not None
    path = f"{source.mount}/data/{source.path}?version=7" if entry.kv else f"{source.mount}/{source.path}"
    for template in templates_of(desired.job):
        actions = parse(template)
        marks = [action for action in actions if action.comment is not None and "secretbinding" in action.comment]
        assert marks == [actions[0]]
        assert actions[0].offset == 0
        found = read_mark(template)
        assert found is not None
        assert found[1]
        assert found[0].owner == Owner(INSTANCE, make.key())
        if found[0].slot == "workload-env":
            _check_plain(actions, made.spec.workload.env)
        elif template["Envvars"]:
            variables = dict(entry.env or {})
            if entry.env_from is not None:
                variables = {entry.env_from.variable(field): field for field in variables.values()} | variables
            _check_env(actions, path, ".Data.data" if entry.kv else ".Data", variables)
            _check_lines(template, set(variables))
        else:
            _check_file(template, actions, path, entry.files[0])


# What a file in a format may call.
_FORMATTING = {
    "add", "and", "divide", "eq", "index", "len", "lt", "modulo", "multiply", "not", "or", "printf", "regexMatch",
    "replaceAll", "sprig_fail", "sprig_hasKey", "sprig_splitList", "sprig_typeIs", "subtract", "toJSON",
}  # fmt: skip
# What it may hold outside of actions: names of variables, and the characters of the format.
_LETTERS = string.ascii_letters + string.digits + "_"
_OUTSIDE = {
    FileFormat.JSON: "{ ,:}\n",
    FileFormat.YAML: ": {}\n",
    FileFormat.PROPERTIES: "=\\\n",
    FileFormat.DOTENV: _LETTERS + "='\"\n",
    FileFormat.SHELL: _LETTERS + " ='\n",
}


def _without_strings(text: str) -> str:
    """A template's text with its string literals emptied, so that what looks like a delimiter in one is none."""
    at, plain = 0, ""
    for action in scan(text):
        plain += text[at : action.offset] + "{{}}"
        at = action.end
    return plain + text[at:]


def _shape(actions: Sequence[Action]) -> list[list[str]]:
    return [[word.text for word in action.words] for action in actions if action.comment is None]


def _check_plain(actions: Sequence[Action], variables: Any) -> None:
    assert _shape(actions) == [[go_string(value), "|", "toJSON"] for _, value in sorted(variables.items())]
    assert [action.strings[0].value for action in actions[1:]] == [value for _, value in sorted(variables.items())]


def _check_env(actions: Sequence[Action], path: str, data: str, env: dict[str, str]) -> None:
    fields = re.findall(r"\.\w+", data)
    wanted: list[list[str]] = [["with", "secret", go_string(path)]]
    for _, field in sorted(env.items()):
        if is_identifier(field):
            wanted.append([*fields, f".{field}", "|", "toJSON"])
            continue
        literal = go_string(field)
        wanted.append(["if", "not", "(", "sprig_hasKey", *fields, literal, ")"])
        wanted.append(["sprig_fail", go_string(f"the secret has no field {field}")])
        wanted.append(["end"])
        wanted.append(["index", *fields, literal, "|", "toJSON"])
    assert _shape(actions) == [*wanted, ["end"]]
    assert actions[1].strings[0].value == path


def _check_lines(template: Json, names: set[str]) -> None:
    text, at = "", 0
    for action in scan(template["EmbeddedTmpl"]):
        text, at = text + template["EmbeddedTmpl"][at : action.offset], action.end
    lines = [line for line in (text + template["EmbeddedTmpl"][at:]).split("\n") if line]
    assert sorted(lines) == sorted(f"{name}=" for name in names)


def _check_file(template: Json, actions: Sequence[Action], path: str, target: Any) -> None:
    left, right = template["LeftDelim"], template["RightDelim"]
    assert [word.text for word in actions[1].words] == ["with", "secret", go_string(path)]
    assert actions[1].strings[0].value == path
    assert actions[-1].keyword == "end"
    text = template["EmbeddedTmpl"]
    assert text[actions[-1].end :] == ""
    inside = text[actions[1].end : actions[-1].offset]
    if target.template is not None and inside != target.template:
        # The last character would have become part of the delimiter; it is written as an action instead.
        tail = re.fullmatch(r"(?s)(.*)" + re.escape(f'{left} "{left[0]}" {right}'), inside)
        assert tail is not None
        assert tail[1] + left[0] == target.template
    functions = [
        token.text for action in actions[2:-1] for token in action.tokens if token.kind is TokenKind.IDENTIFIER
    ]
    if target.template is None:
        assert set(functions) <= _FORMATTING
        # Beside what the format itself writes, nothing stands outside of an action.
        assert set(re.sub(r"(?s)\{\{.*?\}\}", "", _without_strings(inside))) <= set(_OUTSIDE[target.format])


@given(values, fields)
@example("\u2028", "\ud7ff\ue000")
@example('"}}{{', "\\")
def test_a_text_in_a_template_is_one_string(value: str, field: str) -> None:
    for text in (value, field):
        (action,) = scan(f"{{{{ {go_string(text)} }}}}")
        (token,) = action.words
        assert token.kind is TokenKind.STRING
        assert token.value == text


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_whatever_the_tenant_is_called_its_variables_stay_in_their_folder(tenant: str, name: str) -> None:
    from secretbinding.models.key import BindingKey
    from secretbinding.render.template import env_destination

    destination = env_destination(BindingKey("files", tenant, "app"), "app")
    parts = destination.split("/")
    assert parts[:3] == ["secrets", "nomad-vault", "files"]
    assert len(parts) == 6
    assert not {"", ".", ".."} & set(parts)
    other = env_destination(BindingKey("files", name, "app"), "app")
    assert (destination == other) == (tenant == name)


def test_a_secret_may_be_called_like_what_we_make() -> None:
    made = make.binding(make.kv("workload-env"), make.workload_env(VAULT_ADDR="http://vault:8200"))
    _, desired = injected(made)
    destinations = [template["DestPath"] for template in templates_of(desired.job)]
    assert len(destinations) == len(set(destinations)) == 2
    assert DESTINATION.complaint("secrets/nomad-vault/x") is not None
