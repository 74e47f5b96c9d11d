"""The baselines in wgsyncd_peers: of each record that which differs is written.

Numbers, and bytes as hexadecimals, are written into the statements here: the driver's way of putting values into one
takes longer than the server takes to carry it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import NodeState
from wgsyncd.errors import RevisionConflict
from wgsyncd.stores.mikyun.connection import Connection

AT_ONCE = 1000  # records in one statement: some 300 bytes each, far below max_allowed_packet's default, 16 MB
_COLUMNS = (
    "row_id",
    "device",
    "contract",
    "address",
    "config",
    "state",
    "epoch",
    "rx",
    "tx",
    "handshake",
    "sampled_at",
)
_T = TypeVar("_T")
_Sets = tuple[tuple[str, str | int | float], ...]  # columns and their values


def save(connection: Connection, node: str, node_state: NodeState, records: Iterable[PeerRecord]) -> None:
    """Write records, in the open transaction; ``ledger`` is what the books have. StaleLedger if they have not."""
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
        for part in _parts(some):
            _check(_update_columns(connection, node, interface, sets, part), part)
    for part in _parts(others):
        _insert(connection, node, part)


def _sets(record: PeerRecord, known: PeerRecord) -> _Sets | None:
    """What to set for many at once: the state, or all that makes a baseline zero of a record. None: neither."""
    if (record.epoch, record.rx, record.tx, record.handshake, record.sampled_at) == (
        known.epoch, known.rx, known.tx, known.handshake, known.sampled_at
    ):  # fmt: skip
        return (("state", record.state.value),)
    if not (record.rx or record.tx or record.handshake):
        zero = (("rx", 0), ("tx", 0), ("handshake", 0))
        return ("state", record.state.value), ("epoch", record.epoch), *zero, ("sampled_at", record.sampled_at)
    return None


def _update_counters(connection: Connection, node: str, interface: str, records: Sequence[PeerRecord]) -> int:
    """Counters and handshakes; returns how many records are there."""
    rows = ",".join(f"(x'{r.public_key.hex()}',{r.rx},{r.tx},{r.handshake},{r.sampled_at!r})" for r in records)
    return connection.execute(
        f"""UPDATE (SELECT x'' AS public_key, 0 AS rx, 0 AS tx, 0 AS handshake, 0e0 AS sampled_at
                    UNION ALL VALUES {rows}) v
            STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (PRIMARY)
                ON p.node = %s AND p.interface = %s AND p.public_key = v.public_key
            SET p.rx = v.rx, p.tx = v.tx, p.handshake = v.handshake, p.sampled_at = v.sampled_at""",  # noqa: S608
        (node, interface),
    )


def _update_columns(
    connection: Connection, node: str, interface: str, sets: _Sets, records: Sequence[PeerRecord]
) -> int:
    """The same columns to the same values in all of them; returns how many are there."""
    keys = ",".join(f"x'{r.public_key.hex()}'" for r in records)
    where = f"WHERE node = %s AND interface = %s AND public_key IN ({keys})"
    columns = ", ".join(f"{column} = %s" for column, _ in sets)
    values = [value for _, value in sets]
    return connection.execute(f"UPDATE wgsyncd_peers SET {columns} {where}", (*values, node, interface))  # noqa: S608


def _insert(connection: Connection, node: str, records: Sequence[PeerRecord]) -> None:
    """All of them, in place of what is there."""
    quote = connection.quote
    name, epochs = quote(node), {epoch: quote(epoch) for epoch in {r.epoch for r in records}}
    rows = ",".join(
        f"({name},{quote(r.interface)},x'{r.public_key.hex()}',{'NULL' if r.row_id is None else r.row_id},"
        f"{quote(r.device[:64])},{quote(r.owner[:32])},{quote(r.address[:64])},x'{r.config_digest.hex()}','{r.state.value}',"
        f"{epochs[r.epoch]},{r.rx},{r.tx},{r.handshake},{r.sampled_at!r})"
        for r in records
    )
    again = ", ".join(f"{column} = VALUES({column})" for column in _COLUMNS)
    into = f"wgsyncd_peers (node, interface, public_key, {', '.join(_COLUMNS)})"
    connection.execute(f"INSERT INTO {into} VALUES {rows} ON DUPLICATE KEY UPDATE {again}")  # noqa: S608


def _parts(records: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(records), AT_ONCE):
        yield records[at : at + AT_ONCE]


def _check(found: int, records: Sequence[PeerRecord]) -> None:
    if found != len(records):
        raise RevisionConflict(f"{len(records) - found} baselines were removed by somebody else")
