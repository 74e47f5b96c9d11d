"""The document of `wgsyncd doctor --json`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from wgsyncd.cli.output import sanitize
from wgsyncd.core.inspect.finding import Finding, Severity


class CheckReport(Struct, frozen=True, kw_only=True):
    """What one check says, and the command that fixes it."""

    check: str
    severity: str
    message: str
    fix: str | None


class DoctorReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd doctor --json`."""

    faults: int
    warnings: int
    checks: list[CheckReport]


def doctor_report(findings: Sequence[Finding]) -> DoctorReport:
    """The report of all checks."""
    return DoctorReport(
        faults=sum(1 for one in findings if one.severity is Severity.FAULT),
        warnings=sum(1 for one in findings if one.severity is Severity.WARNING),
        checks=[
            CheckReport(
                check=one.check,
                severity=one.severity.value,
                message=sanitize(one.message),
                fix=sanitize(one.fix) or None,
            )
            for one in findings
        ],
    )
