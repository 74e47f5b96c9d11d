"""The HTTP server accepts exactly the valid requests, on TCP and on a unix socket."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http_site import OK, Site, send
from wgsyncd.daemon import http
from wgsyncd.daemon.http import Refusal, Request, receive


def test_an_answer_is_the_last_word_on_its_connection(site: Site) -> None:
    head, _, body = site.say(OK + OK).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: 5\r\n" in head
    assert body == b"fine\n"
    assert len(site.asked) == 1, "the second request of a connection is not read"


def test_a_head_is_the_answer_without_its_body(site: Site) -> None:
    whole, head = site.say(OK), site.say(OK.replace(b"GET", b"HEAD"))
    assert head.endswith(b"\r\n\r\n")
    assert [line for line in head.splitlines() if not line.startswith(b"Date")] == [
        line for line in whole.splitlines()[:-1] if not line.startswith(b"Date")
    ]


def test_what_a_request_has(site: Site) -> None:
    site.say(b"POST /do?config=%2Fa%20b&x HTTP/1.1\r\nHost: a\r\naccept: text/a \r\ncontent-LENGTH: 3\r\n\r\nabcdef")
    assert site.asked == [Request("POST", "/do", {"config": "/a b"}, "text/a", b"abc", host="a")]


def test_a_client_that_has_closed_its_side_is_answered(site: Site) -> None:
    assert site.status(OK, end=True) == 200


def test_the_root_lists_the_paths(site: Site) -> None:
    assert site.say(b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nGET /slow\nGET /ok\nPOST /do\nGET /big\n")


@pytest.mark.parametrize(("line", "status", "allow"), [
    (b"POST /ok", 405, b"GET, HEAD"), (b"PUT /ok", 405, b"GET, HEAD"), (b"NONSENSE /ok", 405, b"GET, HEAD"),
    (b"GET /do", 405, b"POST"), (b"HEAD /do", 405, b"POST"), (b"POST /", 405, b"GET, HEAD"),
    (b"GET /none", 404, b""), (b"POST /none", 404, b""), (b"GET /ok/", 404, b""), (b"GET /%6Fk", 404, b""),
])  # fmt: skip
def test_other_paths_and_methods(site: Site, line: bytes, status: int, allow: bytes) -> None:
    answer = site.say(line + b" HTTP/1.1\r\n\r\n")
    assert int(answer.split(b" ", 2)[1]) == status
    assert (b"\r\nAllow: " + allow + b"\r\n" in answer) == bool(allow)
    assert site.asked == []


JUNK = {
    b"\r\n\r\n": 400, b"null\r\n\r\n": 400, b"GET /ok\r\n\r\n": 400, b"GET ok HTTP/1.1\r\n\r\n": 400,
    b"GET /ok HTTP/2.0\r\n\r\n": 400, b"GET /ok HTTP/9.9\r\n\r\n": 400, b"get /ok HTTP/1.1\r\n\r\n": 400,
    b"GET  /ok HTTP/1.1\r\n\r\n": 400, b"GET /\xff HTTP/1.1\r\n\r\n": 400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    b"GET http://a/ok HTTP/1.1\r\n\r\n": 400, b"\x16\x03\x01nonsense\r\n\r\n": 400,
    b"GET /ok HTTP/1.1\r\nno header\r\n\r\n": 400, b"GET /ok HTTP/1.1\r\n: x\r\n\r\n": 400,
    b"GET /ok HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n": 400, b"GET /ok HTTP/1.1\r\nA: b\0c\r\n\r\n": 400,
    b"GET /ok HTTP/1.1\r\nA: b\nC: d\r\n\r\n": 400, b"GET /ok HTTP/1.1\nHost: a\r\n\r\n": 400,
}  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_request_is_told_so(site: Site, junk: bytes) -> None:
    assert site.status(junk) == JUNK[junk]
    assert site.asked == []
    assert site.works()


@pytest.mark.parametrize("fields", [
    b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\ncontent-length: 4", b"Content-Length: -1",
    b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length: 0x3", b"Content-Length: \xb2", b"Content-Length:",
    b"Content-Length : 3", b"Transfer-Encoding: chunked", b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: identity", b"Content-Length: 3\r\nTransfer-Encoding : chunked", b"Host: a\r\nHost: b",
])  # fmt: skip
def test_a_request_with_two_readings_is_refused(site: Site, fields: bytes) -> None:
    """Another program may read the request the other way. It would take a part of the body for a request."""
    assert site.status(b"POST /do HTTP/1.1\r\n" + fields + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n") == 400
    assert site.asked == []


def test_a_refusal_is_json_and_names_the_key(site: Site) -> None:
    answer = site.say(b"POST /do HTTP/1.1\r\nContent-Length: many\r\n\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "error": "Content-Length is no number", "key": "Content-Length",
    }  # fmt: skip


@pytest.mark.parametrize("data", [
    b"POST /do HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"POST /do HTTP/1.1\r\nContent-Length: 1" + b"0" * 5000 + b"\r\n\r\n",
    b"POST /do HTTP/1.1\r\nContent-Length: 65536\r\n\r\n" + bytes(65536), b"x" * 65537,
    b"GET /ok HTTP/1.1\r\n" + b"A: b\r\n" * 20000, b"GET /" + b"o" * 2_000_000,
], ids=range(6))  # fmt: skip
def test_a_request_that_is_too_long_is_refused(site: Site, data: bytes) -> None:
    with site.connect() as client, client.makefile("rb") as answer:
        sender = threading.Thread(target=send, args=(client, data))
        sender.start()
        assert answer.read().startswith(b"HTTP/1.0 413 ")
        sender.join()
    assert site.asked == []


@pytest.mark.parametrize("data", [b"GE", OK[:-2], b"POST /do HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"])
def test_a_request_that_is_cut_off_does_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert site.status(data, end=True) == 400
    monkeypatch.setattr(http, "REQUEST_WITHIN", 0.05)
    assert site.status(data) == 408
    assert site.asked == []


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(said: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(said)
        here.shutdown(socket.SHUT_WR)
        try:
            assert receive(there) is None or b"\r\n\r\n" in said
        except Refusal as refusal:
            assert refusal.status == 400


@given(st.text("GETPOSHAD /ok?:HTTP10.\r\nContent-Length", max_size=200))
def test_what_is_nearly_a_request_too(said: str) -> None:
    test_any_bytes_are_refused_or_understood.hypothesis.inner_test(said.encode())  # type: ignore[attr-defined]
