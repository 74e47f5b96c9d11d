"""The parts of `wgsyncd doctor` that need no database and no systemd report the right findings."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.node import CONFIG
from tests.samples import key
from tests.terminal import on_a_terminal
from wgsyncd.cli import main, output
from wgsyncd.cli.commands import doctor as command
from wgsyncd.cli.doctor import files, system
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import Finding, Severity, fault, ok, warning
from wgsyncd.core.model import encode_key
from wgsyncd.stores.border import Unsupported
from wgsyncd.stores.mikyun import doctor
from wgsyncd.stores.mikyun.connection import version_of
from wgsyncd.stores.mikyun.doctor import Database
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.trouble import translate

SETTINGS = parse(CONFIG)
GOOD = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled",
        "MainPID": "7", "NRestarts": "0", "NeedDaemonReload": "no", "User": "wgsyncd", "StatusText": "wg0: 3 peers"}  # fmt: skip
OURS = Database("10.11.19-MariaDB-0+deb12u1", "'mikyun'@'127.0.0.1'", "/run/mysqld/mysqld.sock", "", False, ("r640",), (),
                (), (), 32400, 32400, 0.0, 0.01, None)  # fmt: skip


def worst(findings: Any) -> Finding:
    found: list[Finding] = list(findings)
    return max(found, key=lambda one: list(Severity).index(one.severity))


# -- the unit


@pytest.mark.parametrize(
    ("change", "level", "why"),
    [
        ({}, "ok", "active (running): wg0: 3 peers"),
        ({"LoadState": "not-found"}, "fault", "wgsyncd.service is not-found"),
        ({"ActiveState": "failed", "ExecMainStatus": "2"}, "fault", "it failed: a bad configuration"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "fault", "it failed: watchdog"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "fault", "it is activating (auto-restart)"),
        ({"MainPID": "8"}, "fault", "its pid is 8, but 7 holds the lock: started by hand?"),
        ({"NeedDaemonReload": "yes"}, "warning", "its file has changed since systemd read it"),
        ({"NRestarts": "3"}, "warning", "active (running), but systemd had to restart it 3 times"),
        ({"UnitFileState": "disabled"}, "warning", "wgsyncd.service is disabled"),
    ],
)
def test_units(change: dict[str, str], level: str, why: str) -> None:
    one = worst(system._unit(GOOD | change, 7))
    assert (one.severity.value, one.message) == (level, why)
    assert bool(one.fix) == (level != "ok")


def test_no_systemd_is_no_fault() -> None:
    assert worst(system._unit(None, 7)).severity is Severity.WARNING


def test_nobody_runs() -> None:
    assert system._daemon(None, GOOD).fix == "systemctl enable --now wgsyncd"
    masked = "systemctl unmask wgsyncd && systemctl enable --now wgsyncd"
    assert system._daemon(None, {"LoadState": "masked"}).fix == masked
    assert worst(system._unit({"LoadState": "masked"}, None)).fix == masked
    assert system._daemon(None, {"LoadState": "not-found"}).fix.startswith(
        "apt-get install --reinstall ./wgsyncd_*.deb"
    )


def test_a_process_without_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_status", lambda _: {"CapEff": "0000000000000400"})
    assert system._capability(7).severity is Severity.FAULT
    monkeypatch.setattr(system, "_status", lambda _: {"CapEff": "0000000000001000"})
    assert system._capability(7).severity is Severity.OK
    monkeypatch.setattr(system, "_status", lambda _: {})
    assert system._capability(7).severity is Severity.WARNING


# -- files


def test_wg_quick_files(tmp_path: Path) -> None:
    assert [one.severity for one in files.wg_quick_files(["wg0"], tmp_path)] == [Severity.OK]
    (tmp_path / "wg0.conf").write_text("[Interface]\nListenPort = 1\n")
    (tmp_path / "wg7.conf").write_text("[Peer]\n")
    assert [one.severity for one in files.wg_quick_files(["wg0"], tmp_path)] == [Severity.OK], "wg7 is not ours"
    (tmp_path / "wg0.conf").write_text("[Interface]\n[peer]\nPublicKey = x\n # [Peer]\n")
    (one,) = files.wg_quick_files(["wg0"], tmp_path)
    assert "has 1 [Peer] section:" in one.message
    assert one.fix == "wgsyncd adopt", "it knows which of them are of rows"
    (one,) = files.wg_quick_files(["wg0"], tmp_path, rows=["y"])
    assert one.fix == f"editor {tmp_path}/wg0.conf", "no command removes a peer of no row: it would not come back"
    (tmp_path / "wg0.conf").write_text(f"[Peer]\nPublicKey = {encode_key(key(9))}\n")
    (one,) = files.wg_quick_files(["wg0"], tmp_path, kept=[key(9)])
    assert one.severity is Severity.OK, "peers.always_keep says that it stays"


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(free: int) -> Callable[[Path], Any]:
        return lambda _: type("Usage", (), {"free": free})()

    for free, level in ((1 << 20, Severity.FAULT), (100 << 20, Severity.WARNING), (9 << 30, Severity.OK)):
        monkeypatch.setattr(shutil, "disk_usage", usage(free))
        assert files._disk(tmp_path / "not" / "yet").severity is level
    monkeypatch.setattr(Path, "is_mount", lambda one: one in (tmp_path, Path("/")))
    monkeypatch.setattr(shutil, "disk_usage", usage(0))
    look = f"du -xh --max-depth=2 {tmp_path} | sort -h | tail"
    assert files._disk(tmp_path / "not" / "yet").fix.endswith(look), "du -x shows nothing of another file system"


def test_a_service_whose_user_is_gone(tmp_path: Path) -> None:
    one = files._state(tmp_path, None, has_unit=True)
    assert (one.severity, one.fix) == (Severity.FAULT, "systemd-sysusers && systemctl restart wgsyncd")
    assert files._state(tmp_path, None, has_unit=False).severity is Severity.WARNING, "nothing is installed"


# -- the database


def told(**changes: Any) -> list[Finding]:
    from dataclasses import replace

    return list(doctor.check(SETTINGS, lambda _: replace(OURS, **changes)))


def test_a_good_database() -> None:
    assert worst(told()).severity is Severity.OK
    said = [one.message for one in told(holder="host alpha, heartbeat 21 s ago")]
    assert "wgsyncd's own are there, for r640. r640: host alpha, heartbeat 21 s ago" in said


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"version": "11.4.2-MariaDB-ubu2404"}, "server", "ok"),
        ({"session_offset": 0}, "time zone", "fault"),
        ({"server_offset": 0}, "time zone", "warning"),
        ({"ahead": -3.0}, "database clock", "fault"),
        ({"ahead": -3.0, "doubt": 2.0}, "database clock", "ok"),
        ({"nodes": ()}, "tables", "ok"),
        ({"extra": ("DROP on everything",)}, "rights", "warning"),
        ({"schema": "of version 9", "newer": True}, "tables", "fault"),
    ],
)
def test_databases(changes: dict[str, Any], check: str, level: str) -> None:
    found = next(one for one in told(**changes) if one.check == check)
    assert found.severity.value == level
    assert "SET GLOBAL time_zone" not in found.fix, "a cure for this node must not change the server for everybody"


@pytest.mark.parametrize(("number", "mend"), [(2003, "systemctl start mariadb"),
                                              (2013, 'timeout 5 mariadb -e "SHOW FULL PROCESSLIST" || '), (1698, "id mikyun"),
                                              (1049, "mariadb -e 'CREATE DATABASE `mikyun_cloud` "),
                                              (1045, "mariadb -e \"SELECT host, plugin FROM mysql.user "),
                                              (1040, 'mariadb -e "SHOW FULL PROCESSLIST"'),
                                              (1205, "mariadb -e \"SELECT CONCAT('KILL ', id)")])  # fmt: skip
def test_databases_that_cannot_be_entered(number: int, mend: str) -> None:
    def examine(_: object) -> Database:
        raise translate(Exception(number, "why"), mikyun(SETTINGS).database, known=True, at_login=True)

    (one,) = doctor.check(SETTINGS, examine)
    assert (one.severity, one.fix.startswith(mend)) == (Severity.FAULT, True)


def test_a_server_that_is_not_supported_has_its_own_command() -> None:
    def examine(_: object) -> Database:
        raise Unsupported("8.4.2 is not MariaDB", "apt-get install mariadb-server")

    (one,) = doctor.check(SETTINGS, examine)
    assert one.fix == "apt-get install mariadb-server"


def test_versions() -> None:
    assert version_of("10.11.19-MariaDB-0+deb12u1") == (10, 11, 19)
    assert version_of("5.5.5-10.6.1") is None


# -- the port


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Writes nothing. The base class would write a line to standard error."""


def test_metrics() -> None:
    with HTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.handle_request).start()
        settings = parse(CONFIG + f'[metrics]\nlisten = "127.0.0.1:{server.server_port}"\n')
        assert "another program answers" in system._metrics(settings, 7).message
    assert system._metrics(settings, 7).severity is Severity.FAULT
    assert system._metrics(settings, None).severity is Severity.WARNING
    assert system._metrics(parse(CONFIG + '[metrics]\nlisten = ""\n'), None).severity is Severity.OK


def test_a_unix_socket_in_place_of_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As etc/doc/monitoring.md keeps others from the page. The port of the configuration is closed then."""
    path = tmp_path / "page"
    monkeypatch.setattr(system, "_ask", lambda argv: f"{path} (Stream)\n" if "wgsyncd.socket" in argv else "")
    settings = parse(CONFIG + '[metrics]\nlisten = "127.0.0.1:1"\n')
    assert system._metrics(settings, 7).severity is Severity.FAULT
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 200 OK\r\nServer: wgsyncd/1\r\nContent-Length: 3\r\n\r\nok\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = system._metrics(settings, 7)
        thread.join()
    assert (found.severity, found.message) == (Severity.OK, f"{path} answers, ready")


# -- the output


def show(checks: list[Finding]) -> None:
    output.print_lines(command._lines(command.DoctorReport(faults=1, warnings=1, checks=checks)))


def test_faults_stand_out_and_nothing_of_a_row_reaches_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [ok("a", "well"), warning("long one", "\x1b[31m", "do this"), fault("c", "bad", "do that")]
    show(some)
    assert capsys.readouterr().out.splitlines() == [
        "warning  long one  \\x1b[31m", "    do this",
        "FAULT    c         bad", "    do that", "1 fault, 1 warning, 1 ok",
    ]  # fmt: skip
    said = on_a_terminal(lambda: show(some))
    assert "\x1b[31mFAULT" in said
    assert "\\x1b[31m\x1b[0m\n" in said
    assert "\x1b[31m" not in on_a_terminal(lambda: show(some), NO_COLOR="1")


def test_a_configuration_with_faults_is_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wgsyncd.toml"
    file.write_text("[interfaces.wg0]\nmtu = 5\n")
    assert main.main(["doctor", "--config", str(file)]) == 1
    said = capsys.readouterr().out
    assert said.count("FAULT    configuration") == 2
    assert f"editor {file} && wgsyncd check-config" in said


def test_tables_of_a_newer_version_need_a_newer_package() -> None:
    newer = next(one for one in told(schema="of version 9", newer=True) if one.check == "tables")
    older = next(one for one in told(schema="of version 1") if one.check == "tables")
    assert newer.fix.startswith("apt-get install")
    assert older.fix.startswith("wgsyncd init-db")


def test_a_long_command_fits_in_80_columns() -> None:
    mend = "systemctl start postgresql && journalctl -u 'postgresql*' -n 20 --no-pager"
    said = on_a_terminal(lambda: show([fault("daemon: guard", "it does not answer", mend)]), columns=80, NO_COLOR="1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", one) for one in said.splitlines()]
    assert f"    {mend}" in lines
    assert max(map(len, lines)) <= 80
