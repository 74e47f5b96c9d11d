"""Writes the node state and the usage of devices: one transaction for each write batch.

Values go by COPY into temporary tables, and from there set by set, but new peers in one statement. Bytes of the present
bucket and day go to the open piece of their device (:mod:`wgsyncd.stores.nexavpn.pieces`), all others to buckets and
days. A transaction touches no row of the application's tables, so it waits for nobody but another writer of the same
node.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, zip_longest
from typing import NamedTuple

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import NodeState, Posting, WriteBatch, merge_postings
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import RevisionConflict
from wgsyncd.stores.alike import save_removals
from wgsyncd.stores.holding import rename_interfaces
from wgsyncd.stores.nexavpn.connection import AT_ONCE, Connection
from wgsyncd.stores.nexavpn.dialect import POSTGRES
from wgsyncd.stores.nexavpn.pieces import (
    BUCKETS,
    DAYS,
    MOST,
    NO_PIECE,
    OpenPieces,
    added,
    connected,
    open_piece,
)  # fmt: skip
from wgsyncd.stores.nexavpn.trail import AuditTrail
from wgsyncd.stores.own_values import condition_texts

STAGES = """
CREATE TEMPORARY TABLE IF NOT EXISTS stage_moved (
    interface text, public_key bytea, state text, epoch text, rx bigint, tx bigint, handshake bigint,
    sampled_at double precision, device uuid, more_rx bigint, more_tx bigint, seen double precision
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS stage_pieces (
    counted boolean, device uuid, start bigint, day date, rx bigint, tx bigint, seen double precision
) ON COMMIT DELETE ROWS
"""
_NO_RECORD = "\t".join(["\\N"] * 8)  # the beginning of a line of stage_moved
_COLUMNS = {
    "interface": "text", "public_key": "bytea", "row_id": "uuid", "device": "text", "owner": "text", "address": "text",
    "config_digest": "bytea", "state": "text", "epoch": "text", "rx": "bigint", "tx": "bigint",
    "latest_handshake": "bigint", "sampled_at": "double precision",
}  # fmt: skip
_MOVED = """
UPDATE wgsyncd.peers p SET state = s.state, epoch = s.epoch, rx = s.rx, tx = s.tx,
                           latest_handshake = s.handshake, sampled_at = s.sampled_at
FROM pg_temp.stage_moved s
WHERE p.node = %s AND p.interface = s.interface AND p.public_key = s.public_key
"""
_NEW = f"""
INSERT INTO wgsyncd.peers (node, {", ".join(_COLUMNS)})
SELECT %s, new.* FROM unnest({", ".join(f"%s::{of}[]" for of in _COLUMNS.values())}) AS new
ON CONFLICT (node, interface, public_key)
DO UPDATE SET {", ".join(f"{one} = excluded.{one}" for one in list(_COLUMNS)[2:])}
"""  # noqa: S608
# One device may have pieces of several peers. ON CONFLICT changes a row only once, so they are summed before.
_ADD = """
INSERT INTO {table} AS t (node, device{key}, rx, tx{more})
SELECT %s, device{key}, least(sum(rx), {most}), least(sum(tx), {most}){seen} FROM pg_temp.stage_pieces
WHERE {which} GROUP BY device{key} ORDER BY device{key}
ON CONFLICT (node, device{key}) DO UPDATE SET {rx}, {tx}{then}
"""
_ADDED = {"most": MOST, "rx": added("t", "rx", "excluded.rx"), "tx": added("t", "tx", "excluded.tx")}
_SUMS = [
    _ADD.format(table="wgsyncd.totals", key="", which="counted", more=", seen, connected",
                seen=", coalesce(max(seen), 0), coalesce(max(seen), 0)", then=connected("excluded"), **_ADDED),
    *(_ADD.format(table=table, key=f", {key}", which=f"{key} IS NOT NULL", more="", seen="", then="", **_ADDED)
      for table, key, _ in (BUCKETS, DAYS)),
]  # fmt: skip


class _Parts(NamedTuple):
    """A batch by the ways that its parts take."""

    # The lines of stage_moved: of known records, each with the end of its line, and of bytes without one.
    moved: list[tuple[PeerRecord, str]]
    loose: list[str]
    new: list[PeerRecord]
    rest: list[Posting]  # of other times
    opens: int  # how many lines have bytes for an open piece


@dataclass(frozen=True, slots=True)
class StateWriter:
    """Writes one node's state, and the bytes of the devices that the node serves."""

    connection: Connection
    node: str
    trail: AuditTrail
    pieces: OpenPieces

    def begin(self, calendar: UsageCalendar) -> None:
        """Create the node's first state. Does nothing if the node has one."""
        self.connection.execute(
            "INSERT INTO wgsyncd.node_states (node, revision, accounting_since) VALUES (%s, 0, %s)"
            " ON CONFLICT DO NOTHING",
            (self.node, calendar.now),
        )

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> None:
        """Write a batch in one transaction, which also raises the revision by one.

        RevisionConflict: the database has another revision than ``node_state``. Then nothing is written.
        """
        parts = _divide(node_state, writes, calendar)
        if parts.opens:
            self.pieces.close_older(self.connection, calendar)
        self.trail.find_moved(self.connection, writes.audit)
        with self.connection.transaction():
            self.connection.check_held()
            self._raise_revision(node_state, writes)
            self._keep_records(parts, writes)
            self.pieces.add(self.connection, parts.opens, calendar)
            self.post(parts.rest, writes.history)
            self._keep_interfaces(writes)
            self._keep_conditions(writes, calendar.now)
            save_removals(self.connection, POSTGRES, self.node, writes.removals)
            for q in writes.quarantined:
                self.connection.execute(
                    "INSERT INTO wgsyncd.quarantine (node, interface, row_id, device, rx, tx, since, until)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (self.node, q.interface, q.row_id, q.device, q.rx, q.tx, q.since, q.until),
                )
            self.insert_audit(writes.events(), calendar.now)

    def insert_audit(self, audit: Iterable[AuditEvent], now: float) -> None:
        self.trail.insert(self.connection, audit, now)

    def _raise_revision(self, node_state: NodeState, writes: WriteBatch) -> None:
        more = ", approved_plan = NULL" if writes.approval_used else ""
        # Without an uptime, both tables keep theirs, and no boot is seen.
        sql = f"""WITH raised AS (
                      UPDATE wgsyncd.node_states SET revision = revision + 1,
                             spool_position = coalesce(nullif(%s, ''), spool_position),
                             receipt = coalesce(nullif(%s, ''), receipt), uptime = coalesce(%s::float8, uptime){more}
                      WHERE node = %s AND revision = %s RETURNING node, boot),
                  seen AS (
                      UPDATE wgsyncd.boots b SET uptime = %s::float8, last_seen = {POSTGRES.now} FROM raised n
                      WHERE b.node = n.node AND b.boot = n.boot AND %s::float8 IS NOT NULL)
                  SELECT count(*) FROM raised"""  # noqa: S608
        uptime, texts = writes.uptime, (writes.spool_position, writes.receipt)
        values = (*texts, uptime, self.node, node_state.revision, uptime, uptime)
        if self.connection.query(sql, values, often=True)[0][0] != 1:
            told = f"node {self.node} is not at revision {node_state.revision}: another writer, or a lost answer"
            raise RevisionConflict(told)

    def _keep_records(self, parts: _Parts, writes: WriteBatch) -> None:
        """Write the records, and delete the removed ones. RevisionConflict: a known record is gone."""
        if parts.loose:
            self.connection.copy_text("COPY pg_temp.stage_moved FROM STDIN", parts.loose)
        if moved := parts.moved:
            lines = (_moved(record) + piece for record, piece in moved)  # all together take 3 MiB with 10,000 devices
            self.connection.copy_text("COPY pg_temp.stage_moved FROM STDIN", lines)
            if (found := self.connection.execute(_MOVED, (self.node,))) != len(moved):
                raise RevisionConflict(f"{len(moved) - found} baselines are gone: another program removed them")
        new = map(_columns, parts.new)
        while some := list(islice(new, AT_ONCE)):
            # Customers wait for new peers. One statement takes fewer round trips than COPY.
            self.connection.execute(_NEW, (self.node, *map(list, zip(*some, strict=True))), often=True)
        if writes.removed:
            names, keys = zip(*writes.removed, strict=True)
            self.connection.execute(
                """DELETE FROM wgsyncd.peers p USING unnest(%s::text[], %s::bytea[]) AS gone (interface, public_key)
                   WHERE p.node = %s AND p.interface = gone.interface AND p.public_key = gone.public_key""",
                (list(names), list(keys), self.node),
            )

    def post(self, postings: Sequence[Posting], history: Sequence[Posting] = ()) -> None:
        """Add bytes and handshakes in the open transaction. ``history``: bytes that the totals have already."""
        pieces = [*_pieces(postings, counted=True), *_pieces(history, counted=False)]
        if pieces:
            self.connection.copy_text("COPY pg_temp.stage_pieces FROM STDIN", pieces)
            for sql in _SUMS:
                self.connection.execute(sql, (self.node,))

    def _keep_interfaces(self, writes: WriteBatch) -> None:
        for name, mark in writes.checkpoints.items():
            self.connection.execute(
                """INSERT INTO wgsyncd.interfaces (node, interface, epoch, sampled_at) VALUES (%s, %s, %s, %s)
                   ON CONFLICT (node, interface)
                   DO UPDATE SET epoch = excluded.epoch, sampled_at = excluded.sampled_at""",
                (self.node, name, mark.epoch, mark.at),
            )
        rename_interfaces(self.connection, POSTGRES, self.node, writes.renamed)

    def _keep_conditions(self, writes: WriteBatch, now: float) -> None:
        for one in writes.ended:
            self.connection.execute(
                "DELETE FROM wgsyncd.conditions WHERE node = %s AND type = %s AND subject = %s",
                (self.node, one.type, one.subject),
            )
        for one in writes.started:  # a condition that is started again, for example with another reason, is replaced
            self.connection.execute(
                """INSERT INTO wgsyncd.conditions (node, type, subject, name, reason, since)
                   VALUES (%s, %s, %s, %s, %s, %s)
                   ON CONFLICT (node, type, subject)
                   DO UPDATE SET name = excluded.name, reason = excluded.reason, since = excluded.since""",
                (self.node, *condition_texts(one), now),
            )


def _divide(node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> _Parts:
    """Nearly all bytes are of the present bucket and day, and of a known record: they open a piece."""
    now, postings = (calendar.bucket, calendar.today), writes.postings
    # An UPDATE that joins a list changes each row only once.
    paired = postings if writes.is_paired and len({one.row_id for one in postings}) == len(postings) else ()
    moved: list[tuple[PeerRecord, str]] = []
    new: list[PeerRecord] = []
    rest: list[Posting] = [] if paired else list(postings)
    loose: list[str] = []
    opens = 0
    for record, posting in zip_longest(writes.records, paired):
        piece = ""
        if _is_known(record, node_state):
            piece = open_piece(posting, now) if posting is not None else ""
            moved.append((record, piece or NO_PIECE))
        else:
            new.append(record)
        if piece:
            opens += 1
        elif posting is not None:
            rest.append(posting)
    others: list[Posting] = []
    for one in merge_postings(rest):
        present = tuple(part for part in one.allocations if (part.bucket, part.day) == now)
        if piece := open_piece(replace(one, allocations=present), now):
            loose.append(_NO_RECORD + piece)
            if past := tuple(part for part in one.allocations if part not in present):
                others.append(replace(one, allocations=past))
        else:
            others.append(one)
    return _Parts(moved, loose, new, others, opens + len(loose))


def _is_known(one: PeerRecord, node_state: NodeState) -> bool:
    """Whether the database has a record of the same peer for the same row, so that only its counters differ."""
    known = node_state.records.of(one.interface).get(one.public_key)
    return known is not None and one.same_identity(known)


def _columns(one: PeerRecord) -> tuple[object, ...]:
    return (
        one.interface, one.public_key, one.row_id, one.device, one.owner, one.address, one.config_digest,
        one.state.value, one.epoch, _signed(one.rx), _signed(one.tx), one.handshake, one.sampled_at,
    )  # fmt: skip


def _signed(counter: int) -> int:
    """A counter of 64 bits as the bigint with the same bits, because no wider number is as fast."""
    return counter if counter <= MOST else counter - 2**64


# The lines of COPY's text form (PostgreSQL's manual, "COPY"). Values by values, psycopg needs four times as long.


def _moved(one: PeerRecord) -> str:
    return (
        f"{_text(one.interface)}\t\\\\x{one.public_key.hex()}\t{one.state.value}\t{_text(one.epoch)}\t{_signed(one.rx)}"
        f"\t{_signed(one.tx)}\t{one.handshake}\t{one.sampled_at!r}"
    )


def _pieces(postings: Iterable[Posting], *, counted: bool) -> Iterator[str]:
    """The pieces of each posting. The first one has the handshake."""
    for posting in postings:
        seen = posting.handshake if counted else None
        for one in posting.allocations:
            yield _piece(counted, posting.row_id, one.bucket, one.day, min(one.rx, MOST), min(one.tx, MOST), seen)
            seen = None
        if seen is not None:
            yield _piece(counted, posting.row_id, None, None, 0, 0, seen)


def _piece(*values: object) -> str:
    return "\t".join("\\N" if one is None else str(one) for one in values) + "\n"


@lru_cache(maxsize=1024)
def _text(value: str) -> str:
    return value.translate(_ESCAPES)


_ESCAPES = {ord(one): "\\" + name for one, name in (("\\", "\\"), ("\t", "t"), ("\n", "n"), ("\r", "r"))}
