"""Show what a cycle would do. Write nothing.

A line begins with - for a removal, ~ for an update, and + for an addition. It begins with ! for a change that waits for
an admin, or until an unreadable key is fixed. > is a transition of a device, and ? is a rejected row. The command asks
the running daemon. If no daemon runs, or if it has another configuration, the command reads everything by itself and
says so.

exit status: 0 nothing to do, 2 changes, 1 an error, also where an interface could not be compared
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.engine import plan_report, wording
from wgsyncd.engine.plan_report import InterfacePeers, PlannedChange, PlanReport

_SIGNS = {"remove": "-", "update": "~", "add": "+"}
_KINDS = {"-": "fault", "~": "warning", "+": "ok", "!": "held"}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options. Exit status 2 says "there are changes", so a bad configuration is 1."""
    options.add_config(parser, fault_status=1)
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show the plan. 0: nothing to do, 2: changes, 1: an interface could not be compared."""
    report, why = client.ask_daemon(args, PlanReport, "/plan")
    if report is None:
        settings = load.load(args.config)
        decision = wiring.open_agent(settings).inspector.preview()
        report = plan_report.build(decision, settings.node.zone, time.time(), source="command")
        client.print_note(why)
    output.print_report(report, as_lines(report), json=args.json)
    if report.interface_errors:
        return 1  # an interface that could not be compared may need any change
    return 0 if report.is_empty else 2


def as_lines(report: PlanReport) -> list[Line]:
    """A diff by interface, the rejected rows, and the guard's verdict."""
    lines = [(f"{name} cannot be compared: {why}", "fault") for name, why in report.interface_errors.items()]
    marked = [(_SIGNS[one.action], one, "") for one in report.changes]
    marked += [("!", one, f" ({one.action}, withheld)") for one in report.withheld]
    marked += [("!", one, f" ({one.action}, {wording.UNTIL_MENDED})") for one in report.blocked]
    peers = {one.interface: one for one in report.interfaces}
    for name in dict.fromkeys([*peers, *(one.interface for _, one, _ in marked)]):
        if ours := [one for one in marked if one[1].interface == name]:
            lines += _interface(name, peers.get(name), ours)
    lines += [(f"> row {one.row} ({one.device}): {one.text}", "") for one in report.transitions]
    lines = lines or [("nothing to do", "")]
    for row in report.rejected:
        lines.append((f"? row {row.row} ({row.device}) rejected, {row.reason}: {row.detail}", "warning"))
    return lines + _verdict(report)


def _interface(name: str, peers: InterfacePeers | None, ours: list[tuple[str, PlannedChange, str]]) -> list[Line]:
    head = f"{name}: {peers.live} peers, {peers.desired} wanted" if peers else name
    cells = [
        (f"{sign} {name}", one.device or "(foreign)", one.owner or "-", one.address or "-", one.peer)
        for sign, one, _ in ours
    ]
    changes = zip(output.table_lines(cells), ours, strict=True)
    return [(head, "head"), *((f"{line}  {one.reason}{note}", _KINDS[sign]) for line, (sign, one, note) in changes)]


def _verdict(report: PlanReport) -> list[Line]:
    """What the guard says, and the plan's id."""
    guard, count = report.guard, Counter(one.action for one in report.changes)
    held = len(report.withheld)
    lines: list[Line] = []
    if guard.tripped and not guard.approved:
        removals = sum(1 for one in report.withheld if one.action == "remove")
        if removals + guard.recent > guard.limit:
            others = f" after {guard.recent} others" if guard.recent else ""
            within = f" in {guard.window / 60:g} minutes" if guard.window else ""
            why = f"{removals} of {report.live} live peers would go{others}, {guard.limit:g} may go unasked{within}"
        elif removals + count["remove"] == report.live:
            why = f"all {report.live} live peers would go"
        else:
            why = f"{removals} of {report.live} live peers would go, and no row of this node is left"
        lines.append((f"guard: WITHHELD: {why}, to allow them: wgsyncd approve {guard.plan}", "fault"))
    elif guard.approved:
        lines.append(("guard: allows the removals once, because an admin approved them", "warning"))
    elif count["remove"]:
        lines.append((f"guard: allows the removals, it asks above {guard.limit:g} removals", ""))
    todo = [f"{count[action]} to {action}" for action in _SIGNS if count[action]]
    if todo or held:
        lines.append((f"plan {guard.plan}: {', '.join([*todo, f'{held} withheld'] if held else todo)}", "head"))
    return lines
