"""The lines of `wgsyncd adopt`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from wgsyncd.cli.output import print_line
from wgsyncd.core.inspect.adopt import Action, Adoption, LivePeer, Match
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.core.model import PublicKey, fingerprint
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.engine import wording
from wgsyncd.engine.inspector import Preview

_WORDS = {
    Match.MATCHES: "as their rows want them: a start sends nothing for them",
    Match.DIFFERS: "not as their rows want them: a start changes them in place",
    Match.UNWANTED: "of rows that want no peer: a start removes them",
    Match.FROZEN: "of rejected rows (wgsyncd plan): a start leaves them as they are",
    Match.FOREIGN: "in no row",
}
_SIGNS = {Action.STAYS: " ", Action.CHANGED: "~", Action.REMOVED: "-", Action.WAITS: "!"}


def print_adoption(
    file: Path,
    view: Preview,
    found: Mapping[str, Adoption],
    keep: list[PublicKey],
    beside: list[Finding],
    zone: ZoneInfo,
) -> None:
    """Print each interface, what else was found, and the lines for the configuration ``file``."""
    for name, one in found.items():
        _interface(view, name, one, zone)
    _rest(view, beside)
    _advice(file, found, keep)


def _interface(view: Preview, name: str, one: Adoption, zone: ZoneInfo) -> None:
    state = view.decision.actual[name]
    kind = "the kernel's" if state.kind == "kernel" else "a userspace process's"
    print_line((f"{name}: {kind}, {len(one.peers)} live peers", "head"))
    for standing, meaning in _WORDS.items():
        peers, words = one.of(standing), meaning
        if not peers:
            continue
        if standing is Match.FOREIGN:
            stays = sum(1 for peer in peers if peer.action is Action.STAYS)
            words += f": {len(peers) - stays} would be removed, {stays} stay as configured"
        going = any(peer.action is not Action.STAYS for peer in peers)
        print_line(f"  {len(peers):4}  ", (words, "warning" if going else "ok"))
        if standing is not Match.MATCHES:
            for peer in peers:
                print_line(f"          {_SIGNS[peer.action]} {_line(peer, zone)}")
    if one.missing:
        print_line(f"  {len(one.missing):4}  wanted by rows and not there yet: a start adds them")
    if one.booked or one.started:
        print_line(f"        counters so far: booked in full for {one.booked} devices that nobody ever counted,"
            f" the starting point for {one.started}")  # fmt: skip
    print_line("")


def _line(peer: LivePeer, zone: ZoneInfo) -> str:
    found = peer.found
    ips = ",".join(sorted(map(str, found.config.allowed_ips))) or "no addresses"
    who = f"{peer.device}  " if peer.device else ""
    last = f"last handshake {_time(found.latest_handshake, zone)}" if found.latest_handshake else "never a handshake"
    waits = " (waits for an admin, or until an unreadable key is fixed)" if peer.action is Action.WAITS else ""
    text = f"{who}{ips}  {fingerprint(found.config.public_key)}  {last}"
    if peer.match is Match.FOREIGN:
        return text + (f", {found.endpoint}" if found.endpoint else "") + waits
    return text + (f"  {wording.change(peer.change)}" if peer.change else "") + waits


def _time(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at // 10**9, zone).strftime("%Y-%m-%d %H:%M:%S")


def _rest(view: Preview, beside: list[Finding]) -> None:
    for name, why in view.decision.interface_errors.items():
        print_line((f"{name} cannot be read: {why}", "fault"))
    ended = sum(1 for step in view.decision.transitions if step.kind is TransitionKind.EXPIRE)
    if ended:
        print_line(f"{ended} devices that were not activated by their deadline would be written as expired")
    for one in beside:
        print_line((one.message, "warning"))
        print_line("    ", (one.fix, "head"))


def _advice(file: Path, found: Mapping[str, Adoption], keep: list[PublicKey]) -> None:
    foreign = [(name, one) for name, of in found.items() for one in of.of(Match.FOREIGN)]
    going = [one for _, one in foreign if one.action is not Action.STAYS]
    if not going:
        print_line(f"Nothing was changed. {_start(found)}")
        return
    print_line(f"Nothing was changed. Before the first start set in {file}, under [peers],")
    print_line("either that every peer without a row stays for now:")
    print_line("")
    print_line('    foreign = "report"')
    print_line("")
    print_line("or which of them stay for good (links between sites). The others are removed:")
    print_line("")
    print_line("    always_keep = [")
    names = {one.found.config.public_key: (name, one) for name, one in foreign}
    for key in keep:
        name, peer = names.get(key, ("", None))
        ips = ",".join(sorted(map(str, peer.found.config.allowed_ips))) if peer else "kept already"
        print_line('        "', key, f'",  # {name} {ips}'.replace("  #  ", "  # "))
    print_line("    ]")


def _start(found: Mapping[str, Adoption]) -> str:
    gone = sum(1 for of in found.values() for one in of.peers if one.action is Action.REMOVED)
    waits = sum(1 for of in found.values() for one in of.peers if one.action is Action.WAITS)
    if gone or waits:
        return f"A start would remove {gone} peers of rows that want none" + (f"; {waits} wait" if waits else "")
    return "A start would remove no peer: systemctl enable --now wgsyncd"
