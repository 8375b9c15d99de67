"""The rules of a file's template, for raw objects as JSON holds them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from secretbinding.models.base import Fault
from secretbinding.models.template_syntax import TemplateFault, template_faults, unknown_functions


def template_or_format(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """A text is given, or made; not both."""
    if obj.get("template") is not None and obj.get("format") is not None:
        yield Fault(("format",), "template and format exclude each other")


def delimiters(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """Delimiters come in a pair, with a template."""
    left, right = obj.get("leftDelimiter"), obj.get("rightDelimiter")
    if (left is None) != (right is None):
        yield Fault(("rightDelimiter" if left is None else "leftDelimiter",), "only one of the two delimiters is set")
    elif left is not None and obj.get("template") is None:
        yield Fault(("leftDelimiter",), "delimiters are set, but there is no template")


def parses(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """The template parses by the rules of Go."""
    for fault in _in_template(obj, template_faults):
        yield Fault(("template",), f"template does not parse: line {fault.line}: {fault.message}", fault.remedy)


def calls_what_there_is(obj: Mapping[str, Any]) -> Iterator[Fault]:
    """Every function of the template is one that Nomad's templates know."""
    for fault in _in_template(obj, unknown_functions):
        yield Fault(("template",), f"template cannot be rendered: line {fault.line}: {fault.message}", fault.remedy)


def _in_template(
    obj: Mapping[str, Any], look: Callable[[str, str, str], Iterator[TemplateFault]]
) -> Iterator[TemplateFault]:
    template = obj.get("template")
    left, right = obj.get("leftDelimiter") or "{{", obj.get("rightDelimiter") or "}}"
    if isinstance(template, str) and isinstance(left, str) and isinstance(right, str):
        yield from look(template, left, right)
