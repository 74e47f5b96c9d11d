"""Audit rows tell when other rates hold for a contract, and when a node begins, fails or ends to limit bandwidth."""

from __future__ import annotations

import pytest

from tests.engine.test_shaping import CONFIG, ShapedNode
from tests.node import CONFIG as NODE_CONFIG
from wgsyncd.config.load import parse
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.shaping import Shaping

pytestmark = pytest.mark.usefixtures("mikyun_columns")

ABOUT = ("bandwidth", "shaping_", "cap_", "unknown_profile")


@pytest.fixture
def shaped() -> ShapedNode:
    node = ShapedNode()
    node.cycle()
    return node


def told(node: ShapedNode) -> list[tuple[str, str]]:
    """The audit rows about shaping since the last call, with their targets."""
    node.cycle()  # A row about tc itself is queued while the cycle ends, so the next transaction has it.
    found = [(one.action, one.target_id) for one in node.db.logs if one.action.startswith(ABOUT)]
    node.db.forget_logs()
    return found


def test_a_node_that_begins_says_so_once(shaped: ShapedNode) -> None:
    assert told(shaped) == [("shaping_started", "r640")]
    shaped.device(8)
    assert told(shaped) == []


def test_another_profile_is_told_with_both_names_and_the_reason(shaped: ShapedNode) -> None:
    told(shaped)
    shaped.db.profiles["0001"] = "slow"
    shaped.cycle()
    (row,) = [one for one in shaped.db.logs if one.action == "bandwidth_changed"]
    assert (row.target_type, row.target_id) == ("contract", "0001")
    assert "standard" in row.message and "slow" in row.message
    assert told(shaped) == [("bandwidth_changed", "0001")]
    assert told(shaped) == []


def test_a_cap_is_told_when_it_is_reached_and_when_it_ends(shaped: ShapedNode) -> None:
    told(shaped)
    shaped.traffic(5, 500_000, 500_000)
    shaped.account()
    assert sorted(told(shaped)) == [("bandwidth_changed", "0001"), ("cap_reached", "0001")]
    shaped.db.profiles["0001"] = "open"
    assert sorted(told(shaped)) == [("bandwidth_changed", "0001"), ("cap_ended", "0001")]


def test_an_unknown_profile_is_told_once(shaped: ShapedNode) -> None:
    told(shaped)
    shaped.db.profiles["0001"] = "gold"
    assert ("unknown_profile", "0001") in told(shaped)
    assert told(shaped) == []
    shaped.db.profiles["0001"] = "standard"
    assert ("unknown_profile_cleared", "0001") in told(shaped)


def test_other_rates_of_a_profile_are_told_after_a_reload(shaped: ShapedNode) -> None:
    told(shaped)
    shaped.settings = parse(NODE_CONFIG + CONFIG.replace('"8Mbit"', '"9Mbit"'))
    shaped.planes = (Shaping(shaped.settings, shaped.tc, shaped.status, shaped.state),)
    shaped.reload()
    assert told(shaped) == [("bandwidth_changed", "0001")]


def test_a_kernel_that_lacks_something_is_told_until_it_has_it(shaped: ShapedNode) -> None:
    told(shaped)
    shaped.tc.fails = "EPERM"
    shaped.cycle()
    shaped.cycle()
    assert told(shaped) == [("shaping_failed", "r640")]
    shaped.tc.fails = ""
    shaped.cycle()
    assert told(shaped) == [("shaping_restored", "r640")]


def restarted(node: ShapedNode, config: str = CONFIG) -> None:
    """The daemon ends, and another one begins with this configuration."""
    node.db.forget_logs()
    node.state = AgentState()
    node.settings = parse(NODE_CONFIG + config)
    node.planes = (Shaping(node.settings, node.tc, node.status, node.state),)
    node.reload()


def messages(node: ShapedNode) -> list[str]:
    node.cycle()
    node.cycle()
    return [one.message for one in node.db.logs if one.action == "bandwidth_changed"]


def test_what_changed_while_the_daemon_was_down_is_told(shaped: ShapedNode) -> None:
    restarted(shaped)
    assert messages(shaped) == []
    shaped.db.profiles["0001"] = "slow"
    restarted(shaped)
    (said,) = messages(shaped)
    assert "standard" in said and "slow" in said


def test_a_cap_of_the_time_without_a_daemon_and_other_rates_are_told_with_their_reason(shaped: ShapedNode) -> None:
    shaped.traffic(5, 500_000, 500_000)
    shaped.account()
    restarted(shaped)
    (capped,) = messages(shaped)
    restarted(shaped, CONFIG.replace('"800kbit"', '"900kbit"'))
    (rates,) = messages(shaped)
    assert "monthly cap" in capped
    assert "configuration" in rates, rates
