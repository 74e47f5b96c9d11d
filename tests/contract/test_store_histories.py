"""MariaDB and the store in memory keep the same bytes through random histories.

The store in memory knows no open pieces and no usual batch. So this compares each shortcut with the plain rule.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.samples import NOW, TOKYO, calendar, device_name, key, record
from tests.store_sides import FakeMikyunTables, MikyunTables, RealMikyunTables
from wgsyncd.core.records import PeerRecord, RecordState
from wgsyncd.core.state import Allocation, InterfaceCheckpoint, NodeState, Posting, WriteBatch, merge_allocations
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.ports import Store

ROWS = range(1, 9)
FIGURES = [f"{side}_bytes_{window}" for window in ("total", "24h", "month") for side in ("rx", "tx")]
FIGURES += ["last_handshake_at", "updated_at"]


class Side:
    """One of the two databases, and the stores of two nodes on it."""

    def __init__(self, tables: MikyunTables) -> None:
        self.tables = tables
        self.stores: dict[str, Store] = {}
        self.states: dict[str, NodeState] = {}
        for node in ("a", "b"):
            self.start(node)

    def start(self, node: str) -> None:
        """Opens the store of a node, as after a restart."""
        self.stores[node] = self.tables.store(node=node)
        self.states[node] = self.stores[node].load_state(calendar())

    def commit(self, node: str, writes: WriteBatch, at: UsageCalendar) -> object:
        self.states[node], applied, set_aside = self.stores[node].commit(self.states[node], writes, at)
        return applied, set_aside

    def seen(self) -> object:
        rows = {number: [self.tables.device(number)[name] for name in FIGURES] for number in self.tables.devices()}
        records = {node: sorted(store.load_state(calendar()).records.each(), key=_order)
                   for node, store in self.stores.items()}  # fmt: skip
        return rows, self.tables.days(), self.tables.buckets(), records


def _order(one: PeerRecord) -> tuple[str, bytes]:
    return one.peer_id


class History:
    """Makes random steps on both sides."""

    def __init__(self, seed: int, sides: tuple[Side, Side]) -> None:
        self.random, self.sides, self.now, self.next_row = random.Random(seed), sides, NOW, 100
        self.rows = {number: number for number in ROWS}  # the row of each device, by the number of the device
        self.refused: set[int] = set()  # ids of rows
        for number in ROWS:
            self._insert(number, number)

    @property
    def _at(self) -> UsageCalendar:
        return calendar(self.now, TOKYO)

    def _insert(self, row: int, device: int) -> None:
        for side in self.sides:
            side.tables.insert(row, device_id=device_name(device))

    def _commit(self, node: str, writes: WriteBatch) -> None:
        if writes:
            first, second = (side.commit(node, writes, self._at) for side in self.sides)
            assert first == second

    def post(self) -> None:
        """A poll of one node, in which some of its devices moved. Rows may be locked or refused."""
        node, state = self.random.choice("ab"), self.sides[0].states
        devices = sorted(self.random.sample(ROWS, self.random.randint(1, len(ROWS))))
        known = state[node].records.of("wg0")
        usual = self.random.random() < 0.7  # all bytes came in the present bucket
        postings, records = [], []
        for device in devices:
            before = known.get(key(device)) or record(device, row_id=self.rows[device])
            back = (0,) if usual else (0, 0, 900, 86_400, 40 * 86_400)
            parts = [self._allocation(self.random.choice(back)) for _ in range(self.random.choice((0, 1, 1, 1, 2)))]
            later = self.random.choice((None, self.now - self.random.randint(0, 99)))
            assert before.row_id is not None
            postings.append(Posting(before.row_id, before.device, merge_allocations(parts), later))
            records.append(replace(
                before, rx=before.rx + sum(one.rx for one in parts), tx=before.tx + sum(one.tx for one in parts),
                handshake=int(later * 1e9) if later else before.handshake, sampled_at=self.now,
            ))  # fmt: skip
        marks = {"wg0": InterfaceCheckpoint("boot-a:3", self.now)} if self.random.random() < 0.3 else {}
        counts = all(key(device) in known for device in devices)
        writes = WriteBatch(postings=tuple(postings), records=tuple(records), checkpoints=marks, counts_only=counts)
        lock = self.random.choice([*self.sides[0].tables.devices(), None, None, None, None])
        for side in self.sides:
            side.tables.refuse(*self.refused)
        if lock is None:
            self._commit(node, writes)
        else:
            with self.sides[0].tables.locked(lock), self.sides[1].tables.locked(lock):
                self._commit(node, writes)

    def _allocation(self, back: int) -> Allocation:
        at = self._at
        bucket = at.bucket - back if at.bucket - back >= at.rolling_start else None
        return Allocation(bucket, at.day(self.now - back), self.random.randint(0, 9999), self.random.randint(0, 9999))

    def time_passes(self) -> None:
        """Until the next poll, the next bucket, the next day, or a clock is set back."""
        self.now += self.random.choice((15, 15, 15, 15, 900, 3600, 86_400, -3600))

    def row_is_replaced(self) -> None:
        """The application deletes a row, and inserts another one for the same device."""
        device = self.random.choice(ROWS)
        self._delete(self.rows[device])
        self.next_row += 1
        self.rows[device] = self.next_row
        self._insert(self.next_row, device)

    def ids_are_used_again(self) -> None:
        """Two devices get each other's row id."""
        one, two = self.random.sample(ROWS, 2)
        self._delete(self.rows[one])
        self._delete(self.rows[two])
        self.rows[one], self.rows[two] = self.rows[two], self.rows[one]
        for device in (one, two):
            self._insert(self.rows[device], device)

    def _delete(self, row: int) -> None:
        for side in self.sides:
            side.tables.delete(row)

    def record_follows_its_row(self) -> None:
        """A reconcile brings records up to date: their row, the device, the state."""
        node = self.random.choice("ab")
        some = []
        for one in self.sides[0].states[node].records.each():
            device = next(n for n in ROWS if key(n) == one.public_key)
            if self.random.random() < 0.2:
                device = self.random.choice(ROWS)  # another device has the key now
            some.append(replace(
                one, row_id=self.rows[device], device=device_name(device),
                state=self.random.choice((RecordState.PRESENT, RecordState.PRESENT, RecordState.ADDING)),
            ))  # fmt: skip
        self._commit(node, WriteBatch(records=tuple(some)))

    def peer_goes(self) -> None:
        node = self.random.choice("ab")
        ids = [one.peer_id for one in self.sides[0].states[node].records.each()]
        if ids:
            self._commit(node, WriteBatch(removed=(self.random.choice(ids),)))

    def node_restarts(self) -> None:
        node = self.random.choice("ab")
        for side in self.sides:
            side.start(node)

    def rows_are_refused_or_mended(self) -> None:
        self.refused = set(self.random.sample(self.sides[0].tables.devices(), self.random.choice((0, 0, 1, 3))))
        for side in self.sides:
            side.tables.refuse(*self.refused)

    def what_is_set_aside_is_posted(self) -> None:
        node, blocked = self.random.choice("ab"), set(self.random.sample(self.sides[0].tables.devices(), 2))
        lock = self.random.choice(self.sides[0].tables.devices())
        with self.sides[0].tables.locked(lock), self.sides[1].tables.locked(lock):
            first, second = (list(side.stores[node].post_set_aside(self._at, blocked)) for side in self.sides)
        assert first == second

    def windows_move_on(self) -> None:
        first, second = (side.stores[self.random.choice("a")].refresh(self._at) for side in self.sides)
        assert first == second

    def old_buckets_go(self) -> None:
        for side in self.sides:
            side.stores["a"].purge(self._at, 60)


STEPS = (History.post,) * 10 + (History.time_passes,) * 5 + (History.windows_move_on,) * 2 + (
    History.rows_are_refused_or_mended, History.what_is_set_aside_is_posted, History.what_is_set_aside_is_posted,
    History.record_follows_its_row, History.row_is_replaced, History.ids_are_used_again, History.peer_goes,
    History.node_restarts, History.old_buckets_go,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_both_stores_keep_the_same_bytes(real_tables: RealMikyunTables, seed: int) -> None:
    _compare(real_tables, seed)


@pytest.mark.parametrize("text", ["latin1", "utf8mb3", "utf8mb4 COLLATE utf8mb4_unicode_ci"])
def test_any_character_set_of_the_application_will_do(real_tables: RealMikyunTables, text: str) -> None:
    change = "ALTER TABLE customer_devices MODIFY device_id VARCHAR(64) {} NOT NULL"
    real_tables.sql(change.format(f"CHARACTER SET {text}"))
    try:
        _compare(real_tables, 3, steps=20)
    finally:
        real_tables.sql(change.format(""))


def _compare(real_tables: RealMikyunTables, seed: int, steps: int = 60) -> None:
    sides = Side(real_tables), Side(FakeMikyunTables())
    history = History(seed, sides)
    done = []
    for _ in range(steps):
        step = history.random.choice(STEPS)
        done.append(step.__name__)
        step(history)
        ours, theirs = (side.seen() for side in sides)
        assert ours == theirs, done
