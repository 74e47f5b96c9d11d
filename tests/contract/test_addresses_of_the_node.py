"""Whether an interface has an address: the kernel's own answer, in a network namespace of the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.namespace import own_network, run
from wgsyncd.dataplane import addresses, netlink
from wgsyncd.dataplane.addresses import has_address

V4, V6 = "203.0.113.5", "2001:db8::5"


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        run("ip", "link", "add", "eth7", "type", "bridge")
        run("ip", "link", "set", "eth7", "up")
        yield


@pytest.mark.usefixtures("network")
def test_an_address_comes_and_goes() -> None:
    assert not has_address(V4)
    run("ip", "address", "add", f"{V4}/32", "dev", "eth7")
    run("ip", "address", "add", f"{V6}/128", "dev", "eth7", "nodad")
    assert has_address(V4)
    assert has_address(V6)
    assert not has_address("203.0.113.50")
    run("ip", "address", "del", f"{V4}/32", "dev", "eth7")
    assert not has_address(V4)


@pytest.mark.usefixtures("network")
def test_a_socket_that_may_be_bound_is_no_proof() -> None:
    Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((V4, 0))
    assert not has_address(V4)


@pytest.mark.usefixtures("network")
def test_the_other_end_of_a_link_is_not_ours() -> None:
    run("ip", "address", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "eth7")
    assert has_address("198.51.100.1")
    assert not has_address("198.51.100.2")


def test_many_addresses_need_several_datagrams(network: None) -> None:
    lines = "".join(f"address add 10.{n // 250}.{n % 250}.1/32 dev eth7\n" for n in range(2000))
    run("ip", "-batch", "-", text=lines)
    assert has_address("10.7.249.1")
    assert not has_address("10.8.0.1")


def test_an_interrupted_list_is_read_again(network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run("ip", "address", "add", f"{V4}/32", "dev", "eth7")
    true, lists = netlink.messages, list[netlink.Message]()

    def interrupted(datagram: bytes) -> list[netlink.Message]:
        found = list(true(datagram))
        if len(lists) < 2:  # the first list lacks all addresses
            found = [one._replace(flags=one.flags | netlink.NLM_F_DUMP_INTR) for one in found if one.type != 20]
        lists.extend(one for one in found if one.type == netlink.NLMSG_DONE)
        return found

    monkeypatch.setattr(netlink, "messages", interrupted)
    assert has_address(V4)
    assert len(lists) > 2
    lists.clear()
    monkeypatch.setattr(addresses, "_TRIES", 1)
    with pytest.raises(OSError, match="all the time"):
        has_address(V4)
