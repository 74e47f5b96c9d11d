"""Each parser makes of each input a value, or the error that its callers expect: for the kept inputs and changed ones."""

from __future__ import annotations

import ast
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import netlink_server
from tests.decoding import decode_dump
from tests.samples import peer
from wgsyncd.cli import client
from wgsyncd.core.model import PeerState
from wgsyncd.daemon import admin, http, notify_socket
from wgsyncd.daemon.admin_report import SyncReport
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import userspace
from wgsyncd.errors import UserError
from wgsyncd.stores import spool

KEPT: dict[str, list[bytes]] = {}
for line in (Path(__file__).parents[1] / "corpus" / "parsers.txt").read_text().splitlines():
    if not line.startswith("#"):
        KEPT.setdefault(line.partition(" ")[0], []).append(ast.literal_eval(line.partition(" ")[2]))
KEPT["dump"][:0] = [
    netlink_server.dump([PeerState(peer(n, f"10.0.0.{n}", f"fd00::{n}"), n, n, n, "192.0.2.1:7")], peers_each=9, pads=n)[0]
    for n in (1, 2)
]  # fmt: skip
TOKENS = (
    b"",
    b"\x00",
    b"\xff",
    b"\x80",
    b"9" * 30,
    b"-1",
    b"[",
    b"{",
    b'"',
    b"\\",
    b"=",
    b"\n",
    b"\r\n",
    b"e9",
    b"null",
)


def request(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        http.receive(ours)


def body(data: bytes) -> None:
    for kind in admin.BODIES.values():
        try:
            admin.read_body(data, kind)
        except http.Refusal as refusal:
            assert refusal.response().status == 400


def answer(data: bytes) -> None:
    """A command hears ``data`` from whoever holds the control socket."""
    ours, theirs = socket.socketpair()

    class Connection(client._Connection):
        def connect(self) -> None:
            self.sock = ours

    with pytest.MonkeyPatch.context() as patch, ours, theirs:
        patch.setattr(client, "_Connection", Connection)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        client.decode(client.ask("/sync", timeout=5), SyncReport)


def parse_spool(data: bytes) -> None:
    spool.decode(spool.MAGIC + spool._checksum(data) + b"\n" + data, "r640")


def parse_netlink(data: bytes) -> None:
    for one in netlink.messages(data):
        netlink.error_number(one.payload)


PARSERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "notify": (notify_socket.parse, ValueError),
    "request": (request, http.Refusal),
    "body": (body, http.Refusal),
    "answer": (answer, UserError),
    "uapi": (lambda data: userspace._decode("lo", "b:1", data.decode("latin-1").split("\n")), ValueError),
    "spool": (parse_spool, ValueError),
    "netlink": (parse_netlink, ValueError),
    "family": (netlink.decode_family, ValueError),
    "dump": (lambda data: decode_dump([data]), ValueError),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_kept_input_is_a_value_or_the_expected_error(name: str) -> None:
    parse, expected = PARSERS[name]
    parse(KEPT[name][0])
    for data in KEPT[name][1:]:
        try:
            parse(data)
        except expected:
            continue


@pytest.mark.parametrize("name", PARSERS)
def test_a_changed_input_is_a_value_or_the_expected_error(name: str) -> None:
    """Bytes are exchanged, removed and put in, and the end of one input follows the beginning of another."""
    parse, expected = PARSERS[name]
    chance = random.Random(name)
    for _ in range(1500):
        one, other = chance.choice(KEPT[name]), chance.choice(KEPT[name])
        data = one[: chance.randrange(len(one) + 1)] + other[chance.randrange(len(other) + 1) :]
        data = chance.choice((one, data))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data) + 1)
            data = data[:at] + chance.choice((*TOKENS, chance.randbytes(2))) + data[at + chance.randrange(3) :]
        try:
            parse(data)
        except expected:
            continue


@pytest.mark.parametrize("name", ["body", "answer", "spool"])
def test_a_deep_document_is_the_expected_error(name: str) -> None:
    parse, expected = PARSERS[name]
    data = b"[" * 100_000
    if name == "answer":
        data = b"HTTP/1.0 400 Bad Request\r\nContent-Length: 100000\r\n\r\n" + data
    try:
        parse(data)
    except expected:
        return
    assert name == "body"
