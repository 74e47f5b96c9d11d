"""The document of `wgsyncd adopt --json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.cli.output import sanitize
from wgsyncd.core.inspect.adopt import Adoption, LivePeer, Match
from wgsyncd.core.model import PublicKey, encode_key, fingerprint
from wgsyncd.engine import wording
from wgsyncd.engine.inspector import Preview


class CountersReport(Struct, frozen=True, kw_only=True):
    """Bytes as the server has them."""

    rx: int
    tx: int


class LivePeerReport(Struct, frozen=True, kw_only=True):
    """One live peer, and what a start does to it."""

    peer: str  # the key's fingerprint
    device: str | None
    match: str
    action: str
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
    counters_booked: int
    counters_started_from: int


class AdoptReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd adopt --json`."""

    interfaces: list[AdoptedInterface]
    interface_errors: dict[str, str]
    rejected: int
    always_keep: list[str]  # public keys, for the configuration


def adopt_report(
    view: Preview, found: Mapping[str, Adoption], keep: Sequence[PublicKey], zone: ZoneInfo
) -> AdoptReport:
    """The report of what a first start does."""
    return AdoptReport(
        interfaces=[
            AdoptedInterface(
                interface=name,
                kind=view.decision.actual[name].kind,
                peers=[_peer(one, zone) for one in of.peers],
                missing=[sanitize(change.device) for change in of.missing],
                counters_booked=of.booked,
                counters_started_from=of.started,
            )
            for name, of in found.items()
        ],
        interface_errors={name: sanitize(why) for name, why in view.decision.interface_errors.items()},
        rejected=len(view.decision.desired.rejections),
        always_keep=[encode_key(key) for key in keep],
    )


def keys_to_keep(kept: Iterable[PublicKey], found: Mapping[str, Adoption]) -> list[PublicKey]:
    """The keys that `peers.always_keep` must name to keep every foreign peer. ``kept`` are those that it names now."""
    foreign = [one.found.config.public_key for of in found.values() for one in of.of(Match.FOREIGN)]
    return list(dict.fromkeys([*kept, *foreign]))


def _peer(one: LivePeer, zone: ZoneInfo) -> LivePeerReport:
    state = one.found
    seen = state.latest_handshake // 10**9
    return LivePeerReport(
        peer=fingerprint(state.config.public_key),
        device=sanitize(one.device) or None,
        match=one.match.value,
        action=one.action.value,
        reason=sanitize(wording.change(one.change)) if one.change else None,
        allowed_ips=sorted(map(str, state.config.allowed_ips)),
        endpoint=state.endpoint,
        latest_handshake=datetime.fromtimestamp(seen, zone).isoformat() if seen else None,
        counters=CountersReport(rx=state.counters.rx, tx=state.counters.tx),
    )
