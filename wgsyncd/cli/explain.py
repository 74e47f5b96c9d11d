"""`wgsyncd explain`: the whole story of one device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from wgsyncd.cli import output
from wgsyncd.cli.explain_report import Told, as_data
from wgsyncd.cli.output import say
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.explain import Live, find_rows, tell
from wgsyncd.core.inspect.names import Named, find_device, near
from wgsyncd.core.inspect.periods import in_units
from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Counters,
    Row,
    Status,
    encode_key,
    fingerprint,
)
from wgsyncd.core.usage.calendar import Windows
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import View
from wgsyncd.engine.status_update import ONLINE
from wgsyncd.errors import Refused, StoreError
from wgsyncd.ports import Noted, Reports

MOST = 10  # audit rows
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def run(args: argparse.Namespace, settings: Settings, agent: Agent, reports: Reports) -> int:
    """Find the device, gather, print."""
    view = agent.inspector.look()
    row = _find(args.device, view)
    interface_of = {one.rows: name for name, one in settings.interfaces.items()}
    story = tell(row, view.outlook, view.ledger, interface_of, frozenset(settings.node.elsewhere), view.now)
    audit: Sequence[Noted] = ()
    no_audit = ""
    try:
        audit = reports.audit(row.device, MOST)
    except StoreError as error:  # of the whole story one part only
        no_audit = str(error)
    windows = Windows(view.now, int(settings.usage.bucket), settings.node.zone)
    told = Told(story, reports.particulars(row.id), audit, no_audit, settings, windows)
    if args.json:
        print(json.dumps(as_data(told), ensure_ascii=False))
    else:
        _print(told)
    return 0


def _find(text: str, view: View) -> Row:
    """The one row that is meant; Refused, with what is alike, where there is none or more than one."""
    rows = view.snapshot.rows
    names = [Named(row.id, row.device, row.contract) for row in rows]
    named = find_device(text, names)
    if named is not None:
        return next(row for row in rows if row.id == named.row_id)
    found = find_rows(text, rows)
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{len(found)} devices have it: {', '.join(row.device for row in found)}")
    for name, state in view.outlook.live.items():
        for key, peer in state.peers.items():
            ips = ", ".join(sorted(map(str, peer.peer.allowed_ips)))
            if text == encode_key(key) or text in {str(net).rpartition("/")[0] for net in peer.peer.allowed_ips}:
                raise Refused(f"no row has it, but {name} has a peer {fingerprint(key)} with {ips or 'no address'}")
    alike = near(text, [one.device for one in names])
    raise Refused(f"no device is called {text!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


# -- for people


def _print(told: Told) -> None:
    story, row = told.story, told.story.row
    say((row.device, "head"), " ", story.verdict)
    say()
    _about(told)
    say()
    for rule in story.rules:
        say(
            ("yes " if rule.holds else "NO  ", "ok" if rule.holds else "fault"),
            f"{rule.text}{rule.value and f': {rule.value}'}",
        )
    if story.rejection is not None:
        say(("NO  ", "fault"), f"it can be followed: {story.rejection.reason.value}, {story.rejection.detail}")
    elif all(rule.holds for rule in story.rules) and not story.elsewhere:
        say(("yes ", "ok"), "it can be followed")
    say()
    _kernel(told)
    for step in story.steps:
        say("due        ", f"{step.kind}, as of {told.windows.local(step.at)}")
    for due in story.due:
        change = due.change
        say("plan       ", f"{change.kind.value} on {change.interface}: {change.reason}" + _FATES[due.fate])
    if not story.due and not story.steps:
        say("plan       ", "nothing to do")
    say()
    _bytes(told)
    _audit(told)


_FATES = {
    "next": "",
    "withheld": " (withheld by the guard: wgsyncd plan)",
    "unclear": " (waits until the unreadable key of a row is mended)",
}


def _about(told: Told) -> None:
    story, row, more = told.story, told.story.row, told.particulars
    say(
        "row        ",
        f"{row.id}, contract {row.contract}, {row.interface or 'no interface'}, {row.address or 'no address'}",
    )
    if story.key is not None:
        say("key        ", story.key)
    else:
        say("key        ", f"cannot be read: it {story.bad_key}")
    say("psk        ", f"the row has {'one' if row.preshared_key else 'none'}")
    if more is not None:
        kind = [more.role, "parent" if more.parent and more.role != "parent" else "", more.platform, more.app]
        say("device     ", ", ".join(one for one in kind if one) or "nothing is known of it")
    at = told.windows.local
    life = {}
    if more is not None:
        life = {"created": more.created, "issued": more.issued, "activated": more.activated, "paused": more.paused}
    say("life       ", row.status_text, *(f", {what} {at(when)}" for what, when in life.items() if when is not None))
    if more is not None and more.last_handshake is not None:
        first = f"first {at(more.first_handshake)}, " if more.first_handshake is not None else ""
        say("handshakes ", f"{first}last {at(more.last_handshake)}")
    if row.qr_end is not None and (row.status is Status.ISSUED or row.status_text == "expired"):
        left = row.qr_end - told.windows.now
        say("QR code    ", f"{'ends' if left >= 0 else 'ended'} {at(row.qr_end)}, {_ago(left)}")


def _kernel(told: Told) -> None:
    story, now = told.story, told.windows.now
    if story.trouble:
        say("kernel     ", f"cannot be asked: {story.trouble}")
    elif not story.peers:
        say("kernel     ", "has no peer of it" + (f"; {story.holder} holds its address" if story.holder else ""))
    for one in story.peers:
        seen = one.found.latest_handshake / 1e9
        shook = f"handshake {told.windows.local(seen)}, {_ago(seen - now)}" if seen else "no handshake yet"
        online = " (online)" if now - seen < ONLINE else ""
        whose = "" if one.row_key else f"another key of it, {fingerprint(one.found.peer.public_key)}, "
        say(f"{one.interface:10} ", whose, f"endpoint {one.found.endpoint or 'unknown'}, {shook}{online}")
        ips = ", ".join(sorted(map(str, one.found.peer.allowed_ips))) or "no address"
        psk = "a preshared key" if one.found.peer.preshared_key != NO_PRESHARED_KEY else "no preshared key"
        alive = one.found.peer.persistent_keepalive
        say(" " * 11, f"{ips}, {psk}, keepalive {f'{alive} s' if alive else 'off'}, {_two(one.found.counters)}")
        if one.record is None:
            say("baseline   ", "none yet: the next cycle begins it")
            continue
        at = told.windows.local(one.record.sampled_at)
        say("baseline   ", f"{_two(one.record.counters)}, {one.record.state.value}, last moved {at}, {_epoch(one)}")
        say("unbooked   ", _two(one.unbooked), " (the counters went back: they count from zero)" if one.reset else "")
    for record in story.left:
        at = told.windows.local(record.sampled_at)
        key = fingerprint(record.public_key)
        say("baseline   ", f"{record.interface} {key}, {record.state.value}, {at}: of a peer that is not there")


def _epoch(one: Live) -> str:
    assert one.record is not None
    return f"epoch {one.record.epoch}"


def _bytes(told: Told) -> None:
    more = told.particulars
    if more is None:
        return
    rows = {"total": more.total, "24 h": more.last_24h, "month": more.month}
    output.show(
        output.Table(("bytes    ", "rx", "tx"), [(name, in_units(n.rx), in_units(n.tx)) for name, n in rows.items()])
    )
    whose = "device" if told.settings.usage.perspective == "device" else "server"
    say(f"rx: received by the {whose}; the kernel's are always the server's")


def _audit(told: Told) -> None:
    say()
    if told.no_audit:
        say(("audit rows cannot be read: ", "warning"), told.no_audit)
    elif not told.audit:
        say("no audit rows")
    for one in told.audit:
        say(f"{one.at}  {one.action}  {one.message}")


def _two(counters: Counters) -> str:
    return f"rx {in_units(counters.rx)} tx {in_units(counters.tx)}"


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
