"""A gateway with a network behind it, for tests of what devices reach: real packets through real tunnels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.nexavpn_sides import named
from tests.postgres import PrivatePostgres
from tests.real.nexavpn_bench import Bench, opened
from tests.real.running import Ear, wait
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import TUNNEL, Customer, Namespace

_ECHO = """
import socket, sys
served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind((sys.argv[1], 7777))
print("ready", flush=True)
while True:
    served.sendto(*served.recvfrom(99))
"""
# It asks again and again until it is refused, also if an answer was dropped. With the second argument it asks once.
_ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.connect((sys.argv[1], 7777))
try:
    for _ in range(60) if sys.argv[2:] else iter(int, 1):
        asking.send(b"?")
        try:
            asking.recv(99)
        except TimeoutError:
            continue
        print("answer", flush=True)
        if sys.argv[2:]:
            break
    else:
        print("silence")
except OSError:
    print("refused")
"""


class Office:
    """The bench with a network behind the gateway, and a client whose tunnel leads there."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.tables, self.daemon, self.gateway = bench.tables, bench.daemon, bench.world.server
        self.network = Namespace()

    def open(self) -> None:
        self.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.gateway.ip(
            f"link add office type veth peer name eth0 netns {self.network.holder.pid}",
            "address add 10.1.0.254/16 dev office", "link set office up", "route add 10.2.0.0/16 dev office",
        )  # fmt: skip
        self.network.ip(
            "address add 10.1.0.1/16 dev eth0", "address add 10.2.0.1/16 dev eth0", "link set eth0 up",
            "route add 10.200.0.0/24 via 10.1.0.254",
        )  # fmt: skip
        for address in ("10.1.0.1", "10.2.0.1"):
            log = self.folder / address
            self.network.start(sys.executable, "-c", _ECHO, address, log=log)
            wait(lambda log=log: "ready" in log.read_text(), "the host in the office")

    def client(self, number: int) -> Customer:
        """A device whose tunnel leads to all of 10.0.0.0/8."""
        client = self.bench.customer(number)
        server = self.bench.world.interfaces["wg0"]
        client.namespace.run("wg", "set", TUNNEL, "peer", server.keys.public, "allowed-ips", "10.0.0.0/8")
        client.namespace.ip(f"route add 10.0.0.0/8 dev {TUNNEL} src 10.200.0.{number}")
        return client

    def asks(self, client: Customer, address: str) -> str:
        """What a client gets from an address: answer, refused or silence."""
        return client.namespace.run(sys.executable, "-c", _ASK, address, "once").strip()

    def stream(self, client: Customer, address: str) -> subprocess.Popen[bytes]:
        """Questions and answers without end, in the file ``stream``."""
        return client.namespace.start(sys.executable, "-c", _ASK, address, log=self.folder / "stream")

    def answers(self) -> list[str]:
        return (self.folder / "stream").read_text().split()

    def ruleset(self) -> str | None:
        """The table as text. None: there is none."""
        try:
            return self.gateway.run("nft", "list", "table", "inet", "wgsyncd")
        except CommandFailed:
            return None

    def configure(self, old: str, new: str) -> None:
        text = self.daemon.config.read_text(encoding="utf-8")
        assert old in text
        self.daemon.config.write_text(text.replace(old, new), encoding="utf-8")

    def audited(self, *names: str) -> list[dict[str, Any]]:
        """The audit rows with these event types."""
        return [one for one in self.tables.logs() if one["event_type"] in names]

    def has_element(self, number: int) -> bool:
        return str(self.tables.id(number)) in (self.ruleset() or "")


@contextmanager
def opened_office(postgres: PrivatePostgres, ear: Ear, folder: Path) -> Iterator[Office]:
    """The bench with a network. The user alice may reach 10.1.0.0/16."""
    with opened(postgres, ear, folder) as bench:
        made = Office(bench, folder)
        try:
            made.open()
            made.configure("enforce = false", 'enforce = true\nrefuse = "reject"')
            bench.tables.policy("east", "allow", "10.1.0.0/16", to=[("user", named("alice"))])
            bench.tables.policy("far", "allow", "10.9.0.0/16", to=[("user", named("alice"))])
            yield made
        finally:
            made.network.close()
