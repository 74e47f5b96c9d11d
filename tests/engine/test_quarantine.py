"""Traffic that no link carries waits until an admin releases or drops it, exactly once.

The tests also cover totals that an admin sets.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.admins import AuditLine
from tests.node import Node
from tests.samples import NOW, key
from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantineEntry
from wgsyncd.engine import quarantine
from wgsyncd.errors import StoreError, UserError

HELD = Counters(2**50, 15)


@pytest.fixture
def node() -> Node:
    """Returns a node whose row 5 has a delta in quarantine.

    The delta is of fifteen seconds. Row 5 got 70 and 7 bytes after it.
    """
    made = Node()
    for number in (5, 6):
        made.device(number)
    made.cycle()
    made.tick(3 * 86400)
    made.account()
    made.traffic(5, *HELD)
    made.account()
    made.traffic(5, 70, 7)
    made.account()
    assert made.posted[5] == (70, 7)
    return made


def release(node: Node, *ids: int) -> tuple[QuarantineEntry, ...]:
    return quarantine.release(node.store, ids, lambda: node.calendar)


def drop(node: Node, *ids: int) -> tuple[QuarantineEntry, ...]:
    return quarantine.drop(node.store, ids, lambda: node.calendar)


def told(node: Node) -> list[AuditLine]:
    return [one for one in node.admin.audit() if one.action.startswith("quarantine")]


def adds_up(node: Node) -> bool:
    return [one for one in node.agent.inspector.verify(iter(())) if not one.note] == []


def test_what_is_released_is_booked_to_the_time_it_came_in(node: Node) -> None:
    (held,) = node.store.quarantine()
    assert held.delta.rate == pytest.approx(2**50 * 8 / 15)
    bucket, day = int(held.delta.since // 900) * 900, node.calendar.day(held.delta.since)
    node.tick(3600)
    assert release(node, held.id) == (held,)
    assert node.posted[5] == node.true[5] == (2**50 + 70, 22)
    assert node.buckets[5, bucket].rx >= 2**50
    assert node.days[5, day].rx >= 2**50
    assert [sums.rx for sums in node.windows(5)] == [2**50 + 70] * 2
    (line,) = told(node)
    assert line[:2] == ("quarantine_released", "0001-DEV-005")
    assert all(word in line.text for word in ("wg0", str(2**50), "15"))
    assert node.store.quarantine() == ()
    node.cycle()
    assert adds_up(node)
    node.right()


def test_the_audit_row_says_what_was_released(node: Node, mikyun_columns: None) -> None:
    (held,) = node.store.quarantine()
    release(node, held.id)
    since, until = (node.calendar.format_local(at) for at in (held.delta.since, held.delta.until))
    text = f"Quarantined traffic of wg0 posted by an admin: rx {2**50}, tx 15 bytes, {since} to {until}"
    assert [one.text for one in told(node)] == [text]


@pytest.mark.parametrize("after", [2 * 86400, 12 * 86400], ids=["two days", "next month"])
def test_what_is_released_late_is_in_no_window_that_has_passed_it(node: Node, after: float) -> None:
    (held,) = node.store.quarantine()
    node.tick(after)
    node.account()
    release(node, held.id)
    rolling, month = node.windows(5)
    assert (node.posted[5].rx, rolling.rx) == (2**50 + 70, 0)
    assert month.rx == (2**50 + 70 if after < 7 * 86400 else 0)
    assert adds_up(node)
    node.cycle()
    node.right()


def test_an_edge_that_passes_while_it_is_released(node: Node) -> None:
    """The daemon refreshes the windows in between. The released bytes then belong to no window any more."""
    (held,) = node.store.quarantine()
    node.tick(held.delta.since // 900 * 900 + 900 + 86400 - 1 - node.now)
    node.agent.account()
    discharge = node.store.resolve_quarantine

    def slow(*args: Any, **named: Any) -> None:
        node.tick(2)
        node.agent.account()
        discharge(*args, **named)

    node.store.resolve_quarantine = slow  # type: ignore[method-assign]
    release(node, held.id)
    assert node.windows(5)[0].rx == 0
    node.right()


def test_several_of_one_device_at_once(node: Node) -> None:
    node.traffic(5, *HELD)
    node.account()
    release(node, *(one.id for one in node.store.quarantine()))
    assert node.posted[5] == node.true[5]
    assert len(told(node)) == 2
    node.cycle()
    node.right()


def test_what_is_dropped_is_not_booked(node: Node) -> None:
    (held,) = node.store.quarantine()
    before = node.posted
    drop(node, held.id)
    assert node.posted == before
    assert [action for action, *_ in told(node)] == ["quarantine_dropped"]
    assert node.store.quarantine() == ()
    node.cycle()
    assert node.status.quarantined == 0


@pytest.mark.parametrize("work", [release, drop])
@pytest.mark.parametrize("fate", ["before", "during", "deadlock", "after"])
def test_an_answer_that_is_lost_is_settled_by_looking(node: Node, work: object, fate: str) -> None:
    """If only the answer was lost, the work has happened and reports success.

    In all other cases nothing has happened, and an admin may try again.
    """
    (held,) = node.store.quarantine()
    node.store.next_writes = [fate]
    if fate == "after":
        assert work(node, held.id) == (held,)  # type: ignore[operator]
    else:
        with pytest.raises(StoreError):
            work(node, held.id)  # type: ignore[operator]
        assert node.posted[5] == (70, 7)
        assert told(node) == []
        work(node, held.id)  # type: ignore[operator]
    with pytest.raises(UserError):
        work(node, held.id)  # type: ignore[operator]
    assert node.posted[5] == (node.true[5] if work is release else (70, 7))
    assert len(told(node)) == 1


def test_a_commit_that_was_lost_and_did_not_happen_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    (held,) = node.store.quarantine()
    node.store.next_writes = ["after"]
    monkeypatch.setattr(node.store, "still_quarantined", frozenset)
    with pytest.raises(StoreError):
        release(node, held.id)


def test_an_unknown_id_leaves_all_of_them_alone(node: Node) -> None:
    (held,) = node.store.quarantine()
    for work in (release, drop):
        with pytest.raises(UserError, match="no delta 99 in quarantine"):
            work(node, held.id, 99)
    assert (node.posted[5], len(node.store.quarantine()), told(node)) == ((70, 7), 1, [])


def test_a_device_that_is_gone_can_only_be_dropped(node: Node) -> None:
    (held,) = node.store.quarantine()
    node.delete(5)
    with pytest.raises(UserError, match="gone"):
        release(node, held.id)
    assert node.days.keys() == {(5, node.calendar.day(node.now))}
    drop(node, held.id)
    assert node.store.quarantine() == ()


def test_a_foreign_peers_delta_can_only_be_dropped(node: Node) -> None:
    (held,) = node.store.quarantine()
    node.db.quarantine[held.id] = ("r640", held.delta.__class__("wg0", None, "", 1, 1, NOW, NOW + 15))
    with pytest.raises(UserError, match="only be dropped"):
        release(node, held.id)
    drop(node, held.id)


def test_the_daemon_and_an_admin_do_not_disturb_each_other(node: Node) -> None:
    """The daemon keeps the node state in memory. A release changes no baseline."""
    (held,) = node.store.quarantine()
    loads = node.store.calls["ledger"]
    release(node, held.id)
    node.traffic(5, 1, 1)
    node.account()
    node.account()
    assert node.store.calls["ledger"] == loads
    assert node.posted[5] == node.true[5]
    assert key(5) in node.kernel_of("wg0")
