"""Whether a template by hand reads what a binding would read in its place, and else what differs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secretbinding.desired.decisions import fields_read, state_of
from secretbinding.desired.values import Observed
from secretbinding.job.targets import normal_path
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Reading
from secretbinding.models.binding import Kv, SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.template_reads import Call, Printed, Reads, Value, reads_of
from secretbinding.models.templates import TemplateSyntaxError
from secretbinding.ports import Json
from secretbinding.render.template import variables_of_entry
from secretbinding.rotation import SecretDecision

_SETS = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
_AROUND = " \t\r\"'"


@dataclass(frozen=True, slots=True)
class Source:
    """What a binding reads of one secret.

    Attributes:
        paths: the spellings of its path, the binding's own first: consul-template puts `data/` into one of KV version
            2 that lacks it.
        version: the version that it reads now, 0 where it has none.
        newest: what names no version gives the same now.
        settable: a text may name the version.
    """

    name: str
    function: str
    paths: tuple[str, ...]
    arguments: frozenset[str]
    data: tuple[str, ...]
    version: int = 0
    newest: bool = True
    settable: bool = False

    def differs(self, call: Call) -> str:
        """How a call reads another thing than this, "" when it does not."""
        if call.function != self.function or call.path not in self.paths:
            return f"reads {call}, and the binding reads {self.paths[0]} for secret {self.name}"
        if frozenset((call.arguments or ())[1:]) != self.arguments:
            wanted = ", ".join(sorted(self.arguments)) or "nothing"
            return f"reads {call}, and the binding sends {wanted} with it for secret {self.name}"
        if call.query:
            if not self.settable or call.query != f"version={self.version}":
                version = f"version {self.version}" if self.settable else "whatever is newest"
                return f"reads {call}, and the binding reads {version} of secret {self.name}"
        elif not self.newest:
            return f"reads the newest version of {call.path}, and the binding version {self.version} of it"
        return ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a binding gives a task: by file the secret, by variable the secret and its field, or a plain text."""

    files: Mapping[str, Source]
    variables: Mapping[str, tuple[Source, str] | str]


def wanted_of(
    key: BindingKey, binding: SecretBinding, observed: Observed, decisions: Sequence[SecretDecision]
) -> Wanted:
    """What a binding would render, by destination and variable; `decisions` are those of the versions to read."""
    fields = fields_read(key, binding, decisions, observed)
    files: dict[str, Source] = {}
    variables: dict[str, tuple[Source, str] | str] = dict(binding.spec.workload.env)
    for entry, decision in zip(binding.spec.secrets, decisions, strict=True):
        reading = KINDS[entry.kind_name].reading(entry, state_of(observed, key, entry), None)
        if not isinstance(reading, Reading):
            continue
        source = _source(key, binding, entry, reading, observed, decision)
        files |= {normal_path(target.path): source for target in entry.files or ()}
        variables |= {
            name: (source, field) for name, field in variables_of_entry(entry, fields.get(entry.name)).items()
        }
    return Wanted(files, variables)


def _source(
    key: BindingKey,
    binding: SecretBinding,
    entry: SecretEntry,
    reading: Reading,
    observed: Observed,
    decision: SecretDecision,
) -> Source:
    state = state_of(observed, key, entry)
    path = reading.path.partition("?")[0].strip("/")
    paths: tuple[str, ...] = (path,)
    version, settable, newest = 0, False, True
    if isinstance(entry.source, Kv) and state.engine == "v2":
        paths = (path, f"{entry.source.mount.strip('/')}/{entry.source.path.strip('/')}")
        pinned = decision.pin.version if decision.pin is not None else 0
        version = entry.source.version or pinned
        settable = version > 0
        newest = version in (0, state.current)
    data = tuple(filter(None, reading.data.split(".")))
    return Source(entry.name, reading.function, paths, frozenset(reading.arguments), data, version, newest, settable)


def difference(template: Json, wanted: Wanted) -> str:
    """In words how a template by hand differs from what the binding renders, as a sentence's end; "" when it does not.

    A file's text is not compared, only what it reads; of an env template each variable has to come from the binding's
    field, as it is or quoted.
    """
    path = normal_path(str(template.get("DestPath") or ""))
    env = bool(template.get("Envvars"))
    source = wanted.files.get(path)
    if source is not None and env:
        return "sets environment variables (env = true), and the binding renders a file there"
    text = template.get("EmbeddedTmpl")
    if not isinstance(text, str) or not text:
        return "has its text in a file of its own (source), so that nobody can tell what it reads"
    try:
        reads = reads_of(text, template.get("LeftDelim") or "{{", template.get("RightDelim") or "}}")
    except TemplateSyntaxError as error:
        return f"does not parse: {error.message}"
    if source is not None:
        if not reads.calls:
            return f"reads no secret, and the binding renders secret {source.name} there"
        return next(filter(None, (source.differs(call) for call in reads.calls)), "")
    return _difference_of_variables(reads, wanted)


def _difference_of_variables(reads: Reads, wanted: Wanted) -> str:
    sources = list({id(each[0]): each[0] for each in wanted.variables.values() if not isinstance(each, str)}.values())
    for call in reads.calls:
        told = [source.differs(call) for source in sources]
        if "" not in told:
            same = [text for text, source in zip(told, sources, strict=True) if call.path in source.paths]
            return next(iter([*same, *told]), f"reads {call}, and the binding none for its variables")
    for line in reads.lines():
        merged = _merged(line)
        found = _SETS.match(merged[0].text) if merged and merged[0].value is None else None
        if found is None:
            continue
        name = found[1]
        expected = wanted.variables.get(name)
        if expected is None:
            continue
        rest = [Printed(merged[0].text[found.end() :]), *merged[1:]]
        told_of = _difference_of_value(name, rest, expected)
        if told_of:
            return told_of
    return ""


def _difference_of_value(name: str, pieces: Sequence[Printed], expected: tuple[Source, str] | str) -> str:
    texts = "".join(piece.text for piece in pieces)
    values = [piece.value for piece in pieces if piece.value is not None]
    if isinstance(expected, str):
        plain = "".join((piece.value.text or "\0") if piece.value is not None else piece.text for piece in pieces)
        same = plain.strip(_AROUND) == expected.strip(_AROUND)
        return "" if same else f"sets {name} to another text than spec.workload.env"
    source, field = expected
    wanted = f"the binding sets it to field {field} of secret {source.name} ({source.paths[0]})"
    if len(values) != 1 or texts.strip(_AROUND):
        return f"sets {name} to more than one field, or to text around it, and {wanted}"
    (value,) = values
    if value.call is None:
        return f"sets {name} to something of which its text does not show what it is, and {wanted}"
    if source.differs(value.call):
        return f"sets {name} from {value.call}, and {wanted}"
    if value.changed:
        return f"sets {name} to a value that {value.changed} makes, and {wanted}"
    if not _is_field(value, source, field):
        shown = ".".join(value.fields) or "the whole secret"
        return f"sets {name} to {shown} of {value.call.path}, and {wanted}"
    return ""


def _is_field(value: Value, source: Source, field: str) -> bool:
    if source.function == "nomadVar":
        # Each item of a variable is at hand as itself, in a map of items, and in a map of texts.
        return value.fields in {
            (*before, field, *after) for before in ((), ("Items",), ("ItemsMap",)) for after in ((), ("Value",))
        }
    return value.fields == (*source.data, field)


def _merged(line: Sequence[Printed]) -> list[Printed]:
    """The pieces of a line with texts that follow one another as one."""
    merged: list[Printed] = []
    for piece in line:
        if piece.value is None and merged and merged[-1].value is None:
            merged[-1] = Printed(merged[-1].text + piece.text)
        elif piece.value is not None or piece.text or not merged:
            merged.append(piece)
    return merged
