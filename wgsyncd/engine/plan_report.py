"""What `wgsyncd plan` prints: a plan as plain data, and as lines for people. No key in full.

The data is what the daemon answers over the control socket, so the lines are made of nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DEADLINE_PASSED, Change, DeviceRow, fingerprint
from wgsyncd.core.peers.guard import Decision
from wgsyncd.redact import escape_control, redact

Line = tuple[str, str]
"""A text, and its kind for :func:`wgsyncd.cli.output.say` ("" for none)."""

_SIGNS = {"remove": "-", "update": "~", "add": "+"}
_KINDS = {"-": "fault", "~": "warning", "+": "ok", "!": "held"}
_STEPS = {
    "activate": "issued -> active (first handshake {at})",
    "expire": "issued -> expired (QR ended {at}, never scanned)",
    "first_handshake": "first handshake {at} is noted",
}
_UNCLEAR = "waits until the unreadable key of a row is mended"


def clock(at: float, zone: ZoneInfo, now: float) -> str:
    """A time of day in the zone, with the date where that is not today's."""
    local, today = (datetime.fromtimestamp(one, zone) for one in (at, now))
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def iso(at: float, zone: ZoneInfo) -> str | None:
    """A time for machines, with its offset; None for never."""
    return datetime.fromtimestamp(int(at), zone).isoformat() if at else None


def plan_as_data(decision: Decision, zone: ZoneInfo, now: float) -> dict[str, Any]:
    """A plan held against the guard. The keys are stable."""
    plan = decision.plan

    def changes(some: Iterable[Change]) -> list[dict[str, Any]]:
        return [_change(one, decision, zone, now) for one in some]

    return {
        "plan": decision.plan_id,
        "interfaces": [
            {"interface": name, "live": len(state.peers), "desired": len(decision.desired.peers.get(name, ()))}
            for name, state in decision.actual.items()
        ],
        "changes": changes(plan.changes),
        "withheld": changes(plan.withheld),
        "unclear": changes(plan.blocked),
        "steps": [
            {
                "row": s.row.id, "device": redact(s.row.device), "step": s.kind, "at": iso(s.at, zone),
                "text": _STEPS[s.kind].format(at=clock(s.at, zone, now)),
            }
            for s in decision.transitions
        ],
        "not_compared": {name: redact(why) for name, why in decision.interface_errors.items()},
        "rejected": rejected_as_data(decision.desired.rejections),
        "guard": {"tripped": decision.tripped, "approved": decision.approved, "plan": decision.plan_id,
                  "limit": decision.limit},
        "live": plan.live_count,
    }  # fmt: skip


def rejected_as_data(rejections: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows that cannot be followed."""
    return [
        {"row": one.row_id, "device": redact(one.device), "reason": one.reason.value, "detail": redact(one.detail)}
        for one in rejections
    ]


def _change(change: Change, decision: Decision, zone: ZoneInfo, now: float) -> dict[str, Any]:
    peer = change.desired or change.current
    row, why = decision.desired.revoked.get(change.public_key, (None, ""))
    reason = change.reason
    if row is not None and why == reason:
        reason = _why(row, why, zone, now)
    return {
        "action": change.kind.value,
        "interface": change.interface,
        "row": change.row_id,
        "device": redact(change.device),
        "contract": redact(change.contract),
        "address": ",".join(sorted(map(str, peer.allowed_ips))) if peer else "",
        "peer": fingerprint(change.public_key),
        "reason": redact(reason),
    }


def _why(row: DeviceRow, why: str, zone: ZoneInfo, now: float) -> str:
    """Why a row wants no peer, with the time where one tells."""
    ended = why == DEADLINE_PASSED or (row.status_text == "expired" and not row.first_handshake_known)
    if ended and row.activation_deadline is not None and row.activation_deadline < now:
        return f"QR ended {clock(row.activation_deadline, zone, now)}, never scanned"
    return why


def plan_as_lines(data: Mapping[str, Any]) -> list[Line]:
    """A plan as a diff by interface, the rejected rows, and the guard's verdict."""
    lines: list[Line] = [(f"{name} cannot be compared: {why}", "fault") for name, why in data["not_compared"].items()]
    marked = [(_SIGNS[one["action"]], one, "") for one in data["changes"]]
    marked += [("!", one, f"{one['action']}, withheld") for one in data["withheld"]]
    marked += [("!", one, f"{one['action']}, {_UNCLEAR}") for one in data["unclear"]]
    peers = {one["interface"]: one for one in data["interfaces"]}
    for name in dict.fromkeys([*peers, *(one["interface"] for _, one, _ in marked)]):
        ours = [(sign, one, note) for sign, one, note in marked if one["interface"] == name]
        if ours:
            lines += _of_interface(name, peers.get(name), ours)
    lines += [(f"> row {one['row']} ({one['device']}): {one['text']}", "") for one in data["steps"]]
    lines = lines or [("nothing to do", "")]
    for one in data["rejected"]:
        lines.append((f"? row {one['row']} ({one['device']}) rejected, {one['reason']}: {one['detail']}", "warning"))
    lines += _verdict(data)
    return [(escape_control(redact(text)), kind) for text, kind in lines]


def _of_interface(
    name: str, peers: Mapping[str, Any] | None, ours: list[tuple[str, Mapping[str, Any], str]]
) -> list[Line]:
    head = f"{name}: {peers['live']} peers, {peers['desired']} wanted" if peers else name
    cells = [
        (sign, name, one["device"] or "(foreign)", one["contract"] or "-", one["address"] or "-", one["peer"])
        for sign, one, _ in ours
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[Line] = [(head, "head")]
    for row, (sign, one, note) in zip(cells, ours, strict=True):
        text = "  ".join(map(str.ljust, row, widths))
        text = text.replace(f"{sign}  ", f"{sign} ", 1)
        lines.append((f"{text}  {one['reason']}{note and f' ({note})'}", _KINDS[sign]))
    return lines


def _verdict(data: Mapping[str, Any]) -> list[Line]:
    """What the guard says, and what the plan is called."""
    guard, count = data["guard"], Counter(one["action"] for one in data["changes"])
    todo = ", ".join(f"{count[action]} to {action}" for action in _SIGNS if count[action])
    held = len(data["withheld"])
    lines: list[Line] = []
    if guard["tripped"] and not guard["approved"]:
        removals = sum(1 for one in data["withheld"] if one["action"] == "remove")
        if removals > guard["limit"]:
            why = f"{removals} of {data['live']} live peers would go, {guard['limit']:g} may unasked"
        elif removals == data["live"]:
            why = f"all {removals} live peers would go"
        else:
            why = f"{removals} of {data['live']} live peers would go, and no row of this node is left"
        lines.append((f"guard: WITHHELD: {why}; let through with: wgsyncd approve {guard['plan']}", "fault"))
    elif guard["approved"]:
        lines.append(("guard: lets them through, once: approved by an admin", "warning"))
    elif count["remove"]:
        lines.append((f"guard: lets them through; it asks above {guard['limit']:g} removals", ""))
    if todo or held:
        parts = [one for one in (todo, f"{held} withheld" if held else "") if one]
        lines.append((f"plan {guard['plan']}: {', '.join(parts)}", "head"))
    return lines


def wants_anything(data: Mapping[str, Any]) -> bool:
    """Whether a cycle would do something, or is kept from it."""
    return any(data[key] for key in ("changes", "withheld", "unclear", "steps"))
