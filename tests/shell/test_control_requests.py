"""The control socket decides who may ask and what is a request, and no client delays another."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wait import until
from wgsyncd.cli import client
from wgsyncd.cli.client import NobodyListensError, OtherConfigurationError, ask
from wgsyncd.daemon import admin, control_socket
from wgsyncd.daemon.admin import AdminRequest, AdminRequests, Approval, Nothing, Selection, read_body
from wgsyncd.daemon.control_socket import Caller, ControlSocket, caller_of
from wgsyncd.daemon.http import Refusal, Response
from wgsyncd.errors import UserError

IT_IS = b'{"it": "is"}\n'


class Main:
    """Plays the main thread of the daemon, and counts how often it is woken."""

    def __init__(self, config: Path) -> None:
        self.woken = 0
        self.requests = AdminRequests(None, config, lambda: ZoneInfo("UTC"), self.wake)  # type: ignore[arg-type]

    def wake(self) -> None:
        self.woken += 1

    def take(self) -> AdminRequest:
        request = self.requests._next()
        assert request
        return request


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return control_socket.path()


@pytest.fixture
def main(tmp_path: Path) -> Main:
    return Main(tmp_path / "a.toml")


@pytest.fixture
def server(file: Path, main: Main) -> Iterator[ControlSocket]:
    made = ControlSocket(file, main.requests.routes(lambda: {"it": "is"}, dict))
    yield made
    made.close()


def test_what_only_reads_is_answered_without_the_main_thread(server: ControlSocket, main: Main) -> None:
    assert ask("/status") == IT_IS
    assert main.woken == 0


def test_the_rest_waits_for_the_main_thread_which_knows_who_asked(server: ControlSocket, main: Main) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, "/sync", "POST", {"devices": ["D-1"]})
        until(lambda: main.woken, 10, "woken")
        request = main.take()
        assert (request.command, request.body) == ("sync", Selection(("D-1",)))
        assert request.who == f"root (uid 0, pid {os.getpid()})" or os.getuid()
        request.answer.put(Response(200, b'{"done": 1}'))
        assert asked.result(10) == b'{"done": 1}'
        refused = pool.submit(ask, "/plan", "POST")
        until(lambda: main.woken == 2, 10, "again")
        main.take().answer.put(Refusal(503, "no").response())
        with pytest.raises(UserError, match="^no$"):
            refused.result(10)
    assert main.requests._next() is None


WRONG: list[tuple[bytes, type[Any], str | None]] = [
    (b"null", Nothing, None), (b"[]", Nothing, None), (b"{", Nothing, None), (b"\xff\xfe", Nothing, None), (b'"plan"', Approval, None),
    (b"[" * 5000, Nothing, None), (b'{"a": ' + b"[" * 5000, Nothing, "a"), (b"{}{}", Nothing, None), (b'{"x": 1}', Nothing, "x"),
    (b"", Approval, "plan"), (b"{}", Approval, "plan"), (b'{"plan": 5}', Approval, "plan"), (b'{"plan": []}', Approval, "plan"),
    (b'{"plan": "a", "force": true}', Approval, "force"), (b'{"devices": "D-1"}', Selection, "devices"),
    (b'{"devices": [1]}', Selection, "devices"), (b'{"devices": null}', Selection, "devices"),
    (b'{"devices": ["\xff"]}', Selection, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "key"), WRONG)
def test_a_body_that_is_wrong_is_told_so_with_its_key(body: bytes, kind: type[Any], key: str | None) -> None:
    with pytest.raises(Refusal, match="^the body is wrong: ") as refusal:
        read_body(body, kind)
    assert (refusal.value.status, refusal.value.key) == (400, key)


@given(st.binary(max_size=100), st.sampled_from([Nothing, Approval, Selection]))
def test_any_body_is_refused_or_understood(body: bytes, kind: type[Any]) -> None:
    try:
        assert isinstance(read_body(body, kind), kind)
    except Refusal as refusal:
        assert refusal.status == 400


def test_a_wrong_request_does_not_reach_the_main_thread(server: ControlSocket, main: Main) -> None:
    for path, method, body in (("/approve", "POST", {"plan": 5}), ("/none", "GET", {}), ("/plan", "GET", {}),
                               ("/status", "POST", {}), ("/sync", "POST", {"devices": ["x" * 65536]})):  # fmt: skip
        with pytest.raises(UserError):
            ask(path, method, body)
    assert main.woken == 0
    assert ask("/status") == IT_IS


def test_one_who_says_nothing_holds_nobody_up(server: ControlSocket, file: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(file))
        assert ask("/status") == IT_IS


def test_silent_clients_keep_nobody_out(server: ControlSocket, file: Path) -> None:
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(control_socket.CLIENTS)]
    for one in silent:
        one.connect(str(file))
    until(lambda: len(server.server._clients) == control_socket.CLIENTS, 10, "all are in")
    for _ in range(3):
        assert ask("/status") == IT_IS, "the oldest silent one made room"
    for one in silent:
        one.close()
    until(lambda: not server.server._clients, 10, "they are gone")


def test_so_many_wait_for_the_main_thread_and_who_only_reads_does_not(server: ControlSocket, main: Main) -> None:
    with ThreadPoolExecutor(admin.MAX_WAITING) as pool:
        waiting = [pool.submit(ask, "/plan", "POST") for _ in range(admin.MAX_WAITING)]
        until(lambda: main.woken == admin.MAX_WAITING, 10, "all wait")
        with pytest.raises(UserError, match="wait for the daemon already"):
            ask("/plan", "POST")
        assert ask("/status") == IT_IS
        main.requests.close()
        for one in waiting:
            with pytest.raises(UserError, match="the daemon stops"):
                one.result(10)
        with pytest.raises(UserError, match="the daemon stops"):
            ask("/plan", "POST")


def test_no_answer_of_the_main_thread_in_time(server: ControlSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="the daemon does not answer within 0.05 s"):
        ask("/plan", "POST", {}, 0.05)
    monkeypatch.setattr(admin, "ANSWER_WITHIN", 0.05)
    with pytest.raises(UserError, match="has not come to it within 0 s"):
        ask("/plan", "POST")


@pytest.mark.parametrize(("uid", "gids", "allowed"), [
    (0, {5}, True), (os.geteuid(), {5}, True), (12345, {os.getegid()}, True), (12345, {6, os.getegid()}, True),
    (12345, {12345}, False),
])  # fmt: skip
@pytest.mark.parametrize(("path", "method"), [("/status", "GET"), ("/", "GET"), ("/approve", "POST"), ("/none", "PUT")])
def test_who_may_ask(
    server: ControlSocket, main: Main, monkeypatch: pytest.MonkeyPatch, uid: int, gids: set[int], allowed: bool,
    path: str, method: str,
) -> None:  # fmt: skip
    """The file's mode already keeps other users out. This check works even if somebody has changed the mode."""
    monkeypatch.setattr(control_socket, "caller_of", lambda _: Caller(uid, frozenset(gids), 77))
    if allowed:
        assert ask("/status") == IT_IS
        return
    with pytest.raises(UserError, match="not permitted: run this as root or in the group wgsyncd"):
        ask(path, method, {"plan": "a"})
    assert main.woken == 0


def test_who_asks_is_what_the_kernel_says() -> None:
    here, there = socket.socketpair()
    with here, there:
        caller = caller_of(there)
    assert (caller.uid, caller.pid) == (os.getuid(), os.getpid())
    assert caller.gids == {os.getgid(), *os.getgroups()}
    assert str(Caller(54321, frozenset(), 9)) == "unknown (uid 54321, pid 9)"


def test_the_socket_is_for_the_group_and_that_of_a_killed_process_is_taken_over(file: Path, main: Main) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(file))
    with pytest.raises(NobodyListensError, match="no wgsyncd runs here"):
        ask("/status")
    server = ControlSocket(file, main.requests.routes(dict, dict))
    assert file.stat().st_mode & 0o777 == 0o660
    assert ask("/status") == b"{}\n"
    server.close()
    assert not file.exists()
    with pytest.raises(NobodyListensError):
        ask("/status")


def test_a_place_where_none_can_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no commands can be taken: No such file or directory"):
        ControlSocket(tmp_path / "none" / "control.sock", {})


@pytest.mark.parametrize(("path", "method"), [("/status", "GET"), ("/plan", "POST"), ("/approve", "POST")])
def test_a_question_about_another_configuration_is_not_answered(
    server: ControlSocket, main: Main, tmp_path: Path, path: str, method: str
) -> None:
    assert ask(f"/status?config={tmp_path / 'a.toml'}") == IT_IS
    with pytest.raises(OtherConfigurationError, match=r"the daemon runs with .*a\.toml"):
        ask(f"{path}?config=/etc/other.toml", method)
    assert main.woken == 0


def answering(file: Path, answer: Callable[[socket.socket], object]) -> threading.Thread:
    """Starts a server that takes one connection and calls `answer` with it. Returns its thread."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(file))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as one:
            answer(one)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_who_is_turned_away_before_he_has_asked_is_told_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'HTTP/1.0 503 Busy\r\nContent-Length: 21\r\n\r\n{"error": "too many"}'
    thread = answering(file, lambda one: one.sendall(said))

    def late(*_: object) -> str:  # the request is complete only after the other side has closed
        thread.join()
        return "{}"

    monkeypatch.setattr(json, "dumps", late)
    monkeypatch.setattr(client._Connection, "auto_open", 0)
    monkeypatch.setattr(client._Connection, "__init__", connected(client._Connection.__init__))
    with pytest.raises(UserError, match="^too many$"):
        ask("/plan", "POST")


def connected(init: Callable[..., None]) -> Callable[..., None]:
    """Returns an `__init__` that connects at once."""

    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        init(self, *args, **options)
        self.connect()

    return __init__


@pytest.mark.parametrize("answer", [b"", b"{", b"no HTTP\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}",
                                    b"HTTP/1.0 200 OK\r\nContent", b"HTTP/1.0 409 Conflict\r\nContent-Length: 2\r\n\r\nno"])  # fmt: skip
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_daemon_that_goes_away_while_it_answers(file: Path, answer: bytes, end: str) -> None:
    def serve(one: socket.socket) -> None:
        one.recv(1 if end == "reset" else 65536)  # with unread bytes in the socket, its close sends a reset
        one.sendall(answer)

    thread = answering(file, serve)
    with pytest.raises(UserError, match="the daemon went away"):
        ask("/status")
    thread.join()


def test_names_that_are_no_utf8_are_still_json(file: Path, main: Main) -> None:
    name = os.fsdecode(b"/etc/\xff.toml")
    server = ControlSocket(file, main.requests.routes(lambda: {"file": name, "node": "東京"}, dict))
    try:
        said = ask("/status")
        assert json.loads(said) == {"file": name, "node": "東京"}
        assert "東京".encode() in said
    finally:
        server.close()
