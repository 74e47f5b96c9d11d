"""A dump that is loaded table by table under a running daemon: no byte is lost, and none counts twice."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy

import pytest

from tests.fakemachine import FakeMachine
from tests.fakes import Crash
from tests.node import Node
from wgsyncd.engine.state_cache import SETTLED
from wgsyncd.errors import StoreError

NUMBERS = (5, 6)


class Loading(Node):
    """A node with something that happens while it waits for its tables."""

    while_waiting: Callable[[], object] = staticmethod(lambda: None)

    def tick(self, seconds: float = 15) -> None:
        super().tick(seconds)
        if seconds == SETTLED:
            self.while_waiting()


@pytest.fixture
def node() -> Iterator[Loading]:
    node = Loading()
    node.machine = FakeMachine()
    node.start()
    for number in NUMBERS:
        node.device(number)
    node.cycle()
    yield node
    node.cycle()
    for number in NUMBERS:
        node.traffic(number, 20, 2)
    node.account()
    assert node.posted == node.true


def move(node: Node, rx: int) -> None:
    for number in NUMBERS:
        node.traffic(number, rx, rx // 10)


def try_to_account(node: Node) -> None:
    with suppress(StoreError):
        node.agent.account()


def load_all_but_records(node: Node) -> object:
    """Loads a dump that is older by one posting, but not the baselines, which come last. Returns these."""
    move(node, 1000)
    node.account()
    dump = deepcopy(vars(node.db))
    move(node, 700)
    node.account()
    records = dump.pop("records")
    vars(node.db).update(dump)
    move(node, 30)
    return records


def test_the_daemon_waits_until_all_tables_are_there(node: Loading) -> None:
    records = load_all_but_records(node)
    waited: list[float] = []

    def load_the_rest() -> None:
        waited.append(node.now)
        node.db.records = deepcopy(records)

    node.while_waiting = load_the_rest
    for _ in range(2):
        node.survive()
        try_to_account(node)
    assert len(waited) == 2  # The second look found other baselines than the first, and the third found the same.


def test_a_daemon_that_dies_meanwhile_leaves_the_waiting_to_the_next_one(node: Loading) -> None:
    records = load_all_but_records(node)

    def die() -> None:
        node.db.records = deepcopy(records)
        raise Crash

    node.while_waiting = die
    try_to_account(node)  # Its commit finds another revision, and the next load is the first to see the older state.
    with pytest.raises(Crash):
        try_to_account(node)
    node.while_waiting = lambda: None
    node.start()
    node.survive()
