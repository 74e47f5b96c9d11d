"""Two daemons with roles and gateways of their own hand devices over on one PostgreSQL: each byte is posted once.

The kernels are in memory. Commits lose their answers or do not happen, and processes die between two changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.fakemachine import FakeMachine
from tests.nexavpn_sides import NexavpnTables, lose_answers
from tests.nexavpnnode import NexavpnAdmin
from tests.node import Node
from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.samples import key
from wgsyncd.config import resources
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.nexavpn.store import NexaStore
from wgsyncd.stores.spool import FileSpool

EAST, WEST = "east", "west"
ROLES = {EAST: NODE_ROLE, WEST: "wgsyncd_west"}
PREFIX = {EAST: "", WEST: "west-"}  # of the gateways' names
FATES = ("ok", "answer lost", "commit lost", "crash")


class TwoGateways(NexavpnTables):
    """The tables, in which each node has its own role and sees its own gateways only."""

    def __init__(self, server: PrivatePostgres, stack: ExitStack) -> None:
        super().__init__(server, stack)
        self.sql(f"DROP ROLE IF EXISTS {ROLES[WEST]}")
        self.sql(f"CREATE ROLE {ROLES[WEST]} LOGIN IN ROLE wgsyncd_node")
        for name, role in ROLES.items():
            self.sql("INSERT INTO wgsyncd.nodes VALUES (%s, %s, '{}')", name, role)

    def gateway(self, name: str, **columns: object) -> UUID:
        found = super().gateway(name, **columns)
        self._part()
        return found

    def _part(self) -> None:
        for node, prefix in PREFIX.items():
            names = [f"{prefix}{one}" for one in ("wg0", "wg1")]
            sql = "UPDATE wgsyncd.nodes SET gateways = ARRAY(SELECT id FROM gateways WHERE name = ANY(%s)) WHERE node = %s"
            self.sql(sql, names, node)

    def settings(self, extra: str = "", **node: object) -> Settings:
        found = super().settings(extra, **node)
        own = nexavpn(found)
        database = msgspec.structs.replace(own.database, user=ROLES[found.node.name])
        return msgspec.structs.replace(found, store=msgspec.structs.replace(own, database=database))

    def store(self, extra: str = "", **node: object) -> NexaStore:
        made = super().store(extra, **node)
        self._part()
        return made


class Place(Node):
    """One of the nodes, with a kernel and a spool of its own."""

    def __init__(self, tables: TwoGateways, folder: Path, side: str) -> None:
        super().__init__()
        arguments = {"node": side, "prefix": PREFIX[side]}
        self.settings = tables.settings(**arguments)
        self.db, self.admin = tables, NexavpnAdmin(tables)  # type: ignore[assignment]
        self.store = tables.store(**arguments)  # type: ignore[assignment]
        self.spool = FileSpool(folder / side, side)  # type: ignore[assignment]
        self.machine = FakeMachine(side, f"boot of {side}")
        self.machine.clock = lambda: self.mono
        self.wg._boot = len(side) + (side == WEST)
        self.start()

    def meet(self, fate: str, monkeypatch: pytest.MonkeyPatch) -> bool:
        """One reconcile, with a fault. A dead process is started again. Returns whether the fault has ended it."""
        with monkeypatch.context() as patch:
            if fate == "crash":
                self.wg.crash_after = 1
            elif fate != "ok":
                lose_answers(self.store._connection, patch, happened=fate == "answer lost")  # type: ignore[attr-defined]
            is_hit = not self.survive()
        self.wg.crash_after = None
        return is_hit


@pytest.fixture
def places(postgres: PrivatePostgres, tmp_path: Path) -> Iterator[dict[str, Place]]:
    """Yields both nodes. East has the devices 5 to 9, west the devices 10 to 13."""
    with ExitStack() as stack:
        tables = TwoGateways(postgres, stack)
        made = {side: Place(tables, tmp_path, side) for side in (EAST, WEST)}
        made[WEST].true, made[WEST]._numbers = made[EAST].true, made[EAST]._numbers
        for number in range(5, 14):
            made[EAST].device(number)
            tables.move(number, "wg0" if number < 10 else "west-wg0")
        for place in made.values():
            place.cycle()
        yield made


def count(place: Place, rx: int) -> None:
    """Bytes move over the peer of device 5, if the node has it with an address."""
    found = place.kernel_of("wg0").get(key(5))
    if found is not None and found.allowed_ips:
        place.traffic(5, rx, 1)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("first", ["former", "next"])
def test_a_device_moves_there_and_back(
    places: dict[str, Place], fate: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, hits = places[EAST].db, 0
    for step, to in enumerate((WEST, EAST, WEST), 1):
        former, following = places[EAST if to == WEST else WEST], places[to]
        count(former, 100 * step)
        tables.move(5, f"{PREFIX[to]}wg0")
        count(former, 10 * step)  # the phone does not know yet
        both = [former, following] if first == "former" else [following, former]
        for place in both:
            hits += place.meet(fate, monkeypatch)
            count(following, step)
        for _ in range(2):
            for place in both:
                place.survive()
        count(following, 1000 * step)
        assert key(5) in following.kernel_of("wg0")
        assert key(5) not in former.kernel_of("wg0")
    for place in (*places.values(), *places.values()):
        place.cycle()
        place.account()
    for number in range(5, 14):
        assert places[EAST].admin.posted(number) == places[EAST].true[number]
    assert places[EAST].true[5] > Counters(6000, 6)
    assert bool(hits) is (fate != "ok")
    assert [len(place.kernel_of("wg0")) for place in places.values()] == [4, 5]


def test_the_audit_tells_a_move_from_a_row_that_is_gone(places: dict[str, Place]) -> None:
    tables = places[EAST].db
    for number in (5, 6):
        tables.move(number, "west-wg0")
    tables.sql("UPDATE devices SET deleted_at = now() WHERE id = %s", tables.id(6))
    for place in places.values():
        place.cycle()
    rows = [one for one in tables.logs() if one["event_type"] == "gateway.peer_removed"]
    told = {one["entity_id"].int >> 96: one["metadata"]["reason"] for one in rows}
    assert told == {5: "moved to another gateway, user alice", 6: "row is gone, user alice"}
    assert all(one["metadata"]["node"] == EAST for one in rows)


def test_a_damaged_device_in_a_record_stops_no_audit(places: dict[str, Place]) -> None:
    tables = places[EAST].db
    tables.sql("UPDATE wgsyncd.peers SET device = 'damaged' WHERE device = %s", str(tables.id(5)))
    tables.delete(5)
    for _ in range(2):
        places[EAST].start()
        places[EAST].cycle()
    assert [one["metadata"]["target"] for one in tables.logs() if one["event_type"] == "gateway.peer_removed"] == [
        "damaged"
    ]


def test_the_audit_goes_on_without_the_view_of_moves(places: dict[str, Place]) -> None:
    """The views are dropped for a migration, or of an older wgsyncd."""
    tables = places[EAST].db
    tables.sql("DROP VIEW wgsyncd.moved_devices")
    try:
        tables.move(5, "west-wg0")
        places[EAST].cycle()
    finally:
        tables.sql(resources.text("sql/nexavpn/views.sql"))
    (row,) = [one for one in tables.logs() if one["event_type"] == "gateway.peer_removed"]
    assert row["metadata"]["reason"] == "row is gone, user alice"
