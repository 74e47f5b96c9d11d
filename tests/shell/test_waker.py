"""The main thread is woken when another program changes a part of the data plane."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node import Node
from tests.plane import Shaping
from wgsyncd.daemon.change_watch import ChangeWatcher
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.daemon.waker import Waker
from wgsyncd.engine.planes import Planes

SECONDS = 20.0  # more than anything here takes


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A descriptor that hears news, and the one that tells them."""
    hears, tells = os.pipe()
    try:
        yield hears, tells
    finally:
        os.close(hears)
        os.close(tells)


def test_each_piece_of_news_wakes_once_although_nobody_reads_it() -> None:
    woken: queue.SimpleQueue[str] = queue.SimpleQueue()
    with pipe() as (hears, tells):
        waker = Waker([hears], lambda: woken.put("woken"))
        for _ in range(3):
            os.write(tells, b"news")
            assert woken.get(timeout=SECONDS) == "woken"
        waker.close()
        assert woken.empty()
        os.write(tells, b"more")
    assert woken.empty()


def test_the_watcher_hears_of_the_planes_of_the_present_agent() -> None:
    node, woken = Node(), queue.SimpleQueue[str]()
    watcher = ChangeWatcher(lambda: node.agent, Tasks(node.status), lambda: None, node.status, 0.0)
    watcher._wake = lambda: woken.put("woken")
    with pipe() as (first, tells_first), pipe() as (second, tells_second):
        for hears, tells in ((first, tells_first), (second, tells_second)):
            plane = Shaping(node.wg)
            plane.descriptor = hears
            node.agent.planes = Planes([plane], node.status, node.agent.queue_audit)  # as after a reload
            watcher.follow_agent()
            os.write(tells, b"news")
            assert woken.get(timeout=SECONDS) == "woken"
        os.write(tells_first, b"of nobody's plane")
        watcher.close()
        assert woken.empty()


def test_repairs_without_end_leave_time_to_other_work() -> None:
    node = Node()
    watcher = ChangeWatcher(lambda: node.agent, Tasks(node.status), lambda: None, node.status, 0.0)
    plane = Shaping(node.wg)
    node.agent.planes, mended = Planes([plane], node.status, node.agent.queue_audit), list[bool]()

    def mend() -> bool:
        mended.append(True)
        return False

    plane.mend = mend  # type: ignore[method-assign]
    watcher.poll()
    assert mended == [True]
    now = time.monotonic()
    watcher._mending.spend(now - 60, now)  # as if a flood of repairs had just taken a minute
    watcher.poll()
    assert mended == [True]
    assert 0 < watcher.delay(time.monotonic()) <= 2, "the loop comes back by itself"
    watcher._mending.spend(now, now)
    watcher._mending._at -= 60  # a minute later
    watcher.poll()
    assert mended == [True, True]
