"""One row by itself: the peer that it wants, or why it cannot be followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wgsyncd.core.model import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    DeviceRow,
    InvalidKey,
    PeerConfig,
    PublicKey,
    Status,
    decode_key,
)
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.reasons import NO_FACTS, KeyFault, Reason, RejectionFacts
from wgsyncd.core.records import config_digest


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """What the rows of one interface are held against."""

    interface: str  # the kernel's name
    store_name: str  # the store's name
    networks: tuple[Network, ...]
    own_hosts: frozenset[Network]
    persistent_keepalive: int = 0


@dataclass(frozen=True, slots=True)
class DesiredPeer:
    """A peer that a row wants; the row is sound by itself."""

    config: PeerConfig
    row: DeviceRow
    interface: str  # the kernel's name
    digest: bytes  # see config_digest

    @property
    def address(self) -> Network:
        """The one that the peer gets."""
        return self.config.allowed_ips[0]


class RowRejected(Exception):
    """The row cannot be followed."""

    def __init__(self, reason: Reason, facts: RejectionFacts = NO_FACTS) -> None:
        self.reason, self.facts = reason, facts


def validate_row(
    row: DeviceRow, key: PublicKey, sites: Mapping[str, InterfaceSpec], before: DesiredPeer | None = None
) -> DesiredPeer:
    """What it wants; ``key`` is its public key, ``sites`` are by the store's names. CannotBeFollowed where it is not
    sound. ``before``: what the
    row wanted as it was; a peer that is the same is kept once."""
    if row.status is Status.ISSUED and row.activation_deadline is None:
        raise RowRejected(Reason.NO_DEADLINE)
    site = sites.get(row.interface)
    if site is None:
        raise RowRejected(Reason.UNKNOWN_INTERFACE, RejectionFacts(row.interface[:15]))
    if key == bytes(KEY_BYTES):
        raise RowRejected(Reason.BAD_KEY, RejectionFacts(key_fault=KeyFault.ZERO))
    psk = NO_PRESHARED_KEY
    if row.preshared_key:
        try:
            psk = decode_key(row.preshared_key)
        except InvalidKey as error:
            facts = RejectionFacts(key_fault=error.fault, key_bytes=error.size)
            raise RowRejected(Reason.BAD_PRESHARED_KEY, facts) from None
        if psk == NO_PRESHARED_KEY:
            raise RowRejected(Reason.BAD_PRESHARED_KEY, RejectionFacts(key_fault=KeyFault.ZERO))
    try:
        address = parse_host(row.address)
    except ValueError:
        raise RowRejected(Reason.BAD_ADDRESS, RejectionFacts(row.address[:45])) from None
    if address in site.own_hosts:
        raise RowRejected(Reason.INTERFACE_ADDRESS, RejectionFacts(row.address, site.interface))
    if not any(net.covers(address) for net in site.networks):
        raise RowRejected(Reason.ADDRESS_OUTSIDE, RejectionFacts(row.address, site.interface))
    peer = PeerConfig(key, psk, (address,), site.persistent_keepalive)
    if before is not None and before.config == peer:
        return DesiredPeer(before.config, row, site.interface, before.digest)
    return DesiredPeer(peer, row, site.interface, config_digest(peer))
