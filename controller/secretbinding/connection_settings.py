"""The file of named connections: further pairs of Vault and Nomad, checked as the variables of the default one are."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import AliasChoices, BaseModel, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from secretbinding.agent_settings import AgentSettings
from secretbinding.errors import ManifestError, Problem, UsageError
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.naming import INSTANCE_PATTERN
from secretbinding.settings import ConsulSettings, ControllerSettings, NamedConnection, NomadSettings, VaultSettings
from secretbinding.strictyaml import Document, field_name, load
from secretbinding.strictyaml import Path as Place

if TYPE_CHECKING:
    from secretbinding.settings import Settings

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_OWN = {
    "instance": "instance",
    "jwtMount": "jwt_mount",
    "workers": "workers",
    "maxRolls": "max_rolls",
    "auditFile": "audit_file",
    "auditListen": "audit_listen",
}
"""Settings of the controller that a connection may have of its own."""
_APART = {"audit_file": None, "audit_listen": ""}
"""What tells of one Vault is not inherited by another."""
_AGENT = {"vaultAddr": "vault_addr", "caCert": "ca_cert", "tlsServerName": "tls_server_name"}
_AGENT |= {"approleMount": "approle_mount"}
_LEFT_OUT = "namespace"
"""Of Nomad: what is only the default of a command line."""
_PARTS = ("vault", "nomad", "consul", "agent")
_WORD = re.compile(r"_([a-z])")
_Given = TypeVar("_Given", bound=BaseModel)


class _NotFromEnvironment(BaseSettings):
    """The token of one server must not reach another: nothing comes from the variables of the default connection."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    _where: str = PrivateAttr("")

    def place(self, field: str) -> str:
        return f"{self._where}.{_camel(field)}"


class _Vault(_NotFromEnvironment, VaultSettings):
    pass


class _Nomad(_NotFromEnvironment, NomadSettings):
    pass


class _Consul(_NotFromEnvironment, ConsulSettings):
    pass


def read_connections(path: Path, settings: "Settings") -> Mapping[str, NamedConnection]:
    """The connections of a file, in its order. `settings` are those of the default connection. Raises
    `errors.UsageError` with every fault: file, line, field, and what to do."""
    try:
        data = path.read_bytes()
    except OSError:
        raise UsageError(
            f"{path} cannot be read", remedy="correct SECRETBINDING_CONNECTIONS, or the file's permissions"
        ) from None
    try:
        documents = load(data, file=str(path))
        if len(documents) != 1:
            raise ManifestError(
                [Problem("there is not exactly one document", "write connections: once", "", str(path))]
            )
        reader = _Reader(documents[0], str(path), settings)
        found = reader.read()
        if reader.problems:
            raise ManifestError(reader.problems)
    except ManifestError as error:
        raise UsageError(str(error)) from None
    return found


class _Reader:
    """Reads one document; what is wrong with it gathers in `problems`."""

    def __init__(self, document: Document, file: str, settings: "Settings") -> None:
        self._document = document
        self._file = file
        self._settings = settings
        self.problems: list[Problem] = []

    def read(self) -> dict[str, NamedConnection]:
        listed = self._document.value.get("connections") if isinstance(self._document.value, dict) else None
        if not isinstance(listed, list) or len(self._document.value) != 1:
            self._wrong(
                (), "this is no file of connections", "write a list under `connections:`, and nothing beside it"
            )
            return {}
        found: dict[str, NamedConnection] = {}
        instances = {self._settings.controller.instance: DEFAULT_CONNECTION}
        for index, given in enumerate(listed):
            place: Place = ("connections", index)
            name = self._name(place, given, found)
            made = self._connection(place, name, given) if name is not None else None
            if name is None or made is None:
                continue
            instance = str(made.own["instance"])
            if instance in instances:
                self._wrong(
                    (*place, "instance"),
                    f"instance {instance} is that of connection {instances[instance]}",
                    "give each connection an instance of its own",
                )
            instances[instance] = name
            found[name] = made
        return found

    def _name(self, place: Place, given: Any, found: Mapping[str, NamedConnection]) -> str | None:
        name = given.get("name") if isinstance(given, dict) else None
        if not isinstance(name, str) or not _NAME.match(name):
            remedy = "use up to 63 lower-case letters, digits and dashes, with a letter or digit at both ends"
            self._wrong((*place, "name"), "a connection needs a name", remedy)
        elif name == DEFAULT_CONNECTION:
            remedy = "leave it out here, or give it another name"
            self._wrong((*place, "name"), "default is the connection that VAULT_ADDR and NOMAD_ADDR name", remedy)
        elif name in found:
            self._wrong((*place, "name"), f"connection {name} is there twice", "name each connection once")
        else:
            return name
        return None

    def _connection(self, place: Place, name: str, given: Mapping[str, Any]) -> NamedConnection | None:
        self._unknown(place, given, ("name", *_OWN, *_PARTS))
        own = self._own(place, name, given)
        vault = self._server(_Vault, (*place, "vault"), given.get("vault"))
        nomad = self._server(_Nomad, (*place, "nomad"), given.get("nomad"))
        consul = self._server(_Consul, (*place, "consul"), given.get("consul", {}))
        agent = self._agent((*place, "agent"), given.get("agent", {}))
        if own is None or vault is None or nomad is None or consul is None or agent is None:
            return None
        for part, server in zip(_PARTS, (vault, nomad, consul), strict=False):
            server._where = field_name((*place, part))
        return NamedConnection(vault, nomad, consul, agent, own)

    def _own(self, place: Place, name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        base = self._settings.controller
        instance = f"{base.instance}-{name}"
        if "instance" not in given and not INSTANCE_PATTERN.match(instance):
            self._wrong(
                place,
                f"{instance} is no name of an instance: more than 20 characters",
                "set instance of this connection to a shorter name, and never change it again",
            )
            return None
        chosen = {**_APART, "instance": instance}
        chosen |= {field: given[key] for key, field in _OWN.items() if given.get(key) is not None}
        try:
            made = ControllerSettings(**{**base.model_dump(), **chosen})
        except ValidationError as error:
            self._explain(place, _keys(ControllerSettings, _OWN), error)
            return None
        return {field: getattr(made, field) for field in (*chosen, "instance")}

    def _server(self, kind: type[_Given], place: Place, given: Any) -> _Given | None:
        names = {_camel(field): field for field in kind.model_fields if (kind, field) != (_Nomad, _LEFT_OUT)}
        if not isinstance(given, dict):
            self._wrong(place, "this is no mapping of settings", "write them below it, one a line")
            return None
        if kind is not _Consul and not given.get("address"):
            example = "https://vault.example.com:8200" if kind is _Vault else "https://nomad.example.com:4646"
            self._wrong((*place, "address"), "there is no address", f"set it, such as {example}")
            return None
        secret = {key for key, field in names.items() if kind.model_fields[field].annotation is SecretStr}
        values = dict(given)
        for key in sorted(secret & given.keys()):
            self._wrong((*place, key), "a secret does not belong into this file", f"use {_by_other_means(key)}")
            del values[key]
        for key in sorted(secret):
            variable = values.pop(f"{key}Env", None)
            if variable is None:
                continue
            value = os.environ.get(variable, "") if isinstance(variable, str) else ""
            if not value:
                remedy = "give the controller that variable, or use a file"
                self._wrong((*place, f"{key}Env"), f"environment variable {variable} is not set", remedy)
            values[key] = value
        self._unknown(place, values, tuple(names))
        try:
            return kind(**{names[key]: value for key, value in values.items() if key in names and value is not None})
        except ValidationError as error:
            self._explain(place, _keys(kind, names), error)
            return None

    def _agent(self, place: Place, given: Any) -> AgentSettings | None:
        if not isinstance(given, dict):
            self._wrong(place, "this is no mapping", "write its settings below it")
            return None
        self._unknown(place, given, tuple(_AGENT))
        # The variables tell of the default connection's Vault.
        values: dict[str, Any] = {"vault_addr": "", "ca_cert": None, "tls_server_name": ""}
        values |= {field: given[key] for key, field in _AGENT.items() if given.get(key) is not None}
        try:
            return AgentSettings(**{**self._settings.agent.model_dump(), **values})
        except ValidationError as error:
            self._explain(place, _keys(AgentSettings, _AGENT), error)
            return None

    def _unknown(self, place: Place, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if key not in known:
                self._wrong((*place, key), "there is no such setting", f"use one of {', '.join(known)}")

    def _explain(self, place: Place, keys: Mapping[str, str], error: ValidationError) -> None:
        """Every fault that the settings themselves found, and never a value."""
        for fault in error.errors(include_input=False, include_url=False):
            key = keys.get(str(fault["loc"][0])) if fault["loc"] else None
            where = (*place, key) if key is not None else place
            self._wrong(where, str(fault["msg"]).removeprefix("Value error, "), "correct it")

    def _wrong(self, place: Place, message: str, remedy: str) -> None:
        line, column = self._document.place(place)
        self.problems.append(Problem(message, remedy, field_name(place), self._file, line, column))


def _keys(kind: type[BaseModel], names: Mapping[str, str]) -> dict[str, str]:
    """The keys of the file by what a fault calls them: a field, or the variable that it is set by elsewhere."""
    found = {field: key for key, field in names.items()}
    for key, field in names.items():
        alias = kind.model_fields[field].validation_alias
        found |= dict.fromkeys(map(str, alias.choices if isinstance(alias, AliasChoices) else [alias]), key)
    return found


def _by_other_means(key: str) -> str:
    return f"{key}File, the path of a file that holds it, or {key}Env, the name of an environment variable"


def _camel(field: str) -> str:
    return _WORD.sub(lambda found: found[1].upper(), field)
