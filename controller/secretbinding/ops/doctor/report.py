"""The outcomes for people and for programs. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secretbinding.ops.doctor.facts import Unknown
from secretbinding.ops.doctor.findings import Outcome, Severity

WARNINGS = 2
"""The exit code when the worst that was found is a warning."""


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """1 for an error, 2 for warnings, 0 for less. A check that a missing right keeps from its work is a warning."""
    found = {outcome.severity for outcome in outcomes}
    return 1 if Severity.ERROR in found else WARNINGS if Severity.WARNING in found else 0


def to_object(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Everything, in the shape that `-o json` and `-o yaml` print."""
    return {
        "summary": {
            "checks": len(outcomes),
            "ok": sum(outcome.result == "ok" for outcome in outcomes),
            "notMade": sum(bool(outcome.unknown) for outcome in outcomes),
            "errors": count(outcomes, Severity.ERROR),
            "warnings": count(outcomes, Severity.WARNING),
            "infos": count(outcomes, Severity.INFO),
        },
        "checks": [
            {
                "name": outcome.check.name,
                "title": outcome.check.title,
                "result": outcome.result,
                "findings": [
                    {
                        "severity": finding.severity.value,
                        "subject": finding.subject,
                        "message": finding.message,
                        "evidence": finding.evidence,
                        "remedy": finding.remedy,
                    }
                    for finding in outcome.findings
                ],
                "notMade": [{"why": one.why, "remedy": one.remedy, "denied": one.denied} for one in outcome.unknown],
            }
            for outcome in outcomes
        ],
    }


def count(outcomes: Iterable[Outcome], severity: Severity) -> int:
    """How many findings of a severity there are."""
    return sum(finding.severity is severity for outcome in outcomes for finding in outcome.findings)


def blocks(outcomes: Sequence[Outcome]) -> list[tuple[Severity, str]]:
    """The findings for people, the worst first, each with its severity and some lines of text."""
    found = [(finding, outcome.check.name) for outcome in outcomes for finding in outcome.findings]
    ranks = list(Severity)
    found.sort(key=lambda pair: ranks.index(pair[0].severity))
    texts = []
    for finding, name in found:
        lines = [f"{finding.severity.value.upper():<8} {name}: {finding.subject}", f"  {finding.message}"]
        lines.append(f"  seen:  {finding.evidence}")
        lines += _labelled("do:", finding.remedy)
        texts.append((finding.severity, "\n".join(lines)))
    return texts


def unmade(outcomes: Sequence[Outcome]) -> list[tuple[Severity, str]]:
    """The checks that could not be made, or not whole, for people: together where the reason is the same."""
    reasons: dict[Unknown, list[str]] = {}
    for outcome in outcomes:
        for one in outcome.unknown:
            reasons.setdefault(one, []).append(outcome.check.name)
    texts = []
    for one, names in sorted(reasons.items(), key=lambda pair: not pair[0].denied):
        severity = Severity.WARNING if one.denied else Severity.INFO
        lines = [f"{'NOT MADE':<8} {', '.join(names)}", f"  {one.why}"]
        lines += _labelled("do:", one.remedy)
        texts.append((severity, "\n".join(lines)))
    return texts


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line: how many checks, and what came of them."""
    ok = sum(outcome.result == "ok" for outcome in outcomes)
    parts = [
        _counted(count(outcomes, Severity.ERROR), "error"),
        _counted(count(outcomes, Severity.WARNING), "warning"),
        _counted(count(outcomes, Severity.INFO), "note"),
        f"{sum(bool(outcome.unknown) for outcome in outcomes)} not made or not whole",
    ]
    return f"{len(outcomes)} checks, {ok} ok: {', '.join(parts)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _labelled(label: str, text: str) -> list[str]:
    first, *rest = text.splitlines() or [""]
    return [f"  {label:<6} {first}", *(f"         {line}" for line in rest)] if text else []
