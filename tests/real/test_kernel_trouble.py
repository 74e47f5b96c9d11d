"""The client handles trouble of the kernel's netlink socket: EBUSY, and EINTR by signals. A port may be taken.

`wg show` is the witness.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests import namespace
from tests.contract.test_wireguard import wg_show
from tests.wait import until
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PublicKey
from wgsyncd.core.network import parse_network
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.engine import wording
from wgsyncd.errors import WireGuardError

pytestmark = pytest.mark.vm
IFACE = "wg0"


def peer(n: int) -> PeerConfig:
    net = parse_network(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    return PeerConfig(PublicKey(n.to_bytes(4) * 8), NO_PRESHARED_KEY, (net,), 0)


@pytest.fixture
def wg() -> Iterator[KernelWireGuard]:
    with namespace.own_network(), namespace.kernel_link(IFACE):
        kernel = KernelWireGuard("boot", timeout=120)
        peers = [peer(n) for n in range(1, 1001)]
        assert kernel.apply(IFACE, [Change(ChangeKind.ADD, IFACE, p.public_key, None, p) for p in peers]) == []
        yield kernel
        kernel.apply(IFACE, [Change(ChangeKind.REMOVE, IFACE, p.public_key, p, None) for p in peers])
        kernel.close()


def test_a_dump_that_still_runs_makes_the_next_one_busy_and_is_got_over(wg: KernelWireGuard) -> None:
    assert wg._socket is not None
    unread = netlink.message(wg._family, netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP, 1, codec.get_device(IFACE))
    wg._socket.send(unread)
    with pytest.raises(WireGuardError, match="wg0: EBUSY: Device or resource busy"):
        wg.read(IFACE)

    def whole() -> bool:
        try:
            return {key: state.config for key, state in wg.read(IFACE).peers.items()} == wg_show(IFACE)
        except WireGuardError as error:
            assert error.name == "EBUSY"
            return False

    until(whole, 60, "a whole dump again")


def test_the_commands_that_bind_a_port_name_the_program_that_has_it() -> None:
    def run(command: str) -> str:
        return subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=True).stdout

    with namespace.own_network(), namespace.kernel_link(IFACE):
        run(f"ip link set {IFACE} down; wg set {IFACE} listen-port 51820")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", 51820))
            assert f"pid={os.getpid()}" in run(wording.bring_up(IFACE))
            run(f"wg set {IFACE} listen-port 51821; ip link set {IFACE} up")
            assert f"pid={os.getpid()}" in run(wording.set_port(IFACE, 51820))
        run(wording.set_port(IFACE, 51820))
        assert run(f"wg show {IFACE} listen-port") == "51820\n"
        run(f"ip link set {IFACE} down")
        assert run(wording.bring_up(IFACE)) == ""


def test_signals_in_the_middle_of_a_dump_change_nothing(wg: KernelWireGuard) -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        found = [wg.read(IFACE).peers for _ in range(5)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(caught) > 10
    assert all({key: state.config for key, state in one.items()} == wg_show(IFACE) for one in found)
