"""Show what a cycle would do. Write nothing.

A line begins with - for a removal, ~ for an update, and + for an addition. It begins with ! for a change that waits for
an admin, or until an unreadable key is fixed. > is a transition of a device, and ? is a rejected row. Below "access",
+ and - are the ranges that devices gain and lose, each with the policy that decides about it now. The command asks
the running daemon. If no daemon runs, or if it has another configuration, the command reads everything by itself and
says so.

exit status: 0 no changes, 2 changes, 1 an error, also where an interface could not be compared
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.output import Line, Parts
from wgsyncd.cli.table import Column, fit
from wgsyncd.cli.watch import WatchView
from wgsyncd.config import load
from wgsyncd.core.words import counted
from wgsyncd.engine import wording
from wgsyncd.engine.inspector import FullPreview
from wgsyncd.engine.reports import plan as plan_report
from wgsyncd.engine.reports.access import AccessDiff, AccessReport
from wgsyncd.engine.reports.bandwidth import BandwidthPlan, rate
from wgsyncd.engine.reports.plan import InterfacePeers, PlannedChange, PlanReport, unreadable_rows
from wgsyncd.errors import FilterError

_SIGNS = {"remove": "-", "update": "~", "add": "+"}
_KINDS = {"-": "fault", "~": "warning", "+": "ok", "!": "held"}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options. Exit status 2 says "there are changes", so a bad configuration is 1."""
    options.add_config(parser, fault_status=1)
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show the plan. 0: no changes, 2: changes, 1: an interface could not be compared."""
    report, why = gather(args)
    if why:
        client.print_note(why)
    output.print_report(report, as_lines(report, output.width()), json=args.json)
    if report.interface_errors:
        return 1  # an interface that could not be compared may need any change
    return 0 if report.is_empty else 2


def gather(args: argparse.Namespace) -> tuple[PlanReport, str]:
    """The daemon's plan, or the command's own and why it had to make one."""
    report, silence = client.ask_daemon(args, PlanReport, "/plan")
    if report is not None:
        return report, ""
    why, settings = silence.text, load.load(args.config)
    inspector = wiring.open_agent(settings).inspector
    try:
        found = inspector.preview_all()
    except FilterError as error:  # The packet filter alone cannot be asked.
        view, why = inspector.view(), f"{why}. Access is not known: {error}".lstrip(". ")
        found = FullPreview(view.decision, rows=view.snapshot.rows)
    return plan_report.build(**found._asdict(), zone=settings.node.zone, now=time.time(), source="command"), why


class PlanPage:
    """The plan as the page of a screen, made when somebody turns to it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._report: PlanReport | None = None

    def lines(self, view: WatchView) -> list[Parts]:
        """The page's lines. There are none if the page is not what the person wants to see."""
        if not view.plan:
            self._report = None
            return []
        if self._report is None:
            self._report, _ = gather(self._args)
        return [("the plan of this moment (p goes back)", "head"), ("", ""), *as_lines(self._report, view.width)]


def as_lines(report: PlanReport, width: int) -> list[Parts]:
    """A diff by interface, the rejected rows, and the guard's verdict."""
    lines: list[Parts] = [
        (f"{name} cannot be compared: {why}", "fault") for name, why in report.interface_errors.items()
    ]
    marked = [(_SIGNS[one.action], one, "") for one in report.changes]
    marked += [("!", one, f" ({one.action}, withheld)") for one in report.withheld]
    until = wording.until_mended(unreadable_rows(report.rejected))
    marked += [("!", one, f" ({one.action}, waits {until})") for one in report.blocked]
    peers = {one.interface: one for one in report.interfaces}
    for name in dict.fromkeys([*peers, *(one.interface for _, one, _ in marked)]):
        if ours := [one for one in marked if one[1].interface == name]:
            lines += _interface(name, peers.get(name), ours, width)
    lines += [(f"> row {one.row} ({one.device}): {one.text}", "") for one in report.transitions]
    lines += _access(report.access) if report.access is not None else []
    shared = report.access.shared if report.access is not None else []
    lines += _bandwidth(report.bandwidth) if report.bandwidth is not None else []
    lines = lines or [("no changes", "")]
    if report.rejected:
        lines.append(
            (f"rows that are ignored because of errors: {len(report.rejected)}. Their peers stay as they are.", "")
        )
    for row in report.rejected:
        lines.append((f"? row {row.row} ({row.name or row.device}), {row.reason}: {row.detail}", "warning"))
    lines += [(f"? {one.name} {one.text}", "warning") for one in report.conditions]
    lines += [
        (f"? {one.address} reaches nothing, because it belongs to {', '.join(one.devices)}", "warning")
        for one in shared
    ]
    return [*lines, *_verdict(report)]


def _interface(
    name: str, peers: InterfacePeers | None, ours: list[tuple[str, PlannedChange, str]], width: int
) -> list[Parts]:
    head = f"{name}: {counted(peers.live, 'actual peer')}, {peers.desired} desired" if peers else name
    columns = (Column(""), Column(""), Column("", rank=2), Column("", rank=1), Column("", rank=3), Column(""))
    rows = [
        [
            (text, _KINDS[sign])
            for text in (f"{sign} {name}", one.name or one.device or "(foreign)", one.owner or "-", one.address or "-",
                         one.peer, f"{one.reason}{note}")
        ]
        for sign, one, note in ours
    ]  # fmt: skip
    return [(head, "head"), *fit(columns, rows, width)[1:]]


def _access(report: AccessReport) -> Iterator[Line]:
    """How the access of devices changes, and which of them keep theirs until an admin approves."""
    if report.gained or report.lost or report.changed:
        told = [
            counted(number, one, many)
            for number, one, many in (
                (report.gained, "device gains access", "devices gain access"),
                (report.lost, "device loses all access", "devices lose all access"),
                (report.changed, "device gets other access", "devices get other access"),
            )
            if number
        ]
        yield f"access: {', '.join(told)}", "head"
    for diff in report.diffs:
        yield from _diff(diff)
    if held := report.withheld:
        others = f" after {counted(report.recent, 'other')}" if report.recent else ""
        within = f" in {report.window / 60:g} minutes" if report.window else ""
        would = f"{counted(len(held), 'device')} would lose all access{others}, {report.limit:g} may go unasked{within}"
        yield (
            f"! access: NOTHING WAS TAKEN AWAY: {would}. {wording.RESTORE}. Meant? wgsyncd approve {report.plan}",
            "fault",
        )


def _diff(diff: AccessDiff) -> Iterator[Line]:
    """What some devices gain and lose. Ranges come before the policy that decides about them."""
    some = [
        f"{one.name or one.device} of {one.owner}" if one.owner else one.name or one.device
        for one in diff.devices[:SOME]
    ]
    more = f" and {diff.count - len(some)} more" if diff.count > len(some) else ""
    yield f"  {', '.join(some)}{more}{': withheld' if diff.withheld else ''}", ""
    for sign, ranges in (("+", diff.gained), ("-", diff.lost)):
        for one in ranges:
            why = (
                f"policy {one.policy!r} {'allows' if sign == '+' else 'denies'} it" if one.policy else _NO_POLICY[sign]
            )
            yield f"    {sign} {one.range}  {why}", _KINDS["!" if diff.withheld else sign]
    if diff.more_ranges:
        yield f"    {counted(diff.more_ranges, 'more range')}", "dim"


def _bandwidth(report: BandwidthPlan) -> Iterator[Line]:
    """Whose rates change, and which devices are limited from now on or no more."""
    told = [f"+ bandwidth of {one.device} ({', '.join(one.addresses)}): {one.profile}" for one in report.begin[:_MOST]]
    told += [f"- bandwidth of {one}: not limited any more" for one in report.end[:_MOST]]
    for one in report.changed[:_MOST]:
        rates = f"down {rate(one.down_before)} -> {rate(one.down)}, up {rate(one.up_before)} -> {rate(one.up)}"
        month = f" ({one.month})" if one.month else ""
        told.append(f"~ bandwidth of {one.owner}: {one.profile_before} -> {one.profile}{month}: {rates}")
    for sign, some in (("+", report.begin), ("-", report.end), ("~", report.changed)):
        if (more := len(some) - _MOST) > 0:
            told.append(f"{sign} bandwidth of {more} more")
    yield from ((one, "") for one in told)


_MOST = 20  # devices or contracts that are shown
SOME = 5  # devices with the same change that are named
_NO_POLICY = {"+": "every device reaches it", "-": "no policy covers it now"}


def _verdict(report: PlanReport) -> list[Line]:
    """What the guard says, and the plan's id."""
    guard, count = report.guard, Counter(one.action for one in report.changes)
    held = len(report.withheld)
    lines: list[Line] = []
    if guard.tripped and not guard.approved:
        gone = [one.device for one in report.withheld if one.action == "remove"]
        removals = len(gone)
        if removals + guard.recent > guard.limit:
            others = f" after {counted(guard.recent, 'other')}" if guard.recent else ""
            within = f" in {guard.window / 60:g} minutes" if guard.window else ""
            would = f"{removals} of {counted(report.live, 'live peer')} would go"
            why = f"{would}{others}, {guard.limit:g} may go unasked{within}"
        elif removals + count["remove"] == report.live:
            why = "the only live peer would go" if report.live == 1 else f"all {report.live} live peers would go"
        else:
            why = f"{removals} of {counted(report.live, 'live peer')} would go, and no row of this node is left"
        mistake = wording.if_a_mistake(gone)
        lines.append((f"guard: NOTHING WAS REMOVED: {why}. {mistake}. Meant? wgsyncd approve {guard.plan}", "fault"))
    elif guard.approved:
        lines.append(("guard: allows the removals once, because an admin approved them", "warning"))
    elif count["remove"]:
        lines.append((f"guard: allows the removals, it asks for more than {guard.limit:g}", ""))
    todo = [f"{count[action]} to {action}" for action in _SIGNS if count[action]]
    if todo or held:
        lines.append((f"plan {guard.plan}: {', '.join([*todo, f'{held} withheld'] if held else todo)}", "head"))
    return lines
