"""What the packet filter costs a packet, beyond connection tracking.

Three routers with the same route stand side by side, each between two ends of its own. One filters nothing, one tracks
connections and lets established flows pass, and one has wgsyncd's ruleset. They take turns, a batch of UDP packets
each. A packet is routed within the call that sends it, so the processor time of the sender has all of its way.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from tests.bench.gateway_stage import PROFILES, RANGES
from tests.bench.stage import address
from tests.policing import device, ruleset
from tests.real.running import in_network
from wgsyncd.core.network import as_networks, parse_network
from wgsyncd.core.policies.model import Access
from wgsyncd.dataplane.nftables import commands
from wgsyncd.demo.testbed import Namespace

BATCH = 64  # packets
TRACKED = """
table inet tracked {
    chain forward { type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "wg0" accept
    }
}
"""
_TUNNEL, _PORT = "wg0", 7777
_HOSTS = (address(0), "172.16.0.9")  # of the two ends
_GATEWAYS = ("10.255.255.1/8", "172.31.255.1/12")


def measure(devices: int, batches: int) -> dict[str, float]:
    """Returns nanoseconds of processor time a packet for each router, to the outside and back: the least of all."""
    rules = {"none": "", "tracked": TRACKED, "judged": _judged(devices)}
    least: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        sides: dict[str, list[socket.socket]] = {}
        for name, text in rules.items():
            router, sides[name] = stack.enter_context(_router())
            router.run("nft", "-f", "-", stdin=text)
        for _ in range(batches):
            for name, (inside, outside) in sides.items():
                for way, sender, receiver in (("out", inside, outside), ("back", outside, inside)):
                    took = _batch(sender, receiver)
                    least[f"{name}_{way}"] = min(took, least.get(f"{name}_{way}", took))
    return least


def _judged(devices: int) -> str:
    """Returns the ruleset of so many devices, with the profiles of the stage."""
    profiles = [
        Access.of(as_networks(parse_network(f"172.{16 + n // 64}.{n % 64 * 4}.0/24")
                              for n in range(at * RANGES, (at + 1) * RANGES)))
        for at in range(PROFILES)
    ]  # fmt: skip
    elements = [(device(n, address(n)), profiles[n % PROFILES]) for n in range(devices)]
    return commands.complete(ruleset(*elements, tunnels=[_TUNNEL]))


@contextlib.contextmanager
def _router() -> Iterator[tuple[Namespace, list[socket.socket]]]:
    """Yields a router and the connected sockets of its two ends.

    The tunnel's end has the address of device 0, and the other end one that its policies allow. The tunnel is a veth of
    its name: the rules ask for nothing else.
    """
    with contextlib.ExitStack() as stack:
        router, *ends = (Namespace() for _ in range(3))
        for one in (router, *ends):
            stack.callback(one.close)
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        sockets = []
        for holder, link, gateway, host in zip(ends, (_TUNNEL, "office"), _GATEWAYS, _HOSTS, strict=True):
            size = gateway.partition("/")[2]
            router.ip(f"link add {link} type veth peer name eth0 netns {holder.holder.pid}",
                      f"address add {gateway} dev {link}", f"link set {link} up")  # fmt: skip
            holder.ip(f"address add {host}/{size} dev eth0", "link set eth0 up",
                   f"route add default via {gateway.partition('/')[0]}")  # fmt: skip
            sockets.append(in_network(holder.holder.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            stack.callback(sockets[-1].close)
        for end, host in zip(sockets, _HOSTS, strict=True):
            end.bind((host, _PORT))
            end.settimeout(5)
        for end, host in zip(sockets, reversed(_HOSTS), strict=True):
            end.connect((host, _PORT))
        yield router, sockets


def _batch(sender: socket.socket, receiver: socket.socket) -> float:
    """Returns the nanoseconds of processor time a packet. All packets have arrived."""
    began = time.thread_time_ns()
    for _ in range(BATCH):
        sender.send(b"x")
    took = time.thread_time_ns() - began
    for _ in range(BATCH):
        receiver.recv(9)
    return took / BATCH
