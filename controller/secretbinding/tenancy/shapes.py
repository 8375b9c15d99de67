"""What a path below a mount is about, by what each kind of engine answers there. Vault's paths do not tell the kind."""

import re
from collections.abc import Iterator, Mapping

_ROLE = "(?P<name>.+)"
# The paths by which a task gets something from an engine, as the modules of `kinds` ask for it. What else an engine
# answers (its configuration, its roles, its keys for export) is about no secret of a binding.
_SHAPES: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(shape)
    for kind, shape in {
        "kv": f"data/{_ROLE}",
        "database": f"(?:creds|static-creds)/{_ROLE}",
        "pki": f"issue/{_ROLE}",
        "ssh": f"(?:issue|sign|creds)/{_ROLE}",
        "aws": f"(?:creds|sts)/{_ROLE}",
        "azure": f"creds/{_ROLE}",
        "gcp": r"(?:roleset|static-account|impersonated-account)/(?P<name>.+)/(?:token|key)",
        "transit": f"(?:encrypt|decrypt|rewrap|sign|verify|hmac|datakey/plaintext|datakey/wrapped|keys)/{_ROLE}",
    }.items()
}


def name_in(kind: str, rest: str) -> str | None:
    """What a binding of a kind would name to be given a path below a mount; None where that kind has no such path. A
    KV engine is meant as one of version 2: version 1 answers at any path."""
    shape = _SHAPES.get(kind)
    found = shape.fullmatch(rest) if shape is not None else None
    return found["name"] if found is not None else None


def splits(path: str) -> Iterator[tuple[str, str]]:
    """Every way in which a path of Vault's API can be a mount and what is below it."""
    parts = path.split("/")
    for end in range(1, len(parts)):
        yield "/".join(parts[:end]), "/".join(parts[end:])


def is_known(path: str) -> bool:
    """Whether a path of Vault's API may be one by which a binding of some kind but `generic` gets something."""
    return any(name_in(kind, rest) is not None for _, rest in splits(path) for kind in _SHAPES)


# What such an engine answers besides, by the first segment: for a Deny it counts whatever may be one.
_ANSWERS: Mapping[str, frozenset[str]] = {
    kind: frozenset(words.split())
    for kind, words in {
        "database": "creds static-creds config roles static-roles",
        "pki": "issue sign sign-verbatim cert config roles",
        "ssh": "issue sign creds config roles",
        "aws": "creds sts static-creds config roles static-roles",
        "azure": "creds static-creds config roles static-roles",
        "gcp": "roleset rolesets static-account impersonated-account token key config",
        "transit": "encrypt decrypt rewrap sign verify hmac datakey keys export backup cmac derive-key config",
    }.items()
}


def may_be(kind: str, path: str) -> bool:
    """Whether a path of Vault's API may be one of an engine of a kind, whatever its mount. All may be those of a KV
    engine of version 1; and `generic` is a secret by what a binding says alone."""
    answers = _ANSWERS.get(kind, frozenset())
    return kind == "kv" or any("/" in rest and rest.partition("/")[0] in answers for _, rest in splits(path))
