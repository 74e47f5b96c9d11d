"""The daemon tells systemd its state through NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsyncd.daemon.systemd import Notifier

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


class Systemd:
    """Plays the other end of NOTIFY_SOCKET."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def heard(self) -> list[str]:
        """Returns the datagrams so far. On one machine, a datagram arrives before the send call returns."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.sock.recv(4096).decode("ascii"))
            except BlockingIOError:
                return datagrams


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield Systemd(sock)


@pytest.fixture
def notifier(systemd: Systemd) -> Iterator[Notifier]:
    one = Notifier()
    yield one
    one.close()


def test_life(systemd: Systemd, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready("wg0 250 peers")
    notifier.status("wg0 250 peers")  # the same status is not sent again
    notifier.status("wg0 251 peers")
    notifier.reloading()
    notifier.ready("wg0 251 peers")
    notifier.stopping("stopping")
    first, second, reloading, ready, stopping = systemd.heard()
    assert first == "READY=1\nSTATUS=wg0 250 peers"
    assert second == "STATUS=wg0 251 peers"
    head, usec = reloading.rsplit("=", 1)
    assert head == "RELOADING=1\nMONOTONIC_USEC"
    assert before <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert ready == "READY=1"
    assert stopping == "STOPPING=1\nSTATUS=stopping"


def test_status_is_one_short_ascii_line_without_keys(systemd: Systemd, notifier: Notifier) -> None:
    notifier.status(f"端末 {KEY}\nWATCHDOG=trigger\x00 " + "x" * 5000)
    (datagram,) = systemd.heard()
    assert datagram.startswith("STATUS=? xTIBA5rb... WATCHDOG=trigger? xxx")
    assert "\n" not in datagram
    assert len(datagram) < 600


def test_watchdog_only_where_one_watches(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    for usec, pid, interval in (
        ("60000000", str(os.getpid()), 60.0),
        ("1500000", "", 1.5),
        ("60000000", "1", None),
        ("0", "", None),
        ("nonsense", "", None),
    ):
        monkeypatch.setenv("WATCHDOG_USEC", usec)
        monkeypatch.setenv("WATCHDOG_PID", pid)
        notifier = Notifier()
        assert notifier.watchdog_interval == interval
        notifier.watchdog()
        assert systemd.heard() == (["WATCHDOG=1"] if interval else [])
        notifier.close()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    for call in (notifier.ready, notifier.reloading, notifier.stopping, notifier.watchdog, notifier.close):
        call()
    notifier.status("unheard")


def test_systemd_gone(systemd: Systemd, notifier: Notifier) -> None:
    systemd.sock.close()
    notifier.ready("unheard")


def test_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0wgsyncd-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@wgsyncd-test-{os.getpid()}")
        notifier = Notifier()
        notifier.ready()
        notifier.close()
        assert sock.recv(100) == b"READY=1"
