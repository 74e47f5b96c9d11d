"""The document of `wgsyncd usage --json`: bytes by period, or with `--top` a ranking."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from wgsyncd.cli.output import sanitize
from wgsyncd.core.inspect.periods import Period, ReportRange, total
from wgsyncd.core.model import Counters


class Subject(NamedTuple):
    """The device, owner or everybody that the bytes belong to."""

    kind: str  # all, device or owner
    device: str = ""
    owner: str = ""


class Rank(NamedTuple):
    """The bytes of one device or one owner."""

    device: str  # "" for an owner
    owner: str
    rx: int
    tx: int


class Bytes(Struct, frozen=True, kw_only=True):
    """Bytes in the configured perspective."""

    rx_bytes: int
    tx_bytes: int
    total_bytes: int


class PeriodBytes(Bytes, frozen=True, kw_only=True):
    """The bytes of one hour, day or month."""

    period: str


class RankedBytes(Bytes, frozen=True, kw_only=True):
    """The bytes of one device or owner. ``device`` is null for an owner."""

    device: str | None
    owner: str


class SubjectReport(Struct, frozen=True, kw_only=True):
    """The device, owner or everybody that the bytes belong to."""

    kind: str
    device: str | None
    owner: str | None


class RankedReport(Struct, frozen=True, kw_only=True):
    """What is ranked, and how many there are."""

    kind: str  # devices or owners
    count: int


class _Frame(Struct, frozen=True, kw_only=True):
    by: str
    since: str
    until: str
    zone: str
    perspective: str
    notes: list[str]
    total: Bytes


class UsageReport(_Frame, frozen=True, kw_only=True):
    """The document of `wgsyncd usage --json`."""

    of: SubjectReport
    periods: list[PeriodBytes]


class UsageRankingReport(_Frame, frozen=True, kw_only=True):
    """The document of `wgsyncd usage --top N --json`."""

    of: RankedReport
    ranking: list[RankedBytes]


def sums(one: Period | Rank | Counters) -> tuple[int, int, int]:
    """Received, sent and both."""
    return one.rx, one.tx, one.rx + one.tx


def usage_report(
    span: ReportRange, perspective: str, notes: list[str], subject: Subject, periods: list[Period]
) -> UsageReport:
    """The report of bytes by period."""
    since, until = _bounds(span)
    return UsageReport(
        of=SubjectReport(
            kind=subject.kind,
            device=sanitize(subject.device) or None,
            owner=sanitize(subject.owner) or None,
        ),
        by=span.by,
        since=since,
        until=until,
        zone=str(span.zone),
        perspective=perspective,
        notes=notes,
        total=_bytes(total(periods)),
        periods=[
            PeriodBytes(period=one.name, rx_bytes=one.rx, tx_bytes=one.tx, total_bytes=one.rx + one.tx)
            for one in periods
        ],
    )


def ranking_report(
    span: ReportRange, perspective: str, notes: list[str], kind: str, ranks: list[Rank], shown: int
) -> UsageRankingReport:
    """The report of who moved most. The total counts all, not only those shown."""
    since, until = _bounds(span)
    return UsageRankingReport(
        of=RankedReport(kind=kind, count=len(ranks)),
        by=span.by,
        since=since,
        until=until,
        zone=str(span.zone),
        perspective=perspective,
        notes=notes,
        total=_bytes(total(Counters(one.rx, one.tx) for one in ranks)),
        ranking=[
            RankedBytes(
                device=sanitize(one.device) or None,
                owner=sanitize(one.owner),
                rx_bytes=one.rx,
                tx_bytes=one.tx,
                total_bytes=one.rx + one.tx,
            )
            for one in ranks[:shown]
        ],
    )


def _bounds(span: ReportRange) -> tuple[str, str]:
    """The first and the last day, or with hours the first and the last moment."""
    if span.by != "hour":
        return span.first.isoformat(), span.last.isoformat()
    return _iso_minute(span.start, span), _iso_minute(span.end, span)


def _iso_minute(at: int, span: ReportRange) -> str:
    """A time to the minute, with its offset."""
    return datetime.fromtimestamp(at, span.zone).isoformat(timespec="minutes")


def _bytes(one: Counters) -> Bytes:
    return Bytes(rx_bytes=one.rx, tx_bytes=one.tx, total_bytes=one.rx + one.tx)
