"""Executes a template. Secrets that are not known yet are noted and count as nothing, as in consul-template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.devstack.simulator.template.dependencies import Dependency
from secretbinding.devstack.simulator.template.functions import FUNCTIONS, FunctionError
from secretbinding.devstack.simulator.template.lexer import TemplateError
from secretbinding.devstack.simulator.template.parser import Node, Operand, Pipeline, parse
from secretbinding.devstack.simulator.template.values import (
    Secret,
    VariableItem,
    VariableItems,
    text_of,
    truth,
    type_name,
)

_SPECIAL = frozenset(("secret", "pkiCert", "nomadVar", "env", "key", "keyOrDefault", "and", "or"))
NAMES = frozenset(FUNCTIONS) | _SPECIAL


@dataclass(slots=True)
class Rendering:
    """The outcome of one pass: `text` counts only when `missing` is empty.

    `missing` are the dependencies that were not known, as Nomad prints them (`vault.read(secret/data/app)`).
    `used` is all that was asked of Vault and Nomad.
    """

    text: str
    missing: list[str] = field(default_factory=list)
    used: list[Dependency] = field(default_factory=list)


def render(
    source: str,
    secrets: Mapping[Dependency, Secret | VariableItems],
    env: Mapping[str, str],
    *,
    left: str = "{{",
    right: str = "}}",
    error_on_missing_key: bool = False,
    destination: str = "",
) -> Rendering:
    """One pass over the template, whose text goes to `destination`. Raises `TemplateError` (parse or execute)."""
    try:
        nodes = parse(source, NAMES, left, right)
    except TemplateError as error:
        raise TemplateError(f"parse: {error}") from None
    run = _Run(source, secrets, env, error_on_missing_key, destination)
    run.nodes(nodes, None)
    return Rendering("".join(run.output), run.missing, run.used)


class _BreakError(Exception):
    pass


class _ContinueError(Exception):
    pass


class _Run:
    def __init__(
        self,
        source: str,
        secrets: Mapping[Dependency, Secret | VariableItems],
        env: Mapping[str, str],
        strict: bool,
        destination: str,
    ) -> None:
        self._source, self._secrets, self._env, self._strict = source, secrets, env, strict
        self._destination = destination
        self.output: list[str] = []
        self.missing: list[str] = []
        self.used: list[Dependency] = []
        self._variables: list[tuple[str, Any]] = [("$", None)]

    def _fail(self, operand: Operand | None, offset: int, text: str, why: str) -> TemplateError:
        place = operand.offset if operand is not None else offset
        line = self._source.count("\n", 0, place) + 1
        column = place - (self._source.rfind("\n", 0, place) + 1)
        return TemplateError(f'execute: template: :{line}:{column}: executing "" at <{text}>: {why}')

    def nodes(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            self._node(node, dot)

    def _node(self, node: Node, dot: Any) -> None:
        if node.kind == "text":
            self.output.append(node.text)
            return
        if node.kind == "break":
            raise _BreakError
        if node.kind == "continue":
            raise _ContinueError
        assert node.pipe is not None
        known = len(self._variables)
        value = self._pipeline(node.pipe, dot)
        if node.kind == "action":
            if node.pipe.names:
                self._assign(node.pipe, value)
            else:
                self.output.append(text_of(value))
            return
        if node.kind == "range":
            self._range(node, value, dot)
        else:
            if node.pipe.names:
                self._assign(node.pipe, value)
            inner = value if node.kind == "with" and truth(value) else dot
            self.nodes(node.body if truth(value) else node.otherwise, inner)
        del self._variables[known:]

    def _assign(self, pipe: Pipeline, value: Any) -> None:
        if pipe.declare:
            self._variables.append((pipe.names[0], value))
            return
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == pipe.names[0]:
                self._variables[place] = (pipe.names[0], value)
                return

    def _range(self, node: Node, value: Any, dot: Any) -> None:
        assert node.pipe is not None
        pairs: list[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(number, number) for number in range(value)]
        elif value is None:
            pairs = []
        else:
            raise self._fail(None, node.offset, node.pipe.text, f"range can't iterate over {text_of(value)}")
        known = len(self._variables)
        for key, item in pairs:
            names = node.pipe.names
            if len(names) == 1:
                self._variables.append((names[0], item))
            elif names:
                self._variables += [(names[0], key), (names[1], item)]
            try:
                self.nodes(node.body, item)
            except _ContinueError:
                continue
            except _BreakError:
                break
            finally:
                del self._variables[known:]
        if not pairs:
            self.nodes(node.otherwise, dot)

    def _pipeline(self, pipe: Pipeline, dot: Any) -> Any:
        value: Any = None
        for place, command in enumerate(pipe.commands):
            value = self._command(command, dot, [value] if place else [])
        return value

    def _command(self, command: list[Operand], dot: Any, piped: list[Any]) -> Any:
        head = command[0]
        if head.kind == "function":
            text = " ".join(one.text for one in command)
            value = self._call(head, command[1:], dot, piped, text)
            return self._chain(head, value, head.fields)
        if len(command) > 1 or piped:
            raise self._fail(head, head.offset, head.text, f"can't give argument to non-function {head.text}")
        if head.kind == "constant" and head.value is None:
            raise self._fail(head, head.offset, "nil", "nil is not a command")
        return self._value(head, dot)

    def _value(self, operand: Operand, dot: Any) -> Any:
        match operand.kind:
            case "constant":
                value = operand.value
            case "dot" | "field":
                value = dot
            case "variable":
                value = next(item for name, item in reversed(self._variables) if name == operand.value)
            case "pipeline":
                value = self._pipeline(operand.value, dot)
            case _:
                value = self._call(operand, [], dot, [], operand.text)
        return self._chain(operand, value, operand.fields)

    def _chain(self, operand: Operand, value: Any, fields: list[str]) -> Any:
        for name in fields:
            if isinstance(value, Secret):
                if name not in value.fields:
                    why = f"can't evaluate field {name} in type {value.type}"
                    raise self._fail(operand, 0, operand.text, why)
                value = value.fields[name]
            elif isinstance(value, VariableItems) and name == "ItemsMap":
                value = {key: str(item) for key, item in value.items()}
            elif isinstance(value, VariableItem) and name in ("Key", "Value"):
                value = value.key if name == "Key" else str(value)
            elif isinstance(value, dict):
                if name not in value and self._strict:
                    raise self._fail(operand, 0, operand.text, f'map has no entry for key "{name}"')
                value = value.get(name)
            elif value is None:
                if operand.kind in ("pipeline", "function"):
                    raise self._fail(operand, 0, operand.text, f"nil pointer evaluating interface {{}}.{name}")
                if self._strict:
                    raise self._fail(operand, 0, operand.text, f'nil data; no entry for key "{name}"')
                return None
            else:
                raise self._fail(operand, 0, operand.text, f"can't evaluate field {name} in type interface {{}}")
        return value

    def _call(self, head: Operand, rest: list[Operand], dot: Any, piped: list[Any], text: str) -> Any:
        name = str(head.value)
        if name in ("and", "or"):
            return self._short_circuit(name, rest, dot, piped)
        arguments = [self._value(one, dot) for one in rest] + piped
        try:
            match name:
                case "secret":
                    return self._secret(arguments, "")
                case "pkiCert":
                    return self._secret(arguments, self._destination)
                case "nomadVar":
                    return self._variable(_string(arguments[0]))
                case "env":
                    return self._env.get(_string(arguments[0]), "") if arguments else ""
                case "key":
                    self.missing.append(f"kv.block({_string(arguments[0])})")
                    return ""
                case "keyOrDefault":
                    self.missing.append(f"kv.block({_string(arguments[0])})")
                    return arguments[1]
            return FUNCTIONS[name](*arguments)
        except FunctionError as error:
            raise self._fail(head, 0, text, f"error calling {name}: {error}") from None
        except (TypeError, ValueError, AttributeError):
            # The words of Python's own errors are left out: they may hold a value.
            why = f"wrong number of args for {name} or wrong type for value"
            raise self._fail(head, 0, text, why) from None

    def _short_circuit(self, name: str, rest: list[Operand], dot: Any, piped: list[Any]) -> Any:
        value: Any = None
        for operand in rest:
            value = self._value(operand, dot)
            if truth(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _secret(self, arguments: list[Any], destination: str) -> Secret | None:
        if not arguments:
            return None
        try:
            asked = Dependency.of([_string(one) for one in arguments], destination)
        except ValueError as error:
            raise FunctionError(str(error)) from None
        found = self._known(asked)
        return found if isinstance(found, Secret) else None

    def _variable(self, argument: str) -> VariableItems | None:
        found = self._known(Dependency.of_variable(argument, self._env.get("NOMAD_NAMESPACE", "default")))
        return found if isinstance(found, VariableItems) else None

    def _known(self, asked: Dependency) -> Secret | VariableItems | None:
        self.used.append(asked)
        if asked not in self._secrets:
            self.missing.append(str(asked))
            return None
        return self._secrets[asked]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise FunctionError(f"wrong type for value; expected string; got {type_name(value)}")
    return value
