"""A cycle's outcome as the daemon's own picture of its health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wgsyncd.core.model import Change, InterfaceState, Kind, PeerState, encode_key
from wgsyncd.core.outlook import Outlook
from wgsyncd.health import Health, InterfaceHealth, PeerHealth
from wgsyncd.interfaces import Live
from wgsyncd.ports import Snapshot
from wgsyncd.settings import Settings

ONLINE = 180  # seconds since the latest handshake: REJECT_AFTER_TIME of the WireGuard paper; a session older is dead


def draw(
    health: Health,
    settings: Settings,
    outlook: Outlook,
    after: Live,
    drift: Sequence[Change],
    snapshot: Snapshot,
    now: float,
) -> None:
    """Fill in what a complete reconcile shows; ``after`` are the dumps after apply."""
    health.interfaces = {
        name: _interface(name, after.get(name), settings, outlook, drift, now) for name in settings.interfaces
    }
    health.rejected = outlook.desired.rejected_by_reason()
    if snapshot.conflicts is not None:  # else they stand as they were
        health.parent_conflicts = len(snapshot.conflicts)
    health.quarantined = snapshot.quarantined
    health.guard_tripped = outlook.withholds
    health.plan_id = outlook.plan_id if health.guard_tripped else ""
    health.reconciled = True


def recount(health: Health, live: Live, now: float) -> None:
    """Between reconciles: who is online and the sums of the counters."""
    health.interfaces = {
        name: _recounted(one, live[name], now) if name in live else one for name, one in health.interfaces.items()
    }


def _online(peers: Sequence[PeerState], now: float) -> int:
    return sum(1 for peer in peers if now - peer.latest_handshake / 1e9 < ONLINE)


def _recounted(one: InterfaceHealth, state: InterfaceState, now: float) -> InterfaceHealth:
    peers = tuple(state.peers.values())
    return replace(
        one,
        online=_online(peers, now),
        received=sum(peer.counters.rx for peer in peers),
        sent=sum(peer.counters.tx for peer in peers),
    )


def _interface(
    name: str,
    state: InterfaceState | None,
    settings: Settings,
    outlook: Outlook,
    drift: Sequence[Change],
    now: float,
) -> InterfaceHealth:
    wants = outlook.desired.peers.get(name, {})
    if state is None:
        return InterfaceHealth(present=False, desired=len(wants))
    peers = tuple(state.peers.values())
    held = [c for c in outlook.plan.withheld if c.interface == name and c.kind is Kind.REMOVE]
    shown: tuple[PeerHealth, ...] = ()
    if settings.metrics.per_peer:
        shown = tuple(
            PeerHealth(
                encode_key(key),
                ",".join(sorted(map(str, found.peer.allowed_ips))),
                wants[key].row.device if key in wants else "",
                found.counters,
                found.latest_handshake / 1e9,
            )
            for key, found in state.peers.items()
        )
    return InterfaceHealth(
        present=True,
        kind=state.kind,
        desired=len(wants),
        actual=len(peers),
        online=_online(peers, now),
        frozen=len(outlook.desired.frozen.get(name, ())),
        foreign=len([key for key in outlook.plan.foreign.get(name, ()) if key in state.peers]),
        withheld=len(held),
        unclear=sum(1 for c in outlook.plan.unclear if c.interface == name and c.kind is Kind.REMOVE),
        drift=sum(1 for c in drift if c.interface == name),
        received=sum(peer.counters.rx for peer in peers),
        sent=sum(peer.counters.tx for peer in peers),
        peers=shown,
    )


def in_one_line(health: Health) -> str:
    """One line for `systemctl status`."""
    parts = [
        f"{name}: {one.actual} peers, {one.online} online" if one.present else f"{name}: missing"
        for name, one in health.interfaces.items()
    ]
    if not health.database_up:
        parts.insert(0, f"database away ({health.database_error})")
    if health.guard_tripped:
        held = sum(one.withheld for one in health.interfaces.values())
        parts.insert(0, f"GUARD withholds {held} removals (wgsyncd approve {health.plan_id})")
    rejected = sum(health.rejected.values())
    if rejected:
        parts.append(f"{rejected} rows rejected")
    if health.quarantined:
        parts.append(f"{health.quarantined} in quarantine (wgsyncd quarantine)")
    findings = sum(health.findings.values())
    if findings:
        parts.append(f"does not add up: {findings} (wgsyncd verify)")
    if not health.config_ok:
        parts.append("new configuration refused")
    return "; ".join(parts) or "starting"
