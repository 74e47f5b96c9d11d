"""A row that is locked, or that the server refuses to change, is one row's trouble: nobody else waits for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import generate_latest

from tests.node import Node
from tests.samples import key
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.daemon import metrics

OBSTACLES: list[Callable[..., None]] = [Node.lock, Node.refuse]


def mended(node: Node) -> None:
    node.lock()
    node.refuse()
    for _ in range(2):
        node.cycle()
    node.right()
    assert not node.status.set_aside
    assert not node.db.set_aside


@pytest.mark.parametrize("hinder", OBSTACLES)
@pytest.mark.parametrize("waits", ["sample of an outage", "last sample of a removed peer", "counter reset"])
def test_a_locked_row_with_a_sample_that_waits_keeps_no_new_device_out(
    node: Node, hinder: Callable[..., None], waits: str
) -> None:
    """Other devices get their peers and their bytes at once. The sample's bytes come when the row can be changed."""
    node.traffic(7, 900)
    node.account()
    hinder(node, 7)
    if waits == "sample of an outage":
        node.store.down = True
        node.traffic(7, 5)
        node.account(fails=True)
        node.store.down = False
    elif waits == "last sample of a removed peer":
        node.traffic(7, 5)
        node.change(7, status="paused")
    else:
        node.wg.recreate_behind("wg0", key(7))
        node.traffic(7, 5)
    node.cycle()
    node.device(9)
    node.cycle()
    assert key(9) in node.wg.peers("wg0")
    assert not node.agent._accounting.spooler.load().samples
    node.traffic(9, 70)
    node.account()
    assert node.posted[9].rx == 70
    assert [one.device for one in node.status.set_aside] == ["0001-DEV-007"]
    mended(node)


def test_a_refused_row_is_named_with_its_error_until_it_can_be_changed(node: Node) -> None:
    node.refuse(6)
    for _ in range(5):
        for number in (5, 6, 7):
            node.traffic(number, 100, 10)
        node.account()
        (aside,) = node.status.rows_set_aside(Obstacle.REFUSED)
        assert aside.device == "0001-DEV-006"
        assert "rx_bytes_total" in aside.detail
    assert [node.posted[number].rx for number in (5, 6, 7)] == [500, 0, 500]
    mended(node)


def test_what_is_set_aside_survives_the_process_and_the_kernel(node: Node) -> None:
    node.refuse(6)
    node.traffic(6, 100)
    node.account()
    node.reboot()
    node.cycle()
    assert [one.device for one in node.status.set_aside] == ["0001-DEV-006"]
    mended(node)


@pytest.mark.parametrize("hinder", OBSTACLES)
def test_an_ended_code_goes_although_its_row_cannot_say_so(
    node: Node, hinder: Callable[..., None], deadlines: None
) -> None:
    node.issued(8, node.now + 20)
    node.issued(9, node.now + 20)
    node.cycle()
    hinder(node, 8)
    node.cycle()
    assert not {key(8), key(9)} & node.wg.peers("wg0").keys()
    assert ("qr_expired", "0001-DEV-009") in node.actions
    assert ("qr_expired", "0001-DEV-008") not in node.actions
    mended(node)
    assert ("qr_expired", "0001-DEV-008") in node.actions


@pytest.mark.parametrize("hinder", OBSTACLES)
def test_a_first_handshake_that_waits_for_its_row_is_not_forgotten(node: Node, hinder: Callable[..., None]) -> None:
    """The bytes are set aside with the handshake. A posted handshake would hide the transition."""
    node.device(8, seen=False)
    node.cycle()
    hinder(node, 8)
    node.shake(8)
    at = node.now
    node.traffic(8, 100)
    node.account()
    node.cycle()
    node.start()
    node.tick(60)
    mended(node)
    assert node.admin.first_handshake(8) == pytest.approx(at, abs=1)


def test_a_new_process_posts_nothing_aside_before_it_knows_the_rows(node: Node) -> None:
    node.device(8, seen=False)
    node.cycle()
    node.lock(8)
    node.shake(8)
    node.account()
    node.unlock()
    node.start()
    node.account()
    assert node.db.set_aside
    mended(node)


@pytest.mark.parametrize("fate", ["before", "during", "after", "crash before", "crash after", "deadlock"])
def test_a_lost_answer_posts_what_is_set_aside_once(node: Node, fate: str) -> None:
    node.refuse(6)
    node.traffic(6, 100)
    node.account()
    node.refuse()
    node.store.next_writes = [fate]
    node.survive()
    mended(node)


def test_a_renamed_row_id_takes_no_bytes_of_another_device(node: Node) -> None:
    """The row goes while its bytes are set aside. They stay in the history of their device."""
    node.refuse(6)
    node.traffic(6, 100)
    node.account()
    node.delete(6)
    node.refuse()
    node.cycle()
    assert not node.db.set_aside
    assert {sums.rx for (number, _), sums in node.days.items() if number == 6} == {100}


def test_the_metrics_count_rows_by_what_hinders_them(node: Node) -> None:
    node.lock(5)
    node.refuse(6, 7)
    for number in (5, 6, 7):
        node.traffic(number, 9)
    node.account()
    text = generate_latest(metrics.registry(lambda: node.status)).decode()
    assert "wgsyncd_locked_rows 1.0" in text
    assert "wgsyncd_refused_rows 2.0" in text
