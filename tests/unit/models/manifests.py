"""Hypothesis strategies for legal manifests."""

import copy
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
ENV_NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith(("LD_", "NOMAD_")) and name not in ("PATH", "VAULT_TOKEN")
)
WORDS = st.from_regex(r"[A-Za-z0-9_äß][A-Za-z0-9_.äß@~-]{0,6}", fullmatch=True)
SEGMENTS = WORDS
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
DURATIONS = st.from_regex(r"([1-9][0-9]{0,2}(h|m|s|ms)){1,4}", fullmatch=True)
DESTINATIONS = st.builds(lambda top, path: f"{top}/{path}", st.sampled_from(["secrets", "local"]), PATHS)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


KV = st.fixed_dictionaries(
    {"mount": PATHS, "path": PATHS}, optional={"engine": st.just("v2"), "version": st.integers(1, 99)}
).map(lambda kv: {"kv": kv})
GENERIC = st.fixed_dictionaries(
    {"mount": PATHS, "path": PATHS},
    optional={
        "capabilities": st.lists(st.sampled_from(["read", "update", "list"]), min_size=1, unique=True),
        "maxTTL": DURATIONS,
    },
).map(lambda generic: {"generic": generic})
DATABASE = st.fixed_dictionaries({"mount": PATHS, "role": LABELS}).map(lambda database: {"database": database})
PKI = st.fixed_dictionaries({"mount": PATHS, "role": LABELS, "commonName": LABELS}, optional={"ttl": DURATIONS}).map(
    lambda pki: {"pki": pki}
)
SSH = st.fixed_dictionaries(
    {"mount": PATHS, "role": LABELS},
    optional={"validPrincipals": st.lists(LABELS, max_size=2), "ttl": DURATIONS, "certType": st.just("host")},
).flatmap(
    lambda ssh: st.sampled_from(
        [
            ssh,
            ssh | {"keyType": "ec"},
            ssh | {"type": "Sign", "publicKey": "ssh-rsa AAAAB3Nz="},
            {name: ssh[name] for name in ("mount", "role")} | {"type": "OneTimePassword", "ip": "10.0.0.1"},
        ]
    ).map(lambda made: {"ssh": made})
)
AWS = st.fixed_dictionaries({"mount": PATHS, "role": LABELS}, optional={"maxTTL": DURATIONS}).flatmap(
    lambda aws: st.sampled_from([aws, aws | {"sts": True, "ttl": "1h"}]).map(lambda made: {"aws": made})
)
GCP = st.builds(
    lambda mount, account, name, more: {"gcp": {"mount": mount, account: name, **more}},
    PATHS,
    st.sampled_from(["roleset", "staticAccount"]),
    LABELS,
    st.sampled_from([{}, {"type": "Key", "ttl": "1h"}, {"type": "Token"}]),
)
AZURE = st.fixed_dictionaries({"mount": PATHS, "role": LABELS}).map(lambda azure: {"azure": azure})
MADE = st.sampled_from(
    [
        {"database": {"mount": "db", "create": {"connection": "main", "creationStatements": ["SELECT 1"]}}},
        {"database": {"mount": "db", "create": {"connection": "main", "username": "app", "rotationPeriod": "1h"}}},
        {"pki": {"mount": "pki", "commonName": "a", "create": {"allowedDomains": ["example.com"], "keyType": "ec"}}},
    ]
)
VARIABLE = st.just({"nomadVariable": {"path": "shared/x", "accessGranted": True}})
TRANSIT = st.fixed_dictionaries(
    {"mount": PATHS, "key": LABELS, "operations": st.just(["Sign"])}, optional={"token": st.just("Env")}
).map(lambda transit: {"transit": transit})
# A test may change what it is given; the next one is not to get it so.
KINDS = st.one_of(KV, GENERIC, DATABASE, PKI, SSH, AWS, GCP, AZURE, MADE, VARIABLE, TRANSIT).map(copy.deepcopy)
_TIMES = st.sampled_from([{}, {"schedule": "0 3 1 * *"}, {"schedule": "*/5 0 * * SUN", "timeZone": "Europe/Berlin"}])
_WAYS = st.sampled_from([{}, {"length": 20}, {"passwordPolicy": "strong"}])
GENERATED = {
    "kv": st.builds(
        lambda times, fields, way: {**times, "fields": fields, **way},
        _TIMES,
        st.lists(WORDS, min_size=1, max_size=3, unique=True),
        _WAYS,
    ),
    "database": LABELS.map(lambda name: {"rotateRoot": name}),
}


def _generated(entry: Json) -> str:
    """The kind of a secret of which Vault can make new values, "" for any other."""
    if "version" in entry.get("kv", {}) or "create" in entry.get("database", {}):
        return ""
    return next((kind for kind in GENERATED if kind in entry), "")


# A file's content; its destination is given when the binding is put together, so that all differ.
FILES = _optional(
    perms=st.sampled_from(["0600", "0444"]),
    format=st.sampled_from(["Dotenv", "Json", "Yaml", "Properties", "Shell"]),
    uid=st.integers(0, 65535),
    fields=st.dictionaries(ENV_NAMES, WORDS, max_size=2),
) | _optional(template=st.text(st.characters(codec="utf-8", exclude_characters="{"), min_size=1, max_size=20))


@st.composite
def manifests(draw: st.DrawFn) -> Json:
    """A legal manifest with up to four secrets."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=4))
    names = draw(st.lists(LABELS, min_size=len(kinds), max_size=len(kinds), unique=True))
    variables = draw(st.lists(ENV_NAMES, min_size=len(kinds) + 1, max_size=len(kinds) + 4, unique=True))
    secrets = []
    for index, (kind, name) in enumerate(zip(kinds, names, strict=True)):
        entry: Json = {"name": name, **kind}
        if "transit" in kind:
            secrets.append(entry)
            continue
        entry["env"] = {variables[index]: draw(WORDS)}
        entry |= draw(_optional(envFrom=_optional(prefix=ENV_NAMES, upperCase=st.booleans())))
        files = draw(st.lists(FILES, max_size=2))
        if files:
            entry["files"] = [{"destination": f"secrets/{index}/{at}", **file} for at, file in enumerate(files)]
        secrets.append(entry | draw(_optional(changeMode=st.sampled_from(["Restart", "Noop"]), splay=DURATIONS)))
    workload: Json = {
        "job": draw(PATHS),
        "env": dict.fromkeys(variables[len(kinds) :], draw(st.text(max_size=5)) + "v"),
    }
    workload["env"] = {name: value.replace("\0", "") for name, value in workload["env"].items()}
    spec: Json = {"workload": workload | draw(_optional(namespace=LABELS, region=LABELS)), "secrets": secrets}
    spec |= draw(
        _optional(
            connection=LABELS,
            auth=_optional(tokenPeriod=DURATIONS),
            rotation=_optional(strategy=st.sampled_from(["Rolling", "Manual"]), settle=DURATIONS),
            deletionPolicy=st.sampled_from(["Delete", "Retain"]),
            suspend=st.booleans(),
        )
    )
    wanted = [draw(GENERATED[kind]) | {"secret": entry["name"]} for entry in secrets if (kind := _generated(entry))]
    if wanted and draw(st.booleans()):
        spec.setdefault("rotation", {})["generate"] = wanted
    metadata = {"name": draw(LABELS), "namespace": draw(LABELS)}
    return {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBinding", "metadata": metadata, "spec": spec}
