"""What `wgsyncd status` shows: plain data with stable keys, made of the daemon's picture of itself (at once, whatever
the main thread is at) or, where none runs, of a look of the command's own; and one screen of it.

Times are ISO 8601 with an offset, ages seconds, rates bytes per second. null: not known that way.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from wgsyncd import __version__
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.peers.guard import Decision
from wgsyncd.engine.plan_report import Line, iso, plan_as_data, rejected_as_data
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import ONLINE
from wgsyncd.redact import escape_control, redact

SHOWN = 8  # rejected rows on the screen; --json has all
_STALE = 3  # times the configured interval, before a good cycle is too long ago


def of_daemon(status: DaemonStatus, settings: Settings, file: Path) -> dict[str, Any]:
    """Of the daemon that this process is. Called in a client's thread: only reads."""
    now, zone = time.time(), settings.node.zone
    interfaces = dict(status.interfaces)
    loaded = status.config_loaded_at
    return {
        "node": settings.node.name,
        "version": __version__,
        "source": "daemon",
        "at": iso(now, zone),
        "daemon": f"runs (pid {os.getpid()})",
        "pid": os.getpid(),
        "started": iso(status.started_at, zone),
        "configuration": {
            "file": str(file), "loaded": iso(loaded, zone), "refused": not status.config_ok,
            "changed_since": _changed(file, loaded),
        },
        "interfaces": [
            {
                "interface": name,
                "present": one is not None and one.present,
                "kind": one.kind if one is not None and one.present else "unreadable",
                "desired": one.desired if one else 0,
                "actual": one.actual if one else 0,
                "online": one.online if one else 0,
                "frozen": one.frozen if one else 0,
                "foreign": one.foreign if one else 0,
                "drift": one.drift if one else 0,
                "rx_bytes": one.received if one else 0,
                "tx_bytes": one.sent if one else 0,
                "rx_rate": one.rx_rate if one else None,
                "tx_rate": one.tx_rate if one else None,
                "latest_handshake": iso(one.latest_handshake, zone) if one else None,
            }
            for name, one in ((name, interfaces.get(name)) for name in settings.interfaces)
        ],
        "cycles": {
            task: {
                "last_good": iso(status.succeeded_at.get(task, 0.0), zone),
                "age": _age(now, status.succeeded_at.get(task, 0.0)),
                "every": status.intervals.get(task),
            }
            for task in ("reconcile", "account")
        },
        "trouble": redact(status.last_error) if not status.database_up else "",
        "database": {
            "up": status.database_up, "error": redact(status.database_error) if not status.database_up else "",
            "read": iso(status.database_read_at, zone), "age": _age(now, status.database_read_at),
        },
        "pending": dict(status.pending),
        "withheld": status.withheld,
        "unclear": sum(one.blocked for one in interfaces.values()),
        "not_compared": {name: redact(why) for name, why in status.interface_errors.items()},
        "rejected": rejected_as_data(status.rejections),
        "guard": {"tripped": status.guard_tripped, "approved": False, "plan": status.plan_id},
        "quarantined": status.quarantined,
        "findings": sum(status.findings.values()),
        "spooled": status.spool_pending_counters,
        "locked_rows": status.locked_rows,
        "conditions": dict(status.store_conditions),
        "changes": [
            {
                "at": iso(one.at, zone), "change": one.what, "interface": one.interface,
                "device": redact(one.device), "text": redact(one.text),
            }
            for one in reversed(status.recent)
        ],
    }  # fmt: skip


def of_outlook(settings: Settings, decision: Decision, daemon: str, now: float) -> dict[str, Any]:
    """Of a look of the command's own."""
    zone = settings.node.zone
    interfaces = []
    for name in settings.interfaces:
        state = decision.actual.get(name)
        peers = list(state.peers.values()) if state else []
        latest = max((p.latest_handshake for p in peers), default=0) / 1e9
        interfaces.append({
            "interface": name,
            "present": state is not None,
            "kind": state.kind if state else "unreadable",
            "desired": len(decision.desired.peers[name]),
            "actual": len(peers),
            "online": sum(1 for p in peers if now - p.latest_handshake / 1e9 < ONLINE),
            "frozen": len(decision.desired.frozen.get(name, ())),
            "foreign": len(decision.plan.foreign.get(name, ())),
            "drift": None,
            "rx_bytes": sum(p.counters.rx for p in peers),
            "tx_bytes": sum(p.counters.tx for p in peers),
            "rx_rate": None,
            "tx_rate": None,
            "latest_handshake": iso(latest, zone),
        })  # fmt: skip
    plan = plan_as_data(decision, zone, now)
    return {
        "node": settings.node.name,
        "version": __version__,
        "source": "command",
        "at": iso(now, zone),
        "daemon": redact(daemon),
        "pid": None,
        "started": None,
        "configuration": None,
        "interfaces": interfaces,
        "cycles": None,
        "trouble": "",
        "database": {"up": True, "error": "", "read": iso(now, zone), "age": 0},
        "pending": dict(Counter(one["action"] for one in plan["changes"])),
        "withheld": len(plan["withheld"]),
        "unclear": len(plan["unclear"]),
        "not_compared": plan["not_compared"],
        "rejected": plan["rejected"],
        "guard": {key: plan["guard"][key] for key in ("tripped", "approved", "plan")},
        "quarantined": decision.quarantined,
        "findings": None,
        "spooled": None,
        "locked_rows": None,
        "conditions": None,
        "changes": None,
    }


def _changed(file: Path, loaded: float) -> bool | None:
    try:
        return file.stat().st_mtime > loaded
    except OSError:
        return None


def _age(now: float, at: float) -> int | None:
    return max(0, int(now - at)) if at else None


# -- the screen


def as_lines(data: Mapping[str, Any], width: int = 1000) -> list[Line]:
    """One screen, of so many columns."""
    since = f" since {_short(data['started'])}" if data["started"] else ""
    lines: list[Line] = [(f"node {data['node']}: wgsyncd {data['daemon']}{since}", "head"), ("", "")]
    lines += _interfaces(data["interfaces"], data["at"], width)
    lines.append(("", ""))
    lines += [(f"{name} cannot be compared: {why}", "fault") for name, why in data["not_compared"].items()]
    lines += _work(data)
    guard = data["guard"]
    if guard["tripped"] and not guard["approved"]:
        text = f"guard: {data['withheld']} changes withheld, plan {guard['plan']} (wgsyncd plan, wgsyncd approve)"
        lines.append((text, "fault"))
    else:
        lines.append(("guard: quiet", ""))
    pending = ", ".join(f"{count} to {action}" for action, count in data["pending"].items())
    unclear = f"; waiting for an unreadable key to be mended: {data['unclear']}" if data["unclear"] else ""
    kind = "warning" if pending or unclear else ""
    lines.append((f"pending: {pending or 'nothing'}; withheld: {data['withheld']}{unclear}", kind))
    lines += _odd(data)
    rejected = data["rejected"]
    lines += [(f"rejected: row {r['row']} ({r['device']}), {r['reason']}: {r['detail']}", "warning")
              for r in rejected[:SHOWN]]  # fmt: skip
    if len(rejected) > SHOWN:
        lines.append((f"rejected: {len(rejected) - SHOWN} more rows (wgsyncd plan has all)", "warning"))
    if data["changes"] is not None:
        lines += [("", ""), ("last changes" if data["changes"] else "no changes since it runs", "head")]
        lines += [(_event(one), "") for one in data["changes"]]
    return [(escape_control(redact(text)), kind) for text, kind in lines]


def _interfaces(interfaces: list[Mapping[str, Any]], at: str, width: int) -> list[Line]:
    """A line each. What is as ever, or has no room, is left out; --json has all."""
    columns: dict[str, list[str]] = {"interface": [one["interface"] for one in interfaces]}
    if any(one["kind"] != "kernel" for one in interfaces):
        columns["kind"] = [one["kind"] for one in interfaces]
    columns |= {name: [str(one[name]) for one in interfaces] for name in ("desired", "actual", "online")}
    for name in ("frozen", "foreign", "drift"):
        if any(one[name] for one in interfaces):
            columns[name] = [str(one[name] or 0) for one in interfaces]
    shaken = [(one["latest_handshake"], at) for one in interfaces]
    columns["handshake"] = [_ago(_between(*one)) if one[0] else "never" for one in shaken]
    rates = {f"{side}/s": [_rate(one[f"{key}_rate"]) for one in interfaces]
             for side, key in (("in", "rx"), ("out", "tx"))}  # fmt: skip
    columns |= {} if all(one["rx_rate"] is None for one in interfaces) else rates
    totals = {side: [format_bytes(one[f"{key}_bytes"]) for one in interfaces]
              for side, key in (("received", "rx"), ("sent", "tx"))}  # fmt: skip
    table = _table(columns | totals)
    if len(table[0]) > width:
        table = _table(columns)
    kinds = ["head", *("" if one["present"] else "fault" for one in interfaces)]
    return list(zip(table, kinds, strict=True))


def _table(columns: Mapping[str, list[str]]) -> list[str]:
    wide = {head: max(len(head), *map(len, cells)) for head, cells in columns.items()}
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return [
        "  ".join(
            cell.ljust(wide[head]) if head in ("interface", "kind") else cell.rjust(wide[head])
            for head, cell in zip(columns, row, strict=True)
        ).rstrip()
        for row in rows
    ]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else format_bytes(int(rate))


def _work(data: Mapping[str, Any]) -> list[Line]:
    lines: list[Line] = []
    cycles = data["cycles"]
    if cycles is not None:
        parts = [f"{task} {_ago(one['age'])}" for task, one in cycles.items()]
        late = any(one["age"] is None or one["age"] > _STALE * (one["every"] or 60) for one in cycles.values())
        oldest = max((one["age"] for one in cycles.values() if one["age"] is not None), default=None)
        lines.append((f"oldest good cycle: {_ago(oldest)} ({', '.join(parts)})", "fault" if late else ""))
    database = data["database"]
    if database["up"]:
        lines.append((f"database: up, rows read {_ago(database['age'])}", ""))
    else:
        why = f" ({database['error']})" if database["error"] else ""
        lines.append((f"database: AWAY{why}, rows read {_ago(database['age'])}", "fault"))
    return lines


def _odd(data: Mapping[str, Any]) -> list[Line]:
    """What is not as ever."""
    lines: list[Line] = []
    configuration = data["configuration"]
    if configuration is not None and configuration["refused"]:
        lines.append((f"configuration: {configuration['file']} was refused, the old one goes on"
                      " (wgsyncd check-config)", "fault"))  # fmt: skip
    elif configuration is not None and configuration["changed_since"]:
        lines.append((f"configuration: {configuration['file']} has changed since it was loaded"
                      " (wgsyncd reload)", "warning"))  # fmt: skip
    if data["quarantined"]:
        lines.append((f"in quarantine, not booked: {data['quarantined']} (wgsyncd quarantine)", "warning"))
    if data["findings"]:
        lines.append((f"does not add up: {data['findings']} (wgsyncd verify)", "warning"))
    if data["spooled"]:
        lines.append((f"counters that wait for the database in the spool: {data['spooled']}", "warning"))
    if data["locked_rows"]:
        lines.append((f"devices not booked, their rows being locked: {data['locked_rows']}", "warning"))
    for kind, count in (data["conditions"] or {}).items():
        if count:
            lines.append((f"conditions of type {kind}: {count}", "warning"))
    return lines


_SIGNS = {"add": "+", "remove": "-", "update": "~"}


def _event(one: Mapping[str, Any]) -> str:
    words = [_SIGNS.get(one["change"], ">"), one["interface"], one["device"], one["text"]]
    return f"{_short(one['at'])}  {'  '.join(word for word in words if word)}"


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
