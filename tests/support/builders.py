"""Test data by builders with modifiers: manifests, jobs in the shape of Nomad's API, secrets as Vault shows them."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from secretbinding.desired import BindingInput
from secretbinding.generation import GenerateRequest
from secretbinding.kinds import with_role_names
from secretbinding.kinds.base import Fault, SecretState
from secretbinding.models.binding import SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner
from secretbinding.ports import Json, KvVersion

INSTANCE = "test"
WORKLOAD = WorkloadKey("default", "", "default", "web")
Modifier = Callable[[Json], None]
"""Changes a manifest or a job in place."""


# --- bindings ---------------------------------------------------------------------------------------------------------


def manifest(*modifiers: Modifier, name: str = "app", job: str = "web") -> Json:
    """A manifest as JSON; without a modifier that adds a secret it has one, `app`, of KV."""
    made: Json = {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBinding",
        "metadata": {"name": name},
        "spec": {"workload": {"job": job, "namespace": "default"}, "secrets": []},
    }
    for modifier in modifiers:
        modifier(made)
    if not made["spec"]["secrets"]:
        kv()(made)
    return made


def binding(*modifiers: Modifier, name: str = "app", job: str = "web") -> SecretBinding:
    """The binding of `manifest`."""
    return SecretBinding.model_validate_json(json.dumps(manifest(*modifiers, name=name, job=job)))


def kv(
    name: str = "app",
    *,
    path: str = "myapp",
    mount: str = "secret",
    env: Mapping[str, str] | None = None,
    files: Sequence[Json] = (),
    **spec: Any,
) -> Modifier:
    """Add a KV secret; with neither `env` nor `files` it sets `<NAME>_PASS` from `password`."""
    if env is None and not files:
        env = {f"{name.upper().replace('-', '_')}_PASS": "password"}
    return _secret({"name": name, "kv": {"mount": mount, "path": path, **spec}}, env, files)


def generic(
    name: str = "cloud",
    *,
    path: str = "creds/deploy",
    mount: str = "aws",
    env: Mapping[str, str] | None = None,
    files: Sequence[Json] = (),
    **entry: Any,
) -> Modifier:
    """Add a generic secret; with neither `env` nor `files` it sets `<NAME>_KEY` from `key`."""
    if env is None and not files:
        env = {f"{name.upper().replace('-', '_')}_KEY": "key"}
    return _secret({"name": name, "generic": {"mount": mount, "path": path}, **entry}, env, files)


def database(
    name: str = "db", *, mount: str = "database", env: Mapping[str, str] | None = None, **spec: Any
) -> Modifier:
    """Add credentials of a database: of the role `app` where neither `role` nor `staticRole` is given."""
    entry = {"name": name, "database": {"mount": mount, **(spec or {"role": "app"})}}
    return _secret(entry, env or {"DB_USER": "username", "DB_PASS": "password"}, ())


def pki(name: str = "tls", *, mount: str = "pki", files: Sequence[Json] = (), **spec: Any) -> Modifier:
    """Add a certificate of the role `web`."""
    entry = {"name": name, "pki": {"mount": mount, "role": "web", "commonName": "api.example.com", **spec}}
    return _secret(entry, None, files or [{"destination": "secrets/tls.pem"}])


def transit(name: str = "key", *, key: str = "app", token: str = "File", operations: Sequence[str] = ()) -> Modifier:
    """Add the right to use a transit key."""
    spec = {"mount": "transit", "key": key, "operations": list(operations or ("Encrypt",)), "token": token}
    return _secret({"name": name, "transit": spec}, None, ())


def nomad_variable(
    name: str = "var", *, path: str = "nomad/jobs/web", env: Mapping[str, str] | None = None, files: Sequence[Json] = ()
) -> Modifier:
    """Add values of a Nomad variable."""
    if env is None and not files:
        env = {"VARIABLE": "value"}
    return _secret({"name": name, "nomadVariable": {"path": path}}, env, files)


def _secret(entry: Json, env: Mapping[str, str] | None, files: Sequence[Json]) -> Modifier:
    def add(made: Json) -> None:
        if env:
            entry["env"] = dict(env)
        if files:
            entry["files"] = [dict(file) for file in files]
        made["spec"]["secrets"].append(copy.deepcopy(entry))

    return add


def on_tasks(group: str, *tasks: str) -> Modifier:
    """Name a group, with tasks or without."""

    def add(made: Json) -> None:
        selector: Json = {"name": group}
        if tasks:
            selector["tasks"] = list(tasks)
        made["spec"]["workload"].setdefault("groups", []).append(selector)

    return add


def spec(**fields: Any) -> Modifier:
    """Set fields of the spec."""
    return lambda made: made["spec"].update(copy.deepcopy(fields))


def by_agent(**agent: Any) -> Modifier:
    """Delivery Agent, with these fields of `spec.agent`."""
    return spec(delivery="Agent", **({"agent": agent} if agent else {}))


def workload_env(**variables: str) -> Modifier:
    """Set `workload.env`."""
    return lambda made: made["spec"]["workload"].update(env=dict(variables))


def strategy(name: str) -> Modifier:
    """Set `rotation.strategy`."""
    return spec(rotation={"strategy": name})


def key(name: str = "app", tenant: str = "team", source: str = "files") -> BindingKey:
    """The key of a binding."""
    return BindingKey(source, tenant, name)


def given(
    made: SecretBinding | None = None,
    *,
    name: str = "",
    tenant: str = "team",
    source: str = "files",
    deleting: bool = False,
    suspended: bool = False,
    invalid: bool = False,
    requested_at: datetime | None = None,
    generate: GenerateRequest | None = None,
) -> BindingInput:
    """A binding as the decisions take it. An `invalid` one has no manifest that could be read."""
    frozen = None
    if suspended:
        frozen = Fault(Reason.SUSPENDED, "spec.suspend is set")
    if invalid:
        frozen = Fault(Reason.INVALID_MANIFEST, "the manifest breaks a rule")
    own = key(name or (made.metadata.name if made is not None else "app"), tenant, source)
    return BindingInput(
        key=own,
        binding=None if invalid or made is None else with_role_names(made, Owner(INSTANCE, own)),
        frozen=frozen,
        deleting=deleting,
        rotate_requested_at=requested_at,
        generate_request=generate,
    )


def path_of(entry: SecretEntry) -> str:
    """What tells secrets of one kind apart: the path below the mount, or the name of the role."""
    if (entry.database and entry.database.create) or (entry.pki and entry.pki.create):
        return "made"
    if entry.database is not None:
        return str(entry.database.static_role or entry.database.role)
    if entry.pki is not None:
        return str(entry.pki.role)
    if entry.transit is not None:
        return entry.transit.key
    source = entry.kv or entry.generic or entry.nomad_variable
    assert source is not None  # an entry is one of these kinds
    return source.path


# --- secrets ----------------------------------------------------------------------------------------------------------


def created(number: int, era: int = 0) -> str:
    """The `created_time` of a version. `era` tells a secret that was made again from the one before it."""
    return f"2026-01-{1 + era:02d}T00:{number:02d}:00.000000Z"


def kv_state(
    current: int = 1,
    *,
    fields: Sequence[str] = ("password", "username"),
    by_version: Mapping[int, Mapping[str, Any]] | None = None,
    deleted: Sequence[int] = (),
    destroyed: Sequence[int] = (),
    gone: Sequence[int] = (),
    era: int = 0,
) -> SecretState:
    """A KV v2 secret with the versions 1 to `current`, less those that are `gone` (pruned)."""
    versions = {
        number: KvVersion(number, created(number, era), number in deleted, number in destroyed)
        for number in range(1, current + 1)
        if number not in gone
    }
    known = {number: dict.fromkeys(fields) for number, version in versions.items() if version.readable}
    return SecretState(
        engine="v2",
        pinnable=True,
        current=current,
        versions=versions,
        fields={**known, **(by_version or {})},
    )


def generic_state() -> SecretState:
    """A generic secret, of which nothing can be known."""
    return SecretState(engine="generic")


# --- jobs -------------------------------------------------------------------------------------------------------------


def job(*groups: Json, kind: str = "service", **fields: Any) -> Json:
    """A job as it is sent to Nomad; one group `web` with one task `server` where no group is given."""
    return {
        "ID": "web",
        "Name": "web",
        "Namespace": "default",
        "Region": "global",
        "Type": kind,
        "Datacenters": ["*"],
        "TaskGroups": list(groups) or [group()],
        **fields,
    }


def group(*tasks: Json, name: str = "web", **fields: Any) -> Json:
    """A task group."""
    return {"Name": name, "Count": 2, "Tasks": list(tasks) or [task()], **fields}


def task(name: str = "server", **fields: Any) -> Json:
    """A task."""
    return {"Name": name, "Driver": "raw_exec", "Config": {"command": "/bin/true"}, **fields}


def template(destination: str = "local/app.conf", text: str = "plain", **fields: Any) -> Json:
    """A template of the user's own."""
    return {"DestPath": destination, "EmbeddedTmpl": text, "ChangeMode": "restart", "Envvars": False, **fields}


def find_task(made: Json, group_name: str = "web", task_name: str = "server") -> Json:
    """The task of that name; raises `LookupError` when there is none."""
    for one in made["TaskGroups"]:
        if one["Name"] == group_name:
            for found in one["Tasks"]:
                if found["Name"] == task_name:
                    return dict(found)
    raise LookupError(f"{group_name}/{task_name}")


def templates_of(made: Json, group_name: str = "web", task_name: str = "server") -> list[Json]:
    """The templates of a task."""
    return list(find_task(made, group_name, task_name).get("Templates") or [])
