"""A kernel that answers nonsense, or nothing, is an error of tc, and the next question gets a new socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Link, Step
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.tc.kernel import KernelTc
from wgsyncd.errors import ShapingError

ADD = Step(Action.ADD, Direction.DOWN, Link())
SHORT = struct.pack("=IHHII", 400, 16, 0, 1, 0)  # a message that says it is longer than its datagram
TINY = netlink.message(netlink.NLMSG_ERROR, 0, 1, b"\1")  # an error without a whole number


class Answering:
    """Opens sockets on which a kernel has answered already. ``sequence``: of the first request."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.opened = answer, list[tuple[socket.socket, socket.socket]]()

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.opened.append((ours, theirs))
        ours.settimeout(0.05)
        if self.answer:
            theirs.send(self.answer)
        return ours


@pytest.fixture
def answering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    made = Answering(request.param)
    monkeypatch.setattr(netlink, "open_socket", lambda *_, **_more: made.open())
    yield made
    for pair in made.opened:
        for one in pair:
            one.close()


def client() -> KernelTc:
    tc = KernelTc()
    tc._talk._seq = 0
    return tc


@pytest.mark.parametrize(
    ("answering", "name"), [(SHORT, "EBADMSG"), (TINY, "EBADMSG"), (b"junk", "EBADMSG"), (b"", "ETIMEDOUT")],
    indirect=["answering"],
)  # fmt: skip
def test_reading(answering: Answering, name: str) -> None:
    tc = client()
    with pytest.raises(ShapingError) as caught:
        tc.read()
    assert caught.value.name == name
    assert tc._talk._socket is None, "the next question gets a new socket"


@pytest.mark.parametrize("answering", [SHORT, TINY, b"junk"], indirect=True)
def test_changing(answering: Answering) -> None:
    tc = client()
    with pytest.raises(ShapingError, match="EBADMSG: cannot make sense of the kernel's answer"):
        tc.apply([ADD])
    assert tc._talk._socket is None, "the next question gets a new socket"


@pytest.mark.parametrize("answering", [b""], indirect=True)
def test_no_answer_to_a_change_is_a_failed_step(answering: Answering) -> None:
    failed = client().apply([ADD])
    assert [(one.step, one.name) for one in failed] == [(ADD, "ETIMEDOUT")]
