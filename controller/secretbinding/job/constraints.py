"""Constraints that Nomad's server adds to a group on registration, told apart from the user's own.

Rules from Nomad's job hooks: a group with a Vault block gets `${attr.vault.version}` unless it has a constraint of
that attribute; a group with an identity gets `${attr.nomad.version}` appended on *every* registration; a group whose
tasks need signals gets `${attr.os.signals}` unless the very same is there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from secretbinding.ports import Json

VAULT_CONSTRAINT = ("${attr.vault.version}", ">= 0.6.1", "semver")
NOMAD_CONSTRAINT = ("${attr.nomad.version}", ">= 1.7.0-a", "semver")
_SIGNALS_TARGET = "${attr.os.signals}"


def own_counts(group: Json) -> tuple[int, int]:
    """How many exact copies of the Vault and of the Nomad constraint a group has that are the user's own.

    `group` must be free of our part. Copies in a group that makes the server add them are taken for the server's.
    """
    constraints = [_triple(constraint) for constraint in group.get("Constraints") or []]
    vault = 0 if _has_vault(group) else constraints.count(VAULT_CONSTRAINT)
    nomad = 0 if _has_identity(group) else constraints.count(NOMAD_CONSTRAINT)
    return vault, nomad


def without_implied(group: Json, keeps: tuple[int, int], injected_signals: frozenset[str]) -> list[Json]:
    """The constraints of a group that was ours as well, less those that the server added for us.

    `group` is the group with our part taken out, its constraints still as the server answered them; `injected_signals`
    are the signals that the group needed with our part.
    """
    keep_vault, keep_nomad = keeps
    drop_signals = injected_signals if injected_signals != required_signals(group) else frozenset()
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
        elif drop_signals and triple[0] == _SIGNALS_TARGET and frozenset(triple[1].split(",")) == drop_signals:
            continue
        kept.append(constraint)
    return kept


def without_growth(group: Json) -> list[Json]:
    """The constraints to send for a group that is not ours: without the copies that the server appends each time."""
    constraints: list[Json] = group.get("Constraints") or []
    if not _has_identity(group):
        return constraints
    return [constraint for constraint in constraints if _triple(constraint) != NOMAD_CONSTRAINT]


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


def _has_vault(group: Json) -> bool:
    return any(task.get("Vault") for task in group.get("Tasks") or [])


def _has_identity(group: Json) -> bool:
    tasks = group.get("Tasks") or []
    services = [*(group.get("Services") or []), *(service for task in tasks for service in task.get("Services") or [])]
    return any(task.get("Identities") for task in tasks) or any(service.get("Identity") for service in services)


def _triple(constraint: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        str(constraint.get("LTarget") or ""),
        str(constraint.get("RTarget") or ""),
        str(constraint.get("Operand") or ""),
    )
