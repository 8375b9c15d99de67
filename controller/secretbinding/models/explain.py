"""What is wrong with a manifest, in plain words: pydantic's errors translated, unknown names with their nearest."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from inspect import isclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from secretbinding.models.base import TEXT_ERROR, Fault, Model, Path
from secretbinding.models.binding import SecretBinding
from secretbinding.models.text import quoted

# How pydantic marks, in the place of an error, that it is about the key of a map and not about its value.
_KEY_MARK = "[key]"
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
}


def explain(
    error: ValidationError, plain: Mapping[Path, str], model: type[Model] = SecretBinding
) -> Iterator[tuple[Path, str, str]]:
    """(path, message, remedy) of each of pydantic's errors about a `model`; rules between fields are `rule_faults`'
    part.

    `plain` has the source text of unquoted values that are no texts, by path.
    """
    for details in error.errors(include_url=False):
        if not _miscounted(details):
            path = tuple(part for part in details["loc"] if part != _KEY_MARK)
            message, remedy = _words(details, path, plain, model)
            yield path, message, remedy


def rule_faults(model: type[Model], obj: object, path: Path = ()) -> Iterator[tuple[Path, Fault]]:
    """The faults of all rules between fields, with their full paths, whether or not the single fields are right."""
    if not isinstance(obj, Mapping):
        return
    for rule in model.rules:
        for fault in rule.faults(obj):
            yield path + fault.path, fault
    for name, (nested, listed) in _nested(model).items():
        value = obj.get(name)
        if listed:
            for index, item in enumerate(value if isinstance(value, list) else ()):
                yield from rule_faults(nested, item, (*path, name, index))
        else:
            yield from rule_faults(nested, value, (*path, name))


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the known name nearest to a wrong one; empty when none is near."""
    by_lower = {candidate.lower().replace("_", ""): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.7)
    return f"did you mean `{by_lower[found[0]]}`?" if found else ""


def _words(details: ErrorDetails, path: Path, plain: Mapping[Path, str], model: type[Model]) -> tuple[str, str]:
    """(message, remedy) for one of pydantic's errors."""
    kind, context = details["type"], details.get("ctx", {})
    name = str(path[-1]) if path else ""
    if kind == TEXT_ERROR:
        return context["message"], context["remedy"]
    if kind == "missing":
        meant = _description(model, path)
        return f"`{name}` is missing", f"set it: {meant}" if meant else "set it"
    if kind == "extra_forbidden":
        known = _fields(model, path[:-1])
        return f"unknown field {quoted(name)}", nearest(name, known) or f"remove it; known here: {', '.join(known)}"
    if kind == "enum":
        return _not_one_of(details["input"], context["expected"])
    if kind in _WANTED:
        return _wrong_type(details["input"], _WANTED[kind], plain.get(path))
    if kind in ("too_short", "too_long"):
        count = len(details["input"])
        few = kind == "too_short"
        limit = context["min_length" if few else "max_length"]
        what = "bindings of the same job" if model is SecretBinding else "policies"
        remedy = "leave it out, or add one" if few and count == 0 else f"split it into several {what}"
        bound = f"at least {limit} {'is' if limit == 1 else 'are'} needed" if few else f"the limit is {limit}"
        return f"`{name}` has {count} {'entry' if count == 1 else 'entries'}, {bound}", remedy
    if kind in ("greater_than_equal", "less_than_equal"):
        least = kind == "greater_than_equal"
        limit = context["ge" if least else "le"]
        return f"`{name}` is {details['input']}, the {'least' if least else 'greatest'} is {limit}", "change it"
    if kind == "json_invalid":
        return "the object holds text that is no Unicode", "remove the broken characters"
    return details["msg"], "look the field up in the reference"


def _miscounted(details: ErrorDetails) -> bool:
    """Whether pydantic calls a list too short only because it did not count the members that have faults."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _not_one_of(value: object, expected: str) -> tuple[str, str]:
    # pydantic writes the choices as "'A', 'B' or 'C'".
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    listed = ", ".join(choices)
    if not isinstance(value, str):
        return f"must be one of {listed}, got {_shown(value)}", "write one of them"
    return f"{quoted(value)} is not one of {listed}", nearest(value, choices) or "write one of them"


def _wrong_type(value: object, wanted: str, plain: str | None) -> tuple[str, str]:
    message = f"must be {wanted}, got {_shown(value, plain)}"
    if wanted == "a text" and isinstance(value, bool | int | float):
        return message, f'quote it: "{plain if plain is not None else json_text(value)}"'
    if wanted == "a text" and value is None:
        return message, "write a value, or remove the line"
    if wanted == "a list":
        return message, "begin each entry with `-`"
    if wanted == "a map":
        return message, "write `name: value` lines below it"
    return message, f"write {wanted}" + (", without quotes" if isinstance(value, str) else "")


def json_text(value: object) -> str:
    """A number or truth value as YAML writes it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _shown(value: object, plain: str | None = None) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{plain or json_text(value)}`"
    if isinstance(value, int | float):
        return f"the number {plain or value}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return "a list" if isinstance(value, list | tuple) else "a map"


@cache
def _nested(model: type[Model]) -> Mapping[str, tuple[type[Model], bool]]:
    """The fields of a model that hold other models, by their names in a manifest, and whether they hold a list."""
    return {
        info.alias or name: found for name, info in model.model_fields.items() if (found := _model_in(info.annotation))
    }


def _model_in(annotation: Any, listed: bool = False) -> tuple[type[Model], bool] | None:
    if isclass(annotation) and issubclass(annotation, Model):
        return annotation, listed
    inside = listed or get_origin(annotation) is tuple
    return next((found for argument in get_args(annotation) if (found := _model_in(argument, inside))), None)


def _model_at(root: type[Model], path: Path) -> type[Model] | None:
    model: type[Model] | None = root
    for part in path:
        if isinstance(part, str) and model is not None:
            model = _nested(model).get(part, (None, False))[0]
    return model


def _fields(root: type[Model], path: Path) -> tuple[str, ...]:
    """The names of the fields of the object at a path."""
    model = _model_at(root, path)
    return tuple(info.alias or name for name, info in model.model_fields.items()) if model else ()


def _description(root: type[Model], path: Path) -> str:
    """The first sentence of what a field is, begun with a small letter where it is a plain word."""
    model = _model_at(root, path[:-1])
    for name, info in model.model_fields.items() if model else ():
        if (info.alias or name) == path[-1] and info.description:
            sentence = info.description.split("\n")[0].split(". ")[0].rstrip(".")
            return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence
    return ""
