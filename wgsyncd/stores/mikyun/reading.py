"""Reads what a node needs besides the rows: its state, its quarantine, conflicts, the digest."""

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from typing import TypeVar
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceId, DeviceRow, PublicKey
from wgsyncd.core.records import PeerRecord, PeerRecords
from wgsyncd.core.state import NodeState
from wgsyncd.stores.alike import node_state
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.dialect import MARIADB
from wgsyncd.stores.own_values import record_epoch, record_state, stored_time

_PEERS = "wgsyncd_peers"


def to_seconds(value: object, zone: ZoneInfo) -> float | None:
    """A DATETIME of the zone as UNIX seconds.

    None for NULL and for the zero date, which PyMySQL returns as text. None also for years before 1970 and from 9999
    on: only a program's mistake writes them (0001 is Go's zero time), and datetime cannot convert all of them.
    """
    if not isinstance(value, datetime) or not 1970 <= value.year < 9999:
        return None
    return max(0.0, value.replace(tzinfo=zone).timestamp())


def to_datetime(seconds: float, zone: ZoneInfo) -> str:
    """UNIX seconds as the text of a DATETIME of the zone. It is text because PyMySQL silently drops a tzinfo."""
    return str(datetime.fromtimestamp(int(seconds), zone))[:19]


def load_state(connection: Connection, node: str, rows: Mapping[DeviceId, DeviceRow]) -> NodeState | None:
    """The node's stored state, or None if it has none yet. All parts belong to the same revision.

    ``rows``: device rows by id. Values that are equal in a record and its row are kept in memory once.
    """
    with connection.transaction():
        # In READ COMMITTED each statement sees its own moment. The lock on this row keeps other writers of the node
        # out, so that all statements see the same revision.
        found = connection.query(
            "SELECT revision, spool_position, receipt FROM wgsyncd_nodes WHERE node = %s LOCK IN SHARE MODE", (node,)
        )
        if not found:
            return None
        peers = connection.stream(
            "SELECT interface, public_key, row_id, device, contract, address, config_digest, state, epoch, rx, tx,"
            " latest_handshake, sampled_at FROM wgsyncd_peers WHERE node = %s",
            (node,),
        )
        records = PeerRecords()
        by_name: dict[str, DeviceRow] = {}  # rows whose id wgsyncd's tables cannot hold
        times: dict[float, float] = {}  # many records share few times: each time is in memory once
        for name, key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake, at in peers:
            if row_id == _BEYOND:
                by_name = by_name or {one.device: one for one in rows.values() if not one.id < BEYOND}
            if row := by_name.get(device) if row_id == _BEYOND else rows.get(row_id):
                row_id, key, device = row.id, reuse_equal(key, row.public_key), reuse_equal(device, row.device)  # noqa: PLW2901
            records.add(PeerRecord(
                intern(name), PublicKey(key), row_id, device, intern(contract), address, config,
                record_state(state, _PEERS, name, device), intern(record_epoch(epoch, _PEERS, name, device)), rx, tx,
                handshake,
                times.setdefault(at, stored_time(at)),
            ))  # fmt: skip
        return node_state(connection, MARIADB, node, found[0], records)


BEYOND = 2**63  # a column BIGINT UNSIGNED of the application may hold ids from here on. wgsyncd's columns hold none
_BEYOND = -(2**63)  # stands for such an id in wgsyncd's tables. The name of the device leads to its row


def stored_id(row_id: DeviceId | None) -> DeviceId | None:
    """A row id as wgsyncd's tables can hold it."""
    return _BEYOND if row_id is not None and not row_id < BEYOND else row_id


_T = TypeVar("_T")


def reuse_equal(new: _T, old: _T) -> _T:
    """``old`` if it equals ``new``, else ``new``: so memory holds equal values only once.

    100 bytes less for each of 100,000 peers are 10 MB less.
    """
    return old if old == new else new
