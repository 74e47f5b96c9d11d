"""A daemon that restarted holds the id, the key and the name of a device in memory once."""

from __future__ import annotations

from pathlib import Path

from tests.realnode import RealNode
from tests.samples import address, key, psk
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import encode_key


def test_a_record_and_its_row_share_their_values(real_tables: RealMikyunTables, tmp_path: Path) -> None:
    node = RealNode(real_tables, tmp_path)
    for number in (1005, 1006):  # Python itself keeps small numbers once, so these are larger
        node.device(number, wg_ip=address(number - 1000), preshared_key=encode_key(psk(number)))
    node.cycle()
    node.start()
    assert node.agent._cache.last_known is None
    for turn in (0, 1, 2):
        node.cycle()
        known = node.agent._cache.last_known
        assert known is not None
        assert len(known.records) == 2
        for number, want in ((one.row.id, one) for one in node.agent._planner._peers["wg0"].values()):
            row, record = want.row, known.records["wg0", key(number)]
            assert record.row_id is row.id
            assert record.public_key is row.public_key
            assert record.device is row.device
        node.traffic(1005 + turn % 2, 10)  # the row is another object from the first byte on
