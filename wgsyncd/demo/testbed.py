"""A server with wg0 and wg1, and its customers, each in a network namespace of its own.

A namespace has no name in the file system. A sleeping child holds it, and `nsenter` enters it. The child also has a
private mount namespace with its own /run/wireguard. There userspace WireGuard and wg(8) meet, by interface name.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import wgsyncd
from wgsyncd.demo import processes, traffic

WgKind = Literal["kernel", "userspace"]
PATIENCE = 120.0  # seconds
SINK_PORT = 7000
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


@dataclass(frozen=True, slots=True)
class ServerInterface:
    """One WireGuard interface of the server, wg0 or wg1."""

    name: str
    keys: KeyPair
    listen_port: int
    address: str  # "10.200.0.1"


class Namespace:
    """A network namespace and a mount namespace. A sleeping child holds both."""

    def __init__(self) -> None:
        self.holder = processes.start(
            ["unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", _HOLD], stdout=subprocess.PIPE
        )

    def ready(self) -> Namespace:
        """Wait until the namespace exists. Several can be started first and then waited for."""
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != b"ready\n":
            raise processes.CommandFailed("no network namespace could be made; that needs root with CAP_SYS_ADMIN")
        return self

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` in this namespace. Its working directory becomes / (setns(2))."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--", *argv]

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a command in this namespace to its end. Returns what it printed. CommandFailed if it fails."""
        return processes.run(self.inside(argv), stdin=stdin)

    def start(self, *argv: str, log: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
        """Start a command in this namespace. ``env`` is added to its environment."""
        return processes.start(self.inside(argv), log=log, env=env)

    def start_wgsyncd(self, *arguments: str, log: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
        """Start in this namespace the wgsyncd that this module belongs to, with the same Python."""
        paths = [str(Path(wgsyncd.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
        env = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": "1", **env}
        return self.start(sys.executable, "-m", "wgsyncd", *arguments, log=log, **env)

    def make_wireguard(self, kind: WgKind, name: str, log: Path | None = None) -> subprocess.Popen[bytes] | None:
        """Create a WireGuard interface without configuration. Returns its process if it is userspace, else None."""
        if kind == "kernel":
            self.run("ip", "link", "add", name, "type", "wireguard")
            return None
        return self.start("wireguard-go", "-f", name, log=log, WG_PROCESS_FOREGROUND="1", LOG_LEVEL="error")

    def await_wireguard(self, name: str, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until a userspace interface can be configured."""
        if process is not None:
            path = str(Path("/proc", str(self.holder.pid), "root", "run", "wireguard", f"{name}.sock"))
            processes.until(lambda: _listens(path), f"wireguard-go {name}", seconds=PATIENCE, child=process)

    def close(self) -> None:
        """End the sleeping child. The namespace is gone when the last process in it ends.

        The caller that started another process in it has to end that process.
        """
        self.holder.kill()
        processes.end(self.holder)


def _listens(path: str) -> bool:
    """Whether a process accepts connections at a socket. The file alone proves nothing: bind(2) creates it."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@dataclass(slots=True)
class Customer:
    """A customer with a WireGuard client, in a namespace of its own."""

    name: str
    namespace: Namespace
    gateway: str  # the server's address in the outer network
    tunnel: subprocess.Popen[bytes] | None = None
    server: ServerInterface | None = None
    transfers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def configure(self, server: ServerInterface, keys: KeyPair, address: str, preshared_key: str | None = None) -> None:
        """Configure the client as a QR code says, in place of its old configuration.

        The client sends nothing yet, because no keepalive is set.
        """
        psk = f"PresharedKey = {preshared_key}\n" if preshared_key else ""
        self.namespace.run("wg", "setconf", TUNNEL, "/dev/stdin", stdin=(
            f"[Interface]\nPrivateKey = {keys.private}\n[Peer]\nPublicKey = {server.keys.public}\n{psk}"
            f"Endpoint = {self.gateway}:{server.listen_port}\nAllowedIPs = {server.address}/32\n"
        ))  # fmt: skip
        self.namespace.run("ip", "-batch", "-", stdin=(
            f"address flush dev {TUNNEL}\naddress add {address}/32 dev {TUNNEL}\nlink set {TUNNEL} up\n"
            f"route replace {server.address}/32 dev {TUNNEL} src {address}\n"
        ))  # fmt: skip
        self.server = server

    def transfer(self, *, up: int, down: int, seconds: float = 0) -> subprocess.Popen[bytes]:
        """Start to send ``up`` bytes and receive ``down`` bytes, each spread over ``seconds``.

        The returned process exits with 0 if all bytes arrived.
        """
        assert self.server is not None
        numbers = map(str, (SINK_PORT, up, down, seconds))
        process = self.namespace.start(*traffic.COMMAND, "transfer", self.server.address, *numbers)
        self.transfers.append(process)
        return process

    def close(self) -> None:
        """End all processes in the customer's namespace, and the namespace."""
        for process in (*self.transfers, *([self.tunnel] if self.tunnel else [])):
            process.kill()
            processes.end(process)
        self.namespace.close()


class World:
    """Owns the server's namespace with wg0 and wg1 and the customers' namespaces. It is a context manager.

    ``kind``: None for the kernel's WireGuard where there is one, else userspace.
    """

    def __init__(self, kind: WgKind | None = None, *, log: Path | None = None) -> None:
        self.kind: WgKind = kind or ("kernel" if kernel_has_wireguard() else "userspace")
        self.interfaces: dict[str, ServerInterface] = {}
        self.customers: dict[str, Customer] = {}
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []
        self._server: Namespace | None = None

    def __enter__(self) -> World:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def server(self) -> Namespace:
        """The server's namespace, once :meth:`open` has made it."""
        assert self._server is not None
        return self._server

    def open(self) -> None:
        """Make the server's namespace and interfaces. Call :meth:`close` even if this fails."""
        self._server = Namespace()
        self._server.ready()
        self._make_interfaces()
        self._processes.append(self.server.start(*traffic.COMMAND, "serve", str(SINK_PORT), log=self._log))

    def _make_interfaces(self) -> None:
        made = {name: self.server.make_wireguard(self.kind, name, self._log) for name in ("wg0", "wg1")}
        self._processes += [process for process in made.values() if process is not None]
        for name, listen_port, address in (("wg0", 51820, "10.200.0.1"), ("wg1", 51821, "10.251.0.1")):
            one = ServerInterface(name, new_keys(), listen_port, address)
            self.server.await_wireguard(name, made[name])
            self.server.run("wg", "set", name, "listen-port", str(listen_port), "private-key", "/dev/stdin",
                            stdin=one.keys.private)  # fmt: skip
            self.server.run("ip", "-batch", "-", stdin=f"address add {address}/24 dev {name}\nlink set {name} up\n")
            self.interfaces[name] = one

    def add_customers(self, names: Sequence[str]) -> None:
        """Make one namespace for each name, with an unconfigured WireGuard interface and a wire to the server."""
        for name in names:
            number = len(self.customers) + 1
            self.customers[name] = Customer(name, Namespace(), f"172.31.{number}.1")
        wires = ""
        for name in names:
            customer = self.customers[name]
            pid, net = customer.namespace.ready().holder.pid, customer.gateway.rsplit(".", 1)[0]
            wire = f"c{net.split('.')[2]}"
            wires += f"link add {wire} type veth peer name eth0 netns {pid}\naddress add {net}.1/30 dev {wire}\n"
            wires += f"link set {wire} up\n"
        self.server.run("ip", "-batch", "-", stdin=wires)
        for name in names:
            customer = self.customers[name]
            net = customer.gateway.rsplit(".", 1)[0]
            customer.tunnel = customer.namespace.make_wireguard(self.kind, TUNNEL, self._log)
            customer.namespace.run("ip", "-batch", "-", stdin=f"address add {net}.2/30 dev eth0\nlink set eth0 up\n")
        for name in names:
            self.customers[name].namespace.await_wireguard(TUNNEL, self.customers[name].tunnel)

    def dump(self) -> dict[str, dict[str, WgPeer]]:
        """The peers of the server's interfaces, as wg(8) prints them: by interface and public key."""
        seen: dict[str, dict[str, WgPeer]] = {name: {} for name in self.interfaces}
        for line in self.server.run("wg", "show", "all", "dump").splitlines():
            words = [None if word == "(none)" else word for word in line.split("\t")]
            if len(words) == 9:  # the line of an interface has 5 words
                name, key, psk, endpoint, ips, handshake, rx, tx, _keepalive = words
                seen[str(name)][str(key)] = WgPeer(
                    psk, endpoint, ips or "", int(handshake or 0), int(rx or 0), int(tx or 0)
                )
        return seen

    def close(self) -> None:
        """End every process. With the last process the namespaces and their interfaces are gone."""
        for customer in self.customers.values():
            customer.close()
        for process in self._processes:
            process.kill()
            processes.end(process)
        if self._server is not None:
            self._server.close()


def kernel_has_wireguard() -> bool:
    """Whether the kernel can make WireGuard interfaces. Trying it in a temporary namespace also loads the module."""
    argv = ["unshare", "--net", "--", "sh", "-c", "ip link add wg0 type wireguard && echo made"]
    return processes.run(argv, check=False).strip() == "made"


def new_keys() -> KeyPair:
    """A new key pair, made by wg(8)."""
    private = processes.run(["wg", "genkey"]).strip()
    return KeyPair(private, processes.run(["wg", "pubkey"], stdin=private).strip())


def new_preshared_key() -> str:
    """A new preshared key, made by wg(8)."""
    return processes.run(["wg", "genpsk"]).strip()
