"""--watch follows keys, and gives the terminal its old mode back at every end."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.asked_daemon import Work
from tests.node import Node
from tests.wait import until
from wgsyncd.cli.watch import WatchView

_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen:
    """A command on a terminal of its own, which another process runs."""

    def __init__(self, argv: list[str], columns: int, lines: int, **env: str) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines), **env}
        hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup(1) may ignore it, and a child inherits that
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wgsyncd", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        signal.signal(signal.SIGHUP, hangup)
        self.said, self.since = "", 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self.said += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return

    def seen(self, text: str) -> None:
        """Wait until a text appears that was not there when the last key was typed."""
        until(lambda: text in self.now, 20, text)

    @property
    def now(self) -> str:
        """What was drawn since the last key."""
        return _CODES.sub("", self.said[self.since :])

    def type(self, keys: str) -> None:
        self.since = len(self.said)
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Returns the exit status. The terminal has its old mode, its old screen and its cursor."""
        status = self.process.wait(60)
        assert termios.tcgetattr(self.slave) == self.before
        until(lambda: {"\x1b[?1049l", "\x1b[?25h"} <= set(_CODES.findall(self.said)), 20, "the old screen")
        return status


Open = Callable[..., Screen]


@pytest.fixture
def screen(node: Node, work: Work, config: Path) -> Iterator[Open]:
    opened: list[Screen] = []

    def made(*argv: str, columns: int = 80, lines: int = 24, **env: str) -> Screen:
        opened.append(Screen([argv[0], "--config", str(config), "--watch", "0.2", *argv[1:]], columns, lines, **env))
        return opened[-1]

    yield made
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.slave)


@pytest.mark.parametrize("command", ["devices", "status"])
def test_keys_filter_show_the_plan_and_leave(node: Node, screen: Open, command: str) -> None:
    node.db.update(5, status="paused")
    shown = screen(command, lines=40)
    shown.seen("0001-DEV-006")
    shown.seen("q quit, p plan, / filter")
    shown.type("/007\r")
    shown.seen("/007 (Esc clears)")
    shown.type("p")
    shown.seen("1 to remove")
    shown.type("p")
    shown.seen("0001-DEV-007")
    assert "○  0001-DEV-006" not in shown.now
    shown.type("q")
    assert shown.ended() == 0


@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(screen: Open, end: signal.Signals, status: int) -> None:
    shown = screen("devices")
    shown.seen("0001-DEV-006")
    shown.process.send_signal(end)
    assert shown.ended() == status


def test_a_bug_leaves_the_terminal_as_it_was(screen: Open, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import wgsyncd.cli.output as o\ndef fails(*_): raise ZeroDivisionError\no.moment = fails\n"
    )
    shown = screen("devices", PYTHONPATH=f"{tmp_path}:{os.getcwd()}")
    until(lambda: shown.process.poll() is not None, 20, "it ends")
    assert shown.ended() == 1


@contextmanager
def typing() -> Iterator[WatchView]:
    view = WatchView()
    view.press("/")
    yield view


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("abc", "abc"),
        ("端末", "端末"),
        ("ab\x7f", "a"),
        ("ab\x15c", "c"),
        ("q", "q"),
        ("a\x07b", "ab"),
        ("a\x1b", ""),
        ("a\n", "a"),
    ],
)
def test_what_is_typed_is_the_filter(keys: str, text: str) -> None:
    with typing() as view:
        for key in keys:
            assert view.press(key)
        assert view.text == text


def test_other_keys_do_nothing() -> None:
    view = WatchView()
    assert all(view.press(key) for key in ("\x1b[A", "\x1bOP", "x", "\x04", "\x00", "é", ""))
    assert (view.plan, view.text, view.is_typing) == (False, "", False)
    assert not view.press("q")
