"""Makes rows, keys, peers and dumps for tests, each from a small number."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    DeviceRow,
    InterfaceState,
    PeerConfig,
    PeerState,
    PublicKey,
    RowKey,
    Status,
    encode_key,
)
from wgsyncd.core.network import Networks, as_networks, parse_host, parse_network
from wgsyncd.core.peers.desired import Desired, PeerPolicy, build_desired
from wgsyncd.core.peers.plan import Plan, make_plan
from wgsyncd.core.peers.validate import InterfaceSpec
from wgsyncd.core.reasons import Inactive, InactiveReason
from wgsyncd.core.records import PeerRecord, PeerRecords, RecordState, config_digest
from wgsyncd.core.state import WriteBatch
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.ports import Spool
from wgsyncd.stores.spool import decode, encode

DELETED = (InactiveReason(Inactive.DEVICE_INACTIVE, "deleted"),)
NO_OWNER = (InactiveReason(Inactive.OWNER_MISSING, "", "0001", "contract"),)
TOKYO = ZoneInfo("Asia/Tokyo")
NOW = 1_790_000_000.0  # 2026-09-21 23:13:20 in Tokyo
EPOCH = "boot-a:3"
NETWORKS = {"wg0": "10.200.0.0/24", "wg1": "10.251.0.0/24"}
NETWORKS6 = {"wg0": "fd00:200::/64", "wg1": "fd00:251::/64"}  # for devices with two addresses
SITES = tuple(
    InterfaceSpec(name, name, (parse_network(net),), frozenset((parse_host(net.replace("0/24", "1")),)))
    for name, net in NETWORKS.items()
)
POLICY = PeerPolicy()


def key(number: int) -> PublicKey:
    """The public key with this number: 32 bytes."""
    return PublicKey(hashlib.sha256(f"key {number}".encode()).digest())


def text(number: int) -> str:
    """The public key with this number in base64, as a row has it."""
    return encode_key(key(number))


def device_name(row_id: Any) -> str:
    """The name of the device with this number, or with the UUID that tests/usersstore makes of the number."""
    return f"0001-DEV-{row_id.int >> 96 if isinstance(row_id, UUID) else row_id:03}"


def psk(number: int) -> bytes:
    return hashlib.sha256(f"psk {number}".encode()).digest()


def address(number: int, interface: str = "wg0") -> str:
    return NETWORKS[interface].replace("0/24", str(number))


def owner(state: str) -> tuple[InactiveReason, ...]:
    """The reasons of a device whose contract has the status ``state``."""
    return (InactiveReason(Inactive.OWNER_INACTIVE, state, "0001", "contract"),)


def row(number: int, **changes: Any) -> DeviceRow:
    """An active row with key ``number`` and address ``number`` (2 to 254) on wg0. ``address``: its only address."""
    if "address" in changes:
        changes["addresses"] = (changes.pop("address"),)
    interface = changes.get("interface", "wg0")
    plain = DeviceRow(
        id=number,
        device=device_name(number),
        owner="0001",
        interface=interface,
        addresses=(address(number, interface if interface in NETWORKS else "wg0"),),
        public_key=text(number),
        preshared_key=None,
        status=Status.ACTIVE,
        status_text="active",
        first_handshake_known=True,
    )
    return replace(plain, **changes)


def issued(number: int, activation_deadline: float | None, **changes: Any) -> DeviceRow:
    """A row whose QR code nobody has scanned yet. ``activation_deadline``: UNIX seconds."""
    return row(
        number,
        status=Status.ISSUED,
        status_text="issued",
        activation_deadline=activation_deadline,
        first_handshake_known=False,
        **changes,
    )


def nets(*texts: str) -> Networks:
    return as_networks(map(parse_network, texts))


def peer(number: int, *addresses: str, preshared_key: bytes = NO_PRESHARED_KEY, keepalive: int = 0) -> PeerConfig:
    """A peer with key ``number``, by default with address ``number`` on wg0."""
    return PeerConfig(key(number), preshared_key, nets(*(addresses or (address(number),))), keepalive)


def state(one: PeerConfig, rx: int = 0, tx: int = 0, handshake: int = 0) -> PeerState:
    return PeerState(one, rx, tx, handshake)


def dump(
    *peers: PeerConfig | PeerState, name: str = "wg0", epoch: str = EPOCH, own: int | None = None
) -> InterfaceState:
    states = [one if isinstance(one, PeerState) else state(one) for one in peers]
    own_key = key(own) if own is not None else None
    return InterfaceState(name, epoch, own_key, 51820, {one.config.public_key: one for one in states})


def actual(*dumps: InterfaceState) -> dict[str, InterfaceState]:
    return {one.name: one for one in dumps}


def record(number: int, one: PeerConfig | None = None, **changes: Any) -> PeerRecord:
    """The record of the peer with key ``number`` of row ``number``. ``counters``: a pair for rx and tx."""
    one = one or peer(number)
    if "counters" in changes:
        changes["rx"], changes["tx"] = changes.pop("counters")
    plain = PeerRecord(
        "wg0", key(number), number, device_name(number), "0001", ",".join(sorted(map(str, one.allowed_ips))),
        config_digest(one), RecordState.PRESENT, EPOCH, 0, 0, 0, NOW - 15,
    )  # fmt: skip
    return replace(plain, **changes)


def records(*some: PeerRecord) -> PeerRecords:
    return PeerRecords(some)


def wants(
    rows: Iterable[DeviceRow],
    kernel: Mapping[str, InterfaceState] | None = None,
    *,
    policy: PeerPolicy = POLICY,
    sites: Iterable[InterfaceSpec] = SITES,
    now: float = NOW,
) -> Desired:
    return build_desired(rows, sites, policy, kernel if kernel is not None else actual(dump(), dump(name="wg1")), now)


def planned(
    rows: Iterable[DeviceRow],
    kernel: Mapping[str, InterfaceState],
    known: PeerRecords | None = None,
    *,
    policy: PeerPolicy = POLICY,
    now: float = NOW,
) -> Plan:
    return make_plan(wants(rows, kernel, policy=policy, now=now), kernel, known or PeerRecords(), policy)


def with_last(parts: Generator[WriteBatch, None, WriteBatch]) -> Iterable[WriteBatch]:
    """All batches, also the one that is returned."""
    yield (yield from parts)


def calendar(now: float = NOW, zone: ZoneInfo = TOKYO, width: int = 900) -> UsageCalendar:
    return UsageCalendar(now, width, zone)


def loose_base64(raw: bytes) -> str:
    """Base64 of the bytes that only lenient decoders accept: unused bits of the last character are set."""
    good = base64.b64encode(raw).decode()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return good[:-2] + alphabet[alphabet.index(good[-2]) + 1] + "="


def waiting(spool: Spool, *rx: int) -> Backlog:
    """A backlog with one sample for each number, of the peer with that number and as many bytes received."""
    made = spool.begin()
    for number in rx:
        made = made.append(dump(state(peer(number), number, 1, 9)), NOW, NOW + number, "2026-09-21", None)
    return made


def as_kept(one: Backlog) -> Backlog:
    """The backlog as a spool file keeps it: without addresses and secrets."""
    return decode(encode(one, "r640"), "r640")


_NUMBERS: dict[RowKey, int] = {form: n for n in range(2000) for form in (text(n), key(n))}
_SECRETS: dict[RowKey, bytes] = {form: psk(n) for n in range(20) for form in (encode_key(psk(n)), psk(n))}


def key_number(public_key: RowKey) -> int:
    return _NUMBERS[public_key]


def psk_of(written: RowKey) -> bytes:
    return _SECRETS[written] if written else NO_PRESHARED_KEY
