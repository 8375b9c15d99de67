"""The ACL policy of a binding as HCL, with our mark at its head, and the way back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secretbinding.kinds.base import Right
from secretbinding.models.key import WorkloadKey
from secretbinding.naming import Owner, mark_json, owner_fields, owner_of, read_mark_json, stable_digest
from secretbinding.render.text import hcl_path, is_plain_path
from secretbinding.tenancy.terms import Terms, read_terms

_HEADER = "# secretbinding "
_CAPABILITY = re.compile(r"(?:create|delete|list|patch|read|update)\Z")
_BLOCK = re.compile(r'^path "([^"\n]+)" \{\n  capabilities = \[([^\]\n]*)\]\n\}\n', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy as a value. `roles` are the JWT roles that grant it; `engine_roles` the paths of the roles that the
    binding has in secrets engines; `retain` keeps it when its binding goes; `adopted` is what the binding has taken
    over in its job (`desired.adopted`), as JSON.

    `answered` is for what Vault does not tell by itself: the request after which a connection's root password was last
    made anew, by secret. `terms` are what policies judge besides rights; None where nobody has written them down.
    """

    owner: Owner
    workload: WorkloadKey
    rights: tuple[Right, ...]
    roles: tuple[str, ...] = ()
    engine_roles: tuple[str, ...] = ()
    retain: bool = False
    answered: tuple[tuple[str, str], ...] = ()
    adopted: Mapping[str, Any] | None = None
    terms: Terms | None = None


def join_rights(*groups: Iterable[Right]) -> tuple[Right, ...]:
    """The union: each path once, with all capabilities that any of the groups gives it."""
    joined: dict[str, set[str]] = {}
    for group in groups:
        for right in group:
            joined.setdefault(right.path, set()).update(right.capabilities)
    return tuple(Right(path, tuple(sorted(capabilities))) for path, capabilities in sorted(joined.items()))


def policy_text(document: PolicyDocument) -> str:
    """The policy in HCL. The first line is the mark; `body` in it is a digest of what follows."""
    blocks = "\n".join(
        f"path {hcl_path(right.path)} {{\n  capabilities = [{', '.join(_quoted(right.capabilities))}]\n}}\n"
        for right in join_rights(document.rights)
    )
    workload = document.workload
    fields: dict[str, object] = {
        **owner_fields(document.owner),
        "connection": workload.connection,
        "region": workload.region,
        "namespace": workload.namespace,
        "job": workload.job,
        "roles": sorted(document.roles),
        "body": stable_digest(blocks),
    }
    if document.engine_roles:
        fields["engines"] = sorted(document.engine_roles)
    if document.retain:
        fields["retain"] = True
    if document.answered:
        fields["answered"] = dict(document.answered)
    if document.adopted is not None:
        fields["adopted"] = dict(document.adopted)
    if document.terms is not None:
        fields["terms"] = document.terms.to_json()
    return f"{_HEADER}{mark_json(fields)}\n{blocks}"


def read_policy(text: str) -> tuple[PolicyDocument, bool] | None:
    """The document that a policy text was made from, and whether its body is still as we wrote it.

    None when it does not carry our mark: then it is not ours to touch. Of an altered body only what we could have
    written counts.
    """
    head, _, body = text.partition("\n")
    if not head.startswith(_HEADER):
        return None
    fields = read_mark_json(head.removeprefix(_HEADER))
    owner = owner_of(fields) if fields is not None else None
    if fields is None or owner is None:
        return None
    found = [Right(path, _unquoted(capabilities)) for path, capabilities in _BLOCK.findall(body)]
    rights = join_rights(right for right in found if _plain(right))
    roles, engines = (_texts(fields, name) for name in ("roles", "engines"))
    answered = fields.get("answered")
    document = PolicyDocument(
        owner=owner,
        workload=WorkloadKey(
            connection=_text(fields, "connection"),
            region=_text(fields, "region"),
            namespace=_text(fields, "namespace"),
            job=_text(fields, "job"),
        ),
        rights=rights,
        roles=roles,
        engine_roles=engines,
        retain=fields.get("retain") is True,
        answered=tuple(sorted((name, str(at)) for name, at in answered.items())) if isinstance(answered, dict) else (),
        adopted=adopted if isinstance(adopted := fields.get("adopted"), dict) else None,
        terms=read_terms(fields.get("terms")),
    )
    return document, fields.get("body") == stable_digest(body)


def _plain(right: Right) -> bool:
    return is_plain_path(right.path) and all(_CAPABILITY.match(capability) for capability in right.capabilities)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _texts(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _quoted(capabilities: tuple[str, ...]) -> list[str]:
    return [f'"{capability}"' for capability in capabilities]


def _unquoted(text: str) -> tuple[str, ...]:
    return tuple(sorted(part.strip().strip('"') for part in text.split(",") if part.strip()))
