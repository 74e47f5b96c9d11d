"""One row by itself: the peer that it wants, or why it cannot be followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wgsyncd.core.model import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    Peer,
    PublicKey,
    Reason,
    Row,
    Status,
    decode_key,
)
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.records import config_digest


@dataclass(frozen=True, slots=True)
class Site:
    """What the rows of one interface are held against."""

    interface: str  # the kernel's name
    rows: str  # the store's name
    networks: tuple[Network, ...]
    own_hosts: frozenset[Network]
    persistent_keepalive: int = 0


@dataclass(frozen=True, slots=True)
class Want:
    """A peer that a row wants; the row is sound by itself."""

    peer: Peer
    row: Row
    interface: str  # the kernel's name
    digest: bytes  # see config_digest

    @property
    def address(self) -> Network:
        """The one that the peer gets."""
        return self.peer.allowed_ips[0]


class CannotBeFollowed(Exception):
    """The row cannot be. ``detail`` is for people and holds no key."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason, self.detail = reason, detail


def read_row(row: Row, key: PublicKey, sites: Mapping[str, Site], before: Want | None = None) -> Want:
    """What it wants; ``key`` is its public key, ``sites`` are by the store's names. CannotBeFollowed where it is not
    sound. Its texts may hold anything, so a detail quotes none but the address and the interface. ``before``: what the
    row wanted as it was; a peer that is the same is kept once."""
    if row.status is Status.ISSUED and row.qr_end is None:
        raise CannotBeFollowed(Reason.NO_QR_END, "issued, but it has neither qr_expires_at, issued_at nor created_at")
    site = sites.get(row.interface)
    if site is None:
        raise CannotBeFollowed(Reason.UNKNOWN_INTERFACE, f"wg_iface {row.interface[:15]!r} is not configured")
    if key == bytes(KEY_BYTES):
        raise CannotBeFollowed(Reason.BAD_KEY, "public_key is all zeros")
    psk = NO_PRESHARED_KEY
    if row.preshared_key:
        try:
            psk = decode_key(row.preshared_key)
        except ValueError as error:
            raise CannotBeFollowed(Reason.BAD_PRESHARED_KEY, f"preshared_key {error}") from None
        if psk == NO_PRESHARED_KEY:
            raise CannotBeFollowed(Reason.BAD_PRESHARED_KEY, "preshared_key is all zeros, which would mean none")
    try:
        address = parse_host(row.address)
    except ValueError:
        raise CannotBeFollowed(Reason.BAD_ADDRESS, f"wg_ip {row.address[:45]!r} is not a host address") from None
    if address in site.own_hosts:
        raise CannotBeFollowed(Reason.INTERFACE_ADDRESS, f"wg_ip {row.address} is {site.interface}'s own")
    if not any(net.covers(address) for net in site.networks):
        raise CannotBeFollowed(
            Reason.ADDRESS_OUTSIDE, f"wg_ip {row.address} is outside the networks of {site.interface}"
        )
    peer = Peer(key, psk, (address,), site.persistent_keepalive)
    if before is not None and before.peer == peer:
        return Want(before.peer, row, site.interface, before.digest)
    return Want(peer, row, site.interface, config_digest(peer))
