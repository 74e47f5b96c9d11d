"""A store makes a transition of a row exactly where the row is still what the daemon saw."""

from __future__ import annotations

from typing import Any

import pytest

from tests.committing import commit
from tests.node import local
from tests.samples import NOW, text
from tests.store_sides import MikyunTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import DeviceId, DeviceRow, Transition
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import WriteBatch
from wgsyncd.ports import Store

END = NOW + 900.0


def issued(tables: MikyunTables, store: Store, **columns: Any) -> DeviceRow:
    plain = {"wg_iface": "wg0", "wg_ip": "10.200.0.5", "public_key": text(5), "qr_expires_at": local(END)}
    tables.insert(5, **(plain | columns))
    return store.snapshot().rows[0]


def take(store: Store, one: DeviceRow, kind: str, at: float = NOW) -> frozenset[DeviceId]:
    event = AuditEvent(AuditAction.DEVICE_ACTIVATED, one.device, AuditFacts(at=at))
    return commit(store, WriteBatch(transitions=((Transition(one, TransitionKind(kind), at), event),)))


STEPS = {
    "activate": {"status": "active", "first_handshake_at": local(NOW), "activated_at": local(NOW)},
    "expire": {"status": "expired"},
    "first_handshake": {"first_handshake_at": local(NOW)},
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_is_taken(tables: MikyunTables, store: Store, kind: str) -> None:
    one = issued(tables, store, status="active" if kind == "first_handshake" else "issued")
    before = tables.device(5)
    assert take(store, one, kind) == {5}
    assert tables.device(5) == before | STEPS[kind]
    assert [entry.action for entry in tables.logs()] == ["device_activated"]


def test_dates_that_stand_there_stay(tables: MikyunTables, store: Store) -> None:
    stand = {"first_handshake_at": "2026-01-02 00:00:00", "activated_at": "2026-01-03 00:00:00"}
    one = issued(tables, store, **stand)
    assert take(store, one, "activate") == {5}
    assert tables.device(5) == tables.device(5) | stand | {"status": "active"}


CLICKS: dict[str, dict[str, Any]] = {
    "paused": {"status": "paused"},
    "activated": {"status": "active"},
    "new QR": {"qr_expires_at": local(END + 60)},
    "no QR end": {"qr_expires_at": None},
    "new key": {"public_key": text(6)},
    "no key": {"public_key": None},
    "another device": {"device_id": "0002-DEV-001"},
}


@pytest.mark.parametrize("kind", ["activate", "expire"])
@pytest.mark.parametrize("click", CLICKS.values(), ids=CLICKS.keys())
def test_a_step_is_not_taken_where_an_admin_was_faster(
    tables: MikyunTables, store: Store, click: dict[str, Any], kind: str
) -> None:
    one = issued(tables, store)
    tables.update(5, **click)
    before = tables.device(5)
    assert take(store, one, kind) == frozenset()
    assert tables.device(5) == before
    assert tables.logs() == [], "what was not done is not audited"
    tables.delete(5)
    assert take(store, one, kind) == frozenset()


@pytest.mark.parametrize("columns", [{"qr_expires_at": None, "issued_at": local(NOW)}, {"qr_expires_at": None},
                                     {"status": "ISSUED "}, {"public_key": None},
                                     {"qr_expires_at": "0001-01-01 00:00:00"}, {"qr_expires_at": "9999-12-31 23:59:59"},
                                     {"qr_expires_at": None, "issued_at": "9999-12-31 23:59:59"}])  # fmt: skip
def test_a_step_of_an_odd_row_is_taken(tables: MikyunTables, store: Store, columns: dict[str, Any]) -> None:
    assert take(store, issued(tables, store, **columns), "expire") == {5}


@pytest.mark.parametrize("kind", ["activate", "expire"])
@pytest.mark.parametrize(
    "end", ["2026-03-29 02:30:00", "2026-10-25 02:30:00"], ids=["an hour left out", "an hour that comes twice"]
)
def test_a_step_is_taken_whatever_the_zones_clocks_do_at_the_qr_end(tables: MikyunTables, end: str, kind: str) -> None:
    store = tables.store(zone="Europe/Berlin")
    one = issued(tables, store, qr_expires_at=end)
    assert take(store, one, kind) == {5}
    assert tables.device(5)["status"] == STEPS[kind]["status"]


def test_a_step_is_not_taken_where_only_the_writing_of_an_unreadable_end_changed(
    tables: MikyunTables, store: Store
) -> None:
    one = issued(tables, store, qr_expires_at="0001-01-01 00:00:00")
    tables.update(5, qr_expires_at="0001-01-02 00:00:00")
    assert take(store, one, "activate") == frozenset()


ZERO = "0000-00-00 00:00:00"


@pytest.mark.parametrize(
    ("issued", "first", "known"),
    [
        (NOW, local(NOW + 60), True), (NOW, local(NOW), True), (NOW, local(NOW - 60), False), (NOW, None, False),
        (NOW, ZERO, False), (None, local(NOW), True), (None, local(NOW - 99), False),
    ],
)  # fmt: skip
def test_the_first_handshake_since_the_issue(
    tables: MikyunTables, store: Store, issued: float | None, first: str | None, known: bool
) -> None:
    at = issued and local(issued)
    tables.insert(5, status="issued", issued_at=at, created_at=local(NOW - 60), first_handshake_at=first)
    tables.insert(6, status="active", issued_at=at, created_at=local(NOW - 60), first_handshake_at=first)
    issued_row, active = store.snapshot().rows
    found = issued_row.first_handshake
    assert (found and local(found)) == (first if known else None)
    assert active.first_handshake is None, "of an active device nobody needs it"


ISSUES = {  # columns, with seconds from now; then first_handshake and scanned_from
    "never used": ({"issued_at": -100}, None, -280),
    "no date": ({}, None, None),
    "scanned in time": ({"issued_at": -100, "first_handshake_at": -50, "last_handshake_at": -10}, -50, -280),
    "again": ({"issued_at": -10, "first_handshake_at": -90, "activated_at": -90, "last_handshake_at": -60}, None, -190),
    "again, old date": (
        {"issued_at": -99, "first_handshake_at": -90, "activated_at": -90, "last_handshake_at": -60}, None, -59
    ),
    "again, no date": ({"first_handshake_at": -90, "activated_at": -90, "last_handshake_at": -60}, None, -59),
    "again, the handshakes are cleared": ({"issued_at": -99, "activated_at": -90}, None, -89),
    "used after its end": (
        {"issued_at": -99, "first_handshake_at": -90, "activated_at": -90, "last_handshake_at": -60, "qr_expires_at": -70},
        -90, -279,
    ),
}  # fmt: skip


_USED = {"issued_at": -99, "first_handshake_at": -90, "activated_at": -90}
CHANGED = {  # the same, where the server says when the row was changed
    "never used": ({"issued_at": -100, "updated_at": -10}, None, -280),
    "again": (_USED | {"issued_at": -10, "last_handshake_at": -60, "updated_at": -9}, None, -190),
    "again, last used before the change": (_USED | {"last_handshake_at": -60, "updated_at": 300}, None, 120),
    "again, last used just before the change": (_USED | {"last_handshake_at": -60, "updated_at": -10}, None, -59),
    "again and again, old date": (
        {"issued_at": -70, "first_handshake_at": -90, "activated_at": -90, "last_handshake_at": -60, "updated_at": 0},
        None, -59,
    ),
    "again, used after the change": (_USED | {"last_handshake_at": -60, "updated_at": -70}, None, -70),
    "again, the last handshake is cleared": (_USED | {"updated_at": 300}, None, 120),
    "again, all handshakes are cleared": ({"issued_at": -99, "updated_at": 300, "rx_bytes_total": 1}, None, 120),
    "set back after its end": (_USED | {"last_handshake_at": -60, "updated_at": 700}, -90, -279),
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "first", "since", "changed"),
    [*((*one, False) for one in ISSUES.values()), *((*one, True) for one in CHANGED.values())],
    ids=[*ISSUES, *(f"{name}, change known" for name in CHANGED)],
)
def test_which_handshakes_are_of_the_present_code(
    tables: MikyunTables, columns: dict[str, int], first: int | None, since: int | None, changed: bool
) -> None:
    if changed:
        tables.use_zone_of_node()
    dates = {
        name: at if "bytes" in name else local(NOW + at) for name, at in ({"qr_expires_at": 600} | columns).items()
    }
    tables.insert(5, status="issued", created_at=local(NOW - 100), **dates)
    (one,) = tables.store().snapshot().rows
    found = one.first_handshake, one.scanned_from
    assert found == tuple(None if at is None else int(NOW) + at for at in (first, since))


def test_a_change_that_the_server_does_not_note_in_the_nodes_zone_is_not_used(tables: MikyunTables) -> None:
    dates = {name: local(NOW + at) for name, at in (_USED | {"updated_at": 700, "qr_expires_at": 600}).items()}
    tables.insert(5, status="issued", **dates)
    (one,) = tables.store().snapshot().rows
    assert (one.first_handshake, one.scanned_from) == (None, int(NOW) - 89)
