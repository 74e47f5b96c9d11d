"""The tables, CSV and picture of `wgsyncd usage`."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from wgsyncd.cli import output
from wgsyncd.cli.usage_query import local_time
from wgsyncd.cli.usage_report import Rank, Subject, ranking_report, sums, usage_report
from wgsyncd.core.inspect.periods import Period, ReportRange, format_bytes, total
from wgsyncd.core.model import Counters
from wgsyncd.errors import UserError
from wgsyncd.ports import Perspective


def _meaning(perspective: Perspective) -> tuple[str, str]:
    whose = "the devices" if perspective is Perspective.DEVICE else "the server"
    return f"rx: received by {whose}", f"tx: sent by {whose}"


def _title(span: ReportRange, who: Subject) -> str:
    whose = {
        "all": "all devices",
        "device": f"device {who.device} (owner {who.owner})",
        "owner": f"owner {who.owner}",
    }[who.kind]
    return f"{whose}, {_span(span)}"


def _span(span: ReportRange) -> str:
    if span.by == "hour":
        return f"by hour, {local_time(span.start, span.zone)} to {local_time(span.end, span.zone)} {span.zone}"
    return f"by {span.by}, {span.first} to {span.last} {span.zone}"


_HEAD = ("rx_bytes", "tx_bytes", "total_bytes")


def print_periods(
    args: argparse.Namespace,
    perspective: Perspective,
    span: ReportRange,
    who: Subject,
    periods: list[Period],
    notes: list[str],
) -> None:
    whole = total(periods)
    if args.json:
        output.print_json(usage_report(span, perspective, notes, who, periods))
    elif args.csv:
        _csv(("period", *_HEAD), [(one.name, *sums(one)) for one in periods])
    elif args.svg:
        _picture(args.svg, output.sanitize(_title(span, who)), _meaning(perspective), periods)
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
        _print_notes(perspective, notes)


def print_ranking(
    args: argparse.Namespace, perspective: Perspective, span: ReportRange, ranks: list[Rank], notes: list[str]
) -> None:
    whole = total(Counters(one.rx, one.tx) for one in ranks)
    first = ranks[: args.top]
    shown = [((one.owner,) if args.by_owner else (one.device, one.owner), one) for one in first]
    head = ("owner",) if args.by_owner else ("device", "owner")
    kind = "owners" if args.by_owner else "devices"
    if args.json:
        output.print_json(ranking_report(span, perspective, notes, kind, ranks, args.top))
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
        _print_notes(perspective, notes)


def _name(one: Period) -> str:
    return one.name.replace("T", " ")


def _print_notes(perspective: Perspective, notes: list[str]) -> None:
    for note in ["; ".join(_meaning(perspective)), *notes]:
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
