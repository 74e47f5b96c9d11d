"""A server with wg0 and wg1, and its customers, each in a network namespace of its own.

A namespace has no name in the file system. A sleeping child holds it, and `nsenter` enters it. The child also has a
private mount namespace with its own /run/wireguard. There userspace WireGuard and wg(8) meet, by interface name.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from wgsyncd.demo import processes, traffic

WgKind = Literal["kernel", "userspace"]
PATIENCE = 120.0  # seconds
SINK_PORT = 7000
INTERFACES = (("wg0", 51820, "10.200.0.1"), ("wg1", 51821, "10.251.0.1"))
TUNNEL = "wg0"  # the WireGuard interface in a customer's namespace

_HOLD = """
mkdir -p -m 700 /run/wireguard && mount -t tmpfs -o mode=700 wgsyncd-demo /run/wireguard &&
ip link set lo up && echo ready && exec sleep infinity
"""


class WgPeer(NamedTuple):
    """A peer as a line of `wg show all dump` describes it. Addresses are as wg(8) prints them. rx and tx are bytes."""

    preshared_key: str | None
    endpoint: str | None
    allowed_ips: str
    latest_handshake: int  # UNIX seconds, 0 = never
    rx: int
    tx: int


class KeyPair(NamedTuple):
    """A private key and its public key, in base64 as wg(8) writes them."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public})"


@dataclass(slots=True)
class ServerInterface:
    """One WireGuard interface of the server, wg0 or wg1."""

    name: str
    keys: KeyPair
    listen_port: int
    address: str  # "10.200.0.1"
    process: subprocess.Popen[bytes] | None = None  # of userspace WireGuard


class Namespace:
    """A network namespace and a mount namespace. A sleeping child holds both."""

    def __init__(self) -> None:
        self.holder = processes.start(
            ["unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", _HOLD], stdout=subprocess.PIPE
        )
        self._children = [self.holder]
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != b"ready\n":
            self.close()
            raise processes.CommandFailed("no network namespace could be made: that needs root with CAP_SYS_ADMIN")

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` in this namespace. Its working directory becomes / (setns(2))."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--", *argv]

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a command in this namespace to its end. Returns what it printed. CommandFailed if it fails."""
        return processes.run(self.inside(argv), stdin=stdin)

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def start(self, *argv: str, log: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
        """Start a command in this namespace, until :meth:`close`. ``env`` is added to its environment."""
        return self.start_with((), argv, log, env)

    def start_with(
        self, inherited: Sequence[int], argv: Sequence[str], log: Path | None, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """As :meth:`start`, for a command that gets file descriptors of this process."""
        self._children.append(processes.start(self.inside(argv), log=log, env=env, inherited=inherited))
        return self._children[-1]

    def make_wireguard(
        self, kind: WgKind, name: str, *options: str, log: Path | None = None
    ) -> subprocess.Popen[bytes] | None:
        """Create a WireGuard interface without configuration. Returns its process if it is userspace, else None.

        ``options``: of `ip link add`, for the kernel's WireGuard.
        """
        if kind == "kernel":
            self.run("ip", "link", "add", name, *options, "type", "wireguard")
            return None
        process = self.start("wireguard-go", "-f", name, log=log, WG_PROCESS_FOREGROUND="1", LOG_LEVEL="error")
        path = Path("/proc", str(self.holder.pid), "root", "run", "wireguard", f"{name}.sock")
        processes.await_socket(path, process, f"wireguard-go {name}", seconds=PATIENCE)
        return process

    def close(self) -> None:
        """End every process that was started here. The namespace is gone when its last process ends."""
        for child in reversed(self._children):
            child.kill()
            processes.end(child)


@dataclass(slots=True)
class Customer:
    """A customer with a WireGuard client, in a namespace of its own."""

    namespace: Namespace
    gateway: str  # the server's address in the outer network
    wire: str  # the server's end of the wire to the customer
    server: ServerInterface | None = None  # with which the client is configured

    def configure(self, server: ServerInterface, keys: KeyPair, address: str, preshared_key: str | None = None) -> None:
        """Configure the client as a QR code says, in place of its old configuration.

        The client sends nothing yet, because no keepalive is set.
        """
        psk = f"PresharedKey = {preshared_key}\n" if preshared_key else ""
        self.namespace.run("wg", "setconf", TUNNEL, "/dev/stdin", stdin=(
            f"[Interface]\nPrivateKey = {keys.private}\n[Peer]\nPublicKey = {server.keys.public}\n{psk}"
            f"Endpoint = {self.gateway}:{server.listen_port}\nAllowedIPs = {server.address}/32\n"
        ))  # fmt: skip
        self.namespace.ip(f"address flush dev {TUNNEL}", f"address add {address}/32 dev {TUNNEL}",
                          f"link set {TUNNEL} up",
                          f"route replace {server.address}/32 dev {TUNNEL} src {address}")  # fmt: skip
        self.server = server

    def transfer(self, *, up: int, down: int, seconds: float = 0) -> subprocess.Popen[bytes]:
        """Start to send ``up`` bytes and receive ``down`` bytes, each spread over ``seconds``.

        The returned process exits with 0 if all bytes arrived.
        """
        assert self.server is not None
        numbers = map(str, (SINK_PORT, up, down, seconds))
        return self.namespace.start(*traffic.COMMAND, "transfer", self.server.address, *numbers)


class Testbed:
    """Owns the server's namespace with its interfaces, and the customers' namespaces.

    ``interfaces``: name, port and address of each. ``wires``: the second number of the addresses in the outer network.
    """

    def __init__(
        self, kind: WgKind, *, log: Path | None = None, interfaces: Sequence[tuple[str, int, str]] = INTERFACES,
        wires: int = 31,
    ) -> None:  # fmt: skip
        self.kind = kind
        self._planned, self._wires = interfaces, wires
        self.interfaces: dict[str, ServerInterface] = {}
        self.server: Namespace
        self._namespaces: list[Namespace] = []
        self._log = log

    def open(self) -> None:
        """Make the server's namespace and interfaces. Call :meth:`close` even if this fails."""
        self.server = Namespace()
        self._namespaces.append(self.server)
        for name, listen_port, address in self._planned:
            self.interfaces[name] = ServerInterface(name, new_keys(), listen_port, address)
            self.make_interface(name)
        self.server.start(*traffic.COMMAND, "serve", str(SINK_PORT), log=self._log)

    def make_interface(self, name: str, *options: str) -> None:
        """Create and configure an interface of the server. ``options``: of `ip link add`."""
        one = self.interfaces[name]
        one.process = self.server.make_wireguard(self.kind, name, *options, log=self._log)
        self.server.run("wg", "set", name, "listen-port", str(one.listen_port), "private-key", "/dev/stdin",
                        stdin=one.keys.private)  # fmt: skip
        self.server.ip(f"address add {one.address}/24 dev {name}", f"link set {name} up")

    def add_customer(self) -> Customer:
        """Make a namespace with an unconfigured WireGuard interface and a wire to the server."""
        namespace = Namespace()
        self._namespaces.append(namespace)
        customer = self.connect(namespace, len(self._namespaces) - 1)
        namespace.make_wireguard(self.kind, TUNNEL, log=self._log)
        return customer

    def connect(self, namespace: Namespace, number: int) -> Customer:
        """Make a wire from the server to a customer's namespace, which may have one to another server.

        ``number``: of the customer, from 1.
        """
        net, outer = f"172.{self._wires}.{number}", f"eth{self._wires}"
        customer = Customer(namespace, f"{net}.1", f"c{number}")
        self.server.ip(f"link add {customer.wire} type veth peer name {outer} netns {namespace.holder.pid}",
                       f"address add {customer.gateway}/30 dev {customer.wire}",
                       f"link set {customer.wire} up")  # fmt: skip
        namespace.ip(f"address add {net}.2/30 dev {outer}", f"link set {outer} up")
        return customer

    def dump(self) -> dict[str, dict[str, WgPeer]]:
        """The peers of the server's interfaces, as wg(8) prints them: by interface and public key."""
        found: dict[str, dict[str, WgPeer]] = {name: {} for name in self.interfaces}
        for line in self.server.run("wg", "show", "all", "dump").splitlines():
            words = [None if word == "(none)" else word for word in line.split("\t")]
            if len(words) == 9:  # the line of an interface has 5 words
                name, key, psk, endpoint, ips, *numbers, _keepalive = words
                found[str(name)][str(key)] = WgPeer(psk, endpoint, ips or "", *(int(number or 0) for number in numbers))
        return found

    def close(self) -> None:
        """End every process. With the last process the namespaces and their interfaces are gone."""
        for namespace in reversed(self._namespaces):
            namespace.close()


def kernel_has_wireguard() -> bool:
    """Whether the kernel can make WireGuard interfaces. Trying it in a temporary namespace also loads the module."""
    argv = ["unshare", "--net", "--", "sh", "-c", "ip link add wg0 type wireguard && echo made"]
    return processes.run(argv, check=False).strip() == "made"


def new_keys() -> KeyPair:
    private = processes.run(["wg", "genkey"]).strip()
    return KeyPair(private, processes.run(["wg", "pubkey"], stdin=private).strip())


def new_preshared_key() -> str:
    return processes.run(["wg", "genpsk"]).strip()
