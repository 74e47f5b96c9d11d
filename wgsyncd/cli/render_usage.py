"""The tables, CSV and picture of `wgsyncd usage`."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from wgsyncd.cli import output
from wgsyncd.cli.usage_report import Rank, Subject, ranking_report, sums, usage_report
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.names import DeviceName, find_device, find_owner, suggestions
from wgsyncd.core.inspect.periods import (
    Period,
    ReportRange,
    by_days,
    by_hours,
    by_months,
    format_bytes,
    hour_of,
    make_range,
    total,
)
from wgsyncd.core.model import NO_BYTES, Counters
from wgsyncd.errors import UserError
from wgsyncd.ports import Coverage, Reports


def run(args: argparse.Namespace, settings: Settings, reports: Reports, now: float) -> int:
    """Gather, add up, print."""
    if args.top is None and args.by_owner:
        args.fail("--by-owner goes with --top")
    if args.top is not None and (args.name or args.svg):
        args.fail("--top ranks all devices or owners: it takes no name and no --svg")
    try:
        span = make_range(args.by, args.since, args.until, now, settings.node.zone)
    except ValueError as error:
        args.fail(f"--since {error}")
    swapped = settings.mikyun.perspective == "device"
    names = reports.names()
    reach = reports.coverage()
    if args.top is not None:
        ranks = _ranking(_by_row(reports, span), names, by_owner=args.by_owner, swapped=swapped)
        _print_ranking(args, settings, span, ranks, _notes(span, reach))
        return 0
    rows, who = _resolve_name(args.name, names)
    periods = _periods(reports, span, rows, reach)
    if swapped:
        periods = [one._replace(rx=one.tx, tx=one.rx) for one in periods]
    _print(args, settings, span, who, periods, _notes(span, reach))
    return 0


# -- gather


def _resolve_name(name: str | None, names: Sequence[DeviceName]) -> tuple[Collection[int] | None, Subject]:
    """The rows that are meant, and who that is. Refused, with what looks like it, where there is none."""
    if name is None:
        return None, Subject("all")
    if device := find_device(name, names):
        return [device.row_id], Subject("device", device.device, device.owner)
    if owner := find_owner(name, names):
        return [one.row_id for one in names if one.owner == owner], Subject("owner", owner=owner)
    alike = suggestions(name, [one.device for one in names] + [one.owner for one in names])
    raise UserError(f"no device or owner is called {name!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


def _periods(reports: Reports, span: ReportRange, rows: Collection[int] | None, reach: Coverage) -> list[Period]:
    if span.by == "hour":
        return by_hours(span, reports.buckets(span.start, span.end, rows), reach.first_bucket)
    days: dict[str, Counters] = {}
    months = list(span.months())
    with output.progress("reading months", len(months)) as step:
        for first, last in months:  # one question each, so that none takes longer than the database may
            days |= reports.days(first, last, rows)
            step()
    return by_days(span, days) if span.by == "day" else by_months(span, days)


def _by_row(reports: Reports, span: ReportRange) -> Mapping[int, Counters]:
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


def _ranking(
    by_row: Mapping[int, Counters], names: Sequence[DeviceName], *, by_owner: bool, swapped: bool
) -> list[Rank]:
    """Everybody who moved anything, those who moved most first. Bytes of a row that is gone are nobody's, yet told."""
    known = {one.row_id: one for one in names}
    by_name: dict[tuple[str, str], Counters] = {}
    for row, found in by_row.items():
        one = known.get(row, DeviceName(row, f"(row {row}, gone)", "(gone)"))
        name = ("", one.owner) if by_owner else (one.device, one.owner)
        by_name[name] = total([by_name.get(name, NO_BYTES), found])
    ranks = [Rank(*name, *(reversed(found) if swapped else found)) for name, found in by_name.items()]
    return sorted(ranks, key=lambda r: (-r.rx - r.tx, r.owner, r.device))


def _notes(span: ReportRange, reach: Coverage) -> list[str]:
    """What the figures do not say by themselves."""
    notes = []
    zone = span.zone
    if span.by == "hour":
        start, end = float(span.start), float(span.end)
        if reach.first_bucket is None:
            notes.append("no hours are kept")
        elif span.start < hour_of(reach.first_bucket, zone):
            notes.append(f"hours are kept from {_local(reach.first_bucket, zone)} on; --by day reaches further back")
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
            notes.append(
                f"the books of {node} began at {_local(begun, zone)}: what the columns said before is in {where}"
            )
    return notes


def _local(at: float, zone: Any) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")


# -- print


def _meaning(settings: Settings) -> tuple[str, str]:
    if settings.mikyun.perspective == "device":
        return "rx: received by the devices", "tx: sent by the devices"
    return "rx: received by the server", "tx: sent by the server"


def _title(span: ReportRange, who: Subject) -> str:
    whose = {
        "all": "all devices",
        "device": f"device {who.device} (owner {who.owner})",
        "owner": f"owner {who.owner}",
    }[who.kind]
    return f"{whose}, {_span(span)}"


def _span(span: ReportRange) -> str:
    if span.by == "hour":
        return f"by hour, {_local(span.start, span.zone)} to {_local(span.end, span.zone)} {span.zone}"
    return f"by {span.by}, {span.first} to {span.last} {span.zone}"


_HEAD = ("rx_bytes", "tx_bytes", "total_bytes")


def _print(
    args: argparse.Namespace,
    settings: Settings,
    span: ReportRange,
    who: Subject,
    periods: list[Period],
    notes: list[str],
) -> None:
    whole = total(periods)
    if args.json:
        output.print_json(usage_report(span, settings.mikyun.perspective, notes, who, periods))
    elif args.csv:
        _csv(("period", *_HEAD), [(one.name, *sums(one)) for one in periods])
    elif args.svg:
        _picture(args.svg, output.sanitize(_title(span, who)), _meaning(settings), periods)
    else:
        output.print_line((_title(span, who), "head"))
        output.print_table(
            output.Table(
                (span.by, "rx", "tx", "total"),
                [(_name(one), *map(format_bytes, sums(one))) for one in periods],
                ("total", *map(format_bytes, sums(whole))),
                bars=[(one.rx, one.tx) for one in periods],
            )
        )
        _print_notes(settings, notes)


def _print_ranking(
    args: argparse.Namespace, settings: Settings, span: ReportRange, ranks: list[Rank], notes: list[str]
) -> None:
    whole = total(Counters(one.rx, one.tx) for one in ranks)
    first = ranks[: args.top]
    shown = [((one.owner,) if args.by_owner else (one.device, one.owner), one) for one in first]
    head = ("owner",) if args.by_owner else ("device", "owner")
    kind = "owners" if args.by_owner else "devices"
    if args.json:
        output.print_json(ranking_report(span, settings.mikyun.perspective, notes, kind, ranks, args.top))
    elif args.csv:
        _csv((*head, *_HEAD), [(*map(output.sanitize, names), *sums(one)) for names, one in shown])
    else:
        output.print_line((f"{len(first)} of {len(ranks)} {kind} with traffic, {_span(span)}", "head"))
        output.print_table(
            output.Table(
                (*head, "rx", "tx", "total"),
                [(*names, *map(format_bytes, sums(one))) for names, one in shown],
                (f"all {len(ranks)}", *[""] * (len(head) - 1), *map(format_bytes, sums(whole))),
                left=len(head),
                bars=[(one.rx, one.tx) for one in first],
            )
        )
        _print_notes(settings, notes)


def _name(one: Period) -> str:
    return one.name.replace("T", " ")


def _print_notes(settings: Settings, notes: list[str]) -> None:
    for note in ["; ".join(_meaning(settings)), *notes]:
        output.print_line(note)


def _csv(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)


def _picture(file: Path, title: str, legend: tuple[str, str], periods: list[Period]) -> None:
    from wgsyncd.cli import chart

    with output.waiting(f"drawing {len(periods)} bars"):
        picture = chart.svg(title, legend, periods)
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{file}: written")
