"""A store reads everything correctly: in memory, and on MariaDB with exactly the shipped grants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.samples import NOW, TOKYO, key, row, text
from tests.store_sides import MikyunTables, RealMikyunTables
from wgsyncd.core.model import Status
from wgsyncd.core.reasons import Inactive, Reason
from wgsyncd.core.state import Condition
from wgsyncd.errors import StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun.eligibility import DELETED, rules
from wgsyncd.stores.mikyun.rows import RowCache


def tokyo(written: str) -> float:
    return datetime.fromisoformat(written).replace(tzinfo=TOKYO).timestamp()


# -- reading


def test_an_empty_table_is_an_answer(any_store: Store) -> None:
    seen = any_store.snapshot()
    assert (seen.rows, seen.conditions, seen.approved, seen.quarantined) == ((), frozenset(), None, 0)


def test_a_row_as_it_stands(tables: MikyunTables, store: Store) -> None:
    tables.insert(
        5, wg_iface="wg0", wg_ip="10.200.0.5", public_key=text(5), preshared_key="psk", status="active",
        first_handshake_at="2026-01-02 03:04:05", last_handshake_at="2026-01-02 03:04:05", rx_bytes_total=7,
    )  # fmt: skip
    seen = store.snapshot().rows
    assert seen == (row(5, public_key=key(5), preshared_key="psk"),)
    assert seen[0].preshared_key == "psk"


def test_a_row_of_nothing_but_null(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    (one,) = store.snapshot().rows
    assert (one.interface, one.addresses, one.public_key, one.preshared_key) == ("", ("",), None, None)
    assert (one.status, one.inactive, one.first_handshake_known, one.has_no_usage) == (
        Status.ISSUED,
        (),
        False,
        True,
    )


@pytest.mark.parametrize("column", ["public_key", "preshared_key", "wg_ip", "wg_iface"])
def test_control_characters_stand_for_themselves(tables: MikyunTables, store: Store, column: str) -> None:
    """The store separates columns by one of these characters."""
    wild = "\x1fa\x1e\x1d\x00\n\x1f"
    tables.insert(5, **{"public_key": text(5), column: wild})
    tables.insert(6, public_key=text(6))
    one, two = store.snapshot().rows
    names = {"wg_ip": "addresses", "wg_iface": "interface"}
    assert getattr(one, names.get(column, column)) == ((wild,) if column == "wg_ip" else wild)
    assert (one.id, two.id, two.public_key) == (5, 6, key(6))


def test_the_same_text_from_other_columns_is_another_row(tables: MikyunTables, store: Store) -> None:
    tables.contract("a\x1f0001", "active")
    tables.insert(5, device_id="5\x1fa", wg_iface="wg0", public_key=text(5))
    (before,) = store.snapshot().rows
    tables.update(5, device_id="5", contract_id="a\x1f0001")
    (after,) = store.snapshot().rows
    assert [(one.device, one.owner) for one in (before, after)] == [("5\x1fa", "0001"), ("5", "a\x1f0001")]


def test_columns_of_other_character_sets(real_tables: RealMikyunTables) -> None:
    real_tables.insert(5, wg_iface="wg0", wg_ip="10.200.0.5", public_key=text(5), status="active", device_id="端末5")
    types = "wg_iface VARCHAR(32) CHARACTER SET cp932, MODIFY wg_ip VARBINARY(64), MODIFY status"
    known, unknown, some = (real_tables.store() for _ in range(3))
    for one_connected in (known, unknown, some):
        before = one_connected.snapshot().rows
    real_tables.sql(f"ALTER TABLE customer_devices MODIFY {types} VARCHAR(16) CHARACTER SET ucs2")
    try:
        unknown._rows = RowCache(TOKYO, 86400)
        looks: list[Callable[[], object]] = [
            lambda: known.snapshot().rows, lambda: unknown.snapshot().rows, lambda: some.load_devices(frozenset(("端末5",))),
        ]  # fmt: skip
        for look in looks:
            # the connection is older than this change of the table
            with pytest.raises(StoreError, match="inspects the columns again"):
                look()
            assert look() == before
        (one,) = real_tables.store().snapshot().rows
        assert (one.interface, one.addresses, one.status, one.device) == (
            "wg0",
            ("10.200.0.5",),
            Status.ACTIVE,
            "端末5",
        )
        assert real_tables.store().load_devices(frozenset(("端末5",))) == (one,)
    finally:
        real_tables.sql("ALTER TABLE customer_devices MODIFY wg_iface VARCHAR(32), MODIFY wg_ip VARCHAR(64),"
                      " MODIFY status VARCHAR(16) NOT NULL DEFAULT 'issued'")  # fmt: skip


def test_every_change_of_a_row_is_seen_by_a_store_that_knows_the_row(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, public_key=text(5), wg_ip="10.200.0.5", wg_iface="wg0")
    for column, value in [
        ("preshared_key", ""), ("preshared_key", text(7)), ("public_key", None), ("public_key", ""), ("wg_ip", "x"),
        ("issued_at", "2026-01-03 03:04:05"), ("qr_expires_at", "2026-01-09 03:04:05"),
        ("status", "active"), ("first_handshake_at", "2026-01-02 03:04:05"), ("rx_bytes_total", 1),
        ("deleted_at", "2026-01-02 03:04:05"), ("contract_id", "none"), ("wg_iface", "wg1"), ("device_id", "another"),
    ]:  # fmt: skip
        before = store.snapshot().rows
        assert store.snapshot().rows == before
        tables.update(5, **{column: value})
        assert store.snapshot().rows != before, column


def test_counters_that_are_null_were_never_counted(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, rx_bytes_total=None, tx_bytes_total=None)
    tables.insert(6, tx_bytes_total=1)
    tables.insert(7, last_handshake_at="2026-01-02 00:00:00")
    assert [one.has_no_usage for one in store.snapshot().rows] == [True, False, False]


QR_ENDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "qr_expires_at": ({"qr_expires_at": "2026-03-01 10:00:00", "issued_at": "2026-01-01 00:00:00"}, "2026-03-01 10:00:00"),
    "issued_at": ({"issued_at": "2026-03-01 10:00:00"}, "2026-03-02 10:00:00"),
    "created_at": ({"created_at": "2026-03-01 10:00:00"}, "2026-03-02 10:00:00"),
    "zero qr_expires_at": (
        {"qr_expires_at": "0000-00-00 00:00:00", "issued_at": "2026-03-01 10:00:00"}, "2026-03-02 10:00:00"),
    "zero issued_at": ({"issued_at": "0000-00-00 00:00:00", "created_at": "2026-03-01 10:00:00"}, "2026-03-02 10:00:00"),
    "all zero": (
        {"qr_expires_at": "0000-00-00 00:00:00", "issued_at": None, "created_at": "0000-00-00 00:00:00"}, None),
    "the year 1, Go's zero time": ({"qr_expires_at": "0001-01-01 00:00:00", "issued_at": "2026-03-01 10:00:00"}, None),
    "1969": ({"qr_expires_at": "1969-12-31 23:59:59"}, None),
    "1970": ({"qr_expires_at": "1970-01-02 00:00:00"}, "1970-01-02 00:00:00"),
    "9998": ({"qr_expires_at": "9998-12-31 23:59:59"}, "9998-12-31 23:59:59"),
    "9999, as if without end": ({"qr_expires_at": "9999-12-31 23:59:59"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "end"), QR_ENDS.values(), ids=QR_ENDS.keys())
def test_when_a_qr_ends(tables: MikyunTables, store: Store, columns: dict[str, Any], end: str | None) -> None:
    tables.insert(5, **columns)
    assert store.snapshot().rows[0].activation_deadline == (None if end is None else tokyo(end))


@pytest.mark.parametrize("status", ["issued", "expired", "active", "paused"])
def test_a_qr_that_was_scanned_has_no_end(tables: MikyunTables, store: Store, status: str) -> None:
    tables.insert(5, status=status, qr_expires_at="2026-03-01 10:00:00")
    (one,) = store.snapshot().rows
    ends = status in ("issued", "expired")
    assert one.activation_deadline == (tokyo("2026-03-01 10:00:00") if ends else None)
    assert one.version == ("2026-03-01 10:00:00" if ends else None)


def test_times_before_1970_in_utc_are_its_beginning(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, qr_expires_at="1970-01-01 00:00:00")
    assert store.snapshot().rows[0].activation_deadline == 0.0


def test_the_qr_end_is_kept_as_it_is_written(tables: MikyunTables) -> None:
    """The zone's clock leaves out an hour in that night. A deadline in that hour is kept too."""
    tables.insert(5, qr_expires_at="2026-03-29 02:30:00")
    tables.insert(6, issued_at="2026-03-28 02:30:00")
    tables.insert(7, qr_expires_at="0001-01-01 00:00:00")
    tables.insert(8, created_at="0000-00-00 00:00:00")
    seen = tables.store(zone="Europe/Berlin").snapshot().rows
    assert [one.version for one in seen] == [
        "2026-03-29 02:30:00", "2026-03-29 02:30:00", "0001-01-01 00:00:00", None
    ]  # fmt: skip


def test_the_lifetime_of_a_qr_is_configured(tables: MikyunTables) -> None:
    tables.insert(5, issued_at="2026-03-01 10:00:00")
    assert tables.store('[mikyun.qr]\nlifetime = "2h"\n').snapshot().rows[0].activation_deadline == tokyo(
        "2026-03-01 12:00:00"
    )


@pytest.mark.parametrize(
    ("written", "status", "word"),
    [
        ("active", Status.ACTIVE, "active"), ("ACTIVE ", Status.ACTIVE, "active"), ("Issued", Status.ISSUED, "issued"),
        ("paused", Status.OFF, "paused"), ("", Status.UNKNOWN, "of unknown status"), ("activ", Status.UNKNOWN, "of unknown status"),
        ("📱\0", Status.UNKNOWN, "of unknown status"), ("deleted", Status.OFF, "deleted"),
        (" issued", Status.UNKNOWN, "of unknown status"), ("active\t", Status.UNKNOWN, "of unknown status"),
    ],
)  # fmt: skip
def test_status_texts(tables: MikyunTables, store: Store, written: str, status: Status, word: str) -> None:
    tables.insert(5, status=written)
    (one,) = store.snapshot().rows
    assert (one.status, one.status_text) == (status, word)


@pytest.mark.parametrize(
    ("contract", "status", "active"),
    [("0001", "active", True), ("0002", "Active", True), ("0003", "paused", False), ("0006", "active  ", True),
     ("0009", None, False)],
)  # fmt: skip
def test_contracts(tables: MikyunTables, store: Store, contract: str, status: str | None, active: bool) -> None:
    if status is not None:
        tables.contract(contract, status)
    tables.insert(5, contract_id=contract)
    (one,) = store.snapshot().rows
    assert (one.owner, not one.inactive) == (contract, active)
    if not active:
        kind = Inactive.OWNER_MISSING if status is None else Inactive.OWNER_INACTIVE
        (reason,) = one.inactive
        assert (reason.kind, reason.owner, reason.owner_kind) == (kind, contract, "contract")
        assert reason.state == ("" if status is None else "paused")


@pytest.mark.parametrize("status", ["?", " active", "activ", "active\r"])
def test_a_typo_in_a_contracts_status_rejects_its_rows(tables: MikyunTables, store: Store, status: str) -> None:
    tables.contract("0001", status)
    for number, word in ((5, "active"), (6, "paused")):
        tables.insert(number, contract_id="0001", status=word)
    active, paused = store.snapshot().rows
    assert (active.inactive, active.fault) == ((), Reason.UNKNOWN_STATUS)
    assert [(rule.text, rule.value) for rule in rules(active, NOW) if not rule.holds] == [
        ("its contract is active", "of unknown status")
    ]
    assert paused.status is Status.OFF, "it asks for no peer, whatever its contract is"


def test_names_of_emoji_and_nul(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, device_id="📱\0 ", wg_ip="\0", public_key="🔑\0", preshared_key="\0")
    (one,) = store.snapshot().rows
    assert (one.device, one.addresses, one.public_key, one.preshared_key) == ("📱\0 ", ("\0",), "🔑\0", "\0")


def test_parents(tables: MikyunTables, store: Store) -> None:
    for number, deleted in ((5, None), (6, None), (7, "2026-01-01 00:00:00")):
        tables.insert(number, is_parent=1, deleted_at=deleted)
    tables.insert(8, contract_id="0002", is_parent=1)
    assert store.snapshot().conditions == frozenset((Condition("parent_conflict", "0001", "0001", "2"),))
    assert [DELETED in one.inactive for one in store.snapshot().rows] == [False, False, True, False]
