"""`wgsyncd doctor` and `wgsyncd status` see every trouble that the fault tests make, and name what helps."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.asked_daemon import Work
from tests.faults.script import KINDS
from tests.node import Node
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import main, wiring
from wgsyncd.cli.commands import devices as devices_command
from wgsyncd.cli.commands import status as status_command
from wgsyncd.cli.doctor import files, interfaces, routes, system
from wgsyncd.core.inspect.finding import Finding, Severity, ok
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.daemon import control_socket, lock
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.errors import StoreError

REFUSED = "2003: Can't connect to MySQL server on '127.0.0.1' ([Errno 111] Connection refused)"


def cycle(node: Node) -> None:
    """Runs the two tasks as the daemon does: a failure is part of the status."""
    tasks = Tasks(node.status)
    tasks.do("reconcile", node.agent.reconcile)
    tasks.do("account", node.agent.account)


def away(error: str = REFUSED, todo: str = "") -> Callable[[Node], None]:
    def make(node: Node) -> None:
        def refuse() -> None:
            raise StoreError(error, todo=todo)

        Tasks(node.status).do("reconcile", refuse)

    return make


def aside(obstacle: Obstacle) -> Callable[[Node], None]:
    def make(node: Node) -> None:
        node.status.set_aside = (SetAside("0001-DEV-005", obstacle, "1264: Out of range", 1.0),)

    return make


def no_interface(node: Node) -> None:
    node.wg.delete("wg0")
    cycle(node)


def broken(number: int) -> Callable[[Node], None]:
    def make(node: Node) -> None:
        node.wg.broken["wg0"] = number
        cycle(node)

    return make


def rebooted(node: Node) -> None:
    node.wg.reboot()
    node.store.down = True
    node.start()
    cycle(node)


def everybody(node: Node) -> None:
    for number in range(8, 20):
        node.device(number)
    cycle(node)
    for number in range(5, 20):
        node.change(number, status="paused")
    cycle(node)


def bad_row(node: Node) -> None:
    node.change(5, public_key="junk")
    cycle(node)


def refused_configuration(node: Node) -> None:
    node.status.config_ok = False


def no_spool(node: Node) -> None:
    node.status.spool_up = False


DATABASE = "sudo wgsyncd doctor"
LASTING: dict[str, tuple[Callable[[Node], None], str, str]] = {
    # kind of fault: how it is made, the check that finds it, what helps
    **{kind: (away(), "database", DATABASE) for kind in
       ("black_hole", "refuse", "db_kill", "db_kill_at", "db_stop", "db_full", "db_read_only")},
    **{kind: (away("2013: Lost connection to MySQL server during query"), "database", DATABASE)
       for kind in ("hold_answer", "drip")},
    "lies": (away("the database gave an answer that makes no sense (ValueError in rows.py:1)"), "database", DATABASE),
    "row_lock": (aside(Obstacle.LOCKED), "locked rows", DATABASE),
    "refused": (aside(Obstacle.REFUSED), "refused rows", DATABASE),
    "interface": (no_interface, "wg0", "systemctl restart wg-quick@wg0"),
    "liar": (broken(errno.EPROTO), "wg0", DATABASE),
    "reboot": (rebooted, "database", DATABASE),
    "everybody": (everybody, "guard", "wgsyncd plan"),
    # what else goes wrong in a night
    "password": (away("1045: Access denied for user 'wgsyncd'@'localhost'"), "database", DATABASE),
    "a cure": (away("1205: Lock wait timeout exceeded", "mariadb -e x"), "database", "mariadb -e x"),
    "userspace socket": (broken(errno.EACCES), "wg0", "man wgsyncd-install"),
    "bad row": (bad_row, "rows", "wgsyncd plan"),
    "bad configuration": (refused_configuration, "configuration", "wgsyncd check-config"),
    "no spool": (no_spool, "spool", DATABASE),
}  # fmt: skip
SILENT = ("stop", "stop_at")
"""Kinds that stop the daemon's process."""
PASSING = frozenset((
    "terminate", "reload", "second", "rival", "twin", "stranger", "clock", "cut", "cut_at", "swallow_commit", "db_restart",
    "deadlock", "restore", "foreign_remove", "foreign_replace", "rename_interface", "rename_node", "pause", "rekey",
    "move", "address", "preshared_key", "qr", "reset",
))  # fmt: skip
"""After these kinds the daemon goes on by itself, and nothing is wrong any more. The fault tests prove that."""


@pytest.fixture
def quiet(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves only what the daemon says of itself: the machine of a test has neither systemd nor the database."""

    def well(*_: object, **__: object) -> Iterator[Finding]:
        yield ok("machine", "well")

    for module in (files, interfaces, routes, system):
        monkeypatch.setattr(module, "check", well)
    monkeypatch.setattr(wiring, "check_store", well)
    monkeypatch.setattr(status_command, "WAIT", 5.0)


def test_every_kind_of_the_fault_tests_is_here() -> None:
    assert PASSING | set(SILENT) | LASTING.keys() >= KINDS.keys()


@pytest.mark.parametrize("kind", LASTING)
def test_doctor_and_status_see_the_trouble(node: Node, quiet: None, work: Work, run: Run, kind: str) -> None:
    cycle(node)
    assert (run("status")[0], run("doctor")[0]) == (0, 0), run("doctor")[1]
    make, check, fix = LASTING[kind]
    make(node)
    status, lines = run("status", "--json")
    said = json.loads(lines[0])
    assert status == {"ok": 0, "degraded": 1, "failing": 2}[said["verdict"]] > 0
    assert [one["fix"] for one in said["troubles"] if one["check"] == check and one["severity"] == "fault"] == [fix]
    status, lines = run("doctor", "--json")
    found = [one for one in json.loads(lines[0])["checks"] if one["check"] == f"daemon: {check}"]
    assert (status, [one["severity"] for one in found]) == (1, ["fault"])
    assert found[0]["fix"].startswith("journalctl" if fix == DATABASE else fix), "doctor does not send to doctor"


@pytest.mark.parametrize("kind", LASTING)
def test_red_is_what_makes_the_node_fail_and_nothing_else(node: Node, work: Work, config: Path, kind: str) -> None:
    def said(*argv: str) -> str:
        return on_a_terminal(lambda: main.main([*argv, "--config", str(config)]))

    cycle(node)
    assert "\x1b[31m" not in said("status")
    LASTING[kind][0](node)
    text = said("status")
    assert ("\x1b[31m" in text) is ("FAILING: " in text), "one colour, one word"
    if "ATTENTION: " in text:
        assert "\x1b[33m" in text
        assert "\x1b[31m" not in said("devices")


def test_an_error_of_the_database_is_said_once(node: Node, work: Work, run: Run) -> None:
    cycle(node)
    node.status.succeeded_at = {"account": 1.0, "reconcile": 1.0}
    away()(node)
    said = "\n".join(run("status")[1])
    assert (said.count(REFUSED), said.count("cycles: ")) == (1, 2)


def test_one_bad_row_does_not_fail_the_node(node: Node, work: Work, run: Run) -> None:
    bad_row(node)
    assert run("status")[0] == 1
    no_interface(node)
    assert run("status")[0] == 2


def test_a_warning_is_attention_for_status_and_no_fault_for_doctor(
    node: Node, quiet: None, work: Work, run: Run
) -> None:
    cycle(node)
    node.status.quarantined = 1
    status, lines = run("status")
    assert (status, lines[0].partition(":")[0]) == (1, "ATTENTION")
    assert run("doctor")[0] == 0


@pytest.mark.parametrize(("step", "told"), [(-3600.0, "set back by 3600 s"), (400.0, "set ahead by 400 s"), (5.0, "")])
def test_a_clock_that_was_set_is_told(node: Node, work: Work, run: Run, step: float, told: str) -> None:
    cycle(node)
    node.status.clock_step = step
    status, lines = run("status", "--json")
    found = [one for one in json.loads(lines[0])["troubles"] if one["check"] == "clock"]
    assert (status, len(found)) == ((1, 1) if told else (0, 0))
    assert all(told in one["message"] and one["fix"] == "timedatectl status" for one in found)


# -- a daemon that hangs


@pytest.fixture(params=["stopped", "accepts and never answers", "answers byte by byte", "too many wait"])
def silent(request: pytest.FixtureRequest, node: Node, config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yields how a daemon hangs that holds the lock and has the socket open."""
    held = lock.acquire(lock.path())
    many = request.param == "too many wait"
    monkeypatch.setattr(status_command, "WAIT", 0.3)
    monkeypatch.setattr(devices_command, "WAIT", 0.3, raising=False)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(control_socket.path()))
        listener.listen(0 if many else 16)
        if many:
            other.connect(str(control_socket.path()))
        end = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                while request.param == "answers byte by byte" and not end.wait(0.02):
                    with contextlib.suppress(OSError):  # the command has given up
                        client.sendall(b"H")
                end.wait()

        if "answers" in request.param:
            thread = threading.Thread(target=serve)
            thread.start()
        yield request.param
        end.set()
        if "answers" in request.param:
            thread.join()
    os.close(held)


def test_status_answers_beside_a_daemon_that_hangs(node: Node, silent: str, run: Run) -> None:
    status, lines = run("status", "--json")
    said = json.loads(lines[0])
    first = said["troubles"][0]
    assert (status, said["source"], first["check"], first["fix"]) == (
        2, "command", "daemon", "systemctl restart wgsyncd",
    ), silent  # fmt: skip
    assert "does not answer within" in first["message"]
    assert [(one["desired"], one["actual"]) for one in said["interfaces"]] == [(3, 3), (0, 0)]


def test_devices_are_shown_beside_a_daemon_that_hangs(node: Node, silent: str, run: Run) -> None:
    status, lines = run("devices")
    assert (status, [line.split()[1] for line in lines if "0001-DEV" in line]) == (
        0, ["0001-DEV-005", "0001-DEV-006", "0001-DEV-007"],
    ), silent  # fmt: skip
    assert "the daemon does not answer within 0.3 s" in "\n".join(lines)


def test_status_and_its_database_take_five_seconds_together() -> None:
    assert status_command.WAIT * 2 <= 5


def test_doctor_names_a_daemon_that_hangs(node: Node, quiet: None, silent: str, run: Run) -> None:
    status, lines = run("doctor", "--json")
    found = {one["check"]: one for one in json.loads(lines[0])["checks"] if one["severity"] == "fault"}
    assert (status, found["daemon"]["fix"]) == (1, "systemctl restart wgsyncd")


def test_a_database_that_hangs_beside_no_daemon_leaves_what_the_kernel_says(
    node: Node, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_command, "WAIT", 0.3)
    node.start()
    monkeypatch.setattr(node.store, "snapshot", threading.Event().wait)
    status, lines = run("status", "--json")
    said = json.loads(lines[0])
    assert (status, [one["check"] for one in said["troubles"]]) == (2, ["daemon", "database"])
    assert "no answer within 0.3 s" in said["database"]["error"]
    assert [(one["desired"], one["actual"]) for one in said["interfaces"]] == [(None, 3), (None, 0)]


def test_findings_are_faults_or_warnings_with_a_command(node: Node, work: Work, run: Run) -> None:
    everybody(node)
    for one in json.loads(run("status", "--json")[1][0])["troubles"]:
        assert one["severity"] in (Severity.FAULT, Severity.WARNING)
        assert one["fix"]
