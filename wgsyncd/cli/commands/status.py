"""Show whether all is well, the interfaces, what is wrong, and the last changes.

The command shows what the running daemon knows since its last cycle and poll. If no daemon answers, it reads everything
by itself. It ends within 5 seconds, so it serves as a check of Icinga or monit.

exit status: 0 all is well, 1 something needs attention, 2 failing (also: bad configuration or usage), 3 not known,
because the command may not ask
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from wgsyncd.cli import client, devices_table, options, output, wiring
from wgsyncd.cli.commands import devices, plan
from wgsyncd.cli.output import Line, Parts, ago
from wgsyncd.cli.table import Column, fit
from wgsyncd.cli.watch import Draw, WatchView, watch
from wgsyncd.config import load
from wgsyncd.core.inspect.finding import Finding, fault, warning
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.words import counted, seconds_between, short_time
from wgsyncd.engine.reports import status as status_report
from wgsyncd.engine.reports.devices import Selection
from wgsyncd.engine.reports.recent import RecentChange
from wgsyncd.engine.reports.status_document import StatusReport, Verdict
from wgsyncd.engine.reports.verdict import judge, nobody
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import ConfigError, StoreError, in_short

AROUND = 3  # lines of --watch above the devices: an empty one, how many there are, and the heads of the columns
SHOWN = 8  # rejected rows on the screen: --json has all
WAIT = 2.5  # seconds for the daemon's answer, and then for what the command reads by itself
STATUS = {Verdict.OK: 0, Verdict.DEGRADED: 1, Verdict.FAILING: 2}
_WORDS = {Verdict.OK: "OK", Verdict.DEGRADED: "ATTENTION", Verdict.FAILING: "FAILING"}
_COLOURS = {Verdict.OK: "ok", Verdict.DEGRADED: "warning", Verdict.FAILING: "fault"}
_CYCLES = {"account": "poll"}  # the task as the glossary calls it. A reconcile is one by name
_SIGNS = {"add": "+", "remove": "-", "update": "~"}


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_watch(parser)
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Print the status once, or with --watch until ^C."""
    output.refuse_watch(args)
    try:
        report = ask(args)  # an error now is an error of the command, a later one is shown on the screen
    except ConfigError:
        raise
    except Exception as error:
        print(output.sanitize(f"wgsyncd: {in_short(error)}"), file=sys.stderr)
        return 3
    try:
        if args.watch and not args.json:
            watch(_screen(args), args.watch)
            return 0
        output.print_report(report, as_lines(report, output.width()), json=args.json)
        while args.watch:
            time.sleep(args.watch)
            report = ask(args)
            output.print_json(report)
    except KeyboardInterrupt:
        if not args.watch:
            raise
        return 0
    return STATUS[report.verdict]


def ask(args: argparse.Namespace) -> StatusReport:
    """The daemon's report, or else a report of what the command reads. Each of the two takes WAIT seconds at most."""
    try:
        report, why = ask_daemon(args)
    except client.SilentDaemonError as error:
        report, why = None, client.Silence(client.Absence.HANGS, str(error))
    if report is not None:
        return report
    settings = load.load(args.config)
    agent, links = wiring.open_agent(settings), wiring.link_states(settings)
    try:
        late = StoreError(f"no answer within {WAIT:g} s")
        report = status_report.of_preview(settings, client.within(WAIT, late, agent.inspector.view), why.text, links)
    except StoreError as error:
        report = status_report.without_store(settings, agent, why.text, error, links)
    if args.no_daemon:
        return report
    return status_report.judged(report, _absent(why))


def ask_daemon(args: argparse.Namespace) -> tuple[StatusReport | None, client.Silence]:
    """The daemon's report, or why there is none. SilentDaemonError after WAIT seconds."""
    late = client.SilentDaemonError(f"the daemon does not answer within {WAIT:g} s")
    ask = partial(client.ask_daemon, args, StatusReport, "/status", "GET", timeout=WAIT)
    return client.within(WAIT, late, ask)


def _absent(why: client.Silence) -> Finding:
    """The finding about a daemon that did not answer."""
    if why.absence is client.Absence.STOPPED:
        return fault("daemon", why.text, "systemctl start wgsyncd || journalctl -u wgsyncd -n 30 --no-pager")
    if why.absence is client.Absence.HANGS:
        return fault("daemon", why.text, "systemctl restart wgsyncd")
    # another configuration, or a directory that nobody may read
    return warning("daemon", why.text, "sudo wgsyncd status")


def _screen(args: argparse.Namespace) -> Draw:
    """What --watch draws: the status, half of what is left for the last changes, and the devices that move most."""
    page, known = plan.PlanPage(args), DaemonStatus()

    def draw(view: WatchView) -> tuple[Sequence[Parts], str]:
        report = ask(args)
        if lines := page.lines(view):
            return lines, output.moment(report.at)
        lines = as_lines(msgspec.structs.replace(report, changes=None), view.width)
        left = view.height - len(output.drawn(lines, view.width, copied=False))
        if changes := (report.changes or [])[: max(0, left - AROUND - 2) // 2]:
            lines += _last(changes)
            left -= len(changes) + 2
        if left > AROUND:
            found = devices.gather(args, Selection(text=view.text, sort="rate", limit=left - AROUND), known)
            lines += [("", ""), (devices_table.summary(found), "head"), *devices_table.lines(found, view.width)]
        return lines, output.moment(report.at)

    return draw


def as_lines(report: StatusReport, width: int) -> list[Parts]:
    """The lines of one screen that is ``width`` columns wide."""
    since = f" since {short_time(report.started)} {report.started[19:]}" if report.started else ""
    role = f" ({report.role})" if report.role else ""
    lines: list[Parts] = [
        (f"{_WORDS[report.verdict]}: node {report.node}{role}: {report.daemon}{since}", _COLOURS[report.verdict]),
        ("", ""),
        *_interfaces(report, width),
        ("", ""),
    ]
    if told := nobody(report):
        lines += [(told, "held"), ("", "")]
    for one in report.troubles:  # red is what makes the node fail, and nothing else
        lines += [(f"{one.check}: {one.message}", _COLOURS[judge([one])]), (f"    {one.fix}", "head")]
    for row in report.rejected[1:SHOWN]:
        lines.append((f"rows: row {row.row} ({row.name or row.device}), {row.detail}", "warning"))
    for lost in (report.refused_rows or [])[1:SHOWN]:
        lines.append((f"refused rows: {lost.name or lost.device}: {lost.error}", "warning"))
    lines += [*([("", "")] if report.troubles else []), *_work(report)]
    return lines if report.changes is None else [*lines, *_last(report.changes)]


_COUNTS = ("desired", "actual", "online", "frozen", "foreign", "drift")
_COLUMNS = (
    Column("interface"),
    Column("kind", rank=4),
    *(Column(name, right=True) for name in _COUNTS),
    Column("handshake", rank=2, right=True),
    *(Column(name, rank=1, right=True) for name in ("in/s", "out/s")),
    *(Column(name, rank=3, right=True) for name in ("received", "sent")),
)


def _interfaces(report: StatusReport, width: int) -> list[list[Line]]:
    """One line for each interface. A column without news or without room is left out. --json has all of them."""
    interfaces, wrong = report.interfaces, {one.check for one in report.troubles}
    counts = {name: [getattr(one, name) for one in interfaces] for name in _COUNTS}
    shown = [name for name in _COUNTS if any(counts[name]) or name in ("desired", "actual", "online")]
    rows = []
    for number, one in enumerate(interfaces):
        known = {name: counts[name][number] if one.present or name == "desired" else None for name in shown}
        numbers = ("" if name not in known else "?" if known[name] is None else str(known[name]) for name in _COUNTS)
        rates = ("" if rate is None else format_bytes(int(rate)) for rate in (one.rx_rate, one.tx_rate))
        cells = (
            one.interface,
            "" if all(some.kind == "kernel" for some in interfaces) else one.kind,
            *numbers,
            *((ago(seconds_between(one.latest_handshake, report.at)), *rates) if one.present else ("", "", "")),
            *((format_bytes(one.rx_bytes), format_bytes(one.tx_bytes)) if one.present else ("", "")),
        )
        kind = "" if one.present else "fault" if one.interface in wrong else "dim"
        rows.append([(cell, kind) for cell in cells])
    return fit(_COLUMNS, rows, width)


def _work(report: StatusReport) -> Iterator[Line]:
    """When the tasks last succeeded, and when the rows were read."""
    if report.cycles is not None:
        each = (f"last good {_CYCLES.get(task, task)} {ago(one.age)}" for task, one in report.cycles.items())
        yield ", ".join(each), ""
    database = report.database
    beat = "" if database.heartbeat_age is None else f", heartbeat {ago(database.heartbeat_age)}"
    yield f"rows read {ago(database.age)}{beat}", ""
    if (policies := report.policies) is not None:
        refused = ", ".join(f"{name} {one.packets}" for name, one in policies.refused.items() if one.packets)
        by = f", last because of {policies.last_program}" if policies.last_program else ""
        put_right = f", the packet filter was put right {counted(policies.restorations, 'time')}{by}"
        mended = put_right if policies.restorations else ""
        old = counted(policies.stale_profiles, "client profile is", "client profiles are")
        stale = f", {old} stale" if policies.stale_profiles else ""
        told = f"{counted(policies.devices, 'address', 'addresses')} in {counted(policies.profiles, 'access list')}"
        yield f"policies: {told}, packets refused: {refused or 0}{mended}{stale}", ""
    if report.preshared_keys:
        told = ", ".join(f"{key_id} {rows}" for key_id, rows in report.preshared_keys.items())
        yield f"preshared keys, rows by key id: {told}", ""
    if (shaping := report.shaping) is not None:
        devices = counted(sum(shaping.devices.values()), "device is", "devices are")
        counts = {"slowed by a monthly cap": shaping.slowed, "with an unknown bandwidth profile": shaping.unknown}
        counts["beyond their device limit"] = (report.conditions or {}).get("devices_over_limit", 0)
        told = "".join(f", {counted(count, report.owner_word)} {what}" for what, count in counts.items() if count)
        drift = f", {counted(shaping.drift, 'object')} of tc not as wanted" if shaping.drift else ""
        yield f"bandwidth: {devices} shaped, of {counted(shaping.owners, report.owner_word)}{told}{drift}", ""


def _last(changes: Sequence[RecentChange]) -> list[Parts]:
    head = "last changes" if changes else "no changes since the daemon started"
    return [("", ""), (head, "head"), *((_event(one), "") for one in changes)]


def _event(one: RecentChange) -> str:
    words = [_SIGNS.get(one.change, ">"), one.interface, one.name or one.device, one.text]
    return f"{short_time(one.at)}  {'  '.join(word for word in words if word)}"
