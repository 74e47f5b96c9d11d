"""The screen of `wgsyncd status`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from wgsyncd.cli.output import Line, sanitize, table_lines
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.engine.status_report import InterfaceReport, RecentChange, StatusReport

SHOWN = 8  # rejected rows on the screen: --json has all
_STALE = 3  # times the configured interval, before a good cycle is too long ago


def as_lines(report: StatusReport, width: int = 1000) -> list[Line]:
    """The lines of one screen that is ``width`` columns wide."""
    since = f" since {_short(report.started)}" if report.started else ""
    lines: list[Line] = [(f"node {report.node}: wgsyncd {report.daemon}{since}", "head"), ("", "")]
    lines += _interfaces(report.interfaces, report.at, width)
    lines.append(("", ""))
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
    lines += _odd(report)
    rejected = report.rejected
    lines += [(f"rejected: row {r.row} ({r.device}), {r.reason}: {r.detail}", "warning")
              for r in rejected[:SHOWN]]  # fmt: skip
    if len(rejected) > SHOWN:
        lines.append((f"rejected: {len(rejected) - SHOWN} more rows (wgsyncd plan has all)", "warning"))
    if report.changes is not None:
        lines += [("", ""), ("last changes" if report.changes else "no changes since the daemon started", "head")]
        lines += [(_event(one), "") for one in report.changes]
    return [(sanitize(text), kind) for text, kind in lines]


def _interfaces(interfaces: list[InterfaceReport], at: str, width: int) -> list[Line]:
    """One line for each interface. A column without news or without room is left out. --json has all of them."""
    columns: dict[str, list[str]] = {"interface": [one.interface for one in interfaces]}
    if any(one.kind != "kernel" for one in interfaces):
        columns["kind"] = [one.kind for one in interfaces]
    left = len(columns)
    columns["desired"] = [str(one.desired) for one in interfaces]
    columns["actual"] = [str(one.actual) for one in interfaces]
    columns["online"] = [str(one.online) for one in interfaces]
    optional = {
        "frozen": [one.frozen for one in interfaces],
        "foreign": [one.foreign for one in interfaces],
        "drift": [one.drift or 0 for one in interfaces],
    }
    columns |= {name: list(map(str, counts)) for name, counts in optional.items() if any(counts)}
    columns["handshake"] = [
        _ago(_between(one.latest_handshake, at)) if one.latest_handshake else "never" for one in interfaces
    ]
    if any(one.rx_rate is not None for one in interfaces):
        columns["in/s"] = [_rate(one.rx_rate) for one in interfaces]
        columns["out/s"] = [_rate(one.tx_rate) for one in interfaces]
    totals = {
        "received": [format_bytes(one.rx_bytes) for one in interfaces],
        "sent": [format_bytes(one.tx_bytes) for one in interfaces],
    }
    table = _table(columns | totals, left)
    if len(table[0]) > width:
        table = _table(columns, left)
    kinds = ["head", *("" if one.present else "fault" for one in interfaces)]
    return list(zip(table, kinds, strict=True))


def _table(columns: Mapping[str, list[str]], left: int) -> list[str]:
    return table_lines([tuple(columns), *zip(*columns.values(), strict=True)], left)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else format_bytes(int(rate))


def _work(report: StatusReport) -> list[Line]:
    lines: list[Line] = []
    cycles = report.cycles
    if cycles is not None:
        parts = [f"{task} {_ago(one.age)}" for task, one in cycles.items()]
        late = any(one.age is None or one.age > _STALE * (one.every or 60) for one in cycles.values())
        oldest = max((one.age for one in cycles.values() if one.age is not None), default=None)
        lines.append((f"oldest good cycle: {_ago(oldest)} ({', '.join(parts)})", "fault" if late else ""))
    database = report.database
    if database.up:
        lines.append((f"database: up, rows read {_ago(database.age)}", ""))
    else:
        why = f" ({database.error})" if database.error else ""
        lines.append((f"database: AWAY{why}, rows read {_ago(database.age)}", "fault"))
    return lines


def _odd(report: StatusReport) -> list[Line]:
    """What needs attention."""
    lines: list[Line] = []
    configuration = report.configuration
    if configuration is not None and configuration.refused:
        lines.append((f"configuration: {configuration.file} has faults, so the daemon keeps the old one"
                      " (wgsyncd check-config)", "fault"))  # fmt: skip
    elif configuration is not None and configuration.changed_since:
        lines.append((f"configuration: {configuration.file} has changed since it was loaded"
                      " (wgsyncd reload)", "warning"))  # fmt: skip
    if report.quarantined:
        lines.append((f"deltas in quarantine, not accounted: {report.quarantined} (wgsyncd quarantine)", "warning"))
    if report.findings:
        lines.append((f"does not add up: {report.findings} (wgsyncd verify)", "warning"))
    if report.spool_pending_counters:
        lines.append((f"counters in the spool that wait for the database: {report.spool_pending_counters}", "warning"))
    if report.locked_rows:
        lines.append((f"devices not accounted, because their rows are locked: {report.locked_rows}", "warning"))
    for kind, count in (report.conditions or {}).items():
        if count:
            lines.append((f"conditions of type {kind}: {count}", "warning"))
    return lines


_SIGNS = {"add": "+", "remove": "-", "update": "~"}


def _event(one: RecentChange) -> str:
    words = [_SIGNS.get(one.change, ">"), one.interface, one.device, one.text]
    return f"{_short(one.at)}  {'  '.join(word for word in words if word)}"


def _between(early: str, late: str) -> int:
    return max(0, int((datetime.fromisoformat(late) - datetime.fromisoformat(early)).total_seconds()))


def _short(at: str | None) -> str:
    return at[:19].replace("T", " ") if at else "never"


def _ago(age: int | None) -> str:
    if age is None:
        return "never"
    if age < 120:
        return f"{age} s ago"
    return f"{age // 60} min ago" if age < 7200 else f"{age // 3600} h ago"
