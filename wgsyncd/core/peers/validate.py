"""Validation of one row by itself: the peer that the row asks for, or why the row is rejected."""

from collections.abc import Mapping
from dataclasses import dataclass

from wgsyncd.core.model import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    DeviceRow,
    InterfaceState,
    InvalidKey,
    PeerConfig,
    PublicKey,
    Status,
    decode_key,
)
from wgsyncd.core.network import Network, as_networks, parse_host
from wgsyncd.core.reasons import NO_FACTS, KeyFault, Reason, RejectionFacts
from wgsyncd.core.records import config_digest
from wgsyncd.core.values import peer_value

# A text in the wrong column may be a secret, or a part of one. So facts hold no more of a text than a valid one has.
NAME_LENGTH = 15  # characters of an interface's name (IFNAMSIZ - 1, linux/if.h)
ADDRESS_LENGTH = 45  # characters of an IPv6 address (INET6_ADDRSTRLEN - 1, netinet/in.h)


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """The settings of one interface that its rows are validated against."""

    interface: str  # the kernel's name of the interface
    store_name: str  # the store's name of the interface
    networks: tuple[Network, ...]  # every address of a peer has to be in one of these
    own_hosts: frozenset[Network]  # the addresses of the interface itself
    persistent_keepalive: int = 0  # seconds, 0 = off


@peer_value(frozen=True, slots=True)
class DesiredPeer:
    """A peer that a row asks for. The row is valid by itself, but it may conflict with other rows."""

    config: PeerConfig
    row: DeviceRow
    interface: str  # the kernel's name of the interface
    digest: bytes  # the result of `config_digest` for ``config``


class RowRejected(Exception):
    """The row asks for a peer but is invalid, for ``reason``."""

    def __init__(self, reason: Reason, facts: RejectionFacts = NO_FACTS) -> None:
        self.reason, self.facts = reason, facts


def validate_row(
    row: DeviceRow, key: PublicKey, specs: Mapping[str, InterfaceSpec], before: DesiredPeer | None = None
) -> DesiredPeer:
    """The peer that ``row`` asks for. Raises RowRejected if the row is invalid.

    ``key``: the public key of the row. ``specs``: the interfaces by the store's names. ``before``: the peer that the
    row asked for earlier. If its configuration is equal, the result uses the same object, to save memory.
    """
    if row.fault is not None:
        raise RowRejected(row.fault, row.fault_facts)
    if row.status is Status.UNKNOWN:
        raise RowRejected(Reason.UNKNOWN_STATUS)
    if row.status is Status.ISSUED and row.activation_deadline is None:
        raise RowRejected(Reason.NO_DEADLINE)
    spec = specs.get(row.interface)
    if spec is None:
        raise RowRejected(Reason.UNKNOWN_INTERFACE, RejectionFacts(row.interface[:NAME_LENGTH]))
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
    hosts = as_networks(_host(text, spec) for text in row.addresses)
    if not hosts:
        raise RowRejected(Reason.BAD_ADDRESS)
    peer = PeerConfig(key, psk, hosts, spec.persistent_keepalive)
    if before is not None and before.config == peer:
        return DesiredPeer(before.config, row, spec.interface, before.digest)
    return DesiredPeer(peer, row, spec.interface, config_digest(peer))


def _host(text: str, spec: InterfaceSpec) -> Network:
    """One address of a row. Raises RowRejected if no peer of the interface may have the address."""
    try:
        address = parse_host(text)
    except ValueError:
        raise RowRejected(Reason.BAD_ADDRESS, RejectionFacts(text[:ADDRESS_LENGTH])) from None
    if address in spec.own_hosts:
        raise RowRejected(Reason.INTERFACE_ADDRESS, RejectionFacts(text, spec.interface))
    if not any(net.covers(address) for net in spec.networks):
        raise RowRejected(Reason.ADDRESS_OUTSIDE, RejectionFacts(text, spec.interface))
    return address


def as_found(claim: DesiredPeer, actual: Mapping[str, InterfaceState]) -> DesiredPeer:
    """The claim, with the dump's configuration object if the actual peer is as desired.

    Memory then holds the configuration once, and later comparisons only compare the identity of the objects.
    """
    peers = actual[claim.interface].peers if claim.interface in actual else {}
    found = peers.get(claim.config.public_key)
    if found is None or found.config is claim.config or found.config != claim.config:
        return claim
    return DesiredPeer(found.config, claim.row, claim.interface, claim.digest)  # `replace` takes five times as long
