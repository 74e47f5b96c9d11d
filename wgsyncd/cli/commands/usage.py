"""Show accounted bytes by hour, day or month.

Bytes are WireGuard's. KiB and MiB are powers of 1024, and --csv and --json have exact bytes. Below the table stands
who received rx and who sent tx. Hours reach back two to three days, and days as far as usage.retention.

exit status: 0 done, 1 failed (also: no such device or owner), 2 bad configuration or usage
"""

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from msgspec import structs

from wgsyncd.cli import chart, options, output, wiring
from wgsyncd.cli.output import Parts
from wgsyncd.cli.table import Column, fit, with_bars
from wgsyncd.cli.usage_report import (
    Bytes,
    PeriodBytes,
    RankedBytes,
    RankedReport,
    SubjectReport,
    UsageRankingReport,
    UsageReport,
    csv_cell,
    short_hour,
)
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import Coverage
from wgsyncd.core.inspect.names import Labels, find_device, find_owner, suggestions
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
from wgsyncd.engine.reports.bandwidth import bandwidth_lines, bandwidth_report
from wgsyncd.errors import UserError
from wgsyncd.ports import ReportSource

K = TypeVar("K")
_GONE = "(gone)"  # stands for the owner of a device without a row


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    parser.set_defaults(fail=parser.error)
    parser.add_argument("name", type=options.name, nargs="?", metavar="DEVICE|OWNER",
                        help="a device id, an owner, or a row's id (default: all)")  # fmt: skip
    parser.add_argument(
        "--by", choices=("hour", "day", "month"), default="day", help="the length of a period (default: %(default)s)"
    )
    parser.add_argument(
        "--since",
        type=_date,
        metavar="DATE",
        help="the first day, as 2026-09-01 (default: the last 24 hours, 30 days or 12 months)",
    )
    parser.add_argument("--until", type=_date, metavar="DATE", help="the last day, which is included (default: today)")
    parser.add_argument(
        "--top", type=options.count, metavar="N", help="show the N devices that moved most instead of periods"
    )
    parser.add_argument("--by-owner", "--by-user", action="store_true",
                        help="with --top: rank owners (users of NexaVPN) instead of devices")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--csv", action="store_true", help="CSV with a head instead of a table")
    form.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart (needs the extra wgsyncd[plot])")


def run(args: argparse.Namespace) -> int:
    if args.top is None and args.by_owner:
        args.fail("--by-owner goes with --top")
    if args.top is not None and (args.name or args.svg):
        args.fail("--top ranks all devices or owners: it takes no name and no --svg")
    if args.svg:
        chart.check(args.svg)
    settings = load.load(args.config)
    try:
        span = make_range(args.by, args.since, args.until, time.time(), settings.node.zone)
    except ValueError as error:
        args.fail(f"--since {error}")
    reports = wiring.open_reports(settings)
    report: UsageReport | UsageRankingReport
    word = settings.store.owner_word
    if args.top is not None:
        report = structs.replace(_ranking(reports, span, args.top, by_owner=args.by_owner), owner_word=word)
    else:
        periods = _periods(reports, span, *_resolve(args.name, reports, word))
        report = structs.replace(_with_bandwidth(periods, settings), owner_word=word)
        if args.svg:
            return _write_picture(args.svg, report)
    if args.json:
        output.print_json(report)
    elif args.csv:
        head, rows = report.rows()
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((*head, "rx_bytes", "tx_bytes", "total_bytes"))
        writer.writerows((*map(csv_cell, names), *one.numbers) for names, one in rows)
    else:
        _print_table(report, whole=args.since is not None)
    return 0


def _periods(
    reports: ReportSource, span: ReportRange, devices: Collection[str] | None, subject: SubjectReport
) -> UsageReport:
    reach = reports.coverage()
    if span.by == "hour":
        periods = by_hours(span, reports.buckets(span.start, span.end, devices), reach.first_bucket)
    else:
        days: dict[str, Counters] = {}
        for first, last in _months(span):
            days |= reports.days(first, last, devices)
        periods = by_days(span, days) if span.by == "day" else by_months(span, days)
    return UsageReport(
        of=subject,
        periods=[PeriodBytes(period=one.name, **_bytes(one)) for one in periods],
        total=Bytes(**_bytes(total(periods))),
        perspective=reports.perspective.value,
        notes=_notes(span, reach),
        bandwidth=None,
        **_frame(span),
    )


def _with_bandwidth(report: UsageReport, settings: Settings) -> UsageReport:
    """The report of a device or owner, with its bandwidth and its monthly cap. They need the rows of this node."""
    owner, policy = report.of.owner, settings.shaping_policy
    if owner is None or owner == _GONE or not policy.enforce:
        return report
    terms = wiring.open_agent(settings).store.snapshot().terms
    return structs.replace(report, bandwidth=bandwidth_report(owner, terms, policy))


def _ranking(reports: ReportSource, span: ReportRange, most: int, *, by_owner: bool) -> UsageRankingReport:
    """The devices or owners with traffic, the largest first. A device whose row is gone still has its bytes."""
    by_device: dict[str, Counters] = {}
    if span.by == "hour":
        by_device |= reports.devices_of_buckets(span.start, span.end)
    else:
        for first, last in _months(span):
            _add(by_device, reports.devices_of_days(first, last))
    names = reports.names()
    owners, labels = {one.device: one.owner for one in names}, Labels(names)
    by_name: dict[tuple[str | None, str], Counters] = {}
    for device, found in by_device.items():
        _add(by_name, {(None if by_owner else device, owners.get(device, _GONE)): found})
    ranks = [RankedBytes(device=device, name=labels.name(device or ""), owner=owner, **_bytes(found))
             for (device, owner), found in by_name.items()]  # fmt: skip
    ranks.sort(key=lambda one: (-one.total_bytes, one.owner, one.device or ""))
    return UsageRankingReport(
        of=RankedReport(kind="owners" if by_owner else "devices", count=len(ranks)),
        ranking=ranks[:most],
        total=Bytes(**_bytes(total(by_name.values()))),
        perspective=reports.perspective.value,
        notes=_notes(span, reports.coverage()),
        **_frame(span),
    )


def _resolve(name: str | None, reports: ReportSource, owner_word: str) -> tuple[Collection[str] | None, SubjectReport]:
    """The devices that ``name`` means, and the device or owner. UserError, with similar names, if there is none.

    A device whose row is gone still has its bytes.
    """
    if name is None:
        return None, SubjectReport(kind="all", device=None, owner=None)
    names = reports.names()
    if device := find_device(name, names):
        label, owner = device.label, device.owner
        return [device.device], SubjectReport(kind="device", device=device.device, name=label, owner=owner)
    if found := find_owner(name, names):
        mine = [one.device for one in names if one.owner == found]
        return mine, SubjectReport(kind="owner", device=None, owner=found)
    gone = reports.names(gone=True)
    if device := find_device(name, gone):
        return [device.device], SubjectReport(kind="device", device=device.device, owner=_GONE)
    alike = suggestions(name, [one.label or one.device for one in (*names, *gone)] + [one.owner for one in names])
    raise UserError(f"no device or {owner_word} is called {name!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


def _months(span: ReportRange) -> Iterator[tuple[str, str]]:
    """The months, with progress. There is one query for each, so that none exceeds the time limit of a query."""
    months = list(span.months())
    with output.waiting("reading months") as say:
        for number, month in enumerate(months, 1):
            say(f"reading months, {number} of {len(months)}")
            yield month


def _add(sums: dict[K, Counters], more: Mapping[K, Counters]) -> None:
    for key, found in more.items():
        sums[key] = total([sums.get(key, NO_BYTES), found])


def _frame(span: ReportRange) -> dict[str, str]:
    """The fields that say what a report covers: its first and last day, or with hours the first and last moment."""
    since, until = span.first.isoformat(), span.last.isoformat()
    if span.by == "hour":
        since, until = (
            datetime.fromtimestamp(at, span.zone).isoformat(timespec="minutes") for at in (span.start, span.end)
        )
    return {"by": span.by, "since": since, "until": until, "zone": str(span.zone)}


def _bytes(one: Counters | Period) -> dict[str, int]:
    return {"rx_bytes": one.rx, "tx_bytes": one.tx, "total_bytes": one.rx + one.tx}


def _notes(span: ReportRange, reach: Coverage) -> list[str]:
    """What the reader of the figures must know besides."""
    notes = []
    zone = span.zone
    if span.by == "hour":
        start, end = float(span.start), float(span.end)
        if reach.first_bucket is None:
            notes.append("no hours are kept")
        elif span.start < hour_of(reach.first_bucket, zone):
            notes.append(
                f"hours are kept from {_minute(reach.first_bucket, zone)} on, and --by day reaches further back"
            )
    else:
        start = datetime(span.first.year, span.first.month, span.first.day, tzinfo=zone).timestamp()
        end = datetime(span.last.year, span.last.month, span.last.day, tzinfo=zone).timestamp() + 86400
        if reach.first_day is None:
            notes.append("no day has any bytes")
        elif span.first.isoformat() < reach.first_day:
            notes.append(f"the first day with any bytes is {reach.first_day}")
    has_bytes = span.by == "hour" or reach.first_day is not None
    for node, begun in sorted(reach.begun.items()) if has_bytes else ():
        local = datetime.fromtimestamp(begun, zone)
        at = begun if span.by == "hour" else local.replace(day=1, hour=0, minute=0, second=0).timestamp()
        where = local.strftime("%Y-%m-%d %H:00" if span.by == "hour" else "%Y-%m-01")
        if start <= at < end and (span.by == "hour" or where >= (reach.first_day or "")):
            notes.append(f"{where} holds the totals from before {_minute(begun, zone)}, when {node} began to account")
    return notes


def _minute(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")


def _print_table(report: UsageReport | UsageRankingReport, *, whole: bool) -> None:
    """``whole``: also the periods before the first byte."""
    head, rows = report.rows()
    if isinstance(report, UsageReport) and not whole:
        rows = [*itertools.dropwhile(lambda row: not row[1].total_bytes, rows[:-1]), *rows[-1:]]
    foot = [f"all {report.of.count}" if isinstance(report, UsageRankingReport) else "total", *[""] * (len(head) - 1)]
    if isinstance(report, UsageReport):
        head, rows = (report.by,), [((short_hour(name),), one) for (name,), one in rows]
    else:
        called = {one.device: one.name for one in report.ranking if one.name}
        rows = [(tuple(called.get(name, name) for name in names), one) for names, one in rows]
    columns = [Column(name, most=30, rank=len(head) - at - 1) for at, name in enumerate(reversed(head))][::-1]
    columns += [Column(name, right=True) for name in ("rx", "tx", "total")]
    lines = [[(text, "") for text in (*names, *map(format_bytes, one.numbers))] for names, one in rows]
    lines.append([(text, "head") for text in (*foot, *map(format_bytes, report.total.numbers))])
    laid_out = fit(columns, lines, output.width())
    table: list[Parts] = list(laid_out)
    if output.is_terminal():
        table = with_bars(laid_out, [(one.rx_bytes, one.tx_bytes) for _, one in rows], output.width())
    received, sent = report.legend
    notes: list[Parts] = [[(received, "rx"), ("; ", ""), (sent, "tx")], *((note, "") for note in report.notes)]
    if isinstance(report, UsageReport) and report.bandwidth is not None:
        notes += [(f"bandwidth: {line}", "") for line in bandwidth_lines(report.bandwidth)]
    output.print_lines([(report.title, "head"), *table, *notes])


def _write_picture(file: Path, report: UsageReport) -> int:
    with output.waiting(f"drawing {len(report.periods)} bars"):
        picture = chart.svg(output.sanitize(report.title), report.legend, report.periods)
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{file}: written")
    return 0


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, as 2026-09-01 is") from None
