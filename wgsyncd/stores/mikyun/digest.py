"""Reads the digest of the own rows and their contracts, which changes when a plan may change."""

from __future__ import annotations

from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import DEVICE_TEXTS, Schema

# The digest covers everything that a plan depends on, and nothing that wgsyncd's own accounting changes. It is a sum
# over rows, so the order of rows does not matter. Each row has a weight of its own. Without weights two simultaneous
# changes could cancel out, for example if two devices swap their status. CRC32 costs the server less than half of MD5.
# It misses one change in some 2^32, which the periodic reconcile finds. The sum is one text, because the driver spends
# more time on the description of a column than on a value.
_ROWS = """
SELECT CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS('\\0', d.id, {texts}, d.is_parent,
           IF(d.status IN ('active', 'expired', 'paused', 'revoked', 'deleted'), '~',
              CONCAT_WS('\\0', COALESCE(d.qr_expires_at, '~'), COALESCE(d.issued_at, '~'),
                        COALESCE(d.created_at, '~'))), {deleted}, {status})) * (d.id % 8191 + 1))),
       (SELECT CONCAT_WS(' ', adopted, approved) FROM wgsyncd_nodes WHERE node = {node}), {contracts}
FROM {tables} {join} WHERE {where}
"""
# Many devices share a contract. To read each contract once costs half as much as to join the contracts to the rows.
_CONTRACTS = """
(SELECT CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS('\\0', contract_id, COALESCE(contract_status, '~')))
           * (CRC32(contract_id) % 8191 + 1))) FROM contracts WHERE {where})
"""


class Digest:
    """Reads the digest of one node's own rows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._rows: object = None  # the part of the last digest that is of the rows
        self._contracts = "FALSE"  # a condition for the contracts of the own rows

    def read(self, connection: Connection, own: OwnRows, schema: Schema) -> object:
        """The present digest."""
        own.find(connection)
        tables, where = own.source()
        # Texts of other character sets may not be compared with a list of texts, so they are compared with each other.
        joined = not {"c.contract_id", "d.contract_id"} <= schema.utf8
        rows, approved, contracts = connection.query(_ROWS.format(
            texts=", ".join(f"COALESCE({schema.as_text(column)}, '~')" for column in DEVICE_TEXTS),
            deleted="COALESCE(d.deleted_at, '~')" if schema.has_deleted_at else "''",
            status=f"c.contract_id IS NULL, COALESCE({schema.as_text('c.contract_status')}, '~')" if joined else "''",
            node=connection.quote(self._node),
            contracts="''" if joined else _CONTRACTS.format(where=self._contracts),
            tables=tables,
            join=schema.join if joined else "",
            where=where,
        ))[0]  # fmt: skip
        if not joined and rows != self._rows:
            names = connection.query(f"SELECT DISTINCT d.contract_id FROM {tables} WHERE {where}")  # noqa: S608
            self._contracts = (
                f"contract_id IN ({', '.join(connection.quote(str(name)) for (name,) in names) or 'NULL'})"
            )
            contracts = connection.query(f"SELECT {_CONTRACTS.format(where=self._contracts)}")[0][0]
            self._rows = rows
        return rows, approved, contracts
