"""A pair of nodes for one gateway: keepalived moves an address between them, and real clients follow it.

One network namespace has a switch. Both nodes and all clients have a cable to it, and the address is on one node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.nexavpn_sides import NexavpnTables
from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.real.running import Daemon, Ear, wait
from wgsyncd.core.model import Counters
from wgsyncd.demo.testbed import TUNNEL, Customer, KeyPair, Namespace, Testbed, WgPeer, new_keys

ADDRESS = "203.0.113.5"
SERVER = "10.200.0.1"
EAST, WEST = "east", "west"
_ROLES = {EAST: NODE_ROLE, WEST: "wgsyncd_west"}
_OWN = {EAST: "203.0.113.2", WEST: "203.0.113.3"}
_PRIORITY = {EAST: 150, WEST: 100}
_CONFIGURATION = """\
control_plane = "nexavpn"
[node]
name = "{name}"
zone = "Europe/Berlin"
active_address = "{address}"
[nexavpn.database]
hosts = ["{directory}"]
name = "postgres"
user = "{role}"
[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["{server}/24"]
[schedule]
poll_interval = "1s"
watch_interval = "100ms"
[log]
format = "json"
"""
_KEEPALIVED = """\
global_defs {{
    router_id {name}
    vrrp_version 3
}}
vrrp_instance pair {{
    interface lan
    virtual_router_id 51
    priority {priority}
    advert_int 0.3
    unicast_src_ip {own}
    unicast_peer {{
        {other}
    }}
    virtual_ipaddress {{
        {address}/24 dev lan
    }}
}}
"""


class PairNode:
    """One node of the pair: its server with wg0, its daemon and its keepalived."""

    def __init__(self, name: str, world: Testbed, daemon: Daemon, switch: Namespace, folder: Path) -> None:
        self.name, self.world, self.daemon, self._switch = name, world, daemon, switch
        plug(switch, world.server, name, _OWN[name])
        other = _OWN[WEST if name == EAST else EAST]
        config, log = folder / f"{name}.conf", folder / f"{name}.keepalived"
        config.write_text(_KEEPALIVED.format(
            name=name, priority=_PRIORITY[name], own=_OWN[name], other=other, address=ADDRESS
        ), encoding="utf-8")  # fmt: skip
        files = [f"--{which}={folder / name}.{which}" for which in ("pid", "vrrp_pid")]
        argv = ("keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={config}", *files)
        self._keepalived, self._log = (argv, log)

    def start(self) -> None:
        self.world.server.start(*self._keepalived, log=self._log)
        self.daemon.start()

    @property
    def has_address(self) -> bool:
        return f" {ADDRESS}/" in self.world.server.run("ip", "-4", "address", "show", "dev", "lan")

    def set_cable(self, state: str) -> None:
        """Cut the cable to the switch ("down"), or mend it ("up")."""
        self._switch.ip(f"link set {self.name} {state}")

    def peers(self) -> dict[str, WgPeer]:
        return self.world.dump()["wg0"]

    def judged(self) -> str:
        """The devices that the packet filter judges, with their chains."""
        return self.world.server.run("nft", "list", "map", "inet", "wgsyncd", "devices4")


class Pair:
    """Both nodes, the tables and the clients of one test."""

    def __init__(self, tables: NexavpnTables, nodes: dict[str, PairNode], switch: Namespace, stack: ExitStack) -> None:
        self.tables, self.nodes, self._switch, self._stack = tables, nodes, switch, stack
        self.keys: dict[int, KeyPair] = {}

    def customer(self, number: int) -> Customer:
        """A device with a real client. The address that moves is its endpoint."""
        namespace, keys = Namespace(), new_keys()
        self._stack.callback(namespace.close)
        plug(self._switch, namespace, f"c{number}", f"203.0.113.{100 + number}")
        namespace.make_wireguard("userspace", TUNNEL)
        self.tables.insert(number)
        self.tables.update("devices", self.tables.id(number), public_key=keys.public)
        self.tables.update("wireguard_peers", self.tables.peer_id(number), public_key=keys.public)
        client = Customer(namespace, ADDRESS, f"c{number}")
        client.configure(self.nodes[EAST].world.interfaces["wg0"], keys, f"10.200.0.{number}")
        self.keys[number] = keys
        return client

    def peer(self, node: str, number: int) -> WgPeer | None:
        return self.nodes[node].peers().get(self.keys[number].public)

    def is_posted(self, number: int) -> bool:
        """Whether the view has each byte that the kernels of both nodes have counted."""
        found = [one for name in self.nodes if (one := self.peer(name, number)) is not None]
        return self.tables.posted(number) == Counters(sum(one.rx for one in found), sum(one.tx for one in found))

    def told(self, event: str) -> list[Any]:
        """The nodes that wrote an audit row of this kind, in their order."""
        return [one["metadata"]["node"] for one in self.tables.logs() if one["event_type"] == f"gateway.{event}"]


def plug(switch: Namespace, other: Namespace, name: str, address: str) -> None:
    """Lay a cable from the switch, where it has the name, to another namespace, where it is "lan"."""
    switch.ip(f"link add {name} type veth peer name lan netns {other.holder.pid}",
              f"link set {name} master switch up")  # fmt: skip
    other.ip(f"address add {address}/24 dev lan", "link set lan up")


@contextmanager
def opened(postgres: PrivatePostgres, ear: Ear, folder: Path) -> Iterator[Pair]:
    """The tables, the switch and both nodes, which do not run yet."""
    with ExitStack() as stack:
        tables = NexavpnTables(postgres, stack)
        tables.sql(f"DROP ROLE IF EXISTS {_ROLES[WEST]}")
        tables.sql(f"CREATE ROLE {_ROLES[WEST]} LOGIN IN ROLE wgsyncd_node")
        switch = Namespace()
        stack.callback(switch.close)
        switch.ip("link add switch type bridge", "link set switch up")
        nodes: dict[str, PairNode] = {}
        for name, role in _ROLES.items():
            tables.sql("INSERT INTO wgsyncd.nodes VALUES (%s, %s, '{}')", name, role)
            world = Testbed("userspace", log=folder / f"{name}.world", interfaces=(("wg0", 51820, SERVER),))
            stack.callback(world.close)
            world.open()
            if nodes:  # both have the same private key
                keys = world.interfaces["wg0"].keys = nodes[EAST].world.interfaces["wg0"].keys
                world.server.run("wg", "set", "wg0", "private-key", "/dev/stdin", stdin=keys.private)
            daemon = Daemon(world, ear, folder / name)
            stack.callback(daemon.close)
            daemon.config.write_text(_CONFIGURATION.format(
                name=name, address=ADDRESS, directory=postgres.directory, role=role, server=SERVER
            ), encoding="utf-8")  # fmt: skip
            nodes[name] = PairNode(name, world, daemon, switch, folder)
        tables.gateway("wg0")
        for node in nodes.values():
            node.start()
            wait(lambda: nodes[EAST].has_address, "the address of the active node")
        yield Pair(tables, nodes, switch, stack)
