"""The lines of `wgsyncd explain`."""

from __future__ import annotations

from wgsyncd.cli import output
from wgsyncd.cli.explain_query import Gathered
from wgsyncd.cli.explain_verdict import verdict
from wgsyncd.cli.output import print_line
from wgsyncd.core.inspect.explain import ActualPeer
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Counters,
    Status,
    fingerprint,
)
from wgsyncd.engine import wording
from wgsyncd.engine.status_update import ONLINE

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def print_story(told: Gathered) -> None:
    """Print everything, in blocks."""
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
    story, row, more = told.story, told.story.row, told.details
    print_line(
        "row        ",
        f"{row.id}, owner {row.owner}, {row.interface or 'no interface'}, {row.address or 'no address'}",
    )
    if story.key is not None:
        print_line("key        ", story.key)
    else:
        print_line("key        ", f"cannot be read: it {story.bad_key}")
    print_line("psk        ", f"the row has {'one' if row.preshared_key else 'none'}")
    texts = more.texts if more is not None else {}
    print_line(
        "device     ", ", ".join(f"{label} {text}" for label, text in texts.items() if text) or "nothing more is known"
    )
    times = more.times if more is not None else {}
    known = [f"{label} {told.calendar.format_local(at)}" for label, at in times.items() if at is not None]
    life = [row.status_text, *known]
    for place in range(0, len(life), 3):
        print_line(" " * 11 if place else "life       ", ", ".join(life[place : place + 3]))
    if row.activation_deadline is not None and (row.status is Status.ISSUED or row.status_text == "expired"):
        left = row.activation_deadline - told.calendar.now
        at = told.calendar.format_local(row.activation_deadline)
        print_line("activation ", f"{'ends' if left >= 0 else 'ended'} {at}, {_ago(left)}")


def _kernel(told: Gathered) -> None:
    story, now = told.story, told.calendar.now
    if story.trouble:
        print_line("kernel     ", f"cannot be asked: {story.trouble}")
    elif not story.peers:
        print_line(
            "kernel     ",
            "has no peer of the device"
            + (f", and {story.address_holder} holds its address" if story.address_holder else ""),
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
        print_line("baseline   ", f"{record.interface} {key}, {record.state.value}, {at}: the peer is gone")


def _epoch(one: ActualPeer) -> str:
    assert one.record is not None
    return f"epoch {one.record.epoch}"


def _bytes(told: Gathered) -> None:
    more = told.details
    if more is None:
        return
    output.print_table(
        output.Table(
            ("bytes    ", "rx", "tx"),
            [(label, format_bytes(one.rx), format_bytes(one.tx)) for label, one in more.bytes.items()],
        )
    )
    print_line(f"rx: received by the {told.perspective}. The kernel's counters are always the server's")


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
