"""Reads the digest of the own rows and their contracts, which changes when a plan may change."""

from collections.abc import Sequence
from functools import partial

from wgsyncd.core.peers.row_digest import HASH_LENGTH, SEPARATOR, RowDigest
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import DEVICE_TEXTS, Schema

# The digest covers everything that a plan depends on, and nothing that wgsyncd's own accounting changes. It has 64
# bits of a hash for each row, and the device's name, so that the devices whose rows changed are known. Each text has
# the row's id, so a change is seen even if two devices swap their status. A reconcile with the same digest does not
# plan (engine/rest.py), and 32 bits would be too few for that. MariaDB's MD5 takes twice as long as its SHA1.
_HASH = "LEFT(SHA1(CONCAT_WS('\\0', {parts})), 16)"
_NUMBER = f"CAST(CONV({_HASH}, 16, 10) AS UNSIGNED)"
_ROW = """d.id, {texts}, d.is_parent,
    IF(d.status IN ('active', 'expired', 'paused', 'revoked', 'deleted'),
       d.first_handshake_at > 0 OR d.last_handshake_at > 0, CONCAT_WS(' ', {dates}))"""
_DATES = (
    "d.qr_expires_at", "d.issued_at", "d.created_at", "d.activated_at", "d.first_handshake_at", "d.last_handshake_at",
)  # fmt: skip
_LIST = f"""COALESCE(COUNT(*) * {HASH_LENGTH + 1} + SUM(CHAR_LENGTH({{name}})) - 1, 0),
       COALESCE(GROUP_CONCAT({_HASH.format(parts=_ROW)}, {{name}} SEPARATOR '{SEPARATOR}'), '')"""
_SUM = f"0, CONCAT_WS(' ', COUNT(*), BIT_XOR({_NUMBER.format(parts=_ROW)}))"  # for more rows than one value holds
_ROWS = """
SELECT {rows},
       (SELECT CONCAT_WS(' ', adopted, approved, (SELECT COUNT(*) FROM wgsyncd_quarantine WHERE node = {node}))
        FROM wgsyncd_nodes WHERE node = {node}), {contracts}
FROM {tables} {join} WHERE {where}
"""
# Many devices share a contract. To read each contract once costs half as much as to join the contracts to the rows.
_CONTRACTS = f"""
(SELECT CONCAT_WS(' ', COUNT(*), SUM({_NUMBER.format(parts="{texts}")})) FROM contracts c WHERE {{where}})
"""  # noqa: S608


class Digest:
    """Reads the digest of one node's own rows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._rows = ""  # the part of the last digest that is of the rows
        self._form = _LIST
        self._contracts = "FALSE"  # a condition for the contracts of the own rows

    def read(self, connection: Connection, own: OwnRows, schema: Schema, terms: Sequence[str] = ()) -> object:
        """The present digest. ``terms``: more columns of the contracts that it covers."""
        contract = ("c.contract_id", "c.contract_status", *(f"c.{one}" for one in terms))
        of_contracts = partial(_CONTRACTS.format, texts=_parts(schema, *contract))
        own.find(connection)
        tables, where = own.source()
        # Texts of other character sets may not be compared with a list of texts, so they are compared with each other.
        joined = not {"c.contract_id", "d.contract_id"} <= schema.utf8
        length, rows, approved, contracts = connection.query(_ROWS.format(
            rows=self._form.format(
                texts=_parts(schema, *DEVICE_TEXTS, *["d.deleted_at"] * schema.has_deleted_at, *contract * joined),
                dates=_parts(schema, *_DATES),
                name=schema.as_utf8("d.device_id"),
            ),
            node=connection.quote(self._node),
            contracts="''" if joined else of_contracts(where=self._contracts),
            tables=tables,
            join=schema.join if joined else "",
            where=where,
        ))[0]  # fmt: skip
        is_whole = isinstance(rows, str) and len(rows) == length
        if self._form is _LIST and not is_whole:  # the server has cut it off: see connection.MOST_JOINED
            self._form = _SUM
            return self.read(connection, own, schema, terms)
        if not joined and rows != self._rows:
            names = connection.query(f"SELECT DISTINCT d.contract_id FROM {tables} WHERE {where}")  # noqa: S608
            self._contracts = (
                f"contract_id IN ({', '.join(connection.quote(str(name)) for (name,) in names) or 'NULL'})"
            )
            contracts = connection.query(f"SELECT {of_contracts(where=self._contracts)}")[0][0]
        self._rows = rows if rows != self._rows else self._rows  # the same object: it may have some megabytes
        # A scan may find conflicts with rows of other nodes.
        rest = approved, contracts, not own.all and own.scanned_at
        return RowDigest(self._rows, rest) if self._form is _LIST else (self._rows, rest)


def _parts(schema: Schema, *columns: str) -> str:
    """SQL of the columns as parts of a hash. CONCAT_WS leaves out each NULL, so the first part says which are NULL."""
    which = f"CONCAT({', '.join(f'{one} IS NULL' for one in columns)})"
    return ", ".join((which, *map(schema.as_text, columns)))
