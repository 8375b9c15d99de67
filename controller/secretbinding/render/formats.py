"""The fields of a secret as a file in a well-known format: the text of the template.

Whatever a value holds, a reader of the format gets it back as it is, and it can add no line and no name. All texts
stand where the dot is what was read, with the delimiters `{{` and `}}`.
"""

import re
from collections.abc import Callable, Mapping, Set

from secretbinding.models.binding import FileFormat
from secretbinding.render.text import go_string, is_identifier

# `$text` is `$value` where that is a text, else its JSON.
_TEXT = '{{ $text := $value }}{{ if not (sprig_typeIs "string" $value) }}{{ $text = toJSON $value }}{{ end }}'

# Single quotes, between which most readers take everything as it is; double quotes where they differ about it.
_DOTENV = (
    "{{ if regexMatch `['\\\\\\r]` $text }}"
    '"{{ $text | replaceAll "\\\\" "\\\\\\\\" | replaceAll "\\"" "\\\\\\"" | replaceAll "\\n" "\\\\n"'
    ' | replaceAll "\\r" "\\\\r" }}"'
    "{{ else }}'{{ $text }}'{{ end }}"
)
# The shell takes everything between single quotes as it is; a quote ends them, stands for itself, and begins them.
_SHELL = "'{{ $text | replaceAll \"'\" \"'\\\\''\" }}'"
# Go's quoted text is a double-quoted scalar of YAML: every escape of the one is an escape of the other.
_YAML = '{{ if sprig_typeIs "string" $value }}{{ printf "%q" $value }}{{ else }}{{ toJSON $value }}{{ end }}'

# Java's rules (`Properties.load`): ISO 8859-1, so that all beyond ASCII is written as the units of UTF-16, here
# computed from the bytes of UTF-8.
_UNITS = {
    2: ("subtract 12416 (add (multiply 64 (index $c 0)) (index $c 1))",),
    3: ("subtract 925824 (add (multiply 4096 (index $c 0)) (add (multiply 64 (index $c 1)) (index $c 2)))",),
    4: (
        "subtract 6728 (add (multiply 256 (index $c 0)) (add (multiply 4 (index $c 1)) (divide 16 (index $c 2))))",
        "add 56192 (add (multiply 64 (modulo 16 (index $c 2))) (index $c 3))",
    ),
}


def _unit(number: str) -> str:
    return f'{{{{ printf "\\\\u%04x" ({number}) }}}}'


_ASCII = (
    f"{{{{ if or (lt (index $c 0) 32) (eq (index $c 0) 127) }}}}{_unit('index $c 0')}"
    '{{ else }}{{ if or (eq $c "\\\\") (and (eq $c " ") (eq $i 0)) }}\\{{ end }}{{ $c }}{{ end }}'
)
_PROPERTIES = (
    '{{ range $i, $c := sprig_splitList "" $text }}'
    f"{{{{ if eq (len $c) 1 }}}}{_ASCII}"
    + "".join(f"{{{{ else if eq (len $c) {n} }}}}{''.join(map(_unit, units))}" for n, units in _UNITS.items())
    + "{{ end }}{{ end }}"
)
# In the key of a property these have a meaning of their own.
_KEY_SPECIAL = re.compile(r"([\\ =:#!])")


def whole(file_format: FileFormat, data: str) -> str:
    """All fields of `data`, an expression, in a format that needs no names beforehand: Json or Yaml."""
    if file_format is FileFormat.YAML:
        line = f'{{{{ printf "%q" $name }}}}: {_YAML}\n'
        return f"{{{{ range $name, $value := {data} }}}}{line}{{{{ else }}}}{{}}\n{{{{ end }}}}"
    return f"{{{{ {data} | toJSON }}}}\n"


def chosen(file_format: FileFormat, data: str, fields: Mapping[str, str], optional: Set[str] = frozenset()) -> str:
    """Fields of `data` by the names that they have in the file; those of `optional` are left out where they are
    missing."""
    if file_format is FileFormat.JSON:
        members = [f"{_name_in_json(name)}:{expression(data, field)}" for name, field in sorted(fields.items())]
        # With a space, so that the brace is no part of a delimiter.
        return f"{{ {','.join(members)}}}\n"
    write = _LINES[file_format]
    return "".join(_line(data, field, write(name), field in optional) for name, field in sorted(fields.items()))


def expression(data: str, field: str) -> str:
    """One field as JSON. `index` answers a missing one with nothing at all, `ErrMissingKey` or not: so a field whose
    name is no identifier is guarded."""
    if is_identifier(field):
        return f"{{{{ {data}.{field} | toJSON }}}}"
    return f"{_guard(data, field)}{{{{ index {data} {go_string(field)} | toJSON }}}}"


def _line(data: str, field: str, line: str, optional: bool) -> str:
    literal = go_string(field)
    if is_identifier(field):
        text = f"{{{{ $value := {data}.{field} }}}}{line}\n"
    else:
        text = f"{{{{ $value := index {data} {literal} }}}}{line}\n"
    if optional:
        return f"{{{{ if sprig_hasKey {data} {literal} }}}}{text}{{{{ end }}}}"
    return text if is_identifier(field) else f"{_guard(data, field)}{text}"


def _guard(data: str, field: str) -> str:
    missing = go_string(f"the secret has no field {field}")
    return f"{{{{ if not (sprig_hasKey {data} {go_string(field)}) }}}}{{{{ sprig_fail {missing} }}}}{{{{ end }}}}"


def _name_in_json(name: str) -> str:
    return f"{{{{ {go_string(name)} | toJSON }}}}"


def _name_in_yaml(name: str) -> str:
    return f'{{{{ printf "%q" {go_string(name)} }}}}'


def _name_in_properties(name: str) -> str:
    """The key as Java reads it, as a text that holds no delimiter."""
    units = "".join(
        _KEY_SPECIAL.sub(r"\\\1", char) if " " <= char <= "~" else "".join(f"\\u{unit:04x}" for unit in _utf16(char))
        for char in name
    )
    return f"{{{{ {go_string(units)} }}}}"


def _utf16(char: str) -> list[int]:
    raw = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)]


_LINES: Mapping[FileFormat, Callable[[str], str]] = {
    FileFormat.DOTENV: lambda name: f"{_TEXT}{name}={_DOTENV}",
    FileFormat.SHELL: lambda name: f"{_TEXT}export {name}={_SHELL}",
    FileFormat.YAML: lambda name: f"{_name_in_yaml(name)}: {_YAML}",
    FileFormat.PROPERTIES: lambda name: f"{_TEXT}{_name_in_properties(name)}={_PROPERTIES}",
}
