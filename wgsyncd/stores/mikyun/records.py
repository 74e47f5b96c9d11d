"""Writes the changed records of peers to wgsyncd_peers, in as few and as short statements as possible.

The statements contain numbers as text and bytes as hexadecimal literals. The driver needs more time to put values into
a statement than the server needs to execute it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from wgsyncd.core.records import USED_BEFORE, PeerRecord, recorded_handshake
from wgsyncd.core.state import NodeState
from wgsyncd.errors import RevisionConflict
from wgsyncd.stores.mikyun import pieces
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.reading import stored_id

AT_ONCE = 1000  # records in one statement: each has some 300 bytes, and the default max_allowed_packet is 16 MB
_COLUMNS = "row_id, device, contract, address, config_digest, state, epoch, rx, tx, latest_handshake, sampled_at"
_T = TypeVar("_T")
_ZERO = f"rx = 0, tx = 0, latest_handshake = IF(latest_handshake = 0, 0, {USED_BEFORE}), sampled_at = %s"
_Sets = tuple[tuple[str, str | float], ...]  # pairs of SQL that sets columns and its value


def save(connection: Connection, node: str, node_state: NodeState, records: Iterable[PeerRecord]) -> None:
    """Write records in the open transaction. ``node_state``: what the database has, before these records.

    Most records change in their counters only: one UPDATE takes them as a list. Records in which the same columns get
    the same values share another UPDATE. All other records are inserted, in place of a row with the same key.

    RevisionConflict: a record of ``node_state`` is not in the database any more.
    """
    moved: dict[str, list[PeerRecord]] = {}
    alike: dict[tuple[str, _Sets], list[PeerRecord]] = {}
    others: list[PeerRecord] = []
    for record in records:
        known = node_state.records.of(record.interface).get(record.public_key)
        if known is None or not record.same_identity(known):
            others.append(record)
        elif record.epoch == known.epoch and record.state is known.state:
            moved.setdefault(record.interface, []).append(record)
        elif (sets := _sets(record, known)) is not None:
            alike.setdefault((record.interface, sets), []).append(record)
        else:
            others.append(record)
    for interface, some in moved.items():
        for part in _parts(some):
            _check(_update_counters(connection, node, interface, part), part)
    for (interface, sets), some in alike.items():
        # Usually all peers of the interface are restored. The server then needs no list of them.
        whole = len(some) == len(node_state.records.of(interface))
        for part in (some,) if whole else _parts(some):
            _check(_update_columns(connection, node, interface, sets, () if whole else part), part)
    replaced = [r.peer_id for r in others if r.public_key in node_state.records.of(r.interface)]
    pieces.close_of(connection, node, replaced)
    for part in _parts(others):
        _insert(connection, node, part)


def _sets(record: PeerRecord, known: PeerRecord) -> _Sets | None:
    """The columns to set if many records can share one UPDATE, else None.

    This is possible in two cases: only the state differs, or the record becomes a baseline of zero.
    """
    if (record.epoch, record.rx, record.tx, record.handshake, record.sampled_at) == (
        known.epoch, known.rx, known.tx, known.handshake, known.sampled_at
    ):  # fmt: skip
        # The words have the same length, so the server changes them in place. Pages with the records of new peers are
        # full. There, a word of another length would take up to eight times as long.
        return (("state = %s", record.state.value),)
    if not (record.rx or record.tx) and record.handshake == recorded_handshake(0, known.handshake):
        return ("state = %s", record.state.value), ("epoch = %s", record.epoch), (_ZERO, record.sampled_at)
    return None


def _update_counters(connection: Connection, node: str, interface: str, records: Sequence[PeerRecord]) -> int:
    """Set counters, handshakes and their time. Returns how many of the records the database has."""
    # The first SELECT gives the list its column names and types. Its empty key belongs to no peer. STRAIGHT_JOIN and
    # the unique key let the server read the list first and each peer by its key.
    rows = ",".join(f"(x'{r.public_key.hex()}',{r.rx},{r.tx},{r.handshake},{r.sampled_at!r})" for r in records)
    return connection.execute(
        f"""UPDATE (SELECT x'' AS public_key, 0 AS rx, 0 AS tx, 0 AS handshake, 0e0 AS sampled_at
                    UNION ALL VALUES {rows}) v
            STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (node)
                ON p.node = %s AND p.interface = %s AND p.public_key = v.public_key
            SET p.rx = v.rx, p.tx = v.tx, p.latest_handshake = v.handshake, p.sampled_at = v.sampled_at""",  # noqa: S608
        (node, interface),
    )


def _update_columns(
    connection: Connection, node: str, interface: str, sets: _Sets, records: Sequence[PeerRecord]
) -> int:
    """Set the same columns to the same values in all records, or without ``records`` in all of the interface.

    Returns how many of the records the database has.
    """
    keys = ",".join(f"x'{r.public_key.hex()}'" for r in records)
    where = "WHERE node = %s AND interface = %s" + (f" AND public_key IN ({keys})" if records else "")
    columns = ", ".join(column for column, _ in sets)
    values = [value for _, value in sets]
    return connection.execute(f"UPDATE wgsyncd_peers SET {columns} {where}", (*values, node, interface))  # noqa: S608


def _insert(connection: Connection, node: str, records: Sequence[PeerRecord]) -> None:
    """Insert records, in place of the rows that have their node, interface and key."""
    quote = connection.quote
    name, epochs = quote(node), {epoch: quote(epoch) for epoch in {r.epoch for r in records}}
    rows = ",".join(
        f"({name},{quote(r.interface)},x'{r.public_key.hex()}',{'NULL' if r.row_id is None else stored_id(r.row_id)},"
        f"{quote(r.device[:64])},{quote(r.owner[:32])},{quote(r.address[:255])},x'{r.config_digest.hex()}','{r.state.value}',"
        f"{epochs[r.epoch]},{r.rx},{r.tx},{r.handshake},{r.sampled_at!r})"
        for r in records
    )
    again = ", ".join(f"{column} = VALUES({column})" for column in _COLUMNS.split(", "))
    again += ", open_bucket = 0, open_rx = 0, open_tx = 0"  # the open piece of the row's former device is moved
    into = f"wgsyncd_peers (node, interface, public_key, {_COLUMNS})"
    connection.execute(f"INSERT INTO {into} VALUES {rows} ON DUPLICATE KEY UPDATE {again}")  # noqa: S608


def _parts(records: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(records), AT_ONCE):
        yield records[at : at + AT_ONCE]


def _check(found: int, records: Sequence[PeerRecord]) -> None:
    if found != len(records):
        raise RevisionConflict(f"{len(records) - found} baselines are gone: another program removed them")
