"""Names and marks: what we call things in Vault and in a job, and how we recognize them as ours."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from secretbinding.models.key import BindingKey, WorkloadKey

PREFIX = "nsb"
INSTANCE_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?\Z")

_SLUG_LENGTH = 32
_APP_ROLE = "-approle"
_JOB_DIGEST_LENGTH = 10
_DIGEST_LENGTH = 26  # base32 characters: 130 bits, so that no two owners ever meet
_DIGEST_BYTES = 20  # of them come the first 32 base32 characters
# A pass asks for the same few names again and again.
_remembered = lru_cache(maxsize=1024)


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who a policy or a template belongs to: one binding of one controller instance."""

    instance: str
    key: BindingKey


def name_prefix(instance: str) -> str:
    """What every policy and role of an instance begins with. The instance holds no dot, so that no prefix
    is the beginning of another's."""
    return f"{PREFIX}.{instance}."


@_remembered
def policy_name(owner: Owner) -> str:
    """The ACL policy of a binding, in lower case since Vault lower-cases policy names.

    A readable part, cut, and a digest of the whole owner: two owners never share a name, whatever characters
    their parts hold.
    """
    key = owner.key
    digest = stable_digest(["policy", owner.instance, key.source, key.tenant, key.name])
    return f"{name_prefix(owner.instance)}{_slug(key.name)}.{digest}"


@_remembered
def role_name(instance: str, workload: WorkloadKey, group: str | None, task: str | None) -> str:
    """The JWT role of one task, or, without group and task, of all main tasks of a job.

    Vault lower-cases role names and takes `[A-Za-z0-9_.-]` with a letter or digit at both ends.
    """
    owner = [workload.connection, workload.region, workload.namespace, workload.job]
    digest = stable_digest(["role", instance, *owner, group, task])
    readable = _slug(workload.job if task is None else f"{workload.job}-{task}")
    return f"{name_prefix(instance)}{readable}.{digest}"


def app_role_name(instance: str, workload: WorkloadKey, group: str, task: str) -> str:
    """The AppRole of one task. An AppRole says of itself neither what it is nor whose: its name tells both (see
    `is_app_role`, `is_app_role_of`)."""
    owner = [workload.connection, workload.region, workload.namespace, workload.job]
    digest = stable_digest(["approle", instance, *owner, group, task])
    readable = _slug(f"{workload.job}-{task}")
    return f"{name_prefix(instance)}{readable}.{digest}-{_job_digest(workload)}{_APP_ROLE}"


def is_app_role(name: str) -> bool:
    """True for the name of an AppRole of ours; names of other roles end with a digest, which holds no dash."""
    return name.endswith(_APP_ROLE)


def is_app_role_of(name: str, workload: WorkloadKey) -> bool:
    """True for the name of an AppRole that lets tasks of this job in."""
    return name.endswith(f"-{_job_digest(workload)}{_APP_ROLE}")


def _job_digest(workload: WorkloadKey) -> str:
    return stable_digest(["job", workload.namespace, workload.job])[:_JOB_DIGEST_LENGTH]


def engine_role_name(owner: Owner, secret: str, made_of: Sequence[Any]) -> str:
    """The role of a secrets engine that is made for one entry of a binding; `made_of` is what such a role cannot
    change. Engines' role names take `[A-Za-z0-9_.-]`, and hold no mark: the prefix is what makes one ours."""
    key = owner.key
    digest = stable_digest(["engine", owner.instance, key.source, key.tenant, key.name, secret, *made_of])
    return f"{name_prefix(owner.instance)}{_slug(f'{key.name}-{secret}')}.{digest}"


def stable_digest(value: Any) -> str:
    """A digest of any JSON value: 26 lower-case base32 characters, the same on every machine and version."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    raw = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(raw[:_DIGEST_BYTES]).decode()[:_DIGEST_LENGTH].lower()


def stable_number(value: Any) -> int:
    """A number of 64 bits for any JSON value, the same on every machine and version."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mark_json(fields: Mapping[str, Any]) -> str:
    """A mark's fields as one line of JSON that can stand in a `/* */` comment and in a `#` comment.

    `\\/` is JSON's own way to write a slash; it keeps `*/` out of the text, whatever the fields hold.
    """
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.replace("/", "\\/")


def read_mark_json(text: str) -> dict[str, Any] | None:
    """The fields of a mark, or None when the text is no JSON object (somebody altered it)."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def owner_fields(owner: Owner) -> dict[str, str]:
    """The owner as a mark's fields."""
    key = owner.key
    return {"instance": owner.instance, "source": key.source, "tenant": key.tenant, "name": key.name}


def owner_of(fields: Mapping[str, Any]) -> Owner | None:
    """The owner that a mark's fields name, or None when one is missing or no text."""
    parts = [fields.get(part) for part in ("instance", "source", "tenant", "name")]
    texts = [part for part in parts if isinstance(part, str) and part]
    if len(texts) != len(parts):
        return None
    instance, source, tenant, name = texts
    return Owner(instance, BindingKey(source, tenant, name))


def _slug(text: str) -> str:
    ascii_only = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return ascii_only[:_SLUG_LENGTH].strip("-") or "x"
