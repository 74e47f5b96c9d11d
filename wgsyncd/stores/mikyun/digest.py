"""Reads the digest of the own rows and their contracts, which changes when a plan may change."""

from __future__ import annotations

from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import DEVICE_TEXTS, Schema

# The digest covers everything that a plan depends on, and nothing that wgsyncd's own accounting changes. It has 64
# bits of a hash for each row, joined by XOR, so the order of rows does not matter. Each text has the row's id, so no
# two changes cancel out, not even if two devices swap their status. A reconcile with the same digest does not plan
# (engine/rest.py), and 32 bits would be too few for that. MariaDB's MD5 takes twice as long as its SHA1. One text is
# the answer, because the driver spends more time on the description of a column than on a value.
_HASH = "CAST(CONV(LEFT(SHA1(CONCAT_WS('\\0', {parts})), 16), 16, 10) AS UNSIGNED)"
_ROW = """d.id, {texts}, d.is_parent,
    IF(d.status IN ('active', 'expired', 'paused', 'revoked', 'deleted'), '~',
       CONCAT_WS('\\0', COALESCE(d.qr_expires_at, '~'), COALESCE(d.issued_at, '~'), COALESCE(d.created_at, '~'))),
    {deleted}, {status}"""
_ROWS = f"""
SELECT CONCAT_WS(' ', COUNT(*), BIT_XOR({_HASH.format(parts=_ROW)})),
       (SELECT CONCAT_WS(' ', adopted, approved, (SELECT COUNT(*) FROM wgsyncd_quarantine WHERE node = {{node}}))
        FROM wgsyncd_nodes WHERE node = {{node}}), {{contracts}}
FROM {{tables}} {{join}} WHERE {{where}}
"""  # noqa: S608
# Many devices share a contract. To read each contract once costs half as much as to join the contracts to the rows.
_CONTRACT = "contract_id, COALESCE(contract_status, '~'){profile}"
_CONTRACTS = f"""
(SELECT CONCAT_WS(' ', COUNT(*), SUM({_HASH.format(parts=_CONTRACT)})) FROM contracts WHERE {{where}})
"""  # noqa: S608


class Digest:
    """Reads the digest of one node's own rows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._rows: object = None  # the part of the last digest that is of the rows
        self._contracts = "FALSE"  # a condition for the contracts of the own rows

    def read(self, connection: Connection, own: OwnRows, schema: Schema, *, with_profiles: bool = False) -> object:
        """The present digest. ``with_profiles``: it covers the profiles of the contracts, for shaping."""
        profile = ", COALESCE(bandwidth_profile, '~')" if with_profiles else ""
        standing = f"COALESCE({schema.as_text('c.contract_status')}, '~')"
        named = f", COALESCE({schema.as_text('c.bandwidth_profile')}, '~')" if with_profiles else ""
        own.find(connection)
        tables, where = own.source()
        # Texts of other character sets may not be compared with a list of texts, so they are compared with each other.
        joined = not {"c.contract_id", "d.contract_id"} <= schema.utf8
        rows, approved, contracts = connection.query(_ROWS.format(
            texts=", ".join(f"COALESCE({schema.as_text(column)}, '~')" for column in DEVICE_TEXTS),
            deleted="COALESCE(d.deleted_at, '~')" if schema.has_deleted_at else "''",
            status=f"c.contract_id IS NULL, {standing}{named}" if joined else "''",
            node=connection.quote(self._node),
            contracts="''" if joined else _CONTRACTS.format(where=self._contracts, profile=profile),
            tables=tables,
            join=schema.join if joined else "",
            where=where,
        ))[0]  # fmt: skip
        if not joined and rows != self._rows:
            names = connection.query(f"SELECT DISTINCT d.contract_id FROM {tables} WHERE {where}")  # noqa: S608
            self._contracts = (
                f"contract_id IN ({', '.join(connection.quote(str(name)) for (name,) in names) or 'NULL'})"
            )
            contracts = connection.query(f"SELECT {_CONTRACTS.format(where=self._contracts, profile=profile)}")[0][0]
            self._rows = rows
        return rows, approved, contracts
