"""A strict YAML reader: plain JSON values with their positions, and an error wherever YAML surprises people."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from secretbinding.errors import ManifestError, Problem

Path = tuple[str | int, ...]

# YAML 1.2, core schema (chapter 10.3): `yes`, `12:30:00` and `2024-01-01` are texts.
_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_STR_TAGS = ("!", "tag:yaml.org,2002:str")
_COLLECTION_TAGS = ("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_INT64 = 2**63
_ESCAPED_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_JSON_ESCAPE = re.compile(rf"(?P<pair>{_ESCAPED_PAIR.pattern})|\\.")

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is read.

    `max_bytes` of the whole text; `max_depth` of nested lists and maps; `max_alias_nodes`: values that come into one
    document by aliases, each use counted with everything below it.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_depth: int = 48
    max_alias_nodes: int = 10_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a stream.

    Attributes:
        value: None, bool, int, float, str, list or dict with str keys, nested.
        line: where it begins, counted from 1.
        places: line and column (from 1) of each value, by its path; for a member of a map, of its key.
        plain: the source text of unquoted values that are no texts, by path, such as `0600` for 600.
    """

    value: Any
    line: int
    places: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    plain: Mapping[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column of the value at `path`, or of the nearest thing around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.line, 1


def field_name(path: Path) -> str:
    """A path as people write it: `spec.secrets[0].env.DB_USER`, `metadata.annotations["a/b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            shown = "".join(
                char if char.isprintable() and char not in '"\\' else f"\\u{ord(char):04x}" for char in part
            )
            text += f'["{shown[:80]}"]'
    return text


def load(data: bytes | str, *, file: str = "", limits: Limits = DEFAULT_LIMITS) -> tuple[Document, ...]:
    """The documents of a YAML (or JSON) stream, those without content left out.

    Raises `ManifestError` with every duplicate key and every value that is not allowed, or with the first fault of
    syntax. Nothing is ever constructed but plain values. Anchors and aliases are allowed in small numbers; tags, merge
    keys, keys that are no texts, and numbers that JSON cannot carry are not.
    """
    text = _with_whole_characters(_decoded(data, file, limits))
    reader = _Reader(file, limits)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(part for part in (error.problem, error.context) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        remedy = "look at the indentation, colons and quotes around this line"
        reader.problems.append(Problem(f"not YAML: {told}", remedy, "", file, line, column))
    except yaml.reader.ReaderError as error:
        line, column = _place_of(text, error.position)
        reader.problems.append(
            Problem("a character that YAML does not allow", "remove the control character", "", file, line, column)
        )
    except _StopError:
        pass
    if reader.problems:
        raise ManifestError(sorted(reader.problems, key=lambda problem: (problem.line, problem.column)))
    return tuple(document for document in reader.documents if document.value is not None)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than a text; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _kind(text) == "str" and "\n" not in text
    style = None if plain else "|" if "\n" in text and text.isascii() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(value: Any) -> str:
    """A plain value as YAML in block style, keys in order. `load` gives it back, and so does any YAML 1.1 reader."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=False)


class _StopError(Exception):
    """Reading on makes no sense: a limit was passed."""


def _position(event: yaml.Event) -> tuple[int, int]:
    """Line and column, from 1, where the event begins."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _place_of(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _decoded(data: bytes | str, file: str, limits: Limits) -> str:
    size = len(data)
    if size > limits.max_bytes:
        message = f"the text has {size} bytes, the limit is {limits.max_bytes}"
        raise ManifestError([Problem(message, "split it into several files", file=file)])
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ManifestError([Problem("the text is not UTF-8", "save it as UTF-8", "", file, line)]) from None
    else:
        text = data
    text = text.removeprefix("\ufeff")
    for index, char in enumerate(text):
        if "\ud800" <= char <= "\udfff" or (char < " " and char not in "\t\n\r"):
            line, column = _place_of(text, index)
            message = f"the character U+{ord(char):04X} is not allowed in YAML"
            raise ManifestError([Problem(message, "remove it", "", file, line, column)])
    return text


def _with_whole_characters(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, which YAML does not know: here they become the character."""
    if text.lstrip()[:1] not in ("{", "[", '"') or not _ESCAPED_PAIR.search(text):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    # In JSON every backslash begins an escape, so that reading from the left finds where each begins.
    return _JSON_ESCAPE.sub(lambda found: json.loads(f'"{found[0]}"') if found["pair"] else found[0], text)


@dataclass(slots=True)
class _Anchored:
    value: Any
    nodes: int


@dataclass(slots=True)
class _Open:
    """A list or map that is being read."""

    value: list[Any] | dict[str, Any]
    path: Path
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    lost: int = 0  # numbers the keys that could not be used, so that their values have paths


class _Reader:
    """Builds documents from PyYAML's events. Not recursive, so that deep nesting cannot exhaust the stack."""

    def __init__(self, file: str, limits: Limits) -> None:
        self.file = file
        self.limits = limits
        self.problems: list[Problem] = []
        self.documents: list[Document] = []
        self._begin(1)

    def _begin(self, line: int) -> None:
        self.line = line
        self.stack: list[_Open] = []
        self.root: Any = None
        self.places: dict[Path, tuple[int, int]] = {}
        self.plain: dict[Path, str] = {}
        self.anchors: dict[str, _Anchored] = {}
        self.alias_nodes = 0

    def take(self, event: yaml.Event) -> None:
        """Take in the next event of the stream."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._begin(_position(event)[0])
        elif isinstance(event, yaml.DocumentEndEvent):
            self.documents.append(Document(self.root, self.line, self.places, self.plain))
        elif isinstance(event, yaml.ScalarEvent):
            if self._expects_key():
                self._key(event)
            else:
                path = self._path(event)
                value = self._scalar(event, path)
                self._place(value, 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            closed = self.stack.pop()
            self._place(closed.value, closed.nodes, closed.anchor)

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def _problem(self, event: yaml.Event, path: Path, message: str, remedy: str) -> None:
        line, column = _position(event)
        self.problems.append(Problem(message, remedy, field_name(path), self.file, line, column))

    def _path(self, event: yaml.Event) -> Path:
        """The path of the value that comes now; its place is noted, unless its key was noted before."""
        if not self.stack:
            path: Path = ()
        elif isinstance(top := self.stack[-1].value, list):
            path = (*self.stack[-1].path, len(top))
        else:
            path = (*self.stack[-1].path, self.stack[-1].key or "")
        self.places.setdefault(path, _position(event))
        return path

    def _place(self, value: Any, nodes: int, anchor: str | None) -> None:
        """Put a finished value where it belongs."""
        if anchor is not None:
            self.anchors[anchor] = _Anchored(value, nodes)
        if not self.stack:
            self.root = value
            return
        top = self.stack[-1]
        top.nodes += nodes
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            top.value[top.key or ""] = value
            top.key = None

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if self._expects_key():
            self._problem(event, self.stack[-1].path, "a key must be a text", "write a plain word before the colon")
            raise _StopError
        path = self._path(event)
        if len(self.stack) >= self.limits.max_depth:
            message = f"lists and maps are nested deeper than {self.limits.max_depth}"
            self._problem(event, path[:8], message, "flatten the document")
            raise _StopError
        if event.tag is not None and event.tag not in _COLLECTION_TAGS:
            self._tag_problem(event, path, event.tag)
        value: list[Any] | dict[str, Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(value, path, event.anchor))

    def _key(self, event: yaml.ScalarEvent) -> None:
        top = self.stack[-1]
        path = top.path
        key = event.value
        if event.anchor is not None:
            self._problem(event, path, "a key must not have an anchor", "remove the `&` mark")
        if event.tag is not None and event.tag not in _STR_TAGS:
            self._tag_problem(event, path, event.tag)
        plain = event.implicit[0] and event.tag is None
        if plain and key == "<<":
            self._problem(event, path, "merge keys (`<<`) are not supported", "write the fields out")
            top.lost += 1
            key = f"<<{top.lost}"
        elif plain and _kind(key) != "str":
            self._problem(event, path, f"the key `{key}` is no text", f'quote it: "{key}"')
        elif key in top.value:
            line = self.places[(*path, key)][0]
            message = f"the key `{_shown(key)}` is given twice, first in line {line}"
            self._problem(event, (*path, key), message, "remove one of them")
            top.lost += 1
            key = f"{key}<{top.lost}>"
        top.key = key
        self.places[(*path, key)] = _position(event)

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        text = event.value
        if event.tag is not None and event.tag not in _STR_TAGS:
            self._tag_problem(event, path, event.tag)
            return None
        if any("\ud800" <= char <= "\udfff" for char in text):
            self._problem(event, path, "the text holds half a character (a lone surrogate)", "mend the \\u escape")
            return None
        if not event.implicit[0] or event.tag is not None:
            return text
        kind = _kind(text)
        if kind != "str":
            self.plain[path] = text
        if kind in ("str", "null", "bool"):
            return {"str": text, "null": None, "bool": text[:1] in "tT"}[kind]
        number = _number(text, kind)
        if number is None:
            self._problem(event, path, f"`{_shown(text)}` is no number that JSON can carry", "quote it")
        return number

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        if self._expects_key():
            self._problem(event, self.stack[-1].path, "a key must not be an alias", "write the key out")
            raise _StopError
        path = self._path(event)
        anchored = self.anchors.get(name)
        if anchored is None:
            self._problem(event, path, f"there is no anchor `&{_shown(name)}` before this alias", "write the value out")
            self._place(None, 1, None)
            return
        self.alias_nodes += anchored.nodes
        if self.alias_nodes > self.limits.max_alias_nodes:
            message = f"aliases stand for more than {self.limits.max_alias_nodes} values"
            self._problem(event, path, message, "write the values out")
            raise _StopError
        self._place(anchored.value, anchored.nodes, None)

    def _tag_problem(self, event: yaml.Event, path: Path, tag: str) -> None:
        self._problem(event, path, f"the tag `{_shown(tag)}` is not supported", "remove it, and quote texts instead")


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _kind(text: str) -> str:
    """What a plain scalar is in YAML's core schema."""
    for kind, pattern in (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT), ("float", _NOT_FINITE)):
        if pattern.match(text):
            return kind
    return "str"


def _number(text: str, kind: str) -> int | float | None:
    """The number; None for one that JSON or an API server cannot carry."""
    if kind == "int" and len(text) <= 66:
        number = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        return number if -_INT64 <= number < _INT64 else None
    if kind == "float" and not _NOT_FINITE.match(text):
        decimal = float(text)
        return decimal if math.isfinite(decimal) else None
    return None
