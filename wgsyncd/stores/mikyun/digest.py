"""Reads the digest of the own rows and their contracts, which changes when a plan may change."""

from collections.abc import Sequence

from wgsyncd.core.peers.row_digest import HASH_LENGTH, SEPARATOR, RowDigest
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import DEVICE_TEXTS, Schema

# The digest covers everything that a plan depends on, and nothing that wgsyncd's own accounting changes. It has 64
# bits of a hash for each row with its contract, and the device's name. So the devices whose rows changed are known.
# Each text has the row's id, so a change is seen even if two devices swap their status. A reconcile with the same
# digest does not plan (engine/rest.py), and 32 bits would be too few for that. MariaDB's MD5 takes twice as long.
_HASH = "LEFT(SHA1(CONCAT_WS('\\0', {parts})), 16)"
_ROW = """d.id, {texts}, d.is_parent,
    IF(d.status IN ('active', 'expired', 'paused', 'revoked', 'deleted'),
       d.first_handshake_at > 0 OR d.last_handshake_at > 0, CONCAT_WS(' ', {dates}))"""
_DATES = (
    "d.qr_expires_at", "d.issued_at", "d.created_at", "d.activated_at", "d.first_handshake_at", "d.last_handshake_at",
)  # fmt: skip
_LIST = f"""COUNT(*) * {HASH_LENGTH} + COALESCE(SUM(CHAR_LENGTH({{name}})), 0),
       COALESCE(GROUP_CONCAT({_HASH.format(parts=_ROW)}, {{name}} SEPARATOR '{SEPARATOR}'), '')"""
# For more rows than one value holds, and for names with a separator.
_SUM = f"0, CONCAT_WS(' ', COUNT(*), BIT_XOR(CAST(CONV({_HASH.format(parts=_ROW)}, 16, 10) AS UNSIGNED)))"
_ROWS = """
SELECT {rows},
       (SELECT CONCAT_WS(' ', adopted, approved_plan, (SELECT COUNT(*) FROM wgsyncd_quarantine WHERE node = {node}))
        FROM wgsyncd_nodes WHERE node = {node})
FROM {tables} {join} WHERE {where}
"""


class Digest:
    """Reads the digest of one node's own rows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._rows = ""  # the part of the last digest that is of the rows
        self._form = _LIST

    def read(self, connection: Connection, own: OwnRows, schema: Schema, terms: Sequence[str] = ()) -> object:
        """The present digest. ``terms``: more columns of the contracts that it covers."""
        own.find(connection)
        tables, where = own.source()
        contract = "c.contract_id", "c.contract_status", *(f"c.{one}" for one in terms)
        length, rows, approved = connection.query(_ROWS.format(
            rows=self._form.format(
                texts=_parts(schema, *DEVICE_TEXTS, *["d.deleted_at"] * schema.has_deleted_at, *contract),
                dates=_parts(schema, *_DATES),
                name=schema.as_utf8("d.device_id"),
            ),
            node=connection.quote(self._node),
            tables=tables,
            join=schema.join,
            where=where,
        ))[0]  # fmt: skip
        is_whole = isinstance(rows, str) and len(rows) - rows.count(SEPARATOR) == length
        if self._form is _LIST and not is_whole:  # a name has a separator, or connection.MOST_JOINED has cut it off
            self._form = _SUM
            return self.read(connection, own, schema, terms)
        self._rows = rows if rows != self._rows else self._rows  # the same object: it may have some megabytes
        # A scan may find conflicts with rows of other nodes.
        rest = approved, not own.all and own.scanned_at
        return RowDigest(self._rows, rest) if self._form is _LIST else (self._rows, rest)


def _parts(schema: Schema, *columns: str) -> str:
    """SQL of the columns as parts of a hash. CONCAT_WS leaves out each NULL, so the first part says which are NULL."""
    which = f"CONCAT({', '.join(f'{one} IS NULL' for one in columns)})"
    return ", ".join((which, *map(schema.as_text, columns)))
