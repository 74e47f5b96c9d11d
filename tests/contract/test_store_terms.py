"""The store says what contracts have bought: profiles, bytes of the month where a cap needs them, device limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.samples import calendar, record
from tests.store_sides import FakeMikyunTables, MikyunTables, RealMikyunTables
from wgsyncd.core.model import Counters
from wgsyncd.core.reasons import Reason
from wgsyncd.core.shaping.profiles import Terms
from wgsyncd.core.state import WriteBatch

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


def limit(tables: MikyunTables, contract: str, most: int) -> None:
    """Does what an admin does in the web application."""
    if isinstance(tables, FakeMikyunTables):
        tables.db.limits[contract] = most
    else:
        assert isinstance(tables, RealMikyunTables)
        tables.sql(f"UPDATE contracts SET max_devices = {most} WHERE contract_id = '{contract}'")


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


# -- conditions


def conditions(tables: MikyunTables, extra: str = CONFIG, **node: Any) -> set[tuple[str, str, str]]:
    found = tables.store(extra, **node).snapshot().conditions
    assert found is not None
    return {(one.type, one.subject, one.reason) for one in found}


def test_an_unknown_profile_and_a_reached_cap_are_conditions_of_their_contracts(months: MikyunTables) -> None:
    name_profile(months, "0001", "capped")
    name_profile(months, "0002", "gold")
    assert conditions(months) == {("unknown_profile", "0002", "gold")}
    months.insert(5, rx_bytes_month=0, tx_bytes_month=1_000_000_000)
    assert conditions(months) == {("unknown_profile", "0002", "gold"), ("cap_reached", "0001", "standard")}
    assert conditions(months, "") == set()


ODD = ("😀 émoji", "standard ", "STANDARD", "O\\'Neil \\\\", "ß" * 64, "0", "\t", "ｓtandard")


@pytest.mark.parametrize("profile", ODD)
def test_a_profile_that_only_looks_like_a_known_one_is_unknown_and_told_once(
    months: MikyunTables, profile: str
) -> None:
    """SQL may compare without case and trailing spaces. A condition that came back otherwise would start again."""
    name_profile(months, "0002", profile)
    named = profile.replace("\\'", "'").replace("\\\\", "\\") if isinstance(months, RealMikyunTables) else profile
    store = months.store(CONFIG)
    found = store.snapshot()
    assert found.terms["0002"] == Terms(named)
    (one,) = found.conditions or frozenset()
    assert one.reason == named
    store.commit(store.load_state(calendar()), WriteBatch(started=frozenset((one,))), calendar())
    assert months.store(CONFIG).load_state(calendar()).conditions == {one}


# -- device limits


def limits(mode: str) -> str:
    return f'[limits]\ndevices = "{mode}"\n'


def rejected(tables: MikyunTables, mode: str = "reject", **node: Any) -> dict[object, str]:
    rows = tables.store(limits(mode), **node).snapshot().rows
    return {row.id: row.fault_facts.value for row in rows if row.fault is Reason.OVER_DEVICE_LIMIT}


def test_a_contract_with_too_many_devices_is_reported_and_the_youngest_rows_are_rejected(months: MikyunTables) -> None:
    months.insert(5)
    months.insert(6, status="issued", issued_at="2026-01-01 00:00:00")
    months.insert(7, status="paused")
    limit(months, "0001", 3)
    assert conditions(months, limits("report")) == {("devices_over_limit", "0001", "4 > 3")}
    assert conditions(months, limits("reject")) == {("devices_over_limit", "0001", "4 > 3")}
    assert conditions(months, limits("ignore")) == set()
    assert rejected(months) == {6: "3"}
    assert rejected(months, "report") == rejected(months, "ignore") == {}


@pytest.mark.parametrize("most", [4, -1])
def test_enough_places_and_no_limit_at_all_reject_nobody(months: MikyunTables, most: int) -> None:
    months.insert(5)
    months.insert(6)
    limit(months, "0001", most)
    assert (rejected(months), conditions(months, limits("report"))) == ({}, set())


def test_the_rows_of_other_nodes_count_and_a_recorded_peer_keeps_its_place(months: MikyunTables) -> None:
    months.insert(5)
    limit(months, "0001", 1)
    assert rejected(months, ignored=("theirs",)) == {5: "1"}
    store = months.store(limits("reject"), ignored=("theirs",))
    one = replace(record(5), device=str(months.device(5)["device_id"]), row_id=5)
    store.commit(store.load_state(calendar()), WriteBatch(records=(one,)), calendar())
    assert rejected(months, ignored=("theirs",)) == {1: "1"}
    limit(months, "0001", 0)
    assert rejected(months, ignored=("theirs",)) == {1: "0", 5: "0"}


def test_a_contract_of_another_node_alone_and_a_contract_that_ended_are_not_told(months: MikyunTables) -> None:
    limit(months, "0001", 0)
    limit(months, "0002", 0)
    months.contract("0002", "terminated")
    months.update(1, status="revoked")
    assert conditions(months, limits("report"), ignored=("theirs",)) == set()


def test_few_devices_of_a_full_contract_are_left_to_a_full_cycle(months: MikyunTables) -> None:
    months.insert(5)
    limit(months, "0001", 3)
    store = months.store(limits("reject"))
    assert [row.fault for row in store.load_devices(frozenset(("0001-DEV-005",))) or ()] == [None]
    limit(months, "0001", 2)
    assert [row.fault for row in store.load_devices(frozenset(("0001-DEV-005",))) or ()] == [Reason.OVER_DEVICE_LIMIT]
    assert [row.fault for row in months.store(limits("report")).load_devices(frozenset(("0001-DEV-005",))) or ()] == [
        None
    ]


def test_another_limit_changes_the_digest_only_where_limits_matter(months: MikyunTables) -> None:
    limited, plain = months.store(limits("report")), months.store(limits("ignore"))
    before = limited.digest(), plain.digest()
    limit(months, "0002", 7)
    assert limited.digest() != before[0]
    assert plain.digest() == before[1]
