"""Reads the node state and the quarantine from wgsyncd's own tables."""

from collections.abc import Mapping
from sys import intern

from wgsyncd.core.model import DeviceId, DeviceRow, PublicKey
from wgsyncd.core.records import PeerRecord, PeerRecords
from wgsyncd.core.state import NodeState
from wgsyncd.stores.alike import node_state
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.dialect import POSTGRES
from wgsyncd.stores.own_values import record_epoch, record_state, stored_time

_TABLE = "wgsyncd.peers"
_PEERS = """
SELECT interface, public_key, row_id, device, owner, address, config_digest, state, epoch, rx, tx, latest_handshake,
       sampled_at
FROM wgsyncd.peers WHERE node = %s
"""


def load_state(connection: Connection, node: str, rows: Mapping[DeviceId, DeviceRow]) -> NodeState | None:
    """The node's stored state of one moment, or None if it has none yet.

    ``rows``: device rows by id. Values that are equal in a record and its row are kept in memory once.
    """
    with connection.transaction(snapshot=True):
        found = connection.query(
            "SELECT revision, spool_position, receipt FROM wgsyncd.node_states WHERE node = %s", (node,)
        )
        if not found:
            return None
        records = PeerRecords()
        times: dict[float, float] = {}  # many records share few times: each time is in memory once
        for name, key, row_id, device, owner, address, config, state, epoch, rx, tx, handshake, at in connection.stream(
            _PEERS, (node,)
        ):
            public_key = PublicKey(bytes(key))
            if row := rows.get(row_id):
                public_key = row.public_key if row.public_key == public_key else public_key  # type: ignore[assignment]
                row_id, device = row.id, row.device if row.device == device else device  # noqa: PLW2901
            records.add(PeerRecord(
                intern(name), public_key, row_id, device, intern(owner), address, bytes(config),
                record_state(state, _TABLE, name, device), intern(record_epoch(epoch, _TABLE, name, device)),
                rx % 2**64, tx % 2**64, handshake,
                times.setdefault(at, stored_time(at)),
            ))  # fmt: skip
        return node_state(connection, POSTGRES, node, found[0], records)
