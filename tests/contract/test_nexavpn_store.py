"""The store on NexaVPN's own tables: what each column means, what it writes there, and what it never touches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.committing import commit, posted
from tests.nexavpn_sides import NexavpnTables, named
from tests.samples import NOW, address, calendar, key, psk, record, text
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.identity import Identity
from wgsyncd.core.model import DeviceRow
from wgsyncd.core.reasons import ChangeCause, ChangeReason, Reason
from wgsyncd.core.records import RecordState
from wgsyncd.core.state import Removal, WriteBatch
from wgsyncd.engine import wording
from wgsyncd.errors import StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.nexavpn import books


def row(store: Store) -> DeviceRow:
    (found,) = store.snapshot().rows
    return found


def test_a_good_row(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5, preshared_key_ciphertext=nexa.seal(5, psk(5)))
    found = row(store)
    assert (found.id, found.device, found.owner) == (nexa.id(5), str(nexa.id(5)), "alice")
    assert (found.interface, found.addresses) == ("wg0", (address(5),))
    assert (found.key, found.preshared_key) == (key(5), psk(5))
    assert (found.fault, found.inactive, found.has_no_usage) == (None, (), True)
    assert row(store) is found, "a device that did not change is not decoded again"
    commit(store, WriteBatch(postings=(posted(nexa.id(5), 1, 1),)))
    assert not row(store).has_no_usage


def test_many_new_peers_are_recorded_by_several_statements(
    nexa: NexavpnTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = nexa.store()
    monkeypatch.setattr(books, "AT_ONCE", 2)
    new = [record(number, row_id=nexa.id(number), state=RecordState.ADDING) for number in range(1, 6)]
    commit(store, WriteBatch(records=tuple(new)))
    assert set(store.load_state(calendar()).records.each()) == set(new)


def test_rows_are_counted_by_the_key_of_their_preshared_key(nexa: NexavpnTables) -> None:
    """A row of a device without a peer counts, too: the device may come back. A deleted row does not."""
    store = nexa.store()
    assert store.snapshot().sealed == {"test": 0}
    for number in (5, 6, 7, 8):
        nexa.insert(number, preshared_key_ciphertext=nexa.seal(number, psk(number)))
    nexa.update("devices", nexa.id(6), status="blocked")
    nexa.update("wireguard_peers", nexa.peer_id(7), deleted_at="2026-01-01")
    nexa.update("wireguard_peers", nexa.peer_id(8), preshared_key_ciphertext="v1:other:AAAA")
    assert store.snapshot().sealed == {"test": 2}


def test_a_device_whose_address_another_one_has_is_not_planned_alone(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5)
    nexa.insert(6)
    five, six = (frozenset((str(nexa.id(number)),)) for number in (5, 6))
    assert [one.device for one in store.load_devices(five) or ()] == [*five]
    nexa.update("wireguard_peers", nexa.peer_id(6), assigned_ip=address(5))
    assert store.load_devices(five) is None
    assert len(store.load_devices(five | six) or ()) == 2, "both are planned together"
    nexa.update("wireguard_peers", nexa.peer_id(6), deleted_at="2026-01-01")
    assert store.load_devices(five) is not None, "a deleted peer is no rival"


def test_a_loss_of_access_is_remembered_beside_removals(nexa: NexavpnTables) -> None:
    store, both = nexa.store(), (Removal(1000.0, 2, 0, 60, access=True), Removal(1001.0, 1, 1, 60))
    commit(store, WriteBatch(removals=both, uptime=1001.0))
    store.close()
    assert nexa.store().load_state(calendar()).removals == both


BAD: dict[str, tuple[Reason | str, str, dict[str, Any]]] = {
    "ciphertext of another row": (Reason.PSK_SEALED, "wireguard_peers", {"preshared_key_ciphertext": "of 6"}),
    "unknown key id": (Reason.PSK_SEALED, "wireguard_peers", {"preshared_key_ciphertext": "v1:other:AAAA"}),
    "no envelope": (Reason.PSK_SEALED, "wireguard_peers", {"preshared_key_ciphertext": "hunter2"}),
    "another key": (Reason.KEYS_DISAGREE, "devices", {"public_key": text(77)}),
    "another gateway": (Reason.GATEWAY_MISMATCH, "devices", {"gateway_id": named("wg1")}),
    "no gateway": ("", "devices", {"gateway_id": None}),
    "allocation released": (Reason.NOT_ALLOCATED, "ip_allocations", {"released_at": "2026-01-01"}),
    "allocation with another word": (Reason.NOT_ALLOCATED, "ip_allocations", {"status": "free"}),
    "allocation of nobody": (Reason.NOT_ALLOCATED, "ip_allocations", {"device_id": None}),
    "allocation at another gateway": (Reason.NOT_ALLOCATED, "ip_allocations", {"gateway_id": named("wg1")}),
    "allocation with a prefix": ("", "ip_allocations", {"address": f"{address(5)}/24"}),
    "unknown status": ("unknown", "devices", {"status": "activ"}),
    "revoked": ("device revoked", "devices", {"revoked_at": "2026-01-01"}),
    "deleted device": ("device deleted", "devices", {"deleted_at": "2026-01-01"}),
    "deleted peer": ("device has a deleted peer", "wireguard_peers", {"deleted_at": "2026-01-01"}),
    "inactive user": ("user alice inactive", "users", {"is_active": False}),
    "deleted user": ("user alice deleted", "users", {"deleted_at": "2026-01-01"}),
    "inactive gateway": ("gateway inactive", "gateways", {"is_active": False}),
    "deleted gateway": ("gateway deleted", "gateways", {"deleted_at": "2026-01-01"}),
    "not approved": ("", "devices", {"approved_at": None}),
}


@pytest.mark.parametrize(("why", "table", "columns"), BAD.values(), ids=BAD.keys())
def test_each_column_is_read_and_is_in_the_digest(
    nexa: NexavpnTables, why: Reason | str, table: str, columns: dict[str, Any]
) -> None:
    store = nexa.store()
    nexa.insert(5)
    good, before = row(store), store.digest()
    assert (good.fault, good.inactive_reason(NOW)) == (None, None)
    sealed = columns.get("preshared_key_ciphertext")
    values = {**columns, **({"preshared_key_ciphertext": nexa.seal(6, psk(6))} if sealed == "of 6" else {})}
    sets = ", ".join(f"{column} = %s" for column in values)
    nexa.sql(f"UPDATE {table} SET {sets} WHERE true {_WHICH.get(table, '')}", *values.values())
    found = row(store)
    assert (store.digest() != before) is (columns != {"approved_at": None})
    inactive = found.inactive_reason(NOW)
    if isinstance(why, Reason):
        assert (found.fault, inactive) == (why, None)
    elif why == "unknown":
        assert (found.status, found.status_text) == ("unknown", "of unknown status")
    else:
        assert found.fault is None
        assert (wording.inactive(inactive) if inactive else "") == why


_WHICH = {"gateways": "AND name = 'wg0'"}


NULLS = {
    "key": ("devices", "public_key", Reason.KEYS_DISAGREE),
    "status": ("devices", "status", "unknown"),
    "name": ("devices", "name", ""),
    "peer's key": ("wireguard_peers", "public_key", Reason.KEYS_DISAGREE),
    "address": ("wireguard_peers", "assigned_ip", ""),
    "time": ("wireguard_peers", "created_at", ""),
    "user": ("users", "is_active", "user alice inactive"),
    "gateway": ("gateways", "is_active", "gateway inactive"),
}


@pytest.mark.parametrize(("table", "column", "why"), NULLS.values(), ids=NULLS.keys())
def test_a_null_that_the_application_has_allowed_stops_no_other_row(
    nexa: NexavpnTables, table: str, column: str, why: Reason | str
) -> None:
    store = nexa.store()
    nexa.insert(5)
    nexa.insert(6)
    nexa.sql(f"ALTER TABLE {table} ALTER {column} DROP NOT NULL")
    which = {"devices": nexa.id(5), "wireguard_peers": nexa.peer_id(5), "users": named("alice")}
    nexa.sql(f"UPDATE {table} SET {column} = NULL WHERE id = %s", which.get(table, named("wg0")))
    found, other = store.snapshot().rows
    inactive = found.inactive_reason(NOW)
    if isinstance(why, Reason):
        assert found.fault == why
    elif why == "unknown":
        assert found.status == "unknown"
    else:
        assert (found.fault, wording.inactive(inactive) if inactive else "") == (None, why)
    assert (other.fault, other.status) == (None, "active")


def test_two_active_rows_of_a_device(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5)
    assert row(store).other_keys == ()
    second = nexa.peer_id(9)
    nexa.sql(
        "INSERT INTO wireguard_peers (id, device_id, gateway_id, public_key, assigned_ip) VALUES (%s, %s, %s, %s, %s)",
        second, nexa.id(5), named("wg0"), text(9), address(9),
    )  # fmt: skip
    found = row(store)
    assert (found.key, found.other_keys, found.fault) == (key(5), (key(9),), None)
    nexa.update("devices", nexa.id(5), public_key=text(77))
    found = row(store)
    assert (found.fault, len(found.other_keys)) == (Reason.KEYS_DISAGREE, 1)


def test_a_gateway_that_is_not_to_be_seen_is_no_answer(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5)
    assert len(store.snapshot().rows) == 1
    nexa.sql("UPDATE wgsyncd.nodes SET gateways = ARRAY[%s]::uuid[]", named("wg1"))
    with pytest.raises(StoreError, match="gateway wg0 of interface wg0 is not to be seen"):
        store.snapshot()


def test_a_node_that_nobody_entered_is_told(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.sql("DELETE FROM wgsyncd.nodes")
    with pytest.raises(StoreError, match="init-db --node r640"):
        store.snapshot()


def test_times_of_devices_only_move_forward_and_nothing_waits_for_a_lock(nexa: NexavpnTables) -> None:
    store = nexa.store()
    for number in (5, 6):
        nexa.insert(number)
    before = {number: nexa.device(number) for number in (5, 6)}

    def seen(number: int) -> tuple[float | None, float | None]:
        found = nexa.device(number)
        times = (found["last_seen_at"], found["last_connected_at"])
        seconds = tuple(None if at is None else at.timestamp() for at in times)
        assert {**found, "last_seen_at": None, "last_connected_at": None} == before[number]
        return seconds[0], seconds[1]

    def shake(at: float) -> None:
        commit(store, WriteBatch(postings=tuple(posted(nexa.id(number), 1, 1, at) for number in (5, 6))))

    with nexa.locked(6):
        shake(NOW)
        assert (seen(5), seen(6)) == ((NOW, NOW), (None, None))
        assert nexa.posted(6).rx == 1, "the books need no row of the application's"
    shake(NOW + 120)
    assert (seen(5), seen(6)) == ((NOW + 120, NOW), (NOW + 120, NOW)), "the next one writes what was left out"
    shake(NOW + 400)
    assert seen(5) == (NOW + 400, NOW + 400), "a new connection after more than 180 s"
    nexa.sql("UPDATE devices SET last_seen_at = to_timestamp(%s)", NOW + 9000)
    shake(NOW + 900)
    assert seen(5) == (NOW + 9000, NOW + 900)


def test_a_heartbeat_says_whether_a_reconcile_was_good(nexa: NexavpnTables) -> None:
    store = nexa.store()
    who = Identity("machine", "1", "boot", "host")
    assert store.claim(who, 10.0, store.holder(), (), calendar()).done
    store.beat(who, 20.0)
    assert {one["last_sync_at"] for one in nexa.sql("SELECT last_sync_at FROM gateways")} == {None}
    store.snapshot()
    store.digest(at_once=True)
    store.beat(who, 30.0)
    assert {one["last_sync_at"] for one in nexa.sql("SELECT last_sync_at FROM gateways")} == {None}, "a read is none"
    store.beat(who, 40.0, reconciled=True)
    assert None not in {one["last_sync_at"] for one in nexa.sql("SELECT last_sync_at FROM gateways")}


def test_an_audit_row_names_device_gateway_and_facts(nexa: NexavpnTables) -> None:
    store = nexa.store()
    device = str(nexa.id(5))
    facts = AuditFacts(interface="wg1", address="10.251.0.5/32", reason=ChangeReason(ChangeCause.ROW_GONE))
    commit(store, WriteBatch(audit=(
        AuditEvent(AuditAction.PEER_REMOVED, device, facts),
        AuditEvent(AuditAction.ROW_REJECTED, device, AuditFacts(rejection="psk_sealed")),
        AuditEvent(AuditAction.CONFIG_REJECTED, "r640", AuditFacts(count=2, keys=text(5))),
    )))  # fmt: skip
    rows = {one["event_type"]: one for one in nexa.logs()}
    removed, told = rows["gateway.peer_removed"], rows["gateway.config_rejected"]
    assert (removed["entity_type"], removed["entity_id"], removed["status"]) == ("device", nexa.id(5), "success")
    assert removed["message"] == "Peer removed from wg1 (10.251.0.5/32): row is gone"
    assert removed["metadata"] == {
        "gateway_id": str(named("wg1")), "node": "r640", "interface": "wg1", "address": "10.251.0.5/32",
        "reason": "row is gone",
    }  # fmt: skip
    assert rows["gateway.row_rejected"]["status"] == "warning"
    assert (told["entity_type"], told["entity_id"], told["status"]) == ("gateway", named("wg0"), "failure")
    assert text(5) not in str(told), "a key is cut short"


def test_audit_rows_that_are_refused_wait(nexa: NexavpnTables) -> None:
    store = nexa.store()
    who = Identity("machine", "1", "boot", "host")
    assert store.claim(who, 10.0, store.holder(), (), calendar()).done
    nexa.sql("ALTER TABLE audit_logs ADD CONSTRAINT refusing CHECK (false) NOT VALID")
    try:
        commit(store, WriteBatch(audit=(AuditEvent(AuditAction.CONFIG_RELOADED, "r640"),)))
        assert (store.unwritten, nexa.logs()) == (1, [])
        store.beat(who, 20.0)
        assert (store.unwritten, nexa.logs()) == (1, [])
    finally:
        nexa.sql("ALTER TABLE audit_logs DROP CONSTRAINT refusing")
    store.beat(who, 30.0)
    assert (store.unwritten, [one["event_type"] for one in nexa.logs()]) == (0, ["gateway.config_reloaded"])
