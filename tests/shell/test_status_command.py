"""`wgsyncd status` shows one screen, its JSON and --watch, over a real socket to a node in memory."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.asked_daemon import Work
from tests.node import Node
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import client, main, wiring
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.engine.status import LinkState


def test_status_has_the_same_keys_with_the_daemon_and_without(node: Node, work: Work, run: Run) -> None:
    node.status.succeeded_at = {"reconcile": node.now, "account": node.now}
    one, other = (json.loads(run("status", "--json", *more)[1][0]) for more in ((), ("--no-daemon",)))
    assert list(one) == list(other)
    assert (one["source"], other["source"]) == ("daemon", "command")
    assert [list(i) for i in one["interfaces"]] == [list(i) for i in other["interfaces"]]
    same = ("interface", "present", "kind", "desired", "actual", "online", "frozen", "foreign", "rx_bytes", "tx_bytes")
    assert [[i[k] for k in same] for i in one["interfaces"]] == [[i[k] for k in same] for i in other["interfaces"]]
    assert {len(str(lines)) > 0 for lines in (run("status")[1], run("status", "--no-daemon")[1])} == {True}


def test_a_node_without_a_wanted_peer_says_so(node: Node, work: Work, run: Run) -> None:
    """It is well, and nobody can connect. A new node whose interface has another name in the rows looks so, too."""
    told = "No row wants a peer on wg0, wg1, so nobody can connect. `wgsyncd devices --all` shows the rows of this node"
    assert not any(line.startswith("No row") for line in run("status")[1])
    node.db.devices.clear()
    node.cycle()
    kept = [line for line in run("status")[1] if line.startswith("No row")]
    assert len(kept) == 1 and "nobody can connect" not in kept[0], "the guard keeps the peers, so their devices connect"
    node.agent.approve(node.status.plan_id)
    node.cycle()
    assert node.wg.peers("wg0") == {}
    status, lines = run("status")
    assert (status, lines[0].split(":")[0]) == (0, "OK")
    assert any(line.startswith(told) for line in lines), lines


def test_status_is_answered_while_the_main_thread_is_busy(
    node: Node, work: Work, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def hangs(_: frozenset[str]) -> bool:
        return go.wait(60)

    monkeypatch.setattr(work, "reconcile_now", hangs)
    waiting = threading.Thread(target=client.ask, args=("/sync", "POST", {"devices": ["D-1"]}))
    waiting.start()
    assert run("status")[0] == 0
    go.set()
    waiting.join()


def test_the_time_of_the_start_has_its_zone(node: Node, work: Work, run: Run) -> None:
    node.status.started_at = 1_800_000_000.0
    assert run("status")[1][0].endswith(" since 2027-01-15 17:00:00 +09:00")


def test_one_screen_tells_what_is_wrong(node: Node, work: Work, run: Run) -> None:
    node.db.update(5, preshared_key="junk")
    del node.db.devices[6]
    node.cycle()
    status = node.status
    status.database_up, status.database_error, status.heartbeat_at = False, "2002: refused", time.time() - 205
    status.config_ok, status.quarantined, status.findings = False, 2, {"figure": 3}
    status.unwritten_audit_rows = 7
    status.spool_pending_counters, status.store_conditions = 4, {"parent_conflict": 6}
    locked = [SetAside(f"d{number}", Obstacle.LOCKED, "", 1.0) for number in range(5)]
    status.set_aside = (*locked, SetAside("0001-DEV-009", Obstacle.REFUSED, "1264: Out of range", 1.0))
    lines = run("status")[1]
    assert lines[0] == f"FAILING: node r640: wgsyncd runs (pid {os.getpid()})"
    text = "\n".join(lines)
    for said in ("database: it does not serve wgsyncd: 2002: refused. Devices stay connected, and traffic is kept",
                 "    sudo wgsyncd doctor", "heartbeat 3 min 2",
                 "has faults, so the daemon keeps the old one", "quarantine: 2 deltas are not accounted", "audit trail: 7 audit rows wait, because the database did not take them", "verification: it found 3 discrepancies",
                 "spool: 4 counters wait in the spool for the database", "another program has locked 5, or the database is too slow, so their bytes wait",
                 "the database refuses to change 1, so their bytes wait: 0001-DEV-009: 1264: Out of range",
                 "6 owners have several parent devices",
                 "rows: 1 row is ignored because of errors: row 5 (0001-DEV-005), preshared_key", "last changes",
                 "-  wg0  0001-DEV-006  row is gone"):  # fmt: skip
        assert said in text, said
    assert len(lines) <= 37, "one screen"


def test_a_node_that_has_read_no_rows_does_not_say_that_customers_are_connected(
    node: Node, work: Work, run: Run
) -> None:
    """After a power cut, only the database knows which peers there were."""
    status = node.status
    status.database_up, status.database_error, status.database_read_at = False, "2003: refused", 0.0
    status.spool_up, status.spool_pending_counters = False, 2
    text = "\n".join(run("status")[1])
    assert "2003: refused. The rows were not read yet, so the node may lack peers" in text
    assert "Devices stay connected" not in text
    assert "2 counters wait in memory for the database" in text, "the spool cannot be written"


def test_the_last_changes_are_told_with_steps_of_life(node: Node, work: Work, run: Run) -> None:
    node.issued(8, node.now + 900)
    node.issued(9, node.now + 20)
    node.cycle()
    node.shake(8)
    node.cycle()
    node.cycle()
    changes = json.loads(run("status", "--json")[1][0])["changes"]
    assert [(one["change"], one["device"], one["text"]) for one in reversed(changes)][-4:] == [
        ("add", "0001-DEV-009", "wanted"),
        ("activate", "0001-DEV-008", "active (first handshake)"),
        ("expire", "0001-DEV-009", "expired (activation deadline passed)"),
        ("remove", "0001-DEV-009", "device expired"),
    ]
    assert " ago" in run("status")[1][3], "the latest handshake"


def test_an_interface_that_is_down_is_a_fault(node: Node, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers in it are right, but nobody can connect to them."""
    links = {"wg0": LinkState.DOWN, "wg1": LinkState.UP}
    monkeypatch.setattr(wiring, "link_states", lambda _: links)
    status, lines = run("status", "--no-daemon")
    at = lines.index("wg0: is down, so nobody can connect")
    assert (status, lines[at + 1]) == (2, "    ip link set wg0 up || ss -lunp")


def test_the_table_of_interfaces_has_what_is_not_as_ever_and_fits_the_terminal(
    node: Node, work: Work, run: Run, config: Path
) -> None:
    plain = ["interface", "desired", "actual", "online", "handshake"]
    assert run("status")[1][2].split() == [*plain, "received", "sent"]
    node.account()
    assert run("status")[1][2].split() == [*plain, "in/s", "out/s", "received", "sent"]
    node.db.update(5, preshared_key="junk")
    node.wg.delete("wg1")
    node.cycle()
    lines = run("status")[1]
    assert lines[2].split()[:7] == ["interface", "kind", "desired", "actual", "online", "frozen", "handshake"]
    assert lines[4].split() == ["wg1", "unreadable", "0", "?", "?", "?"], "its peers are not known"
    said = on_a_terminal(lambda: main.main(["status", "--config", str(config)]), columns=80)
    assert "handshake" in said
    assert "received" not in said


def test_a_thousand_rejected_rows_are_one_screen_and_all_of_the_json(node: Node, work: Work, run: Run) -> None:
    for number in range(10, 60):
        node.device(number, preshared_key="junk")
    node.cycle()
    assert len(run("status")[1]) <= 30
    assert sum(line.startswith("rows: ") for line in run("status")[1]) == 8
    assert any("rows: 50 rows are ignored because of errors: row 10 (" in line for line in run("status")[1])
    assert len(json.loads(run("status", "--json")[1][0])["rejected"]) == 50


def test_rates_are_measured_between_polls_and_begin_anew_with_the_counters(node: Node, work: Work, run: Run) -> None:
    def rates() -> tuple[object, object]:
        one = json.loads(run("status", "--json")[1][0])["interfaces"][0]
        return one["rx_rate"], one["tx_rate"]

    assert rates() == (None, None)
    node.traffic(5, 1500, 300)
    node.account()
    assert rates() == (100.0, 20.0)
    node.wg.reboot()
    node.cycle()
    assert rates() == (None, None), "not below nothing"
    node.account()
    assert rates() == (0.0, 0.0)


def test_watch_draws_again_until_interrupted(
    node: Node, work: Work, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 2:
            raise KeyboardInterrupt
        node.db.update(5, status="paused")
        node.cycle()

    monkeypatch.setattr("wgsyncd.cli.watch.time.sleep", sleep)
    said = on_a_terminal(lambda: main.main(["status", "--config", str(config), "--watch", "7"]), LINES="40")
    assert turns == [7.0, 7.0]
    assert "0001-DEV-005" in said
    assert "every 7 s   ^C ends" in said


@pytest.mark.parametrize("command", ["status", "devices"])
@pytest.mark.parametrize("findings", [0, 1, 3])
def test_a_small_screen_has_devices_on_each_line_that_is_left(
    node: Node, work: Work, config: Path, monkeypatch: pytest.MonkeyPatch, findings: int, command: str
) -> None:
    for number in range(20, 60):
        node.device(number)
    node.cycle()
    node.db.update(6, status="paused")
    node.cycle()
    if findings:
        node.db.update(5, preshared_key="junk")
        node.cycle()
    if findings > 1:
        node.status.config_ok, node.status.unwritten_audit_rows = False, 7
    monkeypatch.setattr("wgsyncd.cli.watch.time.sleep", lambda _: os.kill(os.getpid(), signal.SIGINT))
    said = on_a_terminal(
        lambda: main.main([command, "--config", str(config), "--watch"]), columns=80, LINES="24", NO_COLOR="1"
    )
    lines = said.partition("\x1b[H")[2].partition("^C ends")[0].splitlines()
    assert len(lines) == 24
    assert not any("more lines" in line for line in lines)
    assert lines[21].strip() and not lines[22].strip(), "only one line is empty, above the last one"
    changes = sum(re.match(r"\d{4}-\d\d-\d\d ", line) is not None for line in lines)
    shown = sum("0001-DEV-" in line and "10.200.0." in line for line in lines)
    wanted = {0: (4, 5), 1: (2, 3), 3: (0, 1)}
    assert (changes, shown) == (wanted[findings] if command == "status" else (0, 17))


def test_watch_outlives_what_it_looks_at(node: Node, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first no daemon runs, and then the database is away too. That is when an admin watches."""
    turns = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        node.store.down = len(turns) == 1
        if len(turns) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("wgsyncd.cli.watch.time.sleep", sleep)
    argv = ["status", "--config", str(config), "--watch"]
    said = on_a_terminal(lambda: main.main(argv), LINES="40")
    first, second, third = said.split("^C ends")[:3]
    assert "does not run" in first
    assert "2013: Lost connection" in second
    assert "does not run" in third


def test_watch_is_for_a_terminal_or_a_program(
    node: Node, work: Work, run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["status", "--config", str(config), "--watch"]) == 1
    assert "--watch --json" in capsys.readouterr().err
    turns = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("wgsyncd.cli.commands.status.time.sleep", sleep)
    status_report, lines = run("status", "--json", "--watch")
    assert (status_report, turns) == (0, [2.0] * 3)
    assert [json.loads(line)["node"] for line in lines] == ["r640"] * 3
