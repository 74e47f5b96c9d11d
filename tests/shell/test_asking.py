"""Commands ask the daemon over a real socket, and some of them work without a daemon."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.asked_daemon import Work
from tests.node import CONFIG, Node
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import client, main
from wgsyncd.config.load import parse
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon import control_socket
from wgsyncd.daemon.admin import AdminRequest, AdminRequests, Selection
from wgsyncd.errors import ConfigIssue, StoreError, UserError


def test_plan_is_the_same_with_the_daemon_and_without(node: Node, work: Work, run: Run) -> None:
    node.db.update(5, status="paused")
    node.db.update(6, preshared_key="junk")
    asked, looked = run("plan"), run("plan", "--no-daemon")
    assert asked == looked
    assert asked[0] == 2
    assert [line[0] for line in asked[1]] == ["w", "-", "r", "?", "g", "p"]
    one, other = (json.loads(run("plan", "--json", *more)[1][0]) for more in ((), ("--no-daemon",)))
    assert (one.pop("source"), other.pop("source")) == ("daemon", "command")
    assert one == other


def test_who_looks_for_itself_says_so(node: Node, run: Run, capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert main.main(["plan", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert said.out == "no changes\n"
    assert said.err == "wgsyncd: wgsyncd does not run: this is what the command sees by itself\n"
    assert json.loads(run("plan", "--json")[1][0])["source"] == "command"


def test_a_question_about_another_file_is_not_the_daemons(
    node: Node, work: Work, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = config.with_name("other.toml")
    other.write_text(config.read_text())
    assert main.main(["status", "--config", str(other)]) == 1
    assert f"the daemon runs with {config}" in capsys.readouterr().out


def test_approve_carries_out_exactly_these_removals_once_and_says_who(
    node: Node, work: Work, run: Run, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    before = node.kernel()
    node.db.devices.clear()
    node.cycle()
    plan = json.loads(run("plan", "--json")[1][0])["plan"]
    assert run("plan")[1][-1] == f"plan {plan}: 3 withheld"
    assert json.loads(run("status", "--json")[1][0])["guard"] == {"tripped": True, "approved": False, "plan": plan}
    assert main.main(["approve", "--config", str(config), "0" * 32]) == 1
    assert f"{'0' * 12} is not the plan of now, which is {plan}" in capsys.readouterr().err
    assert node.kernel() == before
    assert run("approve", plan) == (0, [f"{plan} approved and carried out: 3 removed"])
    assert node.kernel() == {"wg0": {}, "wg1": {}}
    entry = next(one for one in node.db.logs if one.action == "guard_approved")
    assert entry.message == f"3 withheld removals (plan {plan}) approved by root (uid 0, pid {os.getpid()})"
    assert node.db.approved["r640"] is None
    assert main.main(["approve", "--config", str(config), plan]) == 1
    assert "nothing is withheld" in capsys.readouterr().err


@pytest.mark.parametrize(("how", "said"), [
    ("change", "the rows changed in that moment, so nothing was approved"),
    ("fail", "is approved, but not carried out yet: 2013: Lost connection"),
])  # fmt: skip
def test_an_approval_that_could_not_be_carried_out_says_why(
    node: Node, work: Work, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str,
    said: str,
) -> None:  # fmt: skip
    for number in range(10, 30):
        node.device(number)
    node.cycle()
    for number in node.db.devices:
        node.db.update(number, status="paused")
    node.cycle()
    before, approve = node.kernel(), node.store.approve

    def then(plan_id: str) -> None:
        approve(plan_id)
        if how == "change":
            node.db.update(5, status="active")
        else:
            node.store.down = True

    monkeypatch.setattr(node.store, "approve", then)
    assert main.main(["approve", "--config", str(config), node.status.plan_id]) == 1
    assert said in capsys.readouterr().err
    assert node.kernel() == before


def test_approve_without_a_daemon_is_for_its_next_cycle(node: Node, run: Run) -> None:
    node.db.devices.clear()
    node.cycle()
    plan = json.loads(run("plan", "--json")[1][0])["plan"]
    answer = json.loads(run("approve", "--json", plan)[1][0])
    assert answer == {"plan": plan, "approved": True, "carried_out": False, "removed": None}
    node.cycle()
    assert node.wg.peers("wg0") == {}


def test_sync_says_what_was_compared_or_why_not(work: Work, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sync") == (0, ["compared everything"])
    some = ["0001-DEV-005", "0001-DEV-006"]
    assert run("sync", *some) == (0, ["compared 0001-DEV-005, 0001-DEV-006"])
    assert json.loads(run("sync", "--json", *some)[1][0]) == {"compared": some, "without_row": []}
    assert main.main(["sync", "D-9"]) == 1
    assert capsys.readouterr().err == f"wgsyncd: failed: 2002: no database\n{main.WITHOUT_DATABASE}\n"
    assert work.said == ["all", set(some), set(some), {"D-9"}]


def test_sync_says_which_names_no_row_has(work: Work, run: Run) -> None:
    work.node.cycle()
    said = "no row has the id 0001-DEV-0O5; alike: 0001-DEV-00"
    status, lines = run("sync", "0001-DEV-0O5", "0001-DEV-005")
    assert (status, lines[0]) == (0, "compared 0001-DEV-0O5, 0001-DEV-005")
    assert len(lines) == 2 and lines[1].startswith(said)
    assert json.loads(run("sync", "--json", "0001-DEV-099")[1][0])["without_row"] == ["0001-DEV-099"]
    work.node.device(99)  # the last complete reconcile did not see it
    assert run("sync", "0001-DEV-099") == (0, ["compared 0001-DEV-099"])


def test_reload_says_whether_the_configuration_was_taken(
    work: Work, run: Run, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reload") == (0, [f"{config}: taken"])
    assert work.said == [f"root (uid 0, pid {os.getpid()})"]
    work.faults = (ConfigIssue("guard.max_share", "3", "is above 1"), ConfigIssue("node.zone", "", "is missing"))
    assert main.main(["reload"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"wgsyncd: {config}: 2 faults, so the daemon keeps the old configuration", "  guard.max_share = 3: is above 1",
        "  node.zone: is missing",
    ]  # fmt: skip
    status_report, lines = run("reload", "--json")
    assert (status_report, json.loads(lines[0])["taken"]) == (2, False)


def test_reload_warns_of_another_zone(node: Node, work: Work, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def reload(_: str) -> list[ConfigIssue]:
        node.settings = parse(CONFIG.replace("Asia/Tokyo", "UTC"))
        return []

    monkeypatch.setattr(work, "reload", reload)
    status, lines = run("reload")
    assert (status, len(lines)) == (0, 2)
    assert lines[1].startswith("node.zone is UTC now, and was Asia/Tokyo. wgsyncd reads all DATETIME columns")


@pytest.mark.parametrize("command", ["sync", "reload"])
def test_what_needs_a_daemon_says_that_none_runs(node: Node, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([command]) == 1
    said = capsys.readouterr().err
    assert said.startswith("wgsyncd: no wgsyncd runs here: nobody listens on ")
    assert said.endswith(". Start it: systemctl start wgsyncd\n")


PLAN = "0123456789abcdef" * 2


@pytest.mark.parametrize("command", ["plan", f"approve {PLAN}", "status", "sync", "reload"])
def test_who_is_not_permitted_is_told_what_to_do(
    node: Node, command: str, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command does not look for itself instead."""

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", denied)
    assert main.main(command.split()) == (3 if command == "status" else 1)
    assert capsys.readouterr().err == (
        f"wgsyncd: {control_socket.path()}: not permitted: run this as root or in the group wgsyncd\n"
    )


@pytest.mark.parametrize("error", [StoreError("2002: no database"), UserError("no")])
def test_what_a_request_meets_is_told_to_who_asked(
    work: Work, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails() -> Decision:
        raise error

    monkeypatch.setattr(work.node.agent.inspector, "preview_all", fails)
    assert run("plan") == (1, [])


def test_nonsense_from_another_version_harms_nobody(node: Node, work: Work, run: Run) -> None:
    for body in ({}, {"plan": 5}, {"plan": None}, {"plan": "x", "force": True}):
        with pytest.raises(UserError, match=r"the body is wrong: .*`(\$\.)?(plan|force)`"):
            client.ask("/approve", "POST", body)
    with pytest.raises(UserError, match=r"the body is wrong: Expected `array`, got `str` - at `\$\.devices`"):
        client.ask("/sync", "POST", {"devices": "D-1"})
    with pytest.raises(UserError, match="there is nothing here"):
        client.ask("/dance", "POST")
    assert work.said == []
    assert run("status")[0] == 0


def test_a_flood_of_orders_gets_a_fifth_of_the_time(node: Node, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    class Slow(Work):
        def reconcile_now(self, devices: frozenset[str]) -> bool:
            now[0] += 0.25
            return super().reconcile_now(devices)

    class Flood(AdminRequests):
        def _next(self) -> AdminRequest:
            return AdminRequest("sync", Selection(("D-1",)), "me")

    work = Slow(node)
    orders = Flood(work, config, lambda: node.settings.node.zone, lambda: None)
    monkeypatch.setattr("wgsyncd.daemon.admin.time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0]))
    assert orders.delay() is None
    orders.wait()
    for _ in range(4):
        assert orders.handle_next(), "a few are obeyed at once"
    began, since = len(work.said), now[0]
    while now[0] < since + 100:
        if not orders.handle_next():
            now[0] += orders.delay() or 0
    assert len(work.said) - began == pytest.approx(100 * 0.2 / 0.25, abs=2)


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "1e9"])
def test_no_time_to_wait_is_bad_usage(seconds: str) -> None:
    for command in (["status", "--watch", seconds], ["sync", "--timeout", seconds], ["reload", "--timeout", seconds]):
        with pytest.raises(SystemExit) as end:
            main.main(command)
        assert end.value.code == 2


def test_interrupted_is_130_and_no_trace(node: Node, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "ask", interrupted)
    assert main.main(["plan", "--config", str(config)]) == 130


def test_interrupted_during_the_imports_is_130_and_no_trace(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> ModuleType:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main.main(["plan", "--config", str(config)]) == 130


def test_colours_are_for_a_terminal(node: Node, work: Work, config: Path, run: Run) -> None:
    node.db.update(5, status="paused")
    assert "\x1b" not in "".join(run("plan")[1] + run("status")[1])
    said = on_a_terminal(lambda: main.main(["plan", "--config", str(config)]))
    assert "\x1b[31m- wg0" in said
    assert "\x1b[3" not in on_a_terminal(lambda: main.main(["plan", "--config", str(config)]), NO_COLOR="1")
