"""`wgsyncd adopt`: what a first start would do to the peers that are live, before it does; changes nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from wgsyncd.cli import output
from wgsyncd.cli.doctor import files
from wgsyncd.cli.output import clean, say
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.adopt import Adoption, Fate, Standee, Standing, adopt
from wgsyncd.core.inspect.finding import Finding, Level
from wgsyncd.core.model import PublicKey, encode_key, fingerprint
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import View

_WORDS = {
    Standing.MATCHES: "as their rows want them: nothing is sent for them",
    Standing.DIFFERS: "otherwise than their rows want them: would be changed in place",
    Standing.UNWANTED: "of rows that want no peer: would be removed",
    Standing.FROZEN: "of rows that cannot be followed (wgsyncd plan): left as they are",
    Standing.FOREIGN: "in no row",
}
_SIGNS = {Fate.STAYS: " ", Fate.CHANGED: "~", Fate.REMOVED: "-", Fate.WAITS: "!"}


def run(args: argparse.Namespace, settings: Settings, agent: Agent) -> int:
    """Look, tell; 0 nothing would be changed, 2 something would, 1 an interface could not be looked at."""
    with output.waiting("looking at the interfaces"):
        view = agent.inspector.look()
        found = adopt(view.outlook, view.ledger.records, view.snapshot.rows)
        beside = [one for one in files.wg_quick_files(list(settings.interfaces)) if one.level is not Level.OK]
    keep = _keep(settings, found)
    if args.json:
        print(json.dumps(_data(view, found, keep, settings.node.zone), ensure_ascii=False))
    else:
        for name, one in found.items():
            _interface(view, name, one, settings.node.zone)
        _rest(view, beside)
        _advice(args.config, found, keep)
    if view.outlook.troubles:
        return 1
    return 2 if view.outlook.plan.changes or view.outlook.plan.withheld or view.outlook.plan.unclear else 0


def _keep(settings: Settings, found: Mapping[str, Adoption]) -> list[PublicKey]:
    """What `peers.always_keep` has to name for every foreign peer to stay."""
    foreign = [one.found.peer.public_key for of in found.values() for one in of.of(Standing.FOREIGN)]
    return list(dict.fromkeys([*settings.peers.always_keep, *foreign]))


def _interface(view: View, name: str, one: Adoption, zone: ZoneInfo) -> None:
    state = view.outlook.live[name]
    kind = "the kernel's" if state.kind == "kernel" else "a userspace process's"
    say((f"{name}: {kind}, {len(one.peers)} live peers", "head"))
    for standing, meaning in _WORDS.items():
        peers, words = one.of(standing), meaning
        if not peers:
            continue
        if standing is Standing.FOREIGN:
            stays = sum(1 for peer in peers if peer.fate is Fate.STAYS)
            words += f": {len(peers) - stays} would be removed, {stays} stay as configured"
        going = any(peer.fate is not Fate.STAYS for peer in peers)
        say(f"  {len(peers):4}  ", (words, "warning" if going else "ok"))
        if standing is not Standing.MATCHES:
            for peer in peers:
                say(f"          {_SIGNS[peer.fate]} {_line(peer, zone)}")
    if one.missing:
        say(f"  {len(one.missing):4}  wanted by rows and not there yet: would be added")
    if one.booked or one.started:
        say(f"        counters so far: booked in full for {one.booked} devices that nobody ever counted,"
            f" the starting point for {one.started}")  # fmt: skip
    say("")


def _line(peer: Standee, zone: ZoneInfo) -> str:
    found = peer.found
    ips = ",".join(sorted(map(str, found.peer.allowed_ips))) or "no addresses"
    who = f"{peer.device}  " if peer.device else ""
    last = f"last handshake {_time(found.latest_handshake, zone)}" if found.latest_handshake else "never a handshake"
    waits = " (waits for an admin, or until an unreadable key is mended)" if peer.fate is Fate.WAITS else ""
    text = f"{who}{ips}  {fingerprint(found.peer.public_key)}  {last}"
    if peer.standing is Standing.FOREIGN:
        return text + (f", {found.endpoint}" if found.endpoint else "") + waits
    return text + (f"  {peer.reason}" if peer.reason else "") + waits


def _time(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at // 10**9, zone).strftime("%Y-%m-%d %H:%M:%S")


def _rest(view: View, beside: list[Finding]) -> None:
    for name, why in view.outlook.troubles.items():
        say((f"{name} cannot be looked at: {why}", "fault"))
    ended = sum(1 for step in view.outlook.steps if step.kind == "expire")
    if ended:
        say(f"{ended} devices whose QR code ended, never scanned, would be written as expired")
    for one in beside:
        say((one.why, "warning"))
        say("    ", (one.mend, "head"))


def _advice(file: Path, found: Mapping[str, Adoption], keep: list[PublicKey]) -> None:
    foreign = [(name, one) for name, of in found.items() for one in of.of(Standing.FOREIGN)]
    going = [one for _, one in foreign if one.fate is not Fate.STAYS]
    if not going:
        say(f"Nothing was changed. {_start(found)}")
        return
    say(f"Nothing was changed. Before the first start set in {file}, under [peers],")
    say("either, for now, that all that is in no row stays:")
    say("")
    say('    foreign = "report"')
    say("")
    say("or which of them stay for good (links between sites); the others are removed:")
    say("")
    say("    always_keep = [")
    names = {one.found.peer.public_key: (name, one) for name, one in foreign}
    for key in keep:
        name, peer = names.get(key, ("", None))
        ips = ",".join(sorted(map(str, peer.found.peer.allowed_ips))) if peer else "kept already"
        say('        "', key, f'",  # {name} {ips}'.replace("  #  ", "  # "))
    say("    ]")


def _start(found: Mapping[str, Adoption]) -> str:
    gone = sum(1 for of in found.values() for one in of.peers if one.fate is Fate.REMOVED)
    waits = sum(1 for of in found.values() for one in of.peers if one.fate is Fate.WAITS)
    if gone or waits:
        return f"A start would remove {gone} peers of rows that want none" + (f"; {waits} wait" if waits else "")
    return "A start would remove no peer: systemctl enable --now wgsyncd"


def _data(view: View, found: Mapping[str, Adoption], keep: list[PublicKey], zone: ZoneInfo) -> dict[str, Any]:
    """For machines; the keys are stable."""

    def peer(one: Standee) -> dict[str, Any]:
        state = one.found
        seen = state.latest_handshake // 10**9
        return {
            "peer": fingerprint(state.peer.public_key),
            "device": clean(one.device) or None,
            "standing": one.standing.value,
            "fate": one.fate.value,
            "reason": clean(one.reason) or None,
            "allowed_ips": sorted(map(str, state.peer.allowed_ips)),
            "endpoint": state.endpoint,
            "latest_handshake": datetime.fromtimestamp(seen, zone).isoformat() if seen else None,
            "counters": state.counters._asdict(),
        }

    return {
        "interfaces": [
            {
                "interface": name, "kind": view.outlook.live[name].kind, "peers": [peer(one) for one in of.peers],
                "missing": [clean(change.device) for change in of.missing],
                "counters_booked": of.booked, "counters_started_from": of.started,
            }
            for name, of in found.items()
        ],
        "not_looked_at": {name: clean(why) for name, why in view.outlook.troubles.items()},
        "rejected": len(view.outlook.desired.rejections),
        "always_keep": [encode_key(key) for key in keep],
    }  # fmt: skip
