"""What only informs fails by itself: it is bounded in time, told once with its own name, and tried again."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.samples import text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.state import Condition
from wgsyncd.stores.mikyun.store import MariaDBStore

VIEW = "CREATE OR REPLACE {definer} VIEW v_parent_conflicts AS {query}"
GOOD = (
    "SELECT contract_id, COUNT(*) AS parent_count FROM customer_devices WHERE is_parent GROUP BY 1 HAVING COUNT(*) > 1"
)
CONFLICTS = frozenset((Condition("parent_conflict", "0001", "0001", "2"),))
UNSEEN = "v_parent_conflicts cannot be read: parent conflicts are not watched"

VIEWS = {
    # name: (the account that made the view, what it asks, a part of the reason)
    "its maker is gone": ("DEFINER = 'panel'@'10.9.8.7'", GOOD, "is gone: make it again"),
    "its maker may nothing": ("DEFINER = 'poor'@'localhost'", GOOD, "1356"),
    "stand-in of a dump": ("", "SELECT NULL AS contract_id, NULL AS parent_count", "no conflict"),
    "stand-in of a later dump": ("", "SELECT 1 AS contract_id, 1 AS parent_count", "no conflict"),
    "words": ("", "SELECT '0001' AS contract_id, 'two' AS parent_count", "no conflict"),
    "other columns": ("", "SELECT 1 AS contract", "1054"),
    "slow": ("", "SELECT '0001' AS contract_id, SLEEP(20) + 2 AS parent_count", "1969"),
    "broken": (
        "",
        "SELECT contract_id, COUNT(*) + parent_until AS parent_count FROM customer_devices GROUP BY 1",
        "1356",
    ),
}


def look(store: MariaDBStore) -> tuple[frozenset[Condition] | None, list[str]]:
    """Returns the conditions of a snapshot that has the row, and why the view was not read, where the log says that."""
    with capture_logs() as lines:
        seen = store.snapshot()
    assert [one.id for one in seen.rows] == [5, 6]
    return seen.conditions, [line["why"] for line in lines if line["event"] == UNSEEN]


@pytest.mark.parametrize(("definer", "query", "why"), VIEWS.values(), ids=VIEWS.keys())
def test_a_view_that_cannot_be_read_hides_no_row(
    odd_tables: RealMikyunTables, definer: str, query: str, why: str
) -> None:
    for number in (5, 6):
        odd_tables.insert(number, public_key=text(number), is_parent=1)
    odd_tables.sql("CREATE USER IF NOT EXISTS 'poor'@'localhost'")
    odd_tables.sql("ALTER TABLE customer_devices ADD parent_until INT")
    odd_tables.sql(VIEW.format(definer=definer, query=query))
    if why == "1356" and not definer:
        odd_tables.sql("ALTER TABLE customer_devices DROP parent_until")
    store, now = odd_tables.store(), [1000.0]
    store._conflicts._clock = lambda: now[0]
    conditions, (said,) = look(store)
    assert conditions is None
    assert why in said
    assert "password's file" not in said
    now[0] += 59
    odd_tables.sql(VIEW.format(definer="", query=GOOD))
    assert look(store) == (None, []), "it is not asked again yet"
    now[0] += 1
    assert look(store) == (CONFLICTS, [])


def test_a_view_that_fails_again_and_again_is_told_once(odd_tables: RealMikyunTables) -> None:
    for number in (5, 6):
        odd_tables.insert(number, is_parent=1)
    store, now = odd_tables.store(), [1000.0]
    store._conflicts._clock = lambda: now[0]
    assert look(store) == (CONFLICTS, [])
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.update(5, is_parent=0)
    said = [look(store)[1] for now[0] in (2000.0, 3000.0, 4000.0)]
    assert [len(one) for one in said] == [1, 0, 0]
    assert "1146" in said[0][0]
    odd_tables.sql(VIEW.format(definer="", query=GOOD))
    now[0] += 1000
    assert look(store) == (frozenset(), [])
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.update(5, is_parent=1)
    assert len(look(store)[1]) == 1, "new trouble is told anew"
