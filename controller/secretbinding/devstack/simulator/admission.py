"""What Nomad's server adds to a job when it is registered: implied constraints, each time it is registered."""

import copy
from typing import Any

Json = dict[str, Any]

VAULT_CONSTRAINT: Json = {"LTarget": "${attr.vault.version}", "Operand": "semver", "RTarget": ">= 0.6.1"}
IDENTITY_CONSTRAINT: Json = {"LTarget": "${attr.nomad.version}", "Operand": "semver", "RTarget": ">= 1.7.0-a"}


def admit(job: Json) -> None:
    """Add to the job, in place, what the server's hooks add.

    The Vault constraint is added only where the group has none for `${attr.vault.version}`, the one for signals only
    where the very same is not there; but the one for identities is appended at every registration, so a job that is
    sent back as it was read grows.
    """
    for group in job["TaskGroups"] or []:
        constraints: list[Json] = list(group["Constraints"] or [])
        tasks = group["Tasks"] or []
        if any(task["Vault"] is not None for task in tasks) and not any(
            one["LTarget"] == VAULT_CONSTRAINT["LTarget"] for one in constraints
        ):
            constraints.append(dict(VAULT_CONSTRAINT))
        signals = sorted(_required_signals(tasks))
        if signals:
            needed = {"LTarget": "${attr.os.signals}", "Operand": "set_contains", "RTarget": ",".join(signals)}
            if needed not in constraints:
                constraints.append(needed)
        if any(task["Identities"] for task in tasks):
            constraints.append(copy.deepcopy(IDENTITY_CONSTRAINT))
        group["Constraints"] = constraints or None


def _required_signals(tasks: list[Json]) -> set[str]:
    signals = set()
    for task in tasks:
        vault = task["Vault"]
        if vault is not None and vault["ChangeMode"] == "signal":
            signals.add(vault["ChangeSignal"])
        if task["KillSignal"]:
            signals.add(task["KillSignal"])
        for template in task["Templates"] or []:
            if template["ChangeMode"] == "signal":
                signals.add(template["ChangeSignal"])
    return signals - {""}
