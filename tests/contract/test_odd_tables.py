"""Tables as companies have them: types, character sets, collations and names that are not those of the reference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.samples import TOKYO, calendar, key, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.inspect.verify import make_ranges
from wgsyncd.core.model import Status, Transition
from wgsyncd.core.reasons import Inactive, Reason, TransitionKind
from wgsyncd.core.state import Allocation, Condition, ConditionType, Posting, WriteBatch
from wgsyncd.errors import SchemaError
from wgsyncd.stores.mikyun import store
from wgsyncd.stores.mikyun.rows import RowCache

D, C = "ALTER TABLE customer_devices ", "ALTER TABLE contracts "
ODD: dict[str, Sequence[str]] = {
    "collations of one character set": (C + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",),
    "collations, the other way": (D + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",),
    "a binary collation": (D + "MODIFY contract_id VARCHAR(32) COLLATE utf8mb4_bin NOT NULL",),
    "collations within one table": (D + "MODIFY device_id VARCHAR(64) COLLATE utf8mb4_unicode_520_ci NOT NULL, MODIFY wg_ip"
                                    " VARCHAR(64) COLLATE utf8mb4_bin, MODIFY status VARCHAR(16) COLLATE utf8mb4_czech_ci",),
    "latin1": (D + "CONVERT TO CHARACTER SET latin1", C + "CONVERT TO CHARACTER SET latin1"),
    "latin1 devices": (D + "CONVERT TO CHARACTER SET latin1",),
    "latin1 contracts": (C + "CONVERT TO CHARACTER SET latin1",),
    "latin1 of two collations": (D + "CONVERT TO CHARACTER SET latin1", C + "CONVERT TO CHARACTER SET latin1 COLLATE latin1_german2_ci"),
    "two old character sets": (D + "CONVERT TO CHARACTER SET cp932", C + "CONVERT TO CHARACTER SET latin1"),
    "ascii and cp932": (D + "CONVERT TO CHARACTER SET ascii", C + "CONVERT TO CHARACTER SET cp932"),
    "utf8mb3": (D + "CONVERT TO CHARACTER SET utf8mb3", C + "CONVERT TO CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci"),
    "utf8mb3 devices": (D + "CONVERT TO CHARACTER SET utf8mb3",),
    "utf32 contracts": (C + "CONVERT TO CHARACTER SET utf32",),
    "utf16 and latin1": (D + "MODIFY contract_id VARCHAR(32) CHARACTER SET utf16 NOT NULL", C + "CONVERT TO CHARACTER SET latin1"),
    "spaces count": (D + "MODIFY contract_id VARCHAR(32) COLLATE utf8mb4_nopad_bin NOT NULL",
                     C + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_nopad_ci"),
    "bits as flags": (D + "MODIFY is_parent BIT(1) NOT NULL DEFAULT b'0'",),
    "hidden columns": (D + "MODIFY wg_ip VARCHAR(64) INVISIBLE, MODIFY deleted_at DATETIME INVISIBLE",),
    "binary texts": (D + "MODIFY device_id VARBINARY(64) NOT NULL, MODIFY contract_id VARBINARY(32) NOT NULL",),
    "addresses of their own type": (D + "MODIFY wg_ip INET4",),
    "addresses of IPv6's type": (D + "MODIFY wg_ip INET6",),
    "words as ENUM": (D + "MODIFY status ENUM('issued', 'active', 'paused', 'revoked', 'expired', 'deleted') NOT NULL",
                      C + "MODIFY contract_status ENUM('active', 'paused', 'terminated', 'deleted')"),
    "unsigned counters": (D + ", ".join(f"MODIFY {side}_bytes_{window} BIGINT UNSIGNED NOT NULL DEFAULT 0"
                                        for side in ("rx", "tx") for window in ("total", "24h", "month")),),
    "decimal counters": (D + ", ".join(f"MODIFY {side}_bytes_{window} DECIMAL(20) DEFAULT 0"
                                       for side in ("rx", "tx") for window in ("total", "24h", "month")),),
    "unsigned ids": (D + "MODIFY id INT UNSIGNED NOT NULL AUTO_INCREMENT",),
    "names in capitals": (D + "CHANGE deleted_at DELETED_AT DATETIME, CHANGE wg_ip WG_IP VARCHAR(64), CHANGE updated_at"
                          " Updated_At DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",),
    "names in capitals, no view": (D + "CHANGE deleted_at DELETED_AT DATETIME, CHANGE updated_at UPDATED_AT DATETIME NOT NULL"
                                   " DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", "DROP VIEW v_parent_conflicts"),
    "times with fractions": (D + "MODIFY qr_expires_at DATETIME(6), MODIFY last_handshake_at DATETIME(3), MODIFY"
                             " first_handshake_at TIMESTAMP NULL",),
    "flags as words": (D + "MODIFY is_parent ENUM('0', '1') NOT NULL DEFAULT '0'",),
    "generated columns": (D + "ADD used BIGINT AS (rx_bytes_total + tx_bytes_total) PERSISTENT, ADD short VARCHAR(9)"
                          " AS (LEFT(device_id, 9)) VIRTUAL",),
    "versions of rows": (D + "ADD SYSTEM VERSIONING",),
    "parts": (D + "DROP KEY device_id, DROP KEY wg_ip, DROP KEY public_key PARTITION BY RANGE (id) (PARTITION a VALUES"
              " LESS THAN (6), PARTITION z VALUES LESS THAN MAXVALUE)",),
    "collations of new servers": (D + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci",
                                  C + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_as_cs"),
    "Turkish letters": (D + "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_turkish_ai_ci",),
    "words as SET": (D + "MODIFY status SET('issued', 'active', 'paused', 'revoked', 'expired', 'deleted') NOT NULL",),
    "a year as a flag, JSON, UUID": (D + "MODIFY is_parent YEAR DEFAULT 0, MODIFY preshared_key JSON, ADD u UUID DEFAULT UUID()",),
    "padded texts and numbers": (D + "MODIFY device_id CHAR(64), MODIFY contract_id CHAR(32), MODIFY id INT(8) UNSIGNED"
                                 " ZEROFILL NOT NULL AUTO_INCREMENT", C + "MODIFY contract_id CHAR(32)"),
    "compressed texts": (D + "MODIFY preshared_key TEXT COMPRESSED",),
    "more columns": (D + "ADD note TEXT NOT NULL FIRST, ADD other INT NOT NULL", C + "ADD note TEXT FIRST"),
}  # fmt: skip


@pytest.mark.parametrize("alter", ODD.values(), ids=ODD.keys())
def test_odd_tables_are_served(odd_tables: RealMikyunTables, alter: Sequence[str]) -> None:
    tables = odd_tables
    for number, columns in {5: {"status": "active"}, 6: {"deleted_at": "2026-01-01"}, 7: {"contract_id": "none"},
                            8: {"qr_expires_at": "2026-03-01 10:00:00"}}.items():  # fmt: skip
        address = {} if number == 8 else {"wg_ip": f"10.200.0.{number}"}
        tables.insert(number, **{"public_key": text(number), "wg_iface": "wg0"} | address | columns)
    if "INET6" in alter[0]:
        tables.sql("UPDATE customer_devices SET wg_ip = NULL")
    for one in alter:
        tables.sql(one)
    store = tables.store()
    state = store.load_state(calendar())
    for cache in ("filled", "new"):
        seen = {row.id: row for row in store.snapshot().rows}
        assert {number: (row.device, row.owner, row.public_key, row.interface) for number, row in seen.items()} == {
            n: (f"0001-DEV-00{n}", "none" if n == 7 else "0001", key(n), "wg0") for n in (5, 6, 7, 8)
        }, cache
        assert seen[8].addresses == ("",)
        assert (seen[5].status, seen[5].inactive, seen[8].status) == (Status.ACTIVE, (), Status.ISSUED)
        assert [one.kind for one in (*seen[6].inactive, *seen[7].inactive)] == [
            Inactive.DEVICE_INACTIVE, Inactive.OWNER_MISSING]  # fmt: skip
        assert seen[8].activation_deadline is not None
        store._rows = RowCache(TOKYO, 86400)
    assert store.load_devices(frozenset(("0001-DEV-005",))) == (seen[5],)
    assert store.load_devices(frozenset(("端末", "x"))) is None, "a hint from a liar"
    before = store.digest()
    assert store.digest() == before
    tables.update(5, status="paused")
    assert store.digest() != before
    tables.update(5, status="active")
    tables.contract("0001", "paused")
    assert store.digest() != before
    tables.contract("0001", "active")
    assert store.digest() == before

    posting = Posting(5, "0001-DEV-005", (Allocation(calendar().bucket, calendar().today, 5 << 32, 2),), 1.7e9)
    step = Transition(seen[8], TransitionKind.ACTIVATE, 1.75e9)
    written = tables.device(5)["updated_at"]
    done = store.commit(state, WriteBatch(postings=(posting,), transitions=((step, None),)), calendar())
    assert (done.applied, done.set_aside) == (frozenset((8,)), frozenset())
    assert tables.posted(5) == (5 << 32, 2)
    assert tables.device(5)["updated_at"] == written, "it is the application's"
    assert (tables.device(8)["status"], str(tables.device(5)["last_handshake_at"])[:10]) == ("active", "2023-11-15")
    assert store.refresh(calendar()) == (0, 0)
    tables.update(5, rx_bytes_24h=7)
    assert store.refresh(calendar()) == (1, 0)
    totals = {one.row_id: one for one in store.device_totals(make_ranges(calendar()))}
    assert {one.value for one in totals[5].figures} >= {5 << 32, 2}
    details = tables.reports().details(5)
    assert details is not None
    assert details.bytes["total"] == (5 << 32, 2)
    assert [one.device for one in tables.reports().names()] == [f"0001-DEV-00{n}" for n in (5, 6, 7, 8)]


def test_a_contract_without_a_status_exists(odd_tables: RealMikyunTables) -> None:
    odd_tables.sql(C + "MODIFY contract_status VARCHAR(16)")
    odd_tables.sql("INSERT INTO contracts (contract_id, contract_status) VALUES ('0002', NULL)")
    odd_tables.insert(5, public_key=text(5), contract_id="0002")
    store = odd_tables.store()
    (row,) = store.snapshot().rows
    assert (row.inactive, row.fault) == ((), Reason.UNKNOWN_STATUS)
    odd_tables.sql(D + "MODIFY contract_id VARCHAR(32) CHARACTER SET latin1")
    other = odd_tables.store()
    before = other.digest()
    odd_tables.sql("DELETE FROM contracts WHERE contract_id = '0002'")
    assert other.digest() != before
    (row,) = store.snapshot().rows
    assert [one.kind for one in row.inactive] == [Inactive.OWNER_MISSING]


def test_a_deleted_device_stays_out_whatever_the_case_of_its_column(odd_tables: RealMikyunTables) -> None:
    """Without the right to read the column, and without the view, nothing would say that the column exists."""
    odd_tables.insert(5, public_key=text(5), status="active", deleted_at="2026-01-01")
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.sql(D + "CHANGE deleted_at Deleted_At DATETIME")
    (row,) = odd_tables.store().snapshot().rows
    assert [one.kind for one in row.inactive] == [Inactive.DEVICE_INACTIVE]


def test_a_deleted_device_goes_although_its_column_came_later(
    odd_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application is upgraded while the daemon runs, and its connection lasts."""
    odd_tables.insert(5, public_key=text(5), status="active")
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.sql(D + "DROP deleted_at")
    live = odd_tables.store()
    before = live.digest()
    odd_tables.sql(D + "ADD deleted_at DATETIME")
    odd_tables.sql("UPDATE customer_devices SET deleted_at = NOW()")
    monkeypatch.setattr(store, "LOOK_AGAIN", 0.0)
    connected = live._connection._live
    assert live.digest() != before
    (row,) = live.snapshot().rows
    assert [one.kind for one in row.inactive] == [Inactive.DEVICE_INACTIVE]
    assert live._connection._live is connected, "a server may have no place for another connection"
    odd_tables.sql(D + "MODIFY rx_bytes_total FLOAT")
    for _ in range(2):
        with pytest.raises(SchemaError, match="cannot be written exactly"):
            live.digest()


def test_a_name_that_is_too_long_holds_up_nobody(odd_tables: RealMikyunTables) -> None:
    """Its row gets no peer. But a peer that it has already, and its bytes, must not stop the posting of the others."""
    odd_tables.sql(D + "MODIFY device_id VARCHAR(400) NOT NULL")
    names = {5: "a" * 65, 6: "a" * 66, 7: "鍵" * 300, 8: "a" * 64}
    for number, name in names.items():
        odd_tables.insert(number, device_id=name, public_key=text(number), status="active")
    store = odd_tables.store()
    state = store.load_state(calendar())
    seen = {row.id: row for row in store.snapshot().rows}
    assert [number for number, row in seen.items() if row.fault is Reason.LONG_NAME] == [5, 6, 7]
    assert seen[8].device == names[8]
    assert len({row.device for row in seen.values()}) == 4
    piece = Allocation(calendar().bucket, calendar().today, 7, 9)
    postings = tuple(Posting(row.id, row.device, (piece,), 1.7e9) for row in seen.values())
    rejected = frozenset(
        Condition(ConditionType.ROW_REJECTED, str(row.id), row.device, Reason.LONG_NAME)
        for row in seen.values()
        if row.fault is Reason.LONG_NAME
    )
    state, _, _ = store.commit(state, WriteBatch(postings=postings, started=rejected), calendar())
    assert odd_tables.posted(8) == (7, 9)
    store.commit(state, WriteBatch(postings=postings), calendar())
    assert odd_tables.posted(8) == (14, 18)
