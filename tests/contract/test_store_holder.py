"""A store keeps which machine holds a node, and notices a boot that has come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.committing import commit
from tests.nexavpn_sides import NexavpnTables
from tests.samples import EPOCH, NOW, calendar, record
from tests.store_sides import AnyTables, RealMikyunTables
from tests.users_sides import UsersTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.identity import LOST_TIME, NOBODY, SILENCE, Claimed, Heartbeat, Identity
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.reasons import TakeoverCause
from wgsyncd.core.records import DOUBT
from wgsyncd.core.state import InterfaceCheckpoint, WriteBatch
from wgsyncd.errors import RevisionConflict
from wgsyncd.ports import Store

ALPHA = Identity("machine-a", "4026531840", "boot-a", "alpha", "folder-a")
BETA = Identity("machine-b", "4026531840", "boot-b", "beta")


def silence(tables: AnyTables, seconds: float) -> None:
    """Make the heartbeat older."""
    if isinstance(tables, RealMikyunTables):
        tables.sql("UPDATE wgsyncd_nodes SET heartbeat = heartbeat - %s", seconds)
        tables.sql("UPDATE wgsyncd_boots SET last_seen = last_seen - %s", seconds)
        return
    if isinstance(tables, NexavpnTables):
        tables.sql("UPDATE wgsyncd.node_states SET heartbeat = heartbeat - %s", seconds)
        tables.sql("UPDATE wgsyncd.boots SET last_seen = last_seen - %s", seconds)
        return
    db = tables.admin.db if isinstance(tables, UsersTables) else tables.db  # type: ignore[attr-defined]
    db.holders = {node: (who, at - seconds) for node, (who, at) in db.holders.items()}
    db.boots = {at: one._replace(last_seen=one.last_seen - seconds) for at, one in db.boots.items()}


def claim(store: Store, who: Identity, uptime: float | None = 100.0, audit: tuple[AuditEvent, ...] = ()) -> Claimed:
    return store.claim(who, uptime, store.holder(), audit, calendar())


def epochs(store: Store) -> set[str]:
    return {one.epoch for one in store.load_state(calendar()).records.each()}


def test_a_node_has_no_holder_at_first(any_store: Store) -> None:
    assert any_store.holder() is None
    any_store.load_state(calendar())
    holder = any_store.holder()
    assert holder is not None
    assert (holder.identity, holder.age) == (NOBODY, None)


def test_a_claim_begins_the_node_and_raises_the_revision(any_store: Store) -> None:
    assert claim(any_store, ALPHA) == (True, False)
    before = any_store.load_state(calendar())
    assert before.boots == ("boot-a",)
    assert claim(any_store, ALPHA) == (True, False)
    assert any_store.load_state(calendar()).revision == before.revision + 1
    with pytest.raises(RevisionConflict):
        any_store.commit(before, WriteBatch(records=(record(5, row_id=None),)), calendar())


def test_a_heartbeat_from_the_future_counts_from_now_on(any_tables: AnyTables, any_store: Store) -> None:
    """The clock of the server was set back, and the holder is gone: nobody writes a better heartbeat."""
    claim(any_store, ALPHA)
    silence(any_tables, -18000)
    (other,) = any_tables.store(node="other").other_nodes()
    assert other.holder.age == pytest.approx(0, abs=20)
    holder = any_store.holder()
    assert holder is not None
    assert holder.age == pytest.approx(0, abs=20)
    assert not claim(any_store, BETA).came_back
    silence(any_tables, -18000)
    assert any_store.beat(BETA, 101.0) is Heartbeat.WRITTEN


def test_a_heartbeat_tells_the_age_and_leaves_the_revision(any_tables: AnyTables, any_store: Store) -> None:
    claim(any_store, ALPHA)
    before = any_store.load_state(calendar())
    silence(any_tables, 100)
    holder = any_store.holder()
    assert holder is not None
    assert holder.identity == ALPHA
    assert holder.age == pytest.approx(100, abs=20)
    assert any_store.beat(ALPHA, 160.0) is Heartbeat.WRITTEN
    holder = any_store.holder()
    assert holder is not None
    assert holder.age == pytest.approx(0, abs=20)
    assert any_store.load_state(calendar()) == before


def test_one_of_two_claims_wins(any_store: Store) -> None:
    claim(any_store, ALPHA)
    seen = any_store.holder()
    event = AuditEvent(AuditAction.NODE_TAKEN_OVER, "r640", AuditFacts(takeover=TakeoverCause.SILENT))
    assert any_store.claim(BETA, 5.0, seen, (), calendar()).done
    assert not any_store.claim(ALPHA, 5.0, seen, (event,), calendar()).done
    assert any_store.beat(ALPHA, 200.0) is Heartbeat.LOST
    assert any_store.beat(BETA, 200.0) is Heartbeat.WRITTEN
    holder = any_store.holder()
    assert holder is not None
    assert holder.identity == BETA


def test_a_takeover_is_audited_with_it(any_tables: AnyTables, any_store: Store) -> None:
    claim(any_store, ALPHA)
    before = len(any_tables.logs())
    facts = AuditFacts(host="beta", previous_host="alpha", takeover=TakeoverCause.SILENT, count=200)
    claim(any_store, BETA, audit=(AuditEvent(AuditAction.NODE_TAKEN_OVER, "r640", facts),))
    assert len(any_tables.logs()) == before + 1


def test_a_stopped_daemon_gives_its_node_back_and_nobody_elses(any_store: Store) -> None:
    claim(any_store, ALPHA)
    any_store.release(BETA)
    holder = any_store.holder()
    assert holder is not None
    assert holder.age is not None
    any_store.release(ALPHA)
    holder = any_store.holder()
    assert holder is not None
    assert (holder.identity, holder.age) == (ALPHA, None)


@pytest.mark.parametrize("how", ["clone", "another machine", "an order", "silent before"])
def test_a_clone_that_holds_the_node_of_a_living_machine(any_tables: AnyTables, how: str) -> None:
    store = any_tables.store()
    clone = Identity("machine-a" if how != "another machine" else "machine-c", "7", "boot-z", "alpha")
    claim(store, ALPHA)
    if how == "silent before":
        silence(any_tables, SILENCE + 1)
    if how == "an order":
        claim(store, clone, None)
    claim(store, clone, 5.0)
    assert store.beat(ALPHA, 101.0) is (Heartbeat.CLONED if how == "clone" else Heartbeat.LOST)
    claim(store, ALPHA, None)
    assert claim(store, ALPHA, 102.0) == (True, True)
    assert store.beat(clone, 6.0) is Heartbeat.LOST


def test_a_reboot_and_a_restart_leave_the_records_alone(any_store: Store) -> None:
    claim(any_store, ALPHA)
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),)))
    claim(any_store, ALPHA, 200.0)
    later = Identity(ALPHA.machine, ALPHA.namespace, "boot-c", "alpha")
    assert claim(any_store, later, 5.0) == (True, False)
    assert claim(any_store, later, 6.0) == (True, False)
    assert epochs(any_store) == {"boot-a:3"}
    assert any_store.load_state(calendar()).boots == ("boot-a", "boot-c")


@pytest.mark.parametrize("goes_on", [True, False])
def test_another_boot_id_of_a_kernel_that_goes_on_doubts_all_records(any_tables: AnyTables, goes_on: bool) -> None:
    """A container gets another boot id. The kernel was up before the last heartbeat, or booted after it."""
    store = any_tables.store()
    claim(store, ALPHA)
    commit(store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"), record(6, row_id=None, epoch="old:4"))))
    store.release(ALPHA)
    silence(any_tables, 300)
    later = replace(ALPHA, boot="boot-c")
    assert claim(store, later, 300 + LOST_TIME + (5 if goes_on else -5)) == (True, goes_on)
    assert epochs(store) == ({"?boot-c:3", "?old:4"} if goes_on else {"boot-a:3", "old:4"})
    assert store.load_state(calendar()).boots == ("boot-a", "boot-c")
    assert claim(store, replace(BETA, boot="boot-d"), 1e6) == (True, False), "another machine has other counters"


def test_a_boot_that_comes_back_doubts_all_records(any_store: Store) -> None:
    claim(any_store, ALPHA)
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),)))
    claim(any_store, BETA)
    commit(any_store, WriteBatch(records=(record(6, row_id=None, epoch="boot-b:3"),)))
    assert claim(any_store, ALPHA, 300.0) == (True, True)
    assert epochs(any_store) == {"?boot-a:3", "?boot-b:3"}
    assert any_store.load_state(calendar()).boots == ("boot-b", "boot-a")
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),)))
    assert claim(any_store, ALPHA, 400.0) == (True, False), "the restart of its daemon is no second return"
    assert epochs(any_store) == {"boot-a:3", "?boot-b:3"}
    assert claim(any_store, BETA, 400.0) == (True, True)
    assert epochs(any_store) == {"?boot-a:3", "?boot-b:3"}, "no epoch is doubted twice"


def test_a_machine_that_was_put_back_doubts_all_records(any_store: Store) -> None:
    claim(any_store, ALPHA, 100.0)
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),)))
    assert any_store.beat(ALPHA, 500.0) is Heartbeat.WRITTEN
    assert any_store.beat(ALPHA, 400.0) is Heartbeat.CAME_BACK
    assert claim(any_store, ALPHA, 401.0) == (True, True)
    assert epochs(any_store) == {"?boot-a:3"}
    assert any_store.beat(ALPHA, 402.0) is Heartbeat.WRITTEN


@pytest.mark.parametrize(("lost", "doubts"), [(0.0, False), (LOST_TIME - 5, False), (LOST_TIME + 5, True)])
def test_a_machine_that_lost_time_doubts_all_records(any_tables: AnyTables, lost: float, doubts: bool) -> None:
    """Its uptime has passed the stored one. It passed by less than the time since the last heartbeat."""
    store = any_tables.store()
    claim(store, ALPHA, 100.0)
    commit(store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),), uptime=101.0))
    silence(any_tables, 1000 + lost)
    assert claim(store, ALPHA, 1101.0) == (True, doubts)
    assert epochs(store) == {"?boot-a:3" if doubts else "boot-a:3"}


def test_each_commit_tells_the_uptime_too(any_store: Store) -> None:
    """A snapshot was taken after the last heartbeat, and a commit came after the snapshot."""
    claim(any_store, ALPHA, 100.0)
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),), uptime=120.0))
    assert any_store.beat(ALPHA, 119.0) is Heartbeat.CAME_BACK
    assert claim(any_store, ALPHA, 119.0) == (True, True)
    assert epochs(any_store) == {"?boot-a:3"}
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),), uptime=130.0))
    later = Identity(ALPHA.machine, ALPHA.namespace, "boot-c", "alpha")
    assert claim(any_store, later, 5.0) == (True, False), "the uptime of another boot says nothing"
    assert epochs(any_store) == {"boot-a:3"}


def test_an_order_to_take_over_enters_no_boot(any_store: Store) -> None:
    claim(any_store, ALPHA)
    commit(any_store, WriteBatch(records=(record(5, row_id=None, epoch="boot-a:3"),)))
    place = Identity(BETA.machine, "", BETA.boot, BETA.host)
    assert claim(any_store, place, None) == (True, False)
    assert any_store.load_state(calendar()).boots == ("boot-a",)
    assert any_store.beat(ALPHA, 200.0) is Heartbeat.LOST


def test_a_renamed_node_keeps_all_that_it_had(any_tables: AnyTables) -> None:
    old, new = any_tables.store(node="r630"), any_tables.store(node="r640")
    claim(old, ALPHA)
    delta = QuarantinedDelta("wg0", None, "0001-DEV-009", 9, 8, NOW - 15, NOW)
    commit(old, WriteBatch(records=(record(5, row_id=None),), checkpoints={"wg0": InterfaceCheckpoint(EPOCH, NOW)},
                           quarantined=(delta,), spool_position="stream:7"))  # fmt: skip
    before, logs = old.load_state(calendar()), len(any_tables.logs())
    assert new.holder() is None
    [other] = new.other_nodes()
    assert (other.node, other.holder.identity, other.interfaces) == ("r630", ALPHA, frozenset({"wg0", "wg1"}))
    new.take_name_from(
        "r630", [AuditEvent(AuditAction.NODE_RENAMED, "r640", AuditFacts(previous_node="r630"))], calendar()
    )
    assert new.load_state(calendar()) == before
    assert [one.delta for one in new.quarantine()] == [delta]
    assert len(any_tables.logs()) == logs + 1
    assert not new.other_nodes()
    assert old.holder() is None


def test_a_claim_displaces_the_other_nodes_of_its_interfaces(any_tables: AnyTables) -> None:
    """Their daemons can commit nothing more, and their baselines of these interfaces are not sure any more."""
    first, second, third = (any_tables.store(node=name) for name in ("r630", "r640", "r650"))
    before = {}
    for store in (first, third):
        claim(store, ALPHA)
        records = record(5, row_id=None), replace(record(6, row_id=None), interface="wg7")
        commit(store, WriteBatch(records=records))
        before[store] = store.load_state(calendar())
    seen = second.holder()
    assert second.claim(BETA, 5.0, seen, (), calendar(), displaced=("r630",)).done
    with pytest.raises(RevisionConflict):
        first.commit(before[first], WriteBatch(records=(record(5, row_id=None),)), calendar())
    third.commit(before[third], WriteBatch(records=(record(8, row_id=None),)), calendar())
    assert {one.interface: one.epoch for one in first.load_state(calendar()).records.each()} == {
        "wg0": DOUBT, "wg7": EPOCH
    }  # fmt: skip
    assert DOUBT not in epochs(third)


def test_a_heartbeat_tells_which_interfaces_are_served_now(any_tables: AnyTables) -> None:
    """A reload may have brought one."""
    watcher = any_tables.store(node="r630")
    store = any_tables.store()
    claim(store, ALPHA)
    [before] = watcher.other_nodes()
    later = any_tables.store('\n[interfaces.wg2]\nnetworks = ["10.252.0.0/24"]\n')
    assert later.beat(ALPHA, 101.0) is Heartbeat.WRITTEN
    [after] = watcher.other_nodes()
    assert (sorted(before.interfaces), sorted(after.interfaces)) == (["wg0", "wg1"], ["wg0", "wg1", "wg2"])
