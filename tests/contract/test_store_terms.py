"""The store says what contracts have bought: their profile, and their bytes of the month where a cap needs them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store_sides import FakeMikyunTables, MikyunTables, RealMikyunTables
from wgsyncd.core.model import Counters
from wgsyncd.core.shaping.profiles import Terms

CONFIG = """
[shaping]
mode = "enforce"
[bandwidth.standard]
down = "8Mbit"
[bandwidth.capped]
down = "8Mbit"
monthly = "1GB"
beyond = "standard"
"""


def name_profile(tables: MikyunTables, contract: str, profile: str | None) -> None:
    """Does what an admin does in the web application."""
    if isinstance(tables, FakeMikyunTables):
        tables.db.profiles[contract] = profile or ""
    else:
        assert isinstance(tables, RealMikyunTables)
        value = "NULL" if profile is None else f"'{profile}'"
        tables.sql(f"UPDATE contracts SET bandwidth_profile = {value} WHERE contract_id = '{contract}'")


@pytest.fixture
def months(tables: MikyunTables) -> MikyunTables:
    """Returns tables with two contracts. A device of the first one is deleted, and another one is another node's."""
    tables.contract("0002", "active")
    tables.insert(1, rx_bytes_month=10, tx_bytes_month=100)
    tables.insert(2, rx_bytes_month=None, tx_bytes_month=1000, status="revoked")
    tables.insert(3, rx_bytes_month=20, tx_bytes_month=0, wg_iface="theirs")
    tables.insert(4, contract_id="0002", rx_bytes_month=7, tx_bytes_month=7)
    return tables


def terms(tables: MikyunTables, extra: str = CONFIG, **node: Any) -> dict[str, Terms]:
    return dict(tables.store(extra, **node).snapshot().terms)


def test_each_contract_has_its_profile(months: MikyunTables) -> None:
    name_profile(months, "0001", "standard")
    assert terms(months) == {"0001": Terms("standard"), "0002": Terms("")}


def test_the_month_is_the_sum_of_all_rows_and_asked_for_only_where_a_cap_is(months: MikyunTables) -> None:
    name_profile(months, "0001", "capped")
    name_profile(months, "0002", "standard")
    found = terms(months, ignored=("theirs",))
    assert found == {"0001": Terms("capped", Counters(30, 1100)), "0002": Terms("standard")}


def test_the_perspective_of_the_columns_counts(months: MikyunTables) -> None:
    name_profile(months, "0001", "capped")
    found = terms(months, 'perspective = "device"\n' + CONFIG)
    assert found["0001"].month == Counters(1100, 30)


def test_without_shaping_nobody_asks(months: MikyunTables) -> None:
    name_profile(months, "0001", "standard")
    assert terms(months, "") == {}


def test_another_profile_changes_the_digest_only_with_shaping(months: MikyunTables) -> None:
    shaping, plain = months.store(CONFIG), months.store()
    before = shaping.digest(), plain.digest()
    name_profile(months, "0002", "standard")
    assert shaping.digest() != before[0]
    assert plain.digest() == before[1]
