"""One row by itself: the peer that it wants, or why it cannot be followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wgsyncd.core.model import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    DeviceRow,
    PeerConfig,
    PublicKey,
    Reason,
    Status,
    decode_key,
)
from wgsyncd.core.network import Network, parse_host
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
    """The row cannot be. ``detail`` is for people and holds no key."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason, self.detail = reason, detail


def validate_row(
    row: DeviceRow, key: PublicKey, sites: Mapping[str, InterfaceSpec], before: DesiredPeer | None = None
) -> DesiredPeer:
    """What it wants; ``key`` is its public key, ``sites`` are by the store's names. CannotBeFollowed where it is not
    sound. Its texts may hold anything, so a detail quotes none but the address and the interface. ``before``: what the
    row wanted as it was; a peer that is the same is kept once."""
    if row.status is Status.ISSUED and row.activation_deadline is None:
        raise RowRejected(Reason.NO_QR_END, "issued, but it has neither qr_expires_at, issued_at nor created_at")
    site = sites.get(row.interface)
    if site is None:
        raise RowRejected(Reason.UNKNOWN_INTERFACE, f"wg_iface {row.interface[:15]!r} is not configured")
    if key == bytes(KEY_BYTES):
        raise RowRejected(Reason.BAD_KEY, "public_key is all zeros")
    psk = NO_PRESHARED_KEY
    if row.preshared_key:
        try:
            psk = decode_key(row.preshared_key)
        except ValueError as error:
            raise RowRejected(Reason.BAD_PRESHARED_KEY, f"preshared_key {error}") from None
        if psk == NO_PRESHARED_KEY:
            raise RowRejected(Reason.BAD_PRESHARED_KEY, "preshared_key is all zeros, which would mean none")
    try:
        address = parse_host(row.address)
    except ValueError:
        raise RowRejected(Reason.BAD_ADDRESS, f"wg_ip {row.address[:45]!r} is not a host address") from None
    if address in site.own_hosts:
        raise RowRejected(Reason.INTERFACE_ADDRESS, f"wg_ip {row.address} is {site.interface}'s own")
    if not any(net.covers(address) for net in site.networks):
        raise RowRejected(Reason.ADDRESS_OUTSIDE, f"wg_ip {row.address} is outside the networks of {site.interface}")
    peer = PeerConfig(key, psk, (address,), site.persistent_keepalive)
    if before is not None and before.config == peer:
        return DesiredPeer(before.config, row, site.interface, before.digest)
    return DesiredPeer(peer, row, site.interface, config_digest(peer))
