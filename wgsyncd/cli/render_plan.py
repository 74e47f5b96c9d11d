"""The lines of `wgsyncd plan`: a diff by interface, the rejected rows, and the guard's verdict."""

from __future__ import annotations

from collections import Counter

from wgsyncd.cli.output import Line, sanitize, table_lines
from wgsyncd.engine import wording
from wgsyncd.engine.plan_report import InterfacePeers, PlannedChange, PlanReport

_SIGNS = {"remove": "-", "update": "~", "add": "+"}
_KINDS = {"-": "fault", "~": "warning", "+": "ok", "!": "held"}


def plan_as_lines(report: PlanReport) -> list[Line]:
    """The lines for people."""
    lines: list[Line] = [
        (f"{name} cannot be compared: {why}", "fault") for name, why in report.interface_errors.items()
    ]
    marked = [(_SIGNS[one.action], one, "") for one in report.changes]
    marked += [("!", one, f"{one.action}, withheld") for one in report.withheld]
    marked += [("!", one, f"{one.action}, {wording.UNTIL_MENDED}") for one in report.blocked]
    peers = {one.interface: one for one in report.interfaces}
    for name in dict.fromkeys([*peers, *(one.interface for _, one, _ in marked)]):
        ours = [(sign, one, note) for sign, one, note in marked if one.interface == name]
        if ours:
            lines += _interface(name, peers.get(name), ours)
    lines += [(f"> row {one.row} ({one.device}): {one.text}", "") for one in report.steps]
    lines = lines or [("nothing to do", "")]
    for row in report.rejected:
        lines.append((f"? row {row.row} ({row.device}) rejected, {row.reason}: {row.detail}", "warning"))
    lines += _verdict(report)
    return [(sanitize(text), kind) for text, kind in lines]


def _interface(name: str, peers: InterfacePeers | None, ours: list[tuple[str, PlannedChange, str]]) -> list[Line]:
    head = f"{name}: {peers.live} peers, {peers.desired} wanted" if peers else name
    cells = [
        (sign, name, one.device or "(foreign)", one.owner or "-", one.address or "-", one.peer) for sign, one, _ in ours
    ]
    lines: list[Line] = [(head, "head")]
    for line, (sign, one, note) in zip(table_lines(cells), ours, strict=True):
        text = line.replace(f"{sign}  ", f"{sign} ", 1)
        lines.append((f"{text}  {one.reason}{note and f' ({note})'}", _KINDS[sign]))
    return lines


def _verdict(report: PlanReport) -> list[Line]:
    """What the guard says, and the plan's id."""
    guard, count = report.guard, Counter(one.action for one in report.changes)
    todo = ", ".join(f"{count[action]} to {action}" for action in _SIGNS if count[action])
    held = len(report.withheld)
    lines: list[Line] = []
    if guard.tripped and not guard.approved:
        removals = sum(1 for one in report.withheld if one.action == "remove")
        if removals > guard.limit:
            why = f"{removals} of {report.live} live peers would go, {guard.limit:g} may go unasked"
        elif removals == report.live:
            why = f"all {removals} live peers would go"
        else:
            why = f"{removals} of {report.live} live peers would go, and no row of this node is left"
        lines.append((f"guard: WITHHELD: {why}, to allow them: wgsyncd approve {guard.plan}", "fault"))
    elif guard.approved:
        lines.append(("guard: allows the removals once, because an admin approved them", "warning"))
    elif count["remove"]:
        lines.append((f"guard: allows the removals, it asks above {guard.limit:g} removals", ""))
    if todo or held:
        parts = [one for one in (todo, f"{held} withheld" if held else "") if one]
        lines.append((f"plan {guard.plan}: {', '.join(parts)}", "head"))
    return lines
