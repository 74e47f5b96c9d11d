"""Two nodes on one MariaDB hand a device over: its peer and its bytes, without a scan of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.admins import MikyunAdmin
from tests.node import Node
from tests.samples import address, key, text
from tests.store_sides import RealMikyunTables, node_config
from wgsyncd.config.load import parse
from wgsyncd.core.model import Counters
from wgsyncd.stores.mikyun import own_rows
from wgsyncd.stores.spool import FileSpool

OTHER = {"node": "osaka", "ignored": ("wg0", "wg1"), "prefix": "osaka-"}


class SharingNode(Node):
    """A node with a kernel of its own. Its rows are in the MariaDB of ``tables``."""

    def __init__(self, tables: RealMikyunTables, folder: Path, **node: Any) -> None:
        super().__init__()
        self.settings = parse(node_config(**node))
        self.db, self.admin = tables, MikyunAdmin(tables)  # type: ignore[arg-type]
        self.store = tables.store(**node)  # type: ignore[assignment]
        self.spool = FileSpool(folder, self.settings.node.name)  # type: ignore[assignment]
        self.start()


@pytest.fixture
def nodes(real_tables: RealMikyunTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Node]:
    """Returns two nodes. The table has rows that are newer than the rows of a test."""
    monkeypatch.setattr(own_rows, "RECENT", 1)
    for number in (5, 6, 7, 8, 9):
        interface = "wg0" if number < 7 else "osaka-wg0"
        real_tables.insert(
            number, wg_iface=interface, wg_ip=address(number), public_key=text(number), status="active",
            first_handshake_at="2026-01-02", last_handshake_at="2026-01-02",
        )  # fmt: skip
    both = (
        SharingNode(real_tables, tmp_path, ignored=("osaka-wg0", "osaka-wg1")),
        SharingNode(real_tables, tmp_path, **OTHER),
    )
    for node in both:
        node.cycle()
    return both


def peers(node: Node) -> set[int]:
    return {number for number in range(5, 10) if key(number) in node.kernel_of("wg0")}


def test_a_device_moves_there_and_back(
    nodes: tuple[Node, Node], real_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = nodes
    assert (peers(here), peers(there)) == ({5, 6}, {7, 8, 9})
    monkeypatch.delattr(own_rows.OwnRows, "scan")
    here.wg.traffic("wg0", key(5), 100, 10)
    before = there.store.digest()
    real_tables.move(5, "osaka-wg0")
    here.cycle()
    assert there.store.digest() != before, "the other node's watch finds it"
    there.cycle()
    assert (peers(here), peers(there)) == ({6}, {5, 7, 8, 9})
    there.wg.traffic("wg0", key(5), 1000, 1)
    there.account()
    real_tables.move(5, "wg1")
    real_tables.update(5, wg_ip=address(5, "wg1"))
    there.cycle()
    here.cycle()
    assert (peers(here), peers(there)) == ({6}, {7, 8, 9})
    assert key(5) in here.kernel_of("wg1")
    assert real_tables.posted(5) == Counters(1100, 11)
    removed = [one.message for one in real_tables.logs() if one.action == "peer_removed"]
    assert ["osaka-wg0" in removed[0], "wg1" in removed[1]] == [True, True]
    assert not [one for one in real_tables.logs() if one.action.startswith("guard")]
    for node in nodes:
        node.cycle()
    assert [row.id for row in here.store.snapshot().rows] == [5, 6]
