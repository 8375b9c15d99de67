"""What a check finds, and how it comes out. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from secretbinding.ops.doctor.facts import Facts, Unknown


class Severity(StrEnum):
    """How bad a finding is: `error` does not work, `warning` will bite some day, `info` is good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        subject: the thing that it is about, such as `policy x` or `job default/web`.
        message: what is wrong with it.
        evidence: how we know: the request, and what it said.
        remedy: the command or the configuration that mends it; may have several lines.
    """

    severity: Severity
    subject: str
    message: str
    evidence: str
    remedy: str


Judge = Callable[[Facts], Iterable[Finding | Unknown]]
"""Yields what is wrong, and `Unknown` for what could not be found out. Nothing means: all is well."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `title` says what is well when it finds nothing."""

    name: str
    title: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check. `unknown`: what could not be found out, so that no `ok` may be concluded."""

    check: Check
    findings: tuple[Finding, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def result(self) -> str:
        """`error`, `warning` or `info` for the worst finding, else `not made`, else `ok`."""
        found = {finding.severity for finding in self.findings}
        worst = next((severity.value for severity in Severity if severity in found), "")
        return worst or ("not made" if self.unknown else "ok")

    @property
    def severity(self) -> Severity | None:
        """The worst of what was found; a check that is kept from its work by a missing right is a warning."""
        found = {finding.severity for finding in self.findings}
        found |= {Severity.WARNING if one.denied else Severity.INFO for one in self.unknown}
        return next((severity for severity in Severity if severity in found), None)


def check(name: str, title: str) -> Callable[[Judge], Check]:
    """Make a check of a function."""
    return lambda judge: Check(name, title, judge)


def examine(checks: Iterable[Check], facts: Facts) -> tuple[Outcome, ...]:
    """Make all checks."""
    return tuple(_outcome(one, facts) for one in checks)


def _outcome(one: Check, facts: Facts) -> Outcome:
    found = list(one.judge(facts))
    findings = tuple(item for item in found if isinstance(item, Finding))
    unknown = tuple(dict.fromkeys(item for item in found if isinstance(item, Unknown)))
    return Outcome(one, findings, unknown)
