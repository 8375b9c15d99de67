"""The base class of all manifest models, and rules that hold between the fields of one object."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

Path = tuple[str | int, ...]
RULE_ERROR = "rule"
TEXT_ERROR = "text"
# As validation context: the rules between fields are checked elsewhere.
RULES_CHECKED = {"rules": "checked"}
VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule found. `path` is relative to the object the rule belongs to, in the manifest's own names."""

    path: Path
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition between fields of one object, told twice: as CEL for the API server and as a Python check.

    Attributes:
        message: what is wrong, for the API server, which knows no specifics.
        remedy: what to do about it.
        cel: the expression that must be true (`self` is the object); None where CEL cannot say it, or where the
            schema says it already (list-map keys).
        field: CRD `fieldPath`, such as `.env`; empty for the object itself.
        check: yields the faults of an object as JSON holds it: camelCase names, types not yet checked. None for
            rules about updates (`oldSelf`), which no single manifest can break.
    """

    message: str
    remedy: str = ""
    cel: str | None = None
    field: str = ""
    check: Callable[[Mapping[str, Any]], Iterator[Fault]] | None = None

    def faults(self, obj: Mapping[str, Any]) -> Iterator[Fault]:
        """The faults of `obj`, with this rule's remedy where a fault has none of its own."""
        if self.check is not None:
            for fault in self.check(obj):
                yield fault if fault.remedy else Fault(fault.path, fault.message, self.remedy)

    def validation(self) -> dict[str, str] | None:
        """The entry of `x-kubernetes-validations` (CustomResourceDefinition API), None where there is no CEL."""
        if self.cel is None:
            return None
        entry = {"rule": self.cel, "message": f"{self.message}; {self.remedy}" if self.remedy else self.message}
        if self.field:
            entry["fieldPath"] = self.field
        return entry


class Model(BaseModel):
    """An object of a manifest: strict types, no unknown fields, immutable, camelCase in YAML and JSON.

    Construct it in Python with snake_case names. A construction that breaks a rule raises pydantic's
    `ValidationError`; for people's input use `models.loading`, which reports every problem in plain words.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self, info: ValidationInfo) -> Self:
        if self.rules and info.context != RULES_CHECKED:
            faults = [fault for rule in self.rules for fault in rule.faults(self.to_json())]
            if faults:
                told = "; ".join(fault.message for fault in faults)
                raise PydanticCustomError(RULE_ERROR, "{told}", {"told": told})
        return self

    def to_json(self) -> dict[str, Any]:
        """The object in the manifest's own names, without what is left at its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        generated = handler.resolve_ref_schema(handler(schema))
        entries = [entry for rule in cls.rules if (entry := rule.validation()) is not None]
        if entries:
            generated[VALIDATIONS] = entries
        return generated


def objects(value: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The members of a list that are objects, with their index; nothing for what is no list."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield index, item


def mapping(value: object) -> Mapping[str, Any]:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def unique(list_field: str, key: str) -> Rule:
    """The rule that the members of a list-map differ in their key; the API server enforces it by itself."""

    def check(obj: Mapping[str, Any]) -> Iterator[Fault]:
        seen: dict[object, int] = {}
        for index, item in objects(obj.get(list_field)):
            value = item.get(key)
            if not isinstance(value, str):
                continue
            if value in seen:
                yield Fault(
                    (list_field, index, key),
                    f"{key} `{value}` is used twice, first by {list_field}[{seen[value]}]",
                )
            else:
                seen[value] = index

    return Rule(message=f"each {key} is used once", remedy=f"give each of the {list_field} its own {key}", check=check)
