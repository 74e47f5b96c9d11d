"""Two nodes with the same gateways in NexaVPN's tables: who writes which row."""

from __future__ import annotations

from tests.committing import commit, posted
from tests.nexavpn_sides import NexavpnTables
from tests.samples import NOW, calendar
from wgsyncd.core.identity import Identity
from wgsyncd.core.model import Counters
from wgsyncd.core.state import WriteBatch
from wgsyncd.stores.nexavpn.store import NexaStore

SEEN = ("last_seen_at", "last_connected_at")
WHO = {name: Identity(f"machine of {name}", "1", f"boot of {name}", name) for name in ("east", "west")}


def started(nexa: NexavpnTables, node: str, *, active: bool) -> NexaStore:
    store = nexa.store(node=node)
    store.is_active = active
    assert store.claim(WHO[node], 10.0, store.holder(), (), calendar()).done
    return store


def seen(nexa: NexavpnTables) -> list[float | None]:
    device, (gateway,) = nexa.device(5), nexa.sql("SELECT last_sync_at FROM gateways WHERE name = 'wg0'")
    times = [*(device[one] for one in SEEN), gateway["last_sync_at"]]
    return [None if one is None else one.timestamp() for one in times]


def test_a_standby_posts_its_bytes_and_writes_no_column_of_the_application(nexa: NexavpnTables) -> None:
    nexa.insert(5)
    east, west = started(nexa, "east", active=True), started(nexa, "west", active=False)
    commit(west, WriteBatch(postings=(posted(nexa.id(5), 100, 10, NOW + 60),)))
    west.snapshot()
    west.beat(WHO["west"], 20.0, reconciled=True)
    assert seen(nexa) == [None, None, None]
    commit(east, WriteBatch(postings=(posted(nexa.id(5), 1000, 1, NOW),)))
    east.snapshot()
    east.beat(WHO["east"], 20.0, reconciled=True)
    assert seen(nexa)[:2] == [NOW, NOW]
    assert seen(nexa)[2] is not None
    assert nexa.posted(5) == Counters(1100, 11), "each node has rows of its own, and the view has their sum"


def test_a_standby_that_becomes_active_writes_what_it_saw_and_the_other_one_nothing(nexa: NexavpnTables) -> None:
    nexa.insert(5)
    east, west = started(nexa, "east", active=True), started(nexa, "west", active=False)
    commit(east, WriteBatch(postings=(posted(nexa.id(5), 1, 1, NOW),)))
    commit(west, WriteBatch(postings=(posted(nexa.id(5), 1, 1, NOW + 300),)))
    east.is_active, west.is_active = False, True
    east.snapshot()
    commit(east, WriteBatch(postings=(posted(nexa.id(5), 1, 1, NOW + 900),)))
    east.beat(WHO["east"], 20.0, reconciled=True)
    assert seen(nexa) == [NOW, NOW, None], "the former active node writes nothing any more"
    west.snapshot()
    west.beat(WHO["west"], 20.0, reconciled=True)
    assert seen(nexa)[:2] == [NOW + 300, NOW + 300]
    assert seen(nexa)[2] is not None
    east.is_active = True  # both take themselves for active: the columns only move forward
    commit(east, WriteBatch(postings=(posted(nexa.id(5), 1, 1, NOW + 100),)))
    west.beat(WHO["west"], 30.0)
    assert seen(nexa)[0] == NOW + 900
