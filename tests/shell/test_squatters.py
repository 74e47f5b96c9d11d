"""A user without rights who takes a name or a port first keeps no daemon out, and another wgsyncd still does."""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wgsyncd.cli import client
from wgsyncd.cli.client import NobodyListensError
from wgsyncd.daemon import control_socket, lock, notify_socket
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import Event
from wgsyncd.daemon.machine import LocalMachine
from wgsyncd.engine.reports.status_document import StatusReport
from wgsyncd.errors import UserError

NOBODY = 65534


def _bound(name: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"\0{name}")
    return one


def listening(name: str) -> list[socket.socket]:
    one = _bound(name)
    one.listen(1)
    return [one]


def silent(name: str) -> list[socket.socket]:
    return [_bound(name)]


def full(name: str) -> list[socket.socket]:
    """A queue of connections without room for one more."""
    one = _bound(name)
    one.listen(0)
    held = [one]
    while True:
        client_side = socket.socket(socket.AF_UNIX)
        client_side.setblocking(False)
        held.append(client_side)
        try:
            client_side.connect(f"\0{name}")
        except BlockingIOError:
            return held


def port(number: str) -> list[socket.socket]:
    return [socket.create_server(("127.0.0.1", int(number)))]


@contextmanager
def squatter(take: Callable[[str], list[socket.socket]], name: str, uid: int = NOBODY) -> Iterator[int]:
    """A process of an ordinary user takes the name. Yields its pid."""
    ready, told = os.pipe()
    done, end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setresuid(uid, uid, uid)
            held = take(name)
            os.close(end)
            os.write(told, b"!" * bool(held))
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(told)
    os.close(done)
    try:
        assert os.read(ready, 1) == b"!", "the name could not be taken"
        yield pid
    finally:
        os.close(end)
        os.close(ready)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("take", [listening, silent, full])
def test_a_strangers_name_keeps_nobody_out(name: str, take: Callable[[str], list[socket.socket]]) -> None:
    with squatter(take, f"wgsyncd.{name}"), squatter(take, f"wgsyncd.if.{name}"):
        claims = lock.Claims(name, [name])
        assert lock.running(name) is None, "a stranger is no daemon"
        claims.close()
    claims = lock.Claims(name, [name])
    assert lock.running(name) == os.getpid()
    claims.close()


@pytest.mark.parametrize("uid", [1, 33, 998, 1001])
def test_a_broken_into_service_keeps_nobody_out(name: str, uid: int) -> None:
    """www-data has the uid 33. The database keeps two daemons apart: see tests/engine/test_one_counter.py."""
    with squatter(listening, f"wgsyncd.{name}", uid), squatter(listening, f"wgsyncd.if.{name}", uid):
        lock.Claims(name, [name]).close()
    assert not lock._is_ours(lock.Credentials(pid=0, uid=33, gid=33)), "seen from inside of a container"


def test_the_units_account_keeps_a_second_one_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_ACCOUNT", "nobody")
    with squatter(listening, f"wgsyncd.{name}"), pytest.raises(UserError, match="another wgsyncd runs for node"):
        lock.Claims(name, ())


def test_a_state_directory_has_one_daemon(tmp_path: Path) -> None:
    """Its digest proves to the next daemon that the former one is gone."""
    first = _locked(tmp_path)
    kept = lock.lock_folder(tmp_path)
    assert kept == first, "the lock goes with its process"
    with pytest.raises(UserError, match=f"another wgsyncd runs with the state directory {tmp_path}: stop it first"):
        lock.lock_folder(tmp_path)
    assert lock.lock_folder(tmp_path / "other") != first


def test_a_directory_that_cannot_be_locked_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = tmp_path / "missing" / "folder"
    assert lock.lock_folder(nowhere) != lock.lock_folder(nowhere)
    assert "the state directory cannot be locked" in capsys.readouterr().out


def test_files_of_root_in_the_state_directory_do_no_harm(tmp_path: Path) -> None:
    """An admin has started the daemon by hand, or has put the directory back. Its owner is right again since."""
    before = _locked(tmp_path, 0)
    LocalMachine(tmp_path).revision = 7
    (tmp_path / "revision").chmod(0o600)
    tmp_path.chmod(0o700)
    os.chown(tmp_path, NOBODY, NOBODY)
    assert _locked(tmp_path, NOBODY, revision=9) == before
    assert LocalMachine(tmp_path).revision == 9


def _locked(folder: Path, uid: int = 0, revision: int = 0) -> str:
    """The digest of a directory that a process of ``uid`` has locked. The process is gone. It may note a revision."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.chdir(folder)  # Other users may not pass the directories of pytest.
        os.setuid(uid)
        os.write(writing, lock.lock_folder(Path()).encode())
        if revision:
            LocalMachine(Path()).revision = revision
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        return answer.read()


def test_another_wgsyncd_still_does_also_after_it_was_asked_often(name: str) -> None:
    claims = lock.Claims(name, [name])
    for _ in range(100):
        with pytest.raises(UserError, match=f"another wgsyncd runs for node .* pid {os.getpid()}: stop it first"):
            lock.Claims(name, ())
        with pytest.raises(UserError, match=f"another wgsyncd runs on interface .* pid {os.getpid()}: stop it first"):
            lock.Claims(f"{name}-2", [name])
        claims.answer()
    claims.close()


def test_names_that_are_too_long_for_an_address_are_told_apart(name: str) -> None:
    names = [name + "京" * 47 + one for one in "都東"]
    claims = [lock.Claims(name, ()) for name in names]
    for name in names:
        assert lock.running(name) == os.getpid()
        with pytest.raises(UserError, match="another wgsyncd runs"):
            lock.Claims(name, ())
    for one in claims:
        one.close()


def test_a_port_that_somebody_else_has_is_a_warning_and_is_tried_again(idle_daemon: Daemon) -> None:
    address = idle_daemon.settings.metrics.address
    assert address is not None
    with squatter(port, str(address[1])):
        idle_daemon._sockets.open(idle_daemon.settings.metrics.address)
        idle_daemon._handle(Event.HEARTBEAT)
        assert idle_daemon._monitoring.address is None
        assert client.ask("/status"), "commands work"
    idle_daemon._handle(Event.HEARTBEAT)
    assert idle_daemon._monitoring.address == address


def test_what_somebody_removed_under_the_daemon_comes_back_with_a_reload(idle_daemon: Daemon) -> None:
    held = lock.acquire(lock.path())
    idle_daemon._sockets.open(idle_daemon.settings.metrics.address)
    for file in (lock.path(), control_socket.path(), notify_socket.path()):
        file.unlink()
    with pytest.raises(NobodyListensError, match="no wgsyncd runs here"):
        client.ask("/status")  # This command does not know the node.
    assert client.running_daemon(idle_daemon.path) == os.getpid()
    idle_daemon.reload("a test")
    assert client.ask("/status")
    assert notify_socket.path().is_socket()
    assert lock.holder(lock.path()) == os.getpid()
    os.close(held)


def test_a_directory_that_is_gone_is_told_with_what_helps(
    idle_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle_daemon._sockets.open(idle_daemon.settings.metrics.address)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "gone"))
    asked = client.ask_daemon(argparse.Namespace(config=idle_daemon.path), StatusReport, "/status", "GET")
    assert asked == (
        None,
        (
            client.Absence.HANGS,
            f"wgsyncd runs (pid {os.getpid()}), but nobody listens. If it has not just started: systemctl restart wgsyncd",
        ),
    )


def test_no_more_descriptors_are_told_and_leave_nothing_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = socket.socket, [0]

    def make(*args: int) -> socket.socket:
        if not left[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left[0] -= 1
        return real(*args)

    monkeypatch.setattr(socket, "socket", make)
    for count in range(3):
        left[0] = count
        with pytest.raises(UserError, match="Too many open files"):
            lock.Claims("r641", ("wg7", "wg8"))
    left[0] = 0
    assert lock.running("r641") is None
    with pytest.raises(UserError, match="no hints: Too many open files"):
        lock.bind(tmp_path / "notify.sock", socket.SOCK_DGRAM, "no hints")
    left[0] = 3
    lock.Claims("r641", ("wg7", "wg8")).close()


def test_a_command_that_asks_for_the_holder_refuses_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wgsyncd status` locks the file for a moment. A daemon may start in this moment."""
    file = tmp_path / "lock"
    file.touch()
    asking = os.open(file, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
    held = lock.acquire(file)
    assert lock.holder(file) == os.getpid()
    os.close(asking)
    with pytest.raises(UserError, match=f"pid {os.getpid()} holds"):
        lock.acquire(file)
    os.close(held)
