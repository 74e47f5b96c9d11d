"""The daemon's status feeds the metrics between reconciles too, and the log is silent at rest."""

from __future__ import annotations

import io

import pytest

from tests.node import Node
from tests.samples import key, peer, text
from wgsyncd import log
from wgsyncd.core.model import Counters
from wgsyncd.engine.status import QUARTER

PER_PEER = "[metrics]\nper_peer = true\nper_peer_limit = 3\n"


def shown(node: Node) -> dict[str, set[str]]:
    return {name: {peer.public_key for peer in one.peers} for name, one in node.status.interfaces.items()}


@pytest.mark.parametrize("fault", ["down", "read_only"])
def test_what_the_dumps_show_is_shown_while_the_database_is_away(node: Node, fault: str) -> None:
    setattr(node.store, fault, True)
    node.traffic(5, 700, 30)
    node.shake(5)
    node.account(fails=True)
    one = node.status.interfaces["wg0"]
    assert (one.present, one.desired, one.actual, one.online, one.received, one.sent) == (True, 3, 3, 1, 700, 30)
    node.wg.delete("wg1")
    node.account(fails=True)
    assert not node.status.interfaces["wg1"].present
    assert node.status.interfaces["wg0"].present
    node.wg.add_interface("wg1")
    node.wg.remove_behind("wg0", key(6))
    node.account(fails=True)
    assert node.status.interfaces["wg1"].present
    assert node.status.interfaces["wg0"].actual == 2


def test_figures_of_single_peers_are_those_of_the_last_poll() -> None:
    node = Node(PER_PEER)
    node.device(5)
    node.device(6)
    node.cycle()
    node.traffic(5, 700, 30)
    shaken = node.now
    node.shake(5)
    node.account()
    (five, six) = node.status.interfaces["wg0"].peers
    assert (five.public_key, five.counters, five.latest_handshake) == (text(5), Counters(700, 30), shaken)
    assert (six.public_key, six.counters, six.latest_handshake) == (text(6), Counters(0, 0), 0)
    assert five.device == "0001-DEV-005"
    node.wg.remove_behind("wg0", key(5))
    node.account()
    assert shown(node)["wg0"] == {text(6)}


def test_the_oldest_rows_get_series_and_the_others_are_counted() -> None:
    """The limit of series counts over all interfaces. A row that has series keeps them when other rows come."""
    node = Node(PER_PEER)
    for number in (6, 8):
        node.device(number)
    node.device(7, interface="wg1")
    node.cycle()
    assert shown(node) == {"wg0": {text(6), text(8)}, "wg1": {text(7)}}
    assert node.status.peers_without_metrics == 0
    node.device(9)
    node.wg.add_behind("wg1", peer(1, "10.251.0.99/32"))  # this peer belongs to no row, and exists until the next cycle
    node.cycle()
    assert shown(node) == {"wg0": {text(6), text(8)}, "wg1": {text(7)}}
    assert node.status.peers_without_metrics == 1
    node.change(6, status="paused")
    node.cycle()
    assert shown(node) == {"wg0": {text(8), text(9)}, "wg1": {text(7)}}
    assert node.status.peers_without_metrics == 0


def test_nobody_is_left_out_of_series_that_nobody_asked_for() -> None:
    node = Node("[metrics]\nper_peer_limit = 0\n")
    node.device(5)
    node.cycle()
    assert shown(node) == {"wg0": set(), "wg1": set()}
    assert node.status.peers_without_metrics == 0


def test_an_interface_that_is_configured_no_longer_has_no_old_sample(node: Node) -> None:
    """The age of that sample would grow for ever."""
    node.state.sampled_at["wg9"] = node.now  # this interface was in the previous configuration
    node.account()
    assert node.status.sampled_at == {"wg0": node.now, "wg1": node.now}


def test_the_log_is_silent_where_nothing_happens_but_traffic(node: Node) -> None:
    """This lasts a day and a night, over midnight and over every boundary of a bucket."""
    node.account()
    said = io.StringIO()
    log.configure("info", "logfmt", said)
    try:
        until = node.now + 25 * 3600
        while node.now < until:
            node.traffic(5, 1000, 10)
            node.shake(5)
            node.account()
            node.tick(90)
            node.cycle()
        assert said.getvalue() == ""
        node.right()
        node.wg.delete("wg1")
        node.account()
        assert said.getvalue().count("\n") == 1  # the log was able to show a line
    finally:
        log.configure()


def test_the_history_of_an_interface_adds_up_and_forgets_after_a_day(node: Node) -> None:
    node.account()
    for _ in range(8):
        node.traffic(5, 1000, 200)
        node.tick(450)
        node.account()
    quarters = node.status.history["wg0"]
    assert [one.start % QUARTER for one in quarters] == [0] * len(quarters)
    assert sorted({one.start for one in quarters}) == [one.start for one in quarters]
    assert (sum(one.rx for one in quarters), sum(one.tx for one in quarters)) == (8000, 1600)
    node.change(5, status="paused")  # The sum falls, which is no traffic.
    node.cycle()
    assert sum(one.rx for one in node.status.history["wg0"]) == 8000
    node.tick(86400)
    node.traffic(6, 7, 0)
    node.account()
    assert [one.rx for one in node.status.history["wg0"]] == [7]
