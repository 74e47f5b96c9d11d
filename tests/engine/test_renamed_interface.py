"""A renamed interface: its peers' bytes go on from their baselines under the new name."""

from __future__ import annotations

import pytest

from tests.node import CONFIG, Node
from tests.samples import key
from tests.variants import with_ipv6
from wgsyncd.config.load import parse


def rename(node: Node, *, restart: bool = False) -> None:
    """`ip link set wg0 name wg2`, and the same in the configuration. The rows still say wg0."""
    node.wg._interfaces["wg2"] = node.wg._interfaces.pop("wg0")
    config = with_ipv6(CONFIG) if node.variant.ipv6 else CONFIG
    text = config.replace("[interfaces.wg0]\n", '[interfaces.wg2]\nstore_name = "wg0"\n')
    node.settings = parse(text)
    node.store = node._store()
    node.start() if restart else node.reload()


def names(node: Node) -> set[str]:
    return {name for _, (name, _) in node.db.records} | {name for _, name in node.db.interfaces}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("first", ["cycle", "account"])
def test_bytes_go_on_from_their_baseline(node: Node, restart: bool, first: str) -> None:
    node.traffic(5, 1000)
    node.account()
    node.traffic(5, 200)
    node.traffic(6, 30)
    before = node.actions
    rename(node, restart=restart)
    node.traffic(6, 4, interface="wg2")
    getattr(node, first)()
    node.cycle()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}
    assert node.actions == before, "no peer came or went"
    node.quiet()


def test_what_waited_under_the_old_name_is_posted(node: Node) -> None:
    """The database is away while the name changes. Samples wait under both names."""
    node.away((5, 100), (6, 10))
    rename(node, restart=True)
    node.store.down = True
    node.traffic(5, 7, interface="wg2")
    node.account(fails=True)
    node.reboot()
    node.back()
    node.account()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}


def test_a_reload_without_the_database_keeps_samples_too(node: Node) -> None:
    node.away((5, 100))
    rename(node)
    node.store.down = True
    node.traffic(5, 7, interface="wg2")
    node.traffic(6, 9, interface="wg2")
    node.account(fails=True)
    node.reboot()
    node.back()
    assert node.posted == node.true


def test_two_interfaces_with_each_others_names(node: Node) -> None:
    node.device(8, interface="wg1")
    node.cycle()
    node.traffic(5, 1000)
    node.traffic(8, 300, interface="wg1")
    node.account()
    interfaces = node.wg._interfaces
    interfaces["wg0"], interfaces["wg1"] = interfaces["wg1"], interfaces["wg0"]
    for number, name in ((5, "wg1"), (6, "wg1"), (7, "wg1"), (8, "wg0")):
        node.traffic(number, 10, interface=name)
    node.account()
    assert node.posted == node.true


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_an_interface_was_made_again_before_and_nobody_recorded_the_outcome(
    node: Node, restart: bool, waits: bool
) -> None:
    """The baselines have the epoch of the new interface. The mark still has the one of the former interface."""
    node.traffic(5, 1000)
    node.account()
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")
    node.store.next_writes = ["ok", "before"]
    node.cycle(fails=True)
    assert node.kernel()["wg0"], "the peers are back"
    if waits:
        node.away((5, 20))
        node.store.down = False
    node.traffic(5, 300)
    rename(node, restart=restart)
    node.traffic(6, 9, interface="wg2")
    node.cycle()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}
    node.quiet()


def test_an_interface_that_was_never_marked_is_renamed(node: Node) -> None:
    """The first reconcile of a node committed the baselines, and its outcome was not committed."""
    for peer in (5, 6):
        node.wg.remove_behind("wg0", key(peer))
    node.db.records.clear()
    node.db.interfaces.clear()
    node.store.next_writes = ["ok", "before"]
    node.cycle(fails=True)
    assert not node.db.interfaces
    node.traffic(5, 300)
    rename(node, restart=True)
    node.cycle()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}


def test_a_name_that_is_used_again_meets_no_old_baseline(node: Node) -> None:
    """wg2 was served before and is still recorded. wg0 now gets its name."""
    mark = next(iter(node.db.interfaces.values()))
    node.db.interfaces["r640", "wg2"] = type(mark)("fake-boot-1:99", mark.at)
    old = node.db.records["r640", ("wg0", key(5))]
    node.db.records["r640", ("wg2", key(5))] = type(old)(
        **{name: getattr(old, name) for name in old.__slots__}
        | {"interface": "wg2", "epoch": "fake-boot-1:99", "rx": 1 << 40}
    )
    node.traffic(5, 50)
    rename(node, restart=True)
    node.cycle()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}


def test_records_of_a_name_that_is_not_configured_any_more_go_after_a_reboot(node: Node) -> None:
    node.traffic(5, 50)
    node.account()
    rename(node, restart=True)
    node.wg._interfaces["wg0"] = node.wg._interfaces.pop("wg2")  # the configuration alone has the new name so far
    node.cycle()
    assert names(node) == {"wg0", "wg1"}, "the counters of wg0 may still go on"
    node.wg._interfaces["wg2"] = node.wg._interfaces.pop("wg0")
    node.reboot()
    node.cycle()
    node.traffic(5, 9, interface="wg2")
    node.account()
    assert node.posted == node.true
    assert names(node) == {"wg1", "wg2"}


@pytest.mark.parametrize("crash", range(6))
def test_no_crash_after_a_rename_of_the_interface_hides_a_scan(node: Node, crash: int, deadlines: None) -> None:
    """The samples that wait are posted before the records move. By then the table has the scan as the last handshake."""
    node.issued(8, node.now + 600)
    node.cycle()
    node.shake(8)
    node.account()
    node.account()
    node.tick(300)
    node.change(8, status="issued", qr_expires_at=node.calendar.format_local(node.now + 600))
    node.cycle()
    node.store.down = True
    node.shake(8)
    node.traffic(8, 5)
    node.account(fails=True)
    rename(node)
    node.store.next_writes = [*["ok"] * crash, "crash before"]
    for _ in range(3):
        node.survive()
    assert node.admin.field(8, "status") == "active"
