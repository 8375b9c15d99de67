"""The template blocks that we put into a task, as values: text, destination, and how a change is met."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secretbinding.kinds.base import Pin, Reading, Use
from secretbinding.models.binding import FileFormat, FileTarget, SecretEntry
from secretbinding.models.files import LINE_FORMATS
from secretbinding.models.key import BindingKey
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import TemplateSyntaxError, scan
from secretbinding.naming import stable_digest
from secretbinding.render.formats import chosen, expression, whole
from secretbinding.render.text import go_string

ENV_FOLDER = "secrets/nomad-vault"
_DEFAULT_SPLAY_SECONDS = 5.0
# No name of a secret begins with an underscore.
_WORKLOAD_ENV = "_workload"
_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """What Nomad does when a rendered text changes while the task runs. `mode` in Nomad's spelling."""

    mode: str = "noop"
    signal: str = ""
    splay_seconds: float = _DEFAULT_SPLAY_SECONDS
    script: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TemplateBlock:
    """One template of ours in one task, before its mark is put in.

    Attributes:
        slot: what it is for, unique within a binding's share of a task: `workload-env`, `env:<secret>`,
            `file:<secret>:<destination>`, `right:<secret>`.
        body: the text without the mark.
        of: digest of the secret's identity (kind, mount, path), "" when it reads none; a pin is of this secret only.
        pin: the version or revision that it reads, when it reads one.
        call: the words of the action that opens it, after `with`: a function and its arguments; empty for a text that
            reads nothing.
        reads: what it reads and writes, as JSON values: part of the meaning.
    """

    slot: str
    body: str
    destination: str
    env: bool
    once: bool
    change: Change
    perms: str = "0644"
    uid: int = -1
    gid: int = -1
    delimiters: tuple[str, str] = ("{{", "}}")
    of: str = ""
    pin: Pin | None = None
    call: tuple[str, ...] = ()
    reads: tuple[Any, ...] = ()

    def meaning(self, *, renewed: bool = True) -> dict[str, Any]:
        """What the template is meant to do, whatever text a release of ours renders for it: the part of the
        comparison that decides whether a job has to change. With `renewed` false, whenever its leases were renewed."""
        pin = self.pin
        if pin is not None and pin.renewed and not renewed:
            pin = Pin.revision(pin.told)
        return {
            "slot": self.slot,
            "destination": self.destination,
            "env": self.env,
            "once": self.once,
            "change": [self.change.mode, self.change.signal, self.change.splay_seconds, self.change.script],
            "file": [self.perms, self.uid, self.gid, *self.delimiters],
            "pin": [pin.version, pin.created] if pin else None,
            "reads": list(self.reads),
        }


def env_destination(key: BindingKey, name: str) -> str:
    """Where the variables of one secret are rendered: below `secrets/`, which is in memory and which Nomad's file
    API does not serve. Source, tenant and name are path segments, so that no two bindings meet."""
    return f"{ENV_FOLDER}/{_segment(key.source)}/{_segment(key.tenant)}/{_segment(key.name)}/{name}.env"


def secret_identity(entry: SecretEntry) -> str:
    """A digest of which secret an entry reads, whatever its version and its shape in the task."""
    return stable_digest([entry.kind_name, *entry.source.identity()])


def workload_env_block(key: BindingKey, variables: Mapping[str, str]) -> TemplateBlock:
    """Plain variables of `workload.env`, such as VAULT_ADDR. A template, because the task's own `env` block could not
    tell which variables are ours."""
    lines = [f"{name}={{{{ {go_string(value)} | toJSON }}}}" for name, value in sorted(variables.items())]
    return TemplateBlock(
        slot="workload-env",
        body="\n" + "\n".join(lines) + "\n",
        destination=env_destination(key, _WORKLOAD_ENV),
        env=True,
        once=True,
        change=Change(),
        perms="0600",
        reads=tuple([name, value] for name, value in sorted(variables.items())),
    )


def variables_of_entry(entry: SecretEntry, fields: Iterable[str] | None) -> dict[str, str]:
    """The variables that an entry sets, and the field that each gets. `fields` are the names of the secret's fields,
    None where nobody knows them; where two ways lead to one variable, the one that names it counts."""
    made = {entry.env_from.variable(field): field for field in fields or ()} if entry.env_from is not None else {}
    return made | (entry.env or {})


def secret_blocks(
    key: BindingKey,
    entry: SecretEntry,
    reading: Reading,
    pin: Pin | None,
    change: Change,
    fields: Mapping[str, Any] | None = None,
) -> tuple[TemplateBlock, ...]:
    """All templates of one secret: its variables in one, each file in one of its own. `fields` are those of the version
    that is read, as far as they are known: names, with a mapping for an object."""
    of = secret_identity(entry)
    blocks: list[TemplateBlock] = []
    if entry.env or entry.env_from is not None:
        # Which variables there are follows from the version, so that only the wish is part of the meaning.
        wish: list[Any] = [[list(item) for item in sorted((entry.env or {}).items())]]
        if entry.env_from is not None:
            wish.append([entry.env_from.prefix, entry.env_from.upper_case])
        blocks.append(
            TemplateBlock(
                slot=f"env:{entry.name}",
                body=_env_body(reading, variables_of_entry(entry, fields)),
                destination=env_destination(key, entry.name),
                env=True,
                once=not reading.polls,
                change=change,
                perms="0600",
                of=of,
                pin=pin,
                call=_call(reading),
                reads=(*_read(reading), reading.data, *wish),
            )
        )
    blocks.extend(_file_block(entry, target, reading, pin, change, fields) for target in entry.files)
    return tuple(blocks)


def right_block(key: BindingKey, entry: SecretEntry, use: Use) -> TemplateBlock:
    """What stands in the job for a right that tasks use by themselves: a mark has to be somewhere."""
    return TemplateBlock(
        slot=f"right:{entry.name}",
        body=f"{{{{ {go_string(use.note)} }}}}\n",
        destination=env_destination(key, entry.name).removesuffix(".env") + ".right",
        env=False,
        once=True,
        change=Change(),
        of=secret_identity(entry),
    )


def unsound(block: TemplateBlock) -> str:
    """Why Nomad would not read the text as it is meant, `""` when it would: a template of the user's that only parses
    by itself, or delimiters that occur in what is put around it."""
    left, right = block.delimiters
    try:
        actions = check(f"{left}/* mark */{right}{block.body}", left, right)
    except TemplateSyntaxError as error:
        function = block.call[0] if block.call else "secret"
        return f"the template at {block.destination} cannot stand inside `with {function}`: {error.message}"
    if block.env or not block.call:
        return ""
    opening = actions[1] if len(actions) > 1 else None
    read = [word.text for word in opening.words] if opening is not None else []
    if read != ["with", *block.call] or actions[-1].keyword != "end":
        return f"the delimiters {left} and {right} of {block.destination} occur in the text around the template"
    return ""


def _env_body(reading: Reading, variables: Mapping[str, str]) -> str:
    """`NAME=value` lines, quoted so that no value can add a line or a variable."""
    lines = [f"{name}={expression(reading.data, field)}" for name, field in sorted(variables.items())]
    return f"\n{{{{ with {' '.join(_call(reading))} }}}}\n" + "\n".join(lines) + "\n{{ end }}\n"


def _call(reading: Reading) -> tuple[str, ...]:
    """consul-template's function with its arguments: the path, and for a write what is sent."""
    return (reading.function, *(go_string(text) for text in (reading.path, *reading.arguments)))


def _read(reading: Reading) -> tuple[Any, ...]:
    """What is read, as far as it is a part of the meaning."""
    return (reading.path, *([list(reading.arguments)] if reading.arguments else []), *filter(None, [reading.made]))


def _file_block(
    entry: SecretEntry,
    target: FileTarget,
    reading: Reading,
    pin: Pin | None,
    change: Change,
    fields: Mapping[str, Any] | None,
) -> TemplateBlock:
    left = target.left_delimiter or "{{"
    right = target.right_delimiter or "}}"
    text = target.template if target.template is not None else _format_text(target, reading, fields)
    return TemplateBlock(
        slot=f"file:{entry.name}:{target.path}",
        body=f"{left} with {' '.join(_call(reading))} {right}{_closed(text, left, right)}{left} end {right}",
        destination=target.path,
        env=False,
        once=not reading.polls,
        change=change,
        perms=target.perms or "0644",
        uid=target.uid if target.uid is not None else -1,
        gid=target.gid if target.gid is not None else -1,
        delimiters=(left, right),
        of=secret_identity(entry),
        pin=pin,
        call=_call(reading),
        reads=(*_read(reading), target.template, target.format, *([dict(target.fields)] if target.fields else [])),
    )


def _closed(text: str, left: str, right: str) -> str:
    """The text such that a delimiter can follow. Where its last characters and the delimiter would be read as a
    delimiter that begins earlier (`{` and `{{`), they are written as an action."""
    try:
        literal = text[max((action.end for action in scan(text, left, right)), default=0) :]
    except TemplateSyntaxError:
        return text
    for length in range(min(len(left) - 1, len(literal)), 0, -1):
        if (literal[-length:] + left).startswith(left):
            return f"{text[:-length]}{left} {go_string(literal[-length:])} {right}"
    return text


def _segment(part: str) -> str:
    """A part of a key as one segment of a path: as it is when it is plain, else a digest of it (which begins with a
    character that no plain one begins with)."""
    return part if _PLAIN_SEGMENT.match(part) else f"_{stable_digest(part)}"


def _format_text(target: FileTarget, reading: Reading, fields: Mapping[str, Any] | None) -> str:
    """The secret in a well-known format; where none is asked for, the kind's own form, or JSON."""
    if target.fields:
        return chosen(target.format or FileFormat.JSON, reading.data, target.fields)
    if target.format is None and reading.default:
        return reading.default
    wanted = target.format or FileFormat.JSON
    if reading.offers:
        return chosen(wanted, reading.data, {name: name for name in reading.offers})
    if wanted not in LINE_FORMATS:
        return whole(wanted, reading.data)
    known = fields or {}
    # A list that a kind may give, such as a chain of certificates, is not always there.
    optional = frozenset(name for name, inner in known.items() if isinstance(inner, Mapping))
    return chosen(wanted, reading.data, {name: name for name in known}, optional)
