"""The AppRole of the agent of one group, the variable that brings it secret-ids, and the files that it reads."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from math import ceil
from typing import Any

from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.approle import AppRole
from secretbinding.models.key import WorkloadKey
from secretbinding.naming import stable_digest
from secretbinding.render.agent import APPROLE_FOLDER, Sidecar, delimiters_for
from secretbinding.render.role import TokenLimits
from secretbinding.render.template import Change, TemplateBlock
from secretbinding.render.text import go_string

_PATH = re.compile(r"[a-zA-Z0-9_~-]+\Z")
_LONGEST_PATH = 128
ROLE_ID = "agent-role-id"
SECRET_ID = "agent-secret-id"


def app_role_body(name: str, app_role: AppRole, policies: Iterable[str], limits: TokenLimits) -> dict[str, Any]:
    """The body of `auth/<mount>/role/<name>`. The role-id is the role's name: it is no secret, and so it is known
    before the role is."""
    return {
        "role_id": name,
        "bind_secret_id": True,
        "secret_id_num_uses": app_role.uses,
        "secret_id_ttl": ceil(app_role.secret_id_seconds),
        "secret_id_bound_cidrs": [str(ip_network(text)) for text in app_role.bound_cidrs],
        "token_bound_cidrs": [str(ip_network(text)) for text in app_role.token_bound_cidrs],
        "token_type": "service",
        "token_policies": sorted(policies),
        "token_period": limits.period,
        "token_ttl": limits.ttl,
        "token_max_ttl": limits.max_ttl,
    }


def limits_digest(app_role: AppRole) -> str:
    """What a secret-id is made with: one that was made with something else is replaced."""
    made = [app_role.uses, app_role.secret_id_seconds, app_role.wrapping_seconds]
    return stable_digest([*made, list(app_role.bound_cidrs), list(app_role.token_bound_cidrs)])[:12]


def variable_path(workload: WorkloadKey, group: str) -> str | None:
    """The Nomad variable that only the agent of that group may read by itself (`nomad/jobs/<job>/<group>/<task>`); None
    where the names are no path of a variable, or would be one of another task."""
    path = f"nomad/jobs/{workload.job}/{group}/{AGENT_TASK}"
    plain = all(_PATH.match(part) for part in (workload.job, group))
    return path if plain and len(path) <= _LONGEST_PATH else None


def wrapped_item(index: int | str) -> str:
    """The item of the variable that holds the wrapping token of an allocation index."""
    return f"wrapped_{index}"


def login_blocks(sidecar: Sidecar) -> tuple[TemplateBlock, ...]:
    """The files that the agent logs in with. The wrapping token is rendered again whenever the variable changes, and is
    the one of the allocation's own index."""
    left, right = delimiters_for([sidecar.login.role, sidecar.variable])
    item = f'{go_string(wrapped_item(""))} (env "NOMAD_ALLOC_INDEX")'
    body = (
        f"{left} with nomadVar {go_string(sidecar.variable)} {right}"
        f"{left} with index .ItemsMap (print {item}) {right}{left} . {right}{left} end {right}{left} end {right}"
    )
    return (
        _block(ROLE_ID, "role_id", sidecar.login.role, (left, right), once=True, reads=(sidecar.login.role,)),
        # The driver runs the agent as root where no user is given, and Nomad writes the file as root.
        _block(
            SECRET_ID,
            "secret_id",
            body,
            (left, right),
            once=False,
            reads=(sidecar.variable,),
            perms="0644" if sidecar.user else "0600",
        ),
    )


def _block(
    slot: str,
    name: str,
    body: str,
    delimiters: tuple[str, str],
    *,
    once: bool,
    reads: tuple[str, ...],
    perms: str = "0644",
) -> TemplateBlock:
    return TemplateBlock(
        slot=slot,
        body=body,
        destination=f"secrets/{APPROLE_FOLDER}/{name}",
        env=False,
        once=once,
        change=Change(),
        perms=perms,
        delimiters=delimiters,
        reads=reads,
    )
