"""A spool that cannot be written, cannot be read or is damaged causes no double posting.

No byte is lost that could be saved.
"""

from __future__ import annotations

import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import key
from wgsyncd.core.model import Counters


def test_numbers_that_no_file_has_are_not_marked_as_booked(node: Node) -> None:
    """The next process gives the same numbers again. It would otherwise take its own samples for posted ones."""
    node.away((5, 1))
    node.back()
    node.spool.full = True
    node.away((5, 10))
    node.back()
    node.spool.full = False
    node.start()
    node.away((5, 100))
    node.reboot()
    node.back()
    node.right()
    assert node.posted[5] == (111, 0)


def test_what_stands_in_the_file_is_not_marked_before_all_of_it_is_booked(node: Node) -> None:
    """In memory the second sample of 5 replaces the first one. The file still has the first one."""
    node.store.down = True
    node.traffic(5, 100)
    node.away((6, 7))
    node.spool.full = True
    node.away((5, 20))
    node.true[5] = Counters(100, 0)  # these bytes are in memory alone, and are lost with the process
    node.store.down = False
    node.store.next_writes = ["crash after"]
    with pytest.raises(Crash):
        node.cycle()
    node.spool.full = False
    node.reboot()
    node.back()
    node.right()


def test_a_sample_that_no_file_has_does_not_take_the_mark_of_those_in_the_file(node: Node) -> None:
    """The file cannot be read for a while. Its samples are posted already, so they are not posted when it is back."""
    node.away((5, 100))
    peers = node.kernel_of("wg0")
    node.reboot()
    for peer in peers.values():
        node.wg.add_behind("wg0", peer)
    node.away((5, 30))
    node.spool.full = True
    node.back()
    node.spool.unreadable = True
    node.start()
    node.away((5, 1))
    node.back()
    node.spool.full = node.spool.unreadable = False
    node.start()
    node.back()
    node.right()
    assert node.posted[5] == (131, 0)


def test_a_full_disk_loses_nothing_as_long_as_the_process_lives(node: Node) -> None:
    node.spool.full = True
    node.away((5, 100))
    node.wg.recreate_behind("wg0", key(5))
    node.away((5, 3), (5, 4))
    assert not node.status.spool_up
    node.back()
    node.right()
    assert node.posted[5] == (107, 0)


def test_a_full_disk_is_told_before_the_spool_is_needed(node: Node) -> None:
    """The database answers, so nothing has to be spooled."""
    node.traffic(5, 100)
    node.account()
    assert node.status.spool_up
    node.spool.full = True
    node.account()
    assert not node.status.spool_up
    node.spool.full = False
    node.account()
    assert node.status.spool_up


def test_a_spool_that_could_not_be_emptied_is_emptied_once_it_can_be(node: Node) -> None:
    node.away((5, 100))
    node.spool.full = True
    node.back()
    node.account()
    assert not node.status.spool_up
    assert node.spool.kept is not None
    assert node.spool.kept.samples
    node.spool.full = False
    node.account()
    assert node.status.spool_up
    assert not node.spool.kept.samples
    saves = node.spool.saves
    node.quiet()
    assert node.spool.saves == saves


def test_a_reload_keeps_what_is_in_memory_alone(node: Node) -> None:
    node.spool.full = True
    node.away((5, 100))
    node.wg.recreate_behind("wg0", key(5))
    node.away((5, 3))
    node.reload()
    node.back()
    node.right()
    assert node.posted[5] == (103, 0)


def test_a_reload_keeps_what_is_known_of_the_file(node: Node) -> None:
    """5 is as in the file.

    The sample after a reboot gets a position, then the process dies before it writes the file.
    """
    node.away((5, 100))
    peers = node.kernel_of("wg0")
    node.reboot()
    for peer in peers.values():
        node.wg.add_behind("wg0", peer)
    node.away((5, 30))
    node.reload()
    node.store.down = False
    node.spool.next_saves = ["crash before"]
    with pytest.raises(Crash):
        node.cycle()
    node.start()
    node.cycle()
    node.right()
    assert node.posted[5] == (130, 0)


def test_a_spool_that_was_damaged_is_said_and_costs_what_was_in_it(node: Node) -> None:
    node.away((5, 100))
    node.reboot()
    node.true[5] = Counters(0, 0)
    node.spool.damaged = True
    node.start()
    node.back()
    node.right()
    assert node.actions.count(("spool_corrupt", "r640")) == 1
    assert node.status.spool_corruptions == 1
