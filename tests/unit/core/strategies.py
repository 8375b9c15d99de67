"""Hypothesis strategies: jobs in the shape of Nomad's API, and parts to put into them."""

from typing import Any

from hypothesis import strategies as st

from secretbinding.job.inject import TaskPart
from secretbinding.kinds.base import Pin, Reading
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner
from secretbinding.ports import Json
from secretbinding.render.template import Change, TemplateBlock, env_destination
from tests.support.builders import INSTANCE
from tests.unit.core.world import NOMAD_CONSTRAINT, VAULT_CONSTRAINT

_MISSING: Any = object()
_SIGNALS = ("SIGHUP", "SIGINT", "SIGUSR1")

_CONSTRAINTS = st.sampled_from(
    [
        {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="},
        dict(VAULT_CONSTRAINT),
        dict(NOMAD_CONSTRAINT),
        {"LTarget": "${attr.vault.version}", "RTarget": ">= 1.0.0", "Operand": "semver"},
        {"LTarget": "${attr.nomad.version}", "RTarget": ">= 1.9.0", "Operand": "semver"},
        {"LTarget": "${attr.os.signals}", "RTarget": "SIGHUP", "Operand": "set_contains"},
        {"LTarget": "${attr.os.signals}", "RTarget": "SIGHUP,SIGINT", "Operand": "set_contains"},
        {"LTarget": "${attr.os.signals}", "RTarget": "SIGINT,SIGHUP", "Operand": "set_contains"},
    ]
)
_USER_TEMPLATES = st.fixed_dictionaries(
    {
        "DestPath": st.sampled_from(["local/a.conf", "secrets/b.env", "local/c"]),
        "EmbeddedTmpl": st.sampled_from(
            ["plain", '{{ key "a" }}', "{{/* secretbinding nonsense */}}x", "OWN=1\n", "{{/* a comment */}}"]
        ),
        "ChangeMode": st.sampled_from(["restart", "noop"]),
        "Envvars": st.booleans(),
    }
)
_USER_IDENTITIES = st.sampled_from(
    [
        {"Name": "aws", "Audience": ["sts"], "File": True},
        {"Name": "vault_default", "Audience": ["vault.io"], "TTL": 3600000000000},
        {"Name": "vault_default", "Audience": ["other"], "Env": True},
    ]
)


def _maybe_list(items: st.SearchStrategy[Json], **bounds: Any) -> st.SearchStrategy[Any]:
    """A list, an empty list, null, or nothing at all."""
    return st.one_of(st.just(_MISSING), st.none(), st.just([]), st.lists(items, min_size=1, max_size=3, **bounds))


def _without_missing(made: Json) -> Json:
    return {name: value for name, value in made.items() if value is not _MISSING}


_TASK_FIELDS = st.fixed_dictionaries(
    {
        "Driver": st.just("raw_exec"),
        "Lifecycle": st.sampled_from([_MISSING, None, {"Hook": "prestart", "Sidecar": False}, {"Hook": "poststop"}]),
        "Templates": _maybe_list(_USER_TEMPLATES),
        "Identities": _maybe_list(_USER_IDENTITIES, unique_by=lambda item: item["Name"]),
        "Vault": st.sampled_from([_MISSING, None, None, {"Role": "own", "ChangeMode": "restart"}]),
        "KillSignal": st.sampled_from([_MISSING, "", "SIGINT"]),
        "Env": st.sampled_from([_MISSING, None, {}, {"A": "1"}]),
        "Services": st.sampled_from([_MISSING, None, [], [{"Name": "s", "Identity": {"Name": "s_id"}}]]),
    }
).map(_without_missing)

_GROUP_FIELDS = st.fixed_dictionaries(
    {
        "Count": st.sampled_from([0, 1, 3]),
        "Constraints": _maybe_list(_CONSTRAINTS),
        "Services": st.sampled_from(
            [_MISSING, None, [], [{"Name": "g", "Identity": None}], [{"Identity": {"Name": "i"}}]]
        ),
        "Meta": st.sampled_from([_MISSING, None, {}, {"team": "x"}]),
    }
).map(_without_missing)

_NAMES = st.lists(st.sampled_from(["web", "a-b", "a.b", "A", "ä"]), min_size=1, max_size=3, unique=True)


@st.composite
def jobs(draw: st.DrawFn) -> Json:
    """A job as a user sends it."""
    groups: list[Json] = []
    for group_name in draw(_NAMES):
        tasks = [{**draw(_TASK_FIELDS), "Name": name} for name in draw(_NAMES)]
        groups.append({**draw(_GROUP_FIELDS), "Name": group_name, "Tasks": tasks})
    return {
        "ID": draw(st.sampled_from(["web", "team/web", "a.b"])),
        "Namespace": "default",
        "Type": "service",
        "Meta": draw(st.sampled_from([None, {}, {"x": "y"}])),
        "TaskGroups": groups,
    }


def owner(name: str = "app", instance: str = INSTANCE) -> Owner:
    """The owner of a template."""
    return Owner(instance, BindingKey("files", "team", name))


@st.composite
def blocks(draw: st.DrawFn, name: str = "app", version: int | None = None) -> TemplateBlock:
    """A template of ours, pinned or not."""
    number = draw(st.integers(1, 9)) if version is None else version
    signal = draw(st.sampled_from([*_SIGNALS, ""]))
    secret = draw(st.sampled_from(["one", "two"]))
    env = draw(st.booleans()) and not signal
    return block(secret, version=number, name=name, signal=signal, env=env)


def block(
    secret: str = "one", *, version: int = 1, name: str = "app", signal: str = "", env: bool = True
) -> TemplateBlock:
    """A template of ours that reads one version of a secret."""
    reading = Reading(f"secret/data/{secret}?version={version}", ".Data.data", polls=False)
    destination = env_destination(owner(name).key, secret) if env else f"secrets/{name}-{secret}"
    return TemplateBlock(
        slot=f"{'env' if env else 'file'}:{secret}" + ("" if env else f":{destination}"),
        body=f'\n{{{{ with secret "{reading.path}" }}}}X={{{{ .Data.data.x | toJSON }}}}{{{{ end }}}}\n',
        destination=destination,
        env=env,
        once=True,
        change=Change("signal", signal) if signal else Change(),
        of=secret,
        pin=Pin(version, f"2026-01-01T00:{version:02d}:00Z"),
        reads=(reading.path, reading.data, ["X", "x"]),
    )


@st.composite
def parts_for(draw: st.DrawFn, job: Json) -> dict[tuple[str, str], TaskPart]:
    """Parts for some tasks of a job that have no Vault block of their own."""
    free = [
        (group["Name"], task["Name"]) for group in job["TaskGroups"] for task in group["Tasks"] if not task.get("Vault")
    ]
    chosen = draw(st.lists(st.sampled_from(free), unique=True)) if free else []
    parts: dict[tuple[str, str], TaskPart] = {}
    for ref in chosen:
        names = draw(st.lists(st.sampled_from(["app", "other"]), min_size=1, max_size=2, unique=True))
        templates = tuple((owner(name), draw(blocks(name))) for name in names)
        parts[ref] = TaskPart(f"nsb.{INSTANCE}.x.{len(parts)}", templates, polls=draw(st.booleans()))
    return parts


@st.composite
def jobs_with_parts(draw: st.DrawFn) -> tuple[Json, dict[tuple[str, str], TaskPart]]:
    """A job as a user sends it, and parts for it."""
    made = draw(jobs())
    return made, draw(parts_for(made))
