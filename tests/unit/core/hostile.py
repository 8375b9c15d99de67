"""Bindings of every kind whose names and texts are chosen to break out, as long as the model takes them."""

import json
import string
from typing import Any, get_args

from hypothesis import assume
from hypothesis import strategies as st

from secretbinding.errors import ManifestError
from secretbinding.kinds.base import SecretState
from secretbinding.models.binding import SecretBinding, SecretEntry
from secretbinding.models.kinds.types import Statement
from secretbinding.models.loading import parse_object
from secretbinding.models.text import Text
from secretbinding.models.types import ENV_NAME, FIELD_NAME, Command, Mount, VaultPath
from secretbinding.ports import Json
from tests.support.builders import kv_state
from tests.unit.core.test_escaping import NASTY, bodies, delimiters, values

# Characters that mean something somewhere, and some that only look like them.
_ALPHABET = sorted(
    {
        *NASTY,
        *string.printable,
        *"\ufb01\u2019\u201c\u201d\u2215\uff0e\uff02\u2018\ufe5b\ufe5c\u2026",
        "\u0301",
        "\ud7ff",
        "\ue000",
        "\U0001f511",
    }
)


def _legal(text: Text, *, parts: int = 1) -> st.SearchStrategy[str]:
    """Texts that a field takes, made of every character that it takes; of several parts with slashes between them."""
    inside = [char for char in _ALPHABET if char != "/" and text.complaint(f"a{char}a") is None]
    part = st.builds(
        lambda first, middle, last: f"{first}{middle}{last}",
        st.sampled_from("aZ_"),
        st.text(st.sampled_from(inside), max_size=8),
        st.sampled_from("bY0"),
    )
    joined = st.lists(part, min_size=1, max_size=parts).map("/".join)
    return joined.filter(lambda value: text.complaint(value) is None)


def _of(kind: Any, *, parts: int = 1) -> st.SearchStrategy[str]:
    return _legal(get_args(kind)[1], parts=parts)


mounts, paths = _of(Mount, parts=2), _of(VaultPath, parts=3)
fields = _legal(FIELD_NAME) | st.sampled_from(['a"b', "a}}b", "{{ end }}", "*/}}", "a b", "a\\", "`", "$x", "db-pass"])
variables = _legal(ENV_NAME)
destinations = st.builds(
    lambda root, rest: f"{root}/{rest}", st.sampled_from(["secrets", "local"]), _of(VaultPath, parts=2)
)
env_maps = st.dictionaries(variables, fields, min_size=1, max_size=3)
field_maps = st.dictionaries(fields, fields, min_size=1, max_size=3)
roles = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,6}[A-Za-z0-9_]", fullmatch=True)
durations = st.sampled_from(["90s", "1h30m", "24h"])
statements = st.lists(_of(Statement), min_size=1, max_size=2)
certificate_names = st.from_regex(r"[A-Za-z0-9*_][A-Za-z0-9_.@*-]{0,6}[A-Za-z0-9]", fullmatch=True)
domains = st.lists(certificate_names, max_size=2, unique=True)
principals = st.from_regex(r"[A-Za-z0-9_.@-]{1,8}", fullmatch=True)
users = st.text(st.sampled_from("ab/*.:;=|&<>()[]#~ -_äß€$%+"), min_size=1, max_size=12)
uris = st.builds(lambda scheme, rest: f"{scheme}:{rest}", st.sampled_from(["spiffe", "urn"]), roles)


def _maybe(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=optional)


def _kind(name: str, more: st.SearchStrategy[Json], **needed: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.builds(
        lambda must, may: {name: {**must, **may}}, st.fixed_dictionaries({"mount": mounts, **needed}), more
    )


_DYNAMIC = st.fixed_dictionaries(
    {"connection": roles, "creationStatements": statements}, optional={"maxTTL": durations}
)
_STATIC = st.fixed_dictionaries({"connection": roles, "username": users, "rotationPeriod": durations})
_PKI = st.fixed_dictionaries({"allowedDomains": domains}, optional={"allowGlobDomains": st.booleans(), "issuer": roles})
_ASKED = _maybe(altNames=domains, uriSans=st.lists(uris, max_size=2, unique=True), ttl=durations)
kinds = st.one_of(
    _kind("kv", _maybe(engine=st.sampled_from(["v1", "v2"])), path=paths),
    _kind(
        "generic",
        _maybe(capabilities=st.lists(st.sampled_from(["read", "update", "list"]), min_size=1, unique=True)),
        path=paths,
    ),
    _kind("database", _maybe(), role=roles),
    _kind("database", _maybe(), staticRole=roles),
    _kind("database", _maybe(), create=_DYNAMIC | _STATIC),
    _kind("pki", _ASKED, role=roles, commonName=certificate_names),
    _kind("pki", _ASKED, create=_PKI, commonName=certificate_names),
    _kind("ssh", _maybe(validPrincipals=st.lists(principals, max_size=2, unique=True)), role=roles),
    _kind("aws", _maybe(sts=st.booleans()), role=roles),
    _kind("gcp", _maybe(), roleset=roles),
    _kind("azure", _maybe(), role=roles),
    _kind("transit", _maybe(), key=roles, operations=st.just(["Encrypt", "Sign"])),
    st.just({"nomadVariable": {"path": "nomad/jobs/web"}}),
)
scripts = st.fixed_dictionaries({"command": _of(Command)}, optional={"args": st.lists(_of(Command), max_size=2)})
changes = st.sampled_from([{}, {"changeMode": "Restart"}, {"changeMode": "Noop"}]) | scripts.map(
    lambda script: {"changeMode": "Script", "changeScript": script}
)


@st.composite
def _file(draw: st.DrawFn) -> Json:
    file: Json = {"destination": draw(destinations)}
    pair = draw(delimiters)
    shape = draw(st.sampled_from(["template", "format", "bare"]))
    if shape == "template":
        file["template"] = draw(bodies)
        if pair:
            file["template"] = file["template"].replace("{{", pair[0]).replace("}}", pair[1])
            file["leftDelimiter"], file["rightDelimiter"] = pair
    elif shape == "format":
        file["format"] = draw(st.sampled_from(["Dotenv", "Json", "Yaml", "Properties", "Shell"]))
        file["fields"] = draw(env_maps if file["format"] in ("Dotenv", "Shell") else field_maps)
    return {**file, **draw(_maybe(perms=st.just("0600"), uid=st.integers(0, 9)))}


@st.composite
def hostile(draw: st.DrawFn) -> SecretBinding:
    """A binding of one to three secrets that the model accepts."""
    secrets: list[Json] = []
    taken: set[str] = set()
    for name in draw(st.lists(st.sampled_from(["app", "workload-env", "a", "b"]), min_size=1, max_size=3, unique=True)):
        entry: Json = {"name": name, **draw(kinds)}
        if "transit" not in entry:
            env = {key: value for key, value in draw(env_maps).items() if key not in taken}
            taken |= set(env)
            files = draw(st.lists(_file(), max_size=2))
            entry |= {"env": env} if env else {}
            entry |= {"files": files} if files else {}
            entry |= draw(changes)
        secrets.append(entry)
    workload: Json = {"job": "web"}
    if draw(st.booleans()):
        workload["groups"] = draw(st.sampled_from([[{"name": "web"}], [{"name": "web", "tasks": ["server"]}]]))
    plain = draw(st.dictionaries(variables, values, max_size=2))
    workload["env"] = {name: value for name, value in plain.items() if name not in taken}
    spec: Json = {"workload": workload, "secrets": secrets}
    if draw(st.booleans()):
        spec["rotation"] = {"strategy": "Native"}
    if draw(st.booleans()):
        spec["auth"] = {"tokenPeriod": draw(durations)}
    made = {"metadata": {"name": "app", "namespace": "team"}, "spec": spec}
    try:
        return parse_object(json.loads(json.dumps(made)), source="a test")
    except ManifestError:
        assume(False)
        raise


shared = st.builds(lambda rest: f"../alloc/secrets/{rest}", _of(VaultPath, parts=2))


@st.composite
def by_agent(draw: st.DrawFn) -> SecretBinding:
    """The same, delivered by a sidecar."""
    secrets: list[Json] = []
    for name in draw(st.lists(st.sampled_from(["app", "a", "b"]), min_size=1, max_size=2, unique=True)):
        kind = draw(kinds)
        assume(not {"transit", "nomadVariable"} & set(kind))
        files = [{**draw(_file()), "destination": draw(shared)} for _ in range(draw(st.integers(1, 2)))]
        script = draw(st.sampled_from([{}, {"changeMode": "Noop"}]) | changes)
        secrets.append(
            {"name": name, **kind, "files": files, **({} if script == {"changeMode": "Restart"} else script)}
        )
    workload = {"job": "web", "env": draw(st.dictionaries(variables, values, max_size=2))}
    agent = draw(_maybe(memory=st.just(64), wait=st.booleans(), renderInterval=durations))
    spec = {"workload": workload, "secrets": secrets, "delivery": "Agent", "agent": agent}
    try:
        return parse_object({"metadata": {"name": "app", "namespace": "team"}, "spec": spec}, source="a test")
    except ManifestError:
        assume(False)
        raise


def state_of(entry: SecretEntry) -> SecretState:
    """What is known of a secret: every field that the entry asks for is there."""
    asked = [*(entry.env or {}).values(), *(name for file in entry.files for name in (file.fields or {}).values())]
    if entry.kv is not None and entry.kv.engine != "v1":
        return kv_state(7, fields=asked)
    engine = "v1" if entry.kv is not None else entry.kind_name
    return SecretState(engine=engine, fields={0: dict.fromkeys(asked)}, lease_seconds=3600.0)
