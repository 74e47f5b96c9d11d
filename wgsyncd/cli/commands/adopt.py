"""Show what wgsyncd would do to the live peers, and let it remove those without a row.

Without an option the command changes nothing. It says which peers are as their rows want them, and which wgsyncd would
change or remove. It prints the lines of the configuration that keep the peers without a row.

Until an admin has run `wgsyncd adopt --accept` once on a node, wgsyncd only reports its peers without a row. Afterwards
wgsyncd removes them, and writes each one to a file before. `wgsyncd adopt --undo` puts these peers back.

exit status: 0 nothing would be changed, or done. 2 something would be changed. 1 an error
"""

import argparse
import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.doctor import files
from wgsyncd.cli.explain_report import CountersReport
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect.adopt import Action, Adoption, LivePeer, Match, adopt
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.core.model import PublicKey, encode_key, fingerprint
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.words import counted, short_time
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import Preview
from wgsyncd.engine.reports.plan import iso
from wgsyncd.engine.reports.verdict import if_not_here
from wgsyncd.errors import WgsyncdError


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


class UndoneInterface(Struct, frozen=True, kw_only=True):
    """One interface, after its removed peers were put back."""

    interface: str
    file: str  # with the peers that were not put back
    put_back: int
    waiting: dict[str, str]  # why a peer was not put back, by its addresses
    error: str | None


class UndoneReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd adopt --undo --json`."""

    interfaces: list[UndoneInterface]


class AdoptReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd adopt --json`."""

    interfaces: list[AdoptedInterface]
    interface_errors: dict[str, str]
    rejected: int
    expired: int  # devices that a start writes as expired, because they were not activated by their deadline
    adopted: bool  # whether wgsyncd may remove peers without a row
    wg_quick: list[Finding]  # what is wrong with wg-quick's files
    always_keep: list[str]  # public keys, for the configuration


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options. Exit status 2 says "there are changes", so a bad configuration is 1."""
    options.add_config(parser, fault_status=1)
    options.add_json(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--accept", action="store_true", help="let wgsyncd remove the peers without a row, from now on")
    what.add_argument("--undo", action="store_true", help="put the removed peers back, and only report them again")


def run(args: argparse.Namespace) -> int:
    """Compare and print. 0: a start would change nothing, 2: it would, 1: an interface could not be read."""
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)
    if args.undo:
        return _undo(settings, agent, json=args.json)
    if args.accept:
        _sync()  # A daemon that has just started may have no node state yet.
        _adopt(settings, agent, AuditAction.NODE_ADOPTED)
    with output.waiting("reading the interfaces"):
        view = agent.inspector.view(adopted=True)
        found = adopt(view.decision, view.node_state.records, view.snapshot.rows)
        rows = {encode_key(one.found.config.public_key) for of in found.values() for one in of.peers if one.device}
        rows.update(encode_key(row.key) for row in view.snapshot.rows if row.key is not None)  # also without a peer
        quick = files.wg_quick_files([*settings.interfaces], rows=rows, kept=settings.peers.always_keep)
        wg_quick = [one for one in quick if one.severity is not Severity.OK]
    adopted = view.snapshot.adopted
    report = adopt_report(view, found, wg_quick, settings.peers.always_keep, settings.node.zone, adopted=adopted)
    output.print_report(
        report, _lines(report, args.config, accepted=args.accept), json=args.json, public=frozenset(report.always_keep)
    )
    if view.decision.interface_errors or args.accept:
        return 1 if view.decision.interface_errors else 0
    plan = view.decision.plan
    return 2 if plan.changes or plan.withheld or plan.blocked else 0


def _adopt(settings: Settings, agent: Agent, action: AuditAction) -> None:
    """Write that the node is adopted, or that this is undone."""
    event = AuditEvent(action, settings.node.name, AuditFacts(by=options.admin()))
    agent.store.adopt(accepted=action is AuditAction.NODE_ADOPTED, audit=[event], calendar=agent.inspector.calendar())


def _sync() -> None:
    """Wait for a whole cycle of the daemon, if one runs."""
    with contextlib.suppress(client.NobodyListensError):
        client.ask("/sync", "POST", {"devices": []})


def _undo(settings: Settings, agent: Agent, *, json: bool) -> int:
    """Report foreign peers only, and put those back that were removed. 1: some are not back."""
    _adopt(settings, agent, AuditAction.ADOPTION_UNDONE)
    _sync()  # A cycle that began before the adoption ended has ended then.
    report = UndoneReport(interfaces=[_put_back(agent, name) for name in settings.interfaces])
    _sync()  # Now `wgsyncd status` knows them.
    output.print_report(report, _undone_lines(report), json=json)
    return 1 if any(one.error or one.waiting for one in report.interfaces) else 0


def _put_back(agent: Agent, name: str) -> UndoneInterface:
    file = wiring.removed_peers(name)
    try:
        count, waiting = file.put_back(agent.wireguard.read(name))
    except (OSError, ValueError, WgsyncdError) as error:
        return UndoneInterface(interface=name, file=str(file.file), put_back=0, waiting={}, error=str(error))
    return UndoneInterface(interface=name, file=str(file.file), put_back=count, waiting=waiting, error=None)


def _undone_lines(report: UndoneReport) -> Iterator[Line]:
    for one in report.interfaces:
        yield f"{one.interface}: {counted(one.put_back, 'peer')} put back", ""
        yield from ((f"  not put back: {addresses}: {why}", "warning") for addresses, why in one.waiting.items())
        if one.error:
            yield f"  not put back: {one.error}", "fault"
        if one.error or one.waiting:
            yield f"  {one.file} still has them", ""
    yield "wgsyncd only reports the peers without a row from now on, until: wgsyncd adopt --accept", ""


def adopt_report(
    view: Preview, found: Mapping[str, Adoption], wg_quick: list[Finding], kept: Collection[PublicKey], zone: ZoneInfo,
    *, adopted: bool,
) -> AdoptReport:  # fmt: skip
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
        interface_errors={name: one.text for name, one in view.decision.interface_errors.items()},
        rejected=len(view.decision.desired.rejections),
        expired=sum(1 for one in view.decision.transitions if one.kind is TransitionKind.EXPIRE),
        adopted=adopted,
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
    Match.UNWANTED: "of rows that want no peer",
    Match.FROZEN: "of rejected rows (wgsyncd plan): a start leaves them as they are",
    Match.FOREIGN: "in no row",
}
_SIGNS = {Action.STAYS: " ", Action.CHANGED: "~", Action.REMOVED: "-", Action.WAITS: "!", Action.BLOCKED: "!"}
_WAITING = {Action.WAITS: " (withheld by the guard)", Action.BLOCKED: f" (waits {wording.until_mended()})"}


def _lines(report: AdoptReport, file: Path, *, accepted: bool) -> Iterator[Line]:
    """Each interface, what else was found, and the lines for the configuration ``file``."""
    for one in report.interfaces:
        yield from _interface(one)
    for name, why in report.interface_errors.items():
        yield f"{name} cannot be read: {why}. {if_not_here(name)}", "fault"
    if report.expired:
        yield f"{counted(report.expired, 'device')} not activated by the deadline: to be written as expired", ""
    for finding in report.wg_quick:
        yield finding.message, "warning"
        yield f"    {finding.fix}", "head"
    yield from _accepted(report) if accepted else _advice(report, file)


def _interface(one: AdoptedInterface) -> Iterator[Line]:
    kind = "the kernel's" if one.kind == "kernel" else "a userspace process's"
    yield f"{one.interface}: {kind}, {counted(len(one.peers), 'live peer')}", "head"
    for match, words in _WORDS.items():
        peers = [peer for peer in one.peers if peer.match is match]
        going = sum(1 for peer in peers if peer.action is not Action.STAYS)
        approval = " and an approval" if any(peer.action is Action.WAITS for peer in peers) else ""
        foreign = f": {going} go with `wgsyncd adopt --accept`{approval}, {len(peers) - going} stay as configured"
        waits = sum(1 for peer in peers if peer.action in _WAITING)
        unwanted = f": a start removes {len(peers) - waits}{f', {waits} wait' if waits else ''}"
        if peers:
            told = words + {Match.FOREIGN: foreign, Match.UNWANTED: unwanted}.get(match, "")
            yield f"  {len(peers):4}  {told}", "warning" if going else "ok"
        if match is not Match.MATCHES:
            yield from ((f"          {_SIGNS[peer.action]} {_line(peer)}", "") for peer in peers)
    if one.missing:
        yield f"  {len(one.missing):4}  wanted by rows and not there yet: a start adds them", ""
    if one.counters_posted or one.counters_started_from:
        new, old = (counted(number, "device") for number in (one.counters_posted, one.counters_started_from))
        yield f"        bytes until now: a start posts them for {new} without usage, and not for {old} with usage", ""
    yield "", ""


def _line(peer: LivePeerReport) -> str:
    last = f"last handshake {short_time(peer.latest_handshake)}" if peer.latest_handshake else "never a handshake"
    more = peer.endpoint if peer.match is Match.FOREIGN else peer.reason
    parts = [peer.device, ",".join(peer.allowed_ips) or "no addresses", peer.peer, last, more]
    return "  ".join(part for part in parts if part) + _WAITING.get(peer.action, "")


def _foreign(report: AdoptReport) -> list[tuple[str, LivePeerReport]]:
    return [(one.interface, peer) for one in report.interfaces for peer in one.peers if peer.match is Match.FOREIGN]


def _accepted(report: AdoptReport) -> Iterator[Line]:
    yield "This node is adopted. From now on, wgsyncd removes peers without a row.", ""
    if any(peer.action is Action.WAITS for _, peer in _foreign(report)):
        yield "NOTHING WAS REMOVED: they are too many at once. `wgsyncd plan` shows the command that allows it.", "held"
    yield "To put peers back and to keep them: wgsyncd adopt --undo", ""


def _advice(report: AdoptReport, file: Path) -> Iterator[Line]:
    foreign = {peer.peer: f"{name} {','.join(peer.allowed_ips)}" for name, peer in _foreign(report)}
    if all(peer.action is Action.STAYS for _, peer in _foreign(report)):
        count = Counter(peer.action for one in report.interfaces for peer in one.peers)
        gone, waits = count[Action.REMOVED], count[Action.WAITS] + count[Action.BLOCKED]
        start = f"would remove {counted(gone, 'peer')} of rows that want none{f', {waits} would wait' if waits else ''}"
        if not gone and not waits:
            start = "would remove no peer: systemctl enable --now wgsyncd"
        yield f"Nothing was changed. A start {start}", ""
        if not report.adopted:
            yield "So that later peers without a row go as well: wgsyncd adopt --accept", ""
        return
    yield f"Nothing was changed. Under [peers] in {file}, name the peers that stay for good (links between sites):", ""
    yield from (("", ""), ("    always_keep = [", ""))
    for key in report.always_keep:
        yield f'        "{key}",  # {foreign.get(output.sanitize(key), "kept already")}', ""
    yield "    ]", ""
    yield "", ""
    stay = "The others stay, too, until you let wgsyncd remove them: wgsyncd adopt --accept"
    go = "wgsyncd removes the others. To put them back, and to keep them: wgsyncd adopt --undo"
    yield go if report.adopted else stay, ""
