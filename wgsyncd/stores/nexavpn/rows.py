"""Reads the rows of devices as texts, and decodes only the devices that changed since the last time.

A row is one text. To read each column as a value would cost more, because the driver handles each value in Python.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from wgsyncd.config.schema import Interface
from wgsyncd.core.inspect.names import called
from wgsyncd.core.model import DeviceId, DeviceRow, read_key
from wgsyncd.core.network import Network, parse_network
from wgsyncd.core.policies.model import GatewayRow
from wgsyncd.core.state import Condition
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.eligibility import PeerRow, Requirements, device_rows, unallocated

_SEPARATOR = "\x1f"  # the "unit separator" of ASCII. Texts of rows lose it
_MOST = 256  # characters of a text that are read. A longer text is no name, key or envelope


def text_of(column: str) -> str:
    """SQL for a text without the separator, "" for NULL. A text that is cut off ends in a character that spoils it."""
    return (
        f"concat(replace(CASE WHEN length({column}) > {_MOST} THEN left({column}, {_MOST}) || '…' ELSE {column} END,"
        " chr(31), '?'))"
    )


# concat() makes "" of NULL, also where the application may have let a column be NULL. concat_ws() would leave it out.
_ROWS = f"""
SELECT concat_ws(chr(31), p.device_id, p.id, p.gateway_id,
    concat(to_char(extract(epoch FROM p.created_at), 'FM00000000000000.000000')),
    {text_of("p.public_key")}, concat(p.assigned_ip), {text_of("p.preshared_key_ciphertext")},
    {text_of("d.public_key")}, concat(d.gateway_id), {text_of("d.status")},
    {text_of("u.username")}, {text_of("d.name")}, concat(a.device_id),
    concat((p.deleted_at IS NOT NULL)::int, (d.deleted_at IS NOT NULL)::int, (d.revoked_at IS NOT NULL)::int,
           (d.approved_at IS NOT NULL)::int, (u.id IS NULL)::int, (u.id IS NULL OR u.is_active IS TRUE)::int,
           (u.deleted_at IS NOT NULL)::int, (g.is_active IS TRUE)::int, (g.deleted_at IS NOT NULL)::int,
           (t.device IS NULL)::int))
FROM wgsyncd.wireguard_peers p
JOIN wgsyncd.devices d ON d.id = p.device_id
JOIN wgsyncd.gateways g ON g.id = p.gateway_id
LEFT JOIN wgsyncd.users u ON u.id = d.user_id
LEFT JOIN wgsyncd.ip_allocations a ON a.gateway_id = p.gateway_id AND host(a.address) = host(p.assigned_ip)
    AND a.status = 'allocated' AND a.released_at IS NULL
LEFT JOIN wgsyncd.totals t ON t.node = %s AND t.device = p.device_id
"""  # noqa: S608
# No rows if another device at the same gateways has one of the addresses: then these devices cannot be planned alone.
# One statement sees one moment, and costs one round trip.
_SOME = f"""
{_ROWS}
WHERE p.device_id = ANY(%s) AND NOT EXISTS (
    SELECT FROM wgsyncd.wireguard_peers o JOIN wgsyncd.wireguard_peers one ON one.device_id = ANY(%s)
        AND one.gateway_id = o.gateway_id AND host(one.assigned_ip) = host(o.assigned_ip)
    WHERE o.device_id <> ALL(%s) AND o.deleted_at IS NULL)
"""


_GATEWAYS = f"""
SELECT id::text, name, {text_of("public_key")}, listen_port, vpn_cidr::text FROM wgsyncd.gateways ORDER BY id
"""  # noqa: S608


class _Known(NamedTuple):
    """What was decoded from the texts of one device."""

    digest: int | None  # of its text. None: it has several texts, and is decoded each time
    row: DeviceRow
    others: tuple[DeviceRow, ...]  # of other gateways
    conditions: tuple[Condition, ...]

    @property
    def rows(self) -> tuple[DeviceRow, ...]:
        return (self.row, *self.others)


class Gateways(NamedTuple):
    """The gateways that this node sees."""

    store_names: Mapping[str, str]  # by the gateway's id: the store's name of the interface, else the gateway's name
    of_interface: Mapping[str, str]  # by the kernel's name of the interface: the gateway's id
    rows: Mapping[str, GatewayRow] = MappingProxyType({})  # by the same name

    def of_node(self) -> str:
        """The id of the gateway that stands for the node as a whole."""
        return next(iter(self.of_interface.values()))


def load_gateways(connection: Connection, interfaces: Mapping[str, Interface]) -> Gateways:
    """The gateways. StoreError if an interface's gateway is not to be seen: an empty answer would remove its peers."""
    found: dict[str, str] = {}
    rows: dict[str, GatewayRow] = {}
    for one, its_name, public_key, port, network in connection.query(_GATEWAYS):
        found[one], rows[one] = its_name, GatewayRow(read_key(public_key), port, read_vpn_cidr(network))
    by_name = {name: one for one, name in found.items()}
    of_interface: dict[str, str] = {}
    for interface, settings in interfaces.items():
        name = settings.store_name
        gateway = by_name.get(name) or (name.lower() if name.lower() in found else None)
        if gateway is None:
            raise StoreError(
                f"gateway {name} of interface {interface} is not to be seen. Does it exist, and is it entered for this"
                " node's role?",
                todo="wgsyncd doctor",
            )
        of_interface[interface] = gateway
        found[gateway] = name
    return Gateways(found, of_interface, {name: rows[one] for name, one in of_interface.items()})


def read_vpn_cidr(text: str | None) -> Network | None:
    """The network of a vpn_cidr. None if it limits nothing."""
    try:  # NULL is no network
        network = parse_network(text or "")
    except ValueError:
        return None
    return network if network.prefixlen else None


def count_sealed(connection: Connection, key_ids: Iterable[str]) -> dict[str, int]:
    """How many rows have a preshared key that a key has sealed, by the key's id. Devices without a peer count, too."""
    if not (ids := list(key_ids)):
        return {}
    sql = """SELECT split_part(preshared_key_ciphertext, ':', 2), count(*) FROM wgsyncd.wireguard_peers
             WHERE deleted_at IS NULL AND split_part(preshared_key_ciphertext, ':', 2) = ANY(%s) GROUP BY 1"""
    return {**dict.fromkeys(ids, 0), **dict(connection.query(sql, (ids,), often=True))}


class RowCache:
    """Reads device rows, and keeps them for the next time."""

    def __init__(self, node: str, required: Requirements) -> None:
        self._node, self._required = node, required
        self._known: dict[str, _Known] = {}
        self._gone: dict[str, _Known] = {}  # which the last load did not find any more

    def load(self, connection: Connection, gateways: Gateways) -> tuple[tuple[DeviceRow, ...], frozenset[Condition]]:
        """Every row in the order of ids, with the store's own conditions. No rows is an answer."""
        required = self._required._replace(gateways=gateways.store_names)
        before = self._known if self._required.gateways == gateways.store_names else {}
        self._required = required
        known: dict[str, _Known] = {}
        by_device: dict[str, tuple[str, ...]] = {}
        has_lost = False
        for (text,) in connection.stream(_ROWS, (self._node,)):
            device = _device_of(text)
            if device in known:
                has_lost = True  # a device has a further row now, and the text of its first row was not kept
            elif device not in by_device and device in before and before[device].digest == hash(text):
                known[before[device].row.device] = before[device]
            else:
                _add(by_device, text)
        if has_lost:
            self._known = {}
            return self.load(connection, gateways)
        while by_device:  # a text is free as soon as it is decoded: all together take 5 MiB with 10,000 devices
            one = _decode(by_device.popitem()[1], required)
            known[one.row.device] = one  # the row's own text: another one would take 1 MiB
        self._gone = {device: one for device, one in before.items() if device not in known}
        self._known = {device: known[device] for device in sorted(known)}
        rows = tuple(row for one in self._known.values() for row in one.rows)
        return rows, frozenset(condition for one in self._known.values() for condition in one.conditions)

    def called(self, device: str) -> str:
        """What people call a device that was read last, or that has just gone. "" for any other."""
        one = self._known.get(device) or self._gone.get(device)
        return called(one.row.name, one.row.owner) if one is not None else ""

    def by_id(self) -> dict[DeviceId, DeviceRow]:
        """The rows that the last :meth:`load` kept, by id."""
        return {one.row.id: one.row for one in self._known.values()}

    def some(
        self, connection: Connection, gateways: Gateways, devices: Collection[str]
    ) -> tuple[DeviceRow, ...] | None:
        """The rows of some devices in the order of ids. None if one has no row, or another device has its address."""
        ids = sorted(one for one in map(_as_uuid, devices) if one is not None)
        if len(ids) < len(devices):
            return None
        by_device: dict[str, tuple[str, ...]] = {}
        for (text,) in connection.query(_SOME, (self._node, ids, ids, ids), often=True):
            _add(by_device, text)
        if len(by_device) < len(ids):
            return None
        required = self._required._replace(gateways=gateways.store_names)
        found = {device: _decode(texts, required) for device, texts in sorted(by_device.items())}
        self._known |= found
        return tuple(row for one in found.values() for row in one.rows)


def _add(by_device: dict[str, tuple[str, ...]], text: str) -> None:
    """Add the text of a row to its device. The texts of a device have a fixed order."""
    device = _device_of(text)
    by_device[device] = tuple(sorted((*by_device.get(device, ()), text)))


def _device_of(text: str) -> str:
    return text[:36]  # a UUID as the server writes it


def _decode(texts: Sequence[str], required: Requirements) -> _Known:
    peers: dict[str, PeerRow] = {}
    for text in texts:
        one = PeerRow(*text.split(_SEPARATOR))
        # Two allocations can have one host address with two prefix lengths. The device's own one counts.
        if one.peer not in peers or one.holder == one.device:
            peers[one.peer] = one
    rows = tuple(peers.values())
    conditions = () if required.require_allocation else tuple(unallocated(rows, required))
    row, *others = device_rows(rows, required)
    # Python's hash of a text is keyed and has 64 bits (PEP 456).
    return _Known(hash(*texts) if len(texts) == 1 else None, row, tuple(others), conditions)


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
