"""Two daemons serve one gateway, and keepalived moves the address: real PostgreSQL, keepalived, WireGuard and packets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PrivatePostgres
from tests.real.pair_bench import EAST, SERVER, WEST, Pair, opened
from tests.real.running import Ear, wait
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import SINK_PORT, Customer

MIB = 1 << 20
_KNOCK = f"import socket; socket.create_connection(('{SERVER}', {SINK_PORT}), timeout=3)"


@pytest.fixture
def pair(ear: Ear, tmp_path: Path) -> Iterator[Pair]:
    with PrivatePostgres() as server, opened(server, ear, tmp_path) as made:
        yield made


def role(pair: Pair, name: str) -> str:
    found = json.loads(pair.nodes[name].daemon.cli("status", "--json", code=None).stdout)["role"]
    assert isinstance(found, str)
    return found


def is_served(client: Customer) -> bool:
    try:
        client.namespace.run(sys.executable, "-c", _KNOCK)
    except CommandFailed:
        return False
    return True


def fail_over(pair: Pair, to: str) -> None:
    other = WEST if to == EAST else EAST
    pair.nodes[EAST].set_cable("up" if to == EAST else "down")  # its keepalived has the higher priority
    wait(lambda: pair.nodes[to].has_address and not pair.nodes[other].has_address, f"the address is on {to}")
    wait(lambda: (role(pair, to), role(pair, other)) == ("active", "standby"), f"{to} is active")


def test_a_failover_serves_the_same_peers_and_policies_and_loses_no_byte(pair: Pair) -> None:
    tables = pair.tables
    client, stranger = pair.customer(5), pair.customer(6)
    tables.policy("sink", "allow", f"{SERVER}/32", to=[("device", tables.id(5))])
    for name, node in pair.nodes.items():
        wait(lambda n=name: None not in (pair.peer(n, 5), pair.peer(n, 6)), f"both peers on {name}")
        wait(lambda n=node: "10.200.0.5 " in n.judged(), f"the policy on {name}")
    assert pair.nodes[EAST].judged() == pair.nodes[WEST].judged()
    assert (role(pair, EAST), role(pair, WEST)) == ("active", "standby")
    assert client.transfer(up=2 * MIB, down=MIB).wait() == 0
    wait(lambda: pair.is_posted(5), "all bytes in the view")
    wait(lambda: tables.device(5)["last_seen_at"] is not None, "the handshake, which comes after the bytes")
    seen = tables.device(5)["last_seen_at"]
    assert pair.told("peer_added") == [EAST, EAST]

    fail_over(pair, WEST)
    wait(lambda: is_served(client), "the client's handshake with the other node")
    assert client.transfer(up=2 * MIB, down=MIB).wait() == 0
    wait(lambda: pair.is_posted(5), "the bytes of both nodes in the view")
    assert tables.posted(5).rx > 4 * MIB
    wait(lambda: tables.device(5)["last_seen_at"] > seen, "the handshake in the application's column")
    assert not is_served(stranger)
    wait(
        lambda: (peer := pair.peer(WEST, 6)) is not None and peer.latest_handshake, "the handshake of the other device"
    )
    tables.update("devices", tables.id(6), status="blocked")
    for name in pair.nodes:
        wait(lambda n=name: pair.peer(n, 6) is None, f"the end of the peer on {name}")
    wait(lambda: pair.told("peer_removed") == [WEST], "the audit row of the active node alone")

    fail_over(pair, EAST)
    wait(lambda: is_served(client), "the client's handshake with the first node")
    assert client.transfer(up=MIB, down=MIB).wait() == 0
    wait(lambda: pair.is_posted(5), "the bytes of both nodes in the view again")
    tables.update("devices", tables.id(6), status="active")
    for name in pair.nodes:
        wait(lambda n=name: pair.peer(n, 6) is not None, f"the peer is back on {name}")
    wait(lambda: pair.told("peer_added") == [EAST, EAST, EAST], "the audit row of the active node alone")
    assert pair.told("node_active")[-2:] == [WEST, EAST]
    assert pair.told("node_standby") == [EAST, WEST]
    for node in pair.nodes.values():
        node.daemon.stop()
