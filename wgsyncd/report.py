"""What the admin's commands print: a plan, the status, what does not add up, the quarantine. Plain text and plain data;
no key in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from wgsyncd.core.ledger import Held
from wgsyncd.core.model import Change, fingerprint
from wgsyncd.core.outlook import Outlook
from wgsyncd.core.verify import Amount, Check, Finding, faults
from wgsyncd.core.windows import Windows
from wgsyncd.log import one_line, redact
from wgsyncd.picture import ONLINE
from wgsyncd.settings import Settings


def plan_as_text(outlook: Outlook) -> str:
    """A plan as a diff, the rejected rows, and the guard's verdict."""
    plan = outlook.plan
    lines = [f"{name} cannot be compared: {why}" for name, why in outlook.troubles.items()]
    lines += [f"> row {step.row.id} ({step.row.device}): {_STEPS[step.kind]}" for step in outlook.steps]
    lines += plan.lines()
    lines = lines or ["nothing to do"]
    for one in outlook.desired.rejections:
        lines.append(f"? row {one.row_id} ({one.device}) rejected, {one.reason}: {one.detail}")
    if outlook.tripped:
        verdict = "approved" if outlook.approved else f"withheld; let through with: wgsyncd approve {outlook.plan_id}"
        lines.append(
            f"guard: more than {outlook.limit:g} removals of {plan.live} live peers, or all of them, or no row at all"
            f" (plan {outlook.plan_id}): {verdict}"
        )
    return "\n".join(one_line(redact(line)) for line in lines)


NAMED = 5  # devices that one line names

_STEPS = {
    "activate": "issued -> active (first handshake)",
    "expire": "issued -> expired (QR ended, not scanned)",
    "first_handshake": "first handshake is noted",
}


def _change(change: Change) -> dict[str, Any]:
    return {
        "action": change.kind.value,
        "interface": change.interface,
        "device": redact(change.device),
        "contract": redact(change.contract),
        "peer": fingerprint(change.public_key),
        "reason": redact(change.reason),
    }


def plan_as_data(outlook: Outlook) -> dict[str, Any]:
    """The same for machines."""
    return {
        "changes": [_change(c) for c in outlook.plan.changes],
        "withheld": [_change(c) for c in outlook.plan.withheld],
        "unclear": [_change(c) for c in outlook.plan.unclear],
        "steps": [{"row": s.row.id, "device": redact(s.row.device), "step": s.kind} for s in outlook.steps],
        "not_compared": {name: redact(why) for name, why in outlook.troubles.items()},
        "rejected": [
            {"row": r.row_id, "device": redact(r.device), "reason": r.reason.value, "detail": redact(r.detail)}
            for r in outlook.desired.rejections
        ],
        "guard": {"tripped": outlook.tripped, "approved": outlook.approved, "plan": outlook.plan_id},
        "live": outlook.plan.live,
    }


def status_as_data(settings: Settings, outlook: Outlook, daemon: str, now: float) -> dict[str, Any]:
    """Interfaces, rejected rows, guard, daemon."""
    interfaces = []
    for name in settings.interfaces:
        state = outlook.live.get(name)
        peers = list(state.peers.values()) if state else []
        interfaces.append(
            {
                "interface": name,
                "present": state is not None,
                "kind": state.kind if state else "unreadable",
                "desired": len(outlook.desired.peers[name]),
                "actual": len(peers),
                "online": sum(1 for p in peers if now - p.latest_handshake / 1e9 < ONLINE),
                "frozen": len(outlook.desired.frozen.get(name, ())),
                "foreign": len(outlook.plan.foreign.get(name, ())),
                "rx_bytes": sum(p.counters.rx for p in peers),
                "tx_bytes": sum(p.counters.tx for p in peers),
            }
        )
    data = plan_as_data(outlook)
    pending = Counter(c["action"] for c in data["changes"])
    return {
        "node": settings.node.name,
        "daemon": daemon,
        "interfaces": interfaces,
        "pending": dict(pending),
        "withheld": len(data["withheld"]),
        "unclear": len(data["unclear"]),
        "not_compared": data["not_compared"],
        "rejected": data["rejected"],
        "guard": data["guard"],
        "quarantined": outlook.quarantined,
    }


def status_as_text(data: dict[str, Any]) -> str:
    """One screen."""
    lines = [f"node {data['node']}: wgsyncd {data['daemon']}", ""]
    head = ("interface", "kind", "desired", "actual", "online", "frozen", "foreign")
    rows = [tuple(str(one[key]) for key in head) for one in data["interfaces"]]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    lines.append("")
    pending = ", ".join(f"{count} to {action}" for action, count in data["pending"].items())
    unclear = f"; waiting for an unreadable key to be mended: {data['unclear']}" if data["unclear"] else ""
    lines.append(f"pending: {pending or 'nothing'}; withheld: {data['withheld']}{unclear}")
    lines += [f"{name} cannot be compared: {why}" for name, why in data["not_compared"].items()]
    if data["guard"]["tripped"] and not data["guard"]["approved"]:
        lines.append(f"guard: removals withheld, plan {data['guard']['plan']} (wgsyncd plan, wgsyncd approve)")
    if data["quarantined"]:
        lines.append(f"in quarantine, not booked: {data['quarantined']} (wgsyncd quarantine)")
    lines += [f"rejected: row {r['row']} ({r['device']}), {r['reason']}: {r['detail']}" for r in data["rejected"]]
    return "\n".join(one_line(redact(line)) for line in lines)


def findings_as_text(findings: Sequence[Finding]) -> str:
    """What does not add up, a line each; then the notes, those about totals in one."""
    wrong = faults(findings)
    lines = _table([(one.check.value, one.device or "-", one.text) for one in wrong])
    lines.append(f"{len(wrong)} {'finding' if len(wrong) == 1 else 'findings'}" if wrong else "everything adds up")
    lines += [f"note: {one.text}" for one in findings if one.note and one.check is not Check.TOTAL]
    below = sorted({one.device for one in findings if one.check is Check.TOTAL})
    if below:
        some = ", ".join(below[:NAMED]) + (", …" if len(below) > NAMED else "")
        lines.append(f"note: total below the month, as an admin's new figure is: {len(below)} ({some})")
    return "\n".join(one_line(redact(line)) for line in lines)


def findings_as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for machines; numbers by name."""

    def number(amount: Amount | None) -> dict[str, int]:
        return {} if amount is None else {amount.name: amount.value}

    def data(one: Finding) -> dict[str, Any]:
        numbers = number(one.left) | number(one.right)
        return {
            "check": one.check.value, "device": redact(one.device), "what": redact(one.text), "numbers": numbers
        }  # fmt: skip

    return {
        "findings": [data(one) for one in findings if not one.note],
        "notes": [data(one) for one in findings if one.note],
    }


def held_as_text(held: Sequence[Held], windows: Windows, done: str) -> str:
    """What waits in quarantine (``done``: list), or what was released or dropped. Bytes are the server's view."""
    if not held:
        return "nothing in quarantine"
    rows = [("id", "device", "interface", "received", "sent", "from", "until", "rate")]
    for number, d in held:
        times = windows.local(d.since), windows.local(d.until)
        rows.append((str(number), d.device or "-", d.interface, str(d.rx), str(d.tx), *times, _rate(d.rate)))
    lines = _table(rows)
    if done != "list":
        lines.append(f"{len(held)} {'released: booked' if done == 'release' else 'dropped: not booked'}")
    return "\n".join(one_line(redact(line)) for line in lines)


def held_as_data(held: Sequence[Held]) -> dict[str, Any]:
    """The same for machines; times are UNIX seconds, the rate is in bits per second."""
    return {
        "quarantine": [
            {
                "id": number, "row": d.row_id, "device": redact(d.device), "interface": d.interface, "rx": d.rx,
                "tx": d.tx, "since": d.since, "until": d.until, "rate": d.rate,
            }
            for number, d in held
        ]
    }  # fmt: skip


def _rate(bits: float | None) -> str:
    if bits is None:
        return "in no time"
    power = min(max(0, (len(str(int(bits))) - 1) // 3), 6)
    return f"{bits / 1000**power:.3g} {' kMGTPE'[power].strip()}bit/s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
