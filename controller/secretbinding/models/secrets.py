"""The secrets of a binding: where each comes from, and as what the tasks see it."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Self, get_args

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule, mapping, objects, unique
from secretbinding.models.files import ONE_PLACE, FileTarget, file_path
from secretbinding.models.kinds import (
    Aws,
    Azure,
    Database,
    Gcp,
    Generic,
    KindSpec,
    Kv,
    NomadVariable,
    Pki,
    Ssh,
    Transit,
    When,
)
from secretbinding.models.rotation import Strategy
from secretbinding.models.types import (
    Command,
    DnsLabel,
    Duration,
    EnvMap,
    EnvPrefix,
    PositiveDuration,
    SignalName,
)

MAX_FILES = 8
MAX_SECRETS = 32


class ChangeMode(StrEnum):
    """What Nomad does with a task whose rendered secret changed (strategy Native)."""

    RESTART = "Restart"
    SIGNAL = "Signal"
    SCRIPT = "Script"
    NOOP = "Noop"


class ChangeScript(Model):
    """A script that Nomad runs in the task when the rendered secret changed."""

    command: Command
    """The executable, as the task sees it."""
    args: Annotated[tuple[Command, ...], Field(max_length=32)] = ()
    """Its arguments."""
    timeout: PositiveDuration | None = None
    """How long it may run."""
    fail_on_error: bool = False
    """Whether a failure of the script kills the task."""


class EnvFrom(Model):
    """All fields of a secret as environment variables, by their own names."""

    prefix: EnvPrefix | None = None
    """What stands before each field's name."""
    upper_case: bool = False
    """Whether the names are written in upper case."""

    def variable(self, field: str) -> str:
        """The variable that a field becomes."""
        name = f"{self.prefix or ''}{field}"
        return name.upper() if self.upper_case else name


class _Named(Model):
    """A name, and one field for each kind of secret: the field registers the kind."""

    name: DnsLabel
    """Name of the entry, unique in the binding."""
    kv: Kv | None = None
    """A secret of a KV engine."""
    database: Database | None = None
    """Credentials of a database engine."""
    pki: Pki | None = None
    """A certificate of a PKI engine."""
    ssh: Ssh | None = None
    """A certificate, or a one-time password, of an SSH engine."""
    aws: Aws | None = None
    """Credentials of an AWS engine."""
    gcp: Gcp | None = None
    """A token or key of a Google Cloud engine."""
    azure: Azure | None = None
    """Credentials of an Azure engine."""
    transit: Transit | None = None
    """The right to use a key of a transit engine."""
    nomad_variable: NomadVariable | None = None
    """Values of a Nomad variable."""
    generic: Generic | None = None
    """A path of any engine."""


def _kinds() -> Iterator[tuple[str, tuple[str, type[KindSpec]]]]:
    for attribute, field in _Named.model_fields.items():
        for model in get_args(field.annotation):
            if isinstance(model, type) and issubclass(model, KindSpec):
                yield field.alias or attribute, (attribute, model)


_FIELDS = dict(_kinds())
KINDS: Mapping[str, type[KindSpec]] = {name: model for name, (_, model) in _FIELDS.items()}
"""The specifications by the name of the field that holds them in a manifest."""
_LISTED = ", ".join(KINDS)
_GIVE_NOTHING = tuple(name for name, model in KINDS.items() if not model.gives_fields)


def kind_of(entry: Mapping[str, Any]) -> str:
    """The kind of a raw entry, "" when it has none."""
    return next((kind for kind in KINDS if entry.get(kind) is not None), "")


def _holds(entry: Mapping[str, Any], when: Callable[[type[KindSpec]], When]) -> str:
    """The kind of a raw entry for which a condition of its kind holds, "" for another entry."""
    kind = kind_of(entry)
    return kind if kind and when(KINDS[kind]).check(mapping(entry[kind])) else ""


def _holds_cel(entry: str, when: Callable[[type[KindSpec]], When]) -> str:
    """The same as a CEL condition on a variable that stands for the entry."""
    conditions = []
    for name, model in KINDS.items():
        inner = when(model).cel.format(f"{entry}.{name}")
        if inner != "false":
            conditions.append(f"has({entry}.{name}) && {inner}" if inner else f"has({entry}.{name})")
    return " || ".join(f"({text})" if "&&" in text else text for text in conditions)


def token_lasts(entry: Mapping[str, Any]) -> str:
    """The kind of a raw entry whose running tasks go on needing their Vault token; "" for one where they do not."""
    return _holds(entry, lambda kind: kind.token_lasts)


def token_lasts_cel(entry: str) -> str:
    """The same as a CEL condition on a variable that stands for the entry."""
    return _holds_cel(entry, lambda kind: kind.token_lasts)


def _ever_new(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if mapping(obj.get("rotation")).get("strategy") != Strategy.NATIVE:
        return
    for index, entry in objects(obj.get("secrets")):
        if entry.get("changeMode") is None and (kind := _holds(entry, lambda kind: kind.ever_new)):
            message = f"Nomad would restart the task every few minutes, since {kind} gives another value at each look"
            yield Fault(("secrets", index), message)


CHANGE_MODE_CHOSEN = Rule(
    message="with strategy Native Nomad would restart the task every few minutes, since an SSH certificate and a Google"
    " token are other ones at each look",
    remedy="set changeMode (Noop where the task reads its file again), or use strategy Rolling",
    cel="!has(self.rotation) || !has(self.rotation.strategy) || self.rotation.strategy != 'Native'"
    f" || self.secrets.all(s, has(s.changeMode) || !({_holds_cel('s', lambda kind: kind.ever_new)}))",
    field=".secrets",
    check=_ever_new,
)
"""A rule of the specification."""


def _one_kind(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [kind for kind in KINDS if obj.get(kind) is not None]
    if len(given) > 1:
        yield Fault((given[1],), f"an entry is one secret, but {' and '.join(given)} are set")
    elif not given:
        yield Fault((), "no kind of secret is set")


def _sees(obj: Mapping[str, Any]) -> str:
    """The first field by which a task would see something of a raw entry, "" when there is none."""
    if obj.get("envFrom") is not None:
        return "envFrom"
    return next((name for name in ("env", "files") if obj.get(name)), "")


def _a_target(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if not _sees(obj) and kind_of(obj) not in _GIVE_NOTHING:
        yield Fault((), "none of env, envFrom, files is set, so no task would see the secret")


def _nothing_to_see(obj: Mapping[str, Any]) -> Iterator[Fault]:
    kind, seen = kind_of(obj), _sees(obj)
    if kind in _GIVE_NOTHING and seen:
        yield Fault((seen,), f"{kind} gives a right and no fields, so that there is nothing for {seen}")


def _change_signal(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if (obj.get("changeMode") == ChangeMode.SIGNAL) != (obj.get("changeSignal") is not None):
        yield Fault(("changeSignal",), "changeSignal and changeMode Signal belong together")


def _change_script(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if (obj.get("changeMode") == ChangeMode.SCRIPT) != (obj.get("changeScript") is not None):
        yield Fault(("changeScript",), "changeScript and changeMode Script belong together")


def _no_signal_for_env(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("changeMode") == ChangeMode.SIGNAL and (obj.get("env") or obj.get("envFrom") is not None):
        yield Fault(("changeMode",), "a signal does not change the environment of a running task")


_HAS_ENV = "(has(self.env) && self.env.size() > 0)"
_HAS_FILES = "(has(self.files) && self.files.size() > 0)"
_SEEN = f"{_HAS_ENV} || has(self.envFrom) || {_HAS_FILES}"
_NO_FIELDS = " || ".join(f"has(self.{name})" for name in _GIVE_NOTHING)


class SecretEntry(_Named):
    """One secret: exactly one kind, and at least one of env, envFrom, files (a kind that is a right has none)."""

    env: EnvMap | None = None
    """Environment variables: name of the variable, and the field of the secret that it gets."""
    env_from: EnvFrom | None = None
    """Every field of the secret as an environment variable."""
    files: Annotated[
        tuple[FileTarget, ...],
        Field(
            max_length=MAX_FILES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["destination"]},
        ),
    ] = ()
    """Files with the secret."""
    change_mode: ChangeMode | None = None
    """What Nomad does when the rendered secret changed, with strategy Native."""
    change_signal: SignalName | None = None
    """The signal of changeMode Signal."""
    change_script: ChangeScript | None = None
    """The script of changeMode Script."""
    splay: Duration | None = None
    """Spread the changes of several tasks over this time."""

    rules = (
        Rule(
            message="an entry is exactly one kind of secret",
            remedy=f"set exactly one of {_LISTED}",
            cel=f"[{', '.join(f'has(self.{name})' for name in KINDS)}].exists_one(x, x)",
            check=_one_kind,
        ),
        Rule(
            message="none of env, envFrom, files is set, so no task would see the secret",
            remedy="set env, envFrom or files",
            cel=f"{_SEEN} || {_NO_FIELDS}",
            check=_a_target,
        ),
        Rule(
            message=f"{', '.join(_GIVE_NOTHING)} gives a right and no fields",
            remedy="leave out env, envFrom and files",
            cel=f"!({_NO_FIELDS}) || !({_SEEN})",
            check=_nothing_to_see,
        ),
        Rule(
            message="changeSignal and changeMode Signal belong together",
            remedy="set both or none",
            cel="(has(self.changeMode) && self.changeMode == 'Signal') == has(self.changeSignal)",
            field=".changeSignal",
            check=_change_signal,
        ),
        Rule(
            message="changeScript and changeMode Script belong together",
            remedy="set both or none",
            cel="(has(self.changeMode) && self.changeMode == 'Script') == has(self.changeScript)",
            field=".changeScript",
            check=_change_script,
        ),
        Rule(
            message="a signal does not change the environment of a running task",
            remedy="use files instead of variables, or another changeMode",
            cel=f"!(has(self.changeMode) && self.changeMode == 'Signal' && ({_HAS_ENV} || has(self.envFrom)))",
            field=".changeMode",
            check=_no_signal_for_env,
        ),
        unique("files", "destination"),
        ONE_PLACE,
    )

    @property
    def kind_name(self) -> str:
        """The kind's name in a manifest, such as `kv`."""
        return next(name for name, (attribute, _) in _FIELDS.items() if getattr(self, attribute) is not None)

    @property
    def source(self) -> KindSpec:
        """The specification of the one kind that is set."""
        found: KindSpec = getattr(self, _FIELDS[self.kind_name][0])
        return found

    def named(self, role: str) -> Self:
        """The entry with the name of the role that is made for it; itself where it makes none."""
        named = self.source.named(role)
        return self if named is self.source else self.model_copy(update={_FIELDS[self.kind_name][0]: named})


def env_names(entry: Mapping[str, Any]) -> Iterator[str]:
    """The names of the variables that a raw entry sets one by one."""
    return (name for name in mapping(entry.get("env")) if isinstance(name, str))


def destinations(entry: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Index and destination, with its folder, of the files of a raw entry."""
    for index, target in objects(entry.get("files")):
        if isinstance(destination := target.get("destination"), str):
            yield index, file_path(destination)
