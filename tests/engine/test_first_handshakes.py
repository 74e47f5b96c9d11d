"""A device that was scanned in time stays in service, whatever the kernel shows by then.

The kernel has the latest handshake only. The table, a record or a waiting sample may have an earlier one.
"""

from __future__ import annotations

import pytest

from tests.node import Node, local
from tests.samples import key


@pytest.fixture
def node() -> Node:
    made = Node()
    made.device(5)
    made.cycle()
    return made


def status(node: Node, number: int) -> str:
    return str(node.admin.field(number, "status"))


TABLE = {
    "in time": (-9000, -5000, "active"),
    "at the end": (-9000, -3600, "active"),
    "of the QR code before": (-9000, -9001, "expired"),
    "after the end": (-9000, -3599, "expired"),
    "no date of issue": (None, -5000, "active"),
}


@pytest.mark.parametrize(("issued", "first", "becomes"), TABLE.values(), ids=TABLE.keys())
def test_a_first_handshake_that_the_table_has_counts(
    node: Node, issued: float | None, first: float, becomes: str, deadlines: None
) -> None:
    """At a first start or after a restore the table may know more than the kernel, which has a later handshake."""
    dates = {"issued_at": issued and local(node.now + issued), "first_handshake_at": local(node.now + first)}
    node.issued(8, node.now - 3600, created_at=local(node.now - 90000), **dates)
    node.cycle()
    assert status(node, 8) == becomes
    assert (key(8) in node.wg.peers("wg0")) is (becomes == "active")
    if becomes == "active":
        assert (
            node.db.devices[8]["first_handshake_at"]
            == node.db.devices[8]["activated_at"]
            == dates["first_handshake_at"]
        )
    node.quiet()


@pytest.mark.parametrize("how", ["another process", "a process that never saw the database", "the same process"])
def test_a_device_scanned_in_time_during_an_outage_is_activated(node: Node, how: str, deadlines: None) -> None:
    """The kernel shows only later handshakes by then. The waiting samples have the first one."""
    node.issued(8, node.now + 60)
    node.cycle()
    node.store.down = True
    if how == "a process that never saw the database":
        node.start()
        node.account(fails=True)
    at = node.now
    node.shake(8)
    node.account(fails=True)
    for _ in range(3):
        node.tick(120)
        node.shake(8)
        node.traffic(8, 5)
        node.account(fails=True)
    if how == "another process":
        node.start()
    node.back()
    assert status(node, 8) == "active"
    assert node.db.devices[8]["first_handshake_at"] == local(at)
    assert key(8) in node.wg.peers("wg0")
    assert node.posted == node.true


@pytest.mark.parametrize("crash", range(6))
def test_no_crash_while_samples_are_posted_loses_a_first_handshake(node: Node, crash: int, deadlines: None) -> None:
    node.issued(8, node.now + 60)
    node.cycle()
    node.store.down = True
    for _ in range(3):
        node.shake(8)
        node.traffic(8, 5)
        node.account(fails=True)
        node.tick(120)
    node.store.down, node.store.next_writes = False, [*["ok"] * crash, "crash before"]
    for _ in range(3):
        node.survive()
    assert status(node, 8) == "active"
    assert key(8) in node.wg.peers("wg0")
    assert node.posted == node.true


def test_a_record_knows_a_handshake_that_a_restored_table_does_not(node: Node, deadlines: None) -> None:
    end = node.now + 60
    node.issued(8, end)
    node.cycle()
    at = node.now
    node.shake(8)
    node.account()
    node.change(8, status="issued", **dict.fromkeys(("first_handshake_at", "last_handshake_at", "activated_at")))
    node.tick(120)
    node.shake(8)
    node.start()
    node.cycle()
    assert status(node, 8) == "active"
    assert node.db.devices[8]["first_handshake_at"] == local(at)


def test_a_handshake_of_an_earlier_boot_activates_nobody(node: Node, deadlines: None) -> None:
    """A record then says that the device was used before, but not when."""
    node.shake(5)
    node.cycle()
    node.reboot()
    node.cycle()
    end = node.calendar.format_local(node.now + 60)
    node.change(5, status="issued", qr_expires_at=end, **dict.fromkeys(("first_handshake_at", "last_handshake_at")))
    node.cycle()
    assert status(node, 5) == "issued"


def test_a_handshake_of_1970_is_none_that_anybody_knows_the_time_of(node: Node, deadlines: None) -> None:
    """The clock of the machine is wrong, as with an empty battery. No byte is posted twice, and no row says 1970."""
    node.issued(8, node.now + 3600)
    node.cycle()
    node.shake(5)
    node.traffic(5, 100)
    node.account()
    before = node.admin.last_handshake(5)
    for number in (5, 8):
        node.shake(number, at=95.0)
        node.traffic(number, 7)
    node.cycle()
    node.account()
    assert (node.admin.last_handshake(5), node.admin.last_handshake(8), status(node, 8)) == (before, None, "issued")
    node.tick()
    for number in (5, 8):
        node.shake(number)
    node.cycle()
    assert (node.admin.last_handshake(5), status(node, 8)) == (node.now - 15, "active")
    assert node.posted == node.true
    assert not node.status.anomalies
