"""The documents of `wgsyncd verify --json` and `wgsyncd quarantine --json`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from wgsyncd.cli.output import sanitize
from wgsyncd.core.inspect.verify import Discrepancy
from wgsyncd.core.state import QuarantineEntry


class FindingReport(Struct, frozen=True, kw_only=True):
    """One thing that does not add up, or a note. The numbers have names."""

    check: str
    device: str
    what: str
    numbers: dict[str, int]


class VerifyReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd verify --json`."""

    findings: list[FindingReport]
    notes: list[FindingReport]


class QuarantinedReport(Struct, frozen=True, kw_only=True):
    """One delta in quarantine. Bytes are the server's view, times are UNIX seconds, the rate is in bits per second."""

    id: int
    row: int | None
    device: str
    interface: str
    rx: int
    tx: int
    since: float
    until: float
    rate: float | None


class QuarantineReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd quarantine --json`: what waits, or what was released or dropped."""

    quarantine: list[QuarantinedReport]


def verify_report(findings: Sequence[Discrepancy]) -> VerifyReport:
    """The report of what does not add up."""
    return VerifyReport(
        findings=[_finding(one) for one in findings if not one.note],
        notes=[_finding(one) for one in findings if one.note],
    )


def _finding(one: Discrepancy) -> FindingReport:
    numbers = {amount.name: amount.value for amount in (one.left, one.right) if amount is not None}
    return FindingReport(check=one.check.value, device=sanitize(one.device), what=sanitize(one.text), numbers=numbers)


def quarantine_report(held: Sequence[QuarantineEntry]) -> QuarantineReport:
    """The report of deltas in quarantine."""
    return QuarantineReport(
        quarantine=[
            QuarantinedReport(
                id=number,
                row=delta.row_id,
                device=sanitize(delta.device),
                interface=delta.interface,
                rx=delta.rx,
                tx=delta.tx,
                since=delta.since,
                until=delta.until,
                rate=delta.rate,
            )
            for number, delta in held
        ]
    )
