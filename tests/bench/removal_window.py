"""Measures how long the bytes of a peer that is removed are not counted.

The time lasts from the last dump of its counters to its removal, with the save of the spool in between. It needs the
kernel's WireGuard, and runs as root:

    python -m tests.bench.removal_window [PEERS ...]

Each line of output is one JSON object: peers on the interface, peers removed at once, and the longest of 20 times in
milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from tests import namespace
from tests.samples import calendar
from wgsyncd import log
from wgsyncd.config.load import parse
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, InterfaceState, PeerConfig, PublicKey
from wgsyncd.core.network import parse_network
from wgsyncd.core.peers.plan import Plan
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Interfaces
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.stores.spool import FileSpool

SETTINGS = parse('[interfaces.wg0]\nnetworks = ["10.0.0.0/8"]\naddresses = ["10.0.0.1/8"]\n')


def peer(n: int) -> PeerConfig:
    net = parse_network(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    return PeerConfig(PublicKey(os.urandom(32)), NO_PRESHARED_KEY, (net,), 0)


def measure(count: int, at_once: int, folder: Path) -> float:
    """Returns the longest time in milliseconds."""
    wireguard, status = KernelWireGuard("boot", timeout=120), DaemonStatus()
    interfaces = Interfaces(SETTINGS, wireguard, status, AgentState())
    peers = [peer(n + 2) for n in range(count)]
    wireguard.apply("wg0", [Change(ChangeKind.ADD, "wg0", p.public_key, None, p) for p in peers])
    spool = FileSpool(folder, "bench")

    def keep(state: InterfaceState) -> None:
        now = calendar()
        # In the worst case all peers have moved.
        spool.save(spool.begin().append(state, 0.0, now.now, now.day(now.now), None))

    for turn in range(20):
        actual = interfaces.read()
        going = peers[turn * at_once : (turn + 1) * at_once]
        changes = tuple(Change(ChangeKind.REMOVE, "wg0", p.public_key, p, None) for p in going)
        interfaces.apply(Plan(changes, count, {}), actual, keep)
    assert len(interfaces.read()["wg0"].peers) == count - 20 * at_once
    wireguard.apply("wg0", [Change(ChangeKind.REMOVE, "wg0", p.public_key, p, None) for p in peers])
    wireguard.close()
    return status.removal_gap_longest * 1000


def main() -> None:
    log.configure("error")
    with tempfile.TemporaryDirectory() as folder, namespace.own_network(), namespace.kernel_link("wg0"):
        for count in map(int, sys.argv[1:] or ("250", "10000")):
            for at_once in (1, count // 50):
                longest = measure(count, at_once, Path(folder))
                print(json.dumps({"peers": count, "removed": at_once, "longest_ms": round(longest, 1)}), flush=True)


if __name__ == "__main__":
    main()
