"""Constraints that Nomad's server adds to a group on registration, told apart from the user's own.

Rules from Nomad's job hooks: a group with a Vault block gets `${attr.vault.version}` unless it has a constraint of
that attribute; a group whose tasks need signals gets `${attr.os.signals}` unless the very same is there; a group with
an identity gets `${attr.nomad.version}` appended on *every* registration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secretbinding.ports import Json

VAULT_CONSTRAINT = ("${attr.vault.version}", ">= 0.6.1", "semver")
NOMAD_CONSTRAINT = ("${attr.nomad.version}", ">= 1.7.0-a", "semver")
_SIGNALS_TARGET = "${attr.os.signals}"


@dataclass(frozen=True, slots=True)
class Keeps:
    """What a group had of its own that looks exactly like what the server adds.

    Attributes:
        vault, nomad: how many copies of the constraint are the user's.
        signals: the value of the user's own constraint on signals when it is the very one that our part needs.
    """

    vault: int = 0
    nomad: int = 0
    signals: str = ""


def own_keeps(group: Json, signals: frozenset[str]) -> Keeps:
    """What a group without our part has of its own. `signals` are those that it needs with our part.

    A copy of the Vault constraint in a group that makes the server add it is taken for the server's.
    """
    constraints = [_triple(constraint) for constraint in group.get("Constraints") or []]
    wanted = _signals(signals)
    return Keeps(
        vault=0 if _has_vault(group) else constraints.count(VAULT_CONSTRAINT),
        nomad=constraints.count(NOMAD_CONSTRAINT),
        signals=wanted[1] if signals != required_signals(group) and wanted in constraints else "",
    )


def without_implied(group: Json, keeps: Keeps, injected_signals: frozenset[str]) -> list[Json]:
    """The constraints of a group that was ours as well, less those that the server added for us.

    `group` is the group with our part taken out, its constraints still as the server answered them; `injected_signals`
    are the signals that the group needed with our part.
    """
    keep_vault, keep_nomad = keeps.vault, keeps.nomad
    implied = _signals(injected_signals)
    drop_signals = injected_signals not in (frozenset(), required_signals(group)) and implied[1] != keeps.signals
    kept: list[Json] = []
    for constraint in group.get("Constraints") or []:
        triple = _triple(constraint)
        if triple == VAULT_CONSTRAINT and not _has_vault(group):
            if keep_vault == 0:
                continue
            keep_vault -= 1
        elif triple == NOMAD_CONSTRAINT:
            if keep_nomad == 0:
                continue
            keep_nomad -= 1
        elif drop_signals and triple == implied:
            continue
        kept.append(constraint)
    return kept


def without_growth(group: Json) -> list[Json]:
    """The constraints to send for a group that is not ours: less the one copy that the server appends each time, so
    that the group has as many after the registration as before."""
    constraints: list[Json] = list(group.get("Constraints") or [])
    if has_identity(group):
        for position in range(len(constraints) - 1, -1, -1):
            if _triple(constraints[position]) == NOMAD_CONSTRAINT:
                del constraints[position]
                break
    return constraints


def required_signals(group: Json) -> frozenset[str]:
    """The signals that the group's tasks use, as Nomad counts them."""
    signals: set[str] = set()
    for task in group.get("Tasks") or []:
        vault = task.get("Vault") or {}
        if vault.get("ChangeMode") == "signal":
            signals.add(str(vault.get("ChangeSignal") or ""))
        if task.get("KillSignal"):
            signals.add(str(task["KillSignal"]))
        templates: Iterable[Mapping[str, Any]] = task.get("Templates") or []
        signals.update(str(t.get("ChangeSignal") or "") for t in templates if t.get("ChangeMode") == "signal")
    return frozenset(signals)


def has_identity(group: Json) -> bool:
    """True when a task or a service of the group has an identity, so that the server appends its constraint."""
    tasks = group.get("Tasks") or []
    services = [*(group.get("Services") or []), *(service for task in tasks for service in task.get("Services") or [])]
    return any(task.get("Identities") for task in tasks) or any(service.get("Identity") for service in services)


def _has_vault(group: Json) -> bool:
    return any(task.get("Vault") for task in group.get("Tasks") or [])


def _signals(signals: frozenset[str]) -> tuple[str, str, str]:
    return (_SIGNALS_TARGET, ",".join(sorted(signals)), "set_contains")


def _triple(constraint: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        str(constraint.get("LTarget") or ""),
        str(constraint.get("RTarget") or ""),
        str(constraint.get("Operand") or ""),
    )
