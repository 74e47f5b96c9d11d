"""A whole node on tables with odd ids, names, triggers and partitions: no byte is lost, and one row is one row's trouble."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.realnode import RealNode
from tests.samples import device_name, key
from tests.store_sides import RealMikyunTables
from wgsyncd.core.usage.aside import Obstacle

D = "ALTER TABLE customer_devices "


@pytest.mark.parametrize("ignored", [(), ("wg9",)], ids=["alone", "with other nodes"])
def test_an_id_beyond_a_bigint_holds_up_nobody(
    odd_tables: RealMikyunTables, tmp_path: Path, ignored: tuple[str, ...]
) -> None:
    """The application takes its ids from UUID_SHORT(). wgsyncd's tables cannot hold such an id."""
    large = 2**63 + 6
    odd_tables.sql(D + "MODIFY id BIGINT UNSIGNED NOT NULL")
    odd_tables.store = partial(odd_tables.store, ignored=ignored)  # type: ignore[method-assign]
    node = RealNode(odd_tables, tmp_path)
    node.device(5)
    node.device(6)
    node.issued(7, node.now + 600)
    odd_tables.sql("UPDATE customer_devices SET id = %s WHERE id = 6", large)
    odd_tables.sql("UPDATE customer_devices SET id = %s WHERE id = 7", large + 1)
    node.cycle()
    for _ in range(2):
        assert node.wg.peers("wg0").keys() == {key(5), key(6), key(7)}
        for number in (5, 6, 7):
            node.shake(number)
            node.traffic(number, 10)
        node.account()
        node.start()
        node.cycle()
        before = node.written
        node.cycle()
        assert node.written == before, "nothing is left to do"
    assert [odd_tables.posted(number).rx for number in (5, large, large + 1)] == [20, 20, 20]
    assert odd_tables.device(large + 1)["status"] == "active"
    with odd_tables.locked(large):
        node.traffic(6, 7)
        node.account()
    node.account()
    assert odd_tables.posted(large).rx == 27
    odd_tables.update(large, status="paused")
    node.cycle()
    assert node.wg.peers("wg0").keys() == {key(5), key(7)}
    assert "peer_moved" not in [one.action for one in odd_tables.logs()]


@pytest.mark.parametrize("name", ["renamed", "a" * 65])
def test_a_device_that_was_just_renamed_gets_its_bytes(odd_tables: RealMikyunTables, tmp_path: Path, name: str) -> None:
    """The poll comes before the rows are read again. A name that is too long is never taken over."""
    odd_tables.sql(D + "MODIFY device_id VARCHAR(400) NOT NULL")
    node = RealNode(odd_tables, tmp_path)
    node.device(5)
    node.device(6)
    node.cycle()
    for number in (5, 6):
        node.traffic(number, 10)
    odd_tables.update(5, device_id=name)
    node.account()
    node.cycle()
    for number in (5, 6):
        node.traffic(number, 10)
    node.account()
    assert node.posted == node.true


@pytest.mark.parametrize("more", [0, 7], ids=["", "and moves more under the new name"])
def test_a_device_that_is_renamed_while_its_bytes_are_set_aside_gets_them(
    odd_tables: RealMikyunTables, tmp_path: Path, more: int
) -> None:
    odd_tables.sql(
        "CREATE TRIGGER odd BEFORE UPDATE ON customer_devices FOR EACH ROW"
        " IF OLD.id = 5 AND NEW.rx_bytes_total > OLD.rx_bytes_total THEN SIGNAL SQLSTATE '45000'; END IF"
    )
    node = RealNode(odd_tables, tmp_path)
    for number in (5, 6):
        node.device(number)
    node.cycle()
    for number in (5, 6):
        node.traffic(number, 10)
    node.account()
    odd_tables.update(5, device_id="renamed")
    node.cycle()
    node.traffic(5, more)
    node.account()
    assert [one.device for one in node.status.set_aside] == ["renamed"]
    odd_tables.sql("DROP TRIGGER odd")
    node.account()
    assert not node.status.set_aside
    assert node.posted == node.true
    assert sum(one.rx for one in odd_tables.days().values()) == 20 + more


@pytest.mark.parametrize(
    ("trigger", "lost"),
    [
        ("SET NEW.device_id = CONCAT('x-', REPLACE(OLD.device_id, 'x-', ''))", set()),
        ("SET NEW.device_id = CONCAT('x', OLD.device_id)", set()),
        ("SET NEW.id = OLD.id + 1000", set()),
        ("IF OLD.id = 5 THEN SET NEW.rx_bytes_total = NULL; END IF", {5}),
    ],
    ids=["renames", "renames again and again", "moves", "empties a counter"],
)
def test_a_trigger_harms_its_row_alone(
    odd_tables: RealMikyunTables, tmp_path: Path, trigger: str, lost: set[int]
) -> None:
    odd_tables.sql("CREATE TRIGGER odd BEFORE UPDATE ON customer_devices FOR EACH ROW " + trigger)
    node = RealNode(odd_tables, tmp_path)
    node.device(5)
    node.device(6)
    node.cycle()
    for _ in range(4):
        for number in (5, 6):
            node.shake(number)
            node.traffic(number, 10)
        node.account()
        node.cycle()
    assert [one.rx for number, one in sorted(node.posted.items()) if number not in lost] == [40] * (2 - len(lost))
    assert sum(one.rx for one in odd_tables.days().values()) == 80, "the history has all bytes"


def test_a_table_in_partitions_is_posted_to(odd_tables: RealMikyunTables, tmp_path: Path) -> None:
    """Unique keys must hold the column of the partitions, so the application has none but the primary key."""
    odd_tables.sql(D + "DROP KEY device_id, DROP KEY wg_ip, DROP KEY public_key PARTITION BY HASH (id) PARTITIONS 4")
    node = RealNode(odd_tables, tmp_path)
    for number in range(5, 15):
        node.device(number)
    node.issued(15, node.now + 600)
    node.cycle()
    for number in range(5, 16):
        node.shake(number)
        node.traffic(number, number)
    with odd_tables.locked(7):
        node.account()
        assert odd_tables.posted(7).rx == 0
        assert odd_tables.posted(8).rx == 8
    for number in range(5, 16):
        node.traffic(number, number)
    node.account()
    assert node.posted == node.true
    assert odd_tables.device(15)["status"] == "active"
    odd_tables.delete(9)
    node.tick(3600)
    node.cycle()
    assert key(9) not in node.wg.peers("wg0")
    node.cycle()
    before = node.written
    node.cycle()
    assert node.written == before


def test_a_server_that_is_too_slow_is_told_from_a_lock(odd_tables: RealMikyunTables, tmp_path: Path) -> None:
    node = RealNode(odd_tables, tmp_path)
    node.device(5)
    node.device(6)
    node.cycle()
    changer = node.store._changer  # type: ignore[attr-defined]
    changer._tired_until = float("inf")
    for number in (5, 6):
        node.traffic(number, 10)
    with odd_tables.locked(5):
        node.account()
        assert {one.device: one.obstacle for one in node.status.set_aside} == {
            device_name(5): Obstacle.LOCKED,
            device_name(6): Obstacle.LATE,
        }
        changer._tired_until = 0.0
        node.account()
    assert {one.device: one.obstacle for one in node.status.set_aside} == {device_name(5): Obstacle.LOCKED}
    node.account()
    assert node.posted == node.true
    assert not node.status.set_aside
