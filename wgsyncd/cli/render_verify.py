"""The lines of `wgsyncd verify` and `wgsyncd quarantine`."""

from __future__ import annotations

from collections.abc import Sequence

from wgsyncd.cli.output import sanitize, table_lines
from wgsyncd.core.inspect.verify import Check, Discrepancy, faults
from wgsyncd.core.state import QuarantineEntry
from wgsyncd.core.usage.calendar import UsageCalendar

NAMED = 5  # devices that one line names


def findings_as_lines(findings: Sequence[Discrepancy]) -> list[str]:
    """One line for each discrepancy, then the notes. Equal notes about several devices are one line."""
    wrong = faults(findings)
    lines = table_lines([(one.check.value, one.device or "-", one.text) for one in wrong])
    lines.append(f"{len(wrong)} {'finding' if len(wrong) == 1 else 'findings'}" if wrong else "everything adds up")
    lines += [f"note: {one.text}" for one in findings if one.note and one.check is not Check.LOW]
    low: dict[str, list[str]] = {}
    for one in findings:
        if one.check is Check.LOW and one.left and one.right:
            low.setdefault(f"{one.left.name} is below {one.right.name}", []).append(one.device)
    for what, devices in low.items():
        some = ", ".join(sorted(devices)[:NAMED]) + (", …" if len(devices) > NAMED else "")
        lines.append(f"note: {what}: {len(devices)} ({some})")
    return [sanitize(line) for line in lines]


def held_as_lines(held: Sequence[QuarantineEntry], calendar: UsageCalendar, done: str) -> list[str]:
    """The deltas in quarantine, or with ``done`` those that were released or dropped. Bytes are the server's view."""
    if not held:
        return ["nothing in quarantine"]
    rows = [("id", "device", "interface", "received", "sent", "from", "until", "rate")]
    for number, d in held:
        times = calendar.format_local(d.since), calendar.format_local(d.until)
        rows.append((str(number), d.device or "-", d.interface, str(d.rx), str(d.tx), *times, _rate(d.rate)))
    lines = table_lines(rows)
    if done != "list":
        lines.append(f"{len(held)} {'released: booked' if done == 'release' else 'dropped: not booked'}")
    return [sanitize(line) for line in lines]


def _rate(bits: float | None) -> str:
    if bits is None:
        return "in no time"
    power = min(max(0, (len(str(int(bits))) - 1) // 3), 6)
    return f"{bits / 1000**power:.3g} {' kMGTPE'[power].strip()}bit/s"
