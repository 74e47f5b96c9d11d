"""The commands `explain`, `usage` and `plan` show what bandwidth a contract has, and how much of its month is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_shaping import CONFIG as SHAPING
from tests.engine.test_shaping import ShapedNode
from tests.fakereports import FakeReports
from tests.node import CONFIG
from tests.page_site import Site
from wgsyncd.cli import main, output, wiring
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import ShapedTraffic, Tree
from wgsyncd.errors import ShapingError

Run = Callable[..., str]
FIVE = "0001-DEV-005"
TRAFFIC = {Direction.DOWN: ShapedTraffic(0x1F, 2048, 1, 7)}


class Reader:
    """Knows what passed the class of one address."""

    fails = False

    def of(self, addresses: tuple[str, ...]) -> dict[Direction, ShapedTraffic]:
        if self.fails:
            raise ShapingError("EPERM", "no tc now")
        return TRAFFIC if addresses == ("10.200.0.5",) else {}

    def close(self) -> None:
        pass


@pytest.fixture
def node() -> ShapedNode:
    made = ShapedNode()
    made.cycle()
    return made


@pytest.fixture
def run(
    node: ShapedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:  # fmt: skip
    config = tmp_path / "wgsyncd.toml"
    config.write_text(CONFIG + SHAPING)
    monkeypatch.setattr(wiring, "open_agent", lambda _: node.agent)
    monkeypatch.setattr(wiring, "open_reports", lambda _: FakeReports(node.db))
    monkeypatch.setattr(wiring, "open_tc", Reader)

    def command(name: str, *args: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main.main([name, "--config", str(config), *args]) == status
        return capsys.readouterr().out

    return command


def bandwidth(run: Run, name: str, *args: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(run(name, *args, "--json"))["bandwidth"]
    return found


def test_explain_and_usage_show_the_same(run: Run) -> None:
    expected = {
        "profile": "standard", "named": "standard", "unknown": False, "slowed_to": None, "down": 8_000_000,
        "up": 4_000_000, "shared": True, "monthly": 1_000_000, "used": 0,
        "traffic": None,
    }  # fmt: skip
    passed = {"down": {"class": 31, "sent": 2048, "dropped": 1, "waiting": 7}}
    assert bandwidth(run, "usage", "0001") == expected
    assert bandwidth(run, "explain", FIVE) == expected | {"traffic": passed}
    assert bandwidth(run, "usage", FIVE) == expected
    assert bandwidth(run, "usage") is None, "all devices have no one profile"


def test_people_read_rates_and_the_cap(node: ShapedNode, run: Run) -> None:
    told = run("explain", FIVE)
    assert "standard: down 8 Mbit/s, up 4 Mbit/s, for all devices together" in told
    assert "0 B of 976.56 KiB this month" in told
    node.traffic(5, 600_000, 500_000)
    node.account()
    node.cycle()
    for told in (run("explain", FIVE), run("usage", "0001")):
        assert "standard: down 800 kbit/s, up 800 kbit/s" in told
        assert "1.05 MiB of 976.56 KiB this month. The rates of slow hold until the month ends" in told


def test_explain_shows_what_passed_the_class_of_the_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "down: class 7767:1f has passed 2.00 KiB, 1 packet dropped, 7 in the queue" in run("explain", FIVE)
    monkeypatch.setattr(Reader, "fails", True)
    assert "7767:" not in run("explain", FIVE)


def test_an_unknown_profile_is_named(node: ShapedNode, run: Run) -> None:
    node.db.profiles["0001"] = "gold"
    assert "no bandwidth profile, because the configuration has no 'gold': not limited" in run("explain", FIVE)


def test_a_profile_of_each_device_alone_without_rates(node: ShapedNode, run: Run) -> None:
    node.db.profiles["0001"] = "open"
    found = bandwidth(run, "explain", FIVE)
    assert found is not None
    assert (found["down"], found["up"], found["shared"], found["monthly"], found["used"]) == (
        None, None, False, None, None
    )  # fmt: skip


def plan(run: Run, status: int) -> Any:
    return json.loads(run("plan", "--no-daemon", "--json", status=status))["bandwidth"]


def test_a_plan_shows_whose_rates_change_and_writes_nothing(node: ShapedNode, run: Run) -> None:
    assert plan(run, 0) == {"begin": [], "end": [], "changed": []}
    before = node.tc.state
    node.db.profiles["0001"] = "slow"
    assert plan(run, 2) == {"begin": [], "end": [], "changed": [{
        "owner": "0001", "profile_before": "standard", "profile": "slow", "month": "", "down_before": 8_000_000,
        "up_before": 4_000_000, "down": 800_000, "up": 800_000,
    }]}  # fmt: skip
    told = run("plan", "--no-daemon", status=2)
    assert "~ bandwidth of 0001: standard -> slow: down 8 Mbit/s -> 800 kbit/s, up 4 Mbit/s -> 800 kbit/s" in told
    assert node.tc.state == before
    node.cycle()
    assert plan(run, 0) == {"begin": [], "end": [], "changed": []}


def test_a_plan_shows_how_much_of_the_month_is_used_where_a_cap_slows_a_contract_down(
    node: ShapedNode, run: Run
) -> None:
    node.traffic(5, 600_000, 500_000)
    node.account()
    told = run("plan", "--no-daemon", status=2)
    assert "~ bandwidth of 0001: standard -> slow (1.05 MiB of 976.56 KiB this month): down 8 Mbit/s ->" in told


def test_a_plan_names_devices_that_are_limited_from_now_on_or_no_more(node: ShapedNode, run: Run) -> None:
    node.device(8)
    assert plan(run, 2)["begin"] == [
        {"device": "0001-DEV-008", "owner": "0001", "addresses": ["10.200.0.8/32"], "profile": "standard"}
    ]
    assert "+ bandwidth of 0001-DEV-008 (10.200.0.8/32): standard" in run("plan", "--no-daemon", status=2)
    node.cycle()
    node.db.profiles["0001"] = "open"
    assert plan(run, 2)["end"] == [f"10.200.0.{number}/32" for number in (5, 6, 7, 8)]
    assert "- bandwidth of 10.200.0.8/32: not limited any more" in run("plan", "--no-daemon", status=2)


def test_a_plan_and_the_status_name_contracts_to_mend(node: ShapedNode, run: Run) -> None:
    node.db.profiles["0001"], node.db.limits["0001"] = "gold", 2
    told = run("plan", "--no-daemon", status=2)
    assert "? 0001 names the bandwidth profile 'gold', which the configuration does not have" in told
    assert "? 0001 has more devices than it may have: 3 > 2" in told
    for number in (5, 6):
        node.change(number, is_parent=1)
    assert "? 0001 has 2 parent devices, and may have one" in run("plan", "--no-daemon", status=2)
    told = run("status", "--no-daemon", status=1)
    assert "1 owner names a bandwidth profile that the configuration does not have" in told
    assert "1 owner has more devices than max_devices" in told


def test_a_cap_that_is_reached_is_no_trouble(node: ShapedNode, run: Run) -> None:
    node.traffic(5, 600_000, 500_000)
    node.account()
    assert run("status", "--no-daemon").startswith("OK: node r640")


def test_a_plan_without_tc_says_nothing_about_it(node: ShapedNode, run: Run) -> None:
    node.tc.fails = "EPERM"
    assert plan(run, 0) is None


def test_verify_compares_the_trees_with_the_rows(node: ShapedNode, run: Run) -> None:
    assert json.loads(run("verify", "--json"))["findings"] == []
    tree = node.tc.trees[Direction.DOWN]
    minor = next(one.minor for one in tree.filters if str(one.network) == "10.200.0.5/32")
    slow = tree.classes[minor]._replace(ceil=1000)
    node.tc.trees[Direction.DOWN] = replace(tree, classes={**tree.classes, minor: slow})
    found = json.loads(run("verify", "--json", status=1))["findings"]
    why = f"bandwidth is not as the rows ask for: change htbclass down {minor}"
    assert [(one["check"], one["device"], one["what"]) for one in found] == [("shaping", FIVE, why)]
    node.cycle()
    assert "everything adds up" in run("verify")


def test_verify_tells_no_thousands_of_missing_objects(node: ShapedNode, run: Run) -> None:
    for number in range(10, 40):
        node.device(number)
    node.cycle()
    node.tc.trees = {way: Tree() for way in Direction}
    found = json.loads(run("verify", "--json", status=1))["findings"]
    assert len(found) == 101
    assert "more than 100 objects of tc are missing or different" in found[0]["what"]


def test_verify_says_that_tc_cannot_be_read_or_belongs_to_another_program(node: ShapedNode, run: Run) -> None:
    node.tc.trees[Direction.UP] = replace(node.tc.trees[Direction.UP], is_ifb=False)
    assert "another program uses wgsyncd-up" in run("verify", status=1)
    node.tc.fails = "EPERM"
    assert "no tc now" in run("verify", status=1)


def test_each_device_of_the_list_and_of_the_page_has_its_bandwidth(
    node: ShapedNode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "width", lambda: 400)
    assert run("devices", "--no-daemon").count("standard 8 Mbit down, 4 Mbit up") == 3
    node.traffic(5, 600_000, 500_000)
    node.account()
    node.cycle()
    assert run("devices", "--no-daemon").count("slow (cap reached) 800 kbit down, 800 kbit up") == 3
    site = Site(node)
    try:
        assert site.get()[1].count("slow (cap reached) 800 kbit down, 800 kbit up") == 3
        node.db.profiles["0001"] = "open"
        node.cycle()
        assert site.get()[1].count("not limited") == 3
    finally:
        site.server.close()


def test_without_bandwidth_no_column_says_anything(run: Run, node: ShapedNode, tmp_path: Path) -> None:
    (tmp_path / "wgsyncd.toml").write_text(CONFIG)
    assert {one["bandwidth"] for one in json.loads(run("devices", "--no-daemon", "--json"))["devices"]} == {None}
    assert "bandwidth" not in run("devices", "--no-daemon")
