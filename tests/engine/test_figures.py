"""If a poll meets every boundary, each byte is in exactly its bucket, its day and its month."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.node import Node
from tests.samples import key
from tests.simulated_node import STARTS

WIDTH = 900
EVENTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 15, 400, 900, 5000]), st.sampled_from([0, 1, 7, 10**6]), st.booleans()),
    max_size=10,
)


def to(node: Node, end: float) -> None:
    """Lets time pass until `end`, in Unix seconds, with a poll on each boundary.

    The daemon itself polls every 15 seconds and on the first second of a day.
    """
    while True:
        edge = min((node.now // WIDTH + 1) * WIDTH, node.calendar.next_midnight(node.now))
        if edge > end:
            break
        node.tick(edge - node.now)
        node.agent.account()
    node.tick(end - node.now)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(STARTS), EVENTS, st.sampled_from([0, 0, 80_000, 3 * 86400]))
def test_every_byte_is_where_it_came(start: tuple[str, str], events: list[tuple[int, int, bool]], pause: int) -> None:
    zone, at = start
    node = Node('[log]\nlevel = "error"\n', zone=zone)
    node.now = datetime.fromisoformat(at).replace(tzinfo=node.settings.node.zone).timestamp()
    node.device(5)
    node.cycle()
    came: list[tuple[float, int]] = []
    for seconds, rx, looked in [*events, (pause, 0, True), (1, 3, True)]:
        to(node, node.now + seconds)
        if rx:
            node.wg.traffic("wg0", key(5), rx)
            came.append((node.now, rx))
        if looked:
            node.tick(1)
            node.agent.account()
    node.tick(1)
    node.agent.account()
    calendar = node.calendar
    days: Counter[str] = Counter()
    buckets: Counter[int] = Counter()
    for then, rx in came:
        days[calendar.day(then)] += rx
        buckets[int(then // WIDTH) * WIDTH] += rx
    assert {day: sums.rx for (_, day), sums in node.days.items()} == days
    assert {bucket: sums.rx for (_, bucket), sums in node.buckets.items()} == buckets
    assert node.posted[5].rx == sum(days.values())
    rolling, month = node.windows(5)
    assert rolling.rx == sum(rx for then, rx in came if then >= calendar.rolling_start)
    first, beyond = calendar.month
    assert month.rx == sum(rx for day, rx in days.items() if first <= day < beyond)
