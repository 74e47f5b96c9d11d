"""`wgsyncd explain`: the whole story of one device."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wgsyncd.cli import output
from wgsyncd.cli.explain_report import Gathered, explain_report
from wgsyncd.cli.explain_verdict import verdict
from wgsyncd.cli.output import print_line
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.explain import ActualPeer, explain, find_rows
from wgsyncd.core.inspect.names import DeviceName, find_device, suggestions
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Counters,
    DeviceRow,
    Status,
    encode_key,
    fingerprint,
)
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import Preview
from wgsyncd.engine.status_update import ONLINE
from wgsyncd.errors import StoreError, UserError
from wgsyncd.ports import AuditRow, Reports

MOST = 10  # audit rows
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def run(args: argparse.Namespace, settings: Settings, agent: Agent, reports: Reports) -> int:
    """Find the device, gather, print."""
    view = agent.inspector.view()
    row = _find(args.device, view)
    interface_of = {one.store_name: name for name, one in settings.interfaces.items()}
    story = explain(
        row, view.decision, view.node_state, interface_of, frozenset(settings.node.ignored_interfaces), view.now
    )
    audit: Sequence[AuditRow] = ()
    no_audit = ""
    try:
        audit = reports.audit(row.device, MOST)
    except StoreError as error:  # of the whole story one part only
        no_audit = str(error)
    calendar = UsageCalendar(view.now, int(settings.usage.bucket_width), settings.node.zone)
    rules = reports.rules(story.settled, view.now)
    told = Gathered(story, rules, reports.details(row.id), audit, no_audit, settings, calendar)
    if args.json:
        output.print_json(explain_report(told))
    else:
        _print(told)
    return 0


def _find(text: str, view: Preview) -> DeviceRow:
    """The one row that is meant; Refused, with what is alike, where there is none or more than one."""
    rows = view.snapshot.rows
    names = [DeviceName(row.id, row.device, row.owner) for row in rows]
    named = find_device(text, names)
    if named is not None:
        return next(row for row in rows if row.id == named.row_id)
    found = find_rows(text, rows)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{len(found)} devices have it: {', '.join(row.device for row in found)}")
    for name, state in view.decision.actual.items():
        for key, peer in state.peers.items():
            ips = ", ".join(sorted(map(str, peer.config.allowed_ips)))
            if text == encode_key(key) or text in {str(net).rpartition("/")[0] for net in peer.config.allowed_ips}:
                raise UserError(f"no row has it, but {name} has a peer {fingerprint(key)} with {ips or 'no address'}")
    alike = suggestions(text, [one.device for one in names])
    raise UserError(f"no device is called {text!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


# -- for people


def _print(told: Gathered) -> None:
    story, row = told.story, told.story.row
    print_line((row.device, "head"), " ", verdict(story))
    print_line()
    _about(told)
    print_line()
    for rule in told.rules:
        print_line(
            ("yes " if rule.holds else "NO  ", "ok" if rule.holds else "fault"),
            f"{rule.text}{rule.value and f': {rule.value}'}",
        )
    if story.rejection is not None:
        print_line(
            ("NO  ", "fault"),
            f"it can be followed: {story.rejection.reason.value}, {wording.rejection(story.rejection)}",
        )
    elif all(rule.holds for rule in told.rules) and not story.elsewhere:
        print_line(("yes ", "ok"), "it can be followed")
    print_line()
    _kernel(told)
    for step in story.steps:
        print_line("due        ", f"{step.kind.value}, as of {told.calendar.format_local(step.at)}")
    for due in story.due:
        change = due.change
        print_line(
            "plan       ", f"{change.kind.value} on {change.interface}: {wording.change(change)}" + _FATES[due.when]
        )
    if not story.due and not story.steps:
        print_line("plan       ", "nothing to do")
    print_line()
    _bytes(told)
    _audit(told)


_FATES = {
    "next": "",
    "withheld": " (withheld by the guard: wgsyncd plan)",
    "blocked": f" ({wording.UNTIL_MENDED})",
}


def _about(told: Gathered) -> None:
    story, row, more = told.story, told.story.row, told.particulars
    print_line(
        "row        ",
        f"{row.id}, owner {row.owner}, {row.interface or 'no interface'}, {row.address or 'no address'}",
    )
    if story.key is not None:
        print_line("key        ", story.key)
    else:
        print_line("key        ", f"cannot be read: it {story.bad_key}")
    print_line("psk        ", f"the row has {'one' if row.preshared_key else 'none'}")
    if more is not None:
        kind = [more.role, "parent" if more.parent and more.role != "parent" else "", more.platform, more.app]
        print_line("device     ", ", ".join(one for one in kind if one) or "nothing is known of it")
    at = told.calendar.format_local
    life = {}
    if more is not None:
        life = {"created": more.created, "issued": more.issued, "activated": more.activated, "paused": more.paused}
    print_line(
        "life       ", row.status_text, *(f", {what} {at(when)}" for what, when in life.items() if when is not None)
    )
    if more is not None and more.last_handshake is not None:
        first = f"first {at(more.first_handshake)}, " if more.first_handshake is not None else ""
        print_line("handshakes ", f"{first}last {at(more.last_handshake)}")
    if row.activation_deadline is not None and (row.status is Status.ISSUED or row.status_text == "expired"):
        left = row.activation_deadline - told.calendar.now
        print_line("activation ", f"{'ends' if left >= 0 else 'ended'} {at(row.activation_deadline)}, {_ago(left)}")


def _kernel(told: Gathered) -> None:
    story, now = told.story, told.calendar.now
    if story.trouble:
        print_line("kernel     ", f"cannot be asked: {story.trouble}")
    elif not story.peers:
        print_line(
            "kernel     ",
            "has no peer of it" + (f"; {story.address_holder} holds its address" if story.address_holder else ""),
        )
    for one in story.peers:
        seen = one.found.latest_handshake / 1e9
        shook = f"handshake {told.calendar.format_local(seen)}, {_ago(seen - now)}" if seen else "no handshake yet"
        online = " (online)" if now - seen < ONLINE else ""
        whose = "" if one.row_key else f"another key of it, {fingerprint(one.found.config.public_key)}, "
        print_line(f"{one.interface:10} ", whose, f"endpoint {one.found.endpoint or 'unknown'}, {shook}{online}")
        ips = ", ".join(sorted(map(str, one.found.config.allowed_ips))) or "no address"
        psk = "a preshared key" if one.found.config.preshared_key != NO_PRESHARED_KEY else "no preshared key"
        alive = one.found.config.persistent_keepalive
        print_line(" " * 11, f"{ips}, {psk}, keepalive {f'{alive} s' if alive else 'off'}, {_two(one.found.counters)}")
        if one.record is None:
            print_line("baseline   ", "none yet: the next cycle begins it")
            continue
        at = told.calendar.format_local(one.record.sampled_at)
        print_line(
            "baseline   ", f"{_two(one.record.counters)}, {one.record.state.value}, last moved {at}, {_epoch(one)}"
        )
        print_line(
            "unbooked   ", _two(one.unbooked), " (the counters went back: they count from zero)" if one.reset else ""
        )
    for record in story.stale_records:
        at = told.calendar.format_local(record.sampled_at)
        key = fingerprint(record.public_key)
        print_line("baseline   ", f"{record.interface} {key}, {record.state.value}, {at}: of a peer that is not there")


def _epoch(one: ActualPeer) -> str:
    assert one.record is not None
    return f"epoch {one.record.epoch}"


def _bytes(told: Gathered) -> None:
    more = told.particulars
    if more is None:
        return
    rows = {"total": more.total, "24 h": more.last_24h, "month": more.month}
    output.print_table(
        output.Table(
            ("bytes    ", "rx", "tx"), [(name, format_bytes(n.rx), format_bytes(n.tx)) for name, n in rows.items()]
        )
    )
    whose = "device" if told.settings.mikyun.perspective == "device" else "server"
    print_line(f"rx: received by the {whose}; the kernel's are always the server's")


def _audit(told: Gathered) -> None:
    print_line()
    if told.no_audit:
        print_line(("audit rows cannot be read: ", "warning"), told.no_audit)
    elif not told.audit:
        print_line("no audit rows")
    for one in told.audit:
        print_line(f"{one.at}  {one.action}  {one.message}")


def _two(counters: Counters) -> str:
    return f"rx {format_bytes(counters.rx)} tx {format_bytes(counters.tx)}"


def _ago(seconds: float) -> str:
    """``in 3 h 12 min``, ``14 s ago``: the two largest units."""
    left = abs(int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or (size == 1 and not parts):
            parts.append(f"{left // size} {unit}")
        left %= size
    text = " ".join(parts[:2])
    return f"in {text}" if seconds >= 0 else f"{text} ago"
