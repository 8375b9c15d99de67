"""What the controller may do besides where agents log in by AppRole: `deploy/*-policy-approle.hcl`, as a list. Pure."""

from secretbinding.models.agent import AGENT_TASK
from secretbinding.ops.rights import VariableRight, VaultRight

_PROBE = "doctor"
_WITHOUT = "bindings with auth.method AppRole do not work"

VARIABLE = VariableRight(
    f"nomad/jobs/*/{AGENT_TASK}",
    ("list", "read", "write", "destroy"),
    "Wrapped secret-ids for the agent of each group, which that agent alone may read by its own identity.",
    _WITHOUT,
)


def app_role_rights(mount: str) -> tuple[VaultRight, ...]:
    """The rights at an AppRole auth mount, which is the controller's alone."""
    roles = f"auth/{mount}/role"
    lines = (
        ("", ("create", "read", "update", "delete"), "The AppRoles."),
        ("/secret-id", ("update",), "Secret-ids, wrapped only."),
        ("/secret-id-accessor/lookup", ("update",), "Whether somebody has logged in with a secret-id."),
        ("/secret-id-accessor/destroy", ("update",), "Destroy one that is replaced or was stolen."),
    )
    return tuple(
        VaultRight(f"{roles}/+{end}", capabilities, why, f"{roles}/{_PROBE}{end}", _WITHOUT)
        for end, capabilities, why in lines
    )
