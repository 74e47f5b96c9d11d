"""Updates the daemon's status from the outcome of a cycle."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.model import Change, ChangeKind, InterfaceState, PeerState, PublicKey, decode_key, encode_key
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.plan import Plan
from wgsyncd.core.words import counted
from wgsyncd.engine.interfaces import Actual
from wgsyncd.engine.last_dumps import LastDumps, note
from wgsyncd.engine.reports.plan import planned_change
from wgsyncd.engine.status import QUARTER, QUARTERS, DaemonStatus, InterfaceStatus, PeerStatus, Quarter
from wgsyncd.ports import Snapshot

ONLINE = 180  # seconds since the latest handshake (REJECT_AFTER_TIME, WireGuard paper). An older session is dead.


def is_recent(handshake: int, now: float) -> bool:
    """Whether a peer with this latest handshake (UNIX nanoseconds) is online. ``now``: UNIX seconds.

    A handshake in the future is not recent: the clock was set back since, and nobody knows how old the handshake is.
    """
    return abs(now - handshake / 1e9) < ONLINE


HELD = 200  # removals that wait are shown one by one up to this number


def update_from_reconcile(
    status: DaemonStatus,
    settings: Settings,
    decision: Decision,
    after: Actual,
    drift: Sequence[Change],
    snapshot: Snapshot,
    now: float,
) -> None:
    """Fill in what a complete reconcile shows. ``after``: the peers read back. ``now``: UNIX seconds."""
    before, dumps = status.interfaces, note(status.dumps, after, now)
    shown, status.peers_without_metrics = _series(settings, decision, after)
    status.interfaces = {
        name: _rated(_interface(name, after.get(name), decision, drift, shown.get(name, ()), now), name, dumps)
        for name in settings.interfaces
    }
    status.dumps = dumps
    _note_history(status, before, now)
    status.rows, status.terms, status.sealed = snapshot.rows, snapshot.terms, snapshot.sealed
    status.rejections = decision.desired.rejections
    status.pending = Counter(change.kind.value for change in drift)
    status.withheld = len(decision.plan.withheld)
    held = [*decision.plan.withheld, *decision.plan.blocked][:HELD]
    labels = Labels.of_rows(snapshot.rows if held else ())
    status.held = tuple(planned_change(one, decision, settings.node.zone, now, labels) for one in held)
    status.rejected = decision.desired.rejected_by_reason()
    if snapshot.conditions is not None:  # If the store cannot see its conditions, the last ones still hold.
        counts = Counter(one.type for one in snapshot.conditions)
        status.store_conditions = {**dict.fromkeys(status.store_conditions, 0), **counts}
    status.quarantined = snapshot.quarantined
    status.guard_tripped = decision.is_withholding
    status.plan_id = decision.plan_id if status.guard_tripped else ""
    status.waiting_for_adoption = 0
    if settings.peers.foreign == "remove" and not snapshot.adopted:
        foreign = (key for keys in decision.plan.foreign.values() for key in keys)
        status.waiting_for_adoption = sum(1 for key in foreign if key not in settings.peers.always_keep)
    status.reconciled = True


def update_from_devices(
    status: DaemonStatus, settings: Settings, plan: Plan, actual: Actual, after: Actual, now: float
) -> None:
    """Fill in what a reconcile of a few devices shows: what ``plan`` did, and peers of changed interfaces read back.

    Without this, the numbers of the last complete reconcile would stay for as long as the database is away.
    """
    changed = {one.interface for one in plan.changes}
    refresh(status, settings, {name: after[name] if name in after and name in changed else state
                               for name, state in actual.items()}, now)  # fmt: skip
    more = Counter(one.interface for one in plan.of(ChangeKind.ADD))
    more.subtract(one.interface for one in plan.of(ChangeKind.REMOVE))
    status.interfaces = {
        name: one if one.desired is None else replace(one, desired=one.desired + more[name])
        for name, one in status.interfaces.items()
    }


UNKNOWN = InterfaceStatus(present=False, desired=None)


def refresh(status: DaemonStatus, settings: Settings, actual: Actual, now: float) -> None:
    """Fill in what the actual peers alone show. ``now``: UNIX seconds.

    This keeps the status fresh between reconciles, also while the database does not answer.
    """
    status.dumps = dumps = note(status.dumps, actual, now)
    before = status.interfaces
    status.interfaces = {
        name: _rated(_refreshed(status.interfaces.get(name, UNKNOWN), actual.get(name), now), name, dumps)
        for name in settings.interfaces
    }
    _note_history(status, before, now)


def _note_history(status: DaemonStatus, before: Mapping[str, InterfaceStatus], now: float) -> None:
    """Add the bytes since the last look to the history. A sum that fell says nothing: a peer was removed."""
    quarter, kept = int(now) // QUARTER * QUARTER, dict(status.history)
    for name, one in status.interfaces.items():
        old, quarters = before.get(name), kept.get(name, ())
        if old is None or not (one.present and old.present and one.received >= old.received and one.sent >= old.sent):
            continue
        rx, tx = one.received - old.received, one.sent - old.sent
        if quarters and quarters[-1].start == quarter:
            quarters, rx, tx = quarters[:-1], quarters[-1].rx + rx, quarters[-1].tx + tx
        kept[name] = (
            *(past for past in quarters if quarter - QUARTERS * QUARTER < past.start < quarter),
            Quarter(quarter, rx, tx),
        )
    status.history = {name: quarters for name, quarters in kept.items() if name in status.interfaces}


def _rated(one: InterfaceStatus, name: str, dumps: LastDumps) -> InterfaceStatus:
    rates = dumps.rates_of(name)
    return replace(one, rx_rate=rates.rx, tx_rate=rates.tx)


def _observed(one: InterfaceStatus, state: InterfaceState, now: float) -> InterfaceStatus:
    """The same status with what a dump shows."""
    peers = state.peers.values()
    return replace(
        one,
        present=True,
        kind=state.kind,
        actual=len(peers),
        online=sum(1 for peer in peers if is_recent(peer.latest_handshake, now)),
        received=sum(peer.rx for peer in peers),
        sent=sum(peer.tx for peer in peers),
        latest_handshake=max((peer.latest_handshake for peer in peers), default=0) / 1e9,
    )


def _refreshed(one: InterfaceStatus, state: InterfaceState | None, now: float) -> InterfaceStatus:
    if state is None:
        return InterfaceStatus(present=False, desired=one.desired)
    found = [(shown, state.peers.get(PublicKey(decode_key(shown.public_key)))) for shown in one.peers]
    peers = tuple(_moved(shown, peer) for shown, peer in found if peer is not None)
    return replace(_observed(one, state, now), peers=peers)


def _moved(shown: PeerStatus, found: PeerState) -> PeerStatus:
    return replace(shown, counters=found.counters, latest_handshake=found.latest_handshake / 1e9)


def _series(settings: Settings, decision: Decision, after: Actual) -> tuple[Mapping[str, tuple[PeerStatus, ...]], int]:
    """The peers that get series of their own, by interface, and the number of peers beyond the limit.

    The oldest rows come first. So a new peer never takes the place of an older one, whose series would then have a gap.
    """
    if not settings.metrics.per_peer:
        return {}, 0
    wants = decision.desired.peers
    peers = [(name, key, wants.get(name, {}).get(key)) for name, state in after.items() for key in state.peers]
    peers.sort(key=lambda one: (one[2] is None, one[2].row.id if one[2] else 0, one[0], one[1]))
    shown: dict[str, list[PeerStatus]] = {}
    for name, key, want in peers[: settings.metrics.per_peer_limit]:
        found = after[name].peers[key]
        addresses = ",".join(sorted(map(str, found.config.allowed_ips)))
        device = want.row.device if want else ""
        one = PeerStatus(encode_key(key), addresses, device, found.counters, found.latest_handshake / 1e9)
        shown.setdefault(name, []).append(one)
    beyond = max(0, len(peers) - settings.metrics.per_peer_limit)
    return {name: tuple(ones) for name, ones in shown.items()}, beyond


def _interface(
    name: str,
    state: InterfaceState | None,
    decision: Decision,
    drift: Sequence[Change],
    shown: tuple[PeerStatus, ...],
    now: float,
) -> InterfaceStatus:
    one = InterfaceStatus(present=False, desired=len(decision.desired.peers.get(name, {})))
    if state is None:
        return one

    def removals(changes: Sequence[Change]) -> int:
        return sum(1 for c in changes if c.interface == name and c.kind is ChangeKind.REMOVE)

    return replace(
        _observed(one, state, now),
        frozen=len(decision.desired.frozen.get(name, ())),
        foreign=sum(1 for key in decision.plan.foreign.get(name, ()) if key in state.peers),
        withheld=removals(decision.plan.withheld),
        blocked=removals(decision.plan.blocked),
        drift=sum(1 for c in drift if c.interface == name),
        change=decision.identity_changes.get(name),
        peers=shown,
    )


def summary_line(status: DaemonStatus) -> str:
    """One line for `systemctl status`."""
    parts = [
        f"{name}: {counted(one.actual, 'peer')}, {one.online} online"
        if one.present
        else status.interface_errors[name].text
        if name in status.interface_errors
        else f"{name}: cannot be read"
        for name, one in status.interfaces.items()
    ]
    if status.is_active is False:
        parts.insert(0, "standby")
    if not status.database_up:
        parts.insert(0, f"database does not serve ({status.database_error})")
    if status.guard_tripped:
        held = sum(one.withheld for one in status.interfaces.values())
        parts.insert(0, f"NOTHING REMOVED: the guard keeps {counted(held, 'peer')} (wgsyncd plan)")
    if status.policies is not None and status.policies.withheld:
        parts.insert(
            0,
            f"NO ACCESS TAKEN AWAY: kept for {counted(status.policies.withheld, 'device')} (wgsyncd plan)",
        )
    if status.plane_errors:
        parts.insert(0, f"{', '.join(status.plane_errors)} not enforced: no peer gets an address (wgsyncd status)")
    rejected = sum(status.rejected.values())
    if rejected:
        parts.append(f"{counted(rejected, 'row')} rejected")
    if status.waiting_for_adoption:
        parts.append(
            f"{counted(status.waiting_for_adoption, 'foreign peer stays', 'foreign peers stay')} (wgsyncd adopt)"
        )
    if status.quarantined:
        parts.append(f"{status.quarantined} in quarantine (wgsyncd quarantine)")
    findings = sum(status.findings.values())
    if findings:
        parts.append(f"{counted(findings, 'discrepancy', 'discrepancies')} (wgsyncd verify)")
    if not status.config_ok:
        parts.append("new configuration refused")
    return "; ".join(parts) or "starting"
