"""The files that a secret is rendered into: where they go, what they hold, and whose they are."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from secretbinding.models import template_rules
from secretbinding.models.base import Fault, Model, Rule, mapping, objects
from secretbinding.models.types import (
    ENV_NAME,
    Delimiter,
    Destination,
    FileFields,
    Id32,
    Permissions,
    TemplateText,
)

DEFAULT_FOLDER = "secrets"


class FileFormat(StrEnum):
    """How a file shows the fields of a secret when no template is given."""

    DOTENV = "Dotenv"
    JSON = "Json"
    YAML = "Yaml"
    PROPERTIES = "Properties"
    SHELL = "Shell"


LINE_FORMATS = (FileFormat.DOTENV, FileFormat.PROPERTIES, FileFormat.SHELL)
"""Formats of one line for each field, so that the names of the fields have to be known before the file is."""
VARIABLE_FORMATS = (FileFormat.DOTENV, FileFormat.SHELL)
"""Formats whose names are those of variables."""


def file_path(destination: str) -> str:
    """Where a file goes: a name without a folder goes to `secrets/`."""
    return destination if "/" in destination else f"{DEFAULT_FOLDER}/{destination}"


def _one_place(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """Two spellings of one destination; equal ones are told apart by the key of the list."""
    first: dict[str, str] = {}
    for index, target in objects(obj.get("files")):
        destination = target.get("destination")
        if isinstance(destination, str):
            spelled = first.setdefault(file_path(destination), destination)
            if spelled != destination:
                yield Fault(("files", index, "destination"), f"`{destination}` and `{spelled}` are one file")


ONE_PLACE = Rule(message="two files have one destination", remedy="give each its own destination", check=_one_place)
"""A rule of the object that has the files."""


def _template_or_fields(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("template") is not None and obj.get("fields"):
        yield Fault(("fields",), "template and fields exclude each other")


def _names_of_variables(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("format") in VARIABLE_FORMATS:
        for name in mapping(obj.get("fields")):
            if isinstance(name, str) and (found := ENV_NAME.complaint(name)):
                yield Fault(("fields", name), *found)


_LASTING = r"^\.\./alloc/(data|logs)(/|$)"
"""What Nomad carries on to the next allocation with a sticky or migrating disk, and shows by its log API."""


def _no_lasting_place(obj: Mapping[str, Any]) -> Iterator[Fault]:
    destination = obj.get("destination")
    if isinstance(destination, str) and re.match(_LASTING, destination):
        folder = "/".join(destination.split("/")[:3])
        yield Fault(("destination",), f"`{folder}` is no place for secrets: Nomad moves or shows what is there")


class FileTarget(Model):
    """A file with the secret, in the task's directories."""

    destination: Destination
    """Where the file goes: below secrets/ or local/ of each task, a name alone to secrets/; of an agent, ../alloc/."""
    perms: Permissions | None = None
    """Permissions in octal, in quotes: "0600"."""
    uid: Id32 | None = None
    """Owner of the file."""
    gid: Id32 | None = None
    """Group of the file."""
    template: TemplateText | None = None
    """A consul-template text, passed through to Nomad."""
    left_delimiter: Delimiter | None = None
    """Replaces `{{` in the template."""
    right_delimiter: Delimiter | None = None
    """Replaces `}}` in the template."""
    format: FileFormat | None = None
    """How to write the fields when there is no template; the usual form of the kind when left out."""
    fields: FileFields | None = None
    """Which fields the file has, by the names that they have there; all fields by their own names when left out."""

    rules = (
        Rule(
            message="../alloc/data and ../alloc/logs are no place for secrets: Nomad moves or shows what is there",
            remedy="write a path below secrets/, such as secrets/app.conf",
            cel="!self.destination.matches('" + _LASTING.replace("\\", "\\\\") + "')",
            field=".destination",
            check=_no_lasting_place,
        ),
        Rule(
            message="template and format exclude each other",
            remedy="set one of template, format",
            cel="!(has(self.template) && has(self.format))",
            field=".format",
            check=template_rules.template_or_format,
        ),
        Rule(
            message="template and fields exclude each other",
            remedy="set one of template, fields",
            cel="!(has(self.template) && has(self.fields) && self.fields.size() > 0)",
            field=".fields",
            check=_template_or_fields,
        ),
        Rule(
            message="a name cannot be that of a variable",
            remedy="use letters, digits and `_`, and none of PATH, LD_*, NOMAD_*, VAULT_TOKEN, or another format",
            cel="!has(self.fields) || !has(self.format) || !(self.format in ['Dotenv', 'Shell'])"
            f" || self.fields.all(k, {ENV_NAME.condition('k')})",
            field=".fields",
            check=_names_of_variables,
        ),
        Rule(
            message="leftDelimiter, rightDelimiter and template belong together",
            remedy="set both delimiters with a template, or none",
            cel="has(self.leftDelimiter) == has(self.rightDelimiter)"
            " && (!has(self.leftDelimiter) || has(self.template))",
            field=".leftDelimiter",
            check=template_rules.delimiters,
        ),
        Rule(message="template does not parse", remedy="mend the template", check=template_rules.parses),
        Rule(
            message="template calls a function that does not exist",
            remedy="correct its name",
            check=template_rules.calls_what_there_is,
        ),
    )

    @property
    def path(self) -> str:
        """The destination with its folder."""
        return file_path(self.destination)
