"""A daemon that restarted beside a device holds each value of that device in memory once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.realnode import RealNode
from tests.samples import address, key, psk
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import encode_key


@pytest.mark.parametrize("account_first", [False, True])
def test_keys_and_digests_are_in_memory_once(
    real_tables: RealMikyunTables, tmp_path: Path, *, account_first: bool
) -> None:
    node = RealNode(real_tables, tmp_path)
    for number in (1005, 1006):  # Python itself keeps small numbers once, so these are larger
        node.device(number, wg_ip=address(number - 1000), preshared_key=encode_key(psk(number)))
    node.cycle()
    node.start()
    assert node.agent._cache.last_known is None
    if account_first:
        node.agent.account()
    for turn in (0, 1, 2):
        node.cycle()
        books = node.agent._cache.last_known
        assert books is not None
        assert len(books.records) == 2
        for number, want in ((one.row.id, one) for one in node.agent._planner._peers["wg0"].values()):
            row, record = want.row, books.records["wg0", key(number)]
            assert row.public_key is want.config.public_key
            assert row.preshared_key is want.config.preshared_key
            assert record.config_digest is want.digest
            assert record.row_id is row.id
            assert account_first or record.public_key is want.config.public_key
            assert account_first or record.device is row.device
        node.traffic(1005 + turn % 2, 10)  # the row is another object from the first byte on
