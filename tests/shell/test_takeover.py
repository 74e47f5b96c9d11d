"""`wgsyncd takeover` says who runs the node, and asks before it takes the node over."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.fakemachine import FakeMachine
from tests.node import Node
from tests.shell.conftest import Run
from wgsyncd.cli import wiring


class Terminal(io.StringIO):
    """A terminal on which somebody types a text."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def other(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The node runs on host alpha. The command runs on host beta."""
    node.machine = FakeMachine("alpha")
    node.store.clock = lambda: node.now
    node.start()
    node.cycle()
    beta = Node(database=node.db)
    beta.machine, beta.now = FakeMachine("beta", "fake-boot-2"), node.now + 20
    beta.store.clock = lambda: beta.now
    beta.start()
    monkeypatch.setattr(wiring, "open_agent", lambda _, claims: beta.agent)
    return beta


def test_without_a_terminal_it_asks_for_yes(other: Node, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("takeover") == (1, [])
    assert ("node_taken_over", "r640") not in other.actions


@pytest.mark.parametrize(("typed", "status"), [("r640\n", 0), ("yes\n", 1), ("", 1)])
def test_the_nodes_name_confirms(
    other: Node, run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert run("takeover")[0] == status
    assert (("node_taken_over", "r640") in other.actions) is (status == 0)


def test_it_takes_the_node_over_and_the_daemon_here_may_start(other: Node, run: Run) -> None:
    status, [line] = run("takeover", "--yes", "--json")
    said = json.loads(line)
    assert status == 0
    assert said == {"node": "r640", "taken_over": True,
                    "holder": {"host": "alpha", "boot": "fake-boot-1", "heartbeat_age": 20}}  # fmt: skip
    other.cycle()
    assert other.actions.count(("node_taken_over", "r640")) == 1
    assert json.loads(run("takeover", "--json")[1][0])["taken_over"] is False


def test_there_may_be_nothing_to_take_over(run: Run, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.machine = FakeMachine("alpha")
    node.start()
    monkeypatch.setattr(wiring, "open_agent", lambda _, claims: node.agent)
    assert run("takeover") == (0, ["no machine has run node r640 yet: start wgsyncd here"])
    node.cycle()
    assert run("takeover")[1][0].startswith("node r640 was last run by host alpha (boot fake-boot-1), heartbeat")
