"""The document of devices with every kind of store: what a store does not keep is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.node import Node
from tests.samples import key
from tests.variants import USERS
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.engine.reports import devices as devices_report
from wgsyncd.engine.reports.devices import DevicesReport, Selection


def report(node: Node, **wanted: Any) -> DevicesReport:

    def ask(devices: Sequence[str]) -> DeviceUsage | str:
        return node.store.device_usage(devices, node.calendar)

    return devices_report.build(node.status, node.settings, Selection(**wanted), ask, node.now)


def test_a_store_with_uuids_and_without_figures() -> None:
    node = Node(variant=USERS)
    for number in (5, 6):
        node.device(number)
    node.cycle()
    node.shake(5)
    node.traffic(5, 1500, 300)
    node.account()
    found = report(node, sort="24h")
    assert (found.figures, found.count, found.online, found.usage_error) == ([], 2, 1, "")
    one = next(some for some in found.devices if some.online)
    assert (one.row, one.bytes, one.rx_rate) == (str(node.admin.id(5)), {}, 100)
    assert sum(one.hours or ()) == 1800
    assert [some.device for some in report(node, online=True).devices] == [one.device]


def test_a_foreign_peer_and_rates_that_are_not_known() -> None:
    node = Node('[peers]\nforeign = "report"\n')
    node.device(5)
    node.cycle()
    node.wg.add_behind("wg0", node.peer(9))
    node.account()
    found = {one.device: one for one in report(node).devices}
    assert [one.state for one in found.values()] == ["live", "foreign"]
    stranger = next(one for one in found.values() if one.row is None)
    assert (stranger.rx_rate, stranger.owner, stranger.addresses[0]) == (None, "", "10.200.0.9")
    node.account()
    node.wg.traffic("wg0", key(9), 150, 0)
    node.account()
    assert next(one for one in report(node).devices if one.row is None).rx_rate == 10
    node.wg.reboot()
    node.account()
    assert {one.rx_rate for one in report(node).devices} == {None}, "other counters"


def test_peers_whose_rows_are_lost_keep_their_names_while_the_guard_keeps_them() -> None:
    node = Node()
    for number in range(5, 25):
        node.device(number)
    node.cycle()
    named = {one.device for one in report(node).devices}
    node.truncate()
    node.cycle()
    found = {one.device: (one.row, one.state, one.why) for one in report(node).devices}
    assert found == dict.fromkeys(named, (None, "leaving", "row is gone"))


def test_rates_while_rows_change_all_the_time() -> None:
    node = Node()
    node.device(5)
    node.cycle()
    for _ in range(300):
        node.tick(0.25)
        node.traffic(5, 25)
        node.agent.reconcile()
    assert 80 < (report(node).devices[0].rx_rate or 0) < 120


def test_a_handshake_in_the_future_is_not_online(node: Node) -> None:
    """The clock was set back, and nobody knows how old the handshake is."""
    node.device(5)
    node.cycle()
    node.shake(5)
    node.account()
    assert (report(node).online, node.status.interfaces["wg0"].online) == (1, 1)
    node.now -= 3600
    node.account()
    assert (report(node).online, node.status.interfaces["wg0"].online) == (0, 0)
