"""What `wgsyncd usage` reads from the store, and adds up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from wgsyncd.cli import output
from wgsyncd.cli.usage_report import Rank, Subject
from wgsyncd.core.inspect.names import DeviceName, find_device, find_owner, suggestions
from wgsyncd.core.inspect.periods import Period, ReportRange, by_days, by_hours, by_months, hour_of, total
from wgsyncd.core.model import NO_BYTES, Counters
from wgsyncd.errors import UserError
from wgsyncd.ports import Coverage, ReportSource


def resolve_name(name: str | None, names: Sequence[DeviceName]) -> tuple[Collection[int] | None, Subject]:
    """The rows that ``name`` means, and the device or owner. UserError, with similar names, if there is none."""
    if name is None:
        return None, Subject("all")
    if device := find_device(name, names):
        return [device.row_id], Subject("device", device.device, device.owner)
    if owner := find_owner(name, names):
        return [one.row_id for one in names if one.owner == owner], Subject("owner", owner=owner)
    alike = suggestions(name, [one.device for one in names] + [one.owner for one in names])
    raise UserError(f"no device or owner is called {name!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


def read_periods(
    reports: ReportSource, span: ReportRange, rows: Collection[int] | None, reach: Coverage
) -> list[Period]:
    if span.by == "hour":
        return by_hours(span, reports.buckets(span.start, span.end, rows), reach.first_bucket)
    days: dict[str, Counters] = {}
    months = list(span.months())
    with output.progress("reading months", len(months)) as step:
        for first, last in months:  # one query for each month, so that none exceeds the time limit of a query
            days |= reports.days(first, last, rows)
            step()
    return by_days(span, days) if span.by == "day" else by_months(span, days)


def read_by_row(reports: ReportSource, span: ReportRange) -> Mapping[int, Counters]:
    if span.by == "hour":
        return reports.rows_of_buckets(span.start, span.end)
    found_sums: dict[int, Counters] = {}
    months = list(span.months())
    with output.progress("reading months", len(months)) as step:
        for first, last in months:
            for row, found in reports.rows_of_days(first, last).items():
                found_sums[row] = total([found_sums.get(row, NO_BYTES), found])
            step()
    return found_sums


def rank(by_row: Mapping[int, Counters], names: Sequence[DeviceName], *, by_owner: bool) -> list[Rank]:
    """All devices or owners with traffic, the largest first. A row that is gone still has its bytes."""
    known = {one.row_id: one for one in names}
    by_name: dict[tuple[str, str], Counters] = {}
    for row, found in by_row.items():
        one = known.get(row, DeviceName(row, f"(row {row}, gone)", "(gone)"))
        name = ("", one.owner) if by_owner else (one.device, one.owner)
        by_name[name] = total([by_name.get(name, NO_BYTES), found])
    ranks = [Rank(*name, *found) for name, found in by_name.items()]
    return sorted(ranks, key=lambda r: (-r.rx - r.tx, r.owner, r.device))


def notes_on(span: ReportRange, reach: Coverage) -> list[str]:
    """What the reader of the figures must know besides."""
    notes = []
    zone = span.zone
    if span.by == "hour":
        start, end = float(span.start), float(span.end)
        if reach.first_bucket is None:
            notes.append("no hours are kept")
        elif span.start < hour_of(reach.first_bucket, zone):
            notes.append(
                f"hours are kept from {local_time(reach.first_bucket, zone)} on, and --by day reaches further back"
            )
    else:
        start = datetime(span.first.year, span.first.month, span.first.day, tzinfo=zone).timestamp()
        end = datetime(span.last.year, span.last.month, span.last.day, tzinfo=zone).timestamp() + 86400
        if reach.first_day is None:
            notes.append("no days are kept")
        elif span.first.isoformat() < reach.first_day:
            notes.append(f"the first day with any bytes is {reach.first_day}")
    for node, begun in sorted(reach.begun.items()):
        local = datetime.fromtimestamp(begun, zone)
        at = begun if span.by == "hour" else local.replace(day=1, hour=0, minute=0, second=0).timestamp()
        if start <= at < end:
            where = "that hour" if span.by == "hour" else f"{local.date().replace(day=1)}"
            notes.append(f"{node} accounts since {local_time(begun, zone)}: what the columns had before is in {where}")
    return notes


def local_time(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")
