"""Show interfaces, peers, rejected rows, the guard and the last changes.

The command shows what the running daemon knows since its last cycle and poll. If no daemon runs, it reads everything by
itself.

exit status: 0 done, 1 failed, 2 bad configuration or usage
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.commands import devices, plan
from wgsyncd.cli.output import Line, Parts, ago, seconds_between, short_time
from wgsyncd.cli.table import Column, fit
from wgsyncd.cli.watch import Draw, WatchView, watch
from wgsyncd.config import load
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.engine import status_report
from wgsyncd.engine.devices_report import Selection
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_report import InterfaceReport, RecentChange, StatusReport

LEAST = 3  # devices: where there is room for fewer, --watch shows none
SHOWN = 8  # rejected rows on the screen: --json has all
_STALE = 3  # times the configured interval, before a good cycle is too long ago
_SIGNS = {"add": "+", "remove": "-", "update": "~"}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_config(parser)
    options.add_watch(parser)
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Print the status once, or with --watch until ^C."""
    output.refuse_watch(args)
    report = _ask(args)  # an error now is an error of the command, a later one is shown on the screen
    try:
        if args.watch and not args.json:
            watch(_screen(args), args.watch)
            return 0
        output.print_report(report, as_lines(report, output.width()), json=args.json)
        while args.watch:
            time.sleep(args.watch)
            output.print_json(_ask(args))
    except KeyboardInterrupt:
        if not args.watch:
            raise
    return 0


def _ask(args: argparse.Namespace) -> StatusReport:
    report, why = client.ask_daemon(args, StatusReport, "/status", "GET")
    if report is None:
        settings = load.load(args.config)
        report = status_report.of_preview(settings, wiring.open_agent(settings).inspector.view(), why)
    return report


def _screen(args: argparse.Namespace) -> Draw:
    """What --watch draws: the status, and the devices that move most where there is room."""
    page, known = plan.PlanPage(args), DaemonStatus()

    def draw(view: WatchView) -> tuple[Sequence[Parts], str]:
        report = _ask(args)
        lines: list[Parts] = [*page.lines(view)] or [*as_lines(report, view.width)]
        if not view.plan and (room := view.height - len(lines) - 4) >= LEAST:
            wanted = Selection(text=view.text, sort="rate", limit=room)
            found = devices.gather(args, wanted, known)
            lines += [("", ""), *devices.screen(found, view.width)]
        return lines, output.moment(report.at)

    return draw


def as_lines(report: StatusReport, width: int) -> list[Parts]:
    """The lines of one screen that is ``width`` columns wide."""
    since = f" since {short_time(report.started)}" if report.started else ""
    lines: list[Parts] = [(f"node {report.node}: {report.daemon}{since}", "head"), ("", "")]
    lines += [*_interfaces(report.interfaces, report.at, width), ("", "")]
    lines += [(f"{name} cannot be compared: {why}", "fault") for name, why in report.interface_errors.items()]
    lines += _work(report)
    guard = report.guard
    if guard.tripped and not guard.approved:
        text = f"guard: {report.withheld} changes withheld, plan {guard.plan} (wgsyncd plan, wgsyncd approve)"
        lines.append((text, "fault"))
    else:
        lines.append(("guard: quiet", ""))
    pending = ", ".join(f"{count} to {action}" for action, count in report.pending.items())
    blocked = f", waiting until an unreadable key is fixed: {report.blocked}" if report.blocked else ""
    kind = "warning" if pending or blocked else ""
    lines.append((f"pending: {pending or 'nothing'}, withheld: {report.withheld}{blocked}", kind))
    lines += _warnings(report)
    if report.changes is not None:
        lines += [("", ""), ("last changes" if report.changes else "no changes since the daemon started", "head")]
        lines += [(_event(one), "") for one in report.changes]
    return lines


_COUNTS = ("desired", "actual", "online", "frozen", "foreign", "drift")
_COLUMNS = (
    Column("interface"),
    Column("kind", rank=4),
    *(Column(name, right=True) for name in _COUNTS),
    Column("handshake", rank=2, right=True),
    *(Column(name, rank=1, right=True) for name in ("in/s", "out/s")),
    *(Column(name, rank=3, right=True) for name in ("received", "sent")),
)


def _interfaces(interfaces: list[InterfaceReport], at: str, width: int) -> list[list[Line]]:
    """One line for each interface. A column without news or without room is left out. --json has all of them."""
    counts = {name: [getattr(one, name) for one in interfaces] for name in _COUNTS}
    shown = [name for name in _COUNTS if any(counts[name]) or name in ("desired", "actual", "online")]
    rows = []
    for number, one in enumerate(interfaces):
        numbers = ("" if name not in shown else "?" if counts[name][number] is None else str(counts[name][number])
                   for name in _COUNTS)  # fmt: skip
        rates = ("" if rate is None else format_bytes(int(rate)) for rate in (one.rx_rate, one.tx_rate))
        cells = (
            one.interface,
            "" if all(some.kind == "kernel" for some in interfaces) else one.kind,
            *numbers,
            ago(seconds_between(one.latest_handshake, at)),
            *rates,
            format_bytes(one.rx_bytes),
            format_bytes(one.tx_bytes),
        )
        rows.append([(cell, "" if one.present else "fault") for cell in cells])
    return fit(_COLUMNS, rows, width)


def _work(report: StatusReport) -> Iterator[Line]:
    """When the tasks last succeeded, and whether the database answers."""
    if report.cycles is not None:
        cycles = report.cycles.values()
        each = ", ".join(f"{task} {ago(one.age)}" for task, one in report.cycles.items())
        late = any(one.age is None or one.age > _STALE * (one.every or 60) for one in cycles)
        oldest = max((one.age for one in cycles if one.age is not None), default=None)
        yield f"oldest good cycle: {ago(oldest)} ({each})", "fault" if late else ""
    database = report.database
    state = "up" if database.up else "AWAY" + (f" ({database.error})" if database.error else "")
    beat = "" if database.heartbeat_age is None else f", heartbeat {ago(database.heartbeat_age)}"
    yield f"database: {state}, rows read {ago(database.age)}{beat}", "" if database.up else "fault"


def _warnings(report: StatusReport) -> Iterator[Line]:
    """What needs attention."""
    configuration = report.configuration
    if configuration is not None and configuration.refused:
        file = configuration.file
        yield f"configuration: {file} has faults, so the daemon keeps the old one (wgsyncd check-config)", "fault"
    elif configuration is not None and configuration.changed_since:
        yield f"configuration: {configuration.file} has changed since it was loaded (wgsyncd reload)", "warning"
    if report.waiting_for_adoption:
        count = report.waiting_for_adoption
        yield f"{count} peers without a row stay until an admin adopts this node (wgsyncd adopt)", "warning"
    if report.quarantined:
        yield f"deltas in quarantine, not accounted: {report.quarantined} (wgsyncd quarantine)", "warning"
    if report.findings:
        yield f"discrepancies: {report.findings} (wgsyncd verify)", "warning"
    if report.spool_pending_counters:
        yield f"counters in the spool that wait for the database: {report.spool_pending_counters}", "warning"
    if report.locked_rows:
        yield f"devices not accounted, because their rows are locked: {report.locked_rows}", "warning"
    for one in (report.refused_rows or [])[:SHOWN]:
        yield f"not accounted: the database refuses to change the row of {one.device}: {one.error}", "fault"
    if (more := len(report.refused_rows or []) - SHOWN) > 0:
        yield f"not accounted: {more} more rows that the database refuses to change", "fault"
    if report.unwritten_audit_rows:
        yield f"audit rows that the database did not take: {report.unwritten_audit_rows} (wgsyncd doctor)", "warning"
    for kind, count in (report.conditions or {}).items():
        if count:
            yield f"conditions of type {kind}: {count}", "warning"
    for row in report.rejected[:SHOWN]:
        yield f"rejected: row {row.row} ({row.device}), {row.reason}: {row.detail}", "warning"
    if len(report.rejected) > SHOWN:
        yield f"rejected: {len(report.rejected) - SHOWN} more rows (wgsyncd plan has all)", "warning"


def _event(one: RecentChange) -> str:
    words = [_SIGNS.get(one.change, ">"), one.interface, one.device, one.text]
    return f"{short_time(one.at)}  {'  '.join(word for word in words if word)}"
