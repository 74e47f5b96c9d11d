"""The kernel's tc says what the class of one device has let through and dropped, as `tc` shows it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests import namespace
from tests.core.test_shaping_plan import device, wish
from tests.namespace import run
from tests.wait import until
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.dataplane.tc.traffic import TrafficReader

pytestmark = pytest.mark.vm
ONE = device(1)
PACKETS, ADDRESS = 20, "10.200.0.2"


@pytest.fixture
def tc() -> Iterator[TrafficReader]:
    with namespace.own_network():
        run("ip", "link", "add", "wg0", "type", "dummy")
        run("ip", "address", "add", "10.200.0.254/24", "dev", "wg0")
        run("ip", "link", "set", "wg0", "up")
        reader = TrafficReader(timeout=60)
        yield reader
        reader.close()


def test_each_byte_of_a_device_is_counted_by_its_class(tc: TrafficReader) -> None:
    plan = make_plan(wish(ONE, device(2)), tc.read())
    assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
    before = tc.of([ADDRESS])
    assert {way: one.sent for way, one in before.items()} == dict.fromkeys(Direction, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(PACKETS):
            sender.sendto(bytes(1000), (ADDRESS, 9))
    until(lambda: tc.of([ADDRESS])[Direction.DOWN].sent > PACKETS * 1000, 30, "all packets have passed the class")
    down, up = (tc.of([ADDRESS])[way] for way in (Direction.DOWN, Direction.UP))
    shown = run("tc", "-s", "class", "show", "dev", "wgsyncd-down")
    witness = re.search(rf"class htb 7767:{down.minor:x} .*\n Sent (\d+) bytes", shown)
    assert witness is not None
    assert down.sent == int(witness[1]) > PACKETS * 1000
    assert (up.minor, up.sent) == (down.minor, 0)
    assert tc.of(["10.200.0.99", "no address"]) == {}
