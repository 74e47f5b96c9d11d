"""A verification of kernel, node state and totals is silent on a healthy node and names each fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.node import CONFIG, Node
from tests.samples import TOKYO, device_name, key
from tests.variants import MIKYUN
from tests.verifying import SOON, busy_node, checks, found, prove
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.verify import Check, make_ranges
from wgsyncd.core.model import Counters, fingerprint
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording


@pytest.fixture
def node() -> Node:
    return busy_node()


# -- no discrepancy on a healthy node


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("perspective", ["server", "device"])
def test_a_healthy_node_has_no_finding_ever(seed: int, perspective: str) -> None:
    """The time passes boundaries of buckets, days and a month, while devices come, go, move and send.

    A second process verifies at any moment between two tasks of the daemon. The daemon also verifies.
    """
    dice = random.Random(seed)
    node = Node(f'perspective = "{perspective}"\n[usage]\nbucket_width = "5min"\n')
    node.tick(8 * 86400 + dice.random() * 3600 - 300)  # 2026-09-29, in the evening
    numbers = (5, 6, 7, 8)
    for number in numbers:
        node.device(number)
    node.cycle()
    looks = 0

    def talk() -> None:
        for number in numbers:
            if key(number) in node.kernel_of("wg0") and dice.random() < 0.7:
                node.traffic(number, dice.randrange(10**6), dice.randrange(10**6))

    def work() -> None:
        talk()
        dice.choice((node.account, node.account, node.cycle))()
        talk()

    for _ in range(80):
        if dice.random() < 0.15:
            number = dice.choice(numbers)
            node.change(number, status=dice.choice(("active", "paused")))
        if dice.random() < 0.1:
            node.wg.reboot() if dice.random() < 0.3 else node.start()
        if dice.random() < 0.3:
            node.tick(dice.choice((40, 250, 1700, 9000, 40_000)))
            node.cycle()
        work()
        talk()
        looks += 1
        assert list(node.agent.inspector.verify(iter_work(work, 4))) == []
        if dice.random() < 0.3:
            prove(node)
            assert not any(node.status.findings.values())
    assert looks == 80


def iter_work(work: Callable[[], None], times: int) -> Iterator[None]:
    for _ in range(times):
        work()
        yield


def test_bytes_on_their_way_are_looked_at_again_and_no_more_once_they_are_booked(node: Node) -> None:
    node.traffic(5, 10, 1)
    calls: list[str] = []

    def account() -> None:
        calls.append("account")
        node.account()

    assert found(node, account, account, account) == []
    assert calls == ["account"]


def test_an_edge_that_has_passed_and_a_figure_that_was_not_yet_rolled_on(node: Node, usage_columns: None) -> None:
    """Both sums are right within a minute of the boundary. Later only the new sum is right."""
    node.tick(900 - node.now % 900 + 86400 - 900)  # at this boundary the bytes of both devices leave the window
    node.agent.account()
    assert node.windows(5)[0].rx == 2000
    node.tick(900)
    assert found(node) == []
    node.tick(45)
    assert found(node) == []
    node.tick(45)
    assert checks(node) == [("figure", "0001-DEV-005")] * 2 + [("figure", "0001-DEV-006")] * 2
    assert found(node, node.account) == []


def test_a_month_that_has_ended(node: Node, usage_columns: None) -> None:
    october = datetime(2026, 10, 1, tzinfo=TOKYO).timestamp()
    node.tick(october - 30 - node.now)
    node.agent.account()
    assert node.windows(5)[1].rx == 3000
    node.tick(60)
    assert found(node) == []
    node.tick(40)
    assert {check for check, _ in checks(node)} == {"figure"}
    assert found(node, node.account) == []


def test_bytes_that_come_in_after_a_long_outage(node: Node) -> None:
    """The bytes have days. They have buckets only as far as the rolling window reaches back."""
    node.traffic(5, 10**9, 10**9)
    node.tick(3 * 86400)
    node.account()
    assert sum(s.rx for (n, day), s in node.days.items() if n == 5 and day > node.calendar.day(SOON)) > 0
    node.account()
    assert found(node) == []


def test_a_total_that_an_admin_set_is_a_note(node: Node, usage_columns: None) -> None:
    node.change(5, rx_bytes_total=0)
    (note,) = found(node)
    assert (note.check.value, note.note, wording.discrepancy(note)) == (
        "low",
        True,
        "rx in total: 0, rx of the month: 3000 (-3000)",
    )


def test_deltas_in_quarantine_are_a_note(node: Node) -> None:
    node.traffic(5, 2**50)
    node.account()
    assert [(one.check.value, one.note, wording.discrepancy(one)) for one in found(node)] == [
        ("quarantine", True, "1 delta in quarantine, not posted")
    ]


# -- faults


FAULTS: dict[str, Callable[[Node], object]] = {
    "day": lambda node: node.db.days.update({(device_name(5), node.calendar.day(node.now)): Counters(2000, 199)}),
    "unposted": lambda node: node.wg.traffic("wg0", key(5), rx=12),
    "baseline": lambda node: node.wg.recreate_behind("wg0", key(5)),
    "absent": lambda node: node.wg.remove_behind("wg0", key(5)),
    "unrecorded": lambda node: node.db.records.pop(("r640", ("wg0", key(5)))),
}

COLUMN_FAULTS: dict[str, Callable[[Node], object]] = {
    "figure": lambda node: node.change(5, rx_bytes_24h=7),
    "figure of the month": lambda node: node.change(5, tx_bytes_month=None),
    "negative": lambda node: node.change(5, rx_bytes_total=-5),
}


@pytest.mark.parametrize("check", COLUMN_FAULTS)
def test_a_fault_of_the_columns_is_named(node: Node, check: str, usage_columns: None) -> None:
    is_named(node, check.partition(" ")[0], COLUMN_FAULTS[check])


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_is_named(node: Node, check: str) -> None:
    is_named(node, check, FAULTS[check])


def is_named(node: Node, check: str, fault: Callable[[Node], object]) -> None:
    fault(node)
    some = [one for one in found(node) if one.check.value == check]
    assert some, found(node)
    assert {(one.device, one.note) for one in some} == {("0001-DEV-005", False)}
    assert not any(one.device == "0001-DEV-006" for one in found(node))


def test_what_a_finding_says(node: Node, usage_columns: None) -> None:
    node.change(5, rx_bytes_24h=7)
    node.wg.traffic("wg0", key(5), tx=12)
    mark = fingerprint(key(5))
    assert [wording.discrepancy(one) for one in found(node)] == [
        f"tx counted on wg0 ({mark}): 312, baseline: 300: 12 bytes are not posted",
        "rx of 24 h: 7, its buckets: 2000 (-1993)",
    ]


def test_figures_are_called_what_their_columns_are(usage_columns: None) -> None:
    node = Node('perspective = "device"\n')
    node.device(5)
    node.cycle()
    node.traffic(5, 70, 7)
    node.account()
    node.change(5, rx_bytes_24h=8)
    assert [wording.discrepancy(one) for one in found(node)] == ["rx of 24 h: 8, its buckets: 7 (+1)"]


@pytest.mark.parametrize("bucket", [True, False])
def test_a_day_and_its_buckets(node: Node, bucket: bool) -> None:
    """More bytes in the buckets are wrong on each day.

    Fewer bytes are wrong only where every byte must have a bucket.
    """
    device, today = device_name(5), node.calendar.day(node.now)
    yesterday = node.calendar.day(node.now - 86400)
    if bucket:
        node.db.buckets[device, int(node.now // 900) * 900 - 86400 + 900] = Counters(1, 0)
        node.agent._state.refreshed = None
        node.account()
        assert [wording.discrepancy(one) for one in found(node)] == [f"received on {yesterday}: 0, its buckets: 1 (-1)"]
    else:
        for day in (today, yesterday):
            node.db.days[device, day] = Counters(2001, 200)
        node.agent._state.refreshed = None
        node.account()
        texts = [wording.discrepancy(one) for one in found(node) if one.check is Check.DAY]
        assert texts == [f"received on {today}: 2001, its buckets: 2000 (+1)"]


def test_an_interface_that_cannot_be_read(node: Node) -> None:
    node.wg.delete("wg1")
    assert [(one.check.value, one.device) for one in found(node)] == [("unread", "")]


def test_a_peer_that_is_made_anew_by_somebody_else_is_found_until_the_daemon_has_seen_to_it(node: Node) -> None:
    FAULTS["baseline"](node)
    assert {check for check, _ in checks(node)} == {"baseline"}
    assert found(node, node.account) == []


def test_a_peer_that_is_never_booked_is_found_though_the_others_are(node: Node) -> None:
    """The daemon works, but it never posts the bytes of one peer."""

    def others() -> None:
        node.wg.traffic("wg0", key(5), rx=3)
        node.traffic(6, 50)
        records = dict(node.db.records)
        node.account()
        node.db.records["r640", ("wg0", key(5))] = records["r640", ("wg0", key(5))]

    node.wg.traffic("wg0", key(5), rx=3)
    assert checks(node, others, others, others) == [("unposted", "0001-DEV-005")]


def test_a_changed_zone_is_found() -> None:
    """Handshakes of Tokyo, read in UTC, lie nine hours ahead. They cannot move back, because they only move forward."""
    node = Node(variant=MIKYUN)
    node.device(5)
    node.cycle()
    node.shake(5)
    node.cycle()
    assert found(node) == []
    node.settings = parse(CONFIG.replace("Asia/Tokyo", "UTC"))
    node.store = node._store()
    node.reload()
    (one,) = [one for one in found(node) if one.check is Check.FUTURE]
    assert one.device == "0001-DEV-005"
    assert "its last handshake is 9.0 h from now: was node.zone changed" in wording.discrepancy(one)


@pytest.mark.parametrize("hours", [-2.5, -1, -0.5, 0, 0.5, 1, 2.5])
def test_an_hour_that_comes_twice_is_no_future(hours: float) -> None:
    """Berlin sets its clock back at 2026-10-25 01:00 UTC. MariaDB may read a local time of that hour as the later one."""
    now = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp() + hours * 3600
    calendar = UsageCalendar(now, 900, ZoneInfo("Europe/Berlin"))
    text = datetime.fromtimestamp(now, calendar.zone).replace(tzinfo=None)
    read = max(text.replace(tzinfo=calendar.zone, fold=fold).timestamp() for fold in (0, 1))
    assert read <= make_ranges(calendar).latest
    assert make_ranges(replace(calendar, now=now + 86400)).latest == int(now + 86400 + 120)
