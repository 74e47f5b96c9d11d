"""The control socket by itself: who may ask, what is no question, and that nobody holds it up for the others."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wait import until
from wgsyncd.daemon import control
from wgsyncd.daemon.control import Caller, Control, NobodyListensError, OtherConfigurationError
from wgsyncd.errors import UserError


class Main:
    """The main thread's side: counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def main() -> Main:
    return Main()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def server(file: Path, tmp_path: Path, main: Main) -> Iterator[Control]:
    made = Control(file, tmp_path / "a.toml", main.wake, {"now": lambda: {"it": "is"}}, frozenset({"later"}))
    yield made
    made.close()


def raw(file: Path, said: bytes, *, end: bool = False) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as actual:
        actual.settimeout(30)
        actual.connect(str(file))
        actual.sendall(said)
        if end:
            actual.shutdown(socket.SHUT_WR)
        with actual.makefile("rb") as answer:
            found: dict[str, Any] = json.loads(answer.readline())
            return found


def test_what_only_reads_is_answered_without_the_main_thread(server: Control, file: Path, main: Main) -> None:
    assert control.ask(file, "now", {}) == {"it": "is"}
    assert main.woken == 0


def test_the_rest_waits_for_the_main_thread_which_knows_who_asked(server: Control, file: Path, main: Main) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(control.ask, file, "later", {"devices": ["D-1"]})
        until(lambda: main.woken, 10, "woken")
        request = server.take()
        assert request is not None
        assert (request.command, request.devices()) == ("later", ("D-1",))
        assert request.who == f"root (uid 0, pid {os.getpid()})" or os.getuid()
        request.answer({"done": 1})
        assert asked.result(10) == {"done": 1}
        refused = pool.submit(control.ask, file, "later", {})
        until(lambda: main.woken == 2, 10, "again")
        second = server.take()
        assert second is not None
        second.fail("no")
        with pytest.raises(UserError, match="^no$"):
            refused.result(10)
    assert server.take() is None


JUNK = [b"\n", b"null\n", b"[]\n", b"{}\n", b"{\n", b'{"command": []}\n', b'{"command": "other"}\n', b"\xff\xfe\n",
        b'"command"\n', b"[" * 5000 + b"\n", b'{"command": "now"}{"command": "now"}\n']  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_request_is_told_so(server: Control, file: Path, main: Main, junk: bytes) -> None:
    answer = raw(file, junk)
    assert (answer["ok"], main.woken) == (False, 0)
    assert control.ask(file, "now", {}) == {"it": "is"}


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(said: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(said)
        here.shutdown(socket.SHUT_WR)
        answer = Control._answer(_Deaf(), there, "me")
    assert answer["ok"] is False


class _Deaf(Control):
    """Without a socket, and with no command that could be hit by chance."""

    def __init__(self) -> None:
        self._config, self._now, self._later = "/a", {}, frozenset()


def test_a_request_that_is_too_long_or_never_ends_is_given_up(
    server: Control, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raw(file, b"x" * (control.LONGEST_REQUEST + 1))["ok"] is False
    assert raw(file, b'{"command": "now"}', end=True)["ok"] is False
    monkeypatch.setattr(control, "REQUEST_WITHIN", 0.05)
    assert raw(file, b'{"command": "no')["ok"] is False


def test_one_who_says_nothing_holds_nobody_up(server: Control, file: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(file))
        assert control.ask(file, "now", {}) == {"it": "is"}


def test_so_many_clients_and_no_more(server: Control, file: Path) -> None:
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(control.CLIENTS)]
    try:
        for one in silent:
            one.connect(str(file))
        until(lambda: len(server._clients) == control.CLIENTS, 10, "all are in")
        with pytest.raises(UserError, match="others are being answered: try again"):
            control.ask(file, "now", {})
    finally:
        for one in silent:
            one.close()
    until(lambda: not any(one.is_alive() for one in server._clients), 10, "they are gone")
    assert control.ask(file, "now", {}) == {"it": "is"}


def test_so_many_wait_for_the_main_thread_and_who_only_reads_does_not(server: Control, file: Path, main: Main) -> None:
    with ThreadPoolExecutor(control.WAITING) as pool:
        waiting = [pool.submit(control.ask, file, "later", {}) for _ in range(control.WAITING)]
        until(lambda: main.woken == control.WAITING, 10, "all wait")
        with pytest.raises(UserError, match="wait for the daemon already"):
            control.ask(file, "later", {})
        assert control.ask(file, "now", {}) == {"it": "is"}
        server.close()
        for one in waiting:
            with pytest.raises(UserError, match="the daemon stops"):
                one.result(10)


def test_no_answer_of_the_main_thread_in_time(server: Control, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no answer within 0 s"):
        control.ask(file, "later", {}, 0.05)
    monkeypatch.setattr(control, "ANSWER_WITHIN", 0.05)
    with pytest.raises(UserError, match="has not come to it within 0 s"):
        control.ask(file, "later", {})


@pytest.mark.parametrize(("uid", "gids", "allowed"), [
    (0, {5}, True), (os.geteuid(), {5}, True), (12345, {os.getegid()}, True), (12345, {6, os.getegid()}, True),
    (12345, {12345}, False),
])  # fmt: skip
def test_who_may_ask(
    server: Control, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uid: int,
    gids: set[int], allowed: bool,
) -> None:  # fmt: skip
    """The file's mode keeps others out already; this holds where somebody has changed that."""
    monkeypatch.setattr(control, "_caller", lambda _: Caller(uid, frozenset(gids), 77))
    if allowed:
        assert control.ask(file, "now", {}) == {"it": "is"}
        return
    with pytest.raises(UserError, match="not permitted: run this as root or in the group wgsyncd"):
        control.ask(file, "now", {})


def test_who_asks_is_what_the_kernel_says() -> None:
    here, there = socket.socketpair()
    with here, there:
        caller = control._caller(there)
    assert (caller.uid, caller.pid) == (os.getuid(), os.getpid())
    assert caller.gids == {os.getgid(), *os.getgroups()}
    assert str(Caller(54321, frozenset(), 9)) == "unknown (uid 54321, pid 9)"


def test_the_socket_is_for_the_group_and_that_of_a_killed_process_is_taken_over(file: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(file))
    with pytest.raises(NobodyListensError, match="no wgsyncd runs here"):
        control.ask(file, "now", {})
    server = Control(file, tmp_path, lambda: None, {"now": dict}, frozenset())
    assert file.stat().st_mode & 0o777 == 0o660
    assert control.ask(file, "now", {}) == {}
    server.close()
    assert not file.exists()
    with pytest.raises(NobodyListensError):
        control.ask(file, "now", {})


def test_a_place_where_none_can_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no commands can be taken: No such file or directory"):
        Control(tmp_path / "none" / "control.sock", tmp_path, lambda: None, {}, frozenset())


def test_a_question_about_another_configuration_is_not_answered(server: Control, file: Path, tmp_path: Path) -> None:
    assert control.ask(file, "now", {"config": str(tmp_path / "a.toml")}) == {"it": "is"}
    with pytest.raises(OtherConfigurationError, match=r"the daemon runs with .*a\.toml"):
        control.ask(file, "now", {"config": "/etc/other.toml"})


def test_who_is_turned_away_before_he_has_asked_is_told_so(file: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(file))
        listener.listen()

        def turn_away() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b'{"ok": false, "error": "too many"}\n')

        turned = pool.submit(turn_away)

        def late(_: object) -> str:  # what is asked is put together when the other side has gone
            turned.result(10)
            return "{}"

        with mock.patch.object(json, "dumps", late), pytest.raises(UserError, match="^too many$"):
            control.ask(file, "now", {})


@pytest.mark.parametrize("answer", [b"", b"{", b"no json\n"])
def test_a_daemon_that_goes_away_while_it_answers(file: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(file))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(answer)

        served = pool.submit(serve)
        with pytest.raises(UserError, match="the daemon went away"):
            control.ask(file, "now", {})
        served.result(10)
