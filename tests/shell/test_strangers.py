"""A stranger's signal, a terminal, a reader or a file that is not as expected ends no process and hides no line."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from wgsyncd import log
from wgsyncd.cli import output
from wgsyncd.cli.commands import run
from wgsyncd.cli.doctor import files
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import Event, EventQueue, ShutdownTimeout


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Puts the signal handlers back that a test has changed."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM)
    before = [(one, signal.getsignal(one)) for one in numbers]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
def test_a_strange_alarm_ends_nothing_and_the_own_one_does() -> None:
    events = EventQueue()
    events.install_signal_handlers(stop_within=60)
    signal.raise_signal(signal.SIGALRM)
    assert events.take(0) == []
    signal.raise_signal(signal.SIGTERM)
    assert events.take(0) == [Event.STOP]
    with pytest.raises(ShutdownTimeout):
        signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize("how", ["alone", "behind another exception", "before a bug"])
@pytest.mark.usefixtures("own_handlers")
def test_an_end_that_takes_too_long_is_no_bug(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The alarm may come wherever the main thread waits, for example in a lock, which then raises an error of its own."""

    def work(args: argparse.Namespace, events: EventQueue) -> int:
        log.configure("info", "logfmt")
        if how == "before a bug":
            raise RuntimeError("release unlocked lock")
        signal.raise_signal(signal.SIGTERM)
        try:
            signal.raise_signal(signal.SIGALRM)
        except ShutdownTimeout:
            if how == "alone":
                raise
            raise RuntimeError("release unlocked lock") from None
        return 1

    monkeypatch.setattr(run, "_run", work)
    if how == "before a bug":
        with pytest.raises(RuntimeError):
            run.run(argparse.Namespace())
    else:
        assert run.run(argparse.Namespace()) == 0
        assert "stopped without a last account" in "".join(capsys.readouterr())


def test_a_pipe_that_nobody_reads_loses_lines_and_says_how_many() -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        try:
            log.configure("info", "logfmt", stream)
            for number in range(5000):
                log.get("test").info("a line that fills the pipe", number=number)
            lost = log._Output.lost
            assert 0 < lost < 5000
            read = b""
            while b"number=0" not in read or len(read) < 60_000:
                read += os.read(reading, 65536)
            log.get("test").info("again")
            assert f"{lost} lines of the log were lost".encode() in os.read(reading, 65536)
            assert log._Output.lost == 0
        finally:
            log.configure()
            os.close(reading)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "euc-jp"])
def test_a_terminal_that_cannot_show_a_character_gets_an_escape(tmp_path: Path, encoding: str) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[node]\nname = "東京…ä"\n[interfaces.wg0]\nnetworks = ["10.0.0.0/24"]\n', encoding="utf-8")
    argv = [sys.executable, "-m", "wgsyncd", "check-config", "--config", str(config)]
    for text in (None, "mtu = 1\nname = 東京…\n"):
        if text is not None:
            config.write_text(text, encoding="utf-8")
        done = subprocess.run(argv, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if text is None else 2)


def test_a_document_shows_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    class Report(msgspec.Struct):
        names: dict[str, list[str]]

    output.print_json(Report({"\x9b31m": ["\N{RIGHT-TO-LEFT OVERRIDE}x", "\x1b[2J"]}))
    assert [one for one in capsys.readouterr().out.rstrip("\n") if not one.isprintable()] == []


def test_the_interface_behind_a_peer_stays(tmp_path: Path) -> None:
    """The command that doctor prints removes the peers alone, wherever their sections stand."""
    file = tmp_path / "wg0.conf"
    file.write_text(
        "[Peer]\nPublicKey = x\n\n [ Interface]\n[interface]\nAddress = 10.0.0.1/24\n# a note\n  [PEER]\nA = 1\n"
    )
    file.chmod(0o600)
    [finding] = files.wg_quick_files(["wg0"], tmp_path, rows=["x"])
    subprocess.run(["sh", "-ec", finding.fix], check=True)
    assert file.read_text() == " [ Interface]\n[interface]\nAddress = 10.0.0.1/24\n# a note\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Peer" in (tmp_path / "wg0.conf.old").read_text()
    assert shutil.which("awk")


@pytest.mark.parametrize("bug", [RuntimeError, RecursionError, UnicodeError, AssertionError])
def test_a_reload_that_meets_a_bug_is_refused(
    idle_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, bug: type[Exception]
) -> None:
    agent, settings = idle_daemon.agent, idle_daemon.settings

    def broken(*_: object) -> Settings:
        raise bug("broken")

    with monkeypatch.context() as patch:
        patch.setattr(load, "load", broken)
        [fault] = idle_daemon.reload("a test")
    assert bug.__name__ in fault.why
    monkeypatch.setattr(idle_daemon, "build", broken)
    [fault] = idle_daemon.reload("a test")
    assert (idle_daemon.agent, idle_daemon.settings) == (agent, settings)


def test_a_reload_of_an_unreadable_file_is_refused(idle_daemon: Daemon) -> None:
    idle_daemon.path.write_text("a = " + "[" * 5000)
    [fault] = idle_daemon.reload("a test")
    assert "nested too deeply (at line 1)" in fault.why
