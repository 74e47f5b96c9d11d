"""What `verify` and `quarantine` print: what does not add up, and what is held back. Plain text and plain data; no
key in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wgsyncd.cli.output import table_lines
from wgsyncd.core.inspect.verify import Amount, Check, Discrepancy, faults
from wgsyncd.core.state import QuarantineEntry
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.redact import escape_control, redact

NAMED = 5  # devices that one line names


def findings_as_text(findings: Sequence[Discrepancy]) -> str:
    """What does not add up, a line each; then the notes, those about totals in one."""
    wrong = faults(findings)
    lines = table_lines([(one.check.value, one.device or "-", one.text) for one in wrong])
    lines.append(f"{len(wrong)} {'finding' if len(wrong) == 1 else 'findings'}" if wrong else "everything adds up")
    lines += [f"note: {one.text}" for one in findings if one.note and one.check is not Check.TOTAL]
    below = sorted({one.device for one in findings if one.check is Check.TOTAL})
    if below:
        some = ", ".join(below[:NAMED]) + (", …" if len(below) > NAMED else "")
        lines.append(f"note: total below the month, as an admin's new figure is: {len(below)} ({some})")
    return "\n".join(escape_control(redact(line)) for line in lines)


def findings_as_data(findings: Sequence[Discrepancy]) -> dict[str, Any]:
    """The same for machines; numbers by name."""

    def number(amount: Amount | None) -> dict[str, int]:
        return {} if amount is None else {amount.name: amount.value}

    def data(one: Discrepancy) -> dict[str, Any]:
        numbers = number(one.left) | number(one.right)
        return {
            "check": one.check.value, "device": redact(one.device), "what": redact(one.text), "numbers": numbers
        }  # fmt: skip

    return {
        "findings": [data(one) for one in findings if not one.note],
        "notes": [data(one) for one in findings if one.note],
    }


def held_as_text(held: Sequence[QuarantineEntry], calendar: UsageCalendar, done: str) -> str:
    """What waits in quarantine (``done``: list), or what was released or dropped. Bytes are the server's view."""
    if not held:
        return "nothing in quarantine"
    rows = [("id", "device", "interface", "received", "sent", "from", "until", "rate")]
    for number, d in held:
        times = calendar.format_local(d.since), calendar.format_local(d.until)
        rows.append((str(number), d.device or "-", d.interface, str(d.rx), str(d.tx), *times, _rate(d.rate)))
    lines = table_lines(rows)
    if done != "list":
        lines.append(f"{len(held)} {'released: booked' if done == 'release' else 'dropped: not booked'}")
    return "\n".join(escape_control(redact(line)) for line in lines)


def held_as_data(held: Sequence[QuarantineEntry]) -> dict[str, Any]:
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
