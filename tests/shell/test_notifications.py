"""Notifications over a real socket are collapsed, invalid ones are counted, and senders are answered."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wait import until
from wgsyncd.daemon import notify_socket
from wgsyncd.daemon.notify_socket import ALL, MAX_DEVICES, NotifySocket
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import UserError


class Bell:
    """Counts how often the main thread was woken."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def status() -> DaemonStatus:
    return DaemonStatus()


@pytest.fixture
def ears(tmp_path: Path, status: DaemonStatus, bell: Bell) -> Iterator[NotifySocket]:
    ears = NotifySocket(tmp_path / "notify.sock", status, bell)
    yield ears
    ears.close()


def say(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as actual:
        for one in datagrams:
            actual.sendto(one, str(path))


def test_hints_are_collapsed_until_they_are_taken(
    ears: NotifySocket, tmp_path: Path, status: DaemonStatus, bell: Bell
) -> None:
    say(tmp_path / "notify.sock", b"A", b"B  A\n", b"C", b"\tA ")
    until(lambda: status.notifications == 4, 5, "all are in")
    assert bell.rung == 1
    assert ears.take() == frozenset("ABC")
    assert ears.take() is None
    say(tmp_path / "notify.sock", b"A", b"")
    until(lambda: status.notifications == 6, 5, "two more")
    assert bell.rung == 2
    assert ears.take() == ALL


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"A" * 65, b"A\x00B", b"ok \x1b[31m", "\u202e".encode()])
def test_garbage_is_counted_and_wakes_nobody(ears: NotifySocket, status: DaemonStatus, bell: Bell, junk: bytes) -> None:
    ears.put(junk)
    assert (status.notifications, status.invalid_notifications, bell.rung) == (0, 1, 0)
    assert ears.take() is None


def test_a_flood_is_all_rows_and_takes_no_room(ears: NotifySocket, bell: Bell) -> None:
    for number in range(100_000):
        ears.put(b"D-%d" % number)
    assert len(ears._waiting) == MAX_DEVICES + 1
    assert bell.rung == 1
    assert ears.take() == ALL
    ears.put(b"D-1")
    assert ears.take() == frozenset({"D-1"})


def test_no_hint_waits_without_a_wake(tmp_path: Path, status: DaemonStatus) -> None:
    """The main thread takes notifications while others arrive. None of those waits without a wake."""
    bell = threading.Semaphore(0)
    ears = NotifySocket(tmp_path / "notify.sock", status, bell.release)

    def send() -> None:
        for number in range(30_000):
            ears.put(b"D-%d" % number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        sender = threading.Thread(target=send)
        sender.start()
        while bell.acquire(timeout=0.5):
            ears.take()
        sender.join()
        assert not ears.pending
    finally:
        sys.setswitchinterval(before)
        ears.close()
    assert status.notifications == 30_000, "and its end is none"


def test_many_devices_in_one_are_all_rows(ears: NotifySocket) -> None:
    ears.put(b" ".join(b"D-%d" % number for number in range(MAX_DEVICES + 1)))
    assert ears.take() == ALL


def test_the_socket_of_a_process_that_was_killed_is_taken_over(
    tmp_path: Path, status: DaemonStatus, bell: Bell
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "notify.sock"))
    ears = NotifySocket(tmp_path / "notify.sock", status, bell)
    assert (tmp_path / "notify.sock").stat().st_mode & 0o777 == 0o660
    say(tmp_path / "notify.sock", b"D-1")
    until(lambda: bell.rung, 5, "heard")
    ears.close()
    assert not (tmp_path / "notify.sock").exists()


def test_a_place_where_none_can_be_is_said(tmp_path: Path, status: DaemonStatus, bell: Bell) -> None:
    with pytest.raises(UserError, match="no notifications can be received: No such file or directory"):
        NotifySocket(tmp_path / "none" / "notify.sock", status, bell)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_hint_or_are_not(datagram: bytes) -> None:
    try:
        devices = notify_socket.parse(datagram)
    except ValueError:
        return
    assert all(device.isprintable() and 0 < len(device) <= 64 for device in devices)
