"""Rows that are read in pages, many in one value, equal the rows that are read column by column."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.samples import key, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.stores.mikyun import connection, rows

PAGE = 3


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_PAGE", PAGE)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that grows by "rows" or "pages" with each read of the rows."""
    asked: list[str] = []
    stream = connection.Connection.stream

    def listening(self: connection.Connection, sql: str, values: connection.Values = ()) -> object:
        if "customer_devices d" in sql:
            asked.append("pages" if "GROUP_CONCAT" in sql else "rows")
        return stream(self, sql, values)

    monkeypatch.setattr(connection.Connection, "stream", listening)
    return asked


def insert(tables: RealMikyunTables, number: int, **columns: object) -> None:
    tables.insert(number, **{"public_key": text(number), "wg_ip": f"10.200.0.{number}", "wg_iface": "wg0", **columns})


def fresh(tables: RealMikyunTables) -> tuple[DeviceRow, ...]:
    """Returns the present rows, read column by column."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows.RowCache, "_load_joined", lambda *_: False)
        return tables.store().snapshot().rows


@pytest.mark.parametrize("seed", range(8))
def test_whatever_changes_it_is_what_is_found_row_by_row(real_tables: RealMikyunTables, seed: int) -> None:
    store, chance = real_tables.store(), random.Random(seed)
    there: set[int] = set()
    before: dict[DeviceId, DeviceRow] = {}
    for turn in range(25):
        changed: set[int] = set()
        for _ in range(chance.choice((0, 1, 2, 12))):
            number = chance.randrange(1, 60)
            changed.add(number)
            if number not in there:
                insert(real_tables, number)
                there.add(number)
            elif chance.random() < 0.6:
                real_tables.delete(number)
                there.discard(number)
            else:
                real_tables.update(number, preshared_key=f"{turn}", wg_ip=f"10.200.{1 + turn}.{number}")
        if chance.random() < 0.1:
            changed |= there
            real_tables.sql("DELETE FROM customer_devices WHERE id > %s", chance.choice((0, 30)))
            there = {number for number in there if number <= 30} & {one.id for one in fresh(real_tables)}
        seen = store.snapshot().rows
        assert seen == fresh(real_tables)
        assert [one.id for one in seen] == sorted(there)
        after = {one.id: one for one in seen}
        kept = before.keys() & after.keys() - changed
        assert all(after[number] is before[number] for number in kept), "a row that is as it was is the same object"
        before = after


@pytest.mark.parametrize("ids", [(), (7,), (1, 2, 3, 4, 5, 6, 7), (2, 3, 90), (1, *range(50, 70)), (5, 2**62)])
def test_the_first_time_too(real_tables: RealMikyunTables, statements: list[str], ids: tuple[int, ...]) -> None:
    """The pages work for any distances between the ids."""
    for number in ids:
        insert(real_tables, number)
    assert real_tables.store().snapshot().rows == fresh(real_tables)
    assert statements == ["pages", "rows"]
    assert [one.id for one in fresh(real_tables)] == list(ids)


def test_of_a_row_that_has_changed_the_rest_is_in_memory_once(real_tables: RealMikyunTables) -> None:
    store = real_tables.store()
    insert(real_tables, 1, preshared_key=text(9))
    (before,) = store.snapshot().rows
    real_tables.update(1, rx_bytes_total=5)
    (after,) = store.snapshot().rows
    assert (before.has_no_usage, after.has_no_usage) == (True, False)
    for name in ("device", "addresses", "public_key", "preshared_key"):
        assert getattr(after, name) is getattr(before, name), name
    real_tables.update(1, preshared_key=text(8), wg_ip="10.200.0.2")
    (changed,) = store.snapshot().rows
    assert (changed.preshared_key, changed.addresses) == (key(8), ("10.200.0.2",))
    assert changed.public_key is before.public_key


def test_a_change_of_a_contract_is_seen_in_every_page(real_tables: RealMikyunTables) -> None:
    store = real_tables.store()
    for number in range(1, 4 * PAGE):
        insert(real_tables, number)
    store.snapshot()
    real_tables.contract("0001", "paused")
    assert {reason.state for one in store.snapshot().rows for reason in one.inactive} == {"paused"}


def test_rows_of_a_page_that_is_cut_off_anywhere_are_read_column_by_column(
    real_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    for number in range(1, PAGE + 1):
        insert(real_tables, number)
    right = fresh(real_tables)
    whole = 0
    for most in range(4, 800, 5):
        with monkeypatch.context() as patch:
            patch.setitem(connection.SETTINGS, "group_concat_max_len", most)
            store = real_tables.store()
            assert store.snapshot().rows == right
            statements.clear()
            assert store.snapshot().rows == right, most
            store.close()
        assert statements in (["pages", "rows"], ["pages"])
        whole += statements == ["pages"]
    assert 0 < whole < 150


def test_of_a_text_without_end_only_the_beginning_is_read(real_tables: RealMikyunTables, statements: list[str]) -> None:
    """Many such texts would fill the memory. A text that is cut off does not become right by that."""
    tails = {1: "x" * 60_000, 2: " " * 60_000 + "x", 3: "鍵" * 20_000}
    for number, tail in tails.items():
        insert(real_tables, number, public_key=text(number) + tail, preshared_key=text(9) + tail)
    found = real_tables.store().snapshot().rows
    assert statements == ["pages"]
    for row, (number, tail) in zip(found, tails.items(), strict=True):
        cut = tail[: 256 - 44] + "…"
        assert (row.public_key, row.preshared_key) == (text(number) + cut, text(9) + cut)
    real_tables.update(1, preshared_key="a\x1fb")  # now each column is a value of its own
    assert real_tables.store().snapshot().rows[1:] == found[1:]


def test_a_row_that_is_longer_than_a_packet_is_not_overlooked(real_tables: RealMikyunTables) -> None:
    """The row's text would be NULL. GROUP_CONCAT leaves NULL out, so the page would look as before."""
    store = real_tables.store()
    insert(real_tables, 1)
    store.snapshot()
    assert [one.id for one in store.snapshot().rows] == [1]
    real_tables.sql("ALTER TABLE customer_devices MODIFY preshared_key MEDIUMTEXT, MODIFY wg_iface MEDIUMTEXT")
    try:
        insert(real_tables, 2)
        real_tables.sql("UPDATE customer_devices SET preshared_key = REPEAT('x', 9000000),"
                      " wg_iface = REPEAT('y', 9000000) WHERE id = 2")  # fmt: skip
        seen = store.snapshot().rows
        assert [one.id for one in seen] == [1, 2]
        assert seen == fresh(real_tables)
        real_tables.sql("DELETE FROM customer_devices WHERE id = 1")
        assert [one.id for one in store.snapshot().rows] == [2]
    finally:
        real_tables.sql("DELETE FROM customer_devices")
        real_tables.sql("ALTER TABLE customer_devices MODIFY preshared_key TEXT, MODIFY wg_iface VARCHAR(32)")


def test_while_a_row_is_no_text_all_rows_are_read_column_by_column(
    real_tables: RealMikyunTables, statements: list[str]
) -> None:
    store = real_tables.store()
    insert(real_tables, 1, preshared_key="a\x1fb")
    insert(real_tables, 2)
    for asked in (["pages", "rows"], ["pages", "rows"]):
        assert store.snapshot().rows[0].preshared_key == "a\x1fb"
        assert statements == asked
        statements.clear()
    real_tables.update(1, preshared_key="ab")
    assert [one.preshared_key for one in store.snapshot().rows] == ["ab", None]
    assert statements == ["pages"]


@pytest.mark.parametrize("column", ["device_id", "wg_ip", "preshared_key"])
def test_a_text_that_looks_like_the_end_of_a_row_is_none(real_tables: RealMikyunTables, column: str) -> None:
    store = real_tables.store()
    insert(real_tables, 5)
    insert(real_tables, 6)
    store.snapshot()
    real_tables.update(5, **{column: "a\x1e0\x1f\x1f"})
    assert store.snapshot().rows == fresh(real_tables)
    assert [one.id for one in store.snapshot().rows] == [5, 6]


def test_all_pages_are_of_one_moment(real_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement changes all secrets while the last page is being read."""
    store = real_tables.store()
    numbers = range(1, 2 * PAGE + 1)
    for number in numbers:
        insert(real_tables, number, preshared_key="old")
    store.snapshot()
    right = rows._of_pages
    slow = f"WHERE IF(d.id = {2 * PAGE}, SLEEP(1), 0) = 0 AND"
    monkeypatch.setattr(rows, "_of_pages", lambda *values: slow.join(right(*values).rsplit("WHERE", 1)))
    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(lambda: store.snapshot().rows)
        state = "SELECT COUNT(*) n FROM information_schema.processlist WHERE state = 'User sleep'"
        while not real_tables.sql(state)[0]["n"]:
            assert not reading.done()
        real_tables.sql("UPDATE customer_devices SET preshared_key = 'new'")
        assert not reading.done(), "the change came in the middle of it"
        assert [one.preshared_key for one in reading.result()] == ["old" for _ in numbers]
    assert [one.preshared_key for one in store.snapshot().rows] == ["new" for _ in numbers]
