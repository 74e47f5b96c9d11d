"""Sends packets that no policy allows, all the time, and counts the ones that arrive.

Hosts behind the server count what comes from devices. Devices count what comes from hosts and from other devices. Each
device may also reach one host, which shows that packets go that way.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults.stage import Device
from tests.real.running import in_network
from wgsyncd.demo.testbed import TUNNEL, Namespace

HOSTS = ("10.1.0.1", "10.2.0.1")
BEHIND = "10.0.0.0/8"  # a device's tunnel leads there
_GATE = "10.1.0.254"  # the server's address in the network of the hosts
_PORT, _OUTSIDE_PORT = 7002, 7003
_ANY = "0.0.0.0"  # noqa: S104 - a namespace of its own
_EVERY = 0.05  # seconds


def host_of(device: Device) -> str:
    """Returns the host that the device may reach."""
    return HOSTS[device.row % len(HOSTS)]


class Prober(threading.Thread):
    """Sends and counts until it is closed. ``withdrawn`` has the devices that reach nothing at present."""

    def __init__(self, server: Namespace, devices: Sequence[Device], networks: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.withdrawn: set[str] = set()
        self.sent, self.allowed = 0, Counter[str]()
        self.forbidden: list[str] = []
        self._devices, self._closed = devices, False
        self._site = Namespace()
        server.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        server.ip(f"link add site type veth peer name eth0 netns {self._site.holder.pid}",
                  f"address add {_GATE}/16 dev site", "link set site up", f"route add {HOSTS[1]}/32 dev site")  # fmt: skip
        self._site.ip(*(f"address add {host}/16 dev eth0" for host in HOSTS), "link set eth0 up",
                      *(f"route add {network} via {_GATE}" for network in networks))  # fmt: skip
        pid = self._site.holder.pid
        self._hosts = {host: in_network(pid, lambda host=host: _socket(host, _PORT)) for host in HOSTS}  # type: ignore[misc]
        self._outside = in_network(pid, lambda: _socket(HOSTS[0], _OUTSIDE_PORT))
        self._own = {device.name: in_network(device.customer.namespace.holder.pid, lambda: _socket(_ANY, _PORT))
                     for device in devices}  # fmt: skip

    def introduce(self, device: Device, key: str) -> None:
        """Lets the customer's tunnel lead to the hosts. ``key``: of the server's interface."""
        namespace = device.customer.namespace
        namespace.run("wg", "set", TUNNEL, "peer", key, "allowed-ips", BEHIND)
        namespace.ip(f"route replace {BEHIND} dev {TUNNEL} src {device.address}")

    def run(self) -> None:
        """Sends and counts. It runs as a thread."""
        while not self._closed:
            time.sleep(_EVERY)
            for number, device in enumerate(self._devices):
                own, other = self._own[device.name], self._devices[number - 1]
                for address in (*HOSTS, other.address):
                    self._send(own, device.name, address)
                self._send(self._outside, "outside", device.address)
            self._count()

    def _send(self, source: socket.socket, name: str, address: str) -> None:
        with contextlib.suppress(OSError):  # there is no route, no peer or no room, as it happens to customers
            self.sent += bool(source.sendto(name.encode(), (address, _PORT)))

    def _count(self) -> None:
        may = {device.name: host_of(device) for device in self._devices}
        for host, one in self._hosts.items():
            for name in _received(one):
                if may.get(name) == host and name not in self.withdrawn:
                    self.allowed[name] += 1
                else:
                    self._tell(f"{name} reached {host}")
        for device, one in self._own.items():
            for name in _received(one):
                if name != device:  # it still has the address that another device got, and sends to itself
                    self._tell(f"{name} reached {device}")

    def _tell(self, text: str) -> None:
        self.forbidden.append(text)
        print(f"FORBIDDEN: {time.time():.3f} {text}", file=sys.stderr, flush=True)

    def data(self) -> Mapping[str, int]:
        """Returns the counts for the report. The fewest are of the device that reached its own host least often."""
        fewest = min(self.allowed[device.name] for device in self._devices)
        return {"sent": self.sent, "allowed": self.allowed.total(), "fewest_allowed": fewest,
                "forbidden": len(self.forbidden)}  # fmt: skip

    def close(self) -> None:
        """Ends the thread and closes all sockets."""
        self._closed = True
        if self.is_alive():
            self.join()
        for one in (*self._hosts.values(), *self._own.values(), self._outside):
            one.close()
        self._site.close()


def _socket(address: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    one.bind((address, port))
    return one


def _received(one: socket.socket) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        while True:
            found.append(one.recv(100).decode())
    return found
