"""Handshakes, QR deadlines and windows work in the whole agent, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import Node, local
from tests.samples import calendar, key, text


@pytest.fixture
def node() -> Node:
    made = Node()
    made.device(5)
    made.cycle()
    return made


def status(node: Node, number: int) -> str:
    return str(node.admin.field(number, "status"))


# -- handshakes and QR deadlines


@pytest.mark.parametrize("by", ["account", "cycle"])
def test_the_first_handshake_activates_once_with_the_kernels_time(node: Node, by: str, deadlines: None) -> None:
    node.issued(8, node.now + 900)
    node.cycle()
    at = node.now + 3
    node.tick(3)
    node.shake(8)
    getattr(node, by)()
    device = node.db.devices[8]
    assert status(node, 8) == "active"
    assert [device[f"{name}_at"] for name in ("first_handshake", "activated", "last_handshake")] == [local(at)] * 3
    assert node.actions.count(("device_activated", "0001-DEV-008")) == 1
    assert node.status.transitions == {"activate": 1}
    commits = node.store.commits
    node.account()
    node.account()
    assert node.store.commits == commits, "a step that was taken is not due again"
    node.quiet()
    node.tick(60)
    node.shake(8)
    node.account()
    assert device is not node.db.devices[8]
    assert node.db.devices[8]["first_handshake_at"] == local(at)
    assert node.db.devices[8]["last_handshake_at"] == local(node.now - 15)


def test_an_active_row_that_never_shook_hands_gets_its_first_handshake_and_no_audit_row(node: Node) -> None:
    node.device(8, seen=False)
    node.cycle()
    node.shake(8)
    node.account()
    assert node.admin.first_handshake(8) is not None
    assert node.status.transitions == {"first_handshake": 1}
    assert [one for one in node.actions if one[1] == "0001-DEV-008"] == [("peer_added", "0001-DEV-008")]
    commits = node.store.commits
    node.account()
    assert node.store.commits == commits


def test_without_a_handshake_there_is_no_date_and_never_1970(node: Node) -> None:
    node.device(8, seen=False)
    for _ in range(3):
        node.cycle()
    assert (node.admin.first_handshake(8), node.admin.last_handshake(8)) == (None, None)


def test_without_a_handshake_there_is_no_activation(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 900)
    for _ in range(3):
        node.cycle()
    device = node.db.devices[8]
    assert [device[f"{name}_at"] for name in ("first_handshake", "activated", "last_handshake")] == [None] * 3


def test_a_handshake_time_only_moves_forward(node: Node) -> None:
    node.shake(5)
    node.cycle()
    latest = node.admin.last_handshake(5)
    node.shake(5, at=node.now - 5000)
    node.cycle()
    node.wg.reboot()
    node.cycle()
    assert node.admin.last_handshake(5) == latest


def test_an_ended_qr_is_expired_and_its_peer_gone_in_the_same_cycle(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    assert key(8) in node.wg.peers("wg0")
    node.tick(20)
    node.cycle()
    assert status(node, 8) == "expired"
    assert key(8) not in node.wg.peers("wg0")
    assert [one for one, device in node.actions if device == "0001-DEV-008"] == [
        "peer_added", "qr_expired", "peer_removed"
    ]  # fmt: skip
    node.quiet()


def test_a_row_does_not_expire_before_its_peer_is_taken_out(node: Node, deadlines: None) -> None:
    """Accounting changes no peer, so it leaves an expired QR code to the next reconcile."""
    node.issued(8, node.now + 20)
    node.cycle()
    node.tick(20)
    node.account()
    assert status(node, 8) == "issued"
    assert key(8) in node.wg.peers("wg0")


@pytest.mark.parametrize(("after", "becomes"), [(0.0, "active"), (-1.0, "active"), (1.0, "expired")])
def test_the_race_at_the_deadline(node: Node, after: float, becomes: str, deadlines: None) -> None:
    end = node.now + 60
    node.issued(8, end)
    node.cycle()
    node.shake(8, at=end + after)
    node.tick(60)
    node.cycle()
    assert status(node, 8) == becomes


def test_the_nearest_deadline_is_known_until_it_has_passed(node: Node, deadlines: None) -> None:
    end = node.now + 60
    assert node.agent.next_deadline() is None
    node.issued(8, end)
    node.issued(9, end + 10)
    node.cycle()
    assert node.agent.next_deadline() == end
    node.tick(end - node.now)
    assert node.agent.next_deadline() == end, "at the end itself the QR code is alive"
    node.tick(1)
    assert node.agent.next_deadline() == end + 10
    node.reload()
    assert node.agent.next_deadline() == end + 10
    node.shake(9)
    node.account()
    assert node.agent.next_deadline() is None, "it has come"


@pytest.mark.parametrize(
    "columns",
    [{"status": "revoked"}, {"status": "active"}, {"qr_expires_at": "2030-01-01 00:00:00"}, {"public_key": text(80)}],
)
def test_an_admins_click_between_reading_and_writing_wins(node: Node, columns: dict[str, Any], deadlines: None) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    rows = node.store.snapshot
    node.tick(100)

    def clicked() -> Any:
        seen = rows()
        node.change(8, **columns)
        return seen

    node.store.snapshot = clicked  # type: ignore[method-assign]
    node.cycle()
    node.store.snapshot = rows  # type: ignore[method-assign]
    assert ("qr_expired", "0001-DEV-008") not in node.actions
    assert node.db.devices[8] == {**node.db.devices[8], **columns}
    stays = columns.get("status") == "active" or "qr_expires_at" in columns
    assert (key(8) in node.wg.peers("wg0")) is stays, "the same cycle goes by what the admin wrote"


def test_an_expired_row_that_an_admin_issues_anew_is_not_expired_again(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    node.tick(100)
    node.cycle()
    node.change(8, status="issued", qr_expires_at=local(node.now + 900))
    node.cycle()
    node.right()
    assert status(node, 8) == "issued"


def test_a_clock_that_steps_back_expires_nothing_twice_and_one_that_steps_on_rolls_once(
    node: Node, deadlines: None
) -> None:
    node.issued(8, node.now + 20)
    node.traffic(5, 100)
    node.cycle()
    node.tick(100)
    node.cycle()
    node.now -= 7200
    node.traffic(5, 10)
    node.cycle()
    node.right()
    node.now += 7200
    node.traffic(5, 1)
    node.cycle()
    node.right()
    assert node.actions.count(("qr_expired", "0001-DEV-008")) == 1


# -- windows


def test_the_24_h_figure_falls_to_nothing_for_idle_paused_and_removed_devices(node: Node) -> None:
    for number in (6, 7):
        node.device(number)
    node.cycle()
    for number in (5, 6, 7):
        node.traffic(number, 100, 10)
    node.cycle()
    node.change(6, status="paused")
    node.change(7, status="revoked")
    node.cycle()
    assert {node.windows(n)[0].rx for n in (5, 6, 7)} == {100}
    node.tick(86400 - 900)
    node.account()
    assert {node.windows(n)[0].rx for n in (5, 6, 7)} == {100}
    node.tick(2 * 900)
    node.account()
    assert {node.windows(n)[0].rx for n in (5, 6, 7)} == {0}
    assert {node.windows(n)[1].rx for n in (5, 6, 7)} == {100}
    node.right()


def test_bytes_on_the_first_second_of_a_month_belong_to_the_month_before(node: Node) -> None:
    edge = calendar(node.now).next_midnight(node.now)
    while calendar(edge).format_local(edge)[8:10] != "01":
        edge = calendar(edge).next_midnight(edge)
    node.tick(edge - node.now - 30)
    node.account()
    node.traffic(5, 100)
    node.account()  # this poll is exactly on the boundary
    assert node.now == edge
    assert node.windows(5)[1].rx == 0
    assert node.days[5, calendar(edge - 1).day(edge - 1)] == (100, 0)
    node.traffic(5, 7)
    node.account()
    assert node.windows(5)[1].rx == 7
    node.right()


def test_a_month_without_a_process_still_ends(node: Node) -> None:
    node.traffic(5, 100)
    node.cycle()
    node.now += 40 * 86400
    node.start()
    node.account()
    assert node.windows(5)[1].rx == 0
    node.right()


def test_figures_are_forgotten_when_they_are_old(node: Node, usage_columns: None) -> None:
    node.traffic(5, 100)
    node.cycle()
    node.agent.purge()
    assert (len(node.days), len(node.buckets)) == (1, 1)
    node.tick(401 * 86400)
    node.agent.purge()
    assert (node.days, node.buckets) == ({}, {})
    assert node.posted[5] == (100, 0)
