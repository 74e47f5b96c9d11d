"""The client of the kernel's socket handles every rare answer that a scripted kernel can give."""

from __future__ import annotations

import errno
import struct

import pytest

from tests import netlink_server
from tests.scripted_kernel import (
    FAMILY,
    MULTI,
    STATES,
    Datagram,
    Script,
    ScriptedKernel,
    done,
    dump,
    fails,
    peer,
    raises,
)
from wgsyncd.core.model import PeerState
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.errors import DumpInterrupted, InterfaceMissing, ModuleMissing, WireGuardError


def assert_whole(wg: KernelWireGuard) -> None:
    found = wg.read("wg0")
    assert found.peers == {state.config.public_key: state for state in STATES}
    assert found.epoch == "boot:7"


def test_all_messages_of_a_dump_are_joined(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    assert_whole(wg)
    assert wg.retries == 0


def test_messages_that_share_a_datagram(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def one(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        parts = dump()(kind, seq, payload)
        return [b"".join(part for part in parts if isinstance(part, bytes))]

    scripted.answers = [one]
    assert_whole(wg)


@pytest.mark.parametrize("script", [dump(torn_at=0), dump(torn_at=1), dump(torn_at=2), dump(torn_done=True)])
def test_torn_dump_is_read_again_wherever_it_says_so(
    scripted: ScriptedKernel, wg: KernelWireGuard, script: Script
) -> None:
    scripted.answers = [script, script, dump()]
    assert_whole(wg)
    assert wg.retries == 2
    assert scripted.opened == 1  # an interrupted dump was read to its end, so the socket is still good


def test_dump_that_is_always_torn(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(torn_at=1)]
    with pytest.raises(DumpInterrupted, match="wg0: EINTR"):
        wg.read("wg0")
    assert (wg.retries, len(scripted.asked)) == (5, 6)


def test_one_socket_for_life(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    for _ in range(50):
        assert_whole(wg)
    assert (scripted.opened, scripted.closed) == (1, 0)


def test_dump_that_ends_in_an_error(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(number=errno.ENOMEM)]
    with pytest.raises(WireGuardError, match="wg0: ENOMEM"):
        wg.read("wg0")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENODEV, InterfaceMissing, "ENODEV: no such interface"),
        (errno.EOPNOTSUPP, WireGuardError, "EOPNOTSUPP: is not a WireGuard interface"),
        (errno.EPERM, WireGuardError, "EPERM: not permitted: CAP_NET_ADMIN is needed"),
        (errno.EBUSY, WireGuardError, "EBUSY: Device or resource busy"),
    ],
)
def test_refusal_is_said_by_name(
    scripted: ScriptedKernel, wg: KernelWireGuard, number: int, kind: type[WireGuardError], text: str
) -> None:
    scripted.answers = [fails(number)]
    with pytest.raises(kind, match=text) as caught:
        wg.read("wg0")
    assert type(caught.value) is kind


def test_lost_answer_is_asked_for_again_on_a_fresh_socket(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def half(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        return [*dump()(kind, seq, payload)[:1], OSError(errno.ENOBUFS, "")]

    scripted.answers = [half, half, dump()]
    assert_whole(wg)
    assert (scripted.opened, scripted.closed, wg.retries) == (3, 2, 2)


def test_answers_that_are_always_lost(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [raises(errno.ENOBUFS)]
    with pytest.raises(WireGuardError, match="ENOBUFS"):
        wg.read("wg0")
    assert scripted.opened == scripted.closed


def test_kernel_that_does_not_answer(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [lambda *_: [], dump()]
    with pytest.raises(WireGuardError, match="ETIMEDOUT: the kernel did not answer"):
        wg.read("wg0")
    assert scripted.closed == 1  # a dump that is not read to its end would hold the interface
    assert_whole(wg)


@pytest.mark.parametrize(
    "damage", [b"\x01", struct.pack("=IHHII", 9999, 33, 2, 0, 0), struct.pack("=IHHII", 3, 33, 2, 0, 0)]
)
def test_malformed_datagram_is_an_error_and_ends_the_socket(
    scripted: ScriptedKernel, wg: KernelWireGuard, damage: bytes
) -> None:
    scripted.answers = [lambda *_: [damage], dump()]
    with pytest.raises(WireGuardError, match="EBADMSG"):
        wg.read("wg0")
    assert_whole(wg)
    assert scripted.opened == 2


def test_malformed_dump_is_an_error(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def script(kind: int, seq: int, _: bytes) -> list[Datagram]:
        raw = netlink_server.attr(netlink_server.NESTED, netlink_server.attr(1, bytes(32)))
        return [
            netlink_server.message(kind, MULTI, seq, netlink_server.payload(raw, netlink_server.device())) + done(seq)
        ]

    scripted.answers = [script]
    with pytest.raises(WireGuardError, match="EBADMSG: cannot make sense of the kernel's dump: peer without counters"):
        wg.read("wg0")


def test_answers_to_an_earlier_request_are_passed_over(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def script(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        stale = PeerState(peer(99), 0, 0, 0)
        old = [netlink_server.message(kind, MULTI, seq - 1, netlink_server.dump([stale])[0]), done(seq - 1)]
        return [*old, *dump()(kind, seq, payload)]

    scripted.answers = [script]
    assert_whole(wg)
    assert len(scripted.asked) == 1


def test_module_loaded_anew_has_another_number(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    assert_whole(wg)
    scripted.family = FAMILY + 1
    assert_whole(wg)
    assert scripted.opened == 1


def test_kernel_without_wireguard(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.family = 0
    with pytest.raises(WireGuardError, match=r"lo: ENOENT: .*modprobe wireguard") as caught:
        wg.read("lo")
    assert not isinstance(caught.value, InterfaceMissing)
    with pytest.raises(ModuleMissing, match=r"nonesuch0: ENODEV: no such interface.*modprobe wireguard"):
        wg.read("nonesuch0")


def test_module_that_comes_late(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    scripted.family = 0
    with pytest.raises(WireGuardError, match="modprobe wireguard"):
        wg.read("lo")
    scripted.family = FAMILY
    assert_whole(wg)


def test_refused_family_number_is_looked_up_only_once(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(), fails(errno.EOPNOTSUPP)]
    assert_whole(wg)
    with pytest.raises(WireGuardError, match="EOPNOTSUPP"):
        wg.read("wg0")
    assert len(scripted.asked) == 2
