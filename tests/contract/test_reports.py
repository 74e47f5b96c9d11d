"""A store answers the admin's commands: in memory, and on MariaDB with exactly the shipped grants."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

import pytest

from tests.samples import NOW, TOKYO, calendar, device_name, record
from tests.store_sides import MikyunTables
from wgsyncd.config import resources
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect.answers import AuditRow, Coverage, DeviceDetails
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.model import Counters
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.ports import ReportSource
from wgsyncd.stores.mikyun.messages import ACTIONS, AuditEntry, AuditMessages

BUCKET = int(NOW // 900) * 900
MOST = 2**63 - 1


@pytest.fixture
def reports(tables: MikyunTables) -> ReportSource:
    return tables.reports()


def book(tables: MikyunTables, number: int, *pieces: Allocation) -> None:
    """Posts bytes to buckets and days of one device."""
    store = tables.store()
    writes = WriteBatch(postings=(Posting(number, device_name(number), pieces),), records=(record(number),))
    store.commit(store.load_state(calendar()), writes, calendar())


def test_names(tables: MikyunTables, reports: ReportSource) -> None:
    assert list(reports.names()) == []
    tables.insert(6, device_id="端末", contract_id="0002")
    tables.insert(5)
    assert list(reports.names()) == [DeviceName(5, "0001-DEV-005", "0001"), DeviceName(6, "端末", "0002")]


def test_a_device_without_a_row_is_known_by_its_bytes(tables: MikyunTables, reports: ReportSource) -> None:
    tables.insert(5)
    for number in (5, 6, 7):
        book(tables, number, Allocation(BUCKET, "2026-09-21", 1, 10))
    assert [one.device for one in reports.names(gone=True)] == [device_name(6), device_name(7)]
    tables.insert(6)
    assert [one.device for one in reports.names(gone=True)] == [device_name(7)]


def test_books_that_were_never_begun(reports: ReportSource) -> None:
    assert reports.coverage() == Coverage(None, None, {})
    assert reports.days("2026-01-01", "2026-12-31") == {}
    assert reports.devices_of_buckets(0, 2**40) == {}


def test_sums_by_time_and_by_device(tables: MikyunTables, reports: ReportSource) -> None:
    tables.insert(5)
    tables.insert(6)
    book(tables, 5, Allocation(BUCKET, "2026-09-21", 1, 10), Allocation(BUCKET - 900, "2026-09-20", 2, 20))
    book(tables, 6, Allocation(BUCKET, "2026-09-21", 100, 1000), Allocation(None, "2026-08-31", 7, 70))
    book(tables, 99, Allocation(BUCKET, "2026-09-21", 4, 40))  # this device is gone
    assert reports.coverage() == Coverage("2026-08-31", BUCKET - 900, {"r640": NOW})
    assert reports.days("2026-08-31", "2026-09-21") == {
        "2026-08-31": (7, 70), "2026-09-20": (2, 20), "2026-09-21": (105, 1050),
    }  # fmt: skip
    assert reports.days("2026-09-20", "2026-09-20") == {"2026-09-20": (2, 20)}
    assert reports.days("2026-09-20", "2026-09-21", [device_name(5)]) == {"2026-09-20": (2, 20), "2026-09-21": (1, 10)}
    assert reports.days("2026-09-20", "2026-09-21", [device_name(5), device_name(6)])["2026-09-21"] == (101, 1010)
    assert reports.days("2026-09-20", "2026-09-21", []) == {}, "nobody is not everybody"
    assert reports.buckets(BUCKET - 900, BUCKET) == {BUCKET - 900: (2, 20)}
    assert reports.buckets(BUCKET - 900, BUCKET + 1, [device_name(6)]) == {BUCKET: (100, 1000)}
    assert reports.buckets(BUCKET - 900, BUCKET + 1, []) == {}
    assert reports.devices_of_days("2026-09-01", "2026-09-21") == {
        device_name(5): (3, 30),
        device_name(6): (100, 1000),
        device_name(99): (4, 40),
    }
    assert reports.devices_of_buckets(BUCKET, BUCKET + 1) == {
        device_name(5): (1, 10),
        device_name(6): (100, 1000),
        device_name(99): (4, 40),
    }


def test_the_devices_perspective_swaps_all_bytes(tables: MikyunTables) -> None:
    tables.insert(5, rx_bytes_total=20)
    book(tables, 5, Allocation(BUCKET, "2026-09-21", 1, 10))
    reports = tables.reports('perspective = "device"\n')
    assert (tables.reports().perspective, reports.perspective) == ("server", "device")
    assert reports.days("2026-09-21", "2026-09-21") == {"2026-09-21": (10, 1)}
    assert reports.buckets(BUCKET, BUCKET + 1) == {BUCKET: (10, 1)}
    assert (
        reports.devices_of_days("2026-09-21", "2026-09-21")
        == reports.devices_of_buckets(BUCKET, BUCKET + 1)
        == {device_name(5): (10, 1)}
    )
    details = reports.details(5)
    assert details is not None
    assert details.bytes["total"] == (21, 10), "the columns have the configured view already"


def test_sums_are_exact_beyond_what_a_float_holds(tables: MikyunTables, reports: ReportSource) -> None:
    tables.insert(5)
    tables.insert(6)
    book(tables, 5, Allocation(BUCKET, "2026-09-21", MOST, MOST - 1))
    book(tables, 6, Allocation(BUCKET, "2026-09-21", MOST, 3))
    (found,) = reports.days("2026-09-21", "2026-09-21").values()
    assert found == (2 * MOST, MOST + 2)
    assert type(found.rx) is int


def test_particulars(tables: MikyunTables, reports: ReportSource) -> None:
    tables.insert(5, rx_bytes_total=1, tx_bytes_24h=4, rx_bytes_month=None, tx_bytes_month=6, is_parent=1,
                issued_at="2026-01-02 00:00:00", last_handshake_at="2026-01-03 00:00:00")  # fmt: skip
    found = reports.details(5)
    assert found is not None
    created, day = datetime(2026, 1, 1, tzinfo=TOKYO).timestamp(), 86400
    plain = DeviceDetails(
        {"role": "", "parent": "yes", "platform": "", "app": ""},
        {"created": created, "issued": created + day, "activated": None, "paused": None, "first handshake": None,
         "last handshake": created + 2 * day},
        {"total": Counters(1, 0), "24h": Counters(0, 4), "month": Counters(0, 6)},
    )  # fmt: skip
    assert replace(found, texts={**found.texts, "role": ""}) == plain
    assert [*found.times] == [*plain.times], "the order is the store's"
    assert reports.details(6) is None


def test_audit_rows_are_the_last_of_this_device(tables: MikyunTables, reports: ReportSource) -> None:
    store = tables.store()
    events = [
        AuditEvent(AuditAction.PEER_ADDED, "0001-DEV-005", AuditFacts(interface="wg0", address=f"number {n}"))
        for n in range(12)
    ]
    others = [
        AuditEvent(AuditAction.PEER_ADDED, "0001-DEV-006", AuditFacts(interface="wg0", address="another's")),
        AuditEvent(AuditAction.GUARD_TRIPPED, "0001-DEV-005", AuditFacts(count=1, plan="x")),
    ]
    store.commit(store.load_state(calendar()), WriteBatch(audit=(*events, *others)), calendar())
    tables.log(AuditEntry("device_paused", "device", "0001-DEV-005", "the application's own"))
    found = reports.audit("0001-DEV-005", 10)
    told = [AuditMessages("en", TOKYO).entry(one) for one in events[:1:-1]]
    assert [(one.action, one.message) for one in found] == [(one.action, one.message) for one in told]
    assert isinstance(found[0], AuditRow)
    assert list(reports.audit("0001-DEV-007", 10)) == []


def test_the_view_of_the_audit_rows_has_all_actions_and_no_other() -> None:
    script = resources.text("sql/mikyun/wgsyncd.sql").partition("VIEW wgsyncd_audit")[2].partition(";")[0]
    assert set(re.findall(r"'(\w+)'", script)) == ACTIONS


def test_the_figures_and_hours_of_devices(tables: MikyunTables) -> None:
    tables.insert(5)
    tables.insert(6, rx_bytes_24h=7, tx_bytes_24h=8, rx_bytes_month=None, tx_bytes_month=10)
    book(tables, 5, Allocation(BUCKET, "2026-09-21", 1, 10), Allocation(BUCKET - 7200, "2026-09-21", 2, 20))
    found = tables.store().device_usage([device_name(5)], calendar())
    assert found.figures == {
        5: {"24h": Counters(3, 30), "month": Counters(3, 30)}, 6: {"24h": Counters(7, 8), "month": Counters(0, 10)}
    }  # fmt: skip
    assert found.hours == {device_name(5): [*[0] * 21, 22, 0, 11]}
    assert tables.store().device_usage([], calendar()).hours == {}
    device = tables.store('perspective = "device"\n').device_usage([], calendar())
    assert device.figures[6] == {"24h": Counters(8, 7), "month": Counters(10, 0)}, "the document is the server's"
    odd = [f"{text}-{at}" for at, text in enumerate(["'; --", "端末", "%s", "\\", "\x00"] * 40)]
    assert tables.store().device_usage(odd, calendar()).hours == {}
