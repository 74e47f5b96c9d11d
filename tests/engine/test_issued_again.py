"""A QR code that is issued again is activated by its own scan alone, whatever dates the application leaves or empties."""

from __future__ import annotations

import pytest

from tests.node import Node, local
from tests.samples import key, text


@pytest.fixture
def node() -> Node:
    made = Node()
    made.device(5)
    made.cycle()
    return made


def status(node: Node, number: int) -> str:
    return str(node.admin.field(number, "status"))


def used(node: Node) -> None:
    """Device 8 was issued, scanned and used. Its phone was last there ten minutes ago."""
    node.issued(8, node.now + 600, issued_at=local(node.now - 60))
    node.cycle()
    node.shake(8)
    node.account()
    assert status(node, 8) == "active"
    node.tick(600)
    node.shake(8)
    node.account()
    node.tick(600)


AGAIN = {
    "all dates": {"issued_at": 0, "activated_at": None, "first_handshake_at": None},
    "a new date of issue": {"issued_at": 0},
    "the old date of issue": {},
    "no date of issue": {"issued_at": None},
    "the old date and no first handshake": {"first_handshake_at": None},
}


@pytest.mark.parametrize("down", [False, True], ids=["runs", "down"])
@pytest.mark.parametrize("key_of", [8, 9], ids=["same key", "new key"])
@pytest.mark.parametrize("dates", AGAIN.values(), ids=AGAIN.keys())
@pytest.mark.parametrize("scanned", [True, False])
def test_a_code_issued_again_is_activated_by_its_own_scan_alone(
    node: Node, scanned: bool, dates: dict[str, float | None], key_of: int, down: bool, deadlines: None
) -> None:
    used(node)
    columns = {name: local(node.now) if value == 0 else value for name, value in dates.items()}
    end = node.calendar.format_local(node.now + 300)
    node.change(8, status="issued", qr_expires_at=end, public_key=text(key_of), **columns)
    if down:
        node.start()
    node.cycle()
    node.account()
    assert status(node, 8) == "issued", "an old handshake is no scan"
    assert key(key_of) in node.wg.peers("wg0")
    if scanned:
        node.wg.handshake("wg0", key(key_of), int(node.now * 1e9))
        node.store.next_writes = ["before"]
        node.account(fails=True)
        node.account()
    else:
        node.tick(400)
        node.cycle()
    assert status(node, 8) == ("active" if scanned else "expired")
    assert (key(key_of) in node.wg.peers("wg0")) is scanned
    node.quiet()


def test_a_scan_while_no_daemon_ran_counts_although_the_date_of_issue_is_old(node: Node, deadlines: None) -> None:
    used(node)
    node.change(8, status="issued", qr_expires_at=node.calendar.format_local(node.now + 60))
    node.tick(30)
    node.shake(8)
    node.tick(600)
    node.start()
    node.cycle()
    assert status(node, 8) == "active"


def test_a_status_that_was_set_back_by_mistake_ends_no_device_in_use(node: Node, deadlines: None) -> None:
    """The code has the old end, and the device was used after it."""
    used(node)
    node.change(8, status="issued")
    node.start()
    node.cycle()
    assert status(node, 8) == "active"
    assert key(8) in node.wg.peers("wg0")


@pytest.mark.parametrize("ahead", [10, 170])
def test_clocks_that_differ_hide_no_scan(node: Node, ahead: int, deadlines: None) -> None:
    """The application's clock is ahead of this machine's, and the phone is seen once."""
    node.issued(8, node.now + 600, issued_at=local(node.now + ahead))
    node.cycle()
    node.shake(8)
    node.cycle()
    assert status(node, 8) == "active"


@pytest.mark.parametrize("dates", [{}, {"last_handshake_at": None}], ids=["used meanwhile", "no last handshake"])
def test_a_handshake_before_the_last_change_of_the_row_is_no_scan(
    node: Node, dates: dict[str, None], deadlines: None
) -> None:
    """The application left issued_at as it was, and the device was used while wgsyncd did not run."""
    used(node)
    node.db.same_zone = True
    node.shake(8)
    node.tick(300)
    changed, end = local(node.now), node.calendar.format_local(node.now + 300)
    node.change(8, status="issued", qr_expires_at=end, updated_at=changed, **dates)
    node.start()
    node.cycle()
    node.account()
    assert status(node, 8) == "issued"
    node.shake(8)
    node.account()
    assert status(node, 8) == "active"


def test_a_status_set_back_after_the_end_of_the_code_ends_no_device(node: Node, deadlines: None) -> None:
    """The device was last used before the end of its code, so no handshake shows that the code was scanned."""
    node.issued(8, node.now + 600, issued_at=local(node.now - 60))
    node.db.same_zone = True
    node.cycle()
    node.shake(8)
    node.account()
    node.tick(900)
    node.change(8, status="issued", updated_at=local(node.now))
    node.cycle()
    assert status(node, 8) == "active"
    assert key(8) in node.wg.peers("wg0")


@pytest.mark.parametrize("restarts", [False, True])
def test_a_date_of_issue_in_another_zone_delays_no_scan(node: Node, restarts: bool, deadlines: None) -> None:
    """The application writes nine hours that have not come yet. The code was issued at the latest when it was read."""
    node.issued(8, node.now + 12 * 3600, issued_at=local(node.now + 9 * 3600))
    node.cycle()
    node.tick(600)
    if restarts:
        node.start()
        node.cycle()
    node.shake(8)
    node.account()
    assert status(node, 8) == "active"


def test_a_date_of_issue_in_another_zone_makes_no_old_handshake_a_scan(node: Node, deadlines: None) -> None:
    used(node)
    node.change(8, status="issued", qr_expires_at=local(node.now + 12 * 3600), issued_at=local(node.now + 9 * 3600))
    node.cycle()
    node.tick(600)
    node.account()
    assert status(node, 8) == "issued"
    node.tick(9 * 3600)
    node.cycle()
    assert status(node, 8) == "issued"


def test_a_remembered_handshake_is_no_scan_of_the_next_code(node: Node, deadlines: None) -> None:
    """The code is issued again before the next poll, while the first handshake is still remembered."""
    node.issued(8, node.now + 600)
    node.cycle()
    node.shake(8)
    node.account()
    assert status(node, 8) == "active"
    node.tick(14)
    node.change(8, status="issued")
    node.cycle()
    assert status(node, 8) == "issued"


def test_a_code_issued_for_the_third_time_needs_its_own_scan(node: Node, deadlines: None) -> None:
    """activated_at keeps the first activation, and issued_at is the second date of issue."""
    used(node)
    node.db.same_zone = True
    for columns in ({"issued_at": local(node.now)}, {}):
        end, changed = node.calendar.format_local(node.now + 9000), local(node.now)
        node.change(8, status="issued", qr_expires_at=end, updated_at=changed, **columns)
        node.cycle()
        node.account()
        assert status(node, 8) == "issued"
        node.tick(60)
        node.shake(8)
        node.account()
        assert status(node, 8) == "active"
        node.tick(600)


def test_a_scan_that_is_posted_before_the_row_is_read_again_counts(node: Node, deadlines: None) -> None:
    used(node)
    node.db.same_zone = True
    end, changed = node.calendar.format_local(node.now + 9000), local(node.now)
    node.change(8, status="issued", qr_expires_at=end, updated_at=changed)
    node.tick(5)
    node.shake(8)
    node.account()
    assert status(node, 8) == "issued"
    node.cycle()
    assert status(node, 8) == "active"
