"""Two nodes share a database: the stores of both, for contract tests. ``here`` serves wg0 and wg1."""

from __future__ import annotations

import pytest

from tests.samples import calendar, record
from tests.store_sides import AnyTables
from wgsyncd.core.state import WriteBatch
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun import own_rows

THEIRS = "osaka-wg0"  # an interface of the other node


def later(patch: pytest.MonkeyPatch) -> None:
    """Ten minutes pass, so that the next snapshot scans the table."""
    patch.setattr(own_rows, "SCAN_INTERVAL", 0.0)


def here(tables: AnyTables) -> Store:
    return tables.store(ignored=("osaka-wg0", "osaka-wg1"))


def there(tables: AnyTables) -> Store:
    """The store of the other node."""
    return tables.store(node="osaka", ignored=("wg0", "wg1"), prefix="osaka-")


def ids(store: Store) -> list[object]:
    return [row.id for row in store.snapshot().rows]


def insert(tables: AnyTables, *numbers: int, interface: str = "wg0") -> None:
    for number in numbers:
        tables.insert(number)
        tables.move(number, interface)


def keep_record(tables: AnyTables, store: Store, number: int) -> None:
    """The node has a peer of the device with this number, and a record of the peer."""
    commit(store, WriteBatch(records=(record(number, row_id=tables.id(number)),)))


def commit(store: Store, writes: WriteBatch | None = None) -> None:
    store.commit(store.load_state(calendar()), writes or WriteBatch(), calendar())
