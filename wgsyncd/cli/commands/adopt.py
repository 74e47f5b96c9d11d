"""Show what a first start would do to the live peers. Change nothing.

The command says which peers are as their rows want them, and which a start would change or remove. It prints the lines
of the configuration that keep the peers without a row.

exit status: 0 nothing would be changed, 2 something would, 1 an error
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.cli import options, output, wiring
from wgsyncd.cli.doctor import files
from wgsyncd.cli.explain_report import CountersReport
from wgsyncd.cli.output import Line, short_time
from wgsyncd.config import load
from wgsyncd.core.inspect.adopt import Action, Adoption, LivePeer, Match, adopt
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.core.model import PublicKey, encode_key, fingerprint
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.engine import wording
from wgsyncd.engine.inspector import Preview
from wgsyncd.engine.plan_report import iso


class LivePeerReport(Struct, frozen=True, kw_only=True):
    """One live peer, and what a start does to it."""

    peer: str  # the key's fingerprint
    device: str | None
    match: Match
    action: Action
    reason: str | None
    allowed_ips: list[str]
    endpoint: str | None
    latest_handshake: str | None
    counters: CountersReport


class AdoptedInterface(Struct, frozen=True, kw_only=True):
    """One interface."""

    interface: str
    kind: str
    peers: list[LivePeerReport]
    missing: list[str]  # devices that a start adds
    counters_posted: int  # devices without any usage: a start posts their present counters in full
    counters_started_from: int  # devices with usage: a start takes their present counters as baselines


class AdoptReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd adopt --json`."""

    interfaces: list[AdoptedInterface]
    interface_errors: dict[str, str]
    rejected: int
    expired: int  # devices that a start writes as expired, because they were not activated by their deadline
    wg_quick: list[Finding]  # what is wrong with wg-quick's files
    always_keep: list[str]  # public keys, for the configuration


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options. Exit status 2 says "there are changes", so a bad configuration is 1."""
    options.add_config(parser, fault_status=1)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print. 0: a start would change nothing, 2: it would, 1: an interface could not be read."""
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)
    with output.waiting("reading the interfaces"):
        view = agent.inspector.view()
        found = adopt(view.decision, view.node_state.records, view.snapshot.rows)
        wg_quick = [one for one in files.wg_quick_files(list(settings.interfaces)) if one.severity is not Severity.OK]
    report = adopt_report(view, found, wg_quick, settings.peers.always_keep, settings.node.zone)
    output.print_report(report, _lines(report, args.config), json=args.json, public=frozenset(report.always_keep))
    if view.decision.interface_errors:
        return 1
    plan = view.decision.plan
    return 2 if plan.changes or plan.withheld or plan.blocked else 0


def adopt_report(
    view: Preview, found: Mapping[str, Adoption], wg_quick: list[Finding], kept: Collection[PublicKey], zone: ZoneInfo
) -> AdoptReport:
    """The report of what a first start does. ``kept``: the keys that `peers.always_keep` names now."""
    foreign = [one.found.config.public_key for of in found.values() for one in of.of(Match.FOREIGN)]
    return AdoptReport(
        interfaces=[
            AdoptedInterface(
                interface=name,
                kind=view.decision.actual[name].kind,
                peers=[_peer(one, zone) for one in of.peers],
                missing=[change.device for change in of.missing],
                counters_posted=of.posted_in_full,
                counters_started_from=of.baseline_only,
            )
            for name, of in found.items()
        ],
        interface_errors=dict(view.decision.interface_errors),
        rejected=len(view.decision.desired.rejections),
        expired=sum(1 for one in view.decision.transitions if one.kind is TransitionKind.EXPIRE),
        wg_quick=wg_quick,
        always_keep=[encode_key(key) for key in dict.fromkeys([*kept, *foreign])],
    )


def _peer(one: LivePeer, zone: ZoneInfo) -> LivePeerReport:
    state = one.found
    return LivePeerReport(
        peer=fingerprint(state.config.public_key),
        device=one.device or None,
        match=one.match,
        action=one.action,
        reason=wording.change(one.change) if one.change else None,
        allowed_ips=sorted(map(str, state.config.allowed_ips)),
        endpoint=state.endpoint,
        latest_handshake=iso(state.latest_handshake // 10**9, zone),
        counters=CountersReport(rx=state.counters.rx, tx=state.counters.tx),
    )


_WORDS = {
    Match.MATCHES: "as their rows want them: a start sends nothing for them",
    Match.DIFFERS: "not as their rows want them: a start changes them in place",
    Match.UNWANTED: "of rows that want no peer: a start removes them",
    Match.FROZEN: "of rejected rows (wgsyncd plan): a start leaves them as they are",
    Match.FOREIGN: "in no row",
}
_SIGNS = {Action.STAYS: " ", Action.CHANGED: "~", Action.REMOVED: "-", Action.WAITS: "!"}


def _lines(report: AdoptReport, file: Path) -> Iterator[Line]:
    """Each interface, what else was found, and the lines for the configuration ``file``."""
    for one in report.interfaces:
        yield from _interface(one)
    for name, why in report.interface_errors.items():
        yield f"{name} cannot be read: {why}", "fault"
    if report.expired:
        yield f"{report.expired} devices that were not activated by their deadline would be written as expired", ""
    for finding in report.wg_quick:
        yield finding.message, "warning"
        yield f"    {finding.fix}", "head"
    yield from _advice(report, file)


def _interface(one: AdoptedInterface) -> Iterator[Line]:
    kind = "the kernel's" if one.kind == "kernel" else "a userspace process's"
    yield f"{one.interface}: {kind}, {len(one.peers)} live peers", "head"
    for match, words in _WORDS.items():
        peers = [peer for peer in one.peers if peer.match is match]
        going = sum(1 for peer in peers if peer.action is not Action.STAYS)
        foreign = ""
        if match is Match.FOREIGN:
            foreign = f": {going} would be removed, {len(peers) - going} stay as configured"
        if peers:
            yield f"  {len(peers):4}  {words}{foreign}", "warning" if going else "ok"
        if match is not Match.MATCHES:
            yield from ((f"          {_SIGNS[peer.action]} {_line(peer)}", "") for peer in peers)
    if one.missing:
        yield f"  {len(one.missing):4}  wanted by rows and not there yet: a start adds them", ""
    if one.counters_posted or one.counters_started_from:
        yield (f"        bytes until now: a start posts them for {one.counters_posted} devices without usage,"
               f" and not for {one.counters_started_from} devices with usage", "")  # fmt: skip
    yield "", ""


def _line(peer: LivePeerReport) -> str:
    last = f"last handshake {short_time(peer.latest_handshake)}" if peer.latest_handshake else "never a handshake"
    more = peer.endpoint if peer.match is Match.FOREIGN else peer.reason
    parts = [peer.device, ",".join(peer.allowed_ips) or "no addresses", peer.peer, last, more]
    waits = " (waits for an admin, or until an unreadable key is fixed)" if peer.action is Action.WAITS else ""
    return "  ".join(part for part in parts if part) + waits


def _advice(report: AdoptReport, file: Path) -> Iterator[Line]:
    peers = [(one.interface, peer) for one in report.interfaces for peer in one.peers]
    foreign = {peer.peer: f"{name} {','.join(peer.allowed_ips)}" for name, peer in peers if peer.match is Match.FOREIGN}
    if all(peer.action is Action.STAYS for _, peer in peers if peer.match is Match.FOREIGN):
        count = Counter(peer.action for _, peer in peers)
        gone, waits = count[Action.REMOVED], count[Action.WAITS]
        start = f"would remove {gone} peers of rows that want none" + (f", and {waits} wait" if waits else "")
        if not gone and not waits:
            start = "would remove no peer: systemctl enable --now wgsyncd"
        yield f"Nothing was changed. A start {start}", ""
        return
    yield f"Nothing was changed. Before the first start set in {file}, under [peers],", ""
    yield "either that every peer without a row stays for now:", ""
    yield from (("", ""), ('    foreign = "report"', ""), ("", ""))
    yield "or which of them stay for good (links between sites). The others are removed:", ""
    yield from (("", ""), ("    always_keep = [", ""))
    for key in report.always_keep:
        yield f'        "{key}",  # {foreign.get(output.sanitize(key), "kept already")}', ""
    yield "    ]", ""
